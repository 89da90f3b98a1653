"""Line charts as inline SVG: axes with round numbers, gaps where a value is missing, no library."""

import html
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 10, 40  # pixels around the plot: room for the labels
_FEW = 20  # points that are marked one by one


class Curve(NamedTuple):
    """One line of a chart. What is not finite in y is left out."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


class Scale(NamedTuple):
    """A linear map of [low, high] onto pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def chart(
    curves: Sequence[Curve], *, title: str, x_label: str, width: int = 560, height: int = 260
) -> str:
    """A <figure> with one line per curve, x from zero on; several curves get a legend.

    report.js adds the numbers under the pointer from the figure's data-curves.
    """
    curves = [_finite(curve) for curve in curves]
    xs = [0.0, *(x for curve in curves for x in curve.x)]
    ys = [y for curve in curves for y in curve.y]
    x_ticks, y_ticks = ticks(xs, 6 if width > 400 else 4), ticks(ys, 5)
    across = Scale(*_span(xs), _LEFT, width - _RIGHT)
    up = Scale(y_ticks[0], y_ticks[-1], height - _BOTTOM, _TOP)
    inside = [x for x in x_ticks if across.low <= x <= across.high]
    body = [_y_axis(y_ticks, up, width), _x_axis(inside, across, height, x_label)]
    body += [_line(curve, i, across, up) for i, curve in enumerate(curves)]
    points = [
        {
            "label": curve.label,
            "points": [
                [round(across(x), 1), round(up(y), 1), short(y), f"{short(x)} {x_label}"]
                for x, y in zip(curve.x, curve.y, strict=True)
            ],
        }
        for curve in curves
    ]
    return (
        f'<figure data-curves="{html.escape(json.dumps(points))}">'
        f"<figcaption>{html.escape(title)}{_legend(curves)}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(body)}</svg></figure>"
    )


def ticks(values: Sequence[float], about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover the values, two or more."""
    low, high = _span(values)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [k * step for k in range(first, last + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """(low, high) of the values, never of no width."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    pad = abs(low) * 0.1 or 1.0
    return (low, high) if high - low > 1e-9 * max(abs(low), abs(high)) else (low - pad, high + pad)


def _finite(curve: Curve) -> Curve:
    kept = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
    return Curve(curve.label, [x for x, _ in kept], [y for _, y in kept])


def _line(curve: Curve, index: int, across: Scale, up: Scale) -> str:
    points = [(across(x), up(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = f'<polyline class="line c{index}" points="{path}"/>'
    if len(points) > _FEW:
        return line
    return line + "".join(
        f'<circle class="dot c{index}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points
    )


def _y_axis(marks: Sequence[float], up: Scale, width: int) -> str:
    line = f'<line class="across" x1="{_LEFT}" x2="{width - _RIGHT}"'
    return "".join(
        f'{line} y1="{up(m):.1f}" y2="{up(m):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{up(m) + 4:.1f}" text-anchor="end">{short(m)}</text>'
        for m in marks
    )


def _x_axis(marks: Sequence[float], across: Scale, height: int, label: str) -> str:
    base = height - _BOTTOM
    numbers = "".join(
        f'<path class="tick" d="M{across(m):.1f},{base} v4"/>'
        f'<text x="{across(m):.1f}" y="{base + 17}" text-anchor="middle">{short(m)}</text>'
        for m in marks
    )
    middle = (across.start + across.end) / 2
    name = f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{html.escape(label)}</text>'
    axis = f'<line class="tick" x1="{across.start}" x2="{across.end}" y1="{base}" y2="{base}"/>'
    return axis + numbers + name


def _legend(curves: Sequence[Curve]) -> str:
    if len(curves) < 2:
        return ""
    return "".join(
        f'<span class="key c{i}">{html.escape(curve.label)}</span>'
        for i, curve in enumerate(curves)
    )


def short(value: float) -> str:
    """At most four digits that matter: 30M, 1.25k, -0.05, 2e-05."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.99995:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
