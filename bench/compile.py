"""Time to the first update: `python -m bench.compile --env ant`.

Seconds from the start of the process until the training program has finished its first update:
cold, with empty caches for the lane kernels and for XLA, and warm, with what the cold run left
there. Split by what JAX was doing.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tyro

from bench import common, kernels

# JAX's own events, most specific first: a moment belongs to the first kind that covers it.
EVENTS = {
    "XLA compiles": "/jax/core/compile/backend_compile_duration",
    "JAX lowers, lanes are compiled": "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "JAX traces": "/jax/core/compile/jaxpr_trace_duration",
}
Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags; those not listed here are gpusim.train's."""

    env: str = "ant"
    """Environment, by its name in gpusim; its preset is used."""
    repeats: int = 3
    """Processes for each of cold and warm."""
    environments: bool = True
    """Whether the steps of the classic robots are compiled, too."""
    out: Path | None = None
    """JSON file; by default bench/results/compile-ENV.json."""
    child: Path | None = None
    """Used between processes: train here, into this folder, and print JSON."""


def main(args: Args, flags: Sequence[str]) -> None:
    """Measure cold and warm starts and report, or one of them as a child process."""
    if args.child is not None:
        print(json.dumps(first_update(args.env, flags, args.child)))
        return
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for kind, found in runs.items():
                found.append(_start(args.env, flags, Path(folder), kind))
    report(args.env, runs)
    steps = kernels.measure(common.ROBOTS if args.environments else ())
    if steps:
        kernels.report(steps)
    out = args.out or common.RESULTS / f"compile-{args.env}.json"
    common.write(out, {"env": args.env, "seconds": runs, "kernels": steps})


def _start(env: str, flags: Sequence[str], folder: Path, kind: str) -> dict[str, float]:
    """Start a process whose caches are in `folder`."""
    arguments = [f"--env={env}", f"--child={folder / kind}", *flags]
    return common.child("bench.compile", arguments, GPUSIM_CACHE=str(folder / "cache"))


def first_update(env: str, flags: Sequence[str], folder: Path) -> dict[str, float]:
    """Train for one update in this process: seconds by phase, and in all."""
    import jax

    from gpusim import config, train
    from gpusim.run import clock

    origin = time.perf_counter() - clock.process_age()
    imported = time.perf_counter()
    spans: dict[str, list[Interval]] = {event: [] for event in EVENTS.values()}

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event in spans:
            now = time.perf_counter()
            spans[event].append((now - duration_secs, now))

    jax.monitoring.register_event_duration_secs_listener(listen)
    flags = [f"--env={env}", *flags]
    steps = config.parse(flags).train.learner.steps_per_update
    one = [f"--total-steps={steps}", "--updates-per-call=1", "--evaluations=0", "--no-tensorboard"]
    status = train.main([*flags, *one, f"--out={folder}"])
    if status:
        raise RuntimeError(f"gpusim.train ended with status {status}")
    total = json.loads((folder / "summary.json").read_text(encoding="utf-8"))[
        "first_update_seconds"
    ]
    split = {"Python starts, imports": imported - origin} | split_by_kind(spans, origin + total)
    return split | {"run, and the rest": total - sum(split.values()), "in all": total}


def split_by_kind(spans: dict[str, list[Interval]], end: float) -> dict[str, float]:
    """Seconds of each kind of event before `end`; overlaps count for the kind named first."""
    seconds, covered, before = {}, [], 0.0
    for name, event in EVENTS.items():
        covered += [(a, min(b, end)) for a, b in spans[event] if a < end]
        total = length_of_union(covered)
        seconds[name], before = total - before, total
    return seconds


def length_of_union(intervals: Iterable[Interval]) -> float:
    """Seconds that at least one interval covers: nested traces are counted once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def report(env: str, runs: dict[str, list[dict[str, float]]]) -> None:
    """The table: median seconds by phase."""
    rows = []
    for phase in runs["cold"][0]:
        spreads = [common.Spread.of([run[phase] for run in found]) for found in runs.values()]
        cells = [f"{s.median:.2f} ({s.low:.2f} to {s.high:.2f})" for s in spreads]
        rows.append([phase, *cells])
    common.show(f"{env}: seconds to the first update", ("phase", "cold", "warm"), rows)


if __name__ == "__main__":
    main(*tyro.cli(Args, return_unknown_args=True))
