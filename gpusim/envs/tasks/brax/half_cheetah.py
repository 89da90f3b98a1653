"""HalfCheetah: a planar runner with six motors (Wawrzynski 2009), as in Brax's `halfcheetah`."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.brax.locomotion import Locomotion


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HalfCheetah(Locomotion):
    """Run along +x; nothing ends the episode."""

    name: ClassVar[str] = "half_cheetah"
    mjcf: ClassVar[str] = "models/half_cheetah.xml"
    normal_velocities: ClassVar[bool] = True

    n_frames: int = 5
    """Physics steps in a control step."""
    healthy_reward: float = 0.0
    """Reward of a step in good health: the cheetah is never in bad health."""

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Height, pitch and joint angles, then all velocities: (17,)."""
        first = 1 if self.exclude_current_positions_from_observation else 0
        return jnp.concatenate([now.state.qpos[first:], now.state.qvel])
