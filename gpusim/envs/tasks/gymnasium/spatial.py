"""Bodies that move freely in space: what ant and humanoids share."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.gymnasium.task import GymnasiumTask
from gpusim.physics.mirror import Signed


class Memory(NamedTuple):
    """What is remembered from step to step."""

    point: jax.Array  # (2,) m: the tracked point, whose travel is the body's velocity
    stepped: jax.Array  # () bool: contact forces are worked out by steps; at a start they are zero


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Spatial(GymnasiumTask):
    """A body whose first joint is free."""

    gauges: ClassVar[Mapping[str, str]] = {"x_velocity": "speed, m/s"}

    reset_noise_scale: float = 0.1
    """Scale of the noise added to the starting pose and velocity."""
    exclude_current_positions_from_observation: bool = True
    """Hide where the body is on the ground, which nothing in the task depends on."""
    include_cfrc_ext_in_observation: bool = True
    """Show what contacts do to each body: torque about the centre of mass, N m, and force, N."""

    def tracked_point(self, now: Moment) -> jax.Array:
        """(2,) m: the point whose travel is rewarded."""
        raise NotImplementedError

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose."""
        return self.noisy_start(key, self.reset_noise_scale)

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        """The tracked point, and that there is nothing to feel yet."""
        return Memory(self.tracked_point(now), jnp.zeros((), bool))

    def remember(self, memory: Memory, now: Moment) -> Memory:
        """The tracked point, and that there are contact forces."""
        return Memory(self.tracked_point(now), jnp.ones((), bool))

    def contact_forces(self, memory: Memory, now: Moment) -> jax.Array:
        """(nbody, 6) as mjData holds them."""
        return jnp.where(memory.stepped, now.derived.cfrc_ext, 0)

    def measure(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Where the body is (m), how far that is, and the tracked point's mean velocity (m/s)."""
        position, velocity = now.state.qpos[:2], self._velocity(past, memory)
        return {
            "x_position": position[0],
            "y_position": position[1],
            "distance_from_origin": jnp.sqrt(jnp.sum(jnp.square(position))),
            "x_velocity": velocity[0],
            "y_velocity": velocity[1],
        }

    def _velocity(self, past: Memory, memory: Memory) -> jax.Array:
        return (memory.point - past.point) / self.dt

    def _motion(self, now: Moment) -> list[jax.Array]:
        """Coordinates and velocities, as they are shown."""
        first = 2 * self.exclude_current_positions_from_observation
        return [now.state.qpos[first:], now.state.qvel]

    def _image_of_motion(self) -> list[Signed]:
        first = 2 * self.exclude_current_positions_from_observation
        return [self.mirror.qpos.part(first), self.mirror.qvel]
