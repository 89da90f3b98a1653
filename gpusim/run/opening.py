"""How a run begins: its folder, what it starts from, where it writes to."""

import dataclasses
import math
import shutil
import warnings
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from gpusim import config as configs
from gpusim.agents.learner import TrainState, blank_but
from gpusim.config import ConfigError
from gpusim.config.files import of_text
from gpusim.run import archive, checkpoint, seeds, sinks
from gpusim.run.archive import CheckpointError
from gpusim.run.files import locked, remove_parts
from gpusim.run.job import Job
from gpusim.run.keeper import Follower, Keeper, Position, describe

_UNSEEN = {"activation": None, "distribution": "policy", "conv_strides": "eyes"}
"""Settings that the shapes of parameters do not tell, and whose they are; None: of all networks."""


def claim(job: Job, resume: bool, stack: ExitStack) -> None:
    """Make the folder this process's own, if it is the one that writes. Raises ConfigError if it
    is another's."""
    if not job.hosts.first:
        return
    if not resume:
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{job.folder} cannot be made: {error}") from error
        stack.callback(_remove_if_empty, job.folder)
    try:
        stack.enter_context(locked(job.folder))
    except OSError as error:
        raise ConfigError(str(error)) from error
    remove_parts(job.folder)
    if not resume:  # of a run that ended before its first checkpoint, whose best is not this one's
        folder = job.folder / "checkpoints"
        for path in (folder / archive.BEST, *archive.all_good(folder)):
            path.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    """Leave no folder of a run that never began."""
    with suppress(OSError):
        folder.rmdir()


def position(job: Job, resume: bool, display: sinks.Display) -> Position:
    """The first position of a new run, or the last one saved."""
    config, learner = job.config, job.learner
    with job.phases("init"):
        state = jax.block_until_ready(learner.init(seeds.key(config)))
    if not resume:
        return Position(_restored(job, state), 0, 0.0, {})
    try:
        folder = job.folder / "checkpoints"
        state, past = checkpoint.load_newest(folder, state, display.message, job.hosts)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    steps = learner.env_steps(state)
    if steps >= config.learner.total_steps:
        raise ConfigError(f"{job.folder} is complete; a larger --steps lets it go on")
    if learner.world.hosted:
        display.message(f"what {config.env} was doing is lost: its episodes begin anew")
        key = jax.random.fold_in(seeds.key(config), steps)
        fresh = learner.init(key)
        state = dataclasses.replace(state, envs=fresh.envs, memory=fresh.memory)
    best, worse = past.get("best"), past.get("worse", 0)
    best = -math.inf if best is None else best
    good = tuple((float(reached), int(steps)) for reached, steps in past.get("good", ()))
    return Position(state, steps, past["seconds"], past["evaluation"], best, good, worse)


def _restored(job: Job, state: TrainState) -> TrainState:
    """A first state, with what another run learned if the configuration names one: it may have had
    other worlds and devices, and another task of the same sizes."""
    run = job.config.restore
    if run is None:
        return state
    one = lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    wanted = _wanted(state, job.config.restore_parts)
    template = jax.tree.map(one, wanted)

    def read() -> dict[str, np.ndarray]:
        path, its = archive.newest(run / "checkpoints", warnings.warn)
        taken = {name for name, x in wanted.params.items() if x is not None}
        _check_meaning(path, its.extra.get("config"), job.config.learner, taken)
        return _by_number(checkpoint.load_part(path, template))

    try:
        found = job.hosts.shared(read, _by_number(jax.tree.map(lambda x: x[:1], wanted)))
    except CheckpointError as error:
        raise ConfigError(f"--restore: {error}") from error
    place = lambda x, like: jax.device_put(jnp.broadcast_to(x, like.shape), like.sharding)
    learned = map(place, found.values(), jax.tree.leaves(wanted))
    placed = jax.tree.unflatten(jax.tree.structure(wanted), learned)
    params = {name: state.params[name] if x is None else x for name, x in placed.params.items()}
    normalizer = state.normalizer if placed.normalizer is None else placed.normalizer
    state = dataclasses.replace(state, params=params, normalizer=normalizer)
    return job.learner.begun_with(state)


def _check_meaning(path: Path, text: str | None, learner: object, taken: Collection[str]) -> None:
    """Raise CheckpointError for a checkpoint, of a run with the configuration `text`, whose
    parameters would fit these networks, of which some are taken, and mean something else."""
    said = {} if text is None else of_text(text, path)
    its = {key.rpartition(".")[2]: setting.value for key, setting in said.items()}
    for name, whose in _UNSEEN.items():
        mine, theirs = (
            list(x) if isinstance(x, list | tuple) else x
            for x in (getattr(learner, name, None), its.get(name))
        )
        matters = whose in taken if whose else bool(taken)
        if matters and None not in (mine, theirs) and mine != theirs:
            words = lambda x: " ".join(map(str, x)) if isinstance(x, list) else x
            flag = name.replace("_", "-")
            raise CheckpointError(
                f"{path} learned with --{flag} {words(theirs)}, with which its parameters mean "
                f"something else than with {words(mine)}; say --{flag} {words(theirs)}"
            )


def _wanted(state: TrainState, parts: Sequence[str]) -> TrainState:
    """The state with None for all that another run does not give. Raises ConfigError for parts that
    there are not."""
    known = [*state.params, *(["statistics"] if state.normalizer is not None else [])]
    if unknown := [part for part in parts if part not in known]:
        raise ConfigError(
            f"--restore-parts: there is no {unknown[0]} in this run; there are: {', '.join(known)}"
        )
    taken = parts or known
    params = {name: x if name in taken else None for name, x in state.params.items()}
    normalizer = state.normalizer if "statistics" in taken else None
    return blank_but(state, params=params, normalizer=normalizer)


def _by_number(tree: Any) -> dict[str, np.ndarray]:
    return {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def keeper(
    job: Job,
    start: Position,
    resume: bool,
    display: sinks.Display,
    listeners: Sequence[sinks.Sink],
    stack: ExitStack,
) -> Keeper | Follower:
    """Who writes the run from here on; `stack` closes what it writes to."""
    if not job.hosts.first:
        return Follower(job, display)
    *logs, report = files(job, start.steps if resume else None)
    for sink in logs:
        stack.callback(sink.close)
    found = Keeper(job, [*logs, *listeners, report], display, start.steps)
    stack.callback(found.close)
    return found


def files(job: Job, resume_at: int | None) -> list[sinks.Sink]:
    """The run folder with its configuration, and the sinks in it, the report last."""
    folder = job.folder
    if resume_at is None:  # what is there was left by a run that saved nothing
        for path in (path for path in folder.iterdir() if path.is_file()):
            path.unlink()
        shutil.rmtree(folder / "seeds", ignore_errors=True)
    (folder / "summary.json").unlink(missing_ok=True)  # it was of the run as far as it had come
    describe(job)
    found: list[sinks.Sink] = [sinks.JsonLines(folder / "metrics.jsonl", resume_at=resume_at)]
    if job.config.num_seeds > 1:
        numbers = range(job.config.seed, job.config.seed + job.config.num_seeds)
        found.append(sinks.Seeds(folder / "seeds", numbers, resume_at=resume_at))
    if job.config.tensorboard:
        found.append(sinks.TensorBoard(folder, resume_at=resume_at))
    if job.config.csv:
        found.append(sinks.Csv(folder / "metrics.csv", resume_at=resume_at))
    if job.config.wandb:
        plain = yaml.safe_load(configs.to_yaml(job.config))
        found.append(sinks.WandB(folder, job.config.wandb, plain))
    return [*found, sinks.Report(folder)]
