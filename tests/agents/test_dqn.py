"""DQN on worlds whose answer is known, and how it explores."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import ActionReward, ChoiceReward, Probe

from gpusim.agents import normalize
from gpusim.agents.dqn import Config, Dqn
from gpusim.envs import Discrete

TINY = Config(
    num_envs=16, unroll_length=2, updates_per_call=300, num_gradient_steps=4, batch_size=64,
    replay_size=4096, learning_starts=256, learning_rate=3e-3, target_rate=0.05, discount=0.5,
    value_hidden=(32,), activation="tanh",
)  # fmt: skip

LATER = Probe(
    reward=lambda obs, action, steps: jnp.where(steps == 1, action == 2, 0).astype(float),
    observe=lambda steps, key: steps.astype(float)[None],
    length=2,
    action_space=Discrete(3),
)
"""Only the second step's choice is paid, 1 for the last: Q(0, ·) = discount, Q(1, ·) = 0, 0, 1."""


@cache
def trained(env, config=TINY):
    learner = Dqn(config, env, devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    return learner, state


def values(env, *observations):
    """(observations, choices)"""
    learner, state = trained(env)
    params, statistics = jax.tree.map(lambda x: x[0], (state.params["value"], state.normalizer))
    obs = normalize.normalize(statistics, jnp.array([observations]))
    return np.asarray(learner.network.apply(params, obs).logits.T)


def test_choices_are_learned():
    learner, state = trained(ChoiceReward)
    assert learner.policy(state).act((), jnp.array([[-1.0], [1.0]]))[1].tolist() == [2, 0]
    np.testing.assert_allclose(values(ChoiceReward, -1.0, 1.0), [[0, 0, 1], [1, 0, 0]], atol=0.1)


def test_what_follows_is_discounted():
    np.testing.assert_allclose(values(LATER, 0.0, 1.0), [[0.5] * 3, [0, 0, 1]], atol=0.1)


@pytest.mark.parametrize(
    ("exploration", "shares"),
    [
        # place 0: 0.01; place 1: 0.4; between them the geometric mean; a third hits by chance
        ("greedy", [1 - 0.01 * 2 / 3, 1 - 0.0632 * 2 / 3, 1 - 0.4 * 2 / 3]),
        # softmax([0, 0, 1] / t)
        ("boltzmann", [1.0, 1.0, np.exp(2.5) / (2 + np.exp(2.5))]),
    ],
)
def test_worlds_explore_differently(exploration, shares):
    learner, state = trained(ChoiceReward)
    learner = Dqn(replace(TINY, exploration=exploration), ChoiceReward, devices=1)
    learner._values = lambda params, obs: jnp.array([[0.0], [0.0], [1.0]]) + 0 * obs
    noise = jax.vmap(lambda key: learner.draws(key, 1), out_axes=-1)(
        jax.random.split(jax.random.key(0), 20_000)
    )
    noise, obs = jax.tree.map(lambda x: x[0], noise), jnp.zeros((1, 20_000))
    found = [(learner.explore(state.params, obs, noise, p) == 2).mean() for p in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(found, shares, atol=0.01)


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match="dqn learns choices"):
        Dqn(TINY, ActionReward, devices=1)
