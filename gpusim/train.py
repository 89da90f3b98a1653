"""Train a policy: ``python -m gpusim.train --env ant --num-envs 4096``.

From the command line to a run folder. The only file with argv and print; the run itself, which
notebooks call too, is `gpusim.run.training.train`.
"""

import dataclasses
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from gpusim import config, usage
from gpusim.config import Command, ConfigError, HelpWanted, TrainConfig
from gpusim.run import archive, blame
from gpusim.run.archive import CheckpointError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 complete, 2 not understood, 3 diverged, 4 the environment's code failed,
    5 the last checkpoint could not be written, 6 another process of the run was lost, 128 + signal
    interrupted; 1 is Python's, of an error that nobody foresaw."""
    try:
        processes, rest = config.processes(sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        return _complain(str(error), 2)
    if processes is None:
        return _main(lambda: config.parse(rest))

    from gpusim.run import hosts

    def command() -> Command:
        hosts.join(processes)
        return _together(hosts.current(), rest)

    status = _main(command)
    hosts.leave(status, together=status in (0, 3) or status > 128)
    return status


def _together(here: Any, argv: list[str]) -> Command:
    """The command of all processes: what the first one makes of its flags and folders."""
    if here.first:
        mine = config.parse(argv)
        mine = dataclasses.replace(mine, out=mine.out or mine.resume or _new_folder(mine.train))
        told = [argv, config.to_yaml(mine.train), str(mine.out), bool(mine.resume), mine.dry_run]
        here.told(told)
        return mine
    flags, train, out, resume, dry_run = here.told(None)
    if flags != argv:
        raise ConfigError(
            f"process {here.index} was given {shlex.join(argv)}, process 0 {shlex.join(flags)}: "
            "they need to be the same; --num-processes 1 lets each be a run by itself"
        )
    folder = Path(out)
    return Command(config.from_yaml(train), (), folder if resume else None, folder, dry_run=dry_run)


def _main(parse: Callable[[], Command]) -> int:
    """Do what the command says; the exit status."""
    try:
        command = parse()
        folder = command.resume or command.out or _new_folder(command.train)

        # Not above: it imports JAX, and --help or a mistyped flag are answered without.
        from gpusim.run import clock, hosts, job, training

        here = hosts.current()
        if command.resume and here.told(here.first and _complete(command.resume, command.train)):
            return 0
        if command.dry_run:
            parts = job.prepare(command.train, folder, bool(command.resume), clock.Phases())
            outline = job.outline(parts)
            if here.first:
                print(outline)
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
        if here.count > 1 and hosts.is_loss(error):
            hosts.lost(f"another process has gone ({' '.join(str(error).split())[:120]})")
        if isinstance(error, OSError):  # no checkpoint could be written
            return _complain(str(error), 5)
        raise
    if not here.first:
        return 128 + run.interrupted_by if run.interrupted_by else 3 * run.diverged
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
