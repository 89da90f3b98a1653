"""A training run, from a configuration to a run folder.

The loop holds no mathematics: one compiled program makes several updates a call; the host writes
down what it says, lets the policy be evaluated, saves, and stops when asked.
"""

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax

from gpusim import metrics
from gpusim.agents.evaluate import Episodes
from gpusim.agents.learner import TrainState
from gpusim.config import TrainConfig
from gpusim.run import archive, hosts, memory, opening, seeds, showing, sinks, summary
from gpusim.run.clock import Phases
from gpusim.run.job import Job, headline, prepare, shown_metrics
from gpusim.run.keeper import Follower, Keeper, Position
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
    """Train and write the run folder. Raises TypeError for what is no TrainConfig.

    resume: continue what is in `folder`. display: by default `sinks.Terminal`. listeners: more to
    write every row to, objects with `write(row)` and `close()`. age: seconds of this process that
    the accounts should include. Raises ConfigError for a run that cannot be.

    A run in which nothing finite is left to learn from begins again where it was last saved, or
    anew, with half the learning rate; `config.max_failures` times.
    """
    if not isinstance(config, TrainConfig):
        raise TypeError(f"train takes a TrainConfig, as TrainConfig(env='ant'), not {config!r}")
    job = prepare(config, Path(folder), resume, Phases(before=age))
    with ExitStack() as stack:
        opening.claim(job, resume, stack)
        interruption = stack.enter_context(Interruption())
        if not job.hosts.first:
            display = sinks.Nowhere()
        elif display is None:
            display = sinks.Terminal(config.learner.total_steps, shown_metrics(job.learner))
        for sink in (display, *listeners):
            stack.callback(sink.close)
        tried: Path | None = None
        before: float | None = None
        for left in reversed(range(config.max_failures + 1)):
            run, before = _attempt(job, resume, display, listeners, interruption, before)
            rate = getattr(job.config.learner, "learning_rate", None)
            stop = job.hosts.most(interruption.caught)[0]
            if not (run.diverged and left and rate) or stop:
                break
            tried = _sound(job, tried) if job.hosts.first else None
            resume = job.hosts.told(tried is not None)
            where = f"at {tried.name}" if tried else "anew"
            display.message(
                f"{run.divergence()}; it begins again {where}, with a learning rate of {rate / 2:g}"
            )
            learner = dataclasses.replace(job.config.learner, learning_rate=rate / 2)
            config = dataclasses.replace(job.config, learner=learner)
            job = prepare(config, job.folder, resume, job.phases)
    hosts.PARTING.set()
    return run


def _sound(job: Job, tried: Path | None) -> Path | None:
    """The checkpoint to go back to after a divergence; None: there is none. The one that was tried
    already was saved too late, and is put aside."""
    found = archive.checkpoints(job.folder / "checkpoints")
    if found and tried is not None and found[-1] == tried:
        found.pop().rename(tried.with_suffix(".npz.diverged"))
    return found[-1] if found else None


def _attempt(
    job: Job,
    resume: bool,
    display: sinks.Display,
    listeners: Sequence[sinks.Sink],
    interruption: Interruption,
    before: float | None,
) -> tuple[Run, float]:
    """Train until the run ends, one way or another.

    before: seconds that earlier processes spent, if this is not the first attempt; it is given too.
    """
    with ExitStack() as stack:
        display.message(headline(job))
        display.stage(f"compiling how {job.config.learner.num_envs} worlds start")
        start = opening.position(job, resume, display)
        if before is not None:  # and not what the newest checkpoint counted of this one
            start = start._replace(seconds_before=before)
        keeper = opening.keeper(job, start, resume, display, listeners, stack)
        end = _loop(start, keeper, interruption)
        if job.config.profile:
            display.stage("timing rollouts by themselves")
        run = _account(job, end, interruption.agreed)
        keeper.conclude(run)
    return run, start.seconds_before


def _loop(here: Position, keeper: Keeper | Follower, interruption: Interruption) -> Position:
    """Train until the steps are made, or a signal comes, or nothing finite is left to learn.

    Whatever one process knows alone, all agree on before they act on it: a signal, the time, an
    error in what it does while the others wait for nothing.
    """
    job, faults = keeper.job, []
    keeper.display.stage("compiling training: physics, policy and learner as one program")
    try:
        while True:
            ended = bool(_ended(job, here)) and job.hosts.first
            due = keeper.due(here) or interruption.save
            if faults:
                job.hosts.confess(faults[0])
            failed = job.hosts.index + 1 if faults else 0
            interruption.agreed, ended, due, failed = job.hosts.most(
                interruption.caught, ended, due, failed
            )
            if failed:
                hosts.PARTING.set()
                raise faults[0] if faults else job.hosts.elsewhere(failed - 1)
            if interruption.agreed or ended:
                break
            if due:
                interruption.save = False
                keeper.save(here)
            here, each = _advance(job, here)
            here = _look_at(keeper, here, each, faults)
            if here.diverged:
                if faults:
                    raise faults[0]
                return here
    except BaseException as error:  # sys.exit() in a callback, too
        at_once = isinstance(error, KeyboardInterrupt) and interruption.caught
        if not at_once and (job.hosts.count == 1 or hosts.PARTING.is_set()):
            keeper.rescue(here)
        raise
    hosts.PARTING.set()
    keeper.finish(here)
    return here


def _look_at(
    keeper: Keeper | Follower,
    here: Position,
    each: list[dict[str, float]],
    faults: list[Exception],
) -> Position:
    """Evaluate what was learned, if it is time, and write down what there is to say of each seed.

    What goes wrong in the first process while the others wait for nothing is added to `faults`.
    """
    job, display = keeper.job, keeper.display
    config, evaluated = job.config, []
    if _evaluation_due(config, here.steps) and not here.diverged:
        if "evaluate" not in job.phases.calls:
            display.stage(f"compiling the evaluation of {config.eval_envs} episodes")
        with _kept(faults):
            evaluated = job.hosts.by_first(lambda: _evaluate(job, here, display))
    if evaluated:
        each = [a | b for a, b in zip(each, evaluated, strict=True)]
        here = here._replace(evaluation=seeds.together(evaluated))
        reached = here.evaluation["evaluation_return"]
        better = reached > here.best
        here = here._replace(best=max(here.best, reached), worse=0 if better else here.worse + 1)
        this = (reached, here.steps)
        if math.isfinite(reached):
            here = here._replace(good=best_of((*here.good, this), config.keep_best))
        if better or (config.keep_best > 1 and this in here.good):
            keeper.save_best(here)
    now = {"steps_per_second": _speed(job), "memory": memory.used(job.learner)}
    values = seeds.together(each) | now
    seconds = here.seconds_before + job.phases.elapsed()
    with _kept(faults):
        keeper.row(sinks.Row(here.steps, seconds, values, each if each[1:] else ()))
        if fault := _not_finite(values):
            keeper.tell_once("not finite", f"at {metrics.count(here.steps)} steps: {fault}")
    return here


@contextmanager
def _kept(faults: list[Exception]) -> Iterator[None]:
    """An exception is added to these, and is raised when all can hear of it."""
    try:
        yield
    except Exception as error:
        faults.append(error)


def _ended(job: Job, here: Position) -> str:
    """Why the run has come to its end; "" if it has not."""
    config = job.config
    if here.steps >= config.learner.total_steps:
        return "all steps are made"
    updates = here.steps // config.learner.steps_per_update
    if config.max_updates is not None and updates >= config.max_updates:
        return f"{updates} updates are made"
    seconds = here.seconds_before + job.phases.elapsed()
    if config.max_seconds is not None and seconds >= config.max_seconds:
        return f"{config.max_seconds:g} seconds are over"
    if config.stop_return is not None and here.best >= config.stop_return:
        return f"an evaluated return of {here.best:,.0f} is reached"
    if config.patience is not None and here.worse >= config.patience:
        return f"{here.worse} evaluations brought nothing better than {here.best:,.0f}"
    return ""


def _advance(job: Job, here: Position) -> tuple[Position, list[dict[str, float]]]:
    """One call of the program: the new position, and what to write down of each seed."""
    phases, per_call = job.phases, job.config.learner.steps_per_call
    with phases("train"):
        state, report = job.learner.train_step(here.state)
        report = jax.device_get(report)
    each = seeds.apart(report.metrics, job.config.num_seeds)
    phases.mark("first update")
    for values in each:
        values["return"] = values.pop("episode_return")
    steps, diverged = here.steps + per_call, bool(report.diverged.any())
    return here._replace(state=state, steps=steps, diverged=diverged), each


def _speed(job: Job) -> float:
    """Environment steps a second, of each seed, in the last call; the first one compiled, and says
    nothing about it."""
    calls = job.phases.calls["train"]
    return job.config.learner.steps_per_call / calls[-1] if calls[1:] else math.nan


def _not_finite(values: dict[str, float]) -> str:
    """What to say when something was not finite; the metrics go on counting it."""
    worlds, steps = (values.get(name, 0) for name in ("diverged_worlds", "skipped_updates"))
    if worlds > 0:
        return (
            f"{worlds:.0f} times a world's state, reward or observation was not finite, and it "
            "began anew (diverged_worlds in metrics.jsonl counts on)"
        )
    if steps > 0:
        return (
            f"{steps:.3g} gradient steps of an update were not finite and were left out "
            "(skipped_updates in metrics.jsonl)"
        )
    return ""


def best_of(found: tuple[tuple[float, int], ...], keep: int) -> tuple[tuple[float, int], ...]:
    """So many of the best evaluations (return, steps), the best last; of equal ones the first."""
    return tuple(sorted(found, key=lambda one: (one[0], -one[1]))[-keep:])


def _evaluation_due(config: TrainConfig, steps: int) -> bool:
    """Did the call that led to `steps` cross one of the evaluations' marks, or end the run?"""
    total, every = config.learner.total_steps, config.evaluation_steps
    before = steps - config.learner.steps_per_call
    if every is not None:
        return steps // every > before // every or steps >= total
    mark = lambda steps: min(steps, total) * config.evaluations // total
    return mark(steps) > mark(before)


def _evaluate(job: Job, here: Position, display: sinks.Display) -> list[dict[str, float]]:
    """The deterministic policy, of each seed, on starts that are the same each time and never
    trained on; some episodes of the first seed become the replay."""
    learner, each = job.learner, []
    for which in range(job.config.num_seeds):
        policy = learner.policy(learner.of_seed(here.state, which))
        key = jax.random.fold_in(jax.random.key(job.config.seed + which), 2**31 - 1)
        with job.phases("evaluate"):
            episodes = job.evaluation(policy, key)
            found = {name: float(value) for name, value in episodes.summary().items()}
        if which == 0:
            with job.phases("show"):
                _show(job, here, episodes, display)
        each.append(
            {
                "evaluation_return": found["return_mean"],
                "evaluation_std": found["return_std"],
                "evaluation_min": found["return_min"],
                "evaluation_length": found["length_mean"],
                "evaluation_alive": found["alive"],
            }
        )
    return each


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
