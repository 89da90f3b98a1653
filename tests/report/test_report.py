"""The report of a run folder: what it says is what the run wrote, and nothing gets executed."""

import json
import re

import pytest

from gpusim import metrics
from gpusim.report import report

ROWS = [
    {"steps": 1000, "seconds": 2.0, "return": None, "steps_per_second": 500.0, "kl": 0.01},
    {"steps": 2000, "seconds": 4.0, "return": 10.0, "steps_per_second": 700.0, "kl": 0.02},
    {"steps": 3000, "seconds": 75.2, "return": 30.0, "steps_per_second": 600.0, "kl": 0.03},
]
EVALUATION = {"evaluation_return": 1234.4, "evaluation_std": 56.0, "evaluation_length": 990.0}
SUMMARY = {
    "interrupted_by": 0,
    "diverged": False,
    "first_update_seconds": 8.25,
    "seconds": {"compile": 5.0, "learning": 15.0},
    "machine": {"cores": 2, "devices": ["cpu", "cpu"]},
}


@pytest.fixture
def run(tmp_path):
    """A finished run's folder."""
    folder = tmp_path / "ant-0"
    folder.mkdir()
    (folder / "config.yaml").write_text("env: ant\nppo: {num_envs: 64}\n")
    rows = [*ROWS[:2], ROWS[2] | EVALUATION]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    shown = {**metrics.RUN, "kl": metrics.Metric("KL divergence (nats)")}
    labels = {name: metric._asdict() for name, metric in shown.items()}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def tiles(page: str) -> dict[str, str]:
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd><dd><small>(.*?)</small>", page)
    return {name: f"{value} {small}".strip() for name, value, small in found}


def test_the_numbers_of_a_finished_run(run):
    page = report.write(run).read_text(encoding="utf-8")
    assert tiles(page) == {
        "evaluation return": "1,234 ± 56",
        "episode length": "990 control steps",
        "environment steps": "3k",
        "wall time": "1:15 min",
        "steps per second": "600 median",
        "first update after": "8.2 s",
    }
    assert "<title>ant · ant-0</title>" in page
    assert "num_envs: 64" in page
    assert re.search(r"compile</td><td[^>]*>5.0 s</td><td[^>]*>25%", page)
    assert "cpu, cpu" in page
    assert "<iframe" not in page


def test_every_metric_has_its_chart(run):
    page = report.write(run).read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>([^<]*)", page)
    assert captions[:4] == [
        "Return of an episode",
        "Environment steps per second",
        "Episode length, evaluated",
        "Spread of the evaluated return",
    ]
    assert captions[4:] == ["KL divergence (nats)"]
    (run / "labels.json").unlink()
    page = report.write(run).read_text(encoding="utf-8")
    assert "<figcaption>Kl</figcaption>" in page


def test_replay_is_shown_where_there_is_one(run):
    (run / "replay.html").write_text("")
    assert '<iframe src="replay.html"' in report.write(run).read_text(encoding="utf-8")


def test_show_is_the_page_without_the_replay(run):
    plain = report.write(run).read_text(encoding="utf-8")
    (run / "replay.html").write_text("")
    assert report.show(run).page == plain


def test_a_run_that_was_killed(run):
    """No summary, and a last line that was not written to its end."""
    (run / "summary.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:2], '{"steps": 30']))
    page = report.write(run).read_text(encoding="utf-8")
    assert tiles(page)["state"] == "no summary yet"
    assert tiles(page)["environment steps"] == "2k"
    (run / "metrics.jsonl").write_text("")
    assert tiles(report.write(run).read_text(encoding="utf-8")) == {"state": "no summary yet"}


def test_what_stopped_the_run_is_said(run):
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"diverged": True}))
    assert tiles(report.write(run).read_text(encoding="utf-8"))["state"] == "diverged"


def test_names_are_escaped_and_nothing_is_fetched(run):
    evil = "</script><script>alert(1)</script>{{CONFIG}}"
    (run / "config.yaml").write_text(json.dumps({"env": evil}))
    (run / "metrics.jsonl").write_text(json.dumps(ROWS[1] | {evil: 1.0}) + "\n")
    page = report.write(run).read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert "alert(1)" in page
    assert not re.search(r'(src|href)="|@import|url\(', page)


def test_errors_name_the_file(run):
    (run / "metrics.jsonl").write_text("{}\nnot json\n{}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not a JSON object"):
        report.write(run)
    with pytest.raises(FileNotFoundError, match=r"config\.yaml"):
        report.write(run / "nothing")
