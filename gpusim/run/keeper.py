"""What is written while a run goes on: rows and checkpoints.

Checkpoints are written by a thread while training goes on; the one at the end is waited for. A disk
that is full, a folder that somebody deleted, a log that cannot be written end no training: it is
told once, and tried again with the next row or checkpoint.
"""

import functools
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gpusim import config as configs
from gpusim.agents.learner import TrainState
from gpusim.run import archive, checkpoint, sinks
from gpusim.run.files import write_atomic
from gpusim.run.job import Job, shown_metrics
from gpusim.run.summary import Run


class Position(NamedTuple):
    """Where a run is."""

    state: TrainState
    steps: int  # environment steps so far
    seconds_before: float  # wall time spent by earlier processes
    evaluation: dict[str, float]
    best: float = -math.inf  # evaluated return
    good: tuple[tuple[float, int], ...] = ()  # the best evaluated returns, and at which steps
    worse: int = 0  # evaluations in a row that were no better
    diverged: bool = False


class Keeper:
    """Writes for one run."""

    ATTEMPTS, PAUSE = 3, 1.0  # to save at the end; seconds between them

    def __init__(self, job: Job, files: Sequence[sinks.Sink], display: sinks.Display, saved: int):
        """files: the report is the last. saved: environment steps of the newest checkpoint."""
        self.job, self.files, self.display = job, files, display
        self._report = files[-1]
        self.saved, self.saved_at = saved, job.phases.elapsed()
        self._begun = saved  # the newest of which a checkpoint was begun, or is there
        self._told: set[str] = set()
        self._shown = False  # was it said where to look?
        self._host = socket.gethostname()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[str, int, Future] | None = None  # what is written, of which steps
        self._fault: Exception | None = None  # of the thread, that nobody foresaw

    def row(self, row: sinks.Row) -> None:
        """One row to every sink. Raises what the thread raised, and a sink, unless an OSError."""
        if self._fault:
            raise self._fault
        with self._telling("the run folder"):
            self._restore()
            self._beat(row)
        for sink in self.files:
            with self._telling(type(sink).__name__):
                sink.write(row)
        self.display.write(row)
        page, total = self.job.folder / "report.html", self.job.config.learner.total_steps
        if not self._shown and "evaluation_return" in row.values:
            self._shown = True
            if row.steps < total and page.exists():
                self.display.message(f"watch it meanwhile, in a browser: {page}")

    def _beat(self, row: sinks.Row) -> None:
        """heartbeat.json: when the run was last alive, where, and how far."""
        now = {"time": time.time(), "steps": row.steps, "pid": os.getpid(), "host": self._host}
        part = self.job.folder / ".heartbeat.part"
        part.write_text(json.dumps(now) + "\n", encoding="utf-8")  # no fsync: it is of the moment
        part.replace(self.job.folder / "heartbeat.json")

    def due(self, here: Position) -> bool:
        """Is it time for a checkpoint? For the first one it is as soon as there is something to
        keep; else not while one is being written, unless it is to stay or every one is asked for.
        """
        if here.steps == self._begun:
            return False
        if not self._begun:
            return True
        every = self.job.config.checkpoint_seconds
        idle = self._pending is None or self._pending[2].done() or not every
        waited = self.job.phases.elapsed() - self.saved_at
        return (idle and waited >= every) or self._for_good(here.steps)

    def _for_good(self, steps: int) -> bool:
        """Was one of the marks crossed at which a checkpoint is kept, by the call that led here?"""
        every = self.job.config.archive_steps
        before = steps - self.job.config.learner.steps_per_call
        return every is not None and steps // every > before // every

    def save(self, here: Position) -> None:
        """Begin a checkpoint on the way; one that cannot be written is missed."""
        self._begin("a checkpoint", here, self._save, here.steps)
        self._begun = here.steps
        self.saved_at = self.job.phases.elapsed()

    def save_best(self, here: Position) -> None:
        """Begin what is kept apart of this evaluation: the best one's checkpoint if it is that, and
        one of several good ones' if they are kept."""
        self._begin("the best checkpoint", here, functools.partial(self._save_best, here), 0)

    def _save_best(self, here: Position, leaves: checkpoint.Snapshot, **about: Any) -> None:
        if here.worse == 0:
            checkpoint.write(self.checkpoints / archive.BEST, leaves, **about)
        if self.job.config.keep_best > 1:
            good = [archive.good(self.checkpoints, steps) for _, steps in here.good]
            checkpoint.write(archive.good(self.checkpoints, here.steps), leaves, **about)
            for path in set(archive.all_good(self.checkpoints)) - set(good):
                path.unlink()

    def finish(self, here: Position) -> None:
        """The last checkpoint. Raises OSError if it cannot be written."""
        self.settle()
        leaves = snapshot(self.job, here)
        self.job.hosts.by_first(lambda: self._save_at_last(here, leaves))

    def _save_at_last(self, here: Position, leaves: checkpoint.Snapshot) -> None:
        for attempt in range(self.ATTEMPTS):
            try:
                return self._save_now(here, leaves)
            except OSError as error:
                if attempt == self.ATTEMPTS - 1:
                    kept = f"{self.saved} steps are saved" if self.saved else "nothing is saved"
                    raise OSError(
                        f"{self.checkpoints}: the last checkpoint cannot be written "
                        f"({error.strerror or error}); of {here.steps} steps {kept}"
                    ) from error
                time.sleep(self.PAUSE)

    def rescue(self, here: Position) -> None:
        """Save what was learned before something went wrong, if it is still there. All processes
        come here, to give their parts."""
        self.settle()
        lost = any(leaf.is_deleted() for leaf in jax.tree.leaves(here.state))
        if here.diverged or lost:
            return
        with suppress(Exception):  # what went wrong first is what is to be told
            leaves = snapshot(self.job, here)
            if here.steps > self.saved:
                self._save_now(here, leaves)
                self.display.message(f"what was learned in {here.steps} steps is saved")

    def conclude(self, run: Run) -> None:
        """Write what came of the run; what was learned is saved already."""
        for write in (run.write, self._report.close):
            try:
                write()
            except OSError as error:
                self.display.message(str(error))

    def settle(self) -> None:
        """Wait for what is being written."""
        if self._pending is None:
            return
        (what, steps, future), self._pending = self._pending, None
        with self._telling(what), self.job.phases("save"):
            try:
                future.result()
                self.saved = max(self.saved, steps)
            except OSError:
                raise
            except Exception as error:  # raised where no other process waits for this one
                self._fault = error

    def close(self) -> None:
        """Wait for what is being written, and end the thread."""
        with self._writer:
            self.settle()

    def _begin(self, what: str, here: Position, write: Callable[..., Any], steps: int) -> None:
        """Let the thread write a snapshot, from which the run can go on at so many steps; one at a
        time is held in memory.
        """
        self.settle()
        with self._telling(what), self.job.phases("save"):
            leaves = snapshot(self.job, here)
            self._restore()
            future = self._writer.submit(write, leaves, **self._about(here))
            self._pending = what, steps, future

    def _save_now(self, here: Position, leaves: checkpoint.Snapshot) -> None:
        self._restore()
        with self.job.phases("save"):
            self._save(leaves, **self._about(here))
        self.saved = here.steps

    def _save(self, leaves: checkpoint.Snapshot, **about: Any) -> None:
        keep = self.job.config.keep_checkpoints
        checkpoint.save(self.checkpoints, leaves, keep=keep, for_good=self._for_good, **about)

    @property
    def checkpoints(self) -> Path:
        """Their folder."""
        return self.job.folder / "checkpoints"

    def _about(self, here: Position) -> dict[str, Any]:
        """What a checkpoint says besides the state."""
        extra = {
            "seconds": here.seconds_before + self.job.phases.elapsed(),
            "evaluation": here.evaluation,
            "best": here.best if math.isfinite(here.best) else None,
            "worse": here.worse,
            "good": here.good,
            "config": configs.to_yaml(self.job.config),
        }
        return {"step": here.steps, "extra": extra}

    def _restore(self) -> None:
        """The run folder again, if somebody deleted it."""
        if not (self.job.folder / "config.yaml").exists():
            describe(self.job)
            self.display.message(f"{self.job.folder} was deleted, and is made anew")

    def tell_once(self, what: str, line: str) -> None:
        """Say something, the first time that it is about this."""
        if what not in self._told:
            self._told.add(what)
            self.display.message(line)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """The first time that something cannot be written, a line says so."""
        try:
            yield
        except OSError as error:
            self.tell_once(what, f"{what} cannot be written: {error}; training goes on")


class Follower:
    """Stands for the Keeper in every process but the first: writes nothing, and hands over its part
    of the state whenever the first one saves."""

    def __init__(self, job: Job, display: sinks.Display):
        self.job, self.display = job, display

    def row(self, row: sinks.Row) -> None: ...
    def conclude(self, run: Run) -> None: ...
    def tell_once(self, what: str, line: str) -> None: ...

    def due(self, here: Position) -> bool:
        """It is the first who knows."""
        return False

    def save(self, here: Position) -> None:
        """Give."""
        snapshot(self.job, here)

    save_best = save

    def finish(self, here: Position) -> None:
        """Give, and hear whether it could be written."""
        snapshot(self.job, here)
        self.job.hosts.by_first(lambda: None)

    def rescue(self, here: Position) -> None:
        """Give, since something went wrong."""
        if not here.diverged:
            with suppress(Exception):
                snapshot(self.job, here)


def snapshot(job: Job, here: Position) -> checkpoint.Snapshot:
    """The state of all processes, as they all ask for it at the same time."""
    own = checkpoint.snapshot(here.state)
    return {name: (job.hosts.gathered(data), dtype) for name, (data, dtype) in own.items()}


def describe(job: Job) -> None:
    """Write what the run is: config.yaml, and labels.json, what its metrics are called, for who
    reads the folder without the learner."""
    job.folder.mkdir(parents=True, exist_ok=True)
    text = configs.to_yaml(job.config).encode()
    write_atomic(job.folder / "config.yaml", lambda file: file.write(text))
    shown = {name: metric._asdict() for name, metric in shown_metrics(job.learner).items()}
    labels = json.dumps(shown, indent=1).encode()
    write_atomic(job.folder / "labels.json", lambda file: file.write(labels))
