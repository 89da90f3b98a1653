"""What configuration files say, and what the folder of a run remembers."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from gpusim import agents
from gpusim.config.schema import TrainConfig
from gpusim.config.settings import ConfigError, Setting, Settings
from gpusim.parse import fields_of, yaml_of
from gpusim.run import archive
from gpusim.suggest import nearest


def of_file(path: Path) -> Settings:
    """What a configuration file says, or part of one."""
    try:
        return of_text(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error


def of_run(run: Path) -> tuple[Settings, Settings | None]:
    """What config.yaml of a run says, and what its newest checkpoint remembers, which stands in for
    a config.yaml that is gone or cut short."""
    try:
        path, found = archive.newest(run / "checkpoints")
        text = found.extra.get("config")
    except archive.CheckpointError:
        path, text = run, None
    saved = None if text is None else of_text(text, path)
    try:
        now = of_file(run / "config.yaml")
    except ConfigError:
        if saved is None:
            raise
        return saved, saved
    if saved is None:
        return now, None
    if not saved.keys() <= now.keys():
        return saved, saved
    if not (run / "config.yaml").read_text(encoding="utf-8").endswith("\n"):
        raise ConfigError(
            f"{run / 'config.yaml'} ends in the middle of a line; delete it, and the newest "
            "checkpoint's copy is taken"
        )
    return now, saved


def of_text(text: str, path: Path) -> Settings:
    """What the text of a configuration file says, flat."""
    try:
        values = yaml_of(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected names and values, found {type(values).__name__}")
    settings: Settings = {}
    sections = {"env_options", *agents.names()}
    for key, value in values.items():
        key = str(key)
        if key not in sections:
            if key not in fields_of(TrainConfig):
                raise ConfigError(_no_key(f"{path}: {key}", key, sections))
            settings[key] = Setting(value, f"{path}: {key}")
        elif not isinstance(value, dict):
            raise ConfigError(f"{path}: {key}: expected names and values, found {value!r}")
        else:
            for name, inner in value.items():
                settings[f"{key}.{name}"] = Setting(inner, f"{path}: {key}.{name}")
    return settings


def _no_key(where: str, key: str, sections: Iterable[str]) -> str:
    """What to say of a key that a file cannot have there."""
    for learner in agents.names():
        if key in fields_of(agents.find(learner).Config):
            return (
                f"{where}: there is no such key; it belongs to a learner: {learner}: {{{key}: ...}}"
            )
    hint = nearest(key, [*fields_of(TrainConfig), *sections])
    return f"{where}: there is no such key; {hint}".rstrip("; ")


def same_run(run: Path, before: TrainConfig, now: TrainConfig) -> None:
    """Raise ConfigError, naming the first, for a change of what a run cannot change on its way."""
    if type(before.learner) is not type(now.learner):
        names = agents.name_of(before.learner), agents.name_of(now.learner)
        raise ConfigError(f"{run} was begun with the learner {names[0]}, not {names[1]}")
    for old, new in ((before, now), (before.learner, now.learner)):
        for name in old.FIXED:
            was, becomes = getattr(old, name), getattr(new, name)
            if was != becomes:
                raise ConfigError(
                    f"{run} was begun with {name} {was}, which cannot become {becomes} on the way; "
                    "leave it as it was, or start another run"
                )
