"""gpusim.launch: with Ray, a run on two nodes trains, stops, loses a node, and goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gpusim import launch
from tests.run.test_training import CALL, ROOT, SMALL, final_state, rows, run

SECONDS = 400  # for what should take forty


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--env", "hopper"], "needs --out"),
        (["--env", "hoper", "--out", "x"], "did you mean 'hopper'?"),
        (["--out", "x", "--coordinator", "a:1"], "--coordinator: leave it out"),
        (["--out", "x", "--resume", "auto"], "--resume: leave it out"),
    ],
)
def test_what_cannot_be_launched_is_a_line(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
):
    assert launch.main(["--nodes", "2", *words]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_without_ray_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert launch.main(["--nodes", "2", "--env", "hopper", "--out", "x"]) == 2
    assert "pip install 'ray[tune]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, of one core each."""
    if find_spec("ray") is None:
        pytest.skip("needs ray")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


@contextmanager
def launched(address: str, folder: Path, calls: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    words = ["--address", address, *SMALL, "--total-steps", str(calls * CALL), "--no-anneal"]
    words += ["--nodes", "2", "--checkpoint-seconds", "0", "--out", str(folder), *more]
    devices = os.environ["XLA_FLAGS"].replace("device_count=2", "device_count=1")
    started = subprocess.Popen(
        [sys.executable, "-m", "gpusim.launch", *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": devices},
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()  # its actors end with it, and the processes with them
        started.communicate()


def reach(folder: Path, calls: int, started: subprocess.Popen[str]) -> None:
    deadline, file = time.monotonic() + SECONDS, folder / "metrics.jsonl"
    while not file.exists() or file.read_text().count("\n") < calls:
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_cluster_that_is_not_there_or_too_small(cluster: Any, tmp_path: Path):
    for address, more, why in (
        (cluster.address, ["--nodes", "3"], "--nodes 3: the cluster has 2, of which 2 have 1 CPUs"),
        (cluster.address, ["--gpus", "1"], "of which 0 have 1 CPUs and 1 GPUs"),
        ("127.0.0.1:1", [], "no Ray cluster answers there"),
    ):
        with launched(address, tmp_path / "run", 1, *more) as started:
            out, error = started.communicate(timeout=120)
        assert (started.returncode, out) == (2, "")
        assert why in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_it_stops_goes_on_loses_a_node_and_is_done(cluster: Any, tmp_path: Path):
    folder = tmp_path / "run"
    with launched(cluster.address, folder, 10**6) as started:
        reach(folder, 3, started)
        started.send_signal(signal.SIGINT)
        out, error = started.communicate(timeout=SECONDS)
    assert started.returncode == 128 + signal.SIGINT, error
    assert re.search("8 worlds on cpu:0, cpu:", out)
    made = len(rows(folder))
    calls = made + 100

    with launched(cluster.address, folder, calls) as started:
        reach(folder, made + 3, started)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        out, error = started.communicate(timeout=SECONDS)
    assert started.returncode == 0, error
    assert "the run lost a node or a process; it goes on from its last checkpoint" in error
    assert [row["steps"] for row in rows(folder)] == [CALL * k for k in range(1, calls + 1)]

    with launched(cluster.address, folder, calls) as again:
        assert "is complete" in again.communicate(timeout=SECONDS)[0]
    assert again.returncode == 0
    run(tmp_path / "one", calls, "--no-anneal")
    assert final_state(folder) == final_state(tmp_path / "one")
