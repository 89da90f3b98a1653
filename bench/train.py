"""Training speed, learner included: `python -m bench.train --env ant`.

Environment steps a second of the training program with its preset, against C MuJoCo stepping alone
on all cores (mujoco.rollout: no observation, no reward, no policy, no learning).
"""

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from bench import common, physics


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags; those not listed here are gpusim.train's."""

    env: str = "ant"
    """Environment, by its name in gpusim; its preset is used."""
    calls: int = 8
    """Timed calls of the compiled training program, after two that are not timed."""
    repeats: int = 5
    """Timed repeats of mujoco.rollout."""
    out: Path | None = None
    """JSON file; by default bench/results/train-ENV.json."""


def main(args: Args, flags: Sequence[str]) -> None:
    """Measure both, one after the other, and report."""
    training = train(args, flags)
    peer = physics.measure(
        physics.Args(env=args.env, repeats=args.repeats), "mujoco.rollout", common.cores()
    )
    alone = peer["env_steps_per_s"]
    rows = [
        ["gpusim.train, learner included", *_cells(training["env_steps_per_s"])],
        ["mujoco.rollout, all cores, physics only", *_cells(alone)],
    ]
    ratio = training["env_steps_per_s"]["median"] / alone["median"]
    notes = [
        f"ratio: {ratio:.2f}",
        f"rollout share of the training time: {training['rollout_share']:.0%}",
    ]
    common.show(f"{args.env}: training", ("", "env steps/s", "range"), rows, notes)
    result = {"env": args.env, "training": training, "rollout": peer, "ratio": ratio}
    common.write(args.out or common.RESULTS / f"train-{args.env}.json", result)


def train(args: Args, flags: Sequence[str], threads: int | None = None) -> dict[str, Any]:
    """Run the training program for a few calls, on so many processors; its rates as it logged
    them."""
    from gpusim import config

    preset = config.parse([f"--env={args.env}", *flags]).train.learner
    steps = (args.calls + 2) * preset.steps_per_call
    with tempfile.TemporaryDirectory() as folder:
        limits = [f"--total-steps={steps}", "--evaluations=0", "--profile", f"--out={folder}/run"]
        common.run("gpusim.train", [f"--env={args.env}", *flags, *limits], threads=threads)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = json.loads((Path(folder) / "run" / "summary.json").read_text(encoding="utf-8"))[
            "seconds"
        ]
    rates = [json.loads(line)["steps_per_second"] for line in lines][2:]
    rollout = seconds["physics and rollout"]
    return {
        "num_envs": preset.num_envs,
        "env_steps_per_s": dataclasses.asdict(common.Spread.of(rates)),
        "mean": statistics.mean(rates),
        "rollout_share": rollout / (rollout + seconds["learning"]),
    }


def _cells(spread: dict[str, float]) -> list[str]:
    low, high = common.amount(spread["low"]), common.amount(spread["high"])
    return [common.amount(spread["median"]), f"{low} to {high}"]


if __name__ == "__main__":
    main(*tyro.cli(Args, return_unknown_args=True))
