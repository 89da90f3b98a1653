"""Humanoid: a body with 17 motors (Tassa et al. 2012), that is to run or to stand up, as in Brax's
`humanoid` and `humanoidstandup`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.brax.locomotion import Locomotion, within
from gpusim.physics.mirror import AXIAL, POLAR, Signed, joined

# MuJoCo packs a symmetric matrix as xx yy zz xy xz yz; this unpacks it row by row.
_SYMMETRIC = np.array([0, 3, 4, 3, 1, 5, 4, 5, 2], np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Humanoid(Locomotion):
    """Run along +x without falling."""

    name: ClassVar[str] = "humanoid"
    mjcf: ClassVar[str] = "models/humanoid.xml"

    n_frames: int = 5
    """Physics steps in a control step."""
    forward_reward_weight: float = 1.25
    """Reward per m/s along x."""
    healthy_reward: float = 5.0
    """Reward of a step in good health."""
    reset_noise_scale: float = 1e-2
    """Scale of the uniform noise added to the starting pose and velocity."""
    healthy_z_range: tuple[float, float] = (1.0, 2.0)
    """Heights of the torso (m) between which the humanoid is healthy."""

    def tracked_point(self, now: Moment) -> jax.Array:
        """(3,) m: the centre of mass of the whole body."""
        return now.derived.subtree_com[1]

    def healthy(self, now: Moment) -> jax.Array:
        """Is the torso neither on the ground nor in the air?"""
        return within(now.derived.xpos[1, 2], self.healthy_z_range)

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Pose and velocities, then inertia and velocity of each link, then joint torques: (244,).

        Inertia of a link: 3x3 about the body's centre of mass, world axes, kg m^2, then its mass
        (10 numbers); velocity: that of the link's centre of mass times its share of the mass, m/s,
        then angular velocity, rad/s (6 numbers).
        """
        derived = now.derived
        first = 2 if self.exclude_current_positions_from_observation else 0
        inertia = jnp.concatenate([derived.cinert[1:, _SYMMETRIC], derived.cinert[1:, 9:]], axis=1)
        return jnp.concatenate(
            [
                now.state.qpos[first:],
                now.state.qvel,
                inertia.ravel(),  # (11, 10) -> (110,)
                self._link_velocities(now).ravel(),  # (11, 6) -> (66,)
                derived.qfrc_actuator,
            ]
        )

    def image(self) -> Signed:
        """Of the same numbers."""
        first = 2 if self.exclude_current_positions_from_observation else 0
        mirror, tensor = self.mirror, np.outer(POLAR, POLAR).ravel()
        return joined(
            *(mirror.qpos.part(first), mirror.qvel),
            *(mirror.of_bodies(tensor, [1]), mirror.of_bodies(POLAR, AXIAL), mirror.qvel),
        )

    def _link_velocities(self, now: Moment) -> jax.Array:
        """(links, 6): velocity of the centre of mass times the share of the mass, angular velocity.

        cvel is the velocity the link would have at the centre of mass of the whole body: v_i = v +
        w x (x_i - com).
        """
        derived = now.derived
        mass = now.model.body_mass[1:, None].astype(derived.cvel.dtype)
        angular, linear = derived.cvel[1:, :3], derived.cvel[1:, 3:]
        arm = derived.xipos[1:] - derived.subtree_com[1]
        linear = linear + jnp.cross(angular, arm)
        return jnp.concatenate([mass / mass.sum() * linear, angular], axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidStandup(Humanoid):
    """Get up from lying on the back; nothing ends the episode."""

    name: ClassVar[str] = "humanoidstandup"
    mjcf: ClassVar[str] = "models/humanoidstandup.xml"
    gauges: ClassVar[Mapping[str, str]] = {"height": "torso, m"}

    ctrl_cost_weight: float = 0.01
    """Cost of the squared controls."""
    healthy_reward: float = 1.0
    """Reward of every step."""
    healthy_z_range: tuple[float, float] = (0.0, math.inf)
    """Heights of the torso (m) that count as healthy: all of them."""
    terminate_when_unhealthy: bool = False
    """Nothing ends the episode."""

    def rewards(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """The torso's height, as if it had been gained within one step, plus 1, minus effort."""
        height = now.derived.xpos[1, 2]
        return {
            "linup": height / self.dt,
            "alive": jnp.asarray(self.healthy_reward, height.dtype),
            "ctrl": -self.ctrl_cost_weight * jnp.sum(jnp.square(now.ctrl)),
        }

    def measure(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Height of the torso (m)."""
        return {"height": now.derived.xpos[1, 2]}
