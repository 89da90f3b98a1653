"""Is there room for a run? Asked before anything compiles, and answered no only when it is sure.
And how much of it is used."""

import math
import os
from pathlib import Path
from typing import Any

import jax

from gpusim.agents.learner import Learner
from gpusim.config import ConfigError, TrainConfig


def check(config: TrainConfig, learner: Learner) -> None:
    """Raise ConfigError if the state of a run and the observations of one rollout, which have to
    be there at the same time, or the worlds of an evaluation, or the pictures that are looked at
    together, are more than the memory of the devices of this process."""
    own, settings = _own(learner), config.learner
    actors = config.num_seeds * learner.all_worlds.actors * len(own) // len(learner.devices)
    _check_pictures(config, learner, actors, _memory(own))
    state = learner.blank()
    seen = actors * settings.unroll_length * learner.world.observation_size * 4
    stored = _bytes(state.extra)
    needed, there = _bytes(state) + seen, _memory(own)
    evaluated = config.eval_envs * _bytes(state.envs) // state.envs.steps.size
    if there is None or max(needed, evaluated) <= there:
        return
    if evaluated > needed:
        raise ConfigError(
            f"eval_envs is {config.eval_envs}: evaluations need more than {_size(evaluated)} of "
            f"memory, of which there are {_size(there)}; try --eval-envs 128"
        )
    flags = _taking(config)
    flags += (
        f"; {_size(stored)} of it are for what the learner remembers" if stored > needed / 2 else ""
    )
    raise ConfigError(
        f"this needs more than {_size(needed)} of memory, of which there are {_size(there)}; "
        f"make less of what takes it: {flags}"
    )


def _check_pictures(config: TrainConfig, learner: Learner, actors: int, there: int | None) -> None:
    """Raise ConfigError if there is no room for the pictures of a minibatch, or of an evaluation:
    asked before any is traced, since the rays of a large one alone are too many."""
    shape = learner.world.picture_shape
    if shape is None or there is None:
        return
    samples = actors * config.learner.unroll_length
    learned = samples // getattr(config.learner, "num_minibatches", 1)
    together = max(actors, learned, config.eval_envs or 0)
    needed = 4 * math.prod(shape) * together
    if needed > there:
        raise ConfigError(
            f"pictures of {' x '.join(map(str, shape))} numbers, {together:,} of them together, "
            f"need more than {_size(needed)} of memory, of which there are {_size(there)}; make "
            f"them smaller, or less of what takes it: {_taking(config)}, --eval-envs "
            f"{config.eval_envs}"
        )


def exhausted(error: Exception, config: TrainConfig) -> str | None:
    """What to say of an error that is a lack of memory, in a line; None of another one."""
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in str(error):
        return None
    told = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0].rstrip(".")
    return f"{told}; make less of what takes memory: {_taking(config)}"


def _taking(config: TrainConfig) -> str:
    """The flags that take most of it."""
    settings = config.learner
    flags = f"--num-envs {settings.num_envs}, --unroll-length {settings.unroll_length}"
    return flags + (f", --num-seeds {config.num_seeds}" if config.num_seeds > 1 else "")


def used(learner: Learner) -> float:
    """GiB that are in use: of this process's devices, or of the process where those are a CPU's;
    nan if nobody says."""
    devices = _own(learner)
    if devices[0].platform != "cpu":
        found = [(device.memory_stats() or {}).get("bytes_in_use", math.nan) for device in devices]
        return sum(found) / 2**30
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (OSError, ValueError, IndexError):
        return math.nan


def _own(learner: Learner) -> list[Any]:
    """The devices of this process."""
    return [d for d in learner.devices if d.process_index == jax.process_index()]


def _memory(devices: list[Any]) -> int | None:
    """Bytes of the devices together; None if nobody says. Those of a CPU share the machine's."""
    if devices[0].platform != "cpu":
        limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in devices]
        return sum(limits) if all(limits) else None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _bytes(tree: Any) -> int:
    """Of a tree of shapes and dtypes; a key counts as its two words."""
    size = lambda x: x.size * (getattr(x.dtype, "itemsize", 8) or 8)
    return sum(map(size, jax.tree.leaves(tree)))


def _size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB"
