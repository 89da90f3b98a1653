"""Train a policy: ``python -m gpusim.train --env ant --num-envs 4096``.

From the command line to a run folder. The only file with argv and print; the run itself, which
notebooks call too, is `gpusim.run.training.train`.
"""

import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from gpusim import config, usage
from gpusim.config import ConfigError, HelpWanted, TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 complete, 1 diverged, 2 not understood, 128 + signal interrupted."""
    try:
        command = config.parse(sys.argv[1:] if argv is None else argv)
        folder = command.resume or command.out or _new_folder(command.train)

        # Not above: it imports JAX, and --help or a mistyped flag are answered without.
        from gpusim.run import clock, job, training

        if command.dry_run:
            parts = job.prepare(command.train, folder, bool(command.resume), clock.Phases())
            print(job.outline(parts))
            return 0
        age = clock.process_age()
        run = training.train(command.train, folder, resume=bool(command.resume), age=age)
    except HelpWanted as wanted:
        print(usage.text(wanted.args[0], shutil.get_terminal_size().columns))
        return 0
    except ConfigError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:  # a second Ctrl-C
        return _complain("stopped at once; what was not saved is lost", 128 + signal.SIGINT)
    print(run.text())
    report = f"see it, open in a browser: {folder / 'report.html'}"
    if run.interrupted_by:
        print(report)
        print(f"resume with: python -m gpusim.train --resume {folder}")
        return 128 + run.interrupted_by
    if run.diverged:
        return _complain("the run diverged, see above", 1)
    print(f"play more of it: python -m gpusim.play {folder}")
    print(report)
    return 0


def _new_folder(config: TrainConfig) -> Path:
    """runs/ENV-SEED-TIME."""
    name = config.env.rpartition(":")[2]
    return Path("runs") / f"{name}-{config.seed}-{datetime.now():%Y%m%d-%H%M%S}"


def _complain(message: str, status: int) -> int:
    print(f"gpusim.train: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
