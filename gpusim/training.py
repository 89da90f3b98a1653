"""A training run, from a configuration to a run folder.

The loop holds no mathematics: one compiled program makes several updates a call; the host writes
down what it says, lets the policy be evaluated, saves, and stops when asked.
"""

import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax

import gpusim
from gpusim import checkpoint, metrics, sharding, summary
from gpusim import config as configs
from gpusim.agents.evaluate import Evaluation
from gpusim.agents.ppo import PPO, TrainState
from gpusim.config import ConfigError, TrainConfig
from gpusim.report import report
from gpusim.summary import Run


class Job(NamedTuple):
    """What does not change during a run."""

    config: TrainConfig
    folder: Path
    env: Any  # one world
    learner: PPO
    evaluation: Evaluation
    phases: metrics.Phases


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
    env: Any = None,
    resume: bool = False,
    display: Any = None,
    age: float = 0.0,
) -> Run:
    """Train and write the run folder.

    env: one world, by default `gpusim.make(config.env)`. resume: continue what is in `folder`.
    display: a sink with `stage` and `message`, by default `metrics.Terminal`. age: seconds of this
    process that the accounts should include. Raises ConfigError for a run that cannot be.
    """
    phases = metrics.Phases(before=age)
    _use_compilation_cache()
    job = _prepare(config, Path(folder), env, resume, phases)
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        display = display or metrics.Terminal(config.ppo.total_steps)
        stack.callback(display.close)
        display.message(_opening(job))
        display.stage("compiling")
        start = _start(job, resume)
        sinks = [*_files(job, start.steps if resume else None), display]
        for sink in sinks[:-1]:
            stack.callback(sink.close)
        end = _loop(job, start, sinks, interruption)
        display.stage("measuring where the time went")
        run = _account(job, end, interruption.caught)
    run.write()
    report.write(job.folder)
    return run


def _prepare(
    config: TrainConfig, folder: Path, env: Any, resume: bool, phases: metrics.Phases
) -> Job:
    """Put the parts together, and find out what cannot be before anything is written."""
    if not resume and folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; choose another --out, or --resume {folder}")
    try:
        env = gpusim.make(config.env) if env is None else env
        if config.devices is None:
            sharding.cores_as_devices(config.ppo.fits)
        devices = sharding.all_devices(config.devices)
        config.check(len(devices))
        learner = PPO(
            config.ppo,
            env,
            episode_length=config.episode_length,
            devices=devices,
            spmd=config.spmd,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    whole = config.episode_length or env.max_episode_steps
    evaluation = Evaluation(env, config.eval_envs, whole)
    return Job(config, folder, env, learner, evaluation, phases)


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
    if steps >= config.ppo.total_steps:
        raise ConfigError(f"{job.folder} is complete; a larger --steps lets it go on")
    return Position(state, steps, past["seconds"], past["evaluation"])


def _files(job: Job, resume_at: int | None) -> list[metrics.Sink]:
    """The run folder with its configuration, and the sinks in it."""
    folder = job.folder
    folder.mkdir(parents=True, exist_ok=True)
    text = configs.to_yaml(job.config).encode()
    checkpoint.write_atomic(folder / "config.yaml", lambda file: file.write(text))
    sinks: list[metrics.Sink] = [metrics.JsonLines(folder / "metrics.jsonl", resume_at=resume_at)]
    if job.config.tensorboard:
        sinks.append(metrics.TensorBoard(folder, resume_at=resume_at))
    return sinks


def _loop(
    job: Job, here: Position, sinks: Sequence[metrics.Sink], interruption: "Interruption"
) -> Position:
    """Train until the steps are made, or a signal comes, or nothing finite is left to learn."""
    config, phases = job.config, job.phases
    total = config.ppo.total_steps
    saved_at = phases.elapsed()
    while here.steps < total and not interruption.caught:
        here, values = _advance(job, here)
        row = metrics.Row(here.steps, here.seconds_before + phases.elapsed(), values)
        for sink in sinks:
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
        state, measured = job.learner.train_step(here.state)
        values = {name: float(value) for name, value in jax.device_get(measured).items()}
    phases.mark("first update")
    values["return"] = values.pop("episode_return")
    calls = phases.calls["train"]  # the first one compiled: it says nothing about speed
    values["steps_per_second"] = config.ppo.steps_per_call / calls[-1] if calls[1:] else math.nan
    steps = here.steps + config.ppo.steps_per_call
    here = here._replace(state=state, steps=steps, diverged=math.isnan(values["policy_loss"]))
    if _evaluation_due(config, steps):
        with phases("evaluate"):
            here = here._replace(evaluation=_evaluate(job, state))
        values |= here.evaluation
    return here, values


def _evaluation_due(config: TrainConfig, steps: int) -> bool:
    """Did the call that led to `steps` cross one of the evaluations' marks, or end the run?"""
    mark = lambda steps: min(steps, total) * config.evaluations // total
    total = config.ppo.total_steps
    return mark(steps) > mark(steps - config.ppo.steps_per_call)


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
        jax.block_until_ready(job.learner.play(state))
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:]) * job.config.ppo.updates_per_call  # the first compiled


class Interruption:
    """SIGINT and SIGTERM, noted for the loop to see; the second one stops at once."""

    caught = 0  # the signal

    def __enter__(self) -> "Interruption":
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.caught:
            raise KeyboardInterrupt
        self.caught = number


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
        f"{config.env}: {config.ppo.num_envs} worlds on {devices}, "
        f"{metrics.count(config.ppo.total_steps)} environment steps, seed {config.seed}, "
        f"in {job.folder}"
    )
