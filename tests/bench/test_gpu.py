"""The GPU benchmark's frame, on any machine; `bench/gpu.sh --quick` runs all of it."""

import json
import shutil
import subprocess
import sys

import pytest

from bench import gpu, gpu_parts, ptx

popen = subprocess.Popen


def test_a_part_that_is_stopped_keeps_what_it_found(tmp_path, monkeypatch):
    path, started = tmp_path / "gpu-peers.json", []

    def slow(command, **options):
        gpu.amend(path, {"results": [1]})
        started.append(popen([sys.executable, "-c", "import time; time.sleep(99)"], **options))
        return started[-1]

    monkeypatch.setattr(gpu.subprocess, "Popen", slow)
    problem = gpu.run("peers", gpu.Args(out=tmp_path), 0.2)
    assert problem == "stopped after 0 s"
    assert started[0].returncode == -9
    gpu.amend(path, {"problem": problem})
    assert json.loads(path.read_text()) == {"results": [1], "problem": problem}


def test_parts_without_time_are_left_out(tmp_path):
    assert gpu.main(gpu.Args(parts=("physics", "peers"), seconds=5, out=tmp_path)) == 2
    for part in ("physics", "peers"):
        said = json.loads((tmp_path / f"gpu-{part}.json").read_text())
        assert said == {"problem": "no time was left"}


def test_failed_tests_are_named():
    passed = gpu_parts.outcome(0, "..\n2 passed in 1 s\n")
    assert passed == {"passed": True, "summary": "2 passed in 1 s"}
    failed = gpu_parts.outcome(1, "E   assert 1 == 2\nFAILED a.py::b\n1 failed in 1 s\n")
    assert not failed["passed"]
    assert failed["failed"] == ["E   assert 1 == 2", "FAILED a.py::b"]


def test_a_size_that_fails_is_a_result():
    def fails(work):
        raise MemoryError(f"{work.num_envs} worlds")

    result = gpu_parts.measure("x", fails, "ant", 7)
    assert result["error"] == "MemoryError: 7 worlds"


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="needs ptxas")
def test_ptx():
    found = ptx.measure("hopper", (90,))
    assert found["lines"] > 1000
    assert 32 < found["assembled"][90]["registers"] <= 255
    assert "Missing .version" in ptx.assemble("nonsense", 90)["error"]
