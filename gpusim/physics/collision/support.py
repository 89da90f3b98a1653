"""Support points of convex shapes: the point farthest in a direction.

A sphere is a point and a capsule a segment, each with a radius around it: what is left when the
radius is taken away is called the core. Other shapes are their own cores.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.hulls import farthest
from gpusim.physics.collision.shapes import (
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    HFIELD,
    MESH,
    SPHERE,
    Shape,
)
from gpusim.physics.linalg import Array, dot


class Support(NamedTuple):
    """A point of the difference a - b of two cores."""

    point: jax.Array  # (3,)
    on_a: jax.Array  # (3,) the point of a that belongs to it
    features: jax.Array  # (2,) which corner of a and of b; 0 for smooth shapes


Difference: TypeAlias = Callable[[jax.Array], Support]


def radius(kind: int, shape: Shape) -> Array:
    """() what surrounds the core."""
    return shape.size[0, 0] if kind in (SPHERE, CAPSULE) else 0.0 * shape.size[0, 0]


def difference(kinds: tuple[int, int], a: Shape, b: Shape) -> Difference:
    """The support function of the Minkowski difference of the cores of a pair of shapes."""

    def support(direction: jax.Array) -> Support:
        p, i = core(kinds[0], a, direction)
        q, j = core(kinds[1], b, -direction)
        return Support(p - q, p, jnp.stack([i, j]))

    return support


def core(kind: int, shape: Shape, direction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The farthest point (3,) of a core, in the world's axes, and the number of its corner."""
    pos, mat, size = shape.pos[0], shape.mat[0], jnp.asarray(shape.size[0])
    none = jnp.int32(0)
    if kind == SPHERE:
        return pos, none
    d = dot(direction, mat)
    up = jnp.where(d >= 0, 1, -1).astype(d.dtype)
    if kind == HFIELD:  # a prism of it
        corners = jnp.asarray(shape.corners)
        three = jnp.where(d[2] < 0, corners[:3], corners[3:])
        return pos + dot(mat, three[jnp.argmax(dot(three, d))]), none
    if kind == MESH:
        assert shape.hull is not None
        corner, point = farthest(shape.hull, d)
        return pos + dot(mat, point), corner
    if kind == CAPSULE:
        return pos + mat[:, 2] * (up[2] * size[1]), none
    if kind == ELLIPSOID:
        scaled = d * size
        return pos + dot(mat, scaled * size * lax.rsqrt(dot(scaled, scaled))), none
    if kind == CYLINDER:
        flat2 = d[0] * d[0] + d[1] * d[1]
        out = jnp.where(flat2 > 1e-30, size[0] * lax.rsqrt(jnp.maximum(flat2, 1e-30)), 0)
        local = jnp.stack([d[0] * out, d[1] * out, up[2] * size[1]])
        return pos + dot(mat, local), (d[2] < 0).astype(jnp.int32)
    bits = jnp.array([1, 2, 4], jnp.int32)
    return pos + dot(mat, up * size), (bits * (d >= 0)).sum()


def corner_of(kind: int, shape: Shape, number: Array) -> jax.Array:
    """The corner (3,) of a box or mesh that has a number, in the world's axes."""
    if kind == MESH:
        assert shape.hull is not None
        local = jnp.asarray(shape.hull.tables.vertices)[number]
    else:
        local = jnp.where((number & np.array([1, 2, 4])) > 0, 1, -1) * jnp.asarray(shape.size[0])
    return shape.pos[0] + dot(shape.mat[0], local)
