"""Swimmer: three links in a viscous liquid (Coulom 2002), as in Brax's `swimmer`."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.brax.locomotion import Locomotion


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Swimmer(Locomotion):
    """Swim along +x; nothing ends the episode."""

    name: ClassVar[str] = "swimmer"
    mjcf: ClassVar[str] = "models/swimmer.xml"

    n_frames: int = 4
    """Physics steps in a control step."""
    ctrl_cost_weight: float = 1e-4
    """Cost of the squared controls."""
    healthy_reward: float = 0.0
    """Reward of a step in good health: a swimmer is never in bad health."""

    def tracked_point(self, now: Moment) -> jax.Array:
        """(3,) m: where the first link is after the last physics step, as in Brax."""
        return jnp.append(now.state.qpos[:2], 0.0)

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Heading and the two bends, then all velocities: (8,)."""
        first = 2 if self.exclude_current_positions_from_observation else 0
        return jnp.concatenate([now.state.qpos[first:], now.state.qvel])
