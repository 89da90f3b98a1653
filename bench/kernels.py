"""What it takes to compile kernels: `python -m bench.kernels`.

For every environment, ours and Brax's, and MJX's steps: operations, seconds of each phase, and
bytes of machine code; `--models FILE.xml ...` adds a physics step of each of these. Nothing is
cached; each has a process of its own, confined to one processor.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tyro

from bench import common
from bench.functions import FUNCTIONS

BUDGETS = {
    "ant": 2,
    "humanoid": 4,
    "brax-spring ant": 4,
    "brax-generalized humanoid": 20,
}  # seconds
ROBOT = 20  # likewise, of a model of the field's
PHASES = ("JAX traces", "to LLVM IR", "LLVM", "in all")


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    functions: tuple[str, ...] = ()
    """Which, by the beginnings of their names; by default all."""
    models: tuple[Path, ...] = ()
    """MJCF files of robots."""
    out: Path | None = None
    """JSON file; by default bench/results/kernels.json."""
    child: str | None = None
    """Used between processes: compile this one here and print JSON."""


def main(args: Args) -> None:
    """Compile all of them and report, or one as a child process."""
    if args.child is not None:
        print(json.dumps(environment(args.child)))
        return
    names = (*common.ROBOTS, *FUNCTIONS)
    some = [name for name in names if name.startswith(args.functions or ("",))]
    results = measure([*some, *map(str, args.models)])
    report(results)
    common.write(args.out or common.RESULTS / "kernels.json", {"kernels": results})


def measure(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Each compiled in a process of its own."""
    run = lambda name: common.child(
        "bench.kernels", ["--child", name], threads=1, GPUSIM_CACHE="off"
    )
    shown = lambda name: "/".join(Path(name).with_suffix("").parts[-3:])  # of a file
    return {shown(name) if name.endswith(".xml") else name: run(name) for name in names}


def environment(name: str) -> dict[str, Any]:
    """The step's kernel of one of our environments, of a function of `bench.functions`, or of the
    physics of an MJCF file."""
    import jax
    import jax.numpy as jnp

    import gpusim
    from gpusim import physics

    key = jax.random.key(0)
    if name in FUNCTIONS:
        function = FUNCTIONS[name]()
        shapes = jax.eval_shape(function.start, key), jax.eval_shape(function.draw, key)
        return phases(function.step, *shapes)
    if name.endswith(".xml"):
        model = physics.load(name)
        state = jax.eval_shape(lambda: physics.init(model, model.mj.qpos0, jnp.zeros(model.nv)))
        step = lambda state, ctrl: physics.step(model, state, ctrl)
        return phases(step, state, jax.ShapeDtypeStruct((model.nu,), state.qpos.dtype))
    env = gpusim.make(name)
    state = jax.eval_shape(env.start, key)
    action = jax.ShapeDtypeStruct((env.action_size,), state.reward.dtype)
    return phases(env.transition, state, action)


def phases(fn: Callable, *args: Any) -> dict[str, Any]:
    """Compile a function of one world for arguments of these shapes, all of which differ between
    worlds.
    """
    from gpusim.lanes.host import target as host
    from gpusim.lanes.kernel import Trace

    times = [time.perf_counter()]
    function = Trace(fn, args).function
    times.append(time.perf_counter())
    batched = (True,) * len(function.specs)
    text, _ = function.lower(batched, host.host().vector_bits)
    times.append(time.perf_counter())
    code = host.object_code("", text)
    times.append(time.perf_counter())
    graph, _ = function.graph(batched)
    spans = [b - a for a, b in itertools.pairwise(times)]
    return {
        "operations": len(graph.op),
        "seconds": dict(zip(PHASES, [*spans, times[-1] - times[0]], strict=True)),
        "code_bytes": len(code),
    }


def report(results: dict[str, dict[str, Any]]) -> None:
    """The table."""
    rows = [
        [
            name,
            f"{r['operations']:,}",
            *(f"{r['seconds'][phase]:.2f}" for phase in PHASES),
            str(BUDGETS.get(name, "" if "/" not in name else ROBOT)),
            f"{r['operations'] / r['seconds']['to LLVM IR']:,.0f}",
            f"{r['code_bytes']:,}",
        ]
        for name, r in results.items()
    ]
    columns = ("kernel", "operations", "trace", "IR", "LLVM", "all", "budget", "op/s", "bytes")
    notes = [
        "operations: numbers of a world, constants and what proved unneeded included",
        "op/s: of building the graph and writing it as LLVM IR, without JAX's trace and LLVM",
    ]
    common.show("seconds to compile a step, one processor, no cache", columns, rows, notes)


if __name__ == "__main__":
    main(tyro.cli(Args))
