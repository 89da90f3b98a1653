"""Where the wall time of a run goes."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
        fields = (
            Path("/proc/self/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return time.perf_counter() - _IMPORTED


_IMPORTED = time.perf_counter()
