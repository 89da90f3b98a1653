"""Where a run's numbers go: terminal, JSON lines, CSV, TensorBoard, Weights & Biases.

A run produces rows. A sink has `write(row)` and `close()`; nothing here knows who else listens.
"""

import contextlib
import csv
import errno
import io
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from gpusim.config import ConfigError
from gpusim.metrics import RUN, SPREAD, Metric, count, duration
from gpusim.report import report
from gpusim.run.files import write_atomic


class Row(NamedTuple):
    """One point of every curve."""

    steps: int  # environment steps since the start of training, over all worlds
    seconds: float  # wall time of training, earlier parts of a resumed run included
    values: Mapping[str, float]
    seeds: Sequence[Mapping[str, float]] = ()  # the values of each seed, if there are several


class Sink(Protocol):
    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


class Display(Sink, Protocol):
    """A sink that people watch while a run goes on."""

    def stage(self, text: str) -> None: ...
    def message(self, text: str) -> None: ...


class Nowhere:
    """A display that nobody watches."""

    def stage(self, text: str) -> None: ...
    def message(self, text: str) -> None: ...
    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


class Callback:
    """A function that wants to hear of every row."""

    def __init__(self, function: Callable[[Row], object]):
        self._function = function

    def write(self, row: Row) -> None:
        self._function(row)

    def close(self) -> None: ...


class _Lines:
    """A file that lines are added to, whole ones alone; those that a full disk did not take wait
    for the next."""

    def __init__(self, path: Path):
        self.path, self._waiting = path, b""

    def add(self, lines: bytes, *, head: bytes = b"") -> None:
        """head: what comes before all lines, in a file that has none yet. Raises OSError."""
        self._waiting += lines
        with self.path.open("ab", buffering=0) as file:
            whole = file.tell()
            data = self._waiting if whole else head + self._waiting
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError:
                file.truncate(whole)  # no torn line stays
                raise
        self._waiting = b""


def listener(heard: Any) -> Sink:
    """A function or a sink as a sink. Raises ConfigError for what is neither."""
    if callable(heard):
        return Callback(heard)
    if not all(callable(getattr(heard, name, None)) for name in ("write", "close")):
        raise ConfigError(
            f"callbacks: {heard!r} is neither a function nor an object with write(row) and close()"
        )
    return heard


class JsonLines:
    """metrics.jsonl: one JSON object a row. What is not finite is null (JSON has no NaN)."""

    def __init__(self, path: Path, *, resume_at: int | None = None):
        """resume_at: steps of the checkpoint a run resumes from; rows after it are dropped, because
        they will be written again."""
        if resume_at is not None and path.exists():
            lines = path.read_bytes().splitlines()
            kept = b"".join(line + b"\n" for line in lines if _steps(line) <= resume_at)
            write_atomic(path, lambda file: file.write(kept))
        path.touch()
        self._lines = _Lines(path)

    def write(self, row: Row) -> None:
        values = {k: float(v) if math.isfinite(v) else None for k, v in row.values.items()}
        line = {"steps": row.steps, "seconds": round(row.seconds, 3), **values}
        self._lines.add(json.dumps(line).encode() + b"\n")

    def close(self) -> None: ...


def _steps(line: bytes) -> float:
    """Steps of a row; infinite for what is none, as the torn last line of a run that was killed."""
    try:
        return int(json.loads(line)["steps"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class Seeds:
    """seeds/SEED.jsonl: the rows of each seed by itself."""

    def __init__(self, folder: Path, numbers: Sequence[int], *, resume_at: int | None = None):
        """resume_at: as for JsonLines."""
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [JsonLines(folder / f"{n}.jsonl", resume_at=resume_at) for n in numbers]

    def write(self, row: Row) -> None:
        for file, values in zip(self._files, row.seeds, strict=True):
            file.write(row._replace(values=values))

    def close(self) -> None: ...


class Csv:
    """metrics.csv: a row a line, empty where there is nothing or nothing finite."""

    def __init__(self, path: Path, *, resume_at: int | None = None):
        """resume_at: as for JsonLines."""
        self._lines, self._header = _Lines(path), []
        if resume_at is not None and path.exists():
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                lines = [line for line in file if line.endswith("\n")]
            reader = csv.DictReader(lines)
            kept = [row for row in reader if _whole(row) and int(row["steps"]) <= resume_at]
            self._header = list(reader.fieldnames or [])
            text = self._text(kept, header=bool(self._header))
            write_atomic(path, lambda file: file.write(text))

    def write(self, row: Row) -> None:
        if not self._header:  # evaluations come later, with numbers of their own
            self._header = [*dict.fromkeys(("steps", "seconds", *row.values, *RUN))]
        values = {k: v for k, v in row.values.items() if math.isfinite(v)}
        line = {"steps": row.steps, "seconds": round(row.seconds, 3), **values}
        self._lines.add(self._text([line]), head=self._text([], header=True))

    def close(self) -> None: ...

    def _text(self, rows: Sequence[Mapping[str, Any]], *, header: bool = False) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._header, extrasaction="ignore", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()


def _whole(row: Mapping[str, str | None]) -> bool:
    """Is it no line that was torn by a kill, nor garbage?"""
    return None not in row.values() and (row.get("steps") or "").isdecimal()


class WandB:
    """Weights & Biases, against environment steps; WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]

        name, self._error = folder.resolve().name, wandb.Error
        try:
            self._run = wandb.init(
                project=project, name=name, dir=str(folder), config=dict(config), resume="allow",
                id=f"{name}-{zlib.crc32(str(folder.resolve()).encode()):x}",
            )  # fmt: skip
        except wandb.Error as error:
            line = " ".join(str(error).split())
            raise ConfigError(f"--wandb: {line}; WANDB_MODE=offline needs no login") from error

    def write(self, row: Row) -> None:
        values = {name: x for name, x in row.values.items() if math.isfinite(x)}
        try:
            self._run.log({**values, "seconds": row.seconds}, step=row.steps)
        except self._error as error:  # training goes on, as when a disk is full
            raise OSError(str(error)) from error

    def close(self) -> None:
        with contextlib.suppress(self._error):
            self._run.finish()


class TensorBoard:
    """Event files, against environment steps. Written as they come: tensorboardX's own writer is a
    thread, which dies of a full disk and then blocks the training."""

    def __init__(self, folder: Path, *, resume_at: int | None = None):
        """resume_at: steps of the checkpoint a run resumes from; later points become void."""
        self._folder = folder
        self._purge = None if resume_at is None else resume_at + 1  # the first void step
        self._writer: Any = None

    def write(self, row: Row) -> None:
        with _not_there("torch"):  # of which tensorboardX wants a type hint, for seconds
            # late: the first update need not wait for it
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2

        proto: Any = event_pb2
        event = lambda **what: proto.Event(wall_time=time.time(), step=row.steps, **what)
        if self._writer is None:
            self._writer = event_file_writer.EventsWriter(str(self._folder / "events"))
            if self._purge is not None:
                start = proto.SessionLog(status=proto.SessionLog.START)
                log = event(session_log=start)
                log.step = self._purge
                self._writer.write_event(log)
        for name, value in row.values.items():
            if math.isfinite(value):
                self._writer.write_event(event(summary=summary.scalar(name, value)))
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()


@contextlib.contextmanager
def _not_there(module: str) -> Iterator[None]:
    """Who imports a module meanwhile does not find it, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # pyright: ignore[reportArgumentType]  # Python's way to say so
    try:
        yield
    finally:
        del sys.modules[module]


class Report:
    """report.html, there from the first row on and renewed while the run goes on."""

    QUIET_SECONDS = 10.0  # between two of them

    def __init__(self, folder: Path):
        self._folder = folder
        self._written = -math.inf

    def write(self, row: Row) -> None:
        evaluated = "evaluation_return" in row.values
        if evaluated or time.monotonic() - self._written >= self.QUIET_SECONDS:
            self.close()
            self._written = time.monotonic()

    def close(self) -> None:
        try:
            report.write(self._folder)
        except ValueError as error:  # somebody changed a file of the folder: training goes on
            raise OSError(str(error)) from error


class _Console(Console):
    """One whose reader may go (`... | head`): the run goes on without it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal:
    """A live display on a terminal, plain lines elsewhere."""

    QUIET_SECONDS = 5.0  # between plain lines

    def __init__(
        self, total: int, metrics: Mapping[str, Metric], *, console: Console | None = None
    ):
        """total: environment steps of the whole run. metrics: those with a label are shown."""
        self._metrics = metrics
        self._console = console or _Console()
        self._total = total
        self._seen: dict[str, float] = {}
        self._evaluated_at = 0  # environment steps
        self._stage, self._since = "", 0.0
        self._last_line = -math.inf
        self._bar = Progress(
            BarColumn(None, table_column=Column(ratio=1, min_width=4)),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=False)),
            console=self._console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total, text="")
        self._live = None
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render, console=self._console, refresh_per_second=4
            )
            self._live.start()

    def stage(self, text: str) -> None:
        """Say what is being waited for; "": for nothing any more."""
        seconds = time.monotonic() - self._since
        if self._stage and self._live:
            self.message(f"{self._stage}: {seconds:.1f} s")
        elif self._stage:
            self.message(f"  took {seconds:.1f} s")
        self._stage, self._since = text, time.monotonic()
        if self._live:
            self._live.refresh()
        elif text:
            self.message(f"{text} ...")

    def message(self, text: str) -> None:
        """A line that stays, above the live display."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def write(self, row: Row) -> None:
        self.stage("")
        self._seen |= {name: x for name, x in row.values.items() if math.isfinite(x)}
        if "evaluation_return" in row.values:
            self._evaluated_at = row.steps
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
            parts = [f"{min(1, row.steps / self._total):4.0%}  {text}"]
            for title, cells in self._groups():
                parts.append(f"{title}: " + "  ".join(f"{k} {v}" for k, v in cells))
            self.message("  |  ".join(parts))

    def close(self) -> None:
        self.stage("")
        if self._live:
            self._live.stop()
            self._live = None

    def _groups(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """What is shown: a title, and labels with numbers."""
        titles = {
            "training": "training, exploring",
            "evaluated": f"evaluated at {count(self._evaluated_at)}, not exploring",
        }
        for group, title in titles.items():
            cells = [
                (metric.label, self._shown(name, metric))
                for name, metric in self._metrics.items()
                if metric.label and metric.group == group and name in self._seen
            ]
            if cells:
                yield title, cells

    def _shown(self, name: str, metric: Metric) -> str:
        """The number, and how far seeds are from each other in it."""
        spread = self._seen.get(name + SPREAD)
        among = "" if spread is None else f" (±{metric.show(spread)} among seeds)"
        return metric.show(self._seen[name]) + among

    def _render(self) -> Group:
        """The bar, and below it each group: as many numbers in a line as the window has room for,
        and none of them torn."""
        parts: list[Any] = [self._bar]
        for title, cells in self._groups():
            shown = [Text.assemble((f"{k} ", "dim"), (v, "bold")) for k, v in cells]
            parts += [Text(title, "cyan"), Padding(Columns(shown, padding=(0, 3)), (0, 0, 0, 2))]
        seconds = time.monotonic() - self._since
        waiting = [Text(f"{self._stage} ... {seconds:.0f} s", "dim")] if self._stage else []
        return Group(*parts, *waiting)
