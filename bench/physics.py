"""Steps a second against the peers: `python -m bench.physics --env ant`.

Contenders run one after the other, each in a process of its own. A control step is what an agent
sees, a physics step what the simulator integrates; both are given. Figures of different machines do
not compare: the ratios of one table do.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro

from bench import common
from bench.contenders import CONTENDERS, Run, Work

# worlds, control steps in a repeat: as many as each needs to be at its best without taking minutes
SIZES = {
    "gpusim": (8192, 50),
    "gpusim physics": (8192, 50),
    "mujoco.rollout": (4096, 100),
    "brax spring": (1024, 10),
    "brax mjx": (256, 2),
    "envpool": (256, 50),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    env: str = "ant"
    """Environment, by its name in gpusim."""
    contenders: tuple[str, ...] = tuple(SIZES)
    """Who runs."""
    threads: tuple[int, ...] = ()
    """Thread counts; by default one, and all processors."""
    repeats: int = 5
    """Timed repeats of each; median, least and greatest are kept."""
    num_envs: int | None = None
    """Worlds, for all; by default what suits each contender."""
    steps: int | None = None
    """Control steps in a repeat, for all; by default what suits each contender."""
    out: Path | None = None
    """JSON file; by default bench/results/physics-ENV.json."""
    child: str | None = None
    """Used between processes: run this one contender here and print JSON."""


def main(args: Args) -> None:
    """Run all contenders and report, or one of them as a child process."""
    if args.child is not None:
        print(json.dumps(dataclasses.asdict(run_here(args, args.child, *args.threads))))
        return
    results = [
        measure(args, name, threads)
        for name in args.contenders
        for threads in args.threads or sorted({1, common.cores()})
    ]
    report(args.env, results)
    out = args.out or common.RESULTS / f"physics-{args.env}.json"
    common.write(out, {"env": args.env, "results": results})


def run_here(args: Args, name: str, threads: int) -> Run:
    """Run a contender in this process."""
    num_envs, steps = SIZES[name]
    work = Work(args.env, args.num_envs or num_envs, args.steps or steps, args.repeats, threads)
    return CONTENDERS[name](work)


def measure(args: Args, name: str, threads: int) -> dict[str, Any]:
    """Run a contender in a process of its own: its rates, or the reason why there are none."""
    flags = [
        f"--env={args.env}",
        f"--child={name}",
        f"--threads={threads}",
        f"--repeats={args.repeats}",
    ]
    flags += [f"--num-envs={args.num_envs}"] if args.num_envs else []
    flags += [f"--steps={args.steps}"] if args.steps else []
    result: dict[str, Any] = {"contender": name, "threads": threads}
    try:
        run = Run(**common.child("bench.physics", flags, threads=threads))
    except RuntimeError as error:
        return result | {"error": str(error).strip().splitlines()[-1]}
    return result | {
        "num_envs": run.num_envs,
        "env_steps_per_s": dataclasses.asdict(common.rate(run.env_steps, run.seconds)),
        "physics_steps_per_s": dataclasses.asdict(
            common.rate(run.env_steps * run.substeps, run.seconds)
        ),
        "note": run.note,
    }


def report(env: str, results: list[dict[str, Any]]) -> None:
    """The table: rates, and their ratio to mujoco.rollout with as many threads."""
    reference = {
        r["threads"]: r["env_steps_per_s"]["median"]
        for r in results
        if r["contender"] == "mujoco.rollout" and "error" not in r
    }
    columns = ("contender", "threads", "worlds", "env steps/s", "range", "physics steps/s", "ratio")
    rows = [_row(r, reference.get(r["threads"])) for r in results]
    notes = {r["contender"]: r.get("note") or f"not measured: {r['error']}" for r in results}
    lines = [f"{name}: {note}" for name, note in notes.items()]
    lines.append("ratio: to mujoco.rollout with as many threads")
    common.show(f"{env}: steps a second, random actions", columns, rows, lines)


def _row(result: dict[str, Any], reference: float | None) -> list[str]:
    if "error" in result:
        return [result["contender"], str(result["threads"])]
    env, physics = result["env_steps_per_s"], result["physics_steps_per_s"]
    return [
        result["contender"],
        str(result["threads"]),
        str(result["num_envs"]),
        common.amount(env["median"]),
        f"{common.amount(env['low'])} to {common.amount(env['high'])}",
        common.amount(physics["median"]),
        f"{env['median'] / reference:.2f}" if reference else "",
    ]


if __name__ == "__main__":
    main(tyro.cli(Args))
