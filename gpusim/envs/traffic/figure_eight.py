"""Flow's figure eight: one closed lane that crosses itself, where one branch has the right of way.

The lane goes straight through the crossing upwards, three quarters round the upper ring, straight
through the crossing to the left, and three quarters round the lower ring. Flow gives the first
branch the higher priority (78 against 46). How cars give way is ours (SUMO's is a program of its
own); who does and when is `must_stop`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic.following import LENGTH, Sight, wall
from gpusim.envs.traffic.loop import Loop, sight
from gpusim.envs.traffic.ring import Accel

RADIUS = 30.0
"""Of both rings, and the length of each of the four straights, m."""
CROSSING = 2.9 + 3.3
"""Length of the crossing, m; as in Flow."""
JOINT = 0.28
"""Length of what SUMO puts between two roads, m; as in Flow."""
BRAKE = 4.5
"""What a car can brake with if it must, m/s^2."""
MARGIN = 1.0
"""Time that who gives way leaves to the others, s."""

# Where the crossing begins for the branch with the right of way, and for the other.
FIRST = JOINT + RADIUS
SECOND = FIRST + CROSSING + RADIUS + JOINT + 1.5 * np.pi * RADIUS + JOINT + RADIUS
ROUND = SECOND + CROSSING + RADIUS + JOINT + 1.5 * np.pi * RADIUS


class Approach(NamedTuple):
    """Cars and one branch of the crossing."""

    ahead: jax.Array  # (cars,) from the front bumper to the crossing, m; nearly a round behind it
    inside: jax.Array  # (cars,) bool: on the crossing
    bound: jax.Array  # (cars,) bool: before it, and too fast to stop


def approach(x: jax.Array, v: jax.Array, at: float, dt: float) -> Approach:
    """Where cars are to the branch whose crossing begins at `at`."""
    past = (x - at) % ROUND
    inside = (past > 0) & (past < CROSSING + LENGTH)
    ahead = (at - x) % ROUND
    bound = ~inside & (ahead < v**2 / (2 * BRAKE) + v * dt)
    return Approach(ahead, inside, bound)


def must_stop(v: jax.Array, first: Approach, second: Approach) -> tuple[jax.Array, jax.Array]:
    """() and (cars,) bool: may no car enter by the first branch; which may not by the second.

    Nobody enters while the other branch is occupied, or about to be by a car that cannot stop any
    more; if both have such a car, the second stops. By the second branch one enters only if no car
    of the first would arrive before one has left, and MARGIN.
    """
    entering = second.bound.any()
    stop_first = second.inside.any() | (entering & ~first.bound.any())
    arrival = jnp.min(first.ahead / jnp.maximum(v, 1.0))
    leaving = (second.ahead + CROSSING + LENGTH) / jnp.maximum(v, 3.0)
    gives_way = (arrival < leaving + MARGIN) & ~entering
    return stop_first, first.inside.any() | first.bound.any() | gives_way


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FigureEight(Accel):
    """Figure eight, everything observed; the speed of all cars is to be 20 m/s.

    Flow's `AccelEnv` on its `FigureEightNetwork`, with 14 cars and the parameters of
    `flow/benchmarks/figureeight*.py`. Controlled cars give way like the others: SUMO's checks,
    `speed_mode="obey_safe_speed"` there, are taken to be on.
    """

    name = "figure_eight"
    cars: int = 14
    target_velocity: float = 20.0

    def __post_init__(self):
        super().__post_init__()
        for option in ("min_length", "max_length"):
            if getattr(self, option) != getattr(Accel, option):
                raise ValueError(f"{self.name}: {option} is a ring's; this road is {ROUND:.0f} m")
        if self.cars * 2 * LENGTH > ROUND:
            raise ValueError(f"{self.name}: {self.cars} cars do not fit on {ROUND:.0f} m")

    def draw_length(self, key: jax.Array) -> jax.Array:
        """The same in every episode."""
        return jnp.asarray(ROUND)

    def look(self, loop: Loop) -> tuple[Sight, ...]:
        """The car ahead, and a wall at the crossing for who must stop."""
        see = sight(loop, self.dt)
        first, second = (approach(loop.cars.x, see.v, at, self.dt) for at in (FIRST, SECOND))
        stop_first, stop_second = must_stop(see.v, first, second)
        return see, wall(see, first.ahead, stop_first), wall(see, second.ahead, stop_second)

    def crashed(self, loop: Loop) -> jax.Array:
        """Do two cars overlap, along the lane or on the crossing?"""
        first, second = (approach(*loop.cars[:2], at, self.dt).inside for at in (FIRST, SECOND))
        return super().crashed(loop) | (first.any() & second.any())

    def road(self) -> np.ndarray:
        """Two straights and two arcs; the crossing is in the origin."""
        turn = np.linspace(0, 1.5 * np.pi, 40)
        right = np.stack([1 - np.cos(turn), 1 + np.sin(turn)], axis=1)
        left = np.stack([-1 - np.sin(turn), -1 + np.cos(turn)], axis=1)
        far = np.array([[0.0, -1.0]])
        return RADIUS * np.concatenate([far, right, left])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FigureEight0(FigureEight):
    """Figure eight, one controlled car among 14: Flow's benchmark figureeight0."""

    name = "figureeight0"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FigureEight1(FigureEight):
    """Figure eight, every other one of 14 cars controlled: Flow's benchmark figureeight1.

    Seven of fourteen, as its code has it; a comment there and the first text speak of eight.
    """

    name = "figureeight1"
    controlled: int = 7


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FigureEight2(FigureEight):
    """Figure eight, all 14 cars controlled: Flow's benchmark figureeight2."""

    name = "figureeight2"
    controlled: int = 14
