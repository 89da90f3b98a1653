"""One polygon inside another: the part they have in common, and four points that stand for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.collision.features import Polygon
from gpusim.physics.linalg import Array, cross, dot

_INSIDE = 1e-10


def clipped(face: Polygon, other: Polygon, normal: jax.Array, height: Array) -> Polygon:
    """The part of a polygon or of an edge that lies above a face, up to a height.

    Sutherland and Hodgman's algorithm. normal: (3,) of the face, that goes around against it.
    """
    most = face.points.shape[0] + other.points.shape[0]
    grown = lanes.empty((most, 3), normal.dtype)
    around = face.points.shape[0]

    def cut(e: Array, carry: tuple[Polygon, jax.Array]) -> tuple[Polygon, jax.Array]:
        now, spare = carry
        start = rolled.at(face.points, e)
        following = rolled.at(face.points, jnp.minimum(e + 1, around - 1))
        end = jnp.where(e + 1 < face.count, following, face.points[0])
        side = cross((end - start)[None], normal[None])[0]
        side = side * lax.rsqrt(jnp.maximum(dot(side, side), 1e-30))

        def look(i: Array, out: Polygon) -> Polygon:
            p = rolled.at(now.points, i)
            following = rolled.at(now.points, jnp.minimum(i + 1, most - 1))
            q = jnp.where(i + 1 < now.count, following, now.points[0])
            over_p, over_q = dot(p - start, side), dot(q - start, side)
            in_p, in_q = over_p > -_INSIDE, over_q > -_INSIDE
            fall = over_p - over_q
            t = jnp.clip(over_p / jnp.where(fall == 0, 1, fall), 0, 1)
            out = _added(out, p + t * (q - p), (in_p != in_q) & (fall != 0))
            return _added(out, q, in_q)

        out = rolled.loop_while(most, now.count, look, Polygon(spare, jnp.int32(0)))
        # Back to where it was: only what there is, which is far less than there may be.
        back = lambda i, points: rolled.put(points, i, rolled.at(out.points, i))
        return Polygon(rolled.loop_while(most, out.count, back, now.points), out.count), out.points

    begin = Polygon(grown.at[: other.points.shape[0]].set(other.points), other.count)
    whole, spare = rolled.loop_while(around, face.count, cut, (begin, grown))

    def low(i: Array, out: Polygon) -> Polygon:
        p = rolled.at(whole.points, i)
        return _added(out, p, dot(p - face.points[0], normal) <= height)

    return rolled.loop_while(most, whole.count, low, Polygon(spare, jnp.int32(0)))


def _added(polygon: Polygon, point: jax.Array, there: Array) -> Polygon:
    place = jnp.where(there, polygon.count, polygon.points.shape[0])
    return Polygon(polygon.points.at[place].set(point, mode="drop"), polygon.count + there)


def ends(polygon: Polygon, way: jax.Array) -> Polygon:
    """Of points on an edge that are more than two, the two farthest apart."""
    big = jnp.asarray(1e30, way.dtype)

    def look(i: Array, best: tuple) -> tuple:
        low, high, first, last = best
        along = dot(rolled.at(polygon.points, i), way)
        lower, higher = along < low, along > high
        return (
            jnp.where(lower, along, low), jnp.where(higher, along, high),
            jnp.where(lower, i, first), jnp.where(higher, i, last),
        )  # fmt: skip

    none = big, -big, jnp.int32(0), jnp.int32(0)
    _, _, first, last = rolled.loop_while(polygon.points.shape[0], polygon.count, look, none)
    two = polygon.points[jnp.stack([first, last, first, last])]
    many = polygon.count > 2
    return Polygon(jnp.where(many, two, polygon.points[:4]), jnp.where(many, 2, polygon.count))


def widest(polygon: Polygon) -> Polygon:
    """Of more than four points, four that are a wide quadrilateral.

    As C finds them: each of the corners in turn is the first one, and the others move on around
    the polygon while that makes the quadrilateral wider than any before it.
    """
    n = jnp.maximum(polygon.count, 1)
    after = lambda k: jnp.where(k + 1 < n, k + 1, 0)

    def area(k: jax.Array) -> jax.Array:
        a, b, c, d = polygon.points[k]
        normal = cross((a - c)[None], (b - d)[None])[0]
        return jnp.sqrt(dot(normal, normal))

    def moved(state: tuple, which: int, inner: tuple[int, ...]) -> tuple:
        """`state` after corner number `which` has moved as far as it gains, those of `inner` too
        each time."""

        def step(loop: tuple) -> tuple:
            k, most, best, _ = loop
            there = jnp.where(np.arange(4) == which, after(k), k)
            new = area(there)
            wider = new > most
            take = lambda new, old: jnp.where(wider, new, old)
            state = take(there, k), take(new, most), take(there, best)
            if inner:
                others = lambda s: functools.reduce(lambda s, w: moved(s, w, ()), inner, s)
                state = lax.cond(wider, others, lambda s: s, state)
            return *state, wider

        return lax.while_loop(lambda loop: loop[3], step, (*state, jnp.asarray(True)))[:3]

    def turned(first: Array, state: tuple) -> tuple:
        k, most, best = state
        k = jnp.where(np.arange(4) == 0, jnp.asarray(first, jnp.int32), k)
        k, most, best = moved((k, most, best), 3, (2, 1))
        caught = jnp.asarray(True)
        for corner in (1, 2, 3):  # the first one, which goes on, pushes those it meets
            caught &= k[corner] == k[corner - 1]
            k = jnp.where(caught & (np.arange(4) == corner), after(k), k)
        return k, most, best

    k = jnp.arange(4, dtype=jnp.int32)
    places = polygon.points.shape[0]
    pick = lambda best: rolled.loop_while(places, polygon.count, turned, (k, area(k), best))[2]
    best = lax.cond(polygon.count > 4, pick, lambda best: best, k)
    return Polygon(polygon.points[best], jnp.minimum(polygon.count, 4))
