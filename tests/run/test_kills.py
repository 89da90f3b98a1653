"""SIGKILL at random moments, some within writes: nothing is lost, nothing doubled."""

from pathlib import Path

import pytest

from bench import resume


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path):
    found = resume.survive(tmp_path, 20, seed=0)
    assert found["same"]
    assert found["calls"] == 40 * 25


@pytest.mark.slow
def test_a_kill(tmp_path: Path):
    assert resume.survive(tmp_path, 1, seed=1)["same"]
