"""One or two poles on a cart, to be balanced."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.gymnasium.task import GymnasiumTask


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InvertedPendulum(GymnasiumTask):
    """Keep a pole within 0.2 rad of upright.

    Control step 0.04 s; the original's actions: [-3, 3].
    """

    name: ClassVar[str] = "InvertedPendulum-v5"

    xml_file: str = "inverted_pendulum.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 2
    """Physics steps in a control step."""
    reset_noise_scale: float = 0.01
    """Scale of the uniform noise added to the starting pose and velocity."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose."""
        return self.noisy_start(key, self.reset_noise_scale)

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        """Cart, pole, and their velocities: (4,)."""
        return jnp.concatenate([now.state.qpos, now.state.qvel])

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """1 as long as the pole is up."""
        return {"survive": (~self.terminal(memory, now)).astype(now.state.qpos.dtype)}

    def terminal(self, memory: tuple, now: Moment) -> jax.Array:
        """The pole has fallen."""
        return jnp.abs(now.state.qpos[1]) > 0.2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InvertedDoublePendulum(GymnasiumTask):
    """Keep a pole on a pole more than 1 m high."""

    name: ClassVar[str] = "InvertedDoublePendulum-v5"
    normal_velocities: ClassVar[bool] = True

    xml_file: str = "inverted_double_pendulum.xml"
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 5
    """Physics steps in a control step."""
    healthy_reward: float = 10.0
    """Reward of a step that ends with the tip up."""
    reset_noise_scale: float = 0.1
    """Scale of the noise added to the starting pose (uniform) and velocity (normal)."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Noise around the model's pose."""
        return self.noisy_start(key, self.reset_noise_scale)

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        """Cart, sines and cosines of the poles, velocities, force of the rail's end: (9,)."""
        cart, angles = now.state.qpos[:1], now.state.qpos[1:]
        clipped = jnp.clip(
            jnp.concatenate([now.state.qvel, now.derived.qfrc_constraint[:1]]), -10, 10
        )
        return jnp.concatenate([cart, jnp.sin(angles), jnp.cos(angles), clipped])

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """A bonus while the tip is up, minus its distance from (0, 2) m, minus speed."""
        x, y = now.derived.site_xpos[0, 0], now.derived.site_xpos[0, 2]
        v1, v2 = now.state.qvel[1], now.state.qvel[2]
        up = (~self.terminal(memory, now)).astype(x.dtype)
        return {
            "survive": self.healthy_reward * up,
            "distance": -(0.01 * x**2 + (y - 2) ** 2),
            "velocity": -(1e-3 * v1**2 + 5e-3 * v2**2),
        }

    def measure(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        """Two of the rewards by the original's names."""
        terms = self.rewards(past, memory, now)
        return {f"{name}_penalty": terms[name] for name in ("distance", "velocity")}

    def terminal(self, memory: tuple, now: Moment) -> jax.Array:
        """The tip is down."""
        return now.derived.site_xpos[0, 2] <= 1
