"""Rebuild a report, or lay several runs over each other: ``python -m gpusim.report RUN [RUN ...]``.

Writes one HTML file: in the folder of the run, or of several in the folder that holds them.
"""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from gpusim import shell
from gpusim.report import report


@shell.command("gpusim.report")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one line of explanation."""
    about = (__doc__ or "").partition(":")[0]
    parser = argparse.ArgumentParser(prog="python -m gpusim.report", description=about)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--open", action="store_true", help="open it in a browser")
    options = parser.parse_args(argv)
    try:
        path = report.write(*options.runs, out=options.out)
    except (ValueError, OSError) as error:
        return shell.complain("gpusim.report", error)
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    shell.say(str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
