"""Hopper: a planar body on one leg, three motors (Erez et al. 2012), as in Brax's `hopper`."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.brax.locomotion import Locomotion, within


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Hopper(Locomotion):
    """Hop along +x without falling."""

    name: ClassVar[str] = "hopper"
    mjcf: ClassVar[str] = "models/hopper.xml"

    n_frames: int = 4
    """Physics steps in a control step."""
    ctrl_cost_weight: float = 1e-3
    """Cost of the squared controls."""
    reset_noise_scale: float = 5e-3
    """Scale of the uniform noise added to the starting pose and velocity."""
    healthy_z_range: tuple[float, float] = (0.7, math.inf)
    """Heights of the torso (m) between which the body is healthy."""
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    """Pitch of the torso (rad) between which the body is healthy."""
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    """Bounds on every angle (rad) and velocity (m/s, rad/s) in good health."""

    def healthy(self, now: Moment) -> jax.Array:
        """Is the torso high and upright, and nothing out of bounds?"""
        qpos, qvel = now.state.qpos, now.state.qvel
        return (
            within(now.derived.xpos[1, 2], self.healthy_z_range)
            & within(qpos[2], self.healthy_angle_range)
            & within(jnp.concatenate([qpos[2:], qvel]), self.healthy_state_range)
        )

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Height, pitch and joint angles, then velocities clipped to +-10: (11,) or (17,)."""
        first = 1 if self.exclude_current_positions_from_observation else 0
        qpos, qvel = now.state.qpos, now.state.qvel
        height = now.derived.xpos[1, 2:3]
        position = jnp.concatenate([qpos[:1], height, qpos[2:]])
        return jnp.concatenate([position[first:], jnp.clip(qvel, -10.0, 10.0)])
