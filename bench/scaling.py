"""Training on more and more devices: `python -m bench.scaling --env ant`.

The same run, the same number of worlds in all, on one device, two, four and so on; on a CPU a
device is a core, and the process is confined to as many. Efficiency is the speed for each device as
a share of that of one device.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import tyro

from bench import common, train


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags; those not listed here are gpusim.train's."""

    env: str = "ant"
    """Environment, by its name in gpusim; its preset is used."""
    devices: tuple[int, ...] = ()
    """How many; by default 1, 2, 4 and so on, as far as there are."""
    calls: int = 8
    """Timed calls of the compiled training program, after two that are not timed."""
    rounds: int = 3
    """Runs of each, in turns; the median is kept."""
    out: Path | None = None
    """JSON file; by default bench/results/scaling-ENV.json."""


def main(args: Args, flags: Sequence[str]) -> None:
    """Measure and report."""
    import jax

    on_cpu = jax.default_backend() == "cpu"
    most = common.cores() if on_cpu else len(jax.local_devices())
    powers = itertools.takewhile(lambda n: n <= most, (2**k for k in itertools.count()))
    counts = args.devices or tuple(powers)
    rates: dict[int, list[float]] = {n: [] for n in counts}
    for _, n in itertools.product(range(args.rounds), counts):
        chosen = [] if on_cpu else [f"--devices={n}"]  # on a CPU training takes all cores it sees
        settings = train.Args(env=args.env, calls=args.calls)
        found = train.train(settings, [*chosen, *flags], n if on_cpu else None)
        rates[n].append(found["env_steps_per_s"]["median"])
    spreads = {n: common.Spread.of(r) for n, r in rates.items()}
    one = spreads[counts[0]].median / counts[0]
    rows = [
        [str(n), common.amount(s.median), f"{s.median / one / n:.0%}"] for n, s in spreads.items()
    ]
    columns = ("devices", "env steps/s", "efficiency")
    common.show(f"{args.env}: training on several devices", columns, rows)
    results = {str(n): dataclasses.asdict(s) for n, s in spreads.items()}
    common.write(
        args.out or common.RESULTS / f"scaling-{args.env}.json",
        {"env": args.env, "env_steps_per_s": results},
    )


if __name__ == "__main__":
    main(*tyro.cli(Args, return_unknown_args=True))
