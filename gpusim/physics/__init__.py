"""MuJoCo's step as plain JAX for one world; C MuJoCo is the oracle. See docs/physics.md."""

from gpusim.physics.derived import Derived
from gpusim.physics.features import Unsupported
from gpusim.physics.model import Model, load
from gpusim.physics.sensors import sensors
from gpusim.physics.setconst import with_constants
from gpusim.physics.stages import State
from gpusim.physics.step import forward, init, step, steps

__all__ = [
    "Derived", "Model", "State", "Unsupported", "forward", "init", "load", "sensors", "step",
    "steps", "with_constants",
]  # fmt: skip
