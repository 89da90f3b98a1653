"""Environments, learners and runs: ``python -m gpusim.list``."""

import argparse
import contextlib
import datetime
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpusim import agents, shell
from gpusim.envs import registry
from gpusim.metrics import count, duration
from gpusim.report import folder


@shell.command("gpusim.list")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0."""
    parser = argparse.ArgumentParser(prog="python -m gpusim.list", description=__doc__)
    parser.add_argument(
        "runs", nargs="*", type=Path, default=[Path("runs")], help="where runs are (default: runs)"
    )
    options = parser.parse_args(argv)
    width = shutil.get_terminal_size((100, 24)).columns
    about = "environments (--env NAME; their options are --env.OPTION VALUE)"
    shell.say(_indented(about, width, 0, 4))
    for title, names in registry.families().items():
        shell.say(f"\n{title}:")
        for name in names:
            shell.say(_indented(f"{name}: {_first_line(registry.world_class(name))}", width, 2, 6))
            for told in _facts(name):
                shell.say(_indented(told, width, 6, 6))
    shell.say("\nlearners (--learner NAME):")
    for name in agents.names():
        shell.say(_indented(f"{name}: {_first_line(agents.find(name).Config)}", width, 2, 6))
    for place in options.runs:
        shell.say(f"\nruns in {place}:")
        shell.say("\n".join(_runs(place)) or "  none")
    return 0


def _indented(text: str, width: int, first: int, later: int) -> str:
    return textwrap.fill(
        text, width, initial_indent=" " * first, subsequent_indent=" " * later,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _facts(name: str) -> Iterator[str]:
    """A world's sizes, what it does not find here, and its options."""
    with contextlib.suppress(ValueError):  # of a world of the user's own that cannot be made
        yield registry.sizes(name).text()
    if missing := registry.missing(name):
        yield f"not here: {missing}"
    if options := registry.option_types(name):
        yield ", ".join(options)


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _runs(place: Path) -> Iterator[str]:
    """A line a run, the newest first."""
    configs = sorted(place.glob("*/config.yaml"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in configs:
        try:
            run = folder.read(path.parent)
        except (OSError, ValueError) as error:
            yield f"  {path.parent.name:32}cannot be read: {error}"
            continue
        begun = datetime.datetime.fromtimestamp(path.stat().st_mtime)
        value = run.last("evaluation_return")
        told = "" if value is None else f"evaluated return {value:,.0f}"
        last = run.rows[-1] if run.rows else {"steps": 0, "seconds": 0}
        state = "diverged" if run.summary.get("diverged") else ""
        state = state or ("interrupted" if run.summary.get("interrupted_by") else "")
        state = state or ("" if run.summary else "not finished")
        far = f"{count(last['steps']):>6} steps {duration(last['seconds']):>8}"
        yield f"  {run.name:32}{run.env:16}{far}  {begun:%d %b %H:%M}  {told}  {state}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
