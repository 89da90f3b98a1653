"""Analytic policy gradients: derivatives of steps are right, and lead to what is best."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import ActionReward, ChoiceReward, ConstantReward, CutShort, LateReward, ObsActionReward

import gpusim
from gpusim import agents
from gpusim.agents import normalize
from gpusim.agents.apg import APG, Config
from gpusim.envs import autoreset
from gpusim.envs.vec_env import DifferentiableVecEnv

TINY = Config(
    num_envs=64, unroll_length=8, updates_per_call=400, learning_rate=1e-2, anneal=False,
    discount=0.5, policy_hidden=(16,), value_hidden=(16,),
)  # fmt: skip


@pytest.mark.parametrize("name", ["Pendulum-v1", "inverted_pendulum"])
def test_a_step_is_differentiated_as_xla_does(name: str):
    plain = autoreset(gpusim.make(name), 5)
    worlds = DifferentiableVecEnv.of(plain)
    state = jax.jit(worlds.reset)(jax.random.key(0))
    actions = jax.random.uniform(jax.random.key(1), (5, plain.world.action_size), minval=-0.5)

    def score(worlds, actions, obs_weight):
        after = worlds.step(worlds.step(state, actions), 0.5 * actions)
        return (after.obs * obs_weight).sum() + after.reward.sum()

    weight = jax.random.normal(jax.random.key(2), state.obs.shape)
    grad = lambda worlds: jax.jit(jax.grad(score, argnums=1), static_argnums=0)(
        worlds, actions, weight
    )
    expected = grad(plain)
    assert np.abs(expected).min() > 0
    np.testing.assert_allclose(grad(worlds), expected, rtol=2e-4, atol=1e-5)


def test_a_restart_depends_on_nothing_before_it():
    worlds = DifferentiableVecEnv.of(autoreset(gpusim.make("Pendulum-v1"), 3, episode_length=1))
    state, actions = worlds.reset(jax.random.key(0)), jnp.full((3, 1), 0.3)
    of = lambda seen: jax.grad(lambda actions: seen(worlds.step(state, actions)).sum())(actions)
    np.testing.assert_array_equal(of(lambda after: after.obs), 0)
    assert np.abs(of(lambda after: after.reward)).min() > 0
    assert np.abs(of(lambda after: after.final_obs)).min() > 0


@cache
def trained(env: Any):
    learner = APG(TINY, env, devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    return learner, state


def values(env: Any, *observations: list[float]) -> np.ndarray:
    learner, state = trained(env)
    params, statistics = jax.tree.map(lambda x: x[0], (state.params["value"], state.normalizer))
    obs = normalize.normalize(statistics, jnp.array(observations).T)
    return np.asarray(learner.value_network.apply(params, obs))


@pytest.mark.slow
def test_values_are_those_of_the_probes():
    np.testing.assert_allclose(values(ConstantReward, [0.0]), [1], atol=0.05)
    np.testing.assert_allclose(values(LateReward, [0.0], [1.0]), [0.5, 1], atol=0.05)
    np.testing.assert_allclose(values(CutShort, [0.0]), [2], atol=0.1)


def test_the_policy_finds_the_best_actions():
    act = lambda env, *obs: np.asarray(
        trained(env)[0].policy(trained(env)[1]).act((), jnp.array(obs))[1]
    )[:, 0]
    np.testing.assert_allclose(act(ActionReward, [0.0]), [0.5], atol=0.05)
    np.testing.assert_allclose(act(ObsActionReward, [-1.0], [1.0]), [-0.5, 0.5], atol=0.05)


def test_what_has_no_derivatives_is_refused():
    assert agents.find("apg").Learner is APG
    with pytest.raises(ValueError, match="apg needs actions that are numbers, not choices"):
        APG(TINY, ChoiceReward, devices=1)
    pytest.importorskip("gymnasium")
    with pytest.raises(ValueError, match="steps on the host, where apg finds no derivatives"):
        APG(TINY, gpusim.make("gym:Pendulum-v1"), devices=1)
