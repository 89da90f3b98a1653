"""Behaviour cloning: episodes in files, and a policy that does what they show."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import ChoiceReward, ObsActionReward

from gpusim import config, play, train
from gpusim.agents import dataset
from gpusim.agents.bc import Cloning, Config
from gpusim.config.files import same_run

TINY = Config(num_envs=64, updates_per_call=400, total_steps=40 * 400 * 64, policy_hidden=(16,))


def episodes(action: np.ndarray, obs: np.ndarray) -> dataset.Dataset:
    """Two of them, of which the second earned more."""
    half = len(obs) // 2
    reward = np.repeat([0.0, 1.0], [half, len(obs) - half])
    return dataset.Dataset(
        obs, action, reward, np.array([half, len(obs) - half]), np.zeros(2, bool)
    )


def seen(count: int) -> np.ndarray:
    return np.random.default_rng(0).choice([-1.0, 1.0], (count, 1)).astype(np.float32)


def cloned(path: Path, env, data: dataset.Dataset, **changes):
    dataset.write(path, data)
    learner = Cloning(replace(TINY, dataset=str(path), **changes), env, devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    return learner, state, report


def test_it_does_what_was_done(tmp_path: Path):
    obs = seen(100)
    learner, state, report = cloned(tmp_path / "x.npz", ObsActionReward, episodes(0.3 * obs, obs))
    _, action = learner.policy(state).act((), jnp.array([[1.0], [-1.0]]))
    np.testing.assert_allclose(action, [[0.3], [-0.3]], atol=0.02)
    assert report.metrics["error"] < 1e-2


def test_it_learns_from_good_episodes_only(tmp_path: Path):
    obs = seen(100)
    action = np.where(np.arange(100)[:, None] < 50, -0.8, 0.5).astype(np.float32)
    learner, state, _ = cloned(
        tmp_path / "x.npz", ObsActionReward, episodes(action, obs), min_return=10.0
    )
    np.testing.assert_allclose(
        learner.policy(state).act((), jnp.ones((1, 1)))[1], [[0.5]], atol=0.02
    )


def test_choices_are_cloned(tmp_path: Path):
    size = jax.eval_shape(ChoiceReward.start, jax.random.key(0)).obs.shape
    obs = np.zeros((60, *size), np.float32)
    action = np.full(60, 1, np.int32)
    learner, state, _ = cloned(tmp_path / "x.npz", ChoiceReward, episodes(action, obs))
    _, choice = learner.policy(state).act((), jnp.asarray(obs[:2]))
    np.testing.assert_array_equal(choice, [1, 1])


def test_a_file_keeps_what_was_written(tmp_path: Path):
    obs = {"a": np.arange(6.0).reshape(3, 2), "privileged": np.zeros((3, 1))}
    data = dataset.Dataset(
        obs, np.ones((3, 2)), np.array([1.0, 2.0, 4.0]), np.array([2, 1]), np.array([True, False])
    )
    dataset.write(tmp_path / "x.npz", data)
    again = dataset.read(tmp_path / "x.npz")
    jax.tree.map(np.testing.assert_array_equal, tuple(again), tuple(data))
    np.testing.assert_array_equal(again.returns, [3.0, 4.0])
    better = again.better_than(3.5)
    np.testing.assert_array_equal(better.obs["a"], [[4.0, 5.0]])
    np.testing.assert_array_equal(better.length, [1])


def test_other_files_are_refused_in_a_line(tmp_path: Path):
    path = tmp_path / "x.npz"
    with pytest.raises(ValueError, match="there is no file"):
        dataset.read(path)
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="cannot be read"):
        dataset.read(path)
    np.savez(path, obs=np.zeros(3))
    with pytest.raises(ValueError, match="holds no episodes"):
        dataset.read(path)
    obs = seen(10)
    data = episodes(obs, obs)
    dataset.write(path, data._replace(length=np.array([5, 6])))
    with pytest.raises(ValueError, match="has 10 rows, its episodes 11 steps"):
        dataset.read(path)
    with pytest.raises(ValueError, match="no episode of it earned 99"):
        cloned(path, ObsActionReward, data, min_return=99.0)
    with pytest.raises(ValueError, match="are not those of"):
        cloned(path, ObsActionReward, episodes(obs, np.zeros((10, 3), np.float32)))
    with pytest.raises(ValueError, match="say which, --dataset FILE"):
        TINY.check(1)
    for wrong, expected in (
        ({"action": 17 * obs}, r"actions are from -17 to 17, and those of .* are in \[-1, 1\]"),
        (
            {"obs": np.where(np.arange(10)[:, None] == 3, np.nan, obs)},
            "obs is not of finite numbers",
        ),
        ({"reward": np.full(10, np.nan)}, "reward is not of finite numbers throughout"),
        ({"length": np.array([-5, 15])}, "length is not a whole number of steps, 1 at least"),
        ({"length": np.array([5.0, 5.0])}, "length is not a whole number of steps, 1 at least"),
    ):
        with pytest.raises(ValueError, match=expected):
            cloned(path, ObsActionReward, data._replace(**wrong))
    several = np.zeros((10, *jax.eval_shape(ChoiceReward.start, jax.random.key(0)).obs.shape))
    for choices in (np.full(10, 7), np.full(10, 0.5)):
        with pytest.raises(ValueError, match="are whole numbers from 0 to "):
            cloned(path, ChoiceReward, episodes(choices, several))


def test_what_a_run_did_is_kept_and_cloned(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = "--env CartPole-v1 --num-envs 64 --total-steps 8192 --evaluations 1 --eval-envs 8"
    run, file = tmp_path / "run", tmp_path / "new" / "good.npz"
    assert train.main([*words.split(), "--out", str(run)]) == 0
    assert play.main([str(run), "--episodes", "16", "--save", str(file)]) == 0
    assert "holds 16 to learn from" in capsys.readouterr().out
    data = dataset.read(file)
    assert data.obs.shape == (data.length.sum(), 4)
    np.testing.assert_allclose(data.returns, data.length)  # CartPole pays 1 a step
    more = ["--learner", "bc", "--dataset", str(file), "--total-steps", "65536"]
    clone = tmp_path / "clone"
    say = ["--env", "CartPole-v1", *more, "--evaluations", "1", "--out", str(clone)]
    assert train.main(say) == 0
    assert play.main([str(run), "--save", str(file), "--min-return", "1e9"]) == 2
    assert "the best episode earned" in capsys.readouterr().err
    moved = file.rename(tmp_path / "moved.npz")  # a policy acts without what it learned from
    ours, theirs = (gpusim_play(folder) for folder in (clone, run))
    assert abs(ours - theirs) < 0.3 * theirs
    more = ["--resume", str(clone), "--steps", "131072"]
    assert train.main(more) == 2
    assert f"there is no file {file}" in capsys.readouterr().err
    before = config.merge([clone / "config.yaml"])
    now = replace(before, learner=replace(before.learner, dataset=str(moved)))
    same_run(clone, before, now)  # which may be told where it is now


def gpusim_play(folder: Path) -> float:
    return float(np.mean(play.play(folder, episodes=64).episodes.total))
