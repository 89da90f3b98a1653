"""MuJoCo's step as plain JAX for one world; C MuJoCo is the oracle. See docs/physics.md."""

from gpusim.physics.constraint.wrenches import Contact
from gpusim.physics.derived import Derived
from gpusim.physics.features import Unsupported
from gpusim.physics.kinematics import Mocap
from gpusim.physics.mirror import Mirror, mirror
from gpusim.physics.model import Model, Some, load
from gpusim.physics.sensors import sensor, sensors
from gpusim.physics.setconst import with_constants
from gpusim.physics.stages import State
from gpusim.physics.step import forward, init, step, steps

__all__ = [
    "Contact", "Derived", "Mirror", "Mocap", "Model", "Some", "State", "Unsupported", "forward",
    "init", "load", "mirror", "sensor", "sensors", "step", "steps", "with_constants",
]  # fmt: skip
