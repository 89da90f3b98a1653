"""Ant: four legs on a ball, eight motors."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.gymnasium.spatial import Memory, Spatial
from gpusim.envs.tasks.gymnasium.task import effort
from gpusim.envs.world import WorldError
from gpusim.physics.mirror import AXIAL, POLAR, Signed, joined


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ant(Spatial):
    """Run along +x without turning over."""

    name: ClassVar[str] = "Ant-v5"
    normal_velocities: ClassVar[bool] = True

    xml_file: str = "ant.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 5
    """Physics steps in a control step."""
    forward_reward_weight: float = 1.0
    """Reward per m/s along x."""
    ctrl_cost_weight: float = 0.5
    """Cost of the squared controls."""
    contact_cost_weight: float = 5e-4
    """Cost of the squared contact forces."""
    healthy_reward: float = 1.0
    """Reward of a step that ends in good health."""
    main_body: Any = 1
    """Number or name of the body whose travel is rewarded."""
    terminate_when_unhealthy: bool = True
    """Whether bad health ends the episode."""
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    """Heights of the torso (m) from and to which the ant is healthy."""
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    """What contact forces (N m, N) are clipped to, seen or paid for."""

    def tracked_point(self, now: Moment) -> jax.Array:
        """(2,) m: the origin of the main body."""
        try:
            body = self.model.mj.body(self.main_body).id
        except (IndexError, KeyError) as error:
            raise WorldError(f"environment {self.name!r}: main_body: {error.args[0]}") from error
        return now.derived.xpos[body, :2]

    def contact_forces(self, memory: Memory, now: Moment) -> jax.Array:
        """(nbody, 6), clipped."""
        return jnp.clip(super().contact_forces(memory, now), *self.contact_force_range)

    def healthy(self, now: Moment) -> jax.Array:
        """() bool: is the torso neither on the ground nor in the air?"""
        low, high = self.healthy_z_range
        return (low <= now.state.qpos[2]) & (now.state.qpos[2] <= high)

    def observation(self, memory: Memory, now: Moment) -> jax.Array:
        """Height, attitude, joint angles, velocities, contact forces of each body: (105,)."""
        parts = self._motion(now)
        if self.include_cfrc_ext_in_observation:
            parts.append(self.contact_forces(memory, now)[1:].ravel())
        return jnp.concatenate(parts)

    def image(self) -> Signed:
        """Of the same numbers."""
        parts = self._image_of_motion()
        if self.include_cfrc_ext_in_observation:
            parts.append(self.mirror.of_bodies(AXIAL, POLAR))
        return joined(*parts)

    def rewards(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Forward speed, plus a bonus for health, minus effort and contact forces."""
        healthy = self.healthy(now).astype(memory.point.dtype)
        contact = jnp.sum(jnp.square(self.contact_forces(memory, now)))
        return {
            "forward": self.forward_reward_weight * self._velocity(past, memory)[0],
            "ctrl": -self.ctrl_cost_weight * effort(now.ctrl),
            "contact": -self.contact_cost_weight * contact,
            "survive": self.healthy_reward * healthy,
        }

    def terminal(self, memory: Memory, now: Moment) -> jax.Array:
        """Bad health, unless it is to be lived with."""
        return ~self.healthy(now) & self.terminate_when_unhealthy
