"""Worlds and a policy make experience.

Samples are the last axis throughout: observations (features, worlds), trajectories (T, ...,
worlds). Only the worlds' border is (worlds, features). Where several agents act in a world, each
counts as a world here: see `actors` in envs/vec_env.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from gpusim import sharding
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


class Fault(NamedTuple):
    """The last step that led a world to numbers that are not finite; that of one of the devices,
    once they have `agreed`."""

    count: jax.Array  # () int32: how many there were; what follows means nothing while it is 0
    carry: Any  # State.carry of the world before that step
    action: jax.Array  # as the world took it


def no_fault(state: VecState, action: jax.Array) -> Fault:
    """None yet, of worlds and actions like these; action: one world's."""
    return Fault(jnp.zeros((), jnp.int32), jax.tree.map(lambda x: x[0], state.world.carry), action)


def agreed(before: Fault, after: Fault) -> Fault:
    """The same fault on all devices, from what each has met since; inside `spmd`."""
    met = after.count - before.count
    which = jnp.argmax(sharding.gather(met[None]))
    step = sharding.of_device((after.carry, after.action), which)
    return Fault(before.count + sharding.total(met), *step)


def _watched(fault: Fault, before: VecState, actions: jax.Array, after: VecState) -> Fault:
    """With the faults of a step. actions: as the worlds took them."""
    bad = after.world.metrics["diverged"] > 0
    which = jnp.argmax(bad)
    action = actions[which].astype(fault.action.dtype)
    of_it = jax.tree.map(lambda x: x[which], before.world.carry), action
    kept = fault.carry, fault.action
    newest = jax.tree.map(lambda new, old: jnp.where(bad.any(), new, old), of_it, kept)
    return Fault(fault.count + bad.sum(dtype=jnp.int32), *newest)


def samples_last(obs: Any) -> Any:
    """(worlds, ...) -> (..., worlds), of each part of an observation."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), obs)


def rollout(
    worlds: VecEnv,
    state: VecState,
    fault: Fault,
    memory: Any,
    normalizer: normalize.Statistics | None,
    noise: Any,
    act: Act,
    keep: Callable[[Any, Any, VecState, Any], Kept],
    forget: Callable[[], Any] = lambda: (),
) -> tuple[VecState, Fault, Any, normalize.Statistics | None, Kept]:
    """Let every world make as many control steps as `noise` has rows.

    act(memory, obs, noise) -> memory, Decision for all worlds, from normalised observations.
    keep(obs, decision, state, final_obs) is what the trajectory keeps of a step; state is the one
    it led to, after restarts, and final_obs what was seen there before them, normalised.
    forget() is the memory of an episode that begins, which a world that ended gets.

    Returns worlds, faults, memory, statistics of the observations seen (None without a normalizer)
    and the trajectory. What is seen of an observation is computed while it is in cache.
    """
    seeing = lambda obs: normalize.normalize(normalizer, samples_last(obs))

    def step(carry, noise):
        before, fault, memory, seen = carry
        if seen is not None:
            seen = normalize.merge(seen, normalize.measure(samples_last(before.obs)))
        obs = seeing(before.obs)
        memory, decision = act(memory, obs, noise)
        actions = worlds.of_worlds(jnp.moveaxis(decision.action, -1, 0))
        state = worlds.step(before, actions)
        fault = _watched(fault, before, actions, state)
        done = state.terminated | state.truncated
        memory = jax.tree.map(lambda new, old: jnp.where(done, new, old), forget(), memory)
        return (state, fault, memory, seen), keep(
            obs, decision, state, seeing(state.of_actors(state.final_obs))
        )

    nothing = jax.tree.map(jnp.zeros_like, normalizer)
    carry, trajectory = jax.lax.scan(step, (state, fault, memory, nothing), noise)
    return *carry, trajectory
