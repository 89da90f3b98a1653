"""Reacher: two links that are to bring their tip to a target, as in Brax's `reacher`."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.mujoco_task import Moment, MujocoTask
from gpusim.envs.tasks.brax.locomotion import near

_LINK, _TARGET = 2, 3  # bodies
_TIP = np.array([0.11, 0.0, 0.0])  # in the second link, m


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reacher(MujocoTask):
    """Bring the tip of two links to a target."""

    name: ClassVar[str] = "reacher"
    mjcf: ClassVar[str] = "models/reacher.xml"

    n_frames: int = 2
    """Physics steps in a control step."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The links near their pose, the target less than 0.2 m from the base, near it more often.

        What Brax's `reset` makes of the same key.
        """
        _, key_radius, key_turn = jax.random.split(jax.random.split(key, 3)[0], 3)
        radius, turn = 0.2 * jax.random.uniform(key_radius), jax.random.uniform(key_turn)
        target = radius * jnp.stack([jnp.cos(2 * jnp.pi * turn), jnp.sin(2 * jnp.pi * turn)])
        qpos, qvel = near(self.model, self.init_qpos, key, 0.1)
        return qpos.at[2:].set(target), (0.05 * qvel).at[2:].set(0)

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        """Cosines and sines of the joints, target, velocity of the tip, from target to tip: (11,).

        The velocity is Brax's: of a tip in the link's axes taken for the world's.
        """
        angles, derived = now.state.qpos[:2], now.derived
        spin, arm = derived.cvel[_LINK, :3], derived.xpos[_LINK] - derived.subtree_com[1]
        velocity = derived.cvel[_LINK, 3:] + jnp.cross(spin, arm)
        velocity = velocity + jnp.cross(spin, jnp.asarray(_TIP, spin.dtype))
        return jnp.concatenate(
            [jnp.cos(angles), jnp.sin(angles), now.state.qpos[2:], velocity[:2], self._gap(now)]
        )

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """Minus the distance to the target, minus the squared actions."""
        return {
            "dist": -jnp.sqrt(jnp.sum(jnp.square(self._gap(now)))),
            "ctrl": -jnp.sum(jnp.square(now.action)),
        }

    def _gap(self, now: Moment) -> jax.Array:
        """(3,) m: from the target to the tip."""
        derived = now.derived
        tip = derived.xpos[_LINK] + derived.xmat[_LINK] @ jnp.asarray(_TIP, derived.xmat.dtype)
        return tip - derived.xpos[_TARGET]
