"""Cart pole: push a cart left or right so that the pole on it stays up (Barto, Sutton and Anderson
1983), after Gymnasium's CartPole-v1."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.tasks.classic import drawing
from gpusim.envs.world import Box, Discrete, State, World

GRAVITY = 9.8  # m/s²
CART, POLE = 1.0, 0.1  # kg
HALF = 0.5  # of the pole's length, m
FORCE = 10.0  # N
FAR, STEEP = 2.4, 12 * 2 * math.pi / 360  # where an episode ends, m and rad


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CartPole(World):
    """Push a cart left or right to keep a pole up.

    Observation: position, m, and velocity of the cart, angle, rad, and its rate.
    """

    sutton_barto_reward: bool = False
    """-1 for falling and 0 otherwise, instead of 1 for every step."""

    name = "CartPole-v1"
    action_space: ClassVar[Box | Discrete] = Discrete(2)
    dt = 0.02
    max_episode_steps = 500

    def start(self, key: jax.Array) -> State:
        """All four numbers are uniform in ±0.05."""
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return State.of(state, state)

    def transition(self, state: State, action: jax.Array) -> State:
        """A step of Euler's method: positions move with the old velocities."""
        _, velocity, angle, rate = state.carry
        force = jnp.where(action == 1, FORCE, -FORCE)
        total, moment = CART + POLE, POLE * HALF
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        push = (force + moment * jnp.square(rate) * sin) / total
        turn = (GRAVITY * sin - cos * push) / (HALF * (4 / 3 - POLE * jnp.square(cos) / total))
        pull = push - moment * turn * cos / total
        after = state.carry + self.dt * jnp.stack([velocity, pull, rate, turn])
        fell = (jnp.abs(after[0]) > FAR) | (jnp.abs(after[2]) > STEEP)
        reward = jnp.where(fell, -1.0, 0.0) if self.sutton_barto_reward else 1.0
        return State.of(after, after, reward=reward, terminated=fell)

    def drawing(self) -> Any:
        """A cart on a rail, and the pole."""
        pole = drawing.rod(-2 * HALF, drawing.RED)
        return drawing.model(f"""
          <body><geom type="capsule" fromto="-2.6 .1 0 2.6 .1 0" size=".02" mass="1"/></body>
          <body><joint type="slide" axis="1 0 0"/>
            <geom type="box" size=".25 .1 .12" rgba="{drawing.BLUE}"/>
            <body><joint type="hinge" axis="0 1 0"/>{pole}</body>
          </body>""")

    def pose(self, state: State) -> jax.Array:
        """Position and angle."""
        return state.carry[jnp.array([0, 2])]
