"""A training run, from a configuration to a run folder.

The loop holds no mathematics: one compiled program makes several updates a call; the host writes
down what it says, lets the policy be evaluated, saves, and stops when asked.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gpusim import agents, metrics, sharding
from gpusim import config as configs
from gpusim.agents.evaluate import Evaluation
from gpusim.agents.learner import Learner, TrainState
from gpusim.config import ConfigError, TrainConfig
from gpusim.metrics import Metric
from gpusim.report import report as html
from gpusim.run import checkpoint, sinks, summary
from gpusim.run.clock import Phases
from gpusim.run.files import write_atomic
from gpusim.run.signals import Interruption
from gpusim.run.summary import Run


class Job(NamedTuple):
    """What does not change during a run."""

    config: TrainConfig
    folder: Path
    learner: Learner
    evaluation: Evaluation
    phases: Phases


class Position(NamedTuple):
    """Where a run is."""

    state: TrainState
    steps: int  # environment steps so far
    seconds_before: float  # wall time spent by earlier processes
    evaluation: dict[str, float]
    diverged: bool = False


def train(
    config: TrainConfig,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    display: Any = None,
    age: float = 0.0,
) -> Run:
    """Train and write the run folder.

    resume: continue what is in `folder`. display: a sink with `stage` and `message`, by default
    `sinks.Terminal`. age: seconds of this process that the accounts should include. Raises
    ConfigError for a run that cannot be.
    """
    phases = Phases(before=age)
    _use_compilation_cache()
    job = _prepare(config, Path(folder), resume, phases)
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        shown = _metrics(job.learner)
        display = display or sinks.Terminal(config.learner.total_steps, shown)
        stack.callback(display.close)
        display.message(_opening(job))
        display.stage("compiling")
        start = _start(job, resume)
        files = _files(job, start.steps if resume else None)
        for sink in files:
            stack.callback(sink.close)
        end = _loop(job, start, [*files, display], interruption)
        display.stage("measuring where the time went")
        run = _account(job, end, interruption.caught)
    run.write()
    html.write(job.folder)
    return run


def _prepare(config: TrainConfig, folder: Path, resume: bool, phases: Phases) -> Job:
    """Put the parts together, and find out what cannot be before anything is written."""
    if not resume and folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; choose another --out, or --resume {folder}")
    if config.devices is None:
        sharding.cores_as_devices(config.learner.fits)  # before anything computes
    world = config.world()
    try:
        devices = sharding.all_devices(config.devices)
        config.check(len(devices))
        kind = agents.find(agents.name_of(config.learner)).Learner
        learner = kind(
            config.learner,
            world,
            episode_length=config.episode_length,
            devices=devices,
            spmd=config.spmd,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    whole = config.episode_length or world.max_episode_steps
    evaluation = Evaluation(world, config.eval_envs, whole)
    return Job(config, folder, learner, evaluation, phases)


def _start(job: Job, resume: bool) -> Position:
    """The first position of a new run, or the last one saved."""
    config, learner = job.config, job.learner
    with job.phases("init"):
        state = jax.block_until_ready(learner.init(jax.random.key(config.seed)))
    if not resume:
        return Position(state, 0, 0.0, {})
    try:
        state, past = checkpoint.load(checkpoint.latest(job.folder / "checkpoints"), state)
    except checkpoint.CheckpointError as error:
        raise ConfigError(str(error)) from error
    steps = learner.env_steps(state)
    if steps >= config.learner.total_steps:
        raise ConfigError(f"{job.folder} is complete; a larger --steps lets it go on")
    return Position(state, steps, past["seconds"], past["evaluation"])


def _files(job: Job, resume_at: int | None) -> list[sinks.Sink]:
    """The run folder with its configuration, and the sinks in it."""
    folder = job.folder
    folder.mkdir(parents=True, exist_ok=True)
    text = configs.to_yaml(job.config).encode()
    write_atomic(folder / "config.yaml", lambda file: file.write(text))
    write_atomic(folder / "labels.json", lambda file: file.write(_labels(job.learner)))
    found: list[sinks.Sink] = [sinks.JsonLines(folder / "metrics.jsonl", resume_at=resume_at)]
    if job.config.tensorboard:
        found.append(sinks.TensorBoard(folder, resume_at=resume_at))
    return found


def _metrics(learner: Learner) -> dict[str, Metric]:
    """What the run and the learner measure."""
    return {**metrics.RUN, **learner.METRICS}


def _labels(learner: Learner) -> bytes:
    """labels.json: what the metrics are called, for who reads the folder without the learner."""
    shown = {name: metric._asdict() for name, metric in _metrics(learner).items()}
    return json.dumps(shown, indent=1).encode()


def _loop(
    job: Job, here: Position, outputs: Sequence[sinks.Sink], interruption: Interruption
) -> Position:
    """Train until the steps are made, or a signal comes, or nothing finite is left to learn."""
    config, phases = job.config, job.phases
    total = config.learner.total_steps
    saved_at = phases.elapsed()
    while here.steps < total and not interruption.caught:
        here, values = _advance(job, here)
        row = sinks.Row(here.steps, here.seconds_before + phases.elapsed(), values)
        for sink in outputs:
            sink.write(row)
        if here.diverged:
            return here
        if phases.elapsed() - saved_at >= config.checkpoint_seconds:
            _save(job, here)
            saved_at = phases.elapsed()
    _save(job, here)
    return here


def _advance(job: Job, here: Position) -> tuple[Position, dict[str, float]]:
    """One call of the program, and an evaluation if one is due: the new position, and what to
    write down."""
    config, phases = job.config, job.phases
    with phases("train"):
        state, report = job.learner.train_step(here.state)
        report = jax.device_get(report)
    values = {name: float(value) for name, value in report.metrics.items()}
    phases.mark("first update")
    values["return"] = values.pop("episode_return")
    calls = phases.calls["train"]  # the first one compiled: it says nothing about speed
    per_call = config.learner.steps_per_call
    values["steps_per_second"] = per_call / calls[-1] if calls[1:] else math.nan
    steps = here.steps + per_call
    here = here._replace(state=state, steps=steps, diverged=bool(report.diverged))
    if _evaluation_due(config, steps):
        with phases("evaluate"):
            here = here._replace(evaluation=_evaluate(job, state))
        values |= here.evaluation
    return here, values


def _evaluation_due(config: TrainConfig, steps: int) -> bool:
    """Did the call that led to `steps` cross one of the evaluations' marks, or end the run?"""
    mark = lambda steps: min(steps, total) * config.evaluations // total
    total = config.learner.total_steps
    return mark(steps) > mark(steps - config.learner.steps_per_call)


def _evaluate(job: Job, state: TrainState) -> dict[str, float]:
    """The deterministic policy on starts that are the same each time and never trained on."""
    policy = job.learner.policy(state)
    key = jax.random.fold_in(jax.random.key(job.config.seed), 2**31 - 1)
    found = job.evaluation(policy, key).summary()
    return {
        "evaluation_return": float(found["return_mean"]),
        "evaluation_std": float(found["return_std"]),
        "evaluation_length": float(found["length_mean"]),
        "evaluation_alive": float(found["alive"]),
    }


def _save(job: Job, here: Position) -> None:
    past = {
        "seconds": here.seconds_before + job.phases.elapsed(),
        "evaluation": here.evaluation,
    }
    with job.phases("save"):
        checkpoint.save(
            job.folder / "checkpoints",
            here.state,
            step=here.steps,
            extra=past,
            keep=job.config.keep_checkpoints,
        )


def _account(job: Job, end: Position, interrupted_by: int) -> Run:
    """What came of it. Only a run that is complete waits for its time to be split."""
    phases = job.phases
    whole = not interrupted_by and not end.diverged
    with phases("measure"):
        rollout = _rollout_seconds(job, end.state) if whole else None
    return Run(
        folder=str(job.folder),
        env=job.config.env,
        steps=end.steps,
        interrupted_by=interrupted_by,
        diverged=end.diverged,
        evaluation=end.evaluation,
        first_update_seconds=phases.marks.get("first update"),
        seconds=summary.account(phases, rollout),
        machine=summary.machine(job.learner.devices),
    )


def _rollout_seconds(job: Job, state: TrainState) -> float:
    """Seconds that the rollouts of one training call take, measured by running them alone."""
    took = []
    for _ in range(4):
        start = time.perf_counter()
        jax.block_until_ready(job.learner.rollout(state))
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:]) * job.config.learner.updates_per_call  # the first compiled


def _use_compilation_cache() -> None:
    """Let XLA keep compiled programs where the lane kernels are kept, unless told another place."""
    place = os.environ.get("GPUSIM_CACHE") or "~/.cache/gpusim"
    if place == "off" or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    jax.config.update("jax_compilation_cache_dir", str(Path(place).expanduser() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _opening(job: Job) -> str:
    config, devices = job.config, ", ".join(map(str, job.learner.devices))
    return (
        f"{config.env}: {config.learner.num_envs} worlds on {devices}, "
        f"{metrics.count(config.learner.total_steps)} environment steps, seed {config.seed}, "
        f"in {job.folder}"
    )
