"""Preset, files and flags as one mapping, and the configuration that it means."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpusim import agents
from gpusim.config.files import of_file, of_run, of_text, same_run
from gpusim.config.schema import Command, TrainConfig, whole_path
from gpusim.config.settings import ConfigError, Setting, Settings, learner_kind, make, typed_by
from gpusim.envs import registry
from gpusim.parse import fields_of
from gpusim.spellings import ANSWERS, SPELLINGS
from gpusim.suggest import listed, nearest


def merge(files: Sequence[Path], said: Sequence[tuple[str, Any]] = ()) -> TrainConfig:
    """Preset, files from left to right, and flags together: (name, words or a value)."""
    settings: Settings = {}
    for file in files:
        settings |= of_file(file)
    return merged(settings, said)


def from_yaml(text: str) -> TrainConfig:
    """The inverse of `to_yaml`."""
    return merged(of_text(text, Path("configuration")), ())


def resumed(run: Path, said: Sequence[tuple[str, Any]] = ()) -> TrainConfig:
    """The configuration of a run folder, with the changes that flags make to it.

    Raises ConfigError for a change of what a run cannot change on its way.
    """
    settings, saved = of_run(run)
    now = merged(settings, said)
    if saved is not None:
        same_run(run, merged(saved, ()), now)
    return now


def merged(settings: Settings, said: Sequence[tuple[str, Any]]) -> TrainConfig:
    """Preset, what files say, and flags together."""
    settings = dict(settings)
    learner = Setting(agents.DEFAULT, "")
    for flag, words in said:
        learner = Setting(words, dashed(flag)) if "learner" in meant(flag) else learner
    learner = learner if learner.where else settings.get("learner", learner)
    kind = learner_kind(learner)
    name = typed_by(learner, str)
    unclear: list[str] = []
    for flag, words in said:
        for meaning in meant(flag):
            key = _key(meaning, dashed(flag), name, kind)
            settings[key or ""] = Setting(words, dashed(flag))
            unclear += [] if key else [flag]
    physics = typed_by(settings["physics"], str) if "physics" in settings else TrainConfig.physics
    env = _env(settings["env"], physics) if "env" in settings else TrainConfig.env
    if unclear:
        raise ConfigError(_no_flag(unclear[0], env, physics, name))
    if any(f"{name}.{key}" not in settings for key in fields_of(kind)):
        known = agents.preset(name, *registry.lineage(env)).items()
        settings = {f"{name}.{key}": Setting(value, "preset") for key, value in known} | settings
    settings["env"] = Setting(env, "env")
    return _build(settings, name, kind)


def _build(settings: Settings, learner: str, kind: type) -> TrainConfig:
    """The typed configuration; every mistake is told with where it was made."""
    section = lambda prefix: {
        key.removeprefix(f"{prefix}."): setting
        for key, setting in settings.items()
        if key.startswith(f"{prefix}.")
    }
    for other in agents.names():  # a file may have sections of several: all must make sense
        if other != learner and section(other):
            make(agents.find(other).Config, section(other))
    run = {k: s for k, s in settings.items() if "." not in k and k != "learner"}
    config = make(TrainConfig, run, learner=make(kind, section(learner)))
    options = _env_options(config, section("env_options"))
    return dataclasses.replace(config, env_options=options)


def _env(setting: Setting, physics: str) -> str:
    """The environment's name. Other physics have names of their own, and check them."""
    name = typed_by(setting, str)
    name = registry.spelled(name)
    if physics in registry.OURS and ":" not in name and name not in registry.names():
        try:
            registry.world_class(name)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return whole_path(name)


def _env_options(config: TrainConfig, settings: Settings) -> dict[str, Any]:
    """Options of the environment, typed as its constructor says; only now is its code needed."""
    if not settings:
        return {}
    try:
        known = registry.option_types(config.env, config.physics)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for name, setting in settings.items():
        if known is not None and name not in known:
            raise ConfigError(
                f"{setting.where}: {config.env} has no such option; {listed(name, known)}"
            )
    kinds = known or {}
    return {name: typed_by(s, kinds.get(name, Any)) for name, s in settings.items()}


def meant(flag: str) -> tuple[str, ...]:
    """The names that a flag stands for: its own, most often."""
    return SPELLINGS.get(flag, (flag,))


def dashed(flag: str) -> str:
    """A flag as people write it."""
    return f"--{flag.replace('_', '-')}"


def _key(flag: str, spelt: str, learner: str, kind: type) -> str | None:
    """The key of a flag: a learner's field needs no prefix, an environment's option has `env.`;
    None if there is none."""
    prefix, dot, rest = flag.partition(".")
    if dot and prefix in ("env", "env_options"):
        return f"env_options.{rest}"
    name = rest if dot and prefix in (learner, "learner") else flag
    run, its = fields_of(TrainConfig), fields_of(kind)
    if name in its and (name not in run or name != flag):
        return f"{learner}.{name}"
    if name in run and name == flag:
        return name
    if dot and prefix in agents.names():  # of a learner that this run has not
        return flag
    if flag in ANSWERS:
        raise ConfigError(f"{spelt}: {ANSWERS[flag]}")
    return None


def _no_flag(flag: str, env: str, physics: str, learner: str) -> str:
    """What to say of a flag that is none."""
    kind = agents.find(learner).Config
    spelt, known = dashed(flag), [*fields_of(TrainConfig), *fields_of(kind), *SPELLINGS]
    with contextlib.suppress(ValueError):
        if flag in (registry.option_types(env, physics) or ()):
            return f"{spelt}: there is no such flag; {env} has an option --env.{spelt[2:]}"
    for other in agents.names():
        if flag in fields_of(agents.find(other).Config):
            return f"{spelt}: {learner} has no such flag; --learner {other} has"
    commands = {field.name for field in dataclasses.fields(Command)} - {"train"}
    hint = nearest(spelt, map(dashed, (*known, *commands)))
    return f"{spelt}: there is no such flag; {hint}".rstrip("; ")
