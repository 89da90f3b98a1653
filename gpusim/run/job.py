"""What does not change during a run: its parts, put together, and what they would do."""

import importlib.util
import os
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gpusim import agents, metrics, sharding
from gpusim.agents.evaluate import Evaluation
from gpusim.agents.learner import Learner
from gpusim.config import ConfigError, TrainConfig
from gpusim.lanes.cache import private
from gpusim.metrics import Metric
from gpusim.run import archive, blame, hosts, memory
from gpusim.run.clock import Phases
from gpusim.run.hosts import Hosts
from gpusim.run.showing import watcher

LEAVINGS = (
    *("config.yaml", "labels.json", "metrics.jsonl", "metrics.csv", "summary.json"),
    *("report.html", "replay.html", "heartbeat.json", "events.out.tfevents.*", "wandb"),
    *("checkpoints", "seeds", ".*.part"),
)
"""What a run leaves in its folder, as patterns."""


class Job(NamedTuple):
    """A run as it was asked for."""

    config: TrainConfig
    folder: Path
    learner: Learner
    evaluation: Evaluation
    phases: Phases
    hosts: Hosts


def prepare(config: TrainConfig, folder: Path, resume: bool, phases: Phases) -> Job:
    """Put the parts together, and find out what cannot be before anything is written."""
    here = hosts.current()
    if here.first:
        _check_files(config, folder, resume)
    _use_compilation_cache()
    wanted = config.devices
    sharding.cores_as_devices(  # before anything computes
        lambda num: config.learner.fits(num * here.count) if wanted is None else num == wanted
    )
    world = config.world()
    try:
        devices = sharding.all_devices(_hosted(config) if world.hosted else config.devices)
        sharding.pin_precision(devices)
        config.check(len(devices))
        kind = agents.find(agents.name_of(config.learner)).Learner
        learner = kind(
            config.learner,
            world,
            episode_length=config.episode_length,
            devices=devices,
            spmd=config.spmd,
            num_seeds=config.num_seeds,
        )
        learner.check_data()
    except ValueError as error:
        if blame.environment(error):
            raise  # its author is to see where
        raise ConfigError(str(error)) from error
    memory.check(config, learner)
    whole = config.episode_length or world.max_episode_steps
    evaluation = Evaluation(world, config.eval_envs, whole, watcher(world))
    return Job(config, folder, learner, evaluation, phases, here)


def _hosted(config: TrainConfig) -> int:
    """Devices of a run whose worlds step on the host: one. Raise ConfigError for what those worlds
    cannot do."""
    cannot = {
        "--devices": (config.devices or 1) > 1 or hosts.current().count > 1,
        "--num-seeds": config.num_seeds > 1,
        "--profile": config.profile,  # it would play from one state several times
    }
    for flag in (flag for flag, said in cannot.items() if said):
        raise ConfigError(
            f"{config.env} steps on the host: one process, one device, one seed, and no state is "
            f"played twice; leave out {flag}"
        )
    return 1


def _check_files(config: TrainConfig, folder: Path, resume: bool) -> None:
    """Raise ConfigError if what is to be read is not there, or what is to be written cannot be."""
    if not resume:
        _free(folder)
    if config.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError("--wandb needs the package: pip install wandb")
    if config.restore is not None and not resume:
        try:
            archive.newest(config.restore / "checkpoints")
        except archive.CheckpointError as error:
            raise ConfigError(f"--restore: {error}") from error


def _free(folder: Path) -> None:
    """Raise ConfigError unless a run can begin in the folder: it holds nothing, or what is left of
    a run that ended before its first checkpoint."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another --out")
    there = [*folder.iterdir()] if folder.exists() else []
    strange = [path for path in there if not any(map(path.match, LEAVINGS))]
    if strange or archive.checkpoints(folder / "checkpoints"):
        raise ConfigError(f"{folder} is not empty; choose another --out, or --resume {folder}")
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} cannot be written to; choose another --out")


def shown_metrics(learner: Learner) -> dict[str, Metric]:
    """What the run and the learner measure."""
    return {**metrics.RUN, **learner.METRICS}


def headline(job: Job) -> str:
    """What is about to be done, in a line."""
    config, devices = job.config, ", ".join(map(str, job.learner.devices))
    physics = "" if config.physics == TrainConfig.physics else f" by {config.physics}"
    return (
        f"{config.env}{physics}: {config.learner.num_envs} worlds on {devices}, {_steps(job)}, "
        f"{_seeds(config)}, in {job.folder}"
    )


def outline(job: Job) -> str:
    """What a run would do and need, found out by compiling its program and running nothing."""
    config, learner = job.config, job.learner
    world, settings = learner.world, config.learner
    calls = -(-settings.total_steps // settings.steps_per_call)
    start = time.perf_counter()
    try:
        needs: Any = learner.train_step.lower(learner.blank()).compile().memory_analysis()
    except ValueError as error:  # a LanesError is one
        if blame.environment(error):
            raise
        raise ConfigError(str(error)) from error
    seconds = time.perf_counter() - start
    bytes_ = needs.argument_size_in_bytes + needs.temp_size_in_bytes if needs else 0
    length = learner.worlds.episode_length
    lines = [
        headline(job),
        f"  world        {_sizes(world)}, {world.dt:g} s a control step, "
        f"episodes of at most {length} of them",
        f"  update       {settings.steps_per_update:,} steps: {settings.num_envs} worlds x "
        f"{settings.unroll_length}; {settings.gradient_steps} gradient steps",
        f"  program      {settings.updates_per_call} updates a call, {calls} calls; compiled in "
        f"{seconds:.1f} s{'' if world.hosted else ', and kept for the run'}",
        f"  memory       {bytes_ / 2**20:,.0f} MiB on each of {len(learner.devices)} device(s), "
        "besides Python and XLA themselves",
        f"  evaluations  {config.evaluations} of {config.eval_envs} episodes",
        "nothing was trained or written: leave out --dry-run to do it",
    ]
    return "\n".join(lines)


def _sizes(world: Any) -> str:
    """What is seen and done, in words."""
    several = lambda n, thing: f"{n} {thing}{'' if n == 1 else 's'}"
    seen = several(world.observation_size, "observation")
    if world.picture_shape:
        seen += f" in pictures of {' x '.join(map(str, world.picture_shape))}"
    return f"{seen}, {several(world.action_size, 'action')}"


def _seeds(config: TrainConfig) -> str:
    last = config.seed + config.num_seeds - 1
    return f"seed {last}" if last == config.seed else f"each of the seeds {config.seed} to {last}"


def _steps(job: Job) -> str:
    """How many steps will be made; a run makes whole calls of its program."""
    settings = job.config.learner
    asked, call = settings.total_steps, settings.steps_per_call
    made = -(-asked // call) * call
    exact = metrics.count(asked) == metrics.count(made)
    rounded = "" if exact else f" ({metrics.count(made)}, as whole calls of {metrics.count(call)})"
    return f"{metrics.count(asked)} environment steps{rounded}"


def _use_compilation_cache() -> None:
    """Let XLA keep compiled programs where the lane kernels are kept, unless told another place.

    What is found there is run: it must be this user's, and nobody else's to write.
    """
    place = os.environ.get("GPUSIM_CACHE") or "~/.cache/gpusim"
    if place == "off" or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = Path(place).expanduser() / "xla"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        strange = [path for path in (folder, *folder.iterdir()) if not private(path.stat())]
    except OSError as error:
        warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
        return
    if strange:
        text = f"compiled programs are not kept: {strange[0]} can be written by others"
        warnings.warn(text, stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
