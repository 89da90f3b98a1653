"""Walker2d: the hopper with a second leg, six motors, as in Brax's `walker2d`."""

import dataclasses
import math
from typing import ClassVar

from gpusim.envs.tasks.brax.hopper import Hopper


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Walker2d(Hopper):
    """Walk along +x without falling."""

    name: ClassVar[str] = "walker2d"
    mjcf: ClassVar[str] = "models/walker2d.xml"

    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    """Heights of the torso (m) between which the body is healthy."""
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
    """Pitch of the torso (rad) between which the body is healthy."""
    healthy_state_range: tuple[float, float] = (-math.inf, math.inf)
    """Bounds on every angle (rad) and velocity (m/s, rad/s) in good health."""
