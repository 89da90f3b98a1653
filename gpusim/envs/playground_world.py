"""MuJoCo Playground's own environments on MJX as worlds; made by `registry.make`.

Nobody imports this file before it is needed, since importing Playground takes seconds.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from mujoco_playground import registry  # pyright: ignore[reportMissingImports]

from gpusim.envs.world import PRIVILEGED, Box, State, World
from gpusim.suggest import unknown


def make(name: str, **options: Any) -> "PlaygroundWorld":
    """Playground's environment `name`; the options are overrides of its configuration, sections
    and names joined by dots."""
    if name not in registry.ALL_ENVS:
        raise ValueError(unknown("environment of playground", name, registry.ALL_ENVS))
    config = registry.get_default_config(name)
    if "impl" in config:
        options = {"impl": "jax", **options}  # not Warp, whose kernels XLA does not see into
    env = registry.load(name, config=config, config_overrides=options or None)
    return PlaygroundWorld(env, f"playground:{name}", int(config.episode_length))


class PlaygroundWorld(World):
    """One world of a Playground environment; it carries Playground's own State."""

    def __init__(self, env: Any, name: str, max_episode_steps: int):
        self.env = env
        self.name = name
        self.dt = float(env.dt)
        self.max_episode_steps = max_episode_steps
        self.action_space = Box(env.action_size)

    def start(self, key: jax.Array) -> State:
        """Playground's reset."""
        return self._seen(self.env.reset(key))

    def transition(self, state: State, action: jax.Array) -> State:
        """Playground's step. A world that blew up (a joint position or velocity that is not finite)
        terminates with reward, observation and metrics 0, but for `diverged`.
        """
        return self._seen(self.env.step(state.carry, action))

    def _seen(self, state: Any) -> State:
        """Playground's state in gpusim's terms."""
        diverged = ~(jnp.isfinite(state.data.qpos).all() & jnp.isfinite(state.data.qvel).all())
        obs, reward, metrics = jax.tree.map(
            lambda x: jnp.where(diverged, jnp.zeros_like(x), x),
            (_named(state.obs), state.reward, dict(state.metrics)),
        )
        return State(
            carry=state,
            obs=obs,
            reward=reward,
            terminated=(state.done > 0) | diverged,
            truncated=jnp.zeros((), bool),
            metrics={**metrics, "diverged": diverged.astype(reward.dtype)},
        )

    def drawing(self) -> Any:
        """Playground's robot, as MuJoCo reads it."""
        return self.env.mj_model

    def pose(self, state: State) -> jax.Array:
        """Where it is."""
        return state.carry.data.qpos


def _named(obs: Any) -> Any:
    """An observation with what the critic alone may see under the name that it has here."""
    if not isinstance(obs, Mapping):
        return obs
    return {PRIVILEGED if name == "privileged_state" else name: x for name, x in obs.items()}
