"""What arrays in memory cost a kernel: `python -m bench.arrays`.

Loops that write to an array of each world at places known only at run time, as physics with many
possible contacts does, and boards and grids do. Nanoseconds for a world and a trip, on one core.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from bench import common

WORLDS = 2048
TRIPS = 200


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    repeats: int = 20
    """Timed repeats; the median is kept."""
    out: Path | None = None
    """JSON file; by default bench/results/arrays.json."""
    child: str | None = None
    """Used between processes: measure this function here and print JSON."""


def rarely_accumulated(x, at, hits):
    """A branch that few worlds want adds to a few of 200 numbers; most trips skip it."""
    import jax
    import jax.numpy as jnp

    def body(k, a):
        add = lambda a: a.at[k].add(1.0).at[(k * 7 + 3) % 200].add(jnp.sin(a[k]))
        return jax.lax.cond(hits[k] > 2.5, add, lambda a: a, a)

    return jax.lax.fori_loop(0, TRIPS, body, x)


def stored_at_the_trip(x, at, hits):
    """Number k of 200 is written in trip k."""
    import jax

    return jax.lax.fori_loop(0, TRIPS, lambda k, a: a.at[k].set(0.9 * a[k] + hits[k]), x)


def scattered(x, at, hits):
    """In every trip each world writes at a place of its own."""
    import jax

    body = lambda k, a: a.at[(at + 13 * k) % 200].add(hits[k])
    return jax.lax.fori_loop(0, TRIPS, body, x)


def pushed(x, at, hits):
    """Numbers that pass a test are appended to a list of 50, by a counter of each world."""
    import jax
    import jax.numpy as jnp

    def body(k, c):
        a, n = c
        push = lambda a, n: (a.at[jnp.minimum(n, 49)].set(x[k]), n + 1)
        return jax.lax.cond(hits[k] > 1, push, lambda a, n: (a, n), a, n)

    return jax.lax.fori_loop(0, TRIPS, body, (jnp.zeros(50, x.dtype), 0))


FUNCTIONS: dict[str, Callable] = {
    f.__name__: f for f in (rarely_accumulated, stored_at_the_trip, scattered, pushed)
}


def main(args: Args) -> None:
    """Measure all, or one of them as a child process."""
    if args.child is not None:
        print(json.dumps(measure(FUNCTIONS[args.child], args.repeats)))
        return
    flags = ["--repeats", str(args.repeats)]
    results = {
        name: common.child("bench.arrays", [*flags, "--child", name], threads=1, GPUSIM_CACHE="off")
        for name in FUNCTIONS
    }
    rows = [
        [
            name.replace("_", " "),
            *(f"{r[kind]['ns']:.2f}" for kind in ("lanes", "xla")),
            f"{r['xla']['ns'] / r['lanes']['ns']:.1f}",
            *(f"{r[kind]['compile_seconds']:.2f}" for kind in ("lanes", "xla")),
        ]
        for name, r in results.items()
    ]
    columns = ("a loop", "lanes ns", "XLA ns", "ratio", "compile s", "XLA's")
    notes = [f"ns for a world and a trip, median of {args.repeats}, one core, {WORLDS} worlds"]
    common.show("arrays written at run-time indices", columns, rows, notes)
    common.write(args.out or common.RESULTS / "arrays.json", {"functions": results})


def measure(fn: Callable, repeats: int) -> dict[str, Any]:
    """Nanoseconds for a world and a trip, and seconds to compile, by lanes and by XLA."""
    import jax
    import jax.numpy as jnp

    from gpusim import lanes

    os.environ["GPUSIM_CACHE"] = "off"
    x, hits = jax.random.normal(jax.random.key(0), (2, WORLDS, TRIPS))
    at = jax.random.randint(jax.random.key(1), (WORLDS,), 0, TRIPS)
    found = {}
    for kind, wrap in (("lanes", lanes.kernel), ("xla", lambda f: f)):
        start = time.perf_counter()
        step = jax.jit(jax.vmap(wrap(fn))).lower(x, at, hits).compile()
        seconds = time.perf_counter() - start
        run = lambda step=step: jax.block_until_ready(step(x, at, hits))
        spread = common.Spread.of(common.time_repeats(run, repeats))
        found[kind] = {
            "ns": spread.median / (WORLDS * TRIPS) * 1e9,
            "compile_seconds": seconds,
            "sum": float(jnp.sum(jax.tree.leaves(run())[0])),
        }
    return found


if __name__ == "__main__":
    main(tyro.cli(Args))
