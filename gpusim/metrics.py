"""What is measured during a run, and where it goes: terminal, JSON lines, TensorBoard.

A run produces rows. A sink has `write(row)` and `close()`; nothing here knows who else listens.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from gpusim.checkpoint import write_atomic


class Row(NamedTuple):
    """One point of every curve."""

    steps: int  # environment steps since the start of training, over all worlds
    seconds: float  # wall time of training, earlier parts of a resumed run included
    values: Mapping[str, float]


class Sink(Protocol):
    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """metrics.jsonl: one JSON object a row. What is not finite is null (JSON has no NaN)."""

    def __init__(self, path: Path, *, resume_at: int | None = None):
        """resume_at: steps of the checkpoint a run resumes from; rows after it are dropped, because
        they will be written again."""
        if resume_at is not None and path.exists():
            kept = [line for line in path.read_text().splitlines() if _steps(line) <= resume_at]
            text = "".join(f"{line}\n" for line in kept)
            write_atomic(path, lambda file: file.write(text.encode()))
        self._file = path.open("a")

    def write(self, row: Row) -> None:
        values = {k: float(v) if math.isfinite(v) else None for k, v in row.values.items()}
        line = {"steps": row.steps, "seconds": round(row.seconds, 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _steps(line: str) -> float:
    """Steps of a row; infinite for the torn last line of a run that was killed."""
    try:
        return json.loads(line)["steps"]
    except (ValueError, KeyError):
        return math.inf


class TensorBoard:
    """Event files, against environment steps."""

    def __init__(self, folder: Path, *, resume_at: int | None = None):
        """resume_at: steps of the checkpoint a run resumes from; later points become void."""
        self._folder = folder
        self._purge = None if resume_at is None else resume_at + 1  # the first void step
        self._writer: Any = None

    def write(self, row: Row) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter  # late: the first update need not wait for it

            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge)
        for name, value in row.values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, row.steps)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Terminal:
    """A live display on a terminal, plain lines elsewhere."""

    SHOWN = (  # metric, label, format
        ("steps_per_second", "steps/s", "count"),
        ("return", "training return", ",.0f"),
        ("episode_length", "training episode length", ",.0f"),
        ("evaluation_return", "evaluation return", ",.0f"),
        ("policy_loss", "policy loss", ".4f"),
        ("value_loss", "value loss", ".4g"),
        ("entropy", "entropy", ".3f"),
        ("kl", "KL", ".4f"),
    )
    QUIET_SECONDS = 5.0  # between plain lines

    def __init__(self, total: int, *, console: Console | None = None):
        """total: environment steps of the whole run."""
        self._console = console or Console()
        self._total = total
        self._seen: dict[str, float] = {}
        self._stage = ""
        self._last_line = -math.inf
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[text]}"),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=total, text="")
        self._live = None
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render, console=self._console, refresh_per_second=4
            )
            self._live.start()

    def stage(self, text: str) -> None:
        """Say what is being waited for."""
        self._stage = text
        if self._live:
            self._live.refresh()
        elif text:
            self.message(text)

    def message(self, text: str) -> None:
        """A line that stays, above the live display."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def write(self, row: Row) -> None:
        self._stage = ""
        self._seen |= {name: x for name, x in row.values.items() if math.isfinite(x)}
        speed = self._seen.get("steps_per_second", math.nan)
        seconds_left = max(0, self._total - row.steps) / speed if speed > 0 else math.nan
        done = f"{count(row.steps)} / {count(self._total)} steps"
        text = f"{done}  {duration(row.seconds)} elapsed  {duration(seconds_left)} left"
        self._bar.update(self._task, completed=row.steps, text=text)
        if self._live:
            return
        now = time.monotonic()
        if row.steps >= self._total or now - self._last_line >= self.QUIET_SECONDS:
            self._last_line = now
            shown = "  ".join(f"{label} {value}" for label, value in self._shown())
            self.message(f"{min(1, row.steps / self._total):4.0%}  {text}  {shown}")

    def close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _shown(self) -> Iterator[tuple[str, str]]:
        for name, label, style in self.SHOWN:
            if name in self._seen:
                value = self._seen[name]
                yield label, count(value) if style == "count" else format(value, style)

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 3))
        cells = [Text.assemble((f"{k} ", "dim"), (v, "bold")) for k, v in self._shown()]
        for i in range(0, len(cells), 4):
            table.add_row(*cells[i : i + 4])
        return Group(self._bar, table, *([Text(self._stage, "dim")] if self._stage else []))


class Phases:
    """Wall time by phase: `with phases("learning"): ...` notes one call of that phase."""

    def __init__(self, before: float = 0.0):
        """before: seconds that passed before this was made and count, as phase `import`."""
        self._origin = time.perf_counter() - before
        self.calls: dict[str, list[float]] = {"import": [before]}  # seconds of each call
        self.marks: dict[str, float] = {}  # event -> seconds after the origin

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.calls.setdefault(name, []).append(time.perf_counter() - start)

    def elapsed(self) -> float:
        """Seconds since the origin."""
        return time.perf_counter() - self._origin

    def mark(self, event: str) -> None:
        """Note when an event happened first."""
        self.marks.setdefault(event, self.elapsed())

    def warm(self, name: str) -> float:
        """Seconds in a phase whose first call also compiled, as if that had been free: the first
        call is taken to have run as long as the median of the others. 0 if there are no others."""
        first, *others = self.calls.get(name, [0.0])
        return min(first, statistics.median(others)) + sum(others) if others else 0.0

    def compiling(self, name: str) -> float:
        """What the first call of a phase took beyond that."""
        return sum(self.calls.get(name, [])) - self.warm(name)


def process_age() -> float:
    """Seconds since this process started, imports included; since this import where /proc lacks."""
    try:
        # Field 22 is the start in clock ticks after boot; the name, field 2, may hold spaces.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return time.perf_counter() - _IMPORTED


_IMPORTED = time.perf_counter()


def count(number: float) -> str:
    """1234567 -> 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """75 -> 1:15."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
