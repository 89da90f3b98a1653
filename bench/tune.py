"""Searching for presets: `python -m bench.tune ENV ...`.

`bench/tuning/ENV.yaml` says what may vary, how many draws are made and what counts. Every draw, and
the preset as it is, trains three seeds in one program; Ray Tune draws and runs them
(`gpusim.sweep`), two at once on two cores. What came of them is kept in `bench/tuning/ENV.json`,
the best first. The same command goes on with a search that was interrupted.

First come runs that end with every seed at the `goal`, where there is one: a preset is to work for
every seed. Among them it counts after how many steps the median seed was there, and then the return
at the end, less its spread among seeds.
"""

import dataclasses
import json
import math
import statistics
from pathlib import Path
from typing import Any

import tyro
import yaml

from bench import common

HERE = Path(__file__).parent / "tuning"
SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    envs: tyro.conf.Positional[tuple[str, ...]]
    """Environments that have a file here."""
    runs: Path = Path("runs/tuning")
    """Where the runs are kept, a folder for each environment."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What a file says."""

    space: dict[str, Any]
    """As `gpusim.sweep --space` has it."""
    trials: int
    """Draws."""
    steps: float
    """Environment steps of each seed."""
    goal: float | None = None
    """Return to be reached as soon as possible."""
    evaluations: int = 20
    """Of each run."""


def main(args: Args) -> None:
    """Search, print the table, write the numbers."""
    for env in args.envs:
        search = Search(**yaml.safe_load((HERE / f"{env}.yaml").read_text(encoding="utf-8")))
        found = [preset(env, search, args.runs / env), *draws(env, search, args.runs / env)]
        found.sort(key=lambda run: run["score"])
        report(env, search, found)
        common.write(HERE / f"{env}.json", {"env": env, "seeds": SEEDS, "runs": found})


def flags(env: str, search: Search) -> list[str]:
    """What every run of a search has in common."""
    said = {"env": env, "num-seeds": SEEDS, "steps": search.steps}
    said["evaluations"] = search.evaluations
    return [f"--{name}={value}" for name, value in said.items()]


def preset(env: str, search: Search, folder: Path) -> dict[str, Any]:
    """The run of the preset."""
    run = folder / "preset"
    common.run("gpusim.train", [*flags(env, search), f"--out={run}", "--resume=auto"])
    return {"preset": True, **judged(run, search)}


def draws(env: str, search: Search, folder: Path) -> list[dict[str, Any]]:
    """The runs of what was drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump(search.space), encoding="utf-8")
    options = [f"--space={space}", f"--out={folder / 'sweep'}", f"--trials={search.trials}"]
    common.run("gpusim.sweep", [*flags(env, search), *options])
    return [judged(run, search) for run in sorted((folder / "sweep" / "runs").iterdir())]


def judged(run: Path, search: Search) -> dict[str, Any]:
    """What a run has of the space, and what came of it; the lowest score is the best."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    learner = config[config["learner"]] | config
    seeds = [_curve(path) for path in sorted((run / "seeds").glob("*.jsonl"))]
    returns = [curve[-1][1] for curve in seeds]
    reached = statistics.median(_reached(curve, search.goal) for curve in seeds)
    value = statistics.mean(returns) - statistics.pstdev(returns)
    lost = search.goal is not None and min(returns) < search.goal
    return {
        "values": {name: learner[name.replace("-", "_")] for name in search.space},
        "returns": returns,
        "steps_to_goal": reached if math.isfinite(reached) else None,
        "score": [lost, min(reached, 1e12), -value],
    }


def _curve(path: Path) -> list[tuple[int, float]]:
    """Steps and returns of a seed's evaluations."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [(r["steps"], r["evaluation_return"]) for r in rows if "evaluation_return" in r]


def _reached(curve: list[tuple[int, float]], goal: float | None) -> float:
    """Steps until the goal."""
    if goal is None:
        return math.inf
    return next((float(steps) for steps, value in curve if value >= goal), math.inf)


def report(env: str, search: Search, found: list[dict[str, Any]]) -> None:
    """A line a run."""
    print(f"{env}: returns of {SEEDS} seeds after {search.steps:,.0f} steps")
    for run in found:
        returns = " / ".join(f"{x:,.1f}" for x in run["returns"])
        steps = f"{search.goal:g} after {run['steps_to_goal']:,.0f}" if run["steps_to_goal"] else ""
        number = lambda x: f"{x:.3g}" if isinstance(x, float) else str(x)
        values = "  ".join(f"{name} {number(x)}" for name, x in run["values"].items())
        print(f"{returns:>30}  {steps:22}{'PRESET  ' if run.get('preset') else ''}{values}")


if __name__ == "__main__":
    main(tyro.cli(Args))
