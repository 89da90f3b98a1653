"""Train a policy: ``python -m gpusim.train --env ant --num-envs 4096``.

From the command line to a run folder. The only file with argv and print; the run itself, which
notebooks call too, is `gpusim.run.training.train`.
"""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from gpusim import config, usage
from gpusim.config import ConfigError, HelpWanted, TrainConfig
from gpusim.run import archive, blame
from gpusim.run.archive import CheckpointError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 complete, 2 not understood, 3 diverged, 4 the environment's code failed,
    5 the last checkpoint could not be written, 128 + signal interrupted; 1 is Python's, of an error
    that nobody foresaw."""
    try:
        command = config.parse(sys.argv[1:] if argv is None else argv)
        folder = command.resume or command.out or _new_folder(command.train)

        # Not above: it imports JAX, and --help or a mistyped flag are answered without.
        from gpusim.run import clock, job, training

        if command.resume and _complete(command.resume, command.train):
            return 0
        if command.dry_run:
            parts = job.prepare(command.train, folder, bool(command.resume), clock.Phases())
            print(job.outline(parts))
            return 0
        age = clock.process_age()
        run = training.train(command.train, folder, resume=bool(command.resume), age=age)
    except HelpWanted as wanted:
        _say(usage.text(wanted.args[0], shutil.get_terminal_size().columns))
        return 0
    except (ConfigError, CheckpointError) as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:  # a second Ctrl-C
        return _complain("stopped at once; what was not saved is lost", 128 + signal.SIGINT)
    except Exception as error:
        if fault := blame.environment(error):
            return _complain(fault, 4)
        if isinstance(error, OSError):  # no checkpoint could be written
            return _complain(str(error), 5)
        raise
    _say(run.text())
    if run.ended and run.steps < command.train.learner.total_steps:
        _say(f"ended before all steps were made: {run.ended}")
    report = f"see it, open in a browser: {folder / 'report.html'}"
    if run.interrupted_by:
        _say(f"{report}\nresume with: python -m gpusim.train --resume {folder}")
        return 128 + run.interrupted_by
    if run.diverged:
        advice = "try a smaller --learning-rate"
        if archive.checkpoints(folder / "checkpoints"):
            advice += "; the last checkpoint is from before"
        return _complain(f"{run.divergence()}; {advice}", 3)
    _say(f"play more of it: python -m gpusim.play {folder}\n{report}")
    return 0


def _complete(folder: Path, config: TrainConfig) -> bool:
    """Say so if all steps of the run are made: whoever started it again is not to worry."""
    steps = archive.newest(folder / "checkpoints")[1].step
    complete = steps >= config.learner.total_steps
    if complete:
        _say(f"{folder} is complete: {steps:,} steps; a larger --steps lets it go on")
    return complete


def _new_folder(config: TrainConfig) -> Path:
    """runs/ENV-SEED-TIME."""
    name = config.env.rpartition(":")[2]
    return Path("runs") / f"{name}-{config.seed}-{datetime.now():%Y%m%d-%H%M%S}"


def _say(text: str) -> None:
    """Print, whoever reads: the reader may have gone, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int) -> int:
    print(f"gpusim.train: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
