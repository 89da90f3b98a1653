"""gpusim.train and gpusim.play called from Python: what the commands do."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpusim
from gpusim import config, play, train
from gpusim.config import ConfigError
from gpusim.run import archive, sinks
from gpusim.run.summary import Run

SMALL = {
    "num_envs": 8,
    "unroll_length": 4,
    "num_minibatches": 2,
    "num_epochs": 1,
    "updates_per_call": 2,
    "policy_hidden": (8,),
    "value_hidden": (8,),
    "evaluations": 1,
    "eval_envs": 4,
    "episode_length": 20,
    "tensorboard": False,
}


class Collector:
    """A sink that keeps what it is told."""

    def __init__(self):
        self.rows, self.closed = [], False

    def write(self, row: sinks.Row) -> None:
        self.rows.append(row)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(the run, steps that a function was told, a sink)."""
    out, steps, sink = tmp_path_factory.mktemp("runs") / "hops", [], Collector()
    callbacks = [lambda row: steps.append(row.steps), sink]
    run = gpusim.train("hopper", total_steps=256.0, out=out, callbacks=callbacks, **SMALL)
    return run, steps, sink


def test_a_run_is_what_the_command_makes(trained):
    run, *_ = trained
    argv = [f"--{name}={x}" for name, x in SMALL.items() if not isinstance(x, tuple)]
    argv += ["--hidden", "8", "--env", "hopper", "--steps", "256"]
    said = config.to_yaml(config.parse(argv).train)
    assert (Path(run) / "config.yaml").read_text() == said
    assert json.loads((Path(run) / "summary.json").read_text())["steps"] == run.steps == 256


def test_a_complete_run_that_is_resumed_is_what_it_was(trained, capsys):
    run, *_ = trained
    assert gpusim.train("hopper", total_steps=256, resume="auto", out=run.folder, **SMALL) == run
    assert "is complete: 256 steps" in capsys.readouterr().out


def test_callbacks_hear_every_row(trained):
    _, steps, sink = trained
    assert steps == [row.steps for row in sink.rows] == [64, 128, 192, 256]
    assert "evaluation_return" in sink.rows[-1].values
    assert sink.closed


def test_a_run_is_told_in_a_line_and_stands_for_its_folder(trained):
    run, *_ = trained
    reached = f"{run.evaluation['evaluation_return']:,.0f}"
    assert repr(run).startswith(f"<run {run.folder}: hopper, 256 steps, return {reached} ± ")
    none = Run("runs/x", "ant", 1500, 2, False, "", {}, None, {}, {})
    assert repr(none) == "<run runs/x: ant, 1.5k steps, interrupted>"


def test_play_is_what_the_command_plays(trained, capsys):
    run, *_ = trained
    played = gpusim.play(run, episodes=4)
    assert play.main([run.folder, "--episodes", "4"]) == 0
    assert capsys.readouterr().out.startswith(played.text())
    np.testing.assert_allclose(
        played.episodes.total.mean(), run.evaluation["evaluation_return"], rtol=1e-4
    )
    assert repr(played).startswith("<hopper, 4 episodes of ")
    assert "<iframe" in (played._repr_html_() or "")
    there = played.in_mujoco().episodes
    np.testing.assert_allclose(there.watched.pose[0], played.episodes.watched.pose[0], atol=1e-6)
    np.testing.assert_allclose(there.watched.pose[3], played.episodes.watched.pose[3], atol=1e-3)
    other = gpusim.play(run, episodes=4, seed=1, env_options={"reset_noise_scale": 0.0})
    assert np.ptp(np.asarray(other.episodes.watched.pose[0]), axis=0).max() == 0
    with pytest.raises(ConfigError, match="episodes is 0"):
        gpusim.play(run, episodes=0)
    with pytest.raises(ValueError, match="holds no checkpoint 0; there are: 64, 256"):
        gpusim.play(run, checkpoint=0)


def test_a_run_goes_on(trained):
    run, *_ = trained
    more = gpusim.train(resume=run, total_steps=320)
    assert (more.folder, more.steps) == (run.folder, 320)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_exception_in_a_callback_saves_the_run(tmp_path, error):
    def callback(row):
        if row.steps == 128:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        gpusim.train("hopper", total_steps=256, out=tmp_path, callbacks=[callback], **SMALL)
    assert [int(path.stem) for path in archive.checkpoints(tmp_path / "checkpoints")] == [64, 128]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"callbacks": [3]}, "callbacks: 3 is neither a function nor an object with write"),
        ({"callbacks": print}, "callbacks: expected a list of functions, found <built-in"),
        ({"callbacks": None}, "callbacks: expected a list of functions, found None"),
        ({"env_options": [1]}, r"env_options: expected names and values, found \[1\]"),
    ],
)
def test_what_is_no_callback_nor_option_is_one_line(tmp_path, said, expected):
    with pytest.raises(ConfigError, match=expected):
        gpusim.train("hopper", out=tmp_path / "run", **said, **SMALL)
    assert not (tmp_path / "run").exists()


def test_mistakes_are_those_of_the_command():
    with pytest.raises(ConfigError, match=r"--num-env: there is no such flag; .*--num-envs"):
        gpusim.train("hopper", num_env=3)
    with pytest.raises(ConfigError, match=r"--env.nose: hopper has no such option"):
        gpusim.train("hopper", env_options={"nose": 3})
    with pytest.raises(ConfigError, match="--seed: 'x' is not a number"):
        gpusim.train("hopper", seed="x")
    with pytest.raises(ConfigError, match="--dry-run prints"):
        gpusim.train("hopper", dry_run=True)


def test_the_modules_are_called_however_they_were_imported():
    assert train is gpusim.train is sys.modules["gpusim.train"]
    assert list(inspect.signature(gpusim.play).parameters)[:2] == ["run", "episodes"]
    code = """if True:
        import gpusim.play
        from gpusim.train import main
        import gpusim
        assert callable(gpusim.train) and callable(gpusim.play) and gpusim.train.main is main
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    command = [sys.executable, "-W", "error", "-m", "gpusim.train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("python -m gpusim.train --env ENV")
    assert done.stderr == ""
