"""Nothing is lost and nothing needs a hand: what goes wrong around a run, and how it goes on."""

import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import jax
import pytest

from gpusim import config, train
from gpusim.run import archive, files, training
from gpusim.run.sinks import Row
from tests.run.test_training import (
    CALL,
    ROOT,
    Quiet,
    final_state,
    flags,
    python,
    rows,
    run,
    whole,  # noqa: F401  a fixture
)

ALWAYS = ["--checkpoint-seconds", "0", "--keep-checkpoints", "9"]


class Doing(Quiet):
    """A display that does something when the run is somewhere, and remembers what it was told."""

    def __init__(self, **at):
        super().__init__()
        self.do = {int(steps.strip("_")): what for steps, what in at.items()}
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)

    def write(self, row: Row) -> None:
        self.do.get(row.steps // CALL, lambda: None)()


def go(folder: Path, calls: int, *more: str, display: Quiet, resume: bool = False) -> training.Run:
    command = config.parse(flags(None, calls, *more))
    return training.train(command.train, folder, resume=resume, display=display)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run of six calls, stopped after three, with a checkpoint of each."""
    run(tmp_path / "run", 6, *ALWAYS, at=3 * CALL)
    return tmp_path / "run"


def checkpoints(folder: Path) -> list[int]:
    return [int(path.stem) // CALL for path in archive.checkpoints(folder / "checkpoints")]


# ---- one command, given again and again


def test_one_command_starts_goes_on_and_is_done(
    tmp_path: Path,
    whole: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
):
    command = [*flags(tmp_path / "run", 6), "--resume", "auto"]
    run(tmp_path / "run", 6, at=2 * CALL)
    assert train.main(command) == 0
    assert rows(tmp_path / "run") == rows(whole)
    assert final_state(tmp_path / "run") == final_state(whole)
    capsys.readouterr()
    assert train.main(command) == 0
    assert "is complete: 384 steps" in capsys.readouterr().out
    assert train.main([*command, "--seed", "1"]) == 2
    assert "was begun with seed 0, which cannot become 1" in capsys.readouterr().err
    assert train.main([*flags(None, 6), "--resume", "auto"]) == 2
    assert "--resume auto needs --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--seed", "7"], "seed 0"),
        (["--restore", "other"], "restore None"),
        (["--unroll-length", "8"], "unroll_length 4"),
        (["--num-envs", "16"], "num_envs 8"),
        (["--env", "ant"], "env hopper"),
        (["--env.reset-noise-scale", "0.1"], "env_options {}"),
        (["--learner", "reinforce"], "the learner ppo, not reinforce"),
        (["--no-anneal"], "anneal True"),
    ],
)
def test_what_makes_a_run_cannot_change(whole: Path, change: list[str], named: str):  # noqa: F811
    with pytest.raises(config.ConfigError, match="was begun with") as error:
        config.parse(["--resume", str(whole), "--total-steps", "999", *change])
    assert named in str(error.value)


def test_what_may_change_does(whole: Path):  # noqa: F811
    more = ["--learner", "ppo", "--learning-rate", "1e-5", "--evaluations", "3"]
    command = config.parse(["--resume", str(whole), *more])
    assert (command.train.evaluations, command.train.seed) == (3, 0)


def test_a_run_that_saved_nothing_starts_again(tmp_path: Path, whole: Path):  # noqa: F811
    """As after a kill before the first checkpoint, in the middle of a write."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("*.npz", "summary.json"))
    (folder / ".report.html.123.part").write_text("half")
    command = config.parse(flags(folder, 6))
    training.train(command.train, folder, display=Quiet())
    assert rows(folder) == rows(whole)
    assert len(list(folder.glob("events.*"))) == 1
    assert not list(folder.glob(".*"))


def test_the_best_of_a_run_that_saved_nothing_is_not_the_next_one_s(tmp_path: Path):
    go(tmp_path, 1, display=Quiet())
    for path in archive.checkpoints(tmp_path / "checkpoints"):
        path.unlink()
    best = tmp_path / "checkpoints" / archive.BEST
    assert best.exists()
    go(tmp_path, 1, "--evaluations", "0", display=Quiet())
    assert not best.exists()


@pytest.mark.parametrize("stray", ["notes.txt", "checkpoints/000000000064.npz"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, stray: str):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / stray).write_text("mine")
    assert train.main(flags(tmp_path, 6)) == 2
    assert (tmp_path / stray).read_text() == "mine"


def test_two_processes_cannot_have_one_folder(begun: Path, capsys: pytest.CaptureFixture[str]):
    with files.locked(begun):
        assert train.main(["--resume", str(begun)]) == 2
    assert f"{begun} is in use by another process" in capsys.readouterr().err
    assert train.main(["--resume", str(begun)]) == 0


def test_csv_resumes_and_listeners_hear_every_row(tmp_path: Path):
    class Listener:
        heard: list[int] = []  # noqa: RUF012

        def write(self, row: Row) -> None:
            self.heard.append(row.steps // CALL)

        def close(self) -> None:
            self.heard.append(-1)

    command = config.parse(flags(None, 3, "--csv", *ALWAYS)).train
    training.train(command, tmp_path / "run", display=Quiet(2 * CALL), listeners=[Listener()])
    assert Listener.heard == [1, 2, -1]
    again = config.resumed(tmp_path / "run")
    training.train(again, tmp_path / "run", resume=True, display=Quiet())
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["steps", "64", "128", "192"]


def test_a_run_goes_on_where_there_are_fewer_devices(begun: Path):
    display = Doing()
    done = go(begun, 6, *ALWAYS, "--devices", "1", display=display, resume=True)
    assert done.steps == 6 * CALL
    assert any("was on 2 devices and goes on on 1" in line for line in display.said)
    assert [row["steps"] for row in rows(begun)] == [CALL * k for k in range(1, 7)]


# ---- what is damaged


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_the_newest_sound_checkpoint_is_taken(begun: Path, whole: Path, damage: str):  # noqa: F811
    newest = begun / "checkpoints" / f"{3 * CALL:012d}.npz"
    bad = bytearray(newest.read_bytes())
    largest = max(archive.read(newest).members.values(), key=lambda x: x.nbytes)
    bad[bad.index(largest.tobytes()) + largest.nbytes // 2] ^= 4
    newest.write_bytes({"cut": bad[:-9], "flip": bad, "empty": b"", "text": b"hello"}[damage])
    (begun / "checkpoints" / "999.npz").write_text("stray")
    display = Doing()
    assert go(begun, 6, *ALWAYS, display=display, resume=True).steps == 6 * CALL
    assert any("cannot be read" in x and "the one before it is taken" in x for x in display.said)
    assert checkpoints(begun) == [1, 2, 3, 4, 5, 6]
    assert rows(begun) == rows(whole)
    assert final_state(begun) == final_state(whole)
    assert newest.with_suffix(".npz.damaged").exists()


def test_a_checkpoint_under_another_s_name_is_not_the_newest(begun: Path, whole: Path):  # noqa: F811
    first, last = (begun / "checkpoints" / f"{k * CALL:012d}.npz" for k in (1, 5))
    shutil.copy(first, last)
    display = Doing()
    assert go(begun, 6, *ALWAYS, display=display, resume=True).steps == 6 * CALL
    assert any("is of 64 steps, not of its name's; the one before" in x for x in display.said)
    assert rows(begun) == rows(whole)


@pytest.mark.parametrize("file", ["config.yaml", "labels.json"])
def test_a_file_that_somebody_breaks_meanwhile_ends_no_training(tmp_path: Path, file: str):
    """The report is made of it."""
    folder = tmp_path / "run"
    display = Doing(_1=lambda: (folder / file).write_bytes(b"\xff: ["))
    assert go(folder, 4, "--evaluations", "4", display=display).steps == 4 * CALL
    assert any("Report cannot be written" in x and file in x for x in display.said)


@pytest.mark.parametrize("text", [None, "", "seed: 9\n", "env: [", 0.5])
def test_a_configuration_that_is_cut_short_is_not_trusted(begun: Path, text: str | float | None):
    file = begun / "config.yaml"
    before = config.resumed(begun)
    if text is None:
        file.unlink()
    else:
        old = file.read_text()
        file.write_text(text if isinstance(text, str) else old[: int(text * len(old))])
    assert config.resumed(begun) == before


def test_a_configuration_cut_in_its_last_word_is_refused(begun: Path):
    file = begun / "config.yaml"
    file.write_text(file.read_text()[:-2])
    with pytest.raises(config.ConfigError, match="ends in the middle of a line; delete it"):
        config.resumed(begun)


# ---- what happens on the way


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signals_that_stop(tmp_path: Path, number: int):
    done = run(tmp_path / "run", 6, at=CALL, number=number)
    assert (done.interrupted_by, done.steps) == (number, CALL)
    assert checkpoints(tmp_path / "run") == [1]


def test_a_signal_that_saves(tmp_path: Path, whole: Path):  # noqa: F811
    more = ["--keep-checkpoints", "9"]
    done = run(tmp_path / "run", 6, *more, at=2 * CALL, number=signal.SIGUSR1)
    assert (done.interrupted_by, done.steps) == (0, 6 * CALL)
    assert checkpoints(tmp_path / "run") == [1, 2, 6]
    assert rows(tmp_path / "run") == rows(whole)


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path, whole: Path):  # noqa: F811
    """Between the second and the fourth call no file can grow; then somebody makes room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda size: lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    display = Doing(_2=limit(100), _4=limit(soft))
    try:
        done = go(tmp_path / "run", 6, *ALWAYS, display=display)
    finally:
        limit(soft)()
    assert done.steps == 6 * CALL
    assert rows(tmp_path / "run") == rows(whole)
    assert final_state(tmp_path / "run") == final_state(whole)
    told = [line for line in display.said if "training goes on" in line]
    assert any("a checkpoint cannot be written" in line for line in told)
    assert any("JsonLines cannot be written" in line for line in told)
    assert len(told) < 6
    assert not list((tmp_path / "run").rglob(".*.part"))


def test_a_disk_that_stays_full_ends_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    display = Doing(_1=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard)))
    monkeypatch.setattr(training.sinks, "Terminal", lambda *_: display)
    try:
        assert train.main(flags(tmp_path / "run", 2)) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert "checkpoints: the last checkpoint cannot be written (File too large); of " in error
    assert error.rstrip().endswith("nothing is saved")
    assert error.count("\n") == 1


def test_a_folder_that_is_deleted_is_made_anew(tmp_path: Path, whole: Path):  # noqa: F811
    folder = tmp_path / "run"
    display = Doing(_2=lambda: shutil.rmtree(folder))
    assert go(folder, 6, display=display).steps == 6 * CALL
    assert final_state(folder) == final_state(whole)
    assert any("was deleted, and is made anew" in line for line in display.said)
    assert config.resumed(folder).seed == 0
    assert rows(folder) == rows(whole)[2:]


def test_an_error_nobody_foresaw_loses_nothing(tmp_path: Path, whole: Path):  # noqa: F811
    def fail():
        raise RuntimeError("the display burns")

    folder = tmp_path / "run"
    display = Doing(_3=fail)
    with pytest.raises(RuntimeError, match="burns"):
        go(folder, 6, display=display)
    assert checkpoints(folder) == [1, 3]
    go(folder, 6, display=Quiet(), resume=True)
    assert rows(folder) == rows(whole)
    assert final_state(folder) == final_state(whole)


def test_a_reader_who_leaves_ends_nothing(tmp_path: Path):
    folder = tmp_path / "run"
    started = subprocess.Popen(
        python(*flags(folder, 2)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout
    started.stdout.readline()
    started.stdout.close()
    assert started.wait(timeout=120) == 0, started.stderr
    assert json.loads((folder / "summary.json").read_text())["steps"] == 2 * CALL


def test_a_place_that_cannot_be_written_is_told_before_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(os, "access", lambda *_: False)  # for root everything can be written
    assert train.main(flags(tmp_path / "a" / "b", 2)) == 2
    assert f"{tmp_path} cannot be written to" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    assert train.main(flags(tmp_path / "file", 2)) == 2
    assert "is a file" in capsys.readouterr().err


def test_programs_that_others_could_have_written_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("GPUSIM_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    (tmp_path / "xla").mkdir(mode=0o700)
    (tmp_path / "xla" / "program").touch()
    (tmp_path / "xla" / "program").chmod(0o666)
    try:
        with pytest.warns(UserWarning, match="program can be written by others"):
            run(tmp_path / "a", 1)
        assert jax.config.values["jax_compilation_cache_dir"] != str(tmp_path / "xla")
        (tmp_path / "xla" / "program").unlink()
        run(tmp_path / "b", 1)
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
