"""What the functions of this package take and give: shapes, and the points where two of them touch.

A function is given n pairs of shapes (all pairs of two types that are few, or one pair in a trip of
a loop over many), with positions relative to a point of its caller's choice, and has p points for
each pair; those with dist beyond the margin do not act.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.hulls import Hull
from gpusim.physics.linalg import Array, cross, rowdot

PLANE, HFIELD, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = range(8)  # as in mjtGeom
FAR = 1e10  # m: the distance of a point that does not exist


class Shape(NamedTuple):
    """n geoms of one type, in the world's axes."""

    pos: Array  # (n, 3)
    mat: Array  # (n, 3, 3) columns are the geom's axes
    size: Array  # (n, 3) as in geom_size
    hull: Hull | None = None  # of a mesh
    margin: Array | float = 0.0  # m: from this distance on its contacts act
    corners: Array | None = None  # (6, 3) of a height field's prism: three below, three above

    @property
    def axis(self) -> Array:
        """(n, 3) the z axis: a plane's normal, the direction of a capsule."""
        return column(self.mat, 2)


class Touch(NamedTuple):
    """Points where shapes touch: p for each of n pairs."""

    dist: Array  # (n, p) m, negative inside
    point: Array  # (n, p, 3) halfway between the surfaces
    normal: Array  # (n, p, 3) unit vectors from the first shape to the second
    tangent: Array | None = None  # (n, p, 3) where the first tangent is to lie; None: MuJoCo's rule


def column(mat: Array, k: int) -> Array:
    """(n, 3) column k of matrices (n, 3, 3)."""
    return lax.squeeze(lax.slice_in_dim(jnp.asarray(mat), k, k + 1, axis=2), (2,))


def one(dist: Array, point: Array, normal: Array) -> Touch:
    """Touch of one point a pair, from arrays (n,), (n, 3), (n, 3)."""
    return Touch(dist[:, None], point[:, None], normal[:, None])


def sides(normal: Array, tangent: Array | None) -> jax.Array:
    """Frames (n, p, 3, 3) with rows normal, first and second tangent, after mju_makeFrame.

    The pyramid of friction forces is not round: the tangents must be MuJoCo's. A hint along the
    normal is none, and the first tangent then the x axis.
    """
    shape = normal.shape
    normal = normal.reshape(-1, 3)
    first = _flat(_axis(normal) if tangent is None else tangent.reshape(-1, 3), normal)
    # Rounding of the axes would otherwise decide where one stands upright on its plane.
    first = unit(first, least=500 * float(np.finfo(first.dtype).eps))[0]
    rows = (normal, first, cross(normal, first))
    frame = lax.concatenate([lax.expand_dims(jnp.asarray(v), (1,)) for v in rows], 1)
    return frame.reshape(*shape, 3)


def _flat(v: Array, normal: Array) -> Array:
    return v - normal * rowdot(normal, v)[:, None]


def _axis(normal: Array) -> Array:
    """The y axis, or the z axis where a normal leans towards y."""
    y, z = np.eye(3, dtype=normal.dtype)[1:, None]
    leans = jnp.abs(lax.slice_in_dim(normal, 1, 2, axis=1)) >= 0.5
    return jnp.where(leans, z, y)


def unit(v: Array, least: float = 1e-15) -> tuple[jax.Array, jax.Array]:
    """Directions (n, 3) and lengths (n,), as mju_normalize3 has them: the x axis for a vector
    shorter than `least`.
    """
    length2 = rowdot(v, v)
    short = length2 < least * least
    inverse = lax.rsqrt(jnp.where(short, 1.0, length2))
    x = np.array([[1, 0, 0]], v.dtype)
    return jnp.where(short[:, None], x, v * inverse[:, None]), length2 * inverse
