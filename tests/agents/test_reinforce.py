"""The second learner, on worlds whose answer is known, and behind the same commands."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import ActionReward, ConstantReward, CutShort, LateReward, ObsActionReward, ObsReward

from gpusim import agents, config, play, train
from gpusim.agents import normalize
from gpusim.agents.learner import Learner
from gpusim.agents.reinforce import Config, Reinforce

TINY = Config(
    num_envs=64, unroll_length=8, updates_per_call=400, learning_rate=1e-2, anneal=False,
    discount=0.5, policy_hidden=(16,), value_hidden=(16,),
)  # fmt: skip


@cache
def trained(env):
    learner = Reinforce(TINY, env, devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    return learner, state


def values(env, *observations):
    learner, state = trained(env)
    params, statistics = jax.tree.map(lambda x: x[0], (state.params["value"], state.normalizer))
    obs = normalize.normalize(statistics, jnp.array(observations).T)
    return np.asarray(learner.value_network.apply(params, obs))


def actions(env, *observations):
    learner, state = trained(env)
    return np.asarray(learner.policy(state).act((), jnp.array(observations))[1])[:, 0]


@pytest.mark.slow
def test_values_are_those_of_the_probes():
    np.testing.assert_allclose(values(ConstantReward, [0.0]), [1], atol=0.05)
    np.testing.assert_allclose(values(ObsReward, [-1.0], [1.0]), [-1, 1], atol=0.05)
    np.testing.assert_allclose(values(LateReward, [0.0], [1.0]), [0.5, 1], atol=0.05)
    np.testing.assert_allclose(values(CutShort, [0.0]), [2], atol=0.1)


def test_the_policy_finds_the_best_actions():
    np.testing.assert_allclose(actions(ActionReward, [0.0]), [0.5], atol=0.1)
    np.testing.assert_allclose(actions(ObsActionReward, [-1.0], [1.0]), [-0.5, 0.5], atol=0.1)


def test_it_is_found_by_its_name():
    assert agents.names() == ["apg", "ars", "bc", "dqn", "es", "ppo", "reinforce", "sac", "td3"]
    assert agents.find("reinforce").Learner is Reinforce
    assert issubclass(Reinforce, Learner)
    train = config.parse(["--learner", "reinforce", "--learning-rate", "1e-2"]).train
    assert train.learner == Config(learning_rate=1e-2)
    assert agents.name_of(train.learner) == "reinforce"


def test_two_learners_have_fields_of_the_same_name(tmp_path: Path):
    file = tmp_path / "both.yaml"
    file.write_text("ppo: {learning_rate: 0.1}\nreinforce: {learning_rate: 0.2}")
    for name, rate in (("ppo", 0.1), ("reinforce", 0.2)):
        found: Any = config.parse(["--learner", name, "--config", str(file)]).train.learner
        assert (agents.name_of(found), found.learning_rate) == (name, rate)


@pytest.mark.slow
def test_the_commands_train_resume_and_play_it(tmp_path: Path, capsys):
    folder = tmp_path / "run"
    small = "--env hopper --learner reinforce --num-envs 8 --unroll-length 4 --updates-per-call 2"
    small += " --policy-hidden 8 --value-hidden 8 --evaluations 1 --eval-envs 2 --episode-length 9"
    assert train.main([*small.split(), "--steps", "64", "--out", str(folder)]) == 0
    assert train.main(["--resume", str(folder), "--steps", "128"]) == 0
    assert play.main([str(folder), "--episodes", "2"]) == 0
    assert "return" in capsys.readouterr().out
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert [row["steps"] for row in rows] == [64, 128]
    assert "Policy loss" in (folder / "report.html").read_text()
