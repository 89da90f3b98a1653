"""report.html of a run folder: curves, numbers, configuration, on one page that opens offline."""

import html
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gpusim.report.charts import Curve, chart, short
from gpusim.report.embed import Embedded

_HERE = Path(__file__).parent

# What is drawn first and large; every other metric follows, small.
RETURNS = {"return": "training, exploring", "evaluation_return": "evaluated, whole episodes"}

Row = Mapping[str, Any]  # a line of metrics.jsonl: steps, seconds, and one number a metric


def write(run: str | os.PathLike[str]) -> Path:
    """Write RUN/report.html from what the run left there; returns its path.

    Reads config.yaml and metrics.jsonl; summary.json too if the run got as far as writing it.
    Raises FileNotFoundError, naming the file, when the folder is not a run's.
    """
    folder = Path(run)
    path = folder / "report.html"
    replay = "replay.html" if (folder / "replay.html").exists() else None
    path.write_text(_page_of(folder, replay), encoding="utf-8")
    return path


def show(run: str | os.PathLike[str], *, height: int = 640) -> Embedded:
    """The page that `write` writes, as a notebook's cell result, `height` pixels high."""
    return Embedded(_page_of(Path(run), replay=None), height)


def _page_of(folder: Path, replay: str | None) -> str:
    summary = folder / "summary.json"
    return page(
        name=folder.resolve().name,
        config_text=(folder / "config.yaml").read_text(encoding="utf-8"),
        rows=read_metrics(folder / "metrics.jsonl"),
        titles=_titles(folder / "labels.json"),
        summary=json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {},
        replay=replay,
    )


def _titles(path: Path) -> dict[str, str]:
    """What the run's metrics are called, in the order of the charts."""
    labels = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: label["title"] for name, label in labels.items()}


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. A last line torn by a kill is left out."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not a JSON object") from None
    return rows


def page(
    *,
    name: str,
    config_text: str,
    rows: Sequence[Row],
    titles: Mapping[str, str],
    summary: Mapping[str, Any],
    replay: str | None,
) -> str:
    """The whole page.

    config_text: YAML. rows: see `read_metrics`. titles: of the charts, by metric. summary: what
    summary.json holds, {} without one. replay: the address of a replay page beside this one, None
    where there is none.
    """
    config = yaml.safe_load(config_text) or {}
    parts = {
        "TITLE": html.escape(f"{config.get('env', 'run')} · {name}"),
        "STYLE": _text("chart.css") + _text("report.css"),
        "TILES": "".join(_tile(*tile) for tile in _facts(rows, summary)),
        "REPLAY": f'<iframe src="{html.escape(replay)}" title="replay"></iframe>' if replay else "",
        "CURVES": returns_chart(rows),
        "DETAILS": "".join(_chart(rows, *metric) for metric in _others(rows, titles)),
        "TIMING": _timing(summary.get("seconds", {})),
        "MACHINE": _machine(summary.get("machine", {})),
        "CONFIG": html.escape(config_text),
        "SCRIPT": _text("report.js"),
    }
    before, *rest = _text("report.template.html").split("{{")
    # One pass over the template, so that nothing put in is searched for placeholders.
    return before + "".join(parts[key] + tail for key, tail in (r.split("}}", 1) for r in rest))


def returns_chart(rows: Sequence[Row]) -> str:
    """Return against environment steps, as one <figure> of inline SVG."""
    return _lines(rows, RETURNS, "Return of an episode", width=960, height=330)


def _chart(rows: Sequence[Row], metric: str, title: str) -> str:
    return _lines(rows, {metric: title}, title, width=460, height=230)


def _lines(rows: Sequence[Row], metrics: Mapping[str, str], title: str, **size: int) -> str:
    """A chart of metrics (name -> label), without those that no row has."""
    curves = [_curve(rows, metric, label) for metric, label in metrics.items()]
    return chart([c for c in curves if c.x], title=title, x_label="environment steps", **size)


def _curve(rows: Sequence[Row], metric: str, label: str) -> Curve:
    points = [(r["steps"], r[metric]) for r in rows if r.get(metric) is not None]
    return Curve(label, [x for x, _ in points], [y for _, y in points])


def _others(rows: Sequence[Row], titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Metrics to draw small and their titles: those with one first, then as they appeared."""
    seen = dict.fromkeys(name for row in rows for name in row)
    order = [name for name in (*titles, *seen) if name in seen]
    skip = {"steps", "seconds", *RETURNS}
    name_of = lambda name: titles.get(name, name.replace("_", " ").capitalize())
    return [(name, name_of(name)) for name in dict.fromkeys(order) if name not in skip]


def _facts(rows: Sequence[Row], summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the run came to: (name, value, small print)."""
    last = lambda name: next((r[name] for r in reversed(rows) if r.get(name) is not None), None)
    facts = []
    if (value := last("evaluation_return")) is not None:
        spread = last("evaluation_std")
        facts.append(("evaluation return", f"{value:,.0f}", f"± {spread:,.0f}" if spread else ""))
    elif (value := last("return")) is not None:
        facts.append(("training return", f"{value:,.0f}", ""))
    length = last("evaluation_length") or last("episode_length")
    if length is not None:
        facts.append(("episode length", f"{length:,.0f}", "control steps"))
    if rows:
        facts.append(("environment steps", short(rows[-1]["steps"]), ""))
        facts.append(("wall time", _duration(rows[-1]["seconds"]), ""))
    speeds = [r["steps_per_second"] for r in rows if r.get("steps_per_second")]
    if speeds:
        facts.append(("steps per second", short(statistics.median(speeds)), "median"))
    if (first := summary.get("first_update_seconds")) is not None:
        facts.append(("first update after", f"{first:.1f} s", ""))
    ending = "diverged" if summary.get("diverged") else ""
    ending = ending or ("interrupted" if summary.get("interrupted_by") else "")
    if ending or not summary:
        facts.append(("state", ending or "no summary yet", ""))
    return facts


def _tile(name: str, value: str, small: str) -> str:
    return (
        f"<div><dt>{html.escape(name)}</dt>"
        f"<dd>{html.escape(value)}</dd><dd><small>{html.escape(small)}</small></dd></div>"
    )


def _timing(seconds: Mapping[str, float]) -> str:
    """Where the wall time went: a bar in proportion, and the numbers."""
    total = sum(seconds.values())
    if total <= 0:
        return ""
    bar = "".join(
        f'<i class="c{i}" style="flex:{max(value, 0) / total:.5f}"></i>'
        for i, value in enumerate(seconds.values())
    )
    rows = "".join(
        f'<tr><td><span class="key c{i}"></span>{html.escape(name)}</td>'
        f'<td class="number">{value:.1f} s</td><td class="number">{value / total:.0%}</td></tr>'
        for i, (name, value) in enumerate(seconds.items())
    )
    return (
        f'<section class="card"><h2>Where the wall time went</h2><div class="split">{bar}</div>'
        f"<table>{rows}</table></section>"
    )


def _machine(facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    text = lambda value: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(text(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f'<section class="card"><h2>Machine</h2><table>{rows}</table></section>'


def _text(file: str) -> str:
    return (_HERE / file).read_text(encoding="utf-8")


def _duration(seconds: float) -> str:
    """75 -> 1:15 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
