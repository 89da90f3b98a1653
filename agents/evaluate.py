"""How good is a policy: whole episodes from fresh starts, without autoreset."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gpusim.envs.world import State, World, episode_keys


class Episodes(NamedTuple):
    """N episodes, on the host."""

    total: np.ndarray  # (N,) return: the sum of the rewards up to and including the last step
    length: np.ndarray  # (N,) control steps made in the episode
    alive: np.ndarray  # (N,) bool: never terminated within the time limit
    watched: Any  # (T + 1, N, ...) what `watch` saw at the start and after every step

    def summary(self) -> dict[str, Any]:
        """Mean, spread and least of the return, mean length, and the share of worlds never
        terminated."""
        return {
            "return_mean": self.total.mean(),
            "return_std": self.total.std(),
            "return_min": self.total.min(),
            "length_mean": self.length.mean(),
            "alive": self.alive.mean(),
        }


class Evaluation:
    """`num_envs` episodes of at most `episode_length` control steps, compiled once.

    watch(state) of one world is recorded; what it gives after an episode's end means nothing. The
    return is the mean of the agents' that are `counted`.
    """

    def __init__(
        self,
        world: World,
        num_envs: int,
        episode_length: int,
        watch: Callable[[State], Any] = lambda state: (),
        counted: slice = slice(None),
    ):
        self.world, self.num_envs, self.episode_length = world, num_envs, episode_length
        self.counted = counted
        self.batch = world.batch(num_envs)
        self.watch = jax.vmap(watch)
        self._compiled = jax.jit(self._play)

    def __call__(self, policy: Any, key: jax.Array) -> Episodes:
        """Play them with the policy's likeliest actions, from starts drawn with `key`."""
        return Episodes(*jax.device_get(self._compiled(policy, key)))

    def _play(self, policy: Any, key: jax.Array) -> tuple[Any, ...]:
        """The fields of `Episodes`."""

        def step(carry, _):
            state, memory, running, alive, total, length = carry
            memory, action = policy.act(memory, state.obs)
            state = self.batch.step(state, action)
            reward = state.reward.reshape(self.num_envs, -1)[:, self.counted].mean(1)
            total = total + jnp.where(running, reward, 0.0)
            length = length + running
            alive = alive & ~(running & state.terminated)
            running = running & ~(state.terminated | state.truncated)
            return (state, memory, running, alive, total, length), self.watch(state)

        _, starts = jax.vmap(episode_keys)(jax.random.split(key, self.num_envs))
        state = self.batch.reset(starts)
        yes, zero = jnp.ones(self.num_envs, bool), jnp.zeros(self.num_envs)
        nothing = policy.initial((self.num_envs, *self.world.each))
        carry = (state, nothing, yes, yes, zero, zero)
        first = self.watch(state)
        carry, rest = jax.lax.scan(step, carry, length=self.episode_length)
        *_, alive, total, length = carry
        watched = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
        return total, length, alive, watched


@struct.dataclass
class Match:
    """A policy for the first agent of a world, and one for the others; see `learner.Policy`."""

    first: Any
    others: Any

    def initial(self, batch: tuple[int, ...]) -> Any:
        """What both remember when episodes begin."""
        return self.first.initial(batch), self.others.initial(batch)

    def act(self, memory: Any, obs: Any, key: jax.Array | None = None) -> tuple[Any, jax.Array]:
        """Actions (*batch, agents, ...) for observations (*batch, agents, features)."""
        axis = jax.tree.leaves(obs)[0].ndim - 2
        sides = zip((self.first, self.others), memory, strict=True)
        (mine, action), (theirs, other) = (side.act(kept, obs, key) for side, kept in sides)
        first = jax.lax.slice_in_dim(action, 0, 1, axis=axis)
        rest = jax.lax.slice_in_dim(other, 1, None, axis=axis)
        return (mine, theirs), jnp.concatenate([first, rest], axis)
