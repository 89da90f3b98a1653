"""The commands: `gpusim` or `python -m gpusim` lists them, `gpusim NAME ...` runs one."""

import importlib
import sys
from collections.abc import Sequence

from gpusim import shell
from gpusim.suggest import unknown

COMMANDS = {
    "train": "train a policy: gpusim train --env ant",
    "launch": "one run on several nodes, with Ray: gpusim launch --nodes 2 --env ant --out RUN",
    "sweep": "search for good values with Ray Tune: gpusim sweep --env ant --space FILE --out DIR",
    "play": "evaluate a trained policy, write its replay, a video: gpusim play RUN",
    "view": "watch a policy live in a browser, push it, while it trains too: gpusim view RUN",
    "export": "write a policy as one file, ONNX or NumPy: gpusim export RUN --onnx policy.onnx",
    "report": "rebuild a run's report, or lay several over each other: gpusim report RUN [RUN ...]",
    "checkpoint": "what is saved of a run, verified: gpusim checkpoint RUN",
    "list": "environments, learners and runs: gpusim list",
    "doctor": "what this machine offers, and what is wrong: gpusim doctor",
}


@shell.command("gpusim")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the command; 2 if there is none of that name."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("--help", "-h"):
        shell.say(
            "gpusim NAME ..., or python -m gpusim.NAME ...; each explains itself with --help\n"
        )
        shell.say("\n".join(f"  {name:12}{meaning}" for name, meaning in COMMANDS.items()))
        return 0
    if name == "--version":
        shell.say(importlib.import_module("gpusim").__version__)
        return 0
    if name not in COMMANDS:
        return shell.complain("gpusim", unknown("command", name, COMMANDS))
    place = "gpusim.report.__main__" if name == "report" else f"gpusim.{name}"
    return importlib.import_module(place).main(rest)


if __name__ == "__main__":
    sys.exit(main())
