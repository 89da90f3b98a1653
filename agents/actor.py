"""Worlds and a policy make experience.

Samples are the last axis throughout: observations (features, worlds), trajectories (T, ...,
worlds). Only the worlds' border is (worlds, features).
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp

from gpusim.agents import normalize
from gpusim.envs.vec_env import VecEnv, VecState

Kept = TypeVar("Kept")


class Decision(Protocol):
    """What `act` says of a step before it is made; the rest of it is the learner's."""

    @property
    def action(self) -> jax.Array:
        """(..., worlds) as the worlds take it."""
        ...


Act = Callable[[Any, Any, Any], tuple[Any, Any]]


def samples_last(obs: Any) -> Any:
    """(worlds, ...) -> (..., worlds), of each part of an observation."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), obs)


def rollout(
    worlds: VecEnv,
    state: VecState,
    memory: Any,
    normalizer: normalize.Statistics | None,
    noise: Any,
    act: Act,
    keep: Callable[[Any, Any, VecState, Any], Kept],
    forget: Callable[[], Any] = lambda: (),
) -> tuple[VecState, Any, normalize.Statistics | None, Kept]:
    """Let every world make as many control steps as `noise` has rows.

    act(memory, obs, noise) -> memory, Decision for all worlds, from normalised observations.
    keep(obs, decision, state, final_obs) is what the trajectory keeps of a step; state is the one
    it led to, after restarts, and final_obs what was seen there before them, normalised.
    forget() is the memory of an episode that begins, which a world that ended gets.

    Returns worlds, memory, statistics of the observations seen (None without a normalizer) and the
    trajectory. What is seen of an observation is computed while it is in cache.
    """
    seeing = lambda obs: normalize.normalize(normalizer, samples_last(obs))

    def step(carry, noise):
        state, memory, seen = carry
        if seen is not None:
            seen = normalize.merge(seen, normalize.measure(samples_last(state.obs)))
        obs = seeing(state.obs)
        memory, decision = act(memory, obs, noise)
        state = worlds.step(state, jnp.moveaxis(decision.action, -1, 0))
        done = state.terminated | state.truncated
        memory = jax.tree.map(lambda new, old: jnp.where(done, new, old), forget(), memory)
        return (state, memory, seen), keep(obs, decision, state, seeing(state.final_obs))

    nothing = jax.tree.map(jnp.zeros_like, normalizer)
    (state, memory, seen), trajectory = jax.lax.scan(step, (state, memory, nothing), noise)
    return state, memory, seen, trajectory
