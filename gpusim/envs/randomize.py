"""Draws for `MujocoTask.vary`: numbers of a model around those of its file.

def vary(self, key):
    mass, floor, gravity = jax.random.split(key, 3)
    slides = lambda friction: randomize.scale(floor, friction, 0.5, 1.5)
    return {
        **randomize.masses(mass, self.model, 0.8, 1.2),
        "geom_friction": randomize.some(self.model.geom_friction, [0], slides),
        "gravity": randomize.shift(gravity, self.model.gravity, -0.5, 0.5),
    }
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gpusim import physics
from gpusim.physics.linalg import Array


def scale(
    key: jax.Array, value: Array, low: float, high: float, *, shared: bool = False
) -> jax.Array:
    """`value` times uniform factors: one a row (a body, joint, geom), or one `shared` by all."""
    return jnp.asarray(value, float) * _draw(key, value, low, high, shared)


def shift(
    key: jax.Array, value: Array, low: float, high: float, *, shared: bool = False
) -> jax.Array:
    """`value` plus uniform terms: one a row, or one `shared` by all."""
    return jnp.asarray(value, float) + _draw(key, value, low, high, shared)


def masses(key: jax.Array, model: physics.Model, low: float, high: float) -> dict[str, jax.Array]:
    """body_mass and body_inertia of bodies whose densities are scaled by uniform factors."""
    names = ("body_mass", "body_inertia")  # the same key: the same factor for both
    return {name: scale(key, getattr(model, name), low, high) for name in names}


def some(value: Array, rows: Sequence[int], draw: Callable[[Array], jax.Array]) -> physics.Some:
    """Some rows of `value`, as drawn of what they are; the others stay constants, which cost
    nothing."""
    return physics.Some(draw(value[list(rows)]), (tuple(map(int, rows)),))


def _draw(key: jax.Array, value: Array, low: float, high: float, shared: bool) -> jax.Array:
    shape = () if shared else (value.shape[0], *(1,) * (value.ndim - 1))
    return low + (high - low) * _unit(key, shape)


def _unit(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform in [0, 1): of all words of a block of random bits, where `jax.random.uniform` makes a
    number of each block. Lanes of one group wait for the one that restarts."""
    count = math.prod(shape)
    words = jax.random.key_data(key).size
    bits = jax.random.key_data(jax.random.split(key, -(-count // words))).reshape(-1)[:count]
    one_to_two = jax.lax.bitcast_convert_type(bits >> 9 | 0x3F800000, jnp.float32)
    return (one_to_two.reshape(shape) - 1).astype(float)
