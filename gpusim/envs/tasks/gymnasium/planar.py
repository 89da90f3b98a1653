"""Bodies that move in a plane: half cheetah, hopper, walker, swimmer."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.gymnasium.task import GymnasiumTask, effort, within


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Planar(GymnasiumTask):
    """A body that is to run along +x. It remembers where it was, qpos[:2], m."""

    gauges: ClassVar[Mapping[str, str]] = {"x_velocity": "speed, m/s"}
    hidden: ClassVar[int] = 1
    """How many coordinates `exclude_current_positions_from_observation` hides."""

    forward_reward_weight: float = 1.0
    """Reward per m/s along x."""
    ctrl_cost_weight: float = 0.1
    """Cost of the squared controls."""
    reset_noise_scale: float = 0.1
    """Scale of the noise added to the starting pose and velocity."""
    exclude_current_positions_from_observation: bool = True
    """Hide where the body is in the world, which nothing in the task depends on."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose."""
        return self.noisy_start(key, self.reset_noise_scale)

    def first_memory(self, key: jax.Array, now: Moment) -> jax.Array:
        """(2,) m: where the body is."""
        return now.state.qpos[:2]

    def remember(self, memory: jax.Array, now: Moment) -> jax.Array:
        """(2,) m: where the body is."""
        return now.state.qpos[:2]

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Positions and angles, then all velocities."""
        return jnp.concatenate([self._position(now), now.state.qvel])

    def rewards(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Forward speed minus the squared controls."""
        return {
            "forward": self.forward_reward_weight * self._velocity(past, memory)[0],
            "ctrl": -self.ctrl_cost_weight * effort(now.ctrl),
        }

    def measure(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Where the body is along x (m), and its mean velocity over the step (m/s)."""
        return {"x_position": memory[0], "x_velocity": self._velocity(past, memory)[0]}

    def _position(self, now: Moment) -> jax.Array:
        return now.state.qpos[self.hidden * self.exclude_current_positions_from_observation :]

    def _velocity(self, past: jax.Array, memory: jax.Array) -> jax.Array:
        return (memory - past) / self.dt


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HalfCheetah(Planar):
    """Run along +x on two legs."""

    name: ClassVar[str] = "HalfCheetah-v5"
    normal_velocities: ClassVar[bool] = True

    xml_file: str = "half_cheetah.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 5
    """Physics steps in a control step."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Swimmer(Planar):
    """Swim along +x with two joints."""

    name: ClassVar[str] = "Swimmer-v5"
    hidden: ClassVar[int] = 2

    xml_file: str = "swimmer.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 4
    """Physics steps in a control step."""
    ctrl_cost_weight: float = 1e-4
    """Cost of the squared controls."""

    def measure(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Where the body is (m), how far that is, and its mean velocity over the step (m/s)."""
        velocity = self._velocity(past, memory)
        return {
            "x_position": memory[0],
            "y_position": memory[1],
            "distance_from_origin": jnp.sqrt(jnp.sum(jnp.square(memory))),
            "x_velocity": velocity[0],
            "y_velocity": velocity[1],
        }


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Legged(Planar):
    """A body that may fall; its last step does not earn the bonus for health."""

    n_frames: int = 4
    """Physics steps in a control step."""
    ctrl_cost_weight: float = 1e-3
    """Cost of the squared controls."""
    healthy_reward: float = 1.0
    """Reward of a step that ends in good health."""
    terminate_when_unhealthy: bool = True
    """Whether bad health ends the episode."""
    healthy_z_range: tuple[float, float] = (0.7, math.inf)
    """Heights of the torso (m) between which the body is healthy."""
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    """Pitch of the torso (rad) between which the body is healthy."""
    reset_noise_scale: float = 5e-3
    """Scale of the uniform noise added to the starting pose and velocity."""

    def healthy(self, now: Moment) -> jax.Array:
        """() bool: is the torso high and upright?"""
        z, angle = now.state.qpos[1], now.state.qpos[2]
        return within(z, self.healthy_z_range) & within(angle, self.healthy_angle_range)

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Height, pitch and joint angles, then velocities clipped to +-10."""
        return jnp.concatenate([self._position(now), jnp.clip(now.state.qvel, -10.0, 10.0)])

    def rewards(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Forward speed, plus a bonus for health, minus the squared controls."""
        healthy = self.healthy(now).astype(memory.dtype)
        return super().rewards(past, memory, now) | {"survive": self.healthy_reward * healthy}

    def measure(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Where the body is along x, its speed, and how much higher than at its pose it is (m)."""
        height = memory[1] - float(self.init_qpos[1])
        return super().measure(past, memory, now) | {"z_distance_from_origin": height}

    def terminal(self, memory: jax.Array, now: Moment) -> jax.Array:
        """Bad health, unless it is to be lived with."""
        return ~self.healthy(now) & self.terminate_when_unhealthy


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Hopper(Legged):
    """Hop along +x on one leg without falling."""

    name: ClassVar[str] = "Hopper-v5"

    xml_file: str = "hopper.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    """Bounds on every number but x and z (rad, m/s, rad/s) in good health."""

    def healthy(self, now: Moment) -> jax.Array:
        """() bool: is the torso high and upright, and nothing out of bounds?"""
        rest = jnp.concatenate([now.state.qpos[2:], now.state.qvel])
        return super().healthy(now) & within(rest, self.healthy_state_range)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Walker2d(Legged):
    """Walk along +x on two legs without falling."""

    name: ClassVar[str] = "Walker2d-v5"

    xml_file: str = "walker2d_v5.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    """Heights of the torso (m) between which the body is healthy."""
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
    """Pitch of the torso (rad) between which the body is healthy."""
