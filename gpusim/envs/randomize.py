"""Draws for `MujocoTask.vary`: numbers of a model around those of its file.

def vary(self, key):
    mass, floor, gravity = jax.random.split(key, 3)
    return {
        **randomize.masses(mass, self.model, 0.8, 1.2),
        "geom_friction": randomize.scale(floor, self.model.geom_friction, 0.5, 1.5),
        "gravity": randomize.shift(gravity, self.model.gravity, -0.5, 0.5),
    }
"""

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


def _draw(key: jax.Array, value: Array, low: float, high: float, shared: bool) -> jax.Array:
    shape = () if shared else (value.shape[0], *(1,) * (value.ndim - 1))
    return jax.random.uniform(key, shape, minval=low, maxval=high)
