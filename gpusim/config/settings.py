"""Values as they were said, and how they become typed: each knows where it was said."""

from typing import Any, NamedTuple, TypeVar

from gpusim import agents
from gpusim.agents.config import LearnerConfig
from gpusim.envs import registry
from gpusim.parse import fields_of, typed
from gpusim.suggest import nearest

Kind = TypeVar("Kind")


class ConfigError(ValueError):
    """A configuration that cannot be meant; the message is one line for the user."""


class Setting(NamedTuple):
    """A value as it was said."""

    value: Any  # the words behind a flag, or what YAML makes of a file
    where: str  # "--seed", "run.yaml: seed"


Settings = dict[str, Setting]  # by "seed", "env_options.reset_noise_scale", "LEARNER.clip"


def preset(env: str, learner: str = agents.DEFAULT) -> LearnerConfig:
    """A learner's configuration for an environment: what is known to work for it, or for the one
    that it is derived from; or the defaults."""
    kind = learner_kind(Setting(learner, ""))
    known = agents.preset(learner, *registry.lineage(env)).items()
    return make(kind, {key: Setting(value, "preset") for key, value in known})


def learner_kind(setting: Setting) -> type:
    try:
        return agents.find(typed_by(setting, str)).Config
    except ValueError as error:
        raise ConfigError(str(error)) from None


def make(kind: type[Kind], settings: Settings, **others: Any) -> Kind:
    """A dataclass from settings by the names of its fields."""
    fields = fields_of(kind)
    for name, setting in settings.items():
        if name not in fields:
            hint = nearest(name, fields)
            raise ConfigError(f"{setting.where}: there is no such key; {hint}".rstrip("; "))
    return kind(**{name: typed_by(s, fields[name]) for name, s in settings.items()}, **others)


def typed_by(setting: Setting, kind: Any) -> Any:
    try:
        return typed(setting.value, kind)
    except ValueError as error:
        raise ConfigError(f"{setting.where}: {error}") from None
