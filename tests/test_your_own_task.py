"""docs/your-own-task.md: its code and its commands, as printed; and what a user then does."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim import config, play, train
from gpusim.report import replay
from gpusim.run import archive

PAGE = (Path(__file__).parents[1] / "docs" / "your-own-task.md").read_text()
TASK, MORE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"python -m gpusim\.(\w+) (.*)", PAGE)
SMALL = "--num-envs 16 --unroll-length 4 --num-minibatches 2 --num-epochs 1 --updates-per-call 1"
SMALL += " --steps 128 --evaluations 1 --eval-envs 4 --policy-hidden 8 --value-hidden 8"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with the page's file."""
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "more.py").write_text(MORE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_task", None)


def test_it_is_forty_lines():
    assert len(TASK.splitlines()) <= 42


@pytest.mark.slow
def test_the_commands_as_printed(here: Path, capsys: pytest.CaptureFixture[str]):
    mains = {"train": train.main, "play": play.main}
    assert [name for name, _ in COMMANDS] == ["train", "play"]
    for name, flags in COMMANDS:
        assert mains[name](shlex.split(flags)) == 0
    said = capsys.readouterr().out
    mean = float(re.findall(r"^return +([\d.,]+)", said, re.MULTILINE)[0].replace(",", ""))
    assert mean > 300  # what does nothing falls after 40 steps
    payload = replay.read((here / "runs" / "balance" / "replay.html").read_text(encoding="utf-8"))
    assert len(payload["tracks"]) == 3


def test_train_resume_and_play_build_the_same_world(here: Path, monkeypatch: pytest.MonkeyPatch):
    flags = [*shlex.split(COMMANDS[0][1]), *SMALL.split()]
    assert train.main(flags) == 0
    monkeypatch.chdir("/")
    run = here / "runs" / "balance"
    assert train.main(["--resume", str(run), "--steps", "256"]) == 0
    assert archive.newest(run / "checkpoints")[0].stem.endswith("256")
    player = play.load(run)
    world = player.env
    assert (type(world).__name__, getattr(world, "noise")) == ("Balance", 0.2)  # noqa: B009
    starts = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 64)).carry.physics.qpos
    assert 0.15 < np.abs(starts).max() <= 0.2
    assert play.main([str(run), "--episodes", "2", "--env.noise", "0.3"]) == 0
    assert config.merge([run / "config.yaml"]).env_options == {"noise": 0.2}


def test_a_file_that_is_gone_is_named(here: Path, capsys: pytest.CaptureFixture[str]):
    assert train.main([*shlex.split(COMMANDS[0][1]), *SMALL.split()]) == 0
    (here / "my_task.py").rename(here / "moved.py")
    assert play.main(["runs/balance"]) == 2
    assert "my_task.py" in capsys.readouterr().err
    assert play.main(["runs/balance", "--env", "moved.py:Balance", "--episodes", "2"]) == 0


def test_a_task_with_commands_noise_and_a_critic_that_knows_more(here: Path):
    monkey = [*SMALL.split(), "--out", "run", "--no-tensorboard"]
    assert train.main(["--env", "more.py:FollowGoal", *monkey]) == 0
    env = gpusim.make("more.py:FollowGoal")
    state = env.step(env.reset(jax.random.key(0)), jnp.zeros(1))
    assert {"reward_upright", "reward_goal", "diverged"} == set(state.metrics)
    noise = state.obs["seen"][:4] - state.obs["privileged"]
    assert 0 < np.abs(noise).max() < 0.1


def test_a_world_that_is_no_robot_trains_resumes_evaluates_and_plays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ring = f"{Path(__file__).parent}/envs/ring.py:Ring"
    flags = ["--env", ring, "--env.cars", "4", *SMALL.split(), "--out", str(tmp_path / "run")]
    assert train.main([*flags, "--episode-length", "20"]) == 0
    assert train.main(["--resume", str(tmp_path / "run"), "--steps", "256"]) == 0
    assert play.main([str(tmp_path / "run"), "--episodes", "2"]) == 0
    said = capsys.readouterr().out
    assert "Ring offers no drawing" in said
    assert re.search(r"return +[\d.]+", said)
    assert not (tmp_path / "run" / "replay.html").exists()
