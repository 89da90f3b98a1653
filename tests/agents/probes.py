"""Environments so small that the right answer is known, and the batched contract around them.

Each probe isolates one thing a learner must do (after rejax and Andy Jones' "Debugging RL").
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class State(NamedTuple):
    """One world."""

    obs: jax.Array  # (features,)
    reward: jax.Array  # ()
    terminated: jax.Array  # () bool
    truncated: jax.Array  # () bool
    steps: jax.Array  # () int32, since the start of the episode
    key: jax.Array


class Probe(NamedTuple):
    """observe(steps, key) and reward(obs, action, steps) make a world of fixed episode length."""

    reward: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    observe: Callable[[jax.Array, jax.Array], jax.Array] = lambda steps, key: jnp.zeros(1)
    length: int = 1
    truncates: bool = False  # the episode is cut at `length` rather than over
    observation_size: int = 1
    action_size: int = 1

    def reset(self, key: jax.Array) -> State:
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        steps = jnp.zeros((), jnp.int32)
        return State(self.observe(steps, key), zero, no, no, steps, key)

    def step(self, state: State, action: jax.Array) -> State:
        steps = state.steps + 1
        over = steps >= self.length
        return State(
            obs=self.observe(steps, state.key),
            reward=self.reward(state.obs, action, state.steps),
            terminated=over & (not self.truncates),
            truncated=over & self.truncates,
            steps=steps,
            key=state.key,
        )


class VecState(NamedTuple):
    """The fields of the environments' contract that a learner reads."""

    env: State
    final_obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    episode_return: jax.Array
    done_return_sum: jax.Array
    done_length_sum: jax.Array
    done_count: jax.Array


class Vec:
    """num_envs worlds of one probe that start anew when they are over."""

    def __init__(self, env: Any, num_envs: int):
        self.env, self.num_envs = env, num_envs
        self.observation_size, self.action_size = env.observation_size, env.action_size

    def reset(self, key: jax.Array) -> VecState:
        env = jax.vmap(self.env.reset)(jax.random.split(key, self.num_envs))
        zeros = jnp.zeros(self.num_envs)
        no = zeros.astype(bool)
        return VecState(env, env.obs, zeros, no, no, zeros, zeros, zeros, zeros)

    def step(self, state: VecState, action: jax.Array) -> VecState:
        return jax.vmap(self._step_one)(state, action)

    def clear_stats(self, state: VecState) -> VecState:
        zeros = jnp.zeros(self.num_envs)
        return state._replace(done_return_sum=zeros, done_length_sum=zeros, done_count=zeros)

    def _step_one(self, state: VecState, action: jax.Array) -> VecState:
        env = self.env.step(state.env, action)
        done = env.terminated | env.truncated
        episode_return = state.episode_return + env.reward
        fresh = self.env.reset(jax.random.fold_in(env.key, 1))
        return VecState(
            env=jax.tree.map(partial(jax.lax.select, done), fresh, env),
            final_obs=env.obs,
            reward=env.reward,
            terminated=env.terminated,
            truncated=env.truncated,
            episode_return=jnp.where(done, 0.0, episode_return),
            done_return_sum=state.done_return_sum + jnp.where(done, episode_return, 0.0),
            done_length_sum=state.done_length_sum + jnp.where(done, env.steps, 0),
            done_count=state.done_count + done,
        )


def _coin(steps: jax.Array, key: jax.Array) -> jax.Array:
    """-1 or 1, one draw an episode."""
    return jax.random.rademacher(key, (1,), float)


ConstantReward = Probe(reward=lambda obs, action, steps: jnp.ones(()))
"""V = 1: is the value network fitted at all?"""

ObsReward = Probe(reward=lambda obs, action, steps: obs[0], observe=_coin)
"""V(obs) = obs: does the value network see the observation?"""

LateReward = Probe(
    reward=lambda obs, action, steps: (steps == 1).astype(float),
    observe=lambda steps, key: steps.astype(float)[None],
    length=2,
)
"""V(0) = discount, V(1) = 1: are returns discounted over steps?"""

CutShort = Probe(reward=lambda obs, action, steps: jnp.ones(()), length=3, truncates=True)
"""V = 1 / (1 - discount), as if never cut: does truncation bootstrap?"""

ActionReward = Probe(reward=lambda obs, action, steps: -jnp.square(action[0] - 0.5))
"""Best action 0.5: does the policy follow the advantage?"""

ObsActionReward = Probe(
    reward=lambda obs, action, steps: -jnp.square(action[0] - 0.5 * obs[0]), observe=_coin
)
"""Best action obs / 2: does the policy see the observation?"""


class PointMass:
    """A mass pushed towards the origin of the plane: (position, velocity), force in [-1, 1].

    It starts at (1, -1) whatever the key, so worlds differ by exploration alone, and episodes are
    cut after 25 steps. With `poison` the reward of the step after t = 3 is not a number.
    """

    observation_size, action_size = 4, 2

    def __init__(self, poison: bool = False):
        self.poison = poison

    def reset(self, key: jax.Array) -> State:
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        start = jnp.array([1.0, -1.0, 0.0, 0.0])
        return State(start, zero, no, no, jnp.zeros((), jnp.int32), key)

    def step(self, state: State, action: jax.Array) -> State:
        position, velocity = state.obs[:2], state.obs[2:]
        velocity = 0.9 * velocity + 0.2 * action
        position = position + 0.2 * velocity
        steps = state.steps + 1
        reward = -jnp.sum(position**2) - 0.1 * jnp.sum(velocity**2)
        if self.poison:
            reward = jnp.where(steps == 4, jnp.nan, reward)
        return State(
            obs=jnp.concatenate([position, velocity]),
            reward=reward,
            terminated=jnp.zeros((), bool),
            truncated=steps >= 25,
            steps=steps,
            key=state.key,
        )
