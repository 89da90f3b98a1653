"""Other people's functions as kernels, against `jax.vmap` by XLA: `python -m bench.lanes`.

Each function is measured in processes of its own, confined to one processor: how long it takes to
compile, how many steps of a world a second it makes, and how far its results in double precision
are from XLA's.
"""

import dataclasses
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

from bench import common
from bench.functions import FUNCTIONS, Function

WORLDS = {"lanes": 2048, "xla": 512}  # as many as suit each
STEPS = 8  # of actions drawn, which are made again and again
SECONDS = 0.1  # that a repeat takes at least: a program of microseconds measures its own start


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    functions: tuple[str, ...] = ()
    """Which run, by the beginnings of their names; by default all."""
    repeats: int = 5
    """Timed repeats; the median is kept."""
    out: Path | None = None
    """JSON file; by default bench/results/lanes.json."""
    child: str | None = None
    """Used between processes: measure `lanes`, `xla` or `error` here and print JSON."""


def main(args: Args) -> None:
    """Measure all functions and report, or one of them as a child process."""
    if args.child is not None:
        function = FUNCTIONS[args.functions[0]]()
        found = error(function) if args.child == "error" else speed(function, args)
        print(json.dumps(found))
        return
    results = []
    for name in FUNCTIONS:
        if name.startswith(args.functions or ("",)):
            results.append(measure(name, args))
            print(f"{name}: {results[-1]}", flush=True)
    report(results)
    common.write(args.out or common.RESULTS / "lanes.json", {"results": results})


def measure(name: str, args: Args) -> dict[str, Any]:
    """One function: what the three child processes found."""
    result: dict[str, Any] = {"function": name}
    for kind in ("lanes", "xla", "error"):
        flags = ["--functions", name, "--child", kind, "--repeats", str(args.repeats)]
        env = {"JAX_ENABLE_X64": "1"} if kind == "error" else {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = common.child("bench.lanes", flags, threads=1, GPUSIM_CACHE=folder, **env)
            except RuntimeError as failure:
                lines = str(failure).strip().splitlines()
                named = [line for line in lines if "Error: " in line]
                found = {"failure": (named or lines)[-1]}
        result[kind] = found
    return result


def speed(function: Function, args: Args) -> dict[str, Any]:
    """Steps of a world a second, and seconds to compile."""
    import jax

    from gpusim import lanes

    kernels = args.child == "lanes"
    worlds = WORLDS["lanes" if kernels else "xla"]
    wrap = lanes.kernel if kernels else (lambda fn: fn)
    step = jax.vmap(wrap(function.step))
    state = jax.jit(jax.vmap(wrap(function.start)))(jax.random.split(jax.random.key(0), worlds))
    keys = jax.random.split(jax.random.key(1), (STEPS, worlds))
    actions = jax.jit(jax.vmap(jax.vmap(function.draw)))(keys)
    once = lambda s, a: jax.lax.scan(lambda s, a: (step(s, a), None), s, a)[0]
    program = jax.jit(lambda n, s, a: jax.lax.fori_loop(0, n, lambda _, s: once(s, a), s))
    start = time.perf_counter()
    compiled = program.lower(1, state, actions).compile()
    seconds = {"compile_seconds": time.perf_counter() - start}
    run = lambda n: jax.block_until_ready(compiled(n, state, actions))
    times = math.ceil(SECONDS / min(common.time_repeats(lambda: run(1), 3)))
    rate = common.rate(
        worlds * STEPS * times, common.time_repeats(lambda: run(times), args.repeats)
    )
    phases = compiled_alone(function) if kernels else {}
    return {"steps_per_s": dataclasses.asdict(rate), **seconds, **phases}


def compiled_alone(function: Function) -> dict[str, Any]:
    """Operations of the step's kernel, and where the time to compile it goes (no cache)."""
    import jax

    from bench.kernels import phases

    key = jax.random.key(0)
    shapes = jax.eval_shape(function.start, key), jax.eval_shape(function.draw, key)
    os.environ["GPUSIM_CACHE"] = "off"
    return phases(function.step, *shapes)


def error(function: Function) -> float:
    """Largest difference from XLA after one step, in units of an array's largest number (at least
    1); of ten starts after some steps by XLA.
    """
    import jax
    import jax.numpy as jnp

    from gpusim import lanes

    keys = jax.random.split(jax.random.key(0), (STEPS, 10))
    state = jax.jit(jax.vmap(function.start))(keys[0])
    step = jax.jit(jax.vmap(function.step))
    for k in keys[1:]:
        before, action = state, jax.vmap(function.draw)(k)
        state = step(before, action)
    ours = jax.jit(jax.vmap(lanes.kernel(function.step)))(before, action)

    def difference(a, b):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = jnp.asarray(a, float), jnp.asarray(b, float)
        scale = jnp.maximum(1.0, jnp.abs(b).max(initial=0.0))
        return jnp.abs(a - b).max(initial=0.0) / scale

    return float(max(jax.tree.leaves(jax.tree.map(difference, ours, state))))


def report(results: list[dict[str, Any]]) -> None:
    """The table, and the mean over Brax's environments."""
    columns = ("function", "operations", "compile s", "XLA's", "steps/s", "ratio", "error")
    rows, ratios = [], []
    for r in results:
        ours, theirs = r["lanes"], r["xla"]
        if "failure" in ours or "failure" in theirs:
            rows.append([r["function"], "failed"])
            continue
        rate = ours["steps_per_s"]["median"]
        ratio = rate / theirs["steps_per_s"]["median"]
        if r["function"].startswith("brax"):
            ratios.append(ratio)
        rows.append(
            [
                r["function"],
                f"{ours['operations']:,}",
                f"{ours['seconds']['in all']:.1f}",
                f"{theirs['compile_seconds']:.1f}",
                common.amount(rate),
                f"{ratio:.1f}",
                "failed" if isinstance(r["error"], dict) else f"{r['error']:.0e}",
            ]
        )
    failed = [(r["function"], r[k]) for r in results for k in ("lanes", "xla", "error")]
    notes = [
        f"{name}: {x['failure']}" for name, x in failed if isinstance(x, dict) and "failure" in x
    ]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        notes.append(f"Brax: geometric mean {mean:.1f}, least {min(ratios):.1f}")
    notes.append("ratio: to jax.vmap by XLA on the same processor; error: in double precision")
    common.show("functions of one world as kernels, one processor", columns, rows, notes)


if __name__ == "__main__":
    main(tyro.cli(Args))
