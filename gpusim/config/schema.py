"""What a training run is, as frozen dataclasses."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from gpusim import agents
from gpusim.agents.config import LearnerConfig, fits_32_bits
from gpusim.config.settings import ConfigError, preset
from gpusim.envs import registry


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the course of a run."""

    FIXED: ClassVar = (
        *("env", "physics", "env_options", "seed", "num_seeds", "episode_length"),
        *("restore", "restore_parts"),
    )
    """What a run keeps from its beginning to its end."""

    env: str = "ant"
    """Environment: a name, path/to/file.py:Class or package.module:Class; brax:NAME@spring,
    playground:NAME; on the host, slowly, gym:ID, envpool:ID, retro:GAME."""
    physics: str = "mujoco"
    """What computes it: mujoco; mjx, the same through XLA; brax-spring, brax-positional,
    brax-generalized, playground."""
    env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the environment's constructor; as flags, --env.NAME VALUE."""
    seed: int = 0
    """Seed of everything random."""
    num_seeds: int = 1
    """Train with so many seeds, --seed and those after it, in one program: as many runs, each of
    --num-envs worlds and --total-steps, shown by their mean and spread."""
    episode_length: int | None = None
    """Time limit in control steps; None: the environment's own."""
    devices: int | None = None
    """How many local devices share the worlds; None: all of them, on a CPU one a core."""
    spmd: Literal["pmap", "shard_map"] = "pmap"
    """How the program is spread over devices; both give the same bits."""
    evaluations: int = 10
    """Evaluations of the deterministic policy, evenly spread, the last at the end."""
    evaluation_steps: int | None = None
    """Evaluate after every so many steps, and at the end, instead of --evaluations times."""
    eval_envs: int = None  # type: ignore[assignment]
    """Episodes in each evaluation: 128, if nothing else is said; 16 in an environment on the host,
    where each costs what a step of training costs."""
    checkpoint_seconds: float = 60.0
    """Wall time between checkpoints, 0: one after every --updates-per-call updates; the end and an
    interruption write one too. None is begun while one is being written, unless it is 0."""
    keep_checkpoints: int = 3
    """How many of the newest checkpoints are kept."""
    keep_best: int = 1
    """How many of the best evaluations' checkpoints are kept: best.npz, and if more, so many as
    best-STEPS.npz, best.npz's among them."""
    archive_steps: int | None = None
    """Keep for good the first checkpoint after every so many steps."""
    max_failures: int = 3
    """How often a run in which nothing finite is left to learn from goes back to its last
    checkpoint, each time with half the learning rate, before it ends."""
    max_updates: int | None = None
    """End the run after so many updates."""
    max_seconds: float | None = None
    """End the run after so much wall time, earlier parts of a resumed run included."""
    stop_return: float | None = None
    """End the run once an evaluation reaches this return."""
    patience: int | None = None
    """End the run after so many evaluations in a row that were no better than the best."""
    restore: Path | None = None
    """A run folder whose policy, value network and observation statistics this run begins with."""
    restore_parts: tuple[str, ...] = ()
    """Which of them: names of networks (policy, value, ...) and `statistics`; none said: all."""
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
        object.__setattr__(self, "env", whole_path(self.env))
        if isinstance(self.learner, str):
            object.__setattr__(self, "learner", preset(self.env, self.learner))
        if self.eval_envs is None:
            object.__setattr__(self, "eval_envs", 16 if registry.hosted(self.env) else 128)

    def check(self, num_devices: int) -> None:
        """Raise ConfigError if this cannot run on so many devices."""
        lowest = {"seed": 0, "evaluations": 0, "eval_envs": 1, "num_seeds": 1}
        lowest |= {"keep_checkpoints": 1, "keep_best": 1}
        lowest |= {"checkpoint_seconds": 0, "episode_length": 1, "max_seconds": 0, "patience": 1}
        lowest |= {"archive_steps": 1, "max_failures": 0, "evaluation_steps": 1, "max_updates": 1}
        lowest |= {"stop_return": -math.inf}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # nor NaN
                raise ConfigError(f"{name} is {value}, needs to be at least {least}")
        for name in ("eval_envs", "episode_length", "num_seeds", "devices"):
            if not fits_32_bits(getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)}, needs to be below 2**31")
        if self.restore_parts and self.restore is None:
            parts = " ".join(self.restore_parts)
            raise ConfigError(f"restore_parts is {parts}: say of which run, --restore RUN")
        for name in ("stop_return", "patience"):
            if getattr(self, name) is not None and not (self.evaluations or self.evaluation_steps):
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, but no evaluation is made to end the "
                    "run; leave out --evaluations 0"
                )
        if self.seed + self.num_seeds > 2**32:
            last = "" if self.num_seeds == 1 else f" and num_seeds {self.num_seeds}: the last"
            raise ConfigError(f"seed is {self.seed}{last}, needs to be below 2**32 = {2**32}")
        try:
            self.learner.check(num_devices)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def world(self) -> Any:
        """The world that is trained on. Raises ConfigError where there is none."""
        for name in {"name", "physics"} & self.env_options.keys():
            raise ConfigError(f"--env.{name}: {self.env} has no such option")
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
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, on any number of machines, that are one run; any
    free port. Every process gets the same flags but for --process-id. In a step of SLURM with
    several tasks it is found; `auto`: wherever else JAX finds it."""
    num_processes: int | None = None
    """How many processes there are; 1: this one is a run by itself, whatever SLURM says."""
    process_id: int | None = None
    """Which of them this is, from 0 on; 0 alone writes the run folder."""
    dry_run: bool = False
    """Say what would be done and how much memory it takes, and do nothing."""


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


def whole_path(env: str) -> str:
    """An environment in a file is named by the file's whole path, to be found from anywhere."""
    file, _, kind = env.rpartition(":")
    if file.endswith(".py"):
        return f"{Path(file).expanduser().resolve()}:{kind}"
    return registry.spelled(env)
