"""Other people's environments as kernels, against `jax.vmap` by XLA: `python -m bench.foreign`.

Each environment of gymnax, Jumanji and JaxMARL runs in a process of its own with a limit of time
and of memory, so that a compilation that never ends costs one row. There the same step, with a
random valid action drawn inside and the library's own reset, is compiled both ways, compared, and
timed in turns.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import common
from bench.suites import SUITES, World

STEPS = 100  # that are compared
SHOWN = (1, 10, 100)  # after these many, the error is reported
ROUNDS = 5  # timed repeats of each side, at least
WRONG = 1e-3  # relative error of one step in single precision that is no rounding any more
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
        child(SUITES[args.suite[0]].make(args.child), args)
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


# -- one environment, in a process of its own ------------------------------------------------------


def measure(suite: str, name: str, args: Args) -> dict[str, Any]:
    """What the child found until it ended, was ended, or failed."""
    flags = {"suite": suite, "child": name, "worlds": args.worlds, "seconds": args.seconds}
    command = [sys.executable, "-m", __spec__.name, *(f"--{k}={v}" for k, v in flags.items())]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"GPUSIM_CACHE": "off"},
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


def child(world: World, args: Args) -> None:
    """Compile, compare and time one environment; print what is known as soon as it is."""
    from gpusim import lanes

    tell = lambda **what: print(json.dumps(what), flush=True)
    keys = jax.random.split(jax.random.PRNGKey(1), (STEPS, args.worlds))
    state = jax.jit(jax.vmap(world.start))(jax.random.split(jax.random.PRNGKey(0), args.worlds))
    after = jax.eval_shape(jax.vmap(world.step), state, keys[0])
    blank = lambda like: jnp.zeros(like.shape, like.dtype)
    strong = lambda x, like: jnp.asarray(x, like.dtype)  # Python numbers have weak types
    start = jax.tree.map(strong, state, after[0]), jax.tree.map(blank, after[1])
    tell(stage="XLA compiled it")
    xla, wall, cpu = compiled(world.step, start, keys)
    tell(xla_compile_seconds=wall, xla_compile_cpu_seconds=cpu, stage="lanes compiled it")
    try:
        with warnings.catch_warnings(record=True) as caught, watched(tell):
            warnings.simplefilter("always")
            ours, wall, cpu = compiled(lanes.kernel(world.step), start, keys)
    except lanes.LanesError as refusal:
        tell(refused=str(refusal))
        tell(xla_steps_per_s=speeds([xla], start, args)[0])
        return
    said = [str(w.message) for w in caught if "gpusim" in (w.category.__module__ + w.filename)]
    tell(compile_seconds=wall, compile_cpu_seconds=cpu, said=said, stage="it was compared")
    tell(**difference(ours, xla, start), stage="it was timed")
    rates = speeds([ours, xla], start, args)
    tell(
        steps_per_s=rates[0], xla_steps_per_s=rates[1], ratio=rates[0] / rates[1], stage="it ended"
    )


def compiled(step: Callable, start: Any, keys: jax.Array) -> tuple[Callable, float, float]:
    """A function (state and what was seen, first, n) -> the same n steps later; and what it takes
    to compile it: seconds, and seconds of processors.

    It is the loop that `lax.scan` makes, but for a number of steps known only when it runs, so that
    one program serves the comparison and the timing. Step k has the keys k modulo `STEPS`.
    """

    def run(carry, keys, first, n):
        one = lambda k, carry: jax.vmap(step)(carry[0], keys[k % STEPS])
        return jax.lax.fori_loop(first, first + n, one, carry)

    jax.clear_caches()  # of traces: each side pays for its own
    begin, cpu = time.perf_counter(), time.process_time()
    program = jax.jit(run).lower(start, keys, 0, 0).compile()
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    call = lambda carry, first, n: jax.block_until_ready(program(carry, keys, first, n))
    return call, wall, cpu


@contextlib.contextmanager
def watched(tell: Callable) -> Iterator[None]:
    """Tells of every phase of lanes as soon as it is over: seconds of the processor, and operations
    in the graph.
    """
    from gpusim.lanes.kernel import LaneFunction

    phases = {"__init__": "trace", "graph": "graph", "lower": "graph_and_ir", "for_host": "kernel"}
    methods = {method: getattr(LaneFunction, method) for method in phases}

    def timed(name: str, method: Callable) -> Callable:
        @functools.wraps(method)
        def call(*args, **kwargs):
            begin = time.process_time()
            result = method(*args, **kwargs)
            tell(**{f"{phases[name]}_cpu_seconds": time.process_time() - begin})
            if name == "graph":
                tell(operations=len(result[0].op))
            return result

        return call

    for name, method in methods.items():
        setattr(LaneFunction, name, timed(name, method))
    try:
        yield
    finally:
        for name, method in methods.items():
            setattr(LaneFunction, name, method)


def spread(side: Callable, start: Any) -> Any:
    """States of different ages, up to `STEPS`: worlds that all began together would also end
    together, and a reset be paid for in few steps.
    """
    worlds = len(jax.tree.leaves(start)[0])
    age = np.random.default_rng(0).integers(0, STEPS, worlds)
    for k in range(STEPS):
        younger = lambda new, old, k=k: jnp.where(
            (k < age).reshape(-1, *[1] * (new.ndim - 1)), new, old
        )
        start = jax.tree.map(younger, side(start, k, 1), start)
    return start


def speeds(sides: list[Callable], start: Any, args: Args) -> list[float]:
    """Steps of a world a second of each side, timed in turns; medians."""
    start = spread(sides[-1], start)
    repeats = []
    for side in sides:
        begin = time.perf_counter()
        side(start, 0, 2)
        once = (time.perf_counter() - begin) / 2
        repeats.append(max(1, min(10_000, round(args.seconds / ROUNDS / once))))
    rates: list[list[float]] = [[] for _ in sides]
    end = time.perf_counter() + args.seconds * len(sides)
    while len(rates[-1]) < ROUNDS or time.perf_counter() < end:
        for side, n, rate in zip(sides, repeats, rates, strict=True):
            begin = time.perf_counter()
            side(start, 0, n)
            rate.append(args.worlds * n / (time.perf_counter() - begin))
    return [statistics.median(rate) for rate in rates]


# -- comparison ------------------------------------------------------------------------------------


def difference(ours: Callable, xla: Callable, start: Any) -> dict[str, Any]:
    """How far lanes' values are from XLA's.

    `single`: of one step from each of the states XLA passes through, which separates what is wrong
    from what chaos makes of a rounding. `running`: after many steps of its own from the same start.
    """
    theirs = mine = start
    single, parted, running, first = 0.0, {}, {}, None
    for k in range(STEPS):
        once = ours(theirs, k, 1)
        mine, theirs = ours(mine, k, 1), xla(theirs, k, 1)
        error, leaves = compare(once, theirs)
        single = max(single, error)
        for leaf, worlds in leaves.items():
            parted[leaf] = parted.get(leaf, 0) + worlds
        error, leaves = compare(mine, theirs)
        if leaves and first is None:
            first = k + 1
        if k + 1 in SHOWN:
            running[k + 1] = error
    return {
        "single_step_error": single,
        "single_step_parted": parted,
        "running_error": running,
        "running_first_parted": first,
    }


def compare(ours: Any, theirs: Any) -> tuple[float, dict[str, int]]:
    """Largest error of a floating-point number, relative to it or to 1 if that is more; and in how
    many worlds each leaf of integers or booleans differs, if any.
    """
    largest, parted = 0.0, {}
    for (path, b), a in zip(
        jax.tree_util.tree_leaves_with_path(theirs), jax.tree.leaves(ours), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        if not np.issubdtype(a.dtype, np.floating):
            differ = (a != b).reshape(len(a), -1).any(axis=1).sum()
            if differ:
                parted[jax.tree_util.keystr(path)] = int(differ)
            continue
        with np.errstate(all="ignore"):
            error = np.abs(a - b) / np.maximum(1.0, np.abs(b))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        error = np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))
        largest = max(largest, float(error.max(initial=0.0)))
    return largest, parted


# -- the table -------------------------------------------------------------------------------------

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
        cell("single_step_error", lambda e: f"{e:.0e}" if e else "0")
        + (" WRONG" if is_wrong(result) else ""),
    ]


def is_wrong(result: dict[str, Any]) -> bool:
    """Whether one step from the same state gives other values than XLA's.

    A number at the very edge of a comparison or of a rounding to an integer may do so honestly:
    the note says in how many worlds.
    """
    return bool(result.get("single_step_parted")) or result.get("single_step_error", 0.0) > WRONG


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
        out.append(f"{leaf} differs after one step in {worlds} of the worlds of {STEPS} steps")
    elif first := result.get("running_first_parted"):
        out.append(f"chaos: roundings change a discrete number first in step {first}")
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
