"""The distance of two convex shapes: Gilbert, Johnson and Keerthi's algorithm.

A simplex of support points of the Minkowski difference approaches the origin. It always has four
corners here; a point, an edge or a face has some of them twice.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.support import Difference
from gpusim.physics.linalg import Array, cross, dot, rowdot

_EDGES = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
_FACES = np.array([(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)])

_OPPOSITE = np.array([(1, 3, 2), (0, 2, 3), (0, 3, 1), (0, 1, 2)])  # the face opposite a corner


class Nearest(NamedTuple):
    """The point of a - b that is nearest to the origin."""

    point: jax.Array  # (3,)
    distance: jax.Array  # () its length
    weights: jax.Array  # (4,) of the simplex's corners
    corners: jax.Array  # (4, 3)
    on_a: jax.Array  # (4, 3) the points of a that belong to them
    features: jax.Array  # (4, 2)
    apart: jax.Array  # () bool: a plane is known that separates the origin from the difference
    done: jax.Array  # () bool
    trips: jax.Array  # ()


def nearest(support: Difference, start: Array, reach: Array, tolerance: float, trips: int):
    """Where the difference is nearest to the origin: distance zero if it contains it.

    start: (3,) a direction from the origin to the difference; reach: beyond this distance nothing
    more is asked for than that it is so.
    """
    length2 = dot(start, start)
    x = np.eye(3, dtype=start.dtype)[0]
    first = support(-jnp.where(length2 > 1e-30, start, x))
    four = lambda v: jnp.broadcast_to(v, (4, *v.shape))
    length = lambda v: jnp.sqrt(dot(v, v))
    no = jnp.asarray(False)
    begin = Nearest(
        first.point, length(first.point), jnp.asarray(np.eye(4, dtype=start.dtype)[0]),
        four(first.point), four(first.on_a), four(first.features), no, no, jnp.int32(0),
    )  # fmt: skip

    def trip(now: Nearest) -> Nearest:
        inverse = 1 / jnp.maximum(now.distance, 1e-30)
        new = support(-now.point * inverse)
        ahead = dot(now.point, new.point)
        far = ahead > reach * now.distance
        found = now.distance * now.distance - ahead < 0.5 * tolerance * tolerance
        place = jnp.argmin(now.weights) == np.arange(4)
        corners = jnp.where(place[:, None], new.point, now.corners)
        weights = simplex_weights(corners)
        point = dot(weights, corners)
        distance = length(point)
        stuck = distance >= now.distance
        stop = far | found | stuck
        keep = lambda old, new: jnp.where(stop, old, new)
        return Nearest(
            keep(now.point, point),
            keep(now.distance, distance),
            keep(now.weights, weights),
            keep(now.corners, corners),
            keep(now.on_a, jnp.where(place[:, None], new.on_a, now.on_a)),
            keep(now.features, jnp.where(place[:, None], new.features, now.features)),
            ahead > 0,
            stop | (distance < tolerance) | (jnp.min(weights) > 0),
            now.trips + 1,
        )

    more = lambda now: ~now.done & (now.trips < trips)
    return lax.while_loop(more, trip, begin)


def simplex_weights(p: jax.Array) -> jax.Array:
    """Weights (4,) of the corners (4, 3) of a simplex in its point nearest to the origin.

    Of the nearest points of all corners, edges, faces and the inside that lie within these, the
    nearest; what has no extent has none.
    """
    dtype = p.dtype
    eye = np.eye(4, dtype=dtype)
    far = jnp.asarray(np.finfo(dtype).max, dtype)
    # Edges: p + t (q - p).
    a, b = p[_EDGES[:, 0]], p[_EDGES[:, 1]]
    way = b - a
    way2 = rowdot(way, way)
    t = -rowdot(a, way) / jnp.where(way2 > 0, way2, 1)
    there = (way2 > 0) & (t > 0) & (t < 1)
    at = a + t[:, None] * way
    on_edge = jnp.where(there, rowdot(at, at), far)
    edge = eye[_EDGES[:, 0]] * (1 - t)[:, None] + eye[_EDGES[:, 1]] * t[:, None]
    # Faces: areas of the three triangles around the foot of the origin.
    a, b, c = (p[_FACES[:, k]] for k in range(3))
    normal = cross(b - a, c - a)
    normal2 = rowdot(normal, normal)
    sides2 = rowdot(b - a, b - a) * rowdot(c - a, c - a)
    thick = normal2 > sides2 * (16 * float(np.finfo(dtype).eps)) ** 2
    scale = 1 / jnp.where(thick, normal2, 1)
    parts = [rowdot(normal, cross(u, v)) * scale for u, v in ((b, c), (c, a), (a, b))]
    there = thick & (parts[0] > 0) & (parts[1] > 0) & (parts[2] > 0)
    height = rowdot(normal, a)
    on_face = jnp.where(there, height * height * scale, far)
    face = sum(eye[_FACES[:, k]] * parts[k][:, None] for k in range(3))
    # Inside: volumes of the four tetrahedra around the origin.
    volume = rowdot(p[_OPPOSITE[:, 0]], cross(p[_OPPOSITE[:, 1]], p[_OPPOSITE[:, 2]]))
    whole = volume.sum()
    size2 = rowdot(p, p).max()
    # Of corners in a plane, rounding would decide.
    least = 16 * float(np.finfo(dtype).eps) * size2 * jnp.sqrt(size2)
    inside = (jnp.min(volume * jnp.sign(whole)) > 0) & (jnp.abs(whole) > least)
    volume = volume / jnp.where(inside, whole, 1)
    distances = jnp.concatenate([rowdot(p, p), on_edge, on_face])
    k = jnp.argmin(distances)
    every = jnp.concatenate([jnp.asarray(eye), edge, face])
    chosen = dot((k == np.arange(14)).astype(dtype), every)
    return jnp.where(inside, volume, chosen)
