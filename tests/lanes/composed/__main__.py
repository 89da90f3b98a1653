"""A campaign of random programs: `python -m tests.lanes.composed --programs 5000 --seed 0`.

Ends with 1 if a program failed. Programs have the seeds from --seed on. Every failing one is
printed as Python that fails when it is pasted into an interpreter at the root of the repository.
"""

import argparse
import collections
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("GPUSIM_CACHE", "off")  # no kernel comes twice

from tests.xla_flags import compile_quickly

compile_quickly()

from tests.lanes.composed import campaign, check  # noqa: E402
from tests.lanes.composed.generate import generate  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--programs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--guard", type=int, default=4, help="one in so many, between guard pages")
    parser.add_argument("--shrink", type=float, default=60, help="seconds for a failing program")
    parser.add_argument("--quiet", action="store_true", help="only one line for each failure")
    options = parser.parse_args()

    start = time.monotonic()
    seeds = range(options.seed, options.seed + options.programs)
    programs = [(seed, generate(seed)) for seed in seeds]
    guarded = lambda seed: seed % options.guard == 0
    counts, reasons = collections.Counter(), collections.Counter()
    for found in campaign.run(programs, options.processes, guarded, options.shrink):
        counts["wrong" if found.outcome.failed else found.outcome.kind] += 1
        if found.outcome.kind == "refused":
            reasons[check.reason(found.outcome)] += 1
        if found.outcome.failed or found.outcome.kind in ("invalid", "ill"):
            where = " between guard pages" if found.stage == "guard" else ""
            kind, detail = found.outcome
            print(f"# program {found.seed}{where}: {kind}: {detail}", flush=True)
            if found.outcome.failed and not options.quiet:
                print(check.report(found.program), end="\n\n", flush=True)
    took = time.monotonic() - start
    words = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
    print(f"{sum(counts.values())} programs in {took:.0f} s: {words}")
    for reason, n in reasons.most_common():
        print(f"  refused {n}: {reason}")
    return bool(counts["wrong"])


if __name__ == "__main__":
    sys.exit(main())
