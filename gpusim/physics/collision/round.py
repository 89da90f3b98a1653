"""Spheres and capsules against each other: spheres around the nearest points of two segments."""

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.collision.shapes import Shape, Touch, one, unit
from gpusim.physics.linalg import Array, cross, rowdot


def sphere_sphere(a: Shape, b: Shape) -> Touch:
    """Two spheres."""
    return balls(a, b, a.pos, b.pos, a.size[:, 0], b.size[:, 0])


def sphere_capsule(a: Shape, b: Shape) -> Touch:
    """A sphere, and the sphere at the nearest point of a capsule's segment."""
    along = clip(rowdot(b.axis, a.pos - b.pos), b.size[:, 1])
    return balls(a, b, a.pos, b.pos + b.axis * along[:, None], a.size[:, 0], b.size[:, 0])


def capsule_capsule(a: Shape, b: Shape) -> Touch:
    """Two capsules; parallel ones touch at one point."""
    on_a, on_b = nearest_points(a, b)
    return balls(a, b, on_a, on_b, a.size[:, 0], b.size[:, 0])


def balls(a: Shape, b: Shape, p: Array, q: Array, radius_p: Array, radius_q: Array) -> Touch:
    """Spheres around points p of a and q of b (n, 3).

    Where the points coincide the normal is that of both z axes; the x axis if those are parallel.
    """
    apart = q - p
    length2 = rowdot(apart, apart)[:, None]
    between = jnp.where(length2 < 1e-30, unit(cross(a.axis, b.axis))[0], apart)
    normal, _ = unit(between)
    distance = rowdot(normal, apart)
    dist = distance - radius_p - radius_q
    return one(dist, p + normal * (radius_p + 0.5 * dist)[:, None], normal)


def clip(x: Array, half: Array) -> jax.Array:
    """x inside [-half, half]."""
    return jnp.minimum(jnp.maximum(x, -half), half)


def nearest_points(a: Shape, b: Shape) -> tuple[jax.Array, jax.Array]:
    """Nearest points (n, 3) of the segments of two capsules, p + x u and q + y v.

    Minimising over the lines gives x; clipping it, then taking the best y for that x and the best x
    for that y, clipped too, ends at the optimum of the segments, because the distance is convex in
    (x, y).
    """
    p, u, half_u = a.pos, a.axis, a.size[:, 1]
    q, v, half_v = b.pos, b.axis, b.size[:, 1]
    apart = p - q
    cosine = rowdot(u, v)
    along_u, along_v = -rowdot(u, apart), rowdot(v, apart)
    least = float(np.finfo(p.dtype).eps)
    x = clip((along_u + cosine * along_v) / jnp.maximum(1 - cosine * cosine, least), half_u)
    y = clip(along_v + cosine * x, half_v)
    x = clip(along_u + cosine * y, half_u)
    return p + u * x[:, None], q + v * y[:, None]


def sphere_cylinder(a: Shape, b: Shape) -> Touch:
    """A sphere against the side, a cap or the rim of a cylinder, whichever is nearest."""
    radius, half = b.size[:, 0], b.size[:, 1]
    away = a.pos - b.pos
    height = rowdot(b.axis, away)
    aside = away - b.axis * height[:, None]
    out2 = rowdot(aside, aside)
    out = jnp.sqrt(jnp.maximum(out2, float(np.finfo(out2.dtype).tiny)))
    beside, above = jnp.abs(height) < half, out2 < radius * radius
    cap_nearer = half - jnp.abs(height) < radius - out
    on_side = beside & ~(above & cap_nearer)
    on_cap = above & ~on_side
    up = jnp.where(height > 0, 1, -1).astype(height.dtype)
    on_axis = b.axis * height[:, None]
    on_rim = b.axis * (up * half)[:, None] + aside * (radius / out)[:, None]
    target = b.pos + jnp.where(on_side[:, None], on_axis, on_rim)
    round_ = balls(a, b, a.pos, target, a.size[:, 0], jnp.where(on_side, radius, 0))
    normal = -b.axis * up[:, None]
    dist = up * height - half - a.size[:, 0]
    cap = one(dist, a.pos + normal * (a.size[:, 0] + 0.5 * dist)[:, None], normal)
    choose = lambda x, y: jnp.where(on_cap.reshape(-1, *[1] * (x.ndim - 1)), x, y)
    return Touch(*map(choose, cap[:3], round_[:3]))
