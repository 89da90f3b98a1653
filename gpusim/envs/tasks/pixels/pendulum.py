"""Brax's cart and pole, seen through a camera beside the rail and not by their numbers."""

import dataclasses
from typing import ClassVar

from gpusim.envs.tasks.brax.pendulum import InvertedPendulum


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InvertedPendulumPixels(InvertedPendulum):
    """Keep a pole within 0.2 rad of upright, seen in two pictures of 64 x 64 pixels.

    Starts, steps, rewards and ends are those of `inverted_pendulum`.
    """

    name: ClassVar[str] = "inverted_pendulum_pixels"

    camera: str = "side"
    """The camera of the model through which the policy sees; "" is none, it sees numbers."""
    camera_frames: int = 2
    """How many pictures the policy sees at once, the newest first."""
