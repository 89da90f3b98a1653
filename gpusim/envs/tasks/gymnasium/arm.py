"""Arms: one points at a target, one pushes a cylinder to a goal."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.gymnasium.task import GymnasiumTask, effort


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Arm(GymnasiumTask):
    """What both start with: nearly at rest, and what is not the arm quite at rest."""

    loose: ClassVar[int]
    """How many of the last joints are not the arm's."""

    reward_dist_weight: float = 1.0
    """Cost per m that is left to go."""

    def slow(self, key: jax.Array) -> jax.Array:
        """(nv,) starting velocities."""
        qvel = jax.random.uniform(key, (self.model.nv,), minval=-0.005, maxval=0.005)
        return qvel.at[-self.loose :].set(0)

    def gap(self, now: Moment, a: str, b: str) -> jax.Array:
        """(3,) m: from body b to body a."""
        return now.derived.xpos[self.body(a)] - now.derived.xpos[self.body(b)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reacher(Arm):
    """Bring the tip of two links to a target."""

    name: ClassVar[str] = "Reacher-v5"
    max_episode_steps: ClassVar[int] = 50
    loose: ClassVar[int] = 2

    xml_file: str = "reacher.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 2
    """Physics steps in a control step."""
    reward_control_weight: float = 1.0
    """Cost of the squared controls."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The links near their pose, the target anywhere less than 0.2 m from the base."""
        key_qpos, key_target, key_qvel = jax.random.split(key, 3)
        noise = jax.random.uniform(key_qpos, (self.model.nq,), minval=-0.1, maxval=0.1)
        radius, turn = jax.random.uniform(key_target, (2,))
        angle = 2 * jnp.pi * turn
        target = 0.2 * jnp.sqrt(radius) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        qpos = jnp.asarray(self.init_qpos, noise.dtype) + noise
        return qpos.at[-2:].set(target), self.slow(key_qvel)

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        """Cosines and sines of the joints, target, velocities, from target to tip: (10,)."""
        angles, velocities = now.state.qpos[:2], now.state.qvel[:2]
        gap = self.gap(now, "fingertip", "target")[:2]
        return jnp.concatenate(
            [jnp.cos(angles), jnp.sin(angles), now.state.qpos[2:], velocities, gap]
        )

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """Minus the distance to the target, minus the squared controls."""
        return {
            "dist": -self.reward_dist_weight * _length(self.gap(now, "fingertip", "target")),
            "ctrl": -self.reward_control_weight * effort(now.ctrl),
        }


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pusher(Arm):
    """Push a cylinder to a goal.

    Control step 0.05 s; the original's actions: [-2, 2].
    """

    name: ClassVar[str] = "Pusher-v5"
    max_episode_steps: ClassVar[int] = 100
    loose: ClassVar[int] = 4

    xml_file: str = "pusher_v5.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 5
    """Physics steps in a control step."""
    reward_near_weight: float = 0.5
    """Cost per m from the hand to the cylinder."""
    reward_control_weight: float = 0.1
    """Cost of the squared controls."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The arm at its pose, the cylinder anywhere in a rectangle, 0.17 m or more from the goal.

        As in the original, draws that are too near are drawn again.
        """
        key_place, key_qvel = jax.random.split(key)

        def draw(at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            later, now = jax.random.split(at[0])
            unit = jax.random.uniform(now, (2,))
            return later, unit * jnp.array([0.3, 0.4]) - jnp.array([0.3, 0.2])

        near = lambda at: _length(at[1]) <= 0.17
        _, place = jax.lax.while_loop(near, draw, draw((key_place, jnp.zeros(2))))
        qpos = jnp.asarray(self.init_qpos, place.dtype)
        return qpos.at[-4:].set(jnp.concatenate([place, jnp.zeros(2)])), self.slow(key_qvel)

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        """Angles and velocities of the arm; where hand, cylinder and goal are: (23,)."""
        bodies = [now.derived.xpos[self.body(name)] for name in ("tips_arm", "object", "goal")]
        return jnp.concatenate([now.state.qpos[:7], now.state.qvel[:7], *bodies])

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """Minus distances of cylinder and goal, hand and cylinder, minus the squared controls."""
        return {
            "dist": -self.reward_dist_weight * _length(self.gap(now, "object", "goal")),
            "ctrl": -self.reward_control_weight * effort(now.ctrl),
            "near": -self.reward_near_weight * _length(self.gap(now, "object", "tips_arm")),
        }


def _length(vector: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(vector)))
