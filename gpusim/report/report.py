"""report.html of a run, or of several: the robot, curves, numbers, configuration, on one page that
opens offline and asks for nothing else."""

import html
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpusim.report import folder, replay
from gpusim.report.charts import Curve, chart, short
from gpusim.report.embed import Embedded, write_page
from gpusim.report.folder import Row, RunFolder

_HERE = Path(__file__).parent

# What is drawn first and large; every other metric follows, small.
RETURNS = {"return": "training, exploring", "evaluation_return": "evaluated, whole episodes"}
# Of charts, in pixels: about as large as they are shown, which is as large as letters stay.
_WIDE, _NARROW = {"width": 760, "height": 280}, {"width": 390, "height": 260}
_SMALL = {"width": 330, "height": 190}


def write(*runs: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of these run folders; returns its path.

    out: by default report.html in the folder, or in the folder that holds them all. A browser that
    looks while it is written sees the old page or the new one. Raises FileNotFoundError,
    naming the file, when a folder is not a run's, ValueError for a file that is not what a run
    wrote, OSError for a page that cannot be written.
    """
    text = page([folder.read(run) for run in runs])
    paths = [os.path.abspath(run) for run in runs]
    whole = paths[0] if len(paths) == 1 else os.path.commonpath([Path(p).parent for p in paths])
    path = Path(out) if out else Path(os.path.relpath(whole)) / "report.html"
    return write_page(path, text)


def show(*runs: str | os.PathLike[str], height: int = 640) -> Embedded:
    """The page that `write` writes, as a notebook's cell result, `height` pixels high."""
    return Embedded(page([folder.read(run) for run in runs]), height)


def page(runs: Sequence[RunFolder]) -> str:
    """The whole page, as text."""
    first, one = runs[0], len(runs) == 1
    title = f"{first.env} · {first.name}" if one else f"{len(runs)} runs"
    shown = next((run.replay for run in runs if run.replay), None)
    return replay.filled(
        _text("report.template.html"),
        TITLE=html.escape(title),
        LIVE="data-live" if any(not run.summary for run in runs) else "",
        STYLE=_text("chart.css") + _text("report.css") + (replay.style() if shown else ""),
        FACTS=_tiles(first) if one else _table(runs),
        REPLAY=replay.stage(shown) if shown else "",
        CURVES=returns_chart(first.rows) if one else _returns_of(runs),
        DETAILS="".join(_chart(runs, *metric) for metric in _others(runs)),
        TIMING=_timing(first.summary.get("seconds", {})) if one else "",
        MACHINE=_machine(first.summary.get("machine", {})) if one else "",
        CONFIG=f"<pre>{html.escape(first.config_text)}</pre>" if one else _differences(runs),
        SCRIPT=_text("report.js"),
    )


def returns_chart(rows: Sequence[Row]) -> str:
    """Return of training and evaluation against environment steps, as SVG."""
    curves = [_curve(rows, metric, label) for metric, label in RETURNS.items()]
    return _large(curves, "Return of an episode")


def _returns_of(runs: Sequence[RunFolder]) -> str:
    """One curve a run: evaluated, or training where nothing was."""
    curves = [
        _curve(run.rows, "evaluation_return", run.name)
        if run.last("evaluation_return") is not None
        else _curve(run.rows, "return", f"{run.name} (training)")
        for run in runs
    ]
    return _large(curves, "Evaluated return of an episode")


def _chart(runs: Sequence[RunFolder], metric: str, title: str) -> str:
    curves = [_curve(run.rows, metric, run.name) for run in runs]
    return _figure(curves, title, **_SMALL)


def _large(curves: Sequence[Curve], title: str) -> str:
    """A chart twice, of which the page shows the one that it has room for: letters shrink with the
    drawing they are in, and a wide one on a phone could not be read."""
    wide, narrow = _figure(curves, title, **_WIDE), _figure(curves, title, **_NARROW)
    return f'<div class="broad">{wide}</div><div class="narrow">{narrow}</div>'


def _figure(curves: Sequence[Curve], title: str, **size: int) -> str:
    """A chart of those curves that have a point."""
    return chart([c for c in curves if c.x], title=title, x_label="environment steps", **size)


def _curve(rows: Sequence[Row], metric: str, label: str) -> Curve:
    points = [(r["steps"], r[metric]) for r in rows if r.get(metric) is not None]
    return Curve(label, [x for x, _ in points], [y for _, y in points])


def _others(runs: Sequence[RunFolder]) -> list[tuple[str, str]]:
    """Metrics to draw small and their titles: those with one first, then as they appeared."""
    titles: dict[str, str] = {}
    for run in runs:
        titles |= run.titles
    seen = dict.fromkeys(name for run in runs for row in run.rows for name in row)
    order = [name for name in (*titles, *seen) if name in seen]
    skip = {"steps", "seconds", *RETURNS}
    for name in order:
        own = name.removeprefix("world/")
        of_step = ", mean of a step" if own != name else ""
        titles.setdefault(name, own.replace("_", " ").capitalize() + of_step)
    return [(name, titles[name]) for name in dict.fromkeys(order) if name not in skip]


def _facts(run: RunFolder) -> list[tuple[str, str, str]]:
    """What the run came to: (name, value, small print)."""
    facts = []
    if (value := run.last("evaluation_return")) is not None:
        spread = run.last("evaluation_std")
        facts.append(("evaluated return", f"{value:,.0f}", f"± {spread:,.0f}" if spread else ""))
    elif (value := run.last("return")) is not None:
        facts.append(("training return", f"{value:,.0f}", ""))
    length = run.last("evaluation_length") or run.last("episode_length")
    if length is not None:
        facts.append(("episode length", f"{length:,.0f}", "control steps"))
    if run.rows:
        facts.append(("environment steps", short(run.rows[-1]["steps"]), ""))
        facts.append(("wall time", _duration(run.rows[-1]["seconds"]), ""))
    speeds = [r["steps_per_second"] for r in run.rows if r.get("steps_per_second")]
    if speeds:
        facts.append(("steps per second", short(statistics.median(speeds)), "median"))
    if (first := run.summary.get("first_update_seconds")) is not None:
        facts.append(("first update after", f"{first:.1f} s", ""))
    ending = "diverged" if run.summary.get("diverged") else ""
    ending = ending or ("interrupted" if run.summary.get("interrupted_by") else "")
    if ending or not run.summary:
        facts.append(("state", ending or "not finished", ""))
    return facts


def _tiles(run: RunFolder) -> str:
    tiles = "".join(
        f"<div><dt>{html.escape(name)}</dt>"
        f"<dd>{html.escape(value)}</dd><dd><small>{html.escape(small)}</small></dd></div>"
        for name, value, small in _facts(run)
    )
    return f'<dl class="tiles">{tiles}</dl>'


def _table(runs: Sequence[RunFolder]) -> str:
    """The facts of several runs, a row each."""
    facts = [{name: f"{v} {s}".strip() for name, v, s in _facts(run)} for run in runs]
    names = list(dict.fromkeys(name for its in facts for name in its))
    rows = [
        [f'<span class="key c{i}"></span>{html.escape(run.name)}', html.escape(run.env)]
        + [html.escape(its.get(name, "")) for name in names]
        for i, (run, its) in enumerate(zip(runs, facts, strict=True))
    ]
    return _rows(["run", "environment", *map(html.escape, names)], rows)


def _differences(runs: Sequence[RunFolder]) -> str:
    """The values in which the configurations differ."""
    flat = [dict(_flat(run.config)) for run in runs]
    names = dict.fromkeys(name for its in flat for name in its)
    rows = [
        [html.escape(str(x)) for x in (name, *(its.get(name, "") for its in flat))]
        for name in names
        if len({str(its.get(name)) for its in flat}) > 1
    ]
    return _rows(["differs", *(html.escape(run.name) for run in runs)], rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        pairs += _flat(value, f"{prefix}{name}.") if inner else [(f"{prefix}{name}", value)]
    return pairs


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are HTML."""
    line = lambda cells, tag: "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)
    body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in rows)
    return f'<div class="card wide"><table><tr>{line(head, "th")}</tr>{body}</table></div>'


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
