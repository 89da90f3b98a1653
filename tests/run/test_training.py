"""gpusim.train and gpusim.run, end to end on a real environment at tiny sizes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from gpusim import config, play, train
from gpusim.checkpoint import main as checkpoint_main
from gpusim.metrics import MOMENTARY
from gpusim.report import replay
from gpusim.run import archive, clock, memory, summary, training
from gpusim.run.job import prepare
from gpusim.run.sinks import Row

ROOT = Path(__file__).parents[2]
CALL = 64  # environment steps of one call
SMALL = (
    "--env hopper --num-envs 8 --unroll-length 4 --num-minibatches 2 --num-epochs 1"
    " --updates-per-call 2 --policy-hidden 8 --value-hidden 8 --evaluations 2 --eval-envs 4"
    " --episode-length 20 --checkpoint-seconds 1e9"
).split()


def flags(folder: Path | None, calls: int, *more: str) -> list[str]:
    out = ["--out", str(folder)] if folder else []
    return [*SMALL, "--total-steps", str(calls * CALL), *out, *more]


def rows(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what is of the moment."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [{k: v for k, v in row.items() if k not in MOMENTARY} for row in found]


def final_state(folder: Path) -> dict[str, bytes]:
    """The newest checkpoint, bit by bit."""
    _, found = archive.newest(folder / "checkpoints")
    return {name: data.tobytes() for name, data in found.members.items()}


class Quiet:
    """A display that shows nothing, and sends this process a signal when the run is somewhere."""

    def __init__(self, at: int = -1, number: int = signal.SIGINT, times: int = 1):
        self.at, self.number, self.times = at, number, times

    def message(self, text: str) -> None: ...
    def close(self) -> None: ...

    def stage(self, text: str) -> None:
        if text.startswith("compiling training"):
            self.somewhere(0)

    def write(self, row: Row) -> None:
        self.somewhere(row.steps)

    def somewhere(self, steps: int) -> None:
        if steps == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


def run(folder: Path, calls: int, *more: str, at: int = -1, **quiet: int) -> training.Run:
    command = config.parse(flags(None, calls, *more))
    resume = folder.exists()
    return training.train(command.train, folder, resume=resume, display=Quiet(at, **quiet))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of six calls."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(folder, 6).interrupted_by == 0
    return folder


def test_the_command_leaves_a_complete_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path
):
    folder = tmp_path / "run"
    assert train.main(flags(folder, 6)) == 0
    out = capsys.readouterr().out
    assert "8 worlds on cpu:0, cpu:1" in out
    assert f"python -m gpusim.play {folder}" in out
    assert re.search(r"hopper, evaluated: return [\d,]+ ± [\d,]+, episode length \d+", out)

    assert out.splitlines()[-1].endswith(str(folder / "report.html"))
    names = {path.name.split(".")[0] for path in folder.iterdir()}
    assert names == {
        *("config", "labels", "metrics", "summary", "checkpoints", "events", "report", "replay"),
        "heartbeat",
    }
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "384 steps" in replay.read(page)["title"]
    assert "data-live" not in page
    found = rows(folder)
    assert [row["steps"] for row in found] == [CALL * i for i in range(1, 7)]
    evaluated = [row["steps"] for row in found if "evaluation_return" in row]
    assert evaluated == [3 * CALL, 6 * CALL]
    assert found == rows(whole), "the same configuration is the same run"

    assert 0 <= found[-1]["terminated"] <= 1
    assert 0.01 < json.loads((folder / "metrics.jsonl").open().readline())["memory"] < 999
    assert found[-1]["evaluation_min"] <= found[-1]["evaluation_return"]
    assert found[0].keys() > {"world/reward_forward", "world/x_position", "diverged_worlds"}
    beat = json.loads((folder / "heartbeat.json").read_text())
    assert (beat["steps"], beat["pid"]) == (6 * CALL, os.getpid())

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["ended"] == "all steps are made"
    assert any(text.startswith("jax 0.") for text in summary["machine"]["versions"])
    assert summary["evaluation"]["evaluation_return"] == found[-1]["evaluation_return"]
    assert 0 < summary["first_update_seconds"] < sum(summary["seconds"].values())
    assert min(summary["seconds"].values()) >= 0
    split = {"import", "compile", "physics, rollout and learning", "evaluation"}
    assert split < summary["seconds"].keys()


def test_evaluations_come_every_so_many_steps(tmp_path: Path):
    run(tmp_path / "run", 5, "--evaluation-steps", str(2 * CALL))
    found = rows(tmp_path / "run")
    evaluated = [row["steps"] // CALL for row in found if "evaluation_return" in row]
    assert evaluated == [2, 4, 5]


def test_a_profile_splits_training(tmp_path: Path):
    seconds = run(tmp_path / "run", 2, "--profile").seconds
    assert {"physics and rollout", "learning", "timing rollouts"} < seconds.keys()
    assert min(seconds.values()) >= 0


def test_the_report_is_there_while_training(tmp_path: Path):
    folder, seen = tmp_path / "run", []

    class Watching(Quiet):
        def write(self, row: Row) -> None:
            seen.append((folder / "report.html").read_text(encoding="utf-8"))

    command = config.parse(flags(None, 6))
    training.train(command.train, folder, display=Watching())
    assert all("data-live" in page for page in seen)
    shown = [replay.data_of(page) != "" for page in seen]
    assert shown == [False, False, True, True, True, True]  # evaluated after three calls of six


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    steps = ["--steps", str(2 * CALL + 1)]
    assert train.main([*flags(tmp_path / "run", 2), *steps, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "129 environment steps (192, as whole calls of 64)" in said
    assert "2 updates a call, 3 calls" in said
    assert re.search(r"world +\d+ observations?, \d+ actions?, ", said)
    assert re.search(r"memory +\d+ MiB on each of 2 device", said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("cut", "length"), [("3", 3), ("30", 20), ("None", 20)])
def test_training_episodes_may_be_cut(tmp_path: Path, cut: str, length: int):
    """But not made longer than the run's time limit, which is 20."""
    command = config.parse(flags(None, 1, f"--training-episode-length={cut}"))
    job = prepare(command.train, tmp_path, False, clock.Phases())
    assert job.learner.worlds.episode_length == length


def test_nothing_in_a_run_folder_is_a_pickle(whole: Path):
    for path in (path for path in whole.rglob("*") if path.is_file()):
        assert path.suffix in {".yaml", ".json", ".jsonl", ".npz", ".html"} or "events" in path.name
        assert not path.name.endswith(".part")
        assert path.read_bytes()[:1] != b"\x80"
    assert final_state(whole)


def test_the_configuration_of_a_run_repeats_it(tmp_path: Path, whole: Path):
    assert train.main(["--config", str(whole / "config.yaml"), "--out", str(tmp_path / "b")]) == 0
    assert rows(tmp_path / "b") == rows(whole)
    assert final_state(tmp_path / "b") == final_state(whole)


def test_another_seed_is_another_run(tmp_path: Path, whole: Path):
    run(tmp_path / "b", 6, "--seed", "1", at=CALL)
    assert rows(tmp_path / "b")[0]["policy_loss"] != rows(whole)[0]["policy_loss"]


@pytest.mark.parametrize(
    ("number", "calls"), [(signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGINT, 0)]
)
def test_an_interrupted_and_resumed_run_is_the_uninterrupted_one(
    tmp_path: Path, whole: Path, number: int, calls: int
):
    folder = tmp_path / "run"
    first = run(folder, 6, at=calls * CALL, number=number)
    assert (first.interrupted_by, first.steps) == (number, calls * CALL)
    assert len(rows(folder)) == calls
    second = run(folder, 6)
    assert (second.interrupted_by, second.steps) == (0, 6 * CALL)
    assert rows(folder) == rows(whole)
    assert final_state(folder) == final_state(whole)
    seconds = [json.loads(line)["seconds"] for line in (folder / "metrics.jsonl").open()]
    assert seconds == sorted(seconds)


def test_a_run_killed_between_checkpoints_goes_on_from_the_last(tmp_path: Path, whole: Path):
    """As after a power cut: rows are there that no checkpoint covers."""
    folder = tmp_path / "run"
    run(folder, 6, at=2 * CALL)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"steps": 3 * CALL, "seconds": 9, "policy_loss": 9}) + "\n{")
    run(folder, 6)
    assert rows(folder) == rows(whole)


def test_a_second_signal_stops_at_once(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", 6, at=CALL, times=2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_divergence_is_told_and_never_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "run"
    more = ["--learning-rate", "1e38", "--checkpoint-seconds", "0", "--keep-checkpoints", "99"]
    assert train.main(flags(folder, 50, *more, "--max-failures", "0")) == 3
    assert "diverged" in capsys.readouterr().err
    losses = [row["policy_loss"] for row in rows(folder)]
    assert losses[-1] is None
    assert None not in losses[:-1]
    assert len(list((folder / "checkpoints").iterdir())) == len(losses) - 1


@pytest.mark.slow
def test_a_run_that_diverged_goes_back_and_takes_smaller_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Once, in the fourth call: it ends as if nothing had been, but for the learning rate."""
    advance, failed = training._advance, []

    def fails_once(job, here):
        here, values = advance(job, here)
        if here.steps == 4 * CALL and not failed:
            failed.append(here.steps)
            here = here._replace(diverged=True)
        return here, values

    monkeypatch.setattr(training, "_advance", fails_once)
    folder = tmp_path / "run"
    more = ["--learning-rate", "1e-3", "--checkpoint-seconds", "0"]
    assert train.main(flags(folder, 6, *more)) == 0
    assert f"begins again at {3 * CALL:012d}.npz, with a learning rate of 0.0005" in (
        capsys.readouterr().out
    )
    assert [row["steps"] for row in rows(folder)] == [CALL * k for k in range(1, 7)]
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert kept["ppo"]["learning_rate"] == 5e-4


@pytest.mark.slow
def test_a_checkpoint_that_was_saved_too_late_is_put_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """1e38 ruins the parameters in the first call, and nothing is finite from the second on."""
    folder = tmp_path / "run"
    more = ["--learning-rate", "1e38", "--checkpoint-seconds", "0", "--max-failures", "2"]
    assert train.main(flags(folder, 50, *more)) == 3
    said = capsys.readouterr()
    assert f"begins again at {CALL:012d}.npz, with a learning rate of 5e+37" in said.out
    assert "begins again anew, with a learning rate of 2.5e+37" in said.out
    assert "diverged" in said.err
    assert (folder / "checkpoints" / f"{CALL:012d}.npz.diverged").exists()


def test_some_checkpoints_are_kept_for_good(tmp_path: Path):
    folder = tmp_path / "run"
    more = ["--checkpoint-seconds", "999", "--keep-checkpoints", "1"]
    assert train.main(flags(folder, 7, *more, "--archive-steps", str(2 * CALL))) == 0
    kept = sorted(int(p.stem) for p in (folder / "checkpoints").glob("0*.npz"))
    assert kept == [2 * CALL, 4 * CALL, 6 * CALL, 7 * CALL]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--num-envs", "7"], "num_envs=7 cannot be shared by 2 devices"),
        (["--num-minibatches", "3"], "not divisible by num_minibatches=3"),
        (["--devices", "9"], "9 devices asked for"),
        (["--eval-envs", "0"], "eval_envs is 0"),
        (["--stop-return", "nan"], "stop_return is nan"),
        (["--num-envs", "2e9"], "GiB; make less of what takes it: --num-envs 2000000000"),
        (["--eval-envs", "2e9"], "eval_envs is 2000000000: evaluations need more than "),
        (["--num-envs", "8", "--num-seeds", "1_000_000_000"], "--num-seeds 1000000000"),
        (["--conv-filters", "8", "16"], "conv_filters is 8 16, but hopper is seen in numbers"),
        (
            ["--env.camera", "track", "--env.camera-size", "100000", "100000"],
            "pictures of 100000 x 100000 x 9 numbers, 16 of them together, need more than 5,3",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], expected: str
):
    assert train.main(flags(tmp_path / "run", 2, *more)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("gpusim.train: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_lack_of_memory_is_told_in_a_line(tmp_path: Path):
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jax.jit(lambda: jnp.zeros(2**44))())
    said = config.parse(flags(tmp_path / "run", 2)).train
    told = memory.exhausted(caught.value, said)
    assert told is not None
    assert re.fullmatch(r"Out of memory .*; make less of what .*: --num-envs \d+, --unr.*", told)
    assert memory.exhausted(ValueError("RESOURCE_EXHAUSTED: of another kind"), said) is None


def test_a_replay_that_has_no_room_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--env", "hopper", "--learner", "sac", "--replay-size", "2e9"]
    assert train.main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "GiB of it are for what the learner remembers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_refused(whole: Path, capsys: pytest.CaptureFixture[str]):
    before = final_state(whole)
    assert train.main(flags(whole, 2)) == 2
    assert f"--resume {whole}" in capsys.readouterr().err
    assert train.main(["--resume", str(whole)]) == 0
    assert "is complete: 384 steps; a larger --steps" in capsys.readouterr().out
    assert train.main(["--resume", str(whole), "--steps", "9999", "--policy-hidden", "16"]) == 2
    assert "was begun with policy_hidden (8,)" in capsys.readouterr().err
    assert final_state(whole) == before


def python(*argv: str) -> list[str]:
    return [sys.executable, "-m", "gpusim.train", *argv]


@pytest.mark.slow
def test_control_c_prints_the_command_that_resumes(tmp_path: Path):
    folder = tmp_path / "run"
    started = subprocess.Popen(
        python(*flags(folder, 100_000, "--no-anneal")), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.jsonl").exists() or not rows(folder):
            assert started.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        out, _ = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 128 + signal.SIGINT
    command = re.search(r"resume with: \S*python (-m gpusim\.train --resume .*)", out)
    assert command, out
    made = rows(folder)[-1]["steps"]
    assert final_state(folder)
    more = ["--total-steps", str(made + 2 * CALL)]
    done = subprocess.run(
        [sys.executable, *command[1].split(), *more], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [row["steps"] for row in rows(folder)] == [*range(CALL, made + 2 * CALL + 1, CALL)]


def test_the_process_reports_a_mistake_in_one_line_and_quickly():
    start = time.perf_counter()
    done = subprocess.run(python("--env", "humanoyd"), cwd=ROOT, capture_output=True, text=True)
    assert time.perf_counter() - start < 10
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "did you mean 'humanoid'?" in done.stderr


# ---- the end before the last step, the best, and a beginning that is another run's


@pytest.mark.slow
def test_a_run_ends_early_when_told_to(tmp_path: Path):
    done = run(tmp_path / "a", 6, "--max-seconds", "0.001")
    assert (done.steps, done.ended) == (0, "0.001 seconds are over")
    done = run(tmp_path / "updates", 6, "--max-updates", "3")  # a call makes two
    assert (done.steps, done.ended) == (2 * CALL, "4 updates are made")
    done = run(tmp_path / "b", 6, "--evaluations", "6", "--stop-return", "-1e9")
    assert (done.steps, done.evaluation["evaluation_return"] > -1e9) == (CALL, True)
    assert "return of" in done.ended
    still = ["--learning-rate", "1e-30", "--evaluations", "6"]  # evaluations are all the same
    done = run(tmp_path / "c", 6, *still, "--patience", "2")
    assert (done.steps, done.ended[:26]) == (3 * CALL, "2 evaluations brought noth")
    again = run(tmp_path / "c", 6, *still, "--patience", "4")
    assert again.steps == 5 * CALL


def test_the_first_checkpoint_does_not_wait(tmp_path: Path):
    run(tmp_path / "a", 4)
    found = archive.checkpoints(tmp_path / "a" / "checkpoints")
    assert [int(path.stem) for path in found] == [CALL, 4 * CALL]


def test_the_best_is_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "run"
    flags = ["--evaluations", "6", "--keep-checkpoints", "1", "--keep-best", "2"]
    run(folder, 4, *flags)
    run(folder, 6, *flags)  # and goes on
    returns = {row["steps"]: row["evaluation_return"] for row in rows(folder)}
    best = archive.read(folder / "checkpoints" / "best.npz")
    assert best.extra["evaluation"]["evaluation_return"] == max(returns.values())
    assert returns[best.step] == max(returns.values())
    second = sorted(returns, key=lambda steps: (-returns[steps], steps))[:2]
    good = archive.all_good(folder / "checkpoints")
    assert [archive.read(path).step for path in good] == sorted(second)
    assert best.step in second
    assert checkpoint_main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count(" sound") == 4
    assert play.main([str(folder), "--episodes", "4", "--checkpoint", "best"]) == 0
    assert f"return  {max(returns.values()):10,.1f}" in capsys.readouterr().out
    assert play.main([str(folder), "--checkpoint", "77"]) == 2
    there = ", ".join(map(str, sorted({*second, 6 * CALL})))
    assert f"no checkpoint 77; there are: {there}, best" in capsys.readouterr().err
    assert play.main([str(folder), "--episodes", "4", "--checkpoint", str(second[1])]) == 0
    assert f"return  {returns[second[1]]:10,.1f}" in capsys.readouterr().out
    (folder / "checkpoints" / "best.npz").write_bytes(b"")
    assert checkpoint_main([str(folder)]) == 1
    assert checkpoint_main([str(tmp_path)]) == 2


def test_of_equal_evaluations_the_first_are_kept():
    found = ((5.0, 10), (7.0, 20), (7.0, 30), (5.0, 40))
    assert training.best_of(found, 1) == ((7.0, 20),)
    assert training.best_of(found, 3) == ((5.0, 10), (7.0, 30), (7.0, 20))


@pytest.mark.slow
def test_a_run_begins_with_what_another_learned(tmp_path: Path, whole: Path):
    """On one device instead of two, with another number of worlds."""
    more = ["--restore", str(whole), "--learning-rate", "1e-30", "--devices", "1"]
    run(tmp_path / "run", 1, *more, "--num-envs", "16")
    learned, begun = (final_state(folder) for folder in (whole, tmp_path / "run"))
    parts = [name for name in learned if name.startswith("state/params")]
    assert parts
    for name in parts:  # the first of two equal halves
        np.testing.assert_allclose(
            np.frombuffer(learned[name], "f4")[: len(begun[name]) // 4],
            np.frombuffer(begun[name], "f4"),
            rtol=1e-6,
        )
    more += ["--num-envs", "16", "--restore-parts", "value", "statistics"]
    run(tmp_path / "parts", 1, *more)
    only = final_state(tmp_path / "parts")
    for name in parts:
        assert (only[name] == begun[name]) == ("/value/" in name)
    with pytest.raises(config.ConfigError, match=r"no critic in this run; there are: policy, val"):
        run(tmp_path / "other", 1, "--restore", str(whole), "--restore-parts", "critic")
    with pytest.raises(config.ConfigError, match=r"--restore: .* holds no checkpoint"):
        run(tmp_path / "other", 1, "--restore", str(tmp_path / "nowhere"))
    with pytest.raises(config.ConfigError, match=r"--restore: .*params"):
        run(tmp_path / "other", 1, "--restore", str(whole), "--policy-hidden", "16")
    for name, changed in (("activation", "elu"), ("distribution", "clip")):  # it has tanh for both
        with pytest.raises(config.ConfigError, match=f"say --{name} tanh"):
            run(tmp_path / "other", 1, "--restore", str(whole), f"--{name}", changed)
    assert not (tmp_path / "other").exists()


def test_a_checkout_need_not_be_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summary, "PACKAGES", ("no-such-package",))
    assert summary.machine([])["versions"] == ["no-such-package not installed"]
