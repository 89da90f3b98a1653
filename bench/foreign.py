"""Other people's environments as kernels, against `jax.vmap` by XLA: `python -m bench.foreign`.

Each environment of gymnax, Jumanji and JaxMARL runs in a process of its own with a limit of time
and of memory, so that a compilation that never ends costs one row. There the same step, with a
random valid action drawn inside and the library's own reset, is compiled both ways, compared, and
timed in turns.
"""

import dataclasses
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import tyro

from bench import common, sides
from bench.suites import SUITES

MEMORY = 12 << 30  # bytes a process may have


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    suite: tuple[str, ...] = tuple(SUITES)
    """Libraries."""
    only: tuple[str, ...] = ()
    """Which environments, by the beginnings of their names; by default all."""
    worlds: int = 1024
    """Worlds stepped at once."""
    seconds: float = 2.0
    """Time each side is timed for."""
    limit: float = 120.0
    """Seconds an environment may take in all."""
    out: Path | None = None
    """JSON file; by default bench/results/foreign.json."""
    child: str | None = None
    """Used between processes: measure this environment of the suite here, and print JSON."""


def main(args: Args) -> None:
    """Measure all environments and report, or one of them as a child process."""
    if args.child is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        tell = lambda **what: print(json.dumps(what), flush=True)
        sides.measure(SUITES[args.suite[0]].make(args.child), args.worlds, args.seconds, tell)
        return
    results = []
    for suite in args.suite:
        try:
            names = SUITES[suite].names()
        except ImportError as missing:
            print(f"{suite} is left out: {missing}")
            continue
        for name in names:
            if name.startswith(args.only or ("",)):
                results.append({"suite": suite, "name": name, **measure(suite, name, args)})
                print(suite, *row(results[-1]), *notes(results[-1]), sep="  ", flush=True)
    report(results)
    measured = dict.fromkeys(r["suite"] for r in results)
    packages = {p: metadata.version(p) for suite in measured for p in SUITES[suite].packages}
    print(*(f"{name} {version}" for name, version in packages.items()), sep=", ")
    result = {"libraries": packages, "worlds": args.worlds, "limit": args.limit, "results": results}
    common.write(args.out or common.RESULTS / "foreign.json", result)


def measure(suite: str, name: str, args: Args) -> dict[str, Any]:
    """What a child found. If there lanes' values are not XLA's, they are compared in double
    precision, too: a number at the very edge of a comparison may part honestly in single precision.
    """
    result = run_child(suite, name, args)
    if result.get("single_step_parted"):
        double = run_child(suite, name, dataclasses.replace(args, seconds=0), JAX_ENABLE_X64="1")
        result["double"] = {
            key: double[key] for key in ("single_step_parted", "failure") if key in double
        }
    return result


def run_child(suite: str, name: str, args: Args, **env: str) -> dict[str, Any]:
    """What the child found until it ended, was ended, or failed."""
    flags = {"suite": suite, "child": name, "worlds": args.worlds, "seconds": args.seconds}
    command = [sys.executable, "-m", __spec__.name, *(f"--{k}={v}" for k, v in flags.items())]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"GPUSIM_CACHE": "off"} | env,
            capture_output=True,
            text=True,
            timeout=args.limit,
            check=False,
        )
    except subprocess.TimeoutExpired as ended:
        result = found((ended.stdout or b"").decode())
        return {**result, "failure": f"not done within {args.limit:.0f} s"}
    result = found(done.stdout)
    if done.returncode != 0:
        lines = [f"ended with status {done.returncode}", *done.stderr.strip().splitlines()]
        named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        result["failure"] = (named or lines)[-1][:500]
    return result


def found(output: str) -> dict[str, Any]:
    """The union of the JSON objects that the child printed, one a line."""
    lines = [line for line in output.splitlines() if line.startswith('{"')]
    return functools.reduce(lambda a, b: a | b, map(json.loads, lines), {})


COLUMNS = ("environment", "operations", "compile s", "XLA's", "steps/s", "XLA's", "ratio", "error")


def row(result: dict[str, Any]) -> list[str]:
    """Cells of one environment."""
    cell = lambda key, form: form(result[key]) if key in result else ""
    return [
        result["name"],
        cell("operations", lambda n: f"{n:,}"),
        cell("compile_seconds", lambda s: f"{s:.1f}"),
        cell("xla_compile_seconds", lambda s: f"{s:.1f}"),
        cell("steps_per_s", common.amount),
        cell("xla_steps_per_s", common.amount),
        cell("ratio", lambda r: f"{r:.2f}"),
        cell("single_step_error", lambda e: f"{e:.0e}" if e else "0") + verdict(result),
    ]


def verdict(result: dict[str, Any]) -> str:
    """Whether one step from the same state gives other values than XLA's: WRONG, or if not so in
    double precision, at an edge.
    """
    if not result.get("single_step_parted"):
        return ""
    double = result.get("double", {})
    return " edge" if double.get("single_step_parted") == {} else " WRONG"


def notes(result: dict[str, Any]) -> list[str]:
    """What the table has no column for."""
    out = []
    if "refused" in result:
        out.append(f"refused: {shortened(result['refused'])}")
    if "failure" in result:
        stage = result.get("stage", "being made")
        out.append(f"failed while {stage}: {shortened(result['failure'])}")
    out += [f"lanes said: {shortened(said)}" for said in result.get("said", ())]
    if parted := result.get("single_step_parted"):
        leaf, worlds = max(parted.items(), key=lambda item: item[1])
        out.append(
            f"{leaf} differs after one step, {worlds} times in {sides.STEPS} steps of all worlds"
        )
        double = result.get("double", {})
        if failure := double.get("failure"):
            out.append(f"not compared in double precision: {shortened(failure)}")
        elif double.get("single_step_parted") == {}:
            out.append("never so in double precision: the edge of a comparison")
    elif first := result.get("running_first_parted"):
        out.append(f"chaos: roundings have grown to another course in step {first}")
    return out


def shortened(text: str) -> str:
    """One line, without the folders of file names."""
    return re.sub(r"\S*/(?=[^/\s]+:\d+)", "", " ".join(text.split()))[:300]


def report(results: list[dict[str, Any]]) -> None:
    """A table for each suite, and the mean ratio of each and of all."""
    suites = dict.fromkeys(r["suite"] for r in results)
    for suite in suites:
        mine = [r for r in results if r["suite"] == suite]
        remarks = [f"{r['name']}: {note}" for r in mine for note in notes(r)]
        remarks.append("ratio: steps/s to those of jax.vmap by XLA on the same cores")
        remarks.append("error: of the floating-point numbers after one step from the same state")
        common.show(suite, COLUMNS, map(row, mine), [*remarks, f"{suite}: {mean(mine)}"])
    if len(suites) > 1:
        print(f"all: {mean(results)}")


def mean(results: list[dict[str, Any]]) -> str:
    """The geometric mean of the ratios, in words."""
    ratios = [r["ratio"] for r in results if "ratio" in r]
    if not ratios:
        return "none measured"
    return (
        f"geometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}, "
        f"{sum(r < 1 for r in ratios)} below 1, {len(ratios)} of {len(results)} measured"
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
