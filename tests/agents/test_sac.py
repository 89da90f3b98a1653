"""SAC on worlds whose answer is known, its replay, and behind the same commands."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import ActionReward, ChoiceReward, ConstantReward, CutShort, LateReward, ObsActionReward

from gpusim import play, train
from gpusim.agents.sac import Config, Sac

TINY = Config(
    num_envs=16, unroll_length=2, updates_per_call=300, num_gradient_steps=4, batch_size=64,
    replay_size=4096, learning_starts=256, learning_rate=3e-3, target_rate=0.05, discount=0.5,
    policy_hidden=(32,), value_hidden=(32,), activation="tanh", initial_temperature=0.1,
)  # fmt: skip


@cache
def trained(env):
    learner = Sac(TINY, env, devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    return learner, state


def values(env, *pairs: tuple[float, float]) -> np.ndarray:
    """What the critics think of (observation, action)."""
    learner, state = trained(env)
    params = jax.tree.map(lambda x: x[0], state.params["value"])
    obs, action = (jnp.array([[p[k] for p in pairs]]) for k in (0, 1))
    mean, variance = (jax.tree.leaves(x)[0][0] for x in state.normalizer[1:])
    seen = (obs - mean) / jnp.sqrt(variance + 1e-6)
    return np.asarray(learner.said(params, seen, action)[:, 0].mean(0))


@pytest.mark.slow
def test_rewards_are_learned():
    np.testing.assert_allclose(values(ConstantReward, (0, 0.1)), 1.0, atol=0.1)
    found = values(ActionReward, (0, 0.5), (0, 0.2))  # near what the policy does in the end
    np.testing.assert_allclose(found, [0.0, -0.09], atol=0.05)


@pytest.mark.slow
def test_returns_are_discounted():
    """V(0) = 0.5 V(1) = 0.5, with little entropy to be paid for."""
    found = values(LateReward, (0, 0.0), (1, 0.0))
    np.testing.assert_allclose(found, [0.5, 1.0], atol=0.2)


@pytest.mark.slow
def test_what_is_cut_short_is_worth_what_would_follow():
    np.testing.assert_allclose(values(CutShort, (0, 0.0)), 2.0, atol=0.4)  # 1 / (1 - 0.5)


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
    _, action = learner.policy(state).act((), jnp.array([[obs]]))
    np.testing.assert_allclose(action, [[best]], atol=0.1)


def test_the_entropy_is_kept_at_its_target():
    """A wide target keeps the temperature up where a narrow one lets it fall."""
    ends = []
    for target in (-3.0, 0.3):
        learner = Sac(replace(TINY, target_entropy=target), ActionReward, devices=1)
        _, report = learner.train_step(learner.init(jax.random.key(0)))
        ends.append(float(report.metrics["temperature"]))
    assert ends[1] > 3 * ends[0]


def test_choices_are_refused():
    with pytest.raises(ValueError, match="sac learns continuous actions"):
        Sac(TINY, ChoiceReward, devices=1)


@pytest.mark.slow
def test_it_trains_resumes_and_plays(tmp_path: Path):
    folder = tmp_path / "run"
    flags = (
        "--learner sac --env hopper --num-envs 8 --replay-size 512 --learning-starts 64"
        " --batch-size 16 --updates-per-call 8 --policy-hidden 8 --value-hidden 8 --eval-envs 4"
        " --evaluations 1 --episode-length 20"
    ).split()
    assert train.main([*flags, "--total-steps", "128", "--out", str(folder)]) == 0
    assert train.main(["--resume", str(folder), "--total-steps", "256"]) == 0
    assert play.main([str(folder), "--episodes", "2"]) == 0
