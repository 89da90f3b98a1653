"""The notebook's display of a run."""

import math
import re
import time
from typing import NamedTuple

import pytest

from gpusim.report import live


class Row(NamedTuple):
    steps: int
    seconds: float
    values: dict[str, float]


def words(page: str) -> list[str]:
    found = re.search(r"<p>(.*?)</p>", page)
    assert found
    return [word.strip() for word in found[1].split("·")]


def test_picture_before_and_in_the_middle():
    assert words(live.picture([], 1000, "compiling <x>")) == [
        "0 / 1k steps",
        "0 s",
        "compiling &lt;x&gt;",
    ]
    rows = [
        {"steps": 100, "seconds": 5.0, "return": math.nan},
        {"steps": 250, "seconds": 10.0, "return": 3.0, "steps_per_second": 40.0},
    ]
    page = live.picture(rows, 1000, "")
    assert words(page) == ["250 / 1k steps", "10 s", "30 s left", "40 steps/s"]
    assert 'style="width:25.0%"' in page
    assert "<polyline" in page


@pytest.fixture
def shown(monkeypatch):
    """What the cell has shown, oldest first."""
    pytest.importorskip("IPython")  # extra: notebook
    pages: list[str] = []

    class Cell:
        def update(self, page):
            pages.append(page.data)

    monkeypatch.setattr("IPython.display.display", lambda page, display_id: Cell())
    return pages


def test_curve_grows_and_the_last_row_is_always_drawn(shown):
    curve = live.LiveCurve(total=10)
    curve.stage("compiling")
    for steps in range(1, 11):
        curve.write(Row(steps, float(steps), {"return": float(steps)}))
    curve.close()
    assert "compiling ... 0 s" in shown[0]
    assert len(shown) < 10  # rows come faster than anybody can look
    assert words(shown[-1])[0] == "10 / 10 steps"


def test_what_is_waited_for_counts_its_seconds(shown):
    curve = live.LiveCurve(total=10)
    curve.stage("compiling training")
    deadline = time.monotonic() + 20
    while "compiling training ... 1 s" not in shown[-1] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "compiling training ... 1 s" in shown[-1]
    curve.message("saved")
    assert words(shown[-1])[-1] == "saved"
    curve.close()
