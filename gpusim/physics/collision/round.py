"""Spheres and capsules against each other: spheres around the nearest points of two segments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics.collision.shapes import FAR, Shape, Touch, one, unit
from gpusim.physics.linalg import Array, cross, rowdot
from gpusim.physics.versions import since

MOST = 2 if since(3, 17) else 1  # points of two capsules; C before 3.17 chooses others
_PARALLEL = 1e-4  # sine of the angle below which C takes capsules for parallel
_SPHERE2 = 1e-15  # m², a segment's length squared below which C takes a capsule for a sphere


def sphere_sphere(a: Shape, b: Shape) -> Touch:
    """Two spheres."""
    return balls(a, b, a.pos, b.pos, a.size[:, 0], b.size[:, 0])


def sphere_capsule(a: Shape, b: Shape) -> Touch:
    """A sphere, and the sphere at the nearest point of a capsule's segment."""
    along = clip(rowdot(b.axis, a.pos - b.pos), b.size[:, 1])
    return balls(a, b, a.pos, b.pos + b.axis * along[:, None], a.size[:, 0], b.size[:, 0])


def capsule_capsule(a: Shape, b: Shape) -> Touch:
    """Spheres at the nearest points of two segments; of parallel ones, at both ends of what lies
    side by side.

    Where no world has parallel ones, their code is jumped over.
    """
    lines = _Lines(a.pos - b.pos, a.axis, b.axis, a.size[:, 1], b.size[:, 1])

    def at(x: Array, y: Array) -> Touch:
        p, q = a.pos + a.axis * x[:, None], b.pos + b.axis * y[:, None]
        return balls(a, b, p, q, a.size[:, 0], b.size[:, 0])

    x, y = lines.nearest()
    if MOST == 1:
        return at(x, y)
    shorter = 2 * jnp.minimum(lines.half_u, lines.half_v)
    parallel = (lines.sine2() < _PARALLEL**2) & (shorter * shorter >= _SPHERE2)

    def ends() -> tuple[jax.Array, jax.Array, Touch]:
        low, high = lines.end(-1), lines.end(1)
        other = at(*high)
        dist = jnp.where(parallel[:, None], other.dist, FAR)
        place = [jnp.where(parallel, *places) for places in zip(low, (x, y), strict=True)]
        return place[0], place[1], other._replace(dist=dist)

    none = one(jnp.full_like(x, FAR), jnp.zeros_like(a.pos), jnp.zeros_like(a.pos))
    some = lanes.any_world(parallel.any())
    x, y, other = lax.cond(some, ends, lambda: (x, y, none))
    both = zip(at(x, y)[:3], other[:3], strict=True)
    return Touch(*(lax.concatenate(parts, 1) for parts in both))


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


class _Lines(NamedTuple):
    """The segments of n pairs of capsules: places x on p + x u and y on q + y v, (n,) each."""

    apart: Array  # (n, 3) p - q
    u: Array  # (n, 3) unit vectors
    v: Array
    half_u: Array  # (n,) |x| is at most this
    half_v: Array

    def nearest(self) -> tuple[jax.Array, jax.Array]:
        """Places of the nearest points.

        Minimising over the lines gives x; clipping it, then taking the best y for that x and the
        best x for that y, clipped too, ends at the optimum of the segments, because the distance is
        convex in (x, y).
        """
        cosine = rowdot(self.u, self.v)
        along_u, along_v = -rowdot(self.u, self.apart), rowdot(self.v, self.apart)
        least = float(np.finfo(cosine.dtype).eps)
        x = clip((along_u + cosine * along_v) / jnp.maximum(self.sine2(), least), self.half_u)
        y = self._on_v(x)
        return clip(self._on_u(y), self.half_u), y

    def end(self, side: int) -> tuple[jax.Array, jax.Array]:
        """Of parallel ones, places at the lower (-1) or upper (1) end along u of what lies side by
        side: an end of the second segment, unless that lies beyond the first's.
        """
        ahead = jnp.where(rowdot(self.u, self.v) < 0, -side, side).astype(self.half_v.dtype)
        y = ahead * self.half_v
        x = self._on_u(y)
        inside = clip(x, self.half_u)
        return inside, jnp.where(inside == x, y, self._on_v(inside))

    def sine2(self) -> jax.Array:
        """|u × v|²: 1 - (u v)² would have no digits left near 0."""
        normal = cross(self.u, self.v)
        return rowdot(normal, normal)

    def _on_u(self, y: Array) -> jax.Array:
        """The place on the first line nearest to y."""
        return rowdot(self.u, self.v) * y - rowdot(self.u, self.apart)

    def _on_v(self, x: Array) -> jax.Array:
        """The place on the second segment nearest to x."""
        return clip(rowdot(self.u, self.v) * x + rowdot(self.v, self.apart), self.half_v)


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
