"""The cart and pole of CartPole-v1, seen by a camera beside the rail and not by its numbers.

The last four pictures are stacked, so that speeds can be seen. Edges are as grey as a pixel is
covered: between two pictures the pole's end moves by a tenth of one.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim.envs.tasks.classic.cart_pole import HALF, CartPole
from gpusim.envs.world import State

HIGH, WIDE = 32, 64  # pixels
FRAMES = 4  # pictures that are stacked, the newest first
METRE = 12.0  # pixels; the rail's middle is the picture's
RAIL = 24.0  # pixels from the upper edge to the pole's hinge
CART = (3.0, 2.0)  # half the cart's width and height, pixels
THICK = 1.0  # half of the pole, pixels


class Filmed(NamedTuple):
    """The cart, and where it was."""

    now: jax.Array  # (4,) position, velocity, angle, rate, as CartPole has them
    x: jax.Array  # (FRAMES,) m
    angle: jax.Array  # (FRAMES,) rad


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CartPolePixels(CartPole):
    """Push a cart left or right to keep a pole up, seen in four pictures of 32 x 64 pixels.

    Starts, steps, rewards and ends are those of CartPole-v1.
    """

    name = "cart_pole_pixels"

    def start(self, key: jax.Array) -> State:
        """As CartPole-v1, having stood still."""
        state = super().start(key)
        every = lambda number: jnp.full(FRAMES, number)
        return self._filmed(state, every(state.carry[0]), every(state.carry[2]))

    def transition(self, state: State, action: jax.Array) -> State:
        """As CartPole-v1; the pictures move up by one."""
        was: Filmed = state.carry
        after = super().transition(state.replace(carry=was.now), action)
        newest = lambda number, old: jnp.concatenate([number[None], old[:-1]])
        x, angle = newest(after.carry[0], was.x), newest(after.carry[2], was.angle)
        return self._filmed(after, x, angle)

    def pose(self, state: State) -> jax.Array:
        """Position and angle."""
        return super().pose(state.replace(carry=state.carry.now))

    def picture(self, obs: jax.Array) -> jax.Array:
        """(32, 64, 4): how much of each pixel cart and pole cover, the newest picture first."""
        x, angle = obs.reshape(2, FRAMES)
        down = jnp.arange(HIGH)[:, None, None] + 0.5 - RAIL  # from the hinge, pixels
        right = jnp.arange(WIDE)[:, None] + 0.5 - WIDE / 2 - METRE * x
        side = jnp.maximum(jnp.abs(right) - CART[0], jnp.abs(down) - CART[1])
        along, across = jnp.sin(angle), -jnp.cos(angle)  # of the pole: to the right, down
        length = 2 * HALF * METRE
        reached = jnp.clip(right * along + down * across, 0, length)
        off = jnp.square(right - reached * along) + jnp.square(down - reached * across)
        covered = lambda outside: jnp.clip(0.5 - outside, 0.0, 1.0)
        return jnp.maximum(0.5 * covered(side), covered(jnp.sqrt(off) - THICK))

    @staticmethod
    def _filmed(state: State, x: jax.Array, angle: jax.Array) -> State:
        obs = jnp.concatenate([x, angle])
        return state.replace(carry=Filmed(state.carry, x, angle), obs=obs)
