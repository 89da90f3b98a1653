"""Is there room for a run? Asked before anything compiles, and answered no only when it is sure."""

import os
from typing import Any

import jax

from gpusim.agents.learner import Learner
from gpusim.config import ConfigError, TrainConfig


def check(config: TrainConfig, learner: Learner) -> None:
    """Raise ConfigError if the state of a run and the observations of one rollout, which have to
    be there at the same time, are more than the memory of the devices of this process."""
    own = [d for d in learner.devices if d.process_index == jax.process_index()]
    state, settings = learner.blank(), config.learner
    worlds = config.num_seeds * settings.num_envs * len(own) // len(learner.devices)
    seen = worlds * settings.unroll_length * learner.world.observation_size * 4
    stored = _bytes(state.extra)
    needed, there = _bytes(state) + seen, _memory(own)
    if there is None or needed <= there:
        return
    flags = f"--num-envs {settings.num_envs}, --unroll-length {settings.unroll_length}"
    flags += f", --num-seeds {config.num_seeds}" if config.num_seeds > 1 else ""
    flags += (
        f"; {_size(stored)} of it are for what the learner remembers" if stored > needed / 2 else ""
    )
    raise ConfigError(
        f"this needs more than {_size(needed)} of memory, of which there are {_size(there)}; "
        f"make less of what takes it: {flags}"
    )


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
