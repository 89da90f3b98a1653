"""Rollouts: what is kept, memory that ends with its episode, observations in parts."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import LateReward

from gpusim.agents import normalize
from gpusim.agents.actor import no_fault, rollout
from gpusim.agents.evaluate import Evaluation
from gpusim.agents.ppo import PPO, PPOConfig
from gpusim.envs import Box, State, World, autoreset


class Decision(NamedTuple):
    action: jax.Array
    memory: jax.Array


def test_memory_begins_anew_with_every_episode():
    """Episodes of two steps; a memory that counts says which step it is."""
    worlds = autoreset(LateReward, 3)
    act = lambda memory, obs, noise: (memory + 1, Decision(jnp.zeros((1, 3)), memory))
    keep = lambda obs, decision, state, final: (obs, decision.memory, state.reward, final)
    state = worlds.reset(jax.random.key(0))
    zeros, fault = lambda: jnp.zeros(3), no_fault(state, jnp.zeros(1))
    _, fault, memory, seen, (obs, counts, reward, final) = rollout(
        worlds, state, fault, zeros(), None, jnp.zeros(5), act, keep, zeros
    )
    assert fault.count == 0
    assert seen is None
    np.testing.assert_array_equal(counts[:, 0], [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(obs[:, 0, 0], [0, 1, 0, 1, 0])  # what is seen is the time
    np.testing.assert_array_equal(final[:, 0, 0], [1, 2, 1, 2, 1])  # before restarts
    np.testing.assert_array_equal(reward[:, 0], [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(memory, [1, 1, 1])


def test_statistics_are_of_what_was_acted_on():
    worlds = autoreset(LateReward, 3)
    act = lambda memory, obs, noise: (memory, Decision(jnp.zeros((1, 3)), obs))
    start = normalize.init(jnp.zeros(1))
    keep = lambda obs, decision, state, final: obs
    state = worlds.reset(jax.random.key(0))
    fault = no_fault(state, jnp.zeros(1))
    *_, seen, _ = rollout(worlds, state, fault, (), start, jnp.zeros(5), act, keep)
    assert seen is not None
    assert seen.count == 15
    np.testing.assert_allclose(seen.mean, 2 / 5, rtol=1e-6)  # 0 1 0 1 0
    np.testing.assert_allclose(seen.variance, 6 / 25, rtol=1e-6)


def test_the_last_step_that_was_not_finite_is_kept():
    """A reward is one over the action, less the time since the start: worlds meet it in turn, and
    two of them at the sixth step."""
    late = replace(LateReward, reward=lambda obs, action, steps: 1 / (action[0] - steps), length=9)
    worlds = autoreset(late, 3)
    act = lambda memory, obs, noise: (memory, Decision(jnp.array([[5.0, 2.0, 4.0]]), obs))
    state = worlds.reset(jax.random.key(0))

    def after(steps: int):
        fault = no_fault(state, jnp.zeros(1))
        keep = lambda *_: ()
        return rollout(worlds, state, fault, (), None, jnp.zeros(steps), act, keep)[1]

    for steps, count, action in ((3, 1, 2.0), (4, 1, 2.0), (5, 2, 4.0), (6, 4, 5.0)):
        fault = after(steps)
        assert fault.count == count
        assert fault.action == action
        assert fault.carry.steps == action  # before the step


class Secret(World):
    """The reward is a coin that only the critic sees; the best action is half of what all see."""

    action_space = Box(1)
    max_episode_steps = 10**9

    def start(self, key: jax.Array) -> State:
        coins = jax.random.rademacher(key, (2,), float)
        return State.of(coins, {"open": coins[:1], "privileged": coins[1:]})

    def transition(self, state: State, action: jax.Array) -> State:
        seen, secret = state.carry
        reward = secret - jnp.square(action[0] - 0.5 * seen)
        return State.of(state.carry, state.obs, reward=reward, terminated=True)


TINY = PPOConfig(
    num_envs=32, unroll_length=8, num_minibatches=4, updates_per_call=100, learning_rate=3e-3,
    anneal=False, discount=0.5, policy_hidden=(16,), value_hidden=(16,),
)  # fmt: skip


def test_observations_in_parts_and_a_critic_that_knows_more():
    learner = PPO(TINY, Secret(), devices=1)
    state, _ = learner.train_step(learner.init(jax.random.key(0)))
    params, statistics = jax.tree.map(lambda x: x[0], (state.params["value"], state.normalizer))
    coins = jnp.array([[-1.0, 1.0, 1.0, -1.0]]), jnp.array([[-1.0, -1.0, 1.0, 1.0]])
    obs = {"open": coins[0], "privileged": coins[1]}
    assert statistics.mean.keys() == obs.keys()
    value = learner.value_network.apply(params, normalize.normalize(statistics, obs))
    np.testing.assert_allclose(value, coins[1][0], atol=0.35)  # exploration costs a little
    _, action = learner.policy(state).act((), {name: x.T for name, x in obs.items()})
    np.testing.assert_allclose(action[:, 0], 0.5 * coins[0][0], atol=0.1)
    blind = Evaluation(Secret(), 4, 2)(learner.policy(state), jax.random.key(0))
    assert blind.total.shape == (4,)
    arrays, _ = learner.policy(state).export()  # of what the policy sees
    assert arrays["mean"].shape == (1,)
    np.testing.assert_array_equal(arrays["mean"], statistics.mean["open"])


def test_without_statistics_a_dict_is_used_as_it_is():
    learner = PPO(
        replace(TINY, normalize_observations=False, updates_per_call=1), Secret(), devices=1
    )
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert state.normalizer is None
    assert np.isfinite(report.metrics["policy_loss"])


def test_other_actions_are_refused_by_name():
    class Odd(Secret):
        action_space = (3, 4)  # pyright: ignore[reportAssignmentType]

    with pytest.raises(ValueError, match=r"Odd: actions are \(3, 4\), neither a Box nor Discrete"):
        PPO(TINY, Odd(), devices=1)
