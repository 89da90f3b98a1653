"""What a training run is: frozen dataclasses that are the flags and the YAML file.

A value comes from, later ones winning: the environment's preset, the file given with --config (or
the resumed run's own), the flags. The file a run writes is complete: what it says is what was run.
Nothing here imports JAX, so `--help` and a mistyped flag are answered at once.
"""

import contextlib
import dataclasses
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
import yaml

from gpusim.agents.config import PPOConfig


class ConfigError(ValueError):
    """A configuration that cannot be meant; the message is one line for the user."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the course of a run."""

    env: str = "ant"
    """Environment to train on; its preset gives the defaults shown here."""
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
    tensorboard: bool = True
    """Write TensorBoard event files."""
    ppo: Annotated[PPOConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(
        default_factory=PPOConfig
    )
    """The learner."""

    def check(self, num_devices: int) -> None:
        """Raise ConfigError if this cannot run on so many devices."""
        lowest = {"seed": 0, "evaluations": 0, "eval_envs": 1, "keep_checkpoints": 1}
        lowest |= {"checkpoint_seconds": 0, "episode_length": 1}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}, needs to be at least {least}")
        try:
            self.ppo.check(num_devices)
        except ValueError as error:
            raise ConfigError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Command:
    """Train a policy and write a run folder."""

    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = TrainConfig()
    config: Path | None = None
    """A run's config.yaml, or any part of one: its values stand in for the preset's."""
    resume: Path | None = None
    """A run folder to continue; flags given beside it change its configuration."""
    out: Path | None = None
    """The run folder to write; None: runs/ENV-SEED-TIME."""


# Tuned on 2 CPU cores for the shortest time to a good return, see docs/training.md.
_ANT = PPOConfig(
    total_steps=36_000_000,
    num_envs=4096,
    unroll_length=8,
    num_minibatches=16,
    learning_rate=1e-3,
    discount=0.98,
    gae_lambda=0.9,
    training_episode_length=250,
    entropy_cost=1e-2,
    max_grad_norm=10.0,
    reward_scale=0.1,
    distribution="tanh",
    updates_per_call=8,
)
_PLANAR = dataclasses.replace(_ANT, discount=0.99, gae_lambda=0.95, training_episode_length=None)
PRESETS: Mapping[str, PPOConfig] = {
    "ant": _ANT,
    "humanoid": PPOConfig(
        total_steps=10_000_000,
        num_envs=2048,
        unroll_length=16,
        num_minibatches=8,
        learning_rate=1e-3,
        discount=0.98,
        max_grad_norm=10.0,
        reward_scale=0.1,
    ),
    "half_cheetah": _PLANAR,
    "hopper": dataclasses.replace(
        _PLANAR, total_steps=20_000_000, discount=0.995, max_grad_norm=1.0
    ),
    "walker2d": _PLANAR,
}

ALIASES = {"--steps": "--total-steps"}  # and --ppo.X is --X, as the YAML file nests it


def parse(argv: Sequence[str]) -> Command:
    """The command line as a Command, presets and files filled in.

    Raises ConfigError for what cannot be understood, SystemExit(0) after printing --help.
    """
    argv = [_plain(token) for token in argv]
    config, resume = _value_of(argv, "--config"), _value_of(argv, "--resume")
    if config and resume:
        raise ConfigError("--resume continues with the run's own configuration; leave out --config")
    if resume and _value_of(argv, "--out"):
        raise ConfigError("--resume continues in the run's own folder; leave out --out")
    if resume:
        config = str(Path(resume) / "config.yaml")
    overrides = read_yaml(Path(config)) if config else {}

    name = _value_of(argv, "--env") or str(overrides.get("env", TrainConfig.env))
    default = TrainConfig(env=name, ppo=_preset(name))
    if config:
        try:
            default = _from_flags(_as_flags(overrides), Command(default)).train
        except ConfigError as error:
            raise ConfigError(f"{config}: {error}") from error
    return _from_flags(argv, Command(default))


def to_yaml(config: TrainConfig) -> str:
    """The complete configuration, as `read_yaml` and --config read it."""
    values = dataclasses.asdict(config, dict_factory=_yaml_values)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def read_yaml(path: Path) -> dict[str, Any]:
    """The values in a configuration file, or in part of one."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({_one_line(str(error))})") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"{path}: expected names and values, found {type(values).__name__}")
    return values or {}


def _preset(name: str) -> PPOConfig:
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"unknown environment {name!r}; {hint}There are: {', '.join(sorted(PRESETS))}"
        )
    return PRESETS[name]


def _plain(token: str) -> str:
    """The one spelling of a flag that tyro knows."""
    flag, equals, value = token.partition("=")
    if flag.startswith("--"):
        flag = flag.replace("--ppo.", "--", 1).replace("_", "-")
    return ALIASES.get(flag, flag) + equals + value if flag.startswith("--") else token


def _value_of(argv: Sequence[str], flag: str) -> str | None:
    """The last value of a flag that has to be known before the others can be read."""
    value = None
    for token, following in zip(argv, [*argv, ""][1:], strict=True):
        if token == flag:
            value = following
        elif token.startswith(f"{flag}="):
            value = token.removeprefix(f"{flag}=")
    return value or None


def _as_flags(values: Mapping[str, Any]) -> list[str]:
    """Values of a file as flags, so that one parser checks the types of both."""
    flags = []
    for name, value in values.items():
        flag = f"--{str(name).replace('_', '-')}"
        if isinstance(value, dict):
            flags += _as_flags(value)
        elif isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        else:
            flags.append(f"{flag}={value}")
    return flags


def _yaml_values(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in items}


def _from_flags(argv: Sequence[str], default: Command) -> Command:
    """Let tyro read the flags, and make its framed error messages one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                Command,
                args=argv,
                default=default,
                prog="python -m gpusim.train",
                description=Command.__doc__,
                registry=_REGISTRY,
            )
    except SystemExit as exit:
        if not exit.code:
            raise
        raise ConfigError(_first_message(said.getvalue())) from None


def _first_message(framed: str) -> str:
    """The first paragraph of tyro's error in a frame, and the flag it suggests."""
    paragraphs = re.split(r"\n│ ─+ │\n", framed)
    message = _one_line(re.sub(r"[╭╰][^\n]*|│", "", paragraphs[0]))
    near = re.search(r"Perhaps you meant:\s*(--[\w.-]+)", framed.replace("│", ""))
    return message + (f"; did you mean {near[1]}?" if near else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _whole_number(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """int flags also take 20e6 and 20_000_000."""
    if info.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda args: _to_int(args[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _to_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    number = float(text)
    if number != number // 1:
        raise ValueError(f"{text} is not a whole number")
    return int(number)
