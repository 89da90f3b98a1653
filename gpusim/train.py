"""Train a policy: ``python -m gpusim.train --env ant --num-envs 4096``, or from Python

    run = gpusim.train("ant", num_envs=4096)

From flags, or keywords of their names, to a run folder; the run itself is `gpusim.run.training`.
"""

import contextlib
import dataclasses
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpusim import config, shell, usage
from gpusim.callable import callable_module
from gpusim.config import Command, ConfigError, HelpWanted, TrainConfig
from gpusim.run import archive, blame
from gpusim.run.archive import CheckpointError

if TYPE_CHECKING:
    from gpusim.run.sinks import Display, Row, Sink
    from gpusim.run.summary import Run


def train(
    env: str | None = None,
    *,
    env_options: Mapping[str, Any] | None = None,
    callbacks: "Sequence[Callable[[Row], object] | Sink]" = (),
    display: "Display | None" = None,
    **flags: Any,
) -> "Run":
    """Train a policy and write its run folder: `train("ant", total_steps=5e6, out="runs/ant")`.

    env: a name of `gpusim.make`. flags: those of `python -m gpusim.train` (`--help` lists them), as
    keywords: `learner="sac"`, `policy_hidden=(64, 64)`, `config="mine.yaml"`, `resume="runs/ant"`.
    callbacks: called with every `Row`, its `steps`, `seconds` and `values`; an exception of theirs
    ends the run, which is saved first, and `signal.raise_signal(signal.SIGINT)` is a Ctrl-C.
    display: a curve in a notebook, lines elsewhere. A complete run that is resumed is returned as
    it is.

    Raises ConfigError, a ValueError, for what cannot be understood. A run that is interrupted or
    diverges says so in what is returned.
    """
    if not isinstance(env_options or {}, Mapping):
        raise ConfigError(f"env_options: expected names and values, found {env_options!r}")
    said = [] if env is None else [("env", env)]
    said += [(f"env.{name}", value) for name, value in (env_options or {}).items()]
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise ConfigError(f"callbacks: expected a list of functions, found {callbacks!r}")
    command = config.of_flags([*said, *flags.items()])
    if command.dry_run:
        raise ConfigError("dry_run: python -m gpusim.train --dry-run prints what would be done")

    from gpusim.report import live
    from gpusim.run import sinks, summary

    if command.resume and _complete(command.resume, command.train):
        with contextlib.suppress(OSError, ValueError):  # else it is told as an error below
            return summary.Run.read(command.resume)
    if display is None and live.in_notebook():
        display = live.LiveCurve(command.train.learner.total_steps)
    listeners = [sinks.listener(x) for x in callbacks]
    return _perform(command, _folder(command), display=display, listeners=listeners)


@shell.command("gpusim.train")
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

    try:
        status = _main(command)
    except Exception:  # nobody foresaw it: the others are to hear of it before this process ends
        traceback.print_exc()
        status = 1
    hosts.leave(status)
    return status


def _together(here: Any, argv: list[str]) -> Command:
    """The command of all processes: what the first one makes of its flags and folders."""
    if here.first:
        mine = config.parse(argv)
        mine = dataclasses.replace(mine, out=_folder(mine))
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
        return _run(command, _folder(command))
    except HelpWanted as wanted:
        shell.say(usage.text(wanted.args[0], shutil.get_terminal_size().columns))
        return 0
    except (ConfigError, CheckpointError) as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:  # a second Ctrl-C
        return _complain("stopped at once; what was not saved is lost", 128 + signal.SIGINT)


def _run(command: Command, folder: Path) -> int:
    """Train, or say what would be done; the exit status. Raises what `_main` answers."""
    # Not above: it imports JAX, and --help or a mistyped flag are answered without.
    from gpusim.run import clock, hosts, job, memory

    here = hosts.current()
    try:
        if command.resume and here.told(here.first and _complete(command.resume, command.train)):
            hosts.PARTING.set()
            return 0
        if command.dry_run:
            parts = job.prepare(command.train, folder, bool(command.resume), clock.Phases())
            outline = job.outline(parts)
            if here.first:
                shell.say(outline)
            hosts.PARTING.set()
            return 0
        run = _perform(command, folder, age=clock.process_age())
    except (ConfigError, CheckpointError):
        raise
    except Exception as error:
        if isinstance(error, hosts.Elsewhere):
            return _complain(f"{error}; process {here.index} ends too", hosts.LOST)
        if here.count > 1 and hosts.is_loss(error):
            hosts.lost(f"another process has gone ({' '.join(str(error).split())[:120]})")
        if fault := blame.environment(error):
            return _complain(fault, 4)
        if isinstance(error, OSError):  # no checkpoint could be written
            return _complain(str(error), 5)
        if lack := memory.exhausted(error, command.train):
            return _complain(lack, 2)
        raise
    if not here.first:
        return 128 + run.interrupted_by if run.interrupted_by else 3 * run.diverged
    shell.say(run.text())
    if run.ended and run.steps < command.train.learner.total_steps:
        shell.say(f"ended before all steps were made: {run.ended}")
    report = f"see it, open in a browser: {folder / 'report.html'}"
    if run.interrupted_by:
        shell.say(f"{report}\nresume with: {shell.call('gpusim.train', '--resume', folder)}")
        return 128 + run.interrupted_by
    if run.diverged:
        advice = "try a smaller --learning-rate"
        if archive.checkpoints(folder / "checkpoints"):
            advice += "; the last checkpoint is from before"
        return _complain(f"{run.divergence()}; {advice}", 3)
    shell.say(f"play more of it: {shell.call('gpusim.play', folder)}\n{report}")
    return 0


def _perform(command: Command, folder: Path, **options: Any) -> "Run":
    """The run that is meant; options of `training.train`."""
    from gpusim.run import training

    return training.train(command.train, folder, resume=bool(command.resume), **options)


def _complete(folder: Path, config: TrainConfig) -> bool:
    """Say so if all steps of the run are made: whoever started it again is not to worry."""
    steps = archive.newest(folder / "checkpoints")[1].step
    complete = steps >= config.learner.total_steps
    if complete:
        shell.say(f"{folder} is complete: {steps:,} steps; a larger --steps lets it go on")
    return complete


def _folder(command: Command) -> Path:
    """Where the run is, or will be: runs/ENV-SEED-TIME, if nothing else was said."""
    name, seed = command.train.env.rpartition(":")[2], command.train.seed
    new = Path("runs") / f"{name}-{seed}-{datetime.now():%Y%m%d-%H%M%S}"
    return command.resume or command.out or new


def _complain(message: str, status: int) -> int:
    return shell.complain("gpusim.train", message, status)


callable_module(__name__)

if __name__ == "__main__":
    sys.exit(main())
