"""TD3 on worlds whose answer is known, how it explores and how it delays, and its command."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from probes import ActionReward, ChoiceReward, LateReward, ObsActionReward

from gpusim import play, train
from gpusim.agents.td3 import Config, Td3

TINY = Config(
    num_envs=16, unroll_length=2, updates_per_call=300, num_gradient_steps=4, batch_size=64,
    replay_size=4096, learning_starts=256, learning_rate=3e-3, target_rate=0.05, discount=0.5,
    policy_hidden=(32,), value_hidden=(32,), activation="tanh",
)  # fmt: skip


@cache
def trained(env, **changes):
    learner = Td3(replace(TINY, **changes), env, devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    return learner, state


@pytest.mark.parametrize(
    ("env", "obs", "best"),
    [
        (ActionReward, 0.0, 0.5),
        pytest.param(ObsActionReward, 1.0, 0.5, marks=pytest.mark.slow),
        pytest.param(ObsActionReward, -1.0, -0.5, marks=pytest.mark.slow),
    ],
)
def test_the_policy_finds_the_best_action(env, obs, best):
    learner, state = trained(env)
    for key in (None, jax.random.key(0)):  # it is the same whether or not chance is asked for
        _, action = learner.policy(state).act((), jnp.array([[obs]]), key)
        np.testing.assert_allclose(action, [[best]], atol=0.1)


def test_returns_are_discounted():
    learner, state = trained(LateReward)
    params = jax.tree.map(lambda x: x[0], state.params["value"])
    mean, variance = (jax.tree.leaves(x)[0][0] for x in state.normalizer[1:])
    seen = (jnp.array([[0.0, 1.0]]) - mean) / jnp.sqrt(variance + 1e-6)
    value = learner.judged(params, seen, jnp.zeros((1, 2)))
    np.testing.assert_allclose(value, [0.5, 1.0], atol=0.1)


@pytest.mark.parametrize(
    "critic", ["categorical", pytest.param("quantile", marks=pytest.mark.slow)]
)
def test_critics_that_say_more_than_a_number(critic: str):
    """Quantiles are learned more slowly: Huber's loss is flat."""
    changes = {"critic": critic, "critic_outputs": 21, "value_low": -2.0, "value_high": 2.0}
    changes |= {"updates_per_call": 1000} if critic == "quantile" else {}
    learner, state = trained(ObsActionReward, **changes)
    _, action = learner.policy(state).act((), jnp.array([[1.0], [-1.0]]))
    np.testing.assert_allclose(action, [[0.5], [-0.5]], atol=0.15)


def test_noise_may_last():
    """Its size stays 1, and what is left of it after a step is as much as was said."""
    learner = Td3(replace(TINY, exploration_memory=0.8), ActionReward, devices=1)
    fresh = jax.random.normal(jax.random.key(0), (200, 1, 4096))
    memory, seen = learner.nothing_remembered(4096), []
    for noise in fresh:
        memory, noise = learner.stirred(memory, noise)
        seen.append(noise[0])
    last, before = seen[-1], seen[-2]
    np.testing.assert_allclose([last.std(), (last * before).mean()], [1.0, 0.8], atol=0.05)
    np.testing.assert_allclose(seen[0], 0.6 * fresh[0, 0], rtol=1e-6)  # an episode begins without
    plain = Td3(TINY, ActionReward, devices=1)
    np.testing.assert_array_equal(plain.stirred(memory, fresh[0])[1], fresh[0])


def test_worlds_explore_by_noise_of_different_sizes():
    learner, state = trained(ActionReward)
    params = jax.tree.map(lambda x: x[0], state.params)
    noise = jax.random.normal(jax.random.key(0), (1, 10_000))
    spread = lambda place: learner.explore(params, jnp.zeros((1, 10_000)), noise, place).std()
    np.testing.assert_allclose([spread(0.0), spread(0.5)], [0.05, 0.225], rtol=0.05)
    assert jnp.abs(learner.explore(params, jnp.zeros((1, 10_000)), 9 * noise, 1.0)).max() <= 1


def test_the_policy_moves_at_every_other_step():
    changes = {"updates_per_call": 1, "num_gradient_steps": 1, "learning_starts": 0}
    learner = Td3(replace(TINY, **changes), ActionReward, devices=1)
    state, moved = learner.init(jax.random.key(0)), []
    read = lambda state, name: np.asarray(ravel_pytree(state.params[name])[0])
    for _ in range(4):
        before = {name: read(state, name).copy() for name in ("policy", "value")}
        state, _ = learner.train_step(state)
        moved.append([not np.array_equal(before[name], read(state, name)) for name in before])
    assert moved == [[False, True], [True, True], [False, True], [True, True]]


def test_choices_are_refused():
    with pytest.raises(ValueError, match="td3 learns continuous actions"):
        Td3(TINY, ChoiceReward, devices=1)


@pytest.mark.slow  # SAC, which is much the same, is tried always
def test_it_trains_resumes_and_plays(tmp_path: Path):
    folder = tmp_path / "run"
    flags = (
        "--learner td3 --env hopper --num-envs 8 --replay-size 512 --learning-starts 64"
        " --batch-size 16 --updates-per-call 8 --policy-hidden 8 --value-hidden 8 --eval-envs 4"
        " --evaluations 1 --episode-length 20"
    ).split()
    assert train.main([*flags, "--total-steps", "128", "--out", str(folder)]) == 0
    assert train.main(["--resume", str(folder), "--total-steps", "256"]) == 0
    assert play.main([str(folder), "--episodes", "2"]) == 0
