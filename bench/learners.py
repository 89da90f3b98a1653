"""Learners side by side: `python -m bench.learners`.

Each learner trains with its preset on each task, once a seed, one run after the other. The table
has the evaluation return after so many seconds since its process started, compiling included, and
at the end; the JSON has the whole curves, over steps and over seconds.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from bench import common, curves

TASKS = ("hopper", "half_cheetah", "walker2d", "InvertedDoublePendulum-v5", "Reacher-v5")
MARKS = (15, 30, 60, 90)  # seconds


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags; those not listed here are gpusim.train's."""

    envs: tuple[str, ...] = TASKS
    """Environments, by their names in gpusim."""
    learners: tuple[str, ...] = ("ppo", "sac")
    """Learners, by theirs."""
    seeds: tuple[int, ...] = (0,)
    """One run each."""
    out: Path = common.RESULTS / "learners.json"
    """JSON file."""


def main(args: Args, flags: Sequence[str]) -> None:
    """Train all, print the table and write the numbers."""
    results, rows = [], []
    for env in args.envs:
        for learner in args.learners:
            more = [f"--learner={learner}", *flags]
            runs = {seed: curves.train(env, seed, more) for seed in args.seeds}
            results.append({"env": env, "learner": learner, "seeds": runs})
            rows.append(row(env, learner, list(runs.values())))
            common.show("evaluation return", columns(), rows)  # so far: a run is long
    common.write(args.out, {"results": results})


def columns() -> tuple[str, ...]:
    return ("", *(f"{s} s" for s in MARKS), "at the end", "steps", "wall")


def row(env: str, learner: str, runs: list[dict[str, Any]]) -> list[str]:
    """Medians over the seeds."""
    marks = [[r for run in runs if (r := reached(run, s)) is not None] for s in MARKS]
    return [
        f"{env}, {learner}",
        *(f"{statistics.median(m):,.4g}" if len(m) == len(runs) else "" for m in marks),
        f"{statistics.median([run['return'] for run in runs]):,.4g}",
        f"{runs[0]['steps'][-1]:,}",
        f"{statistics.median([run['wall'] for run in runs]):.0f} s",
    ]


def reached(run: dict[str, Any], seconds: float) -> float | None:
    """The last evaluation by then, if there is one and the run was not over before it."""
    found = [r for r, s in zip(run["returns"], run["seconds"], strict=True) if s <= seconds]
    return found[-1] if found and run["seconds"][-1] >= seconds else None


if __name__ == "__main__":
    main(*tyro.cli(Args, return_unknown_args=True))
