"""A step of one world as a lanes kernel and by `jax.vmap`: compiled, compared and timed in turns.

Everything happens in this process and is told as soon as it is known, so that what is known
survives a compilation that never ends.
"""

import contextlib
import functools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.suites import World

STEPS = 100  # that are compared
SHOWN = (1, 10, 100)  # after these many, the error is kept
ROUNDS = 5  # timed repeats of each side, at least
APART = 1e-3  # relative error of one step that is no rounding any more


def measure(world: World, worlds: int, seconds: float, tell: Callable) -> None:
    """Compile and compare both sides, and time them for so many seconds each, if any.

    `tell` gets what is known by name, and as `stage` what is done next.
    """
    from gpusim import lanes

    keys = jax.random.split(jax.random.PRNGKey(1), (STEPS, worlds))
    state = jax.jit(jax.vmap(world.start))(jax.random.split(jax.random.PRNGKey(0), worlds))
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
        tell(refused=str(refusal), stage="XLA was timed")
        tell(xla_steps_per_s=speeds([xla], start, seconds)[0][0])
        return
    said = [str(w.message) for w in caught if "gpusim" in (w.category.__module__ + w.filename)]
    tell(compile_seconds=wall, compile_cpu_seconds=cpu, said=said, stage="it was compared")
    tell(**difference(ours, xla, start), stage="it was timed")
    if not seconds:
        return
    (rate, busy), (xla_rate, xla_busy) = speeds([ours, xla], start, seconds)
    tell(steps_per_s=rate, xla_steps_per_s=xla_rate, ratio=rate / xla_rate)
    tell(cpu_ratio=busy / xla_busy, stage="it ended")


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


def speeds(sides: list[Callable], start: Any, seconds: float) -> list[tuple[float, float]]:
    """Steps of a world a second, and a second of processors, of each side: medians, timed in
    turns.
    """
    start, worlds = spread(sides[-1], start), len(jax.tree.leaves(start)[0])
    repeats = []
    for side in sides:
        begin = time.perf_counter()
        side(start, 0, 2)
        once = (time.perf_counter() - begin) / 2
        repeats.append(max(1, min(10_000, round(seconds / ROUNDS / once))))
    rates: list[list[tuple[float, float]]] = [[] for _ in sides]
    end = time.perf_counter() + seconds * len(sides)
    while len(rates[-1]) < ROUNDS or time.perf_counter() < end:
        for side, n, rate in zip(sides, repeats, rates, strict=True):
            begin, busy = time.perf_counter(), time.process_time()
            side(start, 0, n)
            wall, busy = time.perf_counter() - begin, time.process_time() - busy
            rate.append((worlds * n / wall, worlds * n / busy))
    return [tuple(map(statistics.median, zip(*rate, strict=True))) for rate in rates]


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
    many worlds each leaf differs, if any: by more than `APART`, or at all if it has no fractions.
    """
    largest, parted = 0.0, {}
    for (path, b), a in zip(
        jax.tree_util.tree_leaves_with_path(theirs), jax.tree.leaves(ours), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        differs = a != b
        if np.issubdtype(a.dtype, np.floating):
            with np.errstate(all="ignore"):
                error = np.abs(a - b) / np.maximum(1.0, np.abs(b))
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            error = np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))
            largest = max(largest, float(error.max(initial=0.0)))
            differs = error > APART
        if worlds := int(differs.reshape(len(a), -1).any(axis=1).sum()):
            parted[jax.tree_util.keystr(path)] = worlds
    return largest, parted
