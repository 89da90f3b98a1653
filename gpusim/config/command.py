"""The command line of `gpusim.train`."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpusim.config.files import of_run, same_run
from gpusim.config.merging import dashed, meant, merge, merged, resumed
from gpusim.config.schema import Command, TrainConfig
from gpusim.config.settings import ConfigError, Setting, typed_by
from gpusim.envs import registry
from gpusim.parse import flags
from gpusim.run import archive


class HelpWanted(Exception):
    """--help was among the flags; `args[0]` is the Command of the others."""


def parse(argv: Sequence[str]) -> Command:
    """The command line as a Command, presets and files filled in.

    Raises ConfigError for what cannot be understood, HelpWanted for --help.
    """
    given = _given(argv)
    said = [(flag, words) for flag, words in given if flag not in ("help", "h")]
    command = of_flags(said)
    if len(said) < len(given):
        raise HelpWanted(command)
    return command


def _given(argv: Sequence[str]) -> list[tuple[str, Any]]:
    """Flags and the words behind them. Raises ConfigError for a word in front of all flags."""
    try:
        return [*flags(argv)]
    except ValueError as error:
        world = ":" in argv[0] or registry.spelled(argv[0]) in registry.names()
        hint = f"; did you mean --env {argv[0]}?" if world else ""
        raise ConfigError(f"{error}{hint}") from None


def of_flags(given: Sequence[tuple[str, Any]]) -> Command:
    """A Command from flags: names, with the words behind them or with values of Python's.

    Raises ConfigError for what cannot be understood.
    """
    about = {field.name for field in dataclasses.fields(Command)} - {"train"}
    its = {
        name: Setting(value, dashed(flag))
        for flag, value in given
        for name in about.intersection(meant(flag))
    }
    said = [(flag, value) for flag, value in given if not about & {*meant(flag)}]
    several = lambda value: [value] if isinstance(value, str | Path) else value
    files = [several(value) for flag, value in given if flag == "config"]
    if not all(files):
        raise ConfigError("--config: takes one file or more, not none")
    configs = [Path(file) for some in files for file in some]
    kinds = {"resume": Path, "out": Path, "dry_run": bool, **Processes.__annotations__}
    values = {name: typed_by(its[name], kind) for name, kind in kinds.items() if name in its}
    auto = values.get("resume") == Path("auto")
    if not auto and {"config", "resume"} <= its.keys():
        raise ConfigError("--resume continues with the run's own configuration; leave out --config")
    if not auto and {"out", "resume"} <= its.keys():
        raise ConfigError("--resume continues in the run's own folder; leave out --out")
    train = merge(configs, said) if auto or "resume" not in its else resumed(values["resume"], said)
    values |= _auto(values, train) if auto else {}
    return Command(train, config=tuple(configs), **values)


class Processes(NamedTuple):
    """What is said of the processes of a run."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def processes(argv: Sequence[str]) -> tuple[Processes | None, list[str]]:
    """What a command line says of processes, None if there is this one alone; and the rest of it.

    Raises ConfigError for what cannot be understood.
    """
    given = _given(argv)
    said = {}
    for name, words in given:
        if kind := Processes.__annotations__.get(name):
            said[name] = typed_by(Setting(words, dashed(name)), kind)
    rest = [
        word
        for name, words in given
        if name not in Processes._fields
        for word in (dashed(name), *words)
    ]
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    helping = any(name in ("help", "h") for name, _ in given)
    several = bool(said) or tasks not in ("", "1")
    if helping or not several or said.get("num_processes") == 1:
        return None, rest
    if said.get("coordinator") == "auto":
        del said["coordinator"]
    return Processes(**said), rest


def _auto(values: Mapping[str, Any], train: TrainConfig) -> dict[str, Path | None]:
    """What `--resume auto` means: to go on with --out where it has a checkpoint, or to start."""
    run = values.get("out")
    if run is None:
        raise ConfigError("--resume auto needs --out, the folder of the run")
    if not archive.checkpoints(run / "checkpoints"):
        return {"resume": None}
    saved = of_run(run)[1]
    if saved is not None:
        same_run(run, merged(saved, ()), train)
    return {"resume": run, "out": None}
