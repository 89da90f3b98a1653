"""MuJoCo Playground's own environments on MJX as worlds; made by `registry.make`.

Nobody imports this file before it is needed, since importing Playground takes seconds.
"""

from collections.abc import Mapping
from typing import Any

import jax
from mujoco_playground import registry  # pyright: ignore[reportMissingImports]

from gpusim.envs.foreign_world import ForeignWorld
from gpusim.envs.world import PRIVILEGED
from gpusim.suggest import unknown


def make(name: str, **options: Any) -> "PlaygroundWorld":
    """Playground's environment `name`; the options are overrides of its configuration, sections
    and names joined by dots."""
    if name not in registry.ALL_ENVS:
        raise ValueError(unknown("environment of playground", name, registry.ALL_ENVS))
    config: Any = registry.get_default_config(name)
    if "impl" in config:
        options = {"impl": "jax", **options}  # not Warp, whose kernels XLA does not see into
    env = registry.load(name, config=config, config_overrides=options or None)
    return PlaygroundWorld(env, f"playground:{name}", int(config.episode_length))


class PlaygroundWorld(ForeignWorld):
    """One world of a Playground environment."""

    def __init__(self, env: Any, name: str, max_episode_steps: int):
        super().__init__(env, name)
        self.max_episode_steps = max_episode_steps

    def joints(self, carry: Any) -> tuple[jax.Array, jax.Array]:
        """Of MJX's data."""
        return carry.data.qpos, carry.data.qvel

    def seen(self, obs: Any) -> Any:
        """What the critic alone may see is called so."""
        if not isinstance(obs, Mapping):
            return obs
        return {PRIVILEGED if name == "privileged_state" else name: x for name, x in obs.items()}

    def drawing(self) -> Any:
        """Playground's robot, as MuJoCo reads it."""
        return self.env.mj_model
