"""Environments: the contract of a world, tasks on MuJoCo models, the registry, the restarts.

Names are imported when they are first used: the registry alone starts neither JAX nor MuJoCo.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gpusim.envs.registry import make, names, register

if TYPE_CHECKING:
    from gpusim.envs.mujoco_task import Before, Moment, MujocoTask
    from gpusim.envs.vec_env import VecEnv, VecState, autoreset
    from gpusim.envs.world import Box, Discrete, State, World, WorldError

_PLACES = {
    "vec_env": ("VecEnv", "VecState", "autoreset"),
    "mujoco_task": ("Before", "Moment", "MujocoTask"),
    "world": ("Box", "Discrete", "State", "World", "WorldError"),
}

__all__ = [
    "Before", "Box", "Discrete", "Moment", "MujocoTask", "State", "VecEnv", "VecState", "World",
    "WorldError", "autoreset", "make", "names", "register",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public names, imported on first use (PEP 562)."""
    for module, its in _PLACES.items():
        if name in its:
            value = getattr(importlib.import_module(f"gpusim.envs.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'gpusim.envs' has no attribute {name!r}")
