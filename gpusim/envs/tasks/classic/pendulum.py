"""Pendulum: swing up by a motor too weak to lift, and stay there; after Gymnasium's Pendulum-v1."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.tasks.classic import drawing
from gpusim.envs.world import Box, Discrete, State, World

TORQUE, SPEED = 2.0, 8.0  # largest, N m and rad/s


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pendulum(World):
    """Swing up a pendulum and hold it.

    It is a rod of 1 kg and 1 m. Observation: cosine and sine of the angle from upright, and its
    rate. The reward is minus the square of the angle and a little of rate and torque. An action of
    1 is the largest torque, 2 N m (Gymnasium's actions are N m).
    """

    g: float = 10.0
    """Gravity, m/s²."""

    name = "Pendulum-v1"
    action_space: ClassVar[Box | Discrete] = Box(1)
    dt = 0.05
    max_episode_steps = 200

    def start(self, key: jax.Array) -> State:
        """Any angle, a rate up to ±1 rad/s."""
        state = jax.random.uniform(key, (2,), minval=-1.0) * jnp.array([math.pi, 1.0])
        return State.of(state, _seen(state))

    def transition(self, state: State, action: jax.Array) -> State:
        """A step of the semi-implicit Euler method."""
        angle, rate = state.carry
        torque = TORQUE * jnp.clip(action[0], -1, 1)
        off = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = jnp.square(off) + 0.1 * jnp.square(rate) + 0.001 * jnp.square(torque)
        rate = rate + (1.5 * self.g * jnp.sin(angle) + 3 * torque) * self.dt
        rate = jnp.clip(rate, -SPEED, SPEED)
        after = jnp.stack([angle + rate * self.dt, rate])
        return State.of(after, _seen(after), reward=-cost)

    def drawing(self) -> Any:
        """A rod."""
        return drawing.model(f"""
          <body><geom type="sphere" size=".09" rgba="{drawing.GREY}" mass="1"/></body>
          <body><joint type="hinge" axis="0 -1 0"/>{drawing.rod(-1.0, drawing.RED)}</body>""")

    def pose(self, state: State) -> jax.Array:
        """The angle."""
        return state.carry[:1]


def _seen(state: jax.Array) -> jax.Array:
    return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])
