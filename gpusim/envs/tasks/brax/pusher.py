"""Pusher: an arm that is to push a puck to a mark, as in Brax's `pusher`."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.mujoco_task import Moment, MujocoTask

_POINTS = np.array([6, 8, 9], np.int32)  # the bodies that are wrist, puck and mark
_LEAST = 0.17  # m between puck and mark at the start


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pusher(MujocoTask):
    """Push a puck to a mark with an arm of seven motors."""

    name: ClassVar[str] = "pusher"
    mjcf: ClassVar[str] = "models/pusher.xml"

    n_frames: int = 5
    """Physics steps in a control step."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The puck at random, though not near the mark: what Brax's `reset` makes of the key."""
        key_x, key_y, key_qvel = jax.random.split(key, 3)
        x = jax.random.uniform(key_x, (1,), minval=-0.3, maxval=-1e-6)
        y = jax.random.uniform(key_y, (1,), minval=-0.2, maxval=0.2)
        puck = jnp.concatenate([x, y])
        away = jnp.linalg.norm(puck)
        puck = puck * jnp.where(away < _LEAST, _LEAST / away, 1.0)
        qpos = jnp.asarray(self.init_qpos, puck.dtype)
        qvel = jax.random.uniform(key_qvel, (self.model.nv,), minval=-0.005, maxval=0.005)
        return qpos.at[-4:].set(jnp.append(puck, jnp.zeros(2))), qvel.at[-4:].set(0.0)

    def first_memory(self, key: jax.Array, now: Moment) -> jax.Array:
        """(3, 3) m: the centres of wrist, puck and mark."""
        return now.derived.xipos[_POINTS]

    def remember(self, memory: jax.Array, now: Moment) -> jax.Array:
        """(3, 3) m: the centres of wrist, puck and mark."""
        return now.derived.xipos[_POINTS]

    def observation(self, memory: jax.Array, now: Moment) -> jax.Array:
        """The arm's joints, their velocities, centres of wrist, puck and mark: (23,)."""
        return jnp.concatenate([now.state.qpos[:7], now.state.qvel[:7], memory.ravel()])

    def rewards(self, past: jax.Array, memory: jax.Array, now: Moment) -> dict[str, jax.Array]:
        """Minus the distances from puck to mark and from wrist to puck, minus effort.

        The distances are those before the step, as in Brax.
        """
        wrist, puck, mark = past
        return {
            "dist": -jnp.linalg.norm(puck - mark),
            "ctrl": -0.1 * jnp.sum(jnp.square(now.ctrl)),
            "near": -0.5 * jnp.linalg.norm(puck - wrist),
        }
