"""Learning curves: `python -m bench.curves --env ant`.

Trains the preset once a seed and draws the evaluation returns of all of them over environment steps
into docs/curve-ENV.svg. The JSON also has the seconds since each process started.
"""

import dataclasses
import json
import re
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tyro

from bench import common
from gpusim.report import charts

DOCS = Path(__file__).parents[1] / "docs"
STYLE = """<style>
text { font: 11px sans-serif; fill: #555 } line { stroke: #ccc } .tick { stroke: #888 }
.line { fill: none; stroke-width: 1.8 } .c0 { stroke: #1f77b4 } .c1 { stroke: #d95f02 }
.c2 { stroke: #2ca02c } .dot { fill: white }
</style><rect width="100%" height="100%" fill="white"/>"""


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags; those not listed here are gpusim.train's."""

    env: str = "ant"
    """Environment, by its name in gpusim; its preset is used."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training run each, one after the other."""
    out: Path | None = None
    """JSON file; by default bench/results/curves-ENV.json. The plot goes to docs/."""


def main(args: Args, flags: Sequence[str]) -> None:
    """Train, print the ends, write the numbers and the plot."""
    runs = {seed: train(args.env, seed, flags) for seed in args.seeds}
    rows = [
        [f"seed {seed}", f"{run['return']:,.0f}", f"{run['steps'][-1]:,}", f"{run['wall']:.0f} s"]
        for seed, run in runs.items()
    ]
    common.show(f"{args.env}: evaluation return at the end", ("", "return", "steps", "wall"), rows)
    common.write(
        args.out or common.RESULTS / f"curves-{args.env}.json",
        {"env": args.env, "median": statistics.median(r["return"] for r in runs.values())}
        | {"seeds": runs},
    )
    curves = [
        charts.Curve(f"seed {seed}", run["steps"], run["returns"]) for seed, run in runs.items()
    ]
    figure = charts.chart(
        curves,
        title=f"{args.env}: evaluation return",
        x_label="environment steps",
    )
    picture = DOCS / f"curve-{args.env}.svg"
    picture.write_text(standalone(figure), encoding="utf-8")
    print(f"drawn in {picture}")


def train(env: str, seed: int, flags: Sequence[str]) -> dict:
    """One run of the training program: its evaluations over wall time."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        common.run("gpusim.train", [f"--env={env}", f"--seed={seed}", *flags, f"--out={run}"])
        lines = [
            json.loads(line)
            for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    evaluated = [line for line in lines if line.get("evaluation_return") is not None]
    return {
        "return": summary["evaluation"]["evaluation_return"],
        "wall": sum(summary["seconds"].values()),
        "steps": [line["steps"] for line in evaluated],
        "seconds": [line["seconds"] for line in evaluated],
        "returns": [line["evaluation_return"] for line in evaluated],
    }


def standalone(figure: str) -> str:
    """The drawing inside a report's figure as a file of its own."""
    match = re.search(r"<svg\b.*?</svg>", figure, re.DOTALL)
    assert match is not None
    svg = match[0]
    if "xmlns=" not in svg:
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{STYLE}", svg, count=1) + "\n"


if __name__ == "__main__":
    main(*tyro.cli(Args, return_unknown_args=True))
