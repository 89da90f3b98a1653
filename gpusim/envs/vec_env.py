"""Many worlds that never stop: the time limit and the restart of finished worlds, and only here.

`autoreset(world, num_envs)` steps a batch of worlds. A world that has terminated or reached the
time limit starts again within the same step, from a start drawn with its own random stream: no two
episodes share one. Both flags of the step and the last observation before the restart are kept,
since a value function must bootstrap from the latter when an episode was truncated, and from
nothing when it terminated.

The restart is part of the world's lanes kernel, behind a branch: a group of lanes draws starts only
if one of them has just finished, which makes restarts almost free. Where a start is costly, it is
one of those that the world has prepared. The first episodes begin at
random points of the time limit, so that a batch that starts together does not restart together ever
after.

Where several agents act in a world, what acts and sees and earns are `actors`: the first agents of
all worlds, then the second ones of all, and so on. Learners know nothing else of them.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpusim import lanes
from gpusim.envs.world import Batch, State, World, begun, episode_keys, stepped


class Finished(NamedTuple):
    """Totals over the episodes a world began at step 0 and has finished since `clear_stats`."""

    returns: jax.Array  # () sum of undiscounted returns; (agents,) of several
    lengths: jax.Array  # () sum of lengths, in control steps
    count: jax.Array  # () how many
    terminated: jax.Array  # () how many of them were not cut off by the time limit


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VecState:
    """A batch of worlds between two control steps; every array has a leading axis over worlds."""

    world: State  # after any restart; but reward, flags and metrics are of the step just made
    final_obs: Any  # like world.obs: where the step just made led, before any restart
    stream: jax.Array  # (num_envs,) keys: what each world's later episodes are drawn from
    steps: jax.Array  # (num_envs,) int32: control steps counted against the time limit
    episode_return: jax.Array  # (num_envs,) sum of rewards of the running episode
    episode_length: jax.Array  # (num_envs,) int32: steps of the running episode
    finished: Finished  # of each world
    sums: Mapping[str, jax.Array]  # (num_envs,) each: `world.metrics` of all steps since then

    @property
    def obs(self) -> Any:
        """(actors, ...) of each part: what is seen now, after any restart."""
        return self.of_actors(self.world.obs)

    @property
    def reward(self) -> jax.Array:
        """(actors,) of the step just made."""
        return self.of_actors(self.world.reward)

    @property
    def terminated(self) -> jax.Array:
        """(actors,) bool: the step just made ended the episode for good."""
        return jnp.tile(self.world.terminated, self._agents or 1)

    @property
    def truncated(self) -> jax.Array:
        """(actors,) bool: the step just made ended the episode, and did not terminate it."""
        return jnp.tile(self.world.truncated, self._agents or 1)

    @property
    def measured(self) -> dict[str, jax.Array]:
        """`sums`, summed over the worlds."""
        return {name: x.sum() for name, x in self.sums.items()}

    @property
    def totals(self) -> Finished:
        """`finished`, summed over the worlds."""
        return jax.tree.map(lambda x: x.sum(0), self.finished)

    @property
    def _agents(self) -> int:
        """Of a world; 0 for a single one, which has no axis."""
        return self.world.reward.shape[1] if self.world.reward.ndim > 1 else 0

    def of_actors(self, tree: Any) -> Any:
        """(num_envs, agents, ...) of each part -> (actors, ...)."""
        if not self._agents:
            return tree
        return jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0).reshape(-1, *x.shape[2:]), tree)

    def replace(self, **changes: Any) -> "VecState":
        """A copy with the given fields changed."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True, eq=False)
class VecEnv:
    """`num_envs` copies of `world`, restarted as they finish; made by `autoreset`."""

    world: World
    num_envs: int
    episode_length: int  # time limit, in control steps

    @property
    def actors(self) -> int:
        """How many act: the agents of all worlds."""
        return self.num_envs * self.world.agents

    def of_worlds(self, actions: jax.Array) -> jax.Array:
        """Actions (actors, ...) as the worlds take them: (num_envs, ...), (num_envs, agents, ...)
        for several agents."""
        if self.world.agents == 1:
            return actions
        return jnp.moveaxis(actions.reshape(-1, self.num_envs, *actions.shape[1:]), 0, 1)

    def reset(self, key: jax.Array) -> VecState:
        """Start all worlds, each at a random point of the time limit."""
        keys = jax.random.split(key, self.num_envs)
        return jax.vmap(self._start_kernel, in_axes=(0, None))(keys, self.world.prepared)

    def step(self, state: VecState, actions: jax.Array) -> VecState:
        """Step every world and restart those that finished. actions: (num_envs, ...), as
        `of_worlds` gives them."""
        actions = self.world.checked(actions, (self.num_envs,))
        step = jax.vmap(self._step_kernel, in_axes=(0, 0, None))
        return step(state, actions, self.world.prepared)

    def clear_stats(self, state: VecState) -> VecState:
        """Forget the finished episodes and the sums of metrics."""
        finished, sums = jax.tree.map(jnp.zeros_like, (state.finished, state.sums))
        return state.replace(finished=finished, sums=sums)

    @functools.cached_property
    def _start_kernel(self):
        return lanes.kernel(self._start_one)

    @functools.cached_property
    def _step_kernel(self):
        return lanes.kernel(self._step_one)

    def _start_one(self, key: jax.Array, prepared: Any) -> VecState:
        """`reset` of one world."""
        key_world, key_steps = jax.random.split(key)
        stream, start = episode_keys(key_world)
        steps = jax.random.randint(key_steps, (), 0, self.episode_length, jnp.int32)
        return self._fresh(begun(self.world, start, prepared), stream, steps)

    def _fresh(self, world: State, stream: jax.Array, steps: jax.Array) -> VecState:
        """One world at its start."""
        return VecState(
            world=world,
            final_obs=world.obs,
            stream=stream,
            steps=steps,
            episode_return=jnp.zeros_like(world.reward),
            episode_length=jnp.zeros((), jnp.int32),
            finished=Finished(jnp.zeros_like(world.reward), *jnp.zeros(3, world.reward.dtype)),
            sums=jax.tree.map(jnp.zeros_like, dict(world.metrics)),
        )

    def _step_one(self, state: VecState, action: jax.Array, prepared: Any) -> VecState:
        """`step` of one world."""
        world = self._limited(state, stepped(self.world, state.world, action))
        done = world.terminated | world.truncated
        restart = functools.partial(self._restart_one, prepared)
        after, stream = jax.lax.cond(done, restart, lambda *same: same, world, state.stream)
        return self._counted(state, world, after, stream)

    def _limited(self, state: VecState, world: State) -> State:
        """One world after a step, truncated if that was the last one of the time limit."""
        at_limit = world.truncated | (state.steps + 1 >= self.episode_length)
        return world.replace(truncated=at_limit & ~world.terminated)

    def _counted(self, state: VecState, world: State, after: State, stream: jax.Array) -> VecState:
        """What is known of one world after a step: `world` is where that led, `after` the same
        after any restart."""
        steps = state.steps + 1
        done = world.terminated | world.truncated
        episode_return = state.episode_return + world.reward
        episode_length = state.episode_length + 1
        whole = done & (steps == episode_length)  # unequal in a first episode that began late
        length = episode_length.astype(episode_return.dtype)
        ended = world.terminated.astype(length.dtype)
        last = Finished(episode_return, length, jnp.ones_like(length), ended)
        return VecState(
            world=after,
            final_obs=world.obs,
            stream=stream,
            steps=jnp.where(done, 0, steps),
            episode_return=jnp.where(done, 0.0, episode_return),
            episode_length=jnp.where(done, 0, episode_length),
            finished=jax.tree.map(lambda a, b: jnp.where(whole, a + b, a), state.finished, last),
            sums=jax.tree.map(jnp.add, state.sums, dict(world.metrics)),
        )

    def _restart_one(
        self, prepared: Any, world: State, stream: jax.Array
    ) -> tuple[State, jax.Array]:
        """The world at its next start, and what is left of its stream."""
        stream, start = episode_keys(stream)
        return world.restarted(begun(self.world, start, prepared, ended=world)), stream


@dataclasses.dataclass(frozen=True, eq=False)
class DifferentiableVecEnv(VecEnv):
    """The same, where a gradient of a step, by the state before it and the action, is a kernel too.

    A world that restarts has none: of what came before its next start keeps no smooth number.
    """

    @classmethod
    def of(cls, worlds: VecEnv) -> "DifferentiableVecEnv":
        """These worlds."""
        return cls(worlds.world, worlds.num_envs, worlds.episode_length)

    def step(self, state: VecState, actions: jax.Array) -> VecState:
        """As `VecEnv.step`, whose derivatives are XLA's, and slow."""
        return self._step(state, self.world.checked(actions, (self.num_envs,)))

    @functools.cached_property
    def _step(self):
        plain = functools.partial(VecEnv.step, self)
        step = jax.custom_vjp(plain)
        step.defvjp(lambda *given: (plain(*given), given), self._pulled)
        return step

    def _pulled(self, given: tuple[VecState, jax.Array], wanted: VecState):
        """Cotangents of a step's state and actions, from those of the state it led to."""
        state, actions = given
        leaves, tree = jax.tree.flatten(state)
        wants = [w for w, x in zip(jax.tree.leaves(wanted), leaves, strict=True) if _smooth(x)]
        pull = jax.vmap(self._pull_kernel, in_axes=(0, 0, 0, None))
        found, by_action = pull(state, actions, wants, self.world.prepared)
        each = iter(found)
        return tree.unflatten([next(each) if _smooth(x) else None for x in leaves]), by_action

    @functools.cached_property
    def _pull_kernel(self):
        return lanes.kernel(self._pull_one)

    def _pull_one(self, state: VecState, action: jax.Array, wants: list[jax.Array], prepared: Any):
        leaves, tree = jax.tree.flatten(state)

        def smooth(numbers: list[jax.Array], action: jax.Array) -> list[jax.Array]:
            each = iter(numbers)
            before = tree.unflatten([next(each) if _smooth(x) else x for x in leaves])
            after = self._step_one(before, action, prepared)
            return [x for x in jax.tree.leaves(after) if _smooth(x)]

        return jax.vjp(smooth, [x for x in leaves if _smooth(x)], action)[1](wants)


def _smooth(x: jax.Array) -> bool:
    """Is it an array that has derivatives?"""
    return jnp.issubdtype(x.dtype, jnp.floating)


@dataclasses.dataclass(frozen=True, eq=False)
class HostedVecEnv(VecEnv):
    """The same of worlds that step outside of JAX, and together. They are few: all begin at the
    start of the time limit, and every episode is counted."""

    @functools.cached_property
    def _batch(self) -> Batch:
        return self.world.batch(self.num_envs)

    def reset(self, key: jax.Array) -> VecState:
        """Start all worlds."""
        stream, starts = jax.vmap(episode_keys)(jax.random.split(key, self.num_envs))
        steps = jnp.zeros(self.num_envs, jnp.int32)
        return jax.vmap(self._fresh)(self._batch.reset(starts), stream, steps)

    def step(self, state: VecState, actions: jax.Array) -> VecState:
        """Step every world and restart those that finished. actions: (num_envs, ...)."""
        actions = self.world.checked(actions, (self.num_envs,))
        world = jax.vmap(self._limited)(state, self._batch.step(state.world, actions))
        done = world.terminated | world.truncated
        later, starts = jax.vmap(episode_keys)(state.stream)
        restart: Any = self._batch.restart
        after = restart(world, starts, done)
        stream = jnp.where(done, later, state.stream)
        return jax.vmap(self._counted)(state, world, after, stream)


def autoreset(world: World, num_envs: int, *, episode_length: int | None = None) -> VecEnv:
    """`num_envs` copies of `world` that restart when they finish or reach the time limit.

    episode_length: the time limit in control steps, by default the world's `max_episode_steps`.
    """
    limit = world.max_episode_steps if episode_length is None else episode_length
    if num_envs < 1 or limit < 1:
        raise ValueError(
            f"num_envs and episode_length must be positive, not {num_envs} and {limit}"
        )
    return (HostedVecEnv if world.hosted else VecEnv)(world, num_envs, limit)
