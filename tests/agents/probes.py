"""Worlds so small that the right answer is known.

Each probe isolates one thing a learner must do (after rejax and Andy Jones' "Debugging RL").
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim.envs import Box, Discrete, State, World


class Carry(NamedTuple):
    obs: jax.Array  # (features,)
    steps: jax.Array  # () int32, since the start of the episode
    key: jax.Array  # of the episode


ONE = Box(1)


@dataclasses.dataclass(frozen=True, eq=False)
class Probe(World):
    """observe(steps, key) and reward(obs, action, steps) make a world of fixed episode length."""

    reward: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    observe: Callable[[jax.Array, jax.Array], jax.Array] = lambda steps, key: jnp.zeros(1)
    length: int = 1
    action_space: Box | Discrete = ONE
    truncates: bool = False  # the episode is cut at `length` rather than over

    max_episode_steps = 10**9  # episodes end by themselves

    def start(self, key: jax.Array) -> State:
        steps = jnp.zeros((), jnp.int32)
        obs = self.observe(steps, key)
        return State.of(Carry(obs, steps, key), obs)

    def transition(self, state: State, action: jax.Array) -> State:
        before, key = state.carry.steps, state.carry.key
        steps = before + 1
        over = steps >= self.length
        obs = self.observe(steps, key)
        return State.of(
            Carry(obs, steps, key),
            obs,
            reward=self.reward(state.carry.obs, action, before),
            terminated=over & (not self.truncates),
            truncated=over & self.truncates,
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

ChoiceReward = Probe(
    reward=lambda obs, action, steps: (action == 1 - obs[0].astype(int)).astype(float),
    observe=_coin,
    action_space=Discrete(3),
)
"""Best choice 0 where obs is 1, 2 where it is -1: are choices learned?"""

ObsActionReward = Probe(
    reward=lambda obs, action, steps: -jnp.square(action[0] - 0.5 * obs[0]), observe=_coin
)
"""Best action obs / 2: does the policy see the observation?"""


@dataclasses.dataclass(frozen=True, eq=False)
class PointMass(World):
    """A mass pushed towards the origin of the plane: (position, velocity), force in [-1, 1].

    It starts at (1, -1) whatever the key, so worlds differ by exploration alone, and episodes are
    cut after 25 steps. The reward of the step after t = 3 is `poison`, unless that is 0.
    """

    poison: float = 0.0

    action_space = Box(2)
    max_episode_steps = 10**9

    def start(self, key: jax.Array) -> State:
        obs = jnp.array([1.0, -1.0, 0.0, 0.0])
        return State.of(Carry(obs, jnp.zeros((), jnp.int32), key), obs)

    def transition(self, state: State, action: jax.Array) -> State:
        (position, velocity), steps = jnp.split(state.carry.obs, 2), state.carry.steps + 1
        velocity = 0.9 * velocity + 0.2 * action
        position = position + 0.2 * velocity
        reward = -jnp.sum(position**2) - 0.1 * jnp.sum(velocity**2)
        if self.poison:
            reward = jnp.where(steps == 4, self.poison, reward)
        obs = jnp.concatenate([position, velocity])
        carry = Carry(obs, steps, state.carry.key)
        return State.of(carry, obs, reward=reward, truncated=steps >= 25)
