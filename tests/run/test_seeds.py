"""Several seeds in one program: each is the run of that seed alone, to a few roundings."""

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from gpusim import config, play, train
from gpusim.run import seeds
from tests.run.test_training import CALL, final_state, flags, rows, run

TWO = ["--num-seeds", "2", "--seed", "5", "--no-anneal"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four calls with seeds 5 and 6."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    assert run(folder, 4, *TWO).interrupted_by == 0
    return folder


def of_seed(folder: Path, seed: int) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "seeds" / f"{seed}.jsonl").open()]


@pytest.mark.parametrize("seed", [5, 6])
def test_each_is_the_run_of_that_seed_alone(tmp_path: Path, two: Path, seed: int):
    run(tmp_path / "alone", 4, "--seed", str(seed), "--no-anneal")
    alone, found = rows(tmp_path / "alone"), of_seed(two, seed)
    assert len(alone) == len(found) == 4
    for expected, row in zip(alone, found, strict=True):
        assert expected.keys() == row.keys() - {"seconds"}
        for name, value in expected.items():
            assert (value is None) == (row[name] is None), name
            assert value is None or np.isclose(row[name], value, rtol=2e-3, atol=1e-4), name


def test_rows_are_means_and_spreads(two: Path):
    each = [of_seed(two, 5), of_seed(two, 6)]
    assert each[0] != each[1]
    for number, row in enumerate(rows(two)):
        for name in ("policy_loss", *(["evaluation_return"] if number in (1, 3) else [])):
            values = [its[number][name] for its in each]
            assert math.isclose(row[name], statistics.fmean(values), rel_tol=1e-9)
            assert math.isclose(row[f"{name}/spread"], statistics.pstdev(values), rel_tol=1e-9)


def test_what_is_nan_for_some_seeds_is_the_mean_of_others():
    found = seeds.together([{"a": 1.0, "b": math.nan}, {"a": math.nan, "b": math.nan}])
    assert (found["a"], found["a/spread"]) == (1.0, 0.0)
    assert math.isnan(found["b"])
    assert seeds.together([{"a": 1.0}]) == {"a": 1.0}


def test_it_resumes_exactly_and_shows_the_spread(
    tmp_path: Path, two: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    run(folder, 4, *TWO, at=2 * CALL)
    assert train.main(["--resume", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "each of the seeds 5 to 6" in said
    assert "among seeds)" in said
    assert final_state(folder) == final_state(two)
    assert rows(folder) == rows(two)
    skip = lambda row: {k: v for k, v in row.items() if k != "seconds"}
    for seed in (5, 6):
        assert list(map(skip, of_seed(folder, seed))) == list(map(skip, of_seed(two, seed)))


def test_each_can_be_played(two: Path, capsys: pytest.CaptureFixture[str]):
    for which in (0, 1):
        assert play.main([str(two), "--episodes", "4", "--seed-index", str(which)]) == 0
        expected = of_seed(two, 5 + which)[-1]["evaluation_return"]
        assert f"return  {expected:10,.1f}" in capsys.readouterr().out
    assert play.main([str(two), "--seed-index", "2"]) == 2
    assert "it has 2, from 0 on" in capsys.readouterr().err


def test_seeds_that_cannot_be(tmp_path: Path, two: Path):
    with pytest.raises(config.ConfigError, match="num_seeds 2, which cannot become 3"):
        config.parse(["--resume", str(two), "--num-seeds", "3"])
    for wrong in (["--num-seeds", "0"], ["--num-seeds", "2", "--seed", str(2**32 - 1)]):
        assert train.main(flags(tmp_path / "run", 1, *wrong)) == 2
