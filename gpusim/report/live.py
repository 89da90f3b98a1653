"""The display of a training run in a notebook: progress, numbers and the curve as it grows.

A sink like `gpusim.run.sinks.Terminal`, which `gpusim.train` takes where there is a notebook.
"""

import html
import math
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpusim.report import report
from gpusim.report.charts import short

_STYLE = (Path(__file__).parent / "chart.css").read_text(encoding="utf-8")
_QUIET_SECONDS = 0.5  # between two pictures


def in_notebook() -> bool:
    """Is there a notebook to show something in?"""
    ipython: Any = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


class LiveCurve:
    """Shows itself below the cell that makes it, and redraws itself there."""

    def __init__(self, total: int):
        """total: environment steps of the whole run."""
        from IPython.display import HTML, display  # only notebooks need it

        self._html = HTML
        self._total = total
        self._rows: list[dict[str, Any]] = []
        self._note = ""
        self._since: float | None = None  # when what is waited for began
        self._drawn = 0.0
        self._cell: Any = display(HTML(""), display_id=True)
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._count, daemon=True).start()

    def stage(self, text: str) -> None:
        """Say what is being waited for, and how long."""
        self._show(text, time.monotonic() if text else None)

    def message(self, text: str) -> None:
        """A line to be read; the next one replaces it."""
        self._show(text, None)

    def write(self, row: Any) -> None:
        """row: a `gpusim.run.sinks.Row`: steps, seconds, values (a mapping of numbers)."""
        with self._lock:
            self._note, self._since = "", None
            self._rows.append({"steps": row.steps, "seconds": row.seconds, **row.values})
            if time.monotonic() - self._drawn >= _QUIET_SECONDS or row.steps >= self._total:
                self._draw()

    def close(self) -> None:
        self._closed.set()
        self._show("", None)

    def _show(self, note: str, since: float | None) -> None:
        with self._lock:
            self._note, self._since = note, since
            self._draw()

    def _count(self) -> None:
        """The seconds of what is being waited for."""
        while not self._closed.wait(1.0):
            with self._lock:
                if self._since is not None:
                    self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        waited = "" if self._since is None else f" ... {self._drawn - self._since:.0f} s"
        self._cell.update(self._html(picture(self._rows, self._total, self._note + waited)))


def picture(rows: list[dict[str, Any]], total: int, note: str) -> str:
    """Progress bar, the newest numbers and the curve of returns, as HTML for a cell."""
    last: Mapping[str, Any] = rows[-1] if rows else {"steps": 0, "seconds": 0.0}
    done = min(1.0, last["steps"] / total)
    left = last["seconds"] * (1 - done) / done if done else None
    words = [f"{short(last['steps'])} / {short(total)} steps", f"{last['seconds']:.0f} s"]
    words += [f"{left:.0f} s left"] if left else []
    speed = last.get("steps_per_second") or math.nan
    words += [f"{short(speed)} steps/s"] if math.isfinite(speed) else []
    evaluated = [row["evaluation_return"] for row in rows if "evaluation_return" in row]
    words += [f"evaluated return {evaluated[-1]:,.0f}"] if evaluated else []
    words += [note] if note else []
    curve = report.returns_chart(rows) if rows else ""
    return (
        f'<div class="gpusim"><style>{_STYLE}</style>'
        f'<div class="progress"><i style="width:{done:.1%}"></i></div>'
        f"<p>{html.escape('  ·  '.join(words))}</p>{curve}</div>"
    )
