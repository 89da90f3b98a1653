"""gpusim.sweep: what may vary is understood; with Ray, trials run, fail, take over and resume."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from gpusim import sweep
from gpusim.config import ConfigError
from gpusim.parse import flags
from gpusim.run import archive
from tests.run.test_training import CALL, ROOT, SMALL, rows

ray = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")]
SPACE = "learning_rate: {loguniform: [1e-4, 1e-2]}\nnum_epochs: {choice: [1, 2]}\n"

FLAKY = """
from pathlib import Path
from gpusim.envs import registry

class Flaky(registry.world_class("hopper")):
    def __init__(self):
        mark = Path(__file__).with_suffix(".tried")
        if not mark.exists():
            mark.touch()
            raise ValueError("not yet")
        super().__init__()
"""


def said(tmp_path: Path, space: str, *more: str, calls: int = 3) -> list[str]:
    file = tmp_path / "space.yaml"
    file.write_text(space)
    small = [*SMALL, "--total-steps", str(calls * CALL), "--evaluations", "3"]
    return ["--space", str(file), "--out", str(tmp_path / "sweep"), *small, *more]


def command(tmp_path: Path, *more: str, space: str = SPACE, calls: int = 3) -> list[str]:
    return [sys.executable, "-m", "gpusim.sweep", *said(tmp_path, space, *more, calls=calls)]


def swept(tmp_path: Path, *more: str, **about) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(tmp_path, *more, **about), cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def runs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "sweep" / "runs").iterdir())


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ("", "expected names"),
        ("learning_rate: 3", "learning_rate: expected one of grid"),
        ("learning_rate: {gaussian: [0, 1]}", "expected one of grid"),
        ("learning_rate: {uniform: [1]}", "expected one of grid"),
        ("learning_rate: {uniform: [1, 2, 3]}", "uniform is between two numbers, the lower first"),
        ("learning_rate: {loguniform: [1e-3, a]}", "not [0.001, 'a']"),
        ("learning_rate: {loguniform: [0, 1e-3]}", "the lower first, above 0, not [0, 0.001]"),
        ("learning_rate: {uniform: [1e-2, 1e-3]}", "not [0.01, 0.001]"),
        ("learning_rat: {choice: [1e-3]}", "did you mean '--learning-rate'?"),
        ("discount: {choice: [2]}", "discount is 2"),
        ("num_epochs: {choice: [1.5]}", "1.5 is not a whole number"),
    ],
)
def test_what_cannot_vary_is_a_line(
    tmp_path: Path, space: str, why: str, capsys: pytest.CaptureFixture[str]
):
    assert sweep.main(said(tmp_path, space)) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
    assert not (tmp_path / "sweep").exists()


def test_a_space_is_flags_and_numbers(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(SPACE + "policy_hidden: {grid: [[8], [8, 8]]}")
    space = sweep.read(tmp_path / "a.yaml")
    assert space["learning_rate"] == ("loguniform", [1e-4, 1e-2])
    chosen = {"policy_hidden": [8, 8], "learning_rate": 2e-3, "env.reset_noise_scale": 0.2}
    found = sweep.trial_config(flags(["--env", "hopper"]), chosen)
    learner = dataclasses.asdict(found.learner)
    assert (learner["policy_hidden"], learner["learning_rate"]) == ((8, 8), 2e-3)
    assert found.env_options == {"reset_noise_scale": 0.2}
    space = {"clip": ("uniform", [0, 1]), "num_epochs": ("randint", [1, 5]), "seed": ("grid", [9])}
    values = {"clip": 1.2, "num_epochs": 6, "seed": 7}
    assert sweep.within(space, values) == {"clip": 1, "num_epochs": 4, "seed": 7}
    with pytest.raises(ConfigError, match="cannot be read"):
        sweep.read(tmp_path / "none.yaml")


def test_without_ray_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert sweep.main(said(tmp_path, SPACE)) == 2
    assert "pip install 'ray[tune]'" in capsys.readouterr().err


class TestWithRay:
    pytestmark = ray

    def test_a_grid_a_failure_and_once_more(self, tmp_path: Path):
        (tmp_path / "flaky.py").write_text(FLAKY)
        space = "num_epochs: {grid: [1, 2]}"
        more = ["--env", f"{tmp_path / 'flaky.py'}:Flaky"]
        first = swept(tmp_path, *more, space=space)
        assert len(runs(tmp_path)) == 2
        for run in runs(tmp_path):
            assert [row["steps"] for row in rows(run)] == [CALL, 2 * CALL, 3 * CALL]
        times = [(run / "metrics.jsonl").stat().st_mtime for run in runs(tmp_path)]
        again = swept(tmp_path, *more, space=space)  # a whole sweep is not made again
        assert times == [(run / "metrics.jsonl").stat().st_mtime for run in runs(tmp_path)]
        tables = [done.stdout[done.stdout.index("evaluated return") :] for done in (first, again)]
        assert tables[0] == tables[1]
        assert tables[0].count(f"{3 * CALL} steps  num_epochs") == 2

    def test_asha_ends_trials_early(self, tmp_path: Path):
        swept(tmp_path, "--scheduler", "asha", "--trials", "4", "--evaluations", "6", calls=6)
        lengths = [len(rows(run)) for run in runs(tmp_path)]
        assert len(lengths) == 4
        assert min(lengths) < max(lengths) == 6

    def test_pbt_takes_over(self, tmp_path: Path):
        space = "learning_rate: {choice: [1e-3, 1e-30]}"
        # So many that neither is at its end before the other has begun.
        more = ["--scheduler", "pbt", "--trials", "2", "--evaluations", "100"]
        swept(tmp_path, *more, space=space, calls=100)
        assert (tmp_path / "sweep" / "tune" / "pbt_global.txt").exists()  # what was taken over
        for run in runs(tmp_path):
            assert [row["steps"] for row in rows(run)][-2:] == [99 * CALL, 100 * CALL]

    def test_one_that_was_killed_goes_on(self, tmp_path: Path):
        more = ["--checkpoint-seconds", "0", "--no-anneal", "--keep-checkpoints", "999999"]
        calls = 1500
        started = subprocess.Popen(
            command(tmp_path, *more, calls=calls), cwd=ROOT, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        deadline = time.monotonic() + 120
        saved = lambda: [*(tmp_path / "sweep").glob("runs/*/checkpoints/0*.npz")]
        while len(saved()) < 5:
            assert started.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        first = {path: path.stat().st_mtime for path in saved()[:5]}
        swept(tmp_path, *more, calls=calls)
        (run,) = runs(tmp_path)
        assert {path: path.stat().st_mtime for path in first} == first
        assert [row["steps"] for row in rows(run)] == [CALL * k for k in range(1, calls + 1)]
        assert archive.newest(run / "checkpoints")[1].step == calls * CALL
