"""What a training run is: frozen dataclasses that are the flags and the YAML file.

A value comes from, later ones winning: the environment's preset, the files given with --config from
left to right (or the resumed run's own), the flags. They are merged as one mapping in which every
value knows where it was said, and become typed once, in `build`. The file a run writes is complete:
what it says is what was run.

Nothing here imports JAX, so `--help` and a mistyped flag are answered at once.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import yaml

from gpusim import agents
from gpusim.agents.config import LearnerConfig
from gpusim.envs import registry
from gpusim.parse import Words, fields_of, flags, typed
from gpusim.run import archive
from gpusim.spellings import ANSWERS, SPELLINGS
from gpusim.suggest import nearest

Kind = TypeVar("Kind")


class ConfigError(ValueError):
    """A configuration that cannot be meant; the message is one line for the user."""


class HelpWanted(Exception):
    """--help was among the flags; `args[0]` is the Command of the others."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the course of a run."""

    FIXED: ClassVar = ("env", "physics", "env_options", "seed", "episode_length")
    """What a run keeps from its beginning to its end."""

    env: str = "ant"
    """Environment: a name, path/to/file.py:Class or package.module:Class."""
    physics: str = "mujoco"
    """What computes it: mujoco; mjx, the same through XLA; brax-spring, brax-positional,
    brax-generalized."""
    env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the environment's constructor; as flags, --env.NAME VALUE."""
    seed: int = 0
    """Seed of everything random."""
    episode_length: int | None = None
    """Time limit in control steps; None: the environment's own."""
    devices: int | None = None
    """How many local devices share the worlds; None: all of them, on a CPU one a core."""
    spmd: Literal["pmap", "shard_map"] = "pmap"
    """How the program is spread over devices; both give the same bits."""
    evaluations: int = 10
    """Evaluations of the deterministic policy, evenly spread, the last at the end."""
    eval_envs: int = 128
    """Episodes in each evaluation."""
    checkpoint_seconds: float = 60.0
    """Wall time between checkpoints; the end and an interruption write one too."""
    keep_checkpoints: int = 3
    """How many of the newest checkpoints are kept."""
    max_seconds: float | None = None
    """End the run after so much wall time, earlier parts of a resumed run included."""
    stop_return: float | None = None
    """End the run once an evaluation reaches this return."""
    patience: int | None = None
    """End the run after so many evaluations in a row that were no better than the best."""
    restore: Path | None = None
    """A run folder whose policy, value network and observation statistics this run begins with."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    csv: bool = False
    """Write metrics.csv."""
    wandb: str | None = None
    """Project of Weights & Biases to write to; needs the package wandb."""
    profile: bool = False
    """Split the time of training into physics and learning at the end: takes some seconds."""
    learner: LearnerConfig = agents.DEFAULT  # type: ignore[assignment]
    """The learner's configuration; a name stands for that learner's preset for the environment."""

    def __post_init__(self):
        object.__setattr__(self, "env", _whole_path(self.env))
        if isinstance(self.learner, str):
            object.__setattr__(self, "learner", preset(self.env, self.learner))

    def check(self, num_devices: int) -> None:
        """Raise ConfigError if this cannot run on so many devices."""
        lowest = {"seed": 0, "evaluations": 0, "eval_envs": 1, "keep_checkpoints": 1}
        lowest |= {"checkpoint_seconds": 0, "episode_length": 1, "max_seconds": 0, "patience": 1}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # nor NaN
                raise ConfigError(f"{name} is {value}, needs to be at least {least}")
        if self.seed >= 2**32:
            raise ConfigError(f"seed is {self.seed}, needs to be below 2**32 = {2**32}")
        try:
            self.learner.check(num_devices)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def world(self) -> Any:
        """The world that is trained on. Raises ConfigError where there is none."""
        try:
            return registry.make(self.env, physics=self.physics, **self.env_options)
        except ValueError as error:
            raise ConfigError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Command:
    """Train a policy and write a run folder."""

    train: TrainConfig
    config: tuple[Path, ...] = ()
    """Configuration files, or parts of them: their values stand in for the preset's."""
    resume: Path | None = None
    """A run folder to continue; flags given beside it change its configuration. `--resume auto`
    starts the run in --out, or goes on with it: one command for a job that is queued again."""
    out: Path | None = None
    """The run folder to write; None: runs/ENV-SEED-TIME."""
    dry_run: bool = False
    """Say what would be done and how much memory it takes, and do nothing."""


class Setting(NamedTuple):
    """A value as it was said."""

    value: Any  # the words behind a flag, or what YAML makes of a file
    where: str  # "--seed", "run.yaml: seed"


Settings = dict[str, Setting]  # by "seed", "env_options.reset_noise_scale", "LEARNER.clip"


def parse(argv: Sequence[str]) -> Command:
    """The command line as a Command, presets and files filled in.

    Raises ConfigError for what cannot be understood, HelpWanted for --help.
    """
    try:
        given = flags(argv)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    about = {field.name for field in dataclasses.fields(Command)} - {"train"}
    its = {
        name: Setting(words, _dashed(flag))
        for flag, words in given
        for name in about.intersection(_meant(flag))
    }
    said = [(flag, words) for flag, words in given if not {*about, "help", "h"} & {*_meant(flag)}]
    configs = [Path(word) for name, words in given if name == "config" for word in words]
    kinds = {"resume": Path, "out": Path, "dry_run": bool}
    values = {name: _typed(its[name], kind) for name, kind in kinds.items() if name in its}
    auto = values.get("resume") == Path("auto")
    if not auto and {"config", "resume"} <= its.keys():
        raise ConfigError("--resume continues with the run's own configuration; leave out --config")
    if not auto and {"out", "resume"} <= its.keys():
        raise ConfigError("--resume continues in the run's own folder; leave out --out")
    train = merge(configs, said) if auto or "resume" not in its else resumed(values["resume"], said)
    values |= _auto(values, train) if auto else {}
    command = Command(train, config=tuple(configs), **values)
    if {"help", "h"} & {name for name, _ in given}:
        raise HelpWanted(command)
    return command


def merge(files: Sequence[Path], said: Sequence[tuple[str, Words]] = ()) -> TrainConfig:
    """Preset, files from left to right, and flags (name, words) together."""
    settings: Settings = {}
    for file in files:
        settings |= _of_file(file)
    return _merged(settings, said)


def resumed(run: Path, said: Sequence[tuple[str, Words]] = ()) -> TrainConfig:
    """The configuration of a run folder, with the changes that flags make to it.

    Raises ConfigError for a change of what a run cannot change on its way.
    """
    settings, saved = _of_run(run)
    now = _merged(settings, said)
    if saved is not None:
        _same_run(run, _merged(saved, ()), now)
    return now


def _merged(settings: Settings, said: Sequence[tuple[str, Words]]) -> TrainConfig:
    """Preset, what files say, and flags together."""
    settings = dict(settings)
    learner = Setting(agents.DEFAULT, "")
    for flag, words in said:
        learner = Setting(words, _dashed(flag)) if "learner" in _meant(flag) else learner
    learner = learner if learner.where else settings.get("learner", learner)
    kind = _learner(learner)
    name = _typed(learner, str)
    unclear: list[str] = []
    for flag, words in said:
        for meaning in _meant(flag):
            key = _key(meaning, _dashed(flag), name, kind)
            settings[key or ""] = Setting(words, _dashed(flag))
            unclear += [] if key else [flag]
    physics = _typed(settings["physics"], str) if "physics" in settings else TrainConfig.physics
    env = _env(settings["env"], physics) if "env" in settings else TrainConfig.env
    if unclear:
        raise ConfigError(_no_flag(unclear[0], env, physics, kind))
    known = agents.preset(name, env).items()
    settings = {f"{name}.{key}": Setting(value, "preset") for key, value in known} | settings
    settings["env"] = Setting(env, "env")
    return _build(settings, name, kind)


def preset(env: str, learner: str = agents.DEFAULT) -> LearnerConfig:
    """A learner's configuration for an environment: what is known to work, or the defaults."""
    kind = _learner(Setting(learner, ""))
    known = agents.preset(learner, env).items()
    return _make(kind, {key: Setting(value, "preset") for key, value in known})


def to_yaml(config: TrainConfig) -> str:
    """The complete configuration, as --config reads it."""
    plain = lambda items: {k: list(v) if isinstance(v, tuple) else v for k, v in items}
    values = dataclasses.asdict(config, dict_factory=plain)
    values["env_options"] = plain(config.env_options.items())
    values["restore"] = config.restore and str(config.restore)
    section = values.pop("learner")
    name = agents.name_of(config.learner)
    values |= {"learner": name, name: section}
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def _of_file(path: Path) -> Settings:
    """What a configuration file says, or part of one."""
    try:
        return _of_text(path.read_text(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error


def _of_text(text: str, path: Path) -> Settings:
    """What the text of a configuration file says, flat."""
    try:
        values = yaml.safe_load(text) or {}
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


def _of_run(run: Path) -> tuple[Settings, Settings | None]:
    """What config.yaml of a run says, and what its newest checkpoint remembers, which stands in for
    a config.yaml that is gone or cut short."""
    try:
        path, found = archive.newest(run / "checkpoints")
        text = found.extra.get("config")
    except archive.CheckpointError:
        path, text = run, None
    saved = None if text is None else _of_text(text, path)
    try:
        now = _of_file(run / "config.yaml")
    except ConfigError:
        if saved is None:
            raise
        return saved, saved
    if saved is None:
        return now, None
    if not saved.keys() <= now.keys():
        return saved, saved
    if not (run / "config.yaml").read_text().endswith("\n"):
        raise ConfigError(
            f"{run / 'config.yaml'} ends in the middle of a line; delete it, and the newest "
            "checkpoint's copy is taken"
        )
    return now, saved


def _same_run(run: Path, before: TrainConfig, now: TrainConfig) -> None:
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


def _auto(values: Mapping[str, Any], train: TrainConfig) -> dict[str, Path | None]:
    """What `--resume auto` means: to go on with --out where it has a checkpoint, or to start."""
    run = values.get("out")
    if run is None:
        raise ConfigError("--resume auto needs --out, the folder of the run")
    if not archive.checkpoints(run / "checkpoints"):
        return {"resume": None}
    saved = _of_run(run)[1]
    if saved is not None:
        _same_run(run, _merged(saved, ()), train)
    return {"resume": run, "out": None}


def _no_key(where: str, key: str, sections: Iterable[str]) -> str:
    """What to say of a key that a file cannot have there."""
    for learner in agents.names():
        if key in fields_of(agents.find(learner).Config):
            return (
                f"{where}: there is no such key; it belongs to a learner: {learner}: {{{key}: ...}}"
            )
    hint = nearest(key, [*fields_of(TrainConfig), *sections])
    return f"{where}: there is no such key; {hint}".rstrip("; ")


def _meant(flag: str) -> tuple[str, ...]:
    """The names that a flag stands for: its own, most often."""
    return SPELLINGS.get(flag, (flag,))


def _dashed(flag: str) -> str:
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


def _no_flag(flag: str, env: str, physics: str, kind: type) -> str:
    """What to say of a flag that is none."""
    spelt, known = _dashed(flag), [*fields_of(TrainConfig), *fields_of(kind), *SPELLINGS]
    with contextlib.suppress(ValueError):
        if flag in (registry.option_types(env, physics) or ()):
            return f"{spelt}: there is no such flag; {env} has an option --env.{spelt[2:]}"
    commands = {field.name for field in dataclasses.fields(Command)} - {"train"}
    hint = nearest(spelt, map(_dashed, (*known, *commands)))
    return f"{spelt}: there is no such flag; {hint}".rstrip("; ")


def _build(settings: Settings, learner: str, kind: type) -> TrainConfig:
    """The typed configuration; every mistake is told with where it was made."""
    section = lambda prefix: {
        key.removeprefix(f"{prefix}."): setting
        for key, setting in settings.items()
        if key.startswith(f"{prefix}.")
    }
    for other in agents.names():  # a file may have sections of several: all must make sense
        if other != learner and section(other):
            _make(agents.find(other).Config, section(other))
    run = {k: s for k, s in settings.items() if "." not in k and k != "learner"}
    config = _make(TrainConfig, run, learner=_make(kind, section(learner)))
    options = _env_options(config, section("env_options"))
    return dataclasses.replace(config, env_options=options)


def _make(kind: type[Kind], settings: Settings, **others: Any) -> Kind:
    """A dataclass from settings by the names of its fields."""
    fields = fields_of(kind)
    for name, setting in settings.items():
        if name not in fields:
            hint = nearest(name, fields)
            raise ConfigError(f"{setting.where}: there is no such key; {hint}".rstrip("; "))
    return kind(**{name: _typed(s, fields[name]) for name, s in settings.items()}, **others)


def _typed(setting: Setting, kind: Any) -> Any:
    try:
        return typed(setting.value, kind)
    except ValueError as error:
        raise ConfigError(f"{setting.where}: {error}") from None


def _learner(setting: Setting) -> type:
    try:
        return agents.find(_typed(setting, str)).Config
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _env(setting: Setting, physics: str) -> str:
    """The environment's name. Other physics have names of their own, and check them."""
    name = _typed(setting, str)
    if physics in registry.OURS and ":" not in name and name not in registry.names():
        try:
            registry.world_class(name)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return _whole_path(name)


def _whole_path(env: str) -> str:
    """An environment in a file is named by the file's whole path, to be found from anywhere."""
    file, _, kind = env.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{kind}" if file.endswith(".py") else env


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
            hint = nearest(name, known)
            raise ConfigError(
                f"{setting.where}: {config.env} has no such option; {hint}There are: "
                f"{', '.join(known)}"
            )
    kinds = known or {}
    return {name: _typed(s, kinds.get(name, Any)) for name, s in settings.items()}
