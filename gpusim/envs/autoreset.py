"""Many worlds that never stop: the time limit and the restart of finished worlds, and only here.

`autoreset(env, num_envs)` steps a batch of worlds. A world that has terminated or reached the time
limit starts again within the same step, from a start drawn with its own random stream: no two
episodes share one. Both flags of the step and the last observation before the restart are kept,
since a value function must bootstrap from the latter when an episode was truncated, and from
nothing when it terminated.

The restart is part of the world's lanes kernel, behind a branch: a group of lanes draws starts only
if one of them has just finished, which makes restarts almost free. The first episodes begin at
random points of the time limit, so that a batch that starts together does not restart together ever
after.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpusim import lanes
from gpusim.envs.env import Env, State


class Finished(NamedTuple):
    """Totals over the episodes a world began at step 0 and has finished since `clear_stats`."""

    returns: jax.Array  # () sum of undiscounted returns
    lengths: jax.Array  # () sum of lengths, in control steps
    count: jax.Array  # () how many


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VecState:
    """A batch of worlds between two control steps; every array has a leading axis over worlds."""

    env: State  # after any restart; but reward, flags and metrics are of the step just made
    final_obs: (
        jax.Array
    )  # (num_envs, observation_size) where the step just made led, before any restart
    steps: jax.Array  # (num_envs,) int32: control steps counted against the time limit
    episode_return: jax.Array  # (num_envs,) sum of rewards of the running episode
    episode_length: jax.Array  # (num_envs,) int32: steps of the running episode
    finished: Finished  # of each world

    @property
    def reward(self) -> jax.Array:
        """(num_envs,) of the step just made."""
        return self.env.reward

    @property
    def terminated(self) -> jax.Array:
        """(num_envs,) bool: the step just made ended the episode for good."""
        return self.env.terminated

    @property
    def truncated(self) -> jax.Array:
        """(num_envs,) bool: the step just made reached the time limit, and did not terminate."""
        return self.env.truncated

    @property
    def done_return_sum(self) -> jax.Array:
        """() sum of the returns of the episodes in `finished`."""
        return self.finished.returns.sum()

    @property
    def done_length_sum(self) -> jax.Array:
        """() sum of the lengths of the episodes in `finished`."""
        return self.finished.lengths.sum()

    @property
    def done_count(self) -> jax.Array:
        """() number of the episodes in `finished`."""
        return self.finished.count.sum()

    def replace(self, **changes: Any) -> "VecState":
        """A copy with the given fields changed."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True, eq=False)
class VecEnv:
    """`num_envs` worlds of `env`, restarted as they finish; made by `autoreset`."""

    env: Env
    num_envs: int
    episode_length: int  # time limit, in control steps

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return self.env.observation_size

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return self.env.action_size

    def reset(self, key: jax.Array) -> VecState:
        """Start all worlds, each at a random point of the time limit."""
        return jax.vmap(self._start_kernel)(jax.random.split(key, self.num_envs))

    def step(self, state: VecState, actions: jax.Array) -> VecState:
        """Step every world, actions (num_envs, action_size), and restart those that finished."""
        return jax.vmap(self._step_kernel)(state, actions)

    def clear_stats(self, state: VecState) -> VecState:
        """Forget the finished episodes."""
        return state.replace(finished=jax.tree.map(jnp.zeros_like, state.finished))

    @functools.cached_property
    def _start_kernel(self):
        return lanes.kernel(self._start_one)

    @functools.cached_property
    def _step_kernel(self):
        return lanes.kernel(self._step_one)

    def _start_one(self, key: jax.Array) -> VecState:
        """`reset` of one world."""
        key_world, key_steps = jax.random.split(key)
        env = self.env.start(key_world)
        return VecState(
            env=env,
            final_obs=env.obs,
            steps=jax.random.randint(key_steps, (), 0, self.episode_length, jnp.int32),
            episode_return=jnp.zeros_like(env.reward),
            episode_length=jnp.zeros((), jnp.int32),
            finished=Finished(*jnp.zeros(3, env.reward.dtype)),
        )

    def _step_one(self, state: VecState, action: jax.Array) -> VecState:
        """`step` of one world."""
        env = self.env.transition(state.env.physics, state.env.memory, action)
        steps = state.steps + 1
        env = env.replace(
            key=state.env.key, truncated=(steps >= self.episode_length) & ~env.terminated
        )
        done = env.terminated | env.truncated
        episode_return = state.episode_return + env.reward
        episode_length = state.episode_length + 1
        whole = done & (steps == episode_length)  # unequal in a first episode that began late
        length = episode_length.astype(episode_return.dtype)
        last = Finished(episode_return, length, jnp.ones_like(length))
        return VecState(
            env=jax.lax.cond(done, self._restart_one, lambda same: same, env),
            final_obs=env.obs,
            steps=jnp.where(done, 0, steps),
            episode_return=jnp.where(done, 0.0, episode_return),
            episode_length=jnp.where(done, 0, episode_length),
            finished=jax.tree.map(lambda a, b: jnp.where(whole, a + b, a), state.finished, last),
        )

    def _restart_one(self, env: State) -> State:
        """A world at a new start; what the step just made said of it stays."""
        new = self.env.start(env.key)
        return env.replace(physics=new.physics, memory=new.memory, obs=new.obs, key=new.key)


def autoreset(env: Env, num_envs: int, *, episode_length: int | None = None) -> VecEnv:
    """`num_envs` worlds of `env` that restart when they finish or reach the time limit.

    episode_length: the time limit in control steps, by default the task's `max_episode_steps`.
    """
    limit = env.max_episode_steps if episode_length is None else episode_length
    if num_envs < 1 or limit < 1:
        raise ValueError(
            f"num_envs and episode_length must be positive, not {num_envs} and {limit}"
        )
    return VecEnv(env, num_envs, limit)
