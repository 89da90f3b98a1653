"""What the benchmarks share: timing, facts about the machine, child processes, tables, JSON."""

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
ROBOTS = ("ant", "half_cheetah", "hopper", "humanoid", "walker2d")
"""What is measured where nothing else is said."""
PACKAGES = ("jax", "jaxlib", "llvmlite", "mujoco", "mujoco-mjx", "brax", "envpool", "numpy")


@dataclasses.dataclass(frozen=True)
class Spread:
    """Repeats of one measurement: their median, and how far apart they were."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one or more values."""
        return cls(statistics.median(values), min(values), max(values))


def time_repeats(run: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls, after two, not timed, that compile and warm up.

    Two, because JAX compiles again for what a program returned: its types and layouts may differ
    from those of the first arguments (Brax's MJX environment is such a case).
    """
    for _ in range(2):
        run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts() -> dict[str, Any]:
    """The machine and the software a result belongs to."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": cores(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,  # a busy machine shows here
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
    }


def child(module: str, arguments: Iterable[str], *, threads: int | None = None, **env: str) -> Any:
    """The JSON that `run` of the same arguments prints last."""
    return json.loads(run(module, arguments, threads=threads, **env).splitlines()[-1])


def run(module: str, arguments: Iterable[str], *, threads: int | None = None, **env: str) -> str:
    """Run `python -m module arguments` in a process of its own; what it prints.

    Thread counts are settled when a process starts, so every measurement has its own. With
    `threads` given the process is also confined to as many processors: no helper thread of XLA's
    counts for nothing. Raises RuntimeError with the end of its errors if it fails.
    """
    if threads is not None:
        env |= {"GPUSIM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", module, *arguments]
    with _confined(threads):
        done = subprocess.run(
            command, env=os.environ | env, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def show(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    notes: Iterable[str] = (),
) -> None:
    """Print a table, the first column text and the others numbers, with notes underneath."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(120, Console().width))  # a narrow or absent terminal cuts numbers
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result with the facts of the machine, whole or not at all, and say where."""
    keep(path, result)
    print(f"written to {path}")


def keep(path: Path, result: dict[str, Any]) -> None:
    """Write a result with the facts of the machine, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    text = json.dumps({"facts": facts(), **result}, indent=1) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def rate(count: float, seconds: Sequence[float]) -> Spread:
    """Count a second, over repeats."""
    return Spread.of([count / s for s in seconds])


def amount(value: float) -> str:
    """A number of steps a second, to three digits, for reading."""
    return f"{float(f'{value:.3g}'):,.0f}"


@contextlib.contextmanager
def _confined(threads: int | None) -> Iterator[None]:
    """Confines this thread, and so what it starts, to as many processors."""
    if threads is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")),
        platform.processor(),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit measured, with a + when the working tree differs from it."""
    here = Path(__file__).parent
    run = lambda *args: subprocess.run(
        ["git", *args], cwd=here, capture_output=True, text=True, check=False
    )
    commit = run("rev-parse", "--short=12", "HEAD").stdout.strip()
    changed = run("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return (commit + ("+" if changed else "")) or None
