"""What the running tasks share: travel along +x pays, effort costs, a fall may end the episode.

Brax's locomotion environments (`brax/envs/*.py`, backend "mjx") are instances of it.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from gpusim import physics
from gpusim.envs.env import Env, World


class Metrics(NamedTuple):
    """The terms of the reward, and where the body is and how fast."""

    reward_forward: jax.Array  # weighted velocity along x
    reward_alive: jax.Array  # for being healthy
    reward_ctrl: jax.Array  # minus the cost of the controls
    x_position: jax.Array  # m, of the tracked point
    x_velocity: jax.Array  # m/s, its mean over the control step
    diverged: jax.Array  # 1 if the world blew up in this step


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Locomotion(Env[Metrics]):
    """A body that is to run along +x."""

    normal_velocities: ClassVar[bool] = False
    """Whether the noise on starting velocities is normal rather than uniform."""

    forward_reward_weight: float = 1.0
    """Reward per m/s along x."""
    ctrl_cost_weight: float = 0.1
    """Cost of the squared controls."""
    healthy_reward: float = 1.0
    """Reward of a step in good health."""
    terminate_when_unhealthy: bool = True
    """Whether bad health ends the episode; if so its last step still earns `healthy_reward`."""
    reset_noise_scale: float = 0.1
    """Scale of the noise added to the starting pose (uniform) and velocity."""
    exclude_current_positions_from_observation: bool = True
    """Hide where the body is in the world, which nothing in the task depends on."""

    def tracked_point(self, world: World) -> jax.Array:
        """(3,) m: the point whose travel is rewarded: the origin of the first body."""
        return world.derived.xpos[1]

    def healthy(self, world: World) -> jax.Array:
        """() bool: is the body in a state from which it can run?"""
        return jnp.ones((), bool)

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose: what Brax's `reset` on MJX makes of the same key."""
        _, key_qpos, key_qvel = jax.random.split(key, 3)
        scale = self.reset_noise_scale
        noise = jax.random.uniform(key_qpos, (self.model.nq,), minval=-scale, maxval=scale)
        qpos = unit_attitude(self.model, jnp.asarray(self.init_qpos, noise.dtype) + noise)
        if self.normal_velocities:
            return qpos, scale * jax.random.normal(key_qvel, (self.model.nv,))
        return qpos, jax.random.uniform(key_qvel, (self.model.nv,), minval=-scale, maxval=scale)

    def remember(self, world: World) -> jax.Array:
        """The tracked point: velocity is its travel over a whole control step."""
        return self.tracked_point(world)

    def reward(self, memory: jax.Array, world: World) -> tuple[jax.Array, Metrics]:
        """Forward speed, plus a bonus for health, minus the squared controls."""
        point = self.tracked_point(world)
        x_velocity = (point[0] - memory[0]) / self.dt
        earns = jnp.ones((), bool) if self.terminate_when_unhealthy else self.healthy(world)
        terms = Metrics(
            reward_forward=self.forward_reward_weight * x_velocity,
            reward_alive=self.healthy_reward * earns.astype(point.dtype),
            reward_ctrl=-self.ctrl_cost_weight * jnp.sum(jnp.square(world.ctrl)),
            x_position=point[0],
            x_velocity=x_velocity,
            diverged=jnp.zeros_like(x_velocity),
        )
        return terms.reward_forward + terms.reward_alive + terms.reward_ctrl, terms

    def terminal(self, world: World) -> jax.Array:
        """Bad health, unless it is to be lived with."""
        if not self.terminate_when_unhealthy:
            return jnp.zeros((), bool)
        return ~self.healthy(world)


def unit_attitude(model: physics.Model, qpos: jax.Array) -> jax.Array:
    """qpos (nq,) with the quaternion of a free first joint made of length 1."""
    if model.mj.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE:
        return qpos
    attitude = qpos[3:7] / jnp.linalg.norm(qpos[3:7])
    return jnp.concatenate([qpos[:3], attitude, qpos[7:]])


def within(value: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """() bool: lie all of `value` between the bounds?"""
    return ((bounds[0] < value) & (value < bounds[1])).all()
