"""Ant: four legs on a sphere, eight motors (Schulman et al. 2015), as in Brax's `ant`."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.brax.locomotion import Locomotion, within
from gpusim.physics.mirror import Signed, joined


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ant(Locomotion):
    """Run along +x without turning over."""

    name: ClassVar[str] = "ant"
    mjcf: ClassVar[str] = "models/ant.xml"
    normal_velocities: ClassVar[bool] = True

    n_frames: int = 5
    """Physics steps in a control step."""
    ctrl_cost_weight: float = 0.5
    """Cost of the squared controls."""
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    """Heights of the torso (m) between which the ant is healthy."""

    def healthy(self, now: Moment) -> jax.Array:
        """Is the torso neither on the ground nor in the air?"""
        return within(now.derived.xpos[1, 2], self.healthy_z_range)

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Height, attitude and joint angles, then all velocities: (27,)."""
        first = 2 if self.exclude_current_positions_from_observation else 0
        return jnp.concatenate([now.state.qpos[first:], now.state.qvel])

    def image(self) -> Signed:
        """Of the same numbers."""
        first = 2 if self.exclude_current_positions_from_observation else 0
        return joined(self.mirror.qpos.part(first), self.mirror.qvel)
