"""Acrobot: swing a two-link arm up by a motor in its elbow (Sutton 1996), after Gymnasium's
Acrobot-v1."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.tasks.classic import drawing
from gpusim.envs.world import Box, Discrete, State, World

GRAVITY = 9.8  # m/s²
FASTEST = 4 * math.pi, 9 * math.pi  # rates of the joints, rad/s


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Acrobot(World):
    """Swing two links up by a motor between them.

    They are of 1 kg and 1 m; choices are a torque of -1, 0 or 1 N m. Observation: cosine and sine
    of the first angle, from hanging, of the second, from the first link, and both rates. Every step
    costs 1 until the tip is a link's length above the shoulder.
    """

    name = "Acrobot-v1"
    action_space: ClassVar[Box | Discrete] = Discrete(3)
    dt = 0.2
    max_episode_steps = 500

    def start(self, key: jax.Array) -> State:
        """All four numbers are uniform in ±0.1."""
        state = jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1)
        return State.of(state, _seen(state))

    def transition(self, state: State, action: jax.Array) -> State:
        """One step of the Runge-Kutta method of order 4."""
        torque = (action - 1).astype(state.carry.dtype)
        slope = lambda x: _slope(x, torque)
        k1 = slope(state.carry)
        k2 = slope(state.carry + self.dt / 2 * k1)
        k3 = slope(state.carry + self.dt / 2 * k2)
        k4 = slope(state.carry + self.dt * k3)
        after = state.carry + self.dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = (after[:2] + math.pi) % (2 * math.pi) - math.pi
        most = jnp.array(FASTEST)
        after = jnp.concatenate([angles, jnp.clip(after[2:], -most, most)])
        high = -jnp.cos(after[0]) - jnp.cos(after[0] + after[1]) > 1
        return State.of(after, _seen(after), reward=jnp.where(high, 0.0, -1.0), terminated=high)

    def drawing(self) -> Any:
        """Two rods, and how high the tip is to come."""
        upper, lower = (drawing.rod(1.0, c) for c in (drawing.BLUE, drawing.RED))
        return drawing.model(f"""
          <body><geom type="capsule" fromto="-1.5 .1 1 1.5 .1 1" size=".02" mass="1"/></body>
          <body><joint type="hinge" axis="0 -1 0"/>{upper}
            <body pos="0 0 -1"><joint type="hinge" axis="0 -1 0"/>{lower}</body>
          </body>""")

    def pose(self, state: State) -> jax.Array:
        """Both angles."""
        return state.carry[:2]


def _seen(state: jax.Array) -> jax.Array:
    first, second, *rates = state
    turns = [jnp.cos(first), jnp.sin(first), jnp.cos(second), jnp.sin(second)]
    return jnp.stack([*turns, *rates])


def _slope(state: jax.Array, torque: jax.Array) -> jax.Array:
    """How fast angles and rates change: Sutton and Barto's book, with l = m = I = 1, c = 1/2."""
    first, second, rate1, rate2 = state
    sin, cos = jnp.sin(second), jnp.cos(second)
    d1 = 0.25 + 1 + 0.25 + cos + 2
    d2 = 0.25 + 0.5 * cos + 1
    phi2 = 0.5 * GRAVITY * jnp.cos(first + second - math.pi / 2)
    phi1 = (
        -0.5 * jnp.square(rate2) * sin
        - rate2 * rate1 * sin
        + 1.5 * GRAVITY * jnp.cos(first - math.pi / 2)
        + phi2
    )
    speed_up2 = (torque + d2 / d1 * phi1 - 0.5 * jnp.square(rate1) * sin - phi2) / (
        1.25 - jnp.square(d2) / d1
    )
    speed_up1 = -(d2 * speed_up2 + phi1) / d1
    return jnp.stack([rate1, rate2, speed_up1, speed_up2])
