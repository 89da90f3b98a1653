"""Seconds from the command to a good policy: `python -m bench.time_to_reward --goal 5000`.

Each seed is one run of the training program, which ends at the first evaluation that reaches the
goal; what counts is the wall time since its process started, compiling and evaluations included.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import tyro

from bench import common, curves


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags; those not listed here are gpusim.train's."""

    env: str = "ant"
    """Environment, by its name in gpusim; its preset is used."""
    goal: float = 5000.0
    """The mean return of an evaluation, without exploration, that is to be reached."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training run each, one after the other."""
    evaluations: int = 40
    """Evaluations of a whole run."""
    out: Path | None = None
    """JSON file; by default bench/results/time-ENV-GOAL.json."""


def main(args: Args, flags: Sequence[str]) -> None:
    """Train and report."""
    more = [f"--stop-return={args.goal}", f"--evaluations={args.evaluations}", *flags]
    runs = {seed: curves.train(args.env, seed, more) for seed in args.seeds}
    found = {seed: reached(run, args.goal) for seed, run in runs.items()}
    rows = [
        [f"seed {seed}", f"{seconds:.0f} s", f"{steps:,}"] if seconds is not None
        else [f"seed {seed}", f"not reached: {max(runs[seed]['returns']):,.0f} at best", ""]
        for seed, (seconds, steps) in found.items()
    ]  # fmt: skip
    seconds = [s if s is not None else float("inf") for s, _ in found.values()]
    median = statistics.median(seconds)
    rows.append(["median", f"{median:.0f} s" if median < float("inf") else "not reached", ""])
    title = f"{args.env}: from the command to a return of {args.goal:,.0f}"
    common.show(title, ("", "since the process started", "steps"), rows)
    common.write(
        args.out or common.RESULTS / f"time-{args.env}-{args.goal:.0f}.json",
        {"env": args.env, "goal": args.goal, "flags": list(flags), "seeds": runs},
    )


def reached(run: dict, goal: float) -> tuple[float | None, int]:
    """Seconds and environment steps of the first evaluation that reached the goal."""
    rows = zip(run["seconds"], run["steps"], run["returns"], strict=True)
    return next(((s, n) for s, n, r in rows if r >= goal), (None, run["steps"][-1]))


if __name__ == "__main__":
    main(*tyro.cli(Args, return_unknown_args=True))
