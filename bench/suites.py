"""Environments of other people's libraries as functions of one world, by suite and name.

`start(key)` gives a state; `step(state, key)` draws a random valid action, steps the environment
with the library's own reset where an episode has ended, and gives the next state and what a learner
sees. A library is imported when its suite is asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# The libraries are installed for the measurement only.
# pyright: reportMissingImports=false


class World(NamedTuple):
    """One world; keys are the raw uint32 pairs that these libraries use."""

    start: Callable[[jax.Array], Any]
    step: Callable[[Any, jax.Array], tuple[Any, Any]]


class Suite(NamedTuple):
    """One library."""

    names: Callable[[], Sequence[str]]
    make: Callable[[str], World]
    packages: tuple[str, ...]  # whose versions a result depends on


def pick(mask: jax.Array, key: jax.Array) -> jax.Array:
    """The first valid place of a mask at or after a random one, as an index into the flat mask.

    Not uniform among the valid ones, but one pass over the mask and no table of random numbers.
    """
    place, origin = jnp.arange(mask.size), jax.random.randint(key, (), 0, mask.size)
    ahead = jnp.where(place < origin, place + mask.size, place)
    return jnp.argmin(jnp.where(mask.ravel() != 0, ahead, 2 * mask.size))


# -- gymnax ----------------------------------------------------------------------------------------


def gymnax_names() -> Sequence[str]:
    """All that are registered."""
    import gymnax

    return gymnax.registered_envs


def gymnax_world(name: str) -> World:
    """`env.step`, which resets."""
    import gymnax
    from gymnax.utils import load_mnist

    # The bandit's images are downloaded; noise of the same size is as good for timing.
    images = lambda: np.random.default_rng(0).integers(0, 128, (60_000, 28, 28), np.int8)
    labels = lambda: np.random.default_rng(1).integers(0, 10, 60_000, np.uint8)
    load_mnist.load_mnist = lambda: ((images(), labels()), None)
    env, params = gymnax.make(name)
    space = env.action_space(params)

    def step(state, key):
        draw, use = jax.random.split(key)
        obs, state, *seen = env.step(use, state, space.sample(draw), params)
        return state, (obs, *seen)

    return World(lambda key: env.reset(key, params)[1], step)


# -- jumanji ---------------------------------------------------------------------------------------


def jumanji_names() -> Sequence[str]:
    """All that are registered."""
    import jumanji

    return sorted(jumanji.registered_environments())


def jumanji_world(name: str) -> World:
    """The environment in its AutoResetWrapper; actions obey the observed mask, if there is one."""
    import jumanji
    from jumanji.environments.routing.sokoban.generator import ToyGenerator
    from jumanji.wrappers import AutoResetWrapper

    offline = {"generator": ToyGenerator()} if name.startswith("Sokoban") else {}
    env = AutoResetWrapper(jumanji.make(name, **offline))
    spec = env.action_spec
    choices = np.asarray(getattr(spec, "num_values", ()))  # of each number of a discrete action

    def draw(mask, key):
        if mask is None and not choices.size:
            return jax.random.uniform(key, spec.shape, spec.dtype, spec.minimum, spec.maximum)
        if mask is None:
            return jax.random.randint(key, spec.shape, 0, choices, spec.dtype)
        if mask.ndim == 1:
            return pick(mask, key).astype(spec.dtype)
        if mask.shape == tuple(choices.ravel()):  # which combinations are valid
            found = jnp.unravel_index(pick(mask, key), mask.shape)
            return jnp.stack(found).astype(spec.dtype)
        keys = jax.random.split(key, len(mask))  # a row for each agent
        return jax.vmap(pick)(mask, keys).astype(spec.dtype)

    mask_of = lambda timestep: getattr(timestep.observation, "action_mask", None)

    def start(key):
        state, timestep = env.reset(key)
        return state, mask_of(timestep)

    def step(state, key):
        inner, mask = state
        inner, timestep = env.step(inner, draw(mask, key))
        return (inner, mask_of(timestep)), timestep

    return World(start, step)


# -- JaxMARL ---------------------------------------------------------------------------------------


def jaxmarl_names() -> Sequence[str]:
    """All that need neither another package nor a trained policy."""
    import jaxmarl

    missing = ("JaxRobotarium", "LearnedPolicyEnemySMAX")
    return [name for name in jaxmarl.registered_envs if not name.startswith(missing)]


def jaxmarl_world(name: str) -> World:
    """`env.step`, which resets; every agent's action is valid where the library tells."""
    import jaxmarl

    env = jaxmarl.make(name)
    masked = hasattr(env, "get_legal_moves") or "SMAX" in name

    def step(state, key):
        use, *draws = jax.random.split(key, 1 + len(env.agents))
        masks = getattr(env, "get_legal_moves", env.get_avail_actions)(state) if masked else {}
        actions = {
            agent: pick(masks[agent], k) if masked else env.action_space(agent).sample(k)
            for agent, k in zip(env.agents, draws, strict=True)
        }
        obs, state, *seen = env.step(use, state, actions)
        return state, (obs, *seen)

    return World(lambda key: env.reset(key)[1], step)


SUITES = {
    "gymnax": Suite(gymnax_names, gymnax_world, ("gymnax", "jax")),
    "jumanji": Suite(jumanji_names, jumanji_world, ("jumanji", "chex", "esquilax")),
    "jaxmarl": Suite(jaxmarl_names, jaxmarl_world, ("jaxmarl", "flax")),
}
