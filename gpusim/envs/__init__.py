"""Environments: the Env contract, the tasks, the registry, and the wrapper that resets worlds."""

from gpusim.envs.autoreset import VecEnv, VecState, autoreset
from gpusim.envs.env import Env, State, World
from gpusim.envs.registry import make, names, register

__all__ = ["Env", "State", "VecEnv", "VecState", "World", "autoreset", "make", "names", "register"]
