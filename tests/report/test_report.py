"""The report of a run folder: what it says is what the run wrote, and nothing gets executed."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import mujoco
import pytest

from gpusim import metrics
from gpusim.report import __main__ as command
from gpusim.report import replay, report

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
        "evaluated return": "1,234 ± 56",
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
    assert captions[0] == captions.pop(1)  # drawn for wide pages and for narrow ones
    assert captions[:4] == [
        "Return of an episode",
        "Environment steps per second",
        "Spread of the evaluated return",
        "Episode length, evaluated",
    ]
    assert captions[4:] == ["KL divergence (nats)"]
    (run / "labels.json").unlink()
    page = report.write(run).read_text(encoding="utf-8")
    assert "<figcaption>Kl</figcaption>" in page


CUBE = """<mujoco><worldbody><geom type="plane" size="0 0 1"/><body pos="0 0 1"><freejoint/>
<geom type="box" size=".1 .1 .1"/></body></worldbody></mujoco>"""


def test_the_replay_is_inside(run):
    mj: Any = mujoco.MjModel.from_xml_string(CUBE)  # pyright: ignore[reportAttributeAccessIssue]
    replay.write(run / "replay.html", mj, mj.qpos0[None], 0.05, title="a cube")
    page = report.write(run).read_text(encoding="utf-8")
    assert replay.read(page)["title"] == "a cube"
    assert report.show(run).page == page
    assert not re.search(r'(src|href)="|<iframe|@import|url\(', page)


def test_several_runs_lie_over_each_other(run):
    other = run.parent / "ant-1"
    shutil.copytree(run, other)
    (other / "config.yaml").write_text("env: ant\nseed: 1\nppo: {num_envs: 128}\n")
    path = report.write(run, other)
    assert path.resolve() == run.parent / "report.html"
    page = path.read_text(encoding="utf-8")
    assert "<title>2 runs</title>" in page
    curves = re.findall(r'data-curves="([^"]*)"', page)
    assert all("ant-0" in curve and "ant-1" in curve for curve in curves)
    assert "<td>ppo.num_envs</td><td>64</td><td>128</td>" in page
    assert "<td>env</td>" not in page  # in which they do not differ


def test_the_command(run, tmp_path, capsys):
    assert command.main([str(run)]) == 0
    assert Path(capsys.readouterr().out.strip()).resolve() == run / "report.html"
    assert command.main([str(tmp_path / "nothing")]) == 2
    said = capsys.readouterr().err
    assert "nothing/config.yaml is missing: not a run folder" in said
    assert said.count("\n") == 1


def test_a_page_of_a_run_that_goes_on_looks_again(run):
    assert '<body class="gpusim" >' in report.write(run).read_text(encoding="utf-8")
    (run / "summary.json").unlink()
    assert '<body class="gpusim" data-live>' in report.write(run).read_text(encoding="utf-8")


def test_a_run_that_was_killed(run):
    """No summary, and a last line that was not written to its end."""
    (run / "summary.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:2], '{"steps": 30']))
    page = report.write(run).read_text(encoding="utf-8")
    assert tiles(page)["state"] == "not finished"
    assert tiles(page)["environment steps"] == "2k"
    (run / "metrics.jsonl").write_text("")
    assert tiles(report.write(run).read_text(encoding="utf-8")) == {"state": "not finished"}


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "[1"),
        ("config.yaml", "5"),
        ("config.yaml", "\udcff"),
        ("metrics.jsonl", "5\n{}\n"),
        ("summary.json", "oops{"),
        ("labels.json", "5"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(run, name: str, text: str, capsys):
    (run / name).write_bytes(text.encode(errors="surrogateescape"))
    assert command.main([str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gpusim.report: {run / name}")
    assert said.count("\n") == 1


def test_a_page_that_cannot_be_written_is_named_and_leaves_nothing(run, tmp_path, capsys):
    for out in (tmp_path, tmp_path / "nothing" / "a.html"):
        assert command.main([str(run), "--out", str(out)]) == 2
        assert f"gpusim.report: {out} cannot be written: " in capsys.readouterr().err
    assert not list(tmp_path.parent.glob(".*.part"))


def test_a_torn_replay_is_left_out(run):
    whole = '<script type="application/json" id="replay">{"a": 1}</script>'
    (run / "replay.html").write_text(whole)
    assert 'id="replay">{"a": 1}' in report.write(run).read_text(encoding="utf-8")
    (run / "replay.html").write_text(whole[:50])
    assert 'id="replay"' not in report.write(run).read_text(encoding="utf-8")
