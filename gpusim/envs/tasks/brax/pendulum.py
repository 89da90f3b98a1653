"""One or two poles on a cart, to be balanced, as in Brax's `inverted_(double_)pendulum`."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment, MujocoTask
from gpusim.envs.tasks.brax.locomotion import near


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InvertedPendulum(MujocoTask):
    """Keep a pole within 0.2 rad of upright."""

    name: ClassVar[str] = "inverted_pendulum"
    mjcf: ClassVar[str] = "models/inverted_pendulum.xml"

    n_frames: int = 2
    """Physics steps in a control step."""
    reset_noise_scale: float = 0.01
    """Scale of the uniform noise added to the starting pose and velocity."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose."""
        return near(self.model, self.init_qpos, key, self.reset_noise_scale)

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        """Cart, pole, and their velocities: (4,)."""
        return jnp.concatenate([now.state.qpos, now.state.qvel])

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """1 for every step, the last one too."""
        return {"alive": jnp.ones((), now.state.qpos.dtype)}

    def terminal(self, memory: tuple, now: Moment) -> jax.Array:
        """The pole has fallen."""
        return jnp.abs(now.state.qpos[1]) > 0.2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InvertedDoublePendulum(MujocoTask):
    """Keep a pole on a pole more than 1 m high."""

    name: ClassVar[str] = "inverted_double_pendulum"
    mjcf: ClassVar[str] = "models/inverted_double_pendulum.xml"

    n_frames: int = 2
    """Physics steps in a control step."""
    healthy_reward: float = 10.0
    """Reward of a step that ends with the tip up."""
    reset_noise_scale: float = 0.01
    """Scale of the noise added to the starting pose (uniform) and velocity (normal)."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose."""
        return near(self.model, self.init_qpos, key, self.reset_noise_scale, normal=True)

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        """Cart, sines and cosines of the poles, velocities clipped to +-10: (8,)."""
        cart, angles = now.state.qpos[:1], now.state.qpos[1:]
        velocities = jnp.clip(now.state.qvel, -10.0, 10.0)
        return jnp.concatenate([cart, jnp.sin(angles), jnp.cos(angles), velocities])

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """A bonus while the tip is up, minus its distance from (0, 2) m, minus speed."""
        x, y = now.derived.site_xpos[0, 0], now.derived.site_xpos[0, 2]
        v1, v2 = now.state.qvel[1], now.state.qvel[2]
        up = (~self.terminal(memory, now)).astype(x.dtype)
        return {
            "alive": self.healthy_reward * up,
            "distance": -(0.01 * x**2 + (y - 2) ** 2),
            "velocity": -(1e-3 * v1**2 + 5e-3 * v2**2),
        }

    def terminal(self, memory: tuple, now: Moment) -> jax.Array:
        """The tip is down."""
        return now.derived.site_xpos[0, 2] <= 1
