"""Charts: round ticks, points where they belong, nothing that HTML could misread."""

import html
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.report.charts import Curve, chart, short, ticks


@pytest.mark.parametrize(
    ("values", "about", "expected"),
    [
        ([0, 10], 5, [0, 2, 4, 6, 8, 10]),
        ([0, 20e6], 4, [0, 5e6, 10e6, 15e6, 20e6]),
        ([-0.009, 0.0], 5, [-0.01, -0.008, -0.006, -0.004, -0.002, 0]),
        ([3, 3], 3, [2.6, 2.8, 3.0, 3.2, 3.4]),
        ([0, 0], 2, [-1, 0, 1]),
        ([], 2, [0, 0.5, 1]),
    ],
)
def test_ticks_are_round(values, about, expected):
    assert ticks(values, about) == pytest.approx(expected)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1), st.integers(2, 8))
def test_ticks_cover_the_values(values, about):
    marks = ticks(values, about)
    slack = 1e-6 * (marks[-1] - marks[0])
    assert marks[0] - slack <= min(values)
    assert max(values) <= marks[-1] + slack
    assert 2 <= len(marks) <= about + 3


def parts(figure: str) -> tuple[ElementTree.Element, list[dict]]:
    """The SVG, parsed strictly, and the data for the pointer."""
    data = re.search(r'data-curves="([^"]*)"', figure)
    assert data
    return ElementTree.fromstring(figure), json.loads(html.unescape(data[1]))


def test_points_are_where_they_belong():
    """Plot area of 560 x 260: x from 58 to 546, y from 220 (bottom) to 10."""
    curve = Curve("a", [0, 50, 100], [0, 5, 10])
    tree, data = parts(chart([curve], title="t", x_label="steps"))
    line = tree.find(".//polyline")
    assert line is not None
    assert line.get("points") == "58.0,220.0 302.0,115.0 546.0,10.0"
    assert data[0]["points"][1] == [302.0, 115.0, "5", "50 steps"]


def test_missing_values_are_left_out_and_single_points_show():
    tree, _ = parts(chart([Curve("a", [1, 2], [math.nan, 4])], title="t", x_label="x"))
    assert len(tree.findall(".//circle")) == 1
    tree, _ = parts(chart([], title="empty", x_label="x"))
    assert tree.find(".//polyline") is None


def test_many_points_are_not_marked_and_two_curves_have_a_legend():
    many = Curve("many", range(100), range(100))
    tree, _ = parts(chart([many, Curve("few", [1, 2], [3, 4])], title="t", x_label="x"))
    assert len(tree.findall(".//circle")) == 2
    assert [e.text for e in tree.findall(".//figcaption/span")] == ["many", "few"]


def test_labels_are_escaped():
    evil = "<b>\"'&"
    tree, data = parts(chart([Curve(evil, [1], [1])] * 2, title=evil, x_label=evil))
    assert data[0]["label"] == evil
    assert tree.find(".//b") is None
    assert tree.findtext("figcaption") == evil


@pytest.mark.parametrize(
    ("value", "text"),
    [(30e6, "30M"), (1234, "1.234k"), (-0.05, "-0.05"), (0, "0"), (999.99, "1k"), (2e9, "2G")],
)
def test_short_numbers(value, text):
    assert short(value) == text
