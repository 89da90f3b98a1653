"""The checkpoints of a run, each read and verified: ``python -m gpusim.checkpoint RUN``."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpusim import shell
from gpusim.metrics import count
from gpusim.run import archive


@shell.command("gpusim.checkpoint")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 if one is damaged, 2 if there are none."""
    about = (__doc__ or "").partition(":")[0]
    parser = argparse.ArgumentParser(prog="python -m gpusim.checkpoint", description=about)
    parser.add_argument("run", type=Path, help="run folder that gpusim.train wrote")
    folder = parser.parse_args(argv).run / "checkpoints"
    best = [folder / archive.BEST] if (folder / archive.BEST).exists() else []
    found = [*archive.checkpoints(folder), *best, *archive.all_good(folder)]
    if not found:
        return shell.complain("gpusim.checkpoint", f"{folder} holds no checkpoint")
    sound = []
    for path in found:
        try:
            shell.say("  ".join(_line(path, archive.read(path))))
            sound.append(path)
        except archive.CheckpointError as error:
            shell.say(str(error))
    return 0 if sound == found else 1


def _line(path: Path, found: archive.Archive) -> Iterator[str]:
    """The words about one."""
    yield f"{path}  {count(found.step):>6} steps"
    yield f"{path.stat().st_size / 2**20:7.1f} MiB  {len(found.leaves)} arrays, sound"
    value = found.extra.get("evaluation", {}).get("evaluation_return")
    if value is not None:
        yield f"evaluated return {value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
