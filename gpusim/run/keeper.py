"""What is written while a run goes on: rows and checkpoints.

A disk that is full, a folder that somebody deleted, a log that cannot be written end no training:
it is told once, and tried again with the next row or checkpoint.
"""

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gpusim import config as configs
from gpusim.agents.learner import TrainState
from gpusim.run import archive, checkpoint, sinks
from gpusim.run.files import write_atomic
from gpusim.run.job import Job, shown_metrics


class Position(NamedTuple):
    """Where a run is."""

    state: TrainState
    steps: int  # environment steps so far
    seconds_before: float  # wall time spent by earlier processes
    evaluation: dict[str, float]
    best: float = -math.inf  # evaluated return
    worse: int = 0  # evaluations in a row that were no better
    diverged: bool = False


class Keeper:
    """Writes for one run."""

    ATTEMPTS, PAUSE = 3, 1.0  # to save at the end; seconds between them

    def __init__(self, job: Job, files: Sequence[sinks.Sink], display: sinks.Display, saved: int):
        """saved: environment steps of the newest checkpoint."""
        self.job, self.files, self.display = job, files, display
        self.saved, self.saved_at = saved, job.phases.elapsed()
        self._told: set[str] = set()
        self._host = socket.gethostname()

    def row(self, row: sinks.Row) -> None:
        """One row to every sink."""
        with self._telling("the run folder"):
            self._restore()
            self._beat(row)
        for sink in self.files:
            with self._telling(type(sink).__name__):
                sink.write(row)
        self.display.write(row)

    def _beat(self, row: sinks.Row) -> None:
        """heartbeat.json: when the run was last alive, where, and how far."""
        now = {"time": time.time(), "steps": row.steps, "pid": os.getpid(), "host": self._host}
        part = self.job.folder / ".heartbeat.part"
        part.write_text(json.dumps(now) + "\n")  # no fsync: it is of the moment
        part.replace(self.job.folder / "heartbeat.json")

    @property
    def due(self) -> bool:
        """Is it time for a checkpoint?"""
        return self.job.phases.elapsed() - self.saved_at >= self.job.config.checkpoint_seconds

    def save(self, here: Position) -> None:
        """A checkpoint on the way; one that cannot be written is missed."""
        with self._telling("a checkpoint"):
            self._save(here)
        self.saved_at = self.job.phases.elapsed()

    def save_best(self, here: Position) -> None:
        """The checkpoint of the best evaluation so far, kept apart."""
        with self._telling("the best checkpoint"), self.job.phases("save"):
            checkpoint.write(self.checkpoints / archive.BEST, here.state, **self._about(here))

    def finish(self, here: Position) -> None:
        """The last checkpoint. Raises OSError if it cannot be written."""
        for _ in range(self.ATTEMPTS - 1):
            with suppress(OSError):
                return self._save(here)
            time.sleep(self.PAUSE)
        return self._save(here)

    def rescue(self, here: Position) -> None:
        """Save what was learned before something went wrong, if it is still there."""
        lost = any(leaf.is_deleted() for leaf in jax.tree.leaves(here.state))
        if here.steps > self.saved and not lost and not here.diverged:
            with suppress(Exception):  # what went wrong first is what is to be told
                self._save(here)
                self.display.message(f"what was learned in {here.steps} steps is saved")

    def _save(self, here: Position) -> None:
        self._restore()
        job, keep = self.job, self.job.config.keep_checkpoints
        with job.phases("save"):
            checkpoint.save(self.checkpoints, here.state, keep=keep, **self._about(here))
        self.saved = here.steps

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
            "config": configs.to_yaml(self.job.config),
        }
        return {"step": here.steps, "extra": extra}

    def _restore(self) -> None:
        """The run folder again, if somebody deleted it."""
        if not (self.job.folder / "config.yaml").exists():
            describe(self.job)
            self.display.message(f"{self.job.folder} was deleted, and is made anew")

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """The first time that something cannot be written, a line says so."""
        try:
            yield
        except OSError as error:
            if what not in self._told:
                self._told.add(what)
                self.display.message(f"{what} cannot be written: {error}; training goes on")


def describe(job: Job) -> None:
    """Write what the run is: config.yaml, and labels.json, what its metrics are called, for who
    reads the folder without the learner."""
    job.folder.mkdir(parents=True, exist_ok=True)
    text = configs.to_yaml(job.config).encode()
    write_atomic(job.folder / "config.yaml", lambda file: file.write(text))
    shown = {name: metric._asdict() for name, metric in shown_metrics(job.learner).items()}
    labels = json.dumps(shown, indent=1).encode()
    write_atomic(job.folder / "labels.json", lambda file: file.write(labels))
