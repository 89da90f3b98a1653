"""Planes against everything else."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.hulls import facing, farthest
from gpusim.physics.collision.shapes import FAR, Shape, Touch, column, one, unit
from gpusim.physics.linalg import Array, cross, dot, matvec, rowdot

# The corners of a box in MuJoCo's order: x is fastest.
_CORNERS = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], np.float64)


def plane_sphere(a: Shape, b: Shape) -> Touch:
    """One point."""
    return one(*_ball(a, b, b.pos))


def plane_capsule(a: Shape, b: Shape) -> Touch:
    """A sphere at each end; the first tangent along the capsule."""
    reach = b.axis * b.size[:, 1, None]
    dist, point, normal = (
        lax.concatenate([lax.expand_dims(jnp.asarray(x), (1,)) for x in ends], 1)
        for ends in zip(_ball(a, b, b.pos + reach), _ball(a, b, b.pos - reach), strict=True)
    )
    return Touch(dist, point, normal, jnp.broadcast_to(b.axis[:, None], point.shape))


def _ball(a: Shape, b: Shape, centre: Array) -> tuple[jax.Array, jax.Array, Array]:
    normal, radius = a.axis, b.size[:, 0]
    dist = rowdot(centre - a.pos, normal) - radius
    return dist, centre - normal * (radius + 0.5 * dist)[:, None], normal


def plane_box(a: Shape, b: Shape) -> Touch:
    """The corners of the lower half, at most the first four of them."""
    n, normal = b.pos.shape[0], a.axis
    arms = jnp.einsum("nij,kj->nki", b.mat * b.size[:, None, :], _CORNERS.astype(b.pos.dtype))
    below = jnp.einsum("nki,ni->nk", arms, normal)
    dist = rowdot(b.pos - a.pos, normal)[:, None] + below
    lower = below <= 0
    dist = jnp.where(lower, dist, FAR)
    point = b.pos[:, None] + arms - normal[:, None] * (0.5 * dist)[:, :, None]
    return Touch(dist, point, jnp.broadcast_to(normal[:, None], (n, 8, 3)))


def plane_cylinder(a: Shape, b: Shape) -> Touch:
    """The lowest points of both rims, and two more on the lower rim that make it a triangle."""
    normal, radius, half = a.axis, b.size[:, 0, None], b.size[:, 1, None]
    slope = rowdot(normal, b.axis)[:, None]
    axis = jnp.where(slope > 0, -b.axis, b.axis)  # towards the plane
    slope = -jnp.abs(slope)
    down = axis * slope - normal  # along the disk, to its lowest point
    flat = (rowdot(down, down) < 1e-30)[:, None]
    down = jnp.where(flat, column(b.mat, 0), unit(down)[0]) * radius
    drop = rowdot(down, normal)[:, None]
    centre = rowdot(b.pos - a.pos, normal)[:, None]
    reach, slope = axis * half, slope * half
    side = unit(cross(down, reach))[0] * (radius * np.sqrt(0.75).astype(radius.dtype))
    dist = [centre + slope + drop, centre - slope + drop, *[centre + slope - 0.5 * drop] * 2]
    arms = [down + reach, down - reach, reach - 0.5 * down + side, reach - 0.5 * down - side]
    points = [b.pos + arm - normal * (0.5 * d) for d, arm in zip(dist, arms, strict=True)]
    stacked = lax.concatenate([p[:, None] for p in points], 1)
    return Touch(
        lax.concatenate(dist, 1), stacked, jnp.broadcast_to(normal[:, None], stacked.shape)
    )


def plane_ellipsoid(a: Shape, b: Shape) -> Touch:
    """The lowest point: where the normal of the ellipsoid is the plane's, reversed."""
    normal = a.axis
    scaled = jnp.einsum("nij,ni->nj", b.mat, normal) * b.size
    lowest = unit(scaled)[0] * b.size
    arm = -matvec(b.mat, lowest)
    dist = rowdot(b.pos + arm - a.pos, normal)
    return one(dist, b.pos + arm - normal * (0.5 * dist)[:, None], normal)


def plane_mesh(a: Shape, b: Shape) -> Touch:
    """The lowest vertex, and three others of the face there that lies flattest.

    After mjc_PlaneConvex. Of one pair of shapes.
    """
    hull = b.hull
    assert hull is not None
    normal, mat = a.axis[0], b.mat[0]
    down = -dot(normal, mat)
    lowest, _ = farthest(hull, down)
    start, stop = jnp.asarray(hull.tables.corners)[lowest]
    others = jnp.asarray(hull.tables.spread)[facing(hull, lowest, down)]
    others = jnp.where(start < stop, others, -1)  # of no face: it touches alone
    vertices = jnp.concatenate([lowest[None], others])
    arms = dot(jnp.asarray(hull.tables.vertices)[jnp.maximum(vertices, 0)], mat.T)
    below = dot(arms, normal)
    lower = (np.arange(4) == 0) | ((vertices >= 0) & (below <= 0))
    dist = jnp.where(lower, dot(b.pos[0] - a.pos[0], normal) + below, FAR)
    point = b.pos[0] + arms - normal * (0.5 * dist)[:, None]
    return Touch(dist[None], point[None], jnp.broadcast_to(normal, (1, 4, 3)))
