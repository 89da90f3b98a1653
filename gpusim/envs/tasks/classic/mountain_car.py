"""Mountain car: a car too weak for the slope must swing to get up (Moore 1990), after Gymnasium's
MountainCar-v0 and MountainCarContinuous-v0."""

import dataclasses
import itertools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.tasks.classic import drawing
from gpusim.envs.world import Box, Discrete, State, World

LEFT, RIGHT, SPEED = -1.2, 0.6, 0.07  # bounds of position and velocity, per step
SLOPE = 0.0025


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MountainCar(World):
    """Swing a car up a hill that is too steep for it.

    Observation: position and velocity. Every step costs 1 until the flag is reached.
    """

    goal_velocity: float = 0.0
    """How fast the car must be at the flag."""

    name = "MountainCar-v0"
    action_space: ClassVar[Box | Discrete] = Discrete(3)
    max_episode_steps = 200
    goal: ClassVar[float] = 0.5
    force: ClassVar[float] = 0.001

    def start(self, key: jax.Array) -> State:
        """In the valley, between -0.6 and -0.4, at rest."""
        position = jax.random.uniform(key, (), minval=-0.6, maxval=-0.4)
        state = jnp.stack([position, jnp.zeros_like(position)])
        return State.of(state, state)

    def transition(self, state: State, action: jax.Array) -> State:
        """Left, not at all, or right."""
        after, there = self._moved(state.carry, (action - 1).astype(state.carry.dtype))
        return State.of(after, after, reward=-1.0, terminated=there)

    def _moved(self, state: jax.Array, push: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The state after a step, and whether it is at the flag; the left bound is a wall."""
        position, velocity = state
        velocity = velocity + push * self.force - SLOPE * jnp.cos(3 * position)
        velocity = jnp.clip(velocity, -SPEED, SPEED)
        position = jnp.clip(position + velocity, LEFT, RIGHT)
        velocity = jnp.where((position == LEFT) & (velocity < 0), 0.0, velocity)
        there = (position >= self.goal) & (velocity >= self.goal_velocity)
        return jnp.stack([position, velocity]), there

    def drawing(self) -> Any:
        """The hills, the flag and the car."""
        x = np.linspace(LEFT, RIGHT, 37)
        points = [f"{a} .05 {height(a) - 0.06}" for a in x]
        hills = "".join(
            f'<geom type="capsule" fromto="{a} {b}" size=".02" mass="1" rgba="{drawing.GREY}"/>'
            for a, b in itertools.pairwise(points)
        )
        flag, top = self.goal, height(self.goal)
        return drawing.model(f"""
          <body>{hills}<geom type="capsule" fromto="{flag} .05 {top} {flag} .05 {top + 0.2}"
            size=".012" mass="1" rgba="{drawing.RED}"/></body>
          <body><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
            <geom type="ellipsoid" size=".08 .04 .05" rgba="{drawing.BLUE}"/></body>""")

    def pose(self, state: State) -> jax.Array:
        """Position and height of the car."""
        return jnp.stack([state.carry[0], height(state.carry[0])])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MountainCarContinuous(MountainCar):
    """Swing a car up a hill that is too steep for it, by any push, which costs.

    A push in [-1, 1] costs a tenth of its square; the flag earns 100.
    """

    name = "MountainCarContinuous-v0"
    action_space: ClassVar[Box | Discrete] = Box(1)
    max_episode_steps = 999
    goal: ClassVar[float] = 0.45
    force: ClassVar[float] = 0.0015

    def transition(self, state: State, action: jax.Array) -> State:
        """A push."""
        after, there = self._moved(state.carry, jnp.clip(action[0], -1, 1))
        reward = jnp.where(there, 100.0, 0.0) - 0.1 * jnp.square(action[0])
        return State.of(after, after, reward=reward, terminated=there)


def height(x: Any) -> Any:
    """Of the road, as Gymnasium draws it."""
    return (np.sin(3 * x) if isinstance(x, float) else jnp.sin(3 * x)) * 0.45 + 0.55
