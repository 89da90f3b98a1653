"""What the running tasks share: travel along +x pays, effort costs, a fall may end the episode."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import Moment, MujocoTask


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Locomotion(MujocoTask):
    """A body that is to run along +x. It remembers its tracked point: velocity is the point's
    travel over a whole control step."""

    gauges: ClassVar[Mapping[str, str]] = {"x_velocity": "speed, m/s"}
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

    def tracked_point(self, now: Moment) -> jax.Array:
        """(3,) m: the point whose travel is rewarded: the origin of the first body."""
        return now.derived.xpos[1]

    def healthy(self, now: Moment) -> jax.Array:
        """() bool: is the body in a state from which it can run?"""
        return jnp.ones((), bool)

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose."""
        return near(
            self.model, self.init_qpos, key, self.reset_noise_scale, normal=self.normal_velocities
        )

    def first_memory(self, key: jax.Array, now: Moment) -> jax.Array:
        """(3,) m: the tracked point."""
        return self.tracked_point(now)

    def remember(self, memory: jax.Array, now: Moment) -> jax.Array:
        """(3,) m: the tracked point."""
        return self.tracked_point(now)

    def rewards(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Forward speed, plus a bonus for health, minus the squared controls."""
        earns = jnp.ones((), bool) if self.terminate_when_unhealthy else self.healthy(now)
        return {
            "forward": self.forward_reward_weight * self._speed(past, memory),
            "alive": self.healthy_reward * earns.astype(memory.dtype),
            "ctrl": -self.ctrl_cost_weight * jnp.sum(jnp.square(now.ctrl)),
        }

    def measure(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Where the tracked point is along x (m), and its mean velocity over the step (m/s)."""
        return {"x_position": memory[0], "x_velocity": self._speed(past, memory)}

    def terminal(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Bad health, unless it is to be lived with."""
        if not self.terminate_when_unhealthy:
            return jnp.zeros((), bool)
        return ~self.healthy(now)

    def _speed(self, past: jax.Array, memory: jax.Array) -> jax.Array:
        return (memory[0] - past[0]) / self.dt


def near(
    model: physics.Model, pose: np.ndarray, key: jax.Array, scale: float, *, normal: bool = False
) -> tuple[jax.Array, jax.Array]:
    """A start around a pose (nq,): what Brax's `reset` on MJX makes of the same key."""
    _, key_qpos, key_qvel = jax.random.split(key, 3)
    noise = jax.random.uniform(key_qpos, (model.nq,), minval=-scale, maxval=scale)
    qpos = unit_attitude(model, jnp.asarray(pose, noise.dtype) + noise)
    if normal:
        return qpos, scale * jax.random.normal(key_qvel, (model.nv,))
    return qpos, jax.random.uniform(key_qvel, (model.nv,), minval=-scale, maxval=scale)


def unit_attitude(model: physics.Model, qpos: jax.Array) -> jax.Array:
    """qpos (nq,) with the quaternion of a free first joint made of length 1."""
    if model.mj.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE:
        return qpos
    attitude = qpos[3:7] / jnp.linalg.norm(qpos[3:7])
    return jnp.concatenate([qpos[:3], attitude, qpos[7:]])


def within(value: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """() bool: lie all of `value` between the bounds?"""
    return ((bounds[0] < value) & (value < bounds[1])).all()
