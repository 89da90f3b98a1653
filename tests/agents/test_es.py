"""ES and ARS on worlds whose answer is known, their weights worked by hand, and their command."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from probes import ActionReward, ChoiceReward, LateReward, ObsActionReward

from gpusim import play, sharding, train
from gpusim.agents import ars, es

TINY = es.Config(
    num_envs=128, unroll_length=1, updates_per_call=200, learning_rate=0.05, noise_std=0.2,
    policy_hidden=(), weight_decay=0.0,
)  # fmt: skip
RANDOM = ars.Config(
    num_envs=128, unroll_length=1, updates_per_call=200, learning_rate=0.05, noise_std=0.1
)


def trained(learner, calls=1):
    state = learner.init(jax.random.key(0))
    for _ in range(calls):
        state, report = learner.train_step(state)
        assert not report.diverged
    return state, report.metrics


def test_centered_ranks():
    found = es.centered_ranks(jnp.array([3.0, -7.0, 100.0, 4.0, 3.5]))
    np.testing.assert_allclose(found, [-0.25, -0.5, 0.5, 0.25, 0.0])


def test_noise_is_worth_its_ranks():
    """Of (9, 1) and (4, 3) the ranks are (3, 0) and (2, 1) thirds: 1 and 1/3 over four members."""
    learner = es.Es(replace(TINY, num_envs=4), ActionReward, devices=1)
    found = learner.weights(jnp.array([9.0, 4.0]), jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(found, np.array([1, 1 / 3]) / (4 * 0.2), rtol=1e-6)


def test_noise_is_worth_its_gain_in_standard_deviations():
    """The best two of four pairs, (9, 1) and (2, 8): 8 and -6 over the spread of 9, 1, 2, 8."""
    learner = ars.Ars(replace(RANDOM, num_envs=8, elite=0.5), ActionReward, devices=1)
    found = learner.weights(jnp.array([4.0, 9.0, 2.0, 5.0]), jnp.array([3.0, 1.0, 8.0, 6.0]))
    spread = np.std([9, 1, 2, 8])
    np.testing.assert_allclose(found, np.array([0, 8, -6, 0]) / spread / 2, rtol=1e-5)


@pytest.mark.parametrize("learner", [es.Es(TINY, ActionReward, devices=1),
                                     ars.Ars(RANDOM, ActionReward, devices=1)])  # fmt: skip
def test_the_best_action_is_found(learner):
    state, metrics = trained(learner)
    _, action = learner.policy(state).act((), jnp.zeros((1, 1)))
    np.testing.assert_allclose(action, [[0.5]], atol=0.1)
    assert metrics["fitness_best"] >= metrics["fitness"]


def test_a_policy_follows_the_observation():
    learner = es.Es(replace(TINY, episodes=2), ObsActionReward, devices=1)
    state, _ = trained(learner)
    _, action = learner.policy(state).act((), jnp.array([[-1.0], [1.0]]))
    np.testing.assert_allclose(action, [[-0.5], [0.5]], atol=0.1)


def test_choices_are_learned():
    learner = es.Es(replace(TINY, policy_hidden=(8,)), ChoiceReward, devices=1)
    state, _ = trained(learner)
    assert learner.policy(state).act((), jnp.array([[-1.0], [1.0]]))[1].tolist() == [2, 0]


def test_an_episode_counts_once():
    """Episodes of two steps return 1; three steps of each world are no more."""
    learner = es.Es(replace(TINY, unroll_length=3, updates_per_call=1), LateReward, devices=1)
    _, metrics = trained(learner)
    assert metrics["fitness"] == 1.0


def test_pairs_take_away_what_their_others_add():
    """The mean of a member's parameters and its other's is the policy's."""
    learner = es.Es(replace(TINY, num_envs=4), ActionReward, devices=1)
    state = learner.init(jax.random.key(0))
    noise = sharding.spmd(lambda s: learner._noise(s, s.key), learner.devices)(state)
    assert noise.shape == (1, 2, ravel_pytree(sharding.first(state.params))[0].size)
    assert not np.allclose(noise[0, 0], noise[0, 1])


def test_the_devices_do_not_matter():
    config, states = replace(TINY, updates_per_call=3), []
    for devices in (1, 2):
        state, _ = trained(es.Es(config, ObsActionReward, devices=devices))
        states.append(ravel_pytree(sharding.first(state.params))[0])
    np.testing.assert_allclose(*states, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="num_envs is 12, needs to be a multiple of 8: pairs"):
        replace(TINY, num_envs=12, episodes=2).check(2)


@pytest.mark.parametrize("name", ["es", pytest.param("ars", marks=pytest.mark.slow)])
def test_it_trains_resumes_and_plays(name, tmp_path: Path):
    folder = tmp_path / "run"
    flags = f"--learner {name} --env hopper --num-envs 8 --unroll-length 10 --eval-envs 4" \
            " --evaluations 1 --episode-length 20"  # fmt: skip
    assert train.main([*flags.split(), "--total-steps", "160", "--out", str(folder)]) == 0
    assert train.main(["--resume", str(folder), "--total-steps", "320"]) == 0
    assert play.main([str(folder), "--episodes", "2"]) == 0
