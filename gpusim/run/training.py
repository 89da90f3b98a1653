"""A training run, from a configuration to a run folder.

The loop holds no mathematics: one compiled program makes several updates a call; the host writes
down what it says, lets the policy be evaluated, saves, and stops when asked.
"""

import dataclasses
import math
import os
import statistics
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import yaml

from gpusim import config as configs
from gpusim import metrics, sharding
from gpusim.agents.evaluate import Episodes
from gpusim.agents.learner import TrainState
from gpusim.config import ConfigError, TrainConfig
from gpusim.run import archive, checkpoint, files, showing, sinks, summary
from gpusim.run.archive import CheckpointError
from gpusim.run.clock import Phases
from gpusim.run.job import Job, opening, prepare, shown_metrics
from gpusim.run.keeper import Keeper, Position, describe
from gpusim.run.signals import Interruption
from gpusim.run.summary import Run


def train(
    config: TrainConfig,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    display: sinks.Display | None = None,
    listeners: Sequence[sinks.Sink] = (),
    age: float = 0.0,
) -> Run:
    """Train and write the run folder.

    resume: continue what is in `folder`. display: by default `sinks.Terminal`. listeners: more to
    write every row to, objects with `write(row)` and `close()`. age: seconds of this process that
    the accounts should include. Raises ConfigError for a run that cannot be.
    """
    job = prepare(config, Path(folder), resume, Phases(before=age))
    with ExitStack() as stack:
        _claim(job, resume, stack)
        interruption = stack.enter_context(Interruption())
        if display is None:
            display = sinks.Terminal(config.learner.total_steps, shown_metrics(job.learner))
        stack.callback(display.close)
        display.message(opening(job))
        display.stage(f"compiling how {config.learner.num_envs} worlds start")
        start = _start(job, resume, display)
        *logs, report = _files(job, start.steps if resume else None)
        for sink in (*logs, *listeners):
            stack.callback(sink.close)
        keeper = Keeper(job, [*logs, *listeners, report], display, start.steps)
        end = _loop(start, keeper, interruption)
        if config.profile:
            display.stage("timing rollouts by themselves")
        run = _account(job, end, interruption.caught)
        for write in (run.write, report.close):
            try:
                write()
            except OSError as error:  # what was learned is saved
                display.message(str(error))
    return run


def _claim(job: Job, resume: bool, stack: ExitStack) -> None:
    """Make the folder this process's own. Raises ConfigError if it is another's."""
    if not resume:
        job.folder.mkdir(parents=True, exist_ok=True)
        stack.callback(_remove_if_empty, job.folder)
    try:
        stack.enter_context(files.locked(job.folder))
    except OSError as error:
        raise ConfigError(str(error)) from error
    files.remove_parts(job.folder)


def _remove_if_empty(folder: Path) -> None:
    """Leave no folder of a run that never began."""
    with suppress(OSError):
        folder.rmdir()


def _start(job: Job, resume: bool, display: sinks.Display) -> Position:
    """The first position of a new run, or the last one saved."""
    config, learner = job.config, job.learner
    with job.phases("init"):
        state = jax.block_until_ready(learner.init(jax.random.key(config.seed)))
    if not resume:
        return Position(_restored(job, state), 0, 0.0, {})
    try:
        state, past = checkpoint.load_newest(job.folder / "checkpoints", state, display.message)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    steps = learner.env_steps(state)
    if steps >= config.learner.total_steps:
        raise ConfigError(f"{job.folder} is complete; a larger --steps lets it go on")
    best, worse = past.get("best"), past.get("worse", 0)
    best = -math.inf if best is None else best
    return Position(state, steps, past["seconds"], past["evaluation"], best, worse)


def _restored(job: Job, state: TrainState) -> TrainState:
    """A first state, with what another run learned if the configuration names one: it may have had
    other worlds and devices, and another task of the same sizes."""
    run = job.config.restore
    if run is None:
        return state
    others: Any = dict.fromkeys(("optimizer", "envs", "memory", "key", "updates"))
    one = lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    template = jax.tree.map(one, dataclasses.replace(state, **others))
    try:
        path, _ = archive.newest(run / "checkpoints", warnings.warn)
        found = sharding.first(checkpoint.load_part(path, template))
    except CheckpointError as error:
        raise ConfigError(f"--restore: {error}") from error
    place = lambda x, like: jax.device_put(jnp.broadcast_to(x, like.shape), like.sharding)
    params, normalizer = jax.tree.map(
        place, (found.params, found.normalizer), (state.params, state.normalizer)
    )
    return dataclasses.replace(state, params=params, normalizer=normalizer)


def _files(job: Job, resume_at: int | None) -> list[sinks.Sink]:
    """The run folder with its configuration, and the sinks in it, the report last."""
    folder = job.folder
    if resume_at is None:  # what is there was left by a run that saved nothing
        for path in (path for path in folder.iterdir() if path.is_file()):
            path.unlink()
    (folder / "summary.json").unlink(missing_ok=True)  # it was of the run as far as it had come
    describe(job)
    found: list[sinks.Sink] = [sinks.JsonLines(folder / "metrics.jsonl", resume_at=resume_at)]
    if job.config.tensorboard:
        found.append(sinks.TensorBoard(folder, resume_at=resume_at))
    if job.config.csv:
        found.append(sinks.Csv(folder / "metrics.csv", resume_at=resume_at))
    if job.config.wandb:
        plain = yaml.safe_load(configs.to_yaml(job.config))
        found.append(sinks.WandB(folder, job.config.wandb, plain))
    return [*found, sinks.Report(folder)]


def _loop(here: Position, keeper: Keeper, interruption: Interruption) -> Position:
    """Train until the steps are made, or a signal comes, or nothing finite is left to learn."""
    job, display, warned = keeper.job, keeper.display, False
    config = job.config
    display.stage("compiling training: physics, policy and learner as one program")
    try:
        while not (interruption.caught or _ended(job, here)):
            here, values = _advance(job, here)
            if _evaluation_due(config, here.steps) and not here.diverged:
                if "evaluate" not in job.phases.calls:
                    display.stage(f"compiling the evaluation of {config.eval_envs} episodes")
                here = here._replace(evaluation=_evaluate(job, here, display))
                values |= here.evaluation
                reached = here.evaluation["evaluation_return"]
                better = reached > here.best
                here = here._replace(
                    best=max(here.best, reached), worse=0 if better else here.worse + 1
                )
                if better:
                    keeper.save_best(here)
            keeper.row(sinks.Row(here.steps, here.seconds_before + job.phases.elapsed(), values))
            if not warned and (fault := _not_finite(values)):
                warned = True
                display.message(f"at {metrics.count(here.steps)} steps: {fault}")
            if here.diverged:
                return here
            if keeper.due or interruption.save:
                interruption.save = False
                keeper.save(here)
    except Exception:
        keeper.rescue(here)
        raise
    keeper.finish(here)
    return here


def _ended(job: Job, here: Position) -> str:
    """Why the run has come to its end; "" if it has not."""
    config = job.config
    if here.steps >= config.learner.total_steps:
        return "all steps are made"
    seconds = here.seconds_before + job.phases.elapsed()
    if config.max_seconds is not None and seconds >= config.max_seconds:
        return f"{config.max_seconds:g} seconds are over"
    if config.stop_return is not None and here.best >= config.stop_return:
        return f"an evaluated return of {here.best:,.0f} is reached"
    if config.patience is not None and here.worse >= config.patience:
        return f"{here.worse} evaluations brought nothing better than {here.best:,.0f}"
    return ""


def _advance(job: Job, here: Position) -> tuple[Position, dict[str, float]]:
    """One call of the program: the new position, and what to write down."""
    phases, per_call = job.phases, job.config.learner.steps_per_call
    with phases("train"):
        state, report = job.learner.train_step(here.state)
        report = jax.device_get(report)
    values = {name: float(value) for name, value in report.metrics.items()}
    phases.mark("first update")
    values["return"] = values.pop("episode_return")
    calls = phases.calls["train"]  # the first one compiled: it says nothing about speed
    values["steps_per_second"] = per_call / calls[-1] if calls[1:] else math.nan
    steps, diverged = here.steps + per_call, bool(report.diverged)
    return here._replace(state=state, steps=steps, diverged=diverged), values


def _not_finite(values: dict[str, float]) -> str:
    """What to say when something was not finite; the metrics go on counting it."""
    worlds, steps = (values.get(name, 0) for name in ("diverged_worlds", "skipped_updates"))
    if worlds > 0:
        return (
            f"{worlds:.0f} worlds had a state, reward or observation that was not finite; each "
            "began anew (diverged_worlds in metrics.jsonl)"
        )
    if steps > 0:
        return (
            f"{steps:.3g} gradient steps of an update were not finite and were left out "
            "(skipped_updates in metrics.jsonl)"
        )
    return ""


def _evaluation_due(config: TrainConfig, steps: int) -> bool:
    """Did the call that led to `steps` cross one of the evaluations' marks, or end the run?"""
    mark = lambda steps: min(steps, total) * config.evaluations // total
    total = config.learner.total_steps
    return mark(steps) > mark(steps - config.learner.steps_per_call)


def _evaluate(job: Job, here: Position, display: sinks.Display) -> dict[str, float]:
    """The deterministic policy on starts that are the same each time and never trained on; some of
    its episodes become the replay."""
    policy = job.learner.policy(here.state)
    key = jax.random.fold_in(jax.random.key(job.config.seed), 2**31 - 1)
    with job.phases("evaluate"):
        episodes = job.evaluation(policy, key)
        found = {name: float(value) for name, value in episodes.summary().items()}
    with job.phases("show"):
        _show(job, here, episodes, display)
    return {
        "evaluation_return": found["return_mean"],
        "evaluation_std": found["return_std"],
        "evaluation_length": found["length_mean"],
        "evaluation_alive": found["alive"],
    }


def _show(job: Job, here: Position, episodes: Episodes, display: sinks.Display) -> None:
    """Let the report show the robot; one that cannot be drawn has a report without it."""
    world = job.learner.world
    title = f"{world.name} after {metrics.count(here.steps)} steps"
    try:
        showing.write_replay(job.folder, world, showing.tracks(episodes), title)
    except (ValueError, OSError) as error:
        if "show" not in job.phases.calls:  # once is enough
            display.message(f"the report will be without a replay: {error}")


def _account(job: Job, end: Position, interrupted_by: int) -> Run:
    """What came of it. Only a run that is complete has its time split, if asked to."""
    phases = job.phases
    split = job.config.profile and not interrupted_by and not end.diverged
    with phases("measure"):
        rollout = _rollout_seconds(job, end.state) if split else None
    return Run(
        folder=str(job.folder),
        env=job.config.env,
        steps=end.steps,
        interrupted_by=interrupted_by,
        diverged=end.diverged,
        ended="" if interrupted_by or end.diverged else _ended(job, end),
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
