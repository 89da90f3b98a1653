"""One polygon inside another: the part they have in common, and four points that stand for it."""

import jax
import jax.numpy as jnp
from jax import lax

from gpusim.physics import rolled
from gpusim.physics.collision.features import Polygon
from gpusim.physics.linalg import Array, cross, dot

_INSIDE = 1e-10


def clipped(face: Polygon, other: Polygon, normal: jax.Array, height: Array) -> Polygon:
    """The part of a polygon or of an edge that lies above a face, up to a height.

    Sutherland and Hodgman's algorithm. normal: (3,) of the face, that goes around against it.
    """
    most = face.points.shape[0] + other.points.shape[0]
    grown = jnp.zeros((most, 3), normal.dtype)
    around = face.points.shape[0]

    def cut(e: Array, now: Polygon) -> Polygon:
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

        return rolled.loop_while(most, now.count, look, Polygon(grown, jnp.int32(0)))

    begin = Polygon(grown.at[: other.points.shape[0]].set(other.points), other.count)
    whole = rolled.loop_while(around, face.count, cut, begin)

    def low(i: Array, out: Polygon) -> Polygon:
        p = rolled.at(whole.points, i)
        return _added(out, p, dot(p - face.points[0], normal) <= height)

    return rolled.loop_while(most, whole.count, low, Polygon(grown, jnp.int32(0)))


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
    """Of more than four points, four that are a quadrilateral of great area, as C finds them: each
    moves on while that makes it wider."""
    n = jnp.maximum(polygon.count, 1)
    after = lambda k: jnp.where(k + 1 < n, k + 1, 0)

    def area(k: tuple) -> jax.Array:
        a, b, c, d = (polygon.points[i] for i in k)
        normal = cross((a - c)[None], (b - d)[None])[0]
        return jnp.sqrt(dot(normal, normal))

    def moved(state: tuple, which: int, inner) -> tuple:
        """`state` after corner number `which` has moved as far as it gains."""

        def step(loop: tuple) -> tuple:
            k, most, best, _ = loop
            there = tuple(after(x) if i == which else x for i, x in enumerate(k))
            new = area(there)
            wider = new > most
            k, most, best = jax.tree.map(
                lambda x, y: jnp.where(wider, x, y), (there, new, there), (k, most, best)
            )
            if inner is not None:
                same = (k, most, best)
                k, most, best = lax.cond(wider, inner, lambda s: s, same)
            return k, most, best, wider

        yes = jnp.asarray(True)
        return lax.while_loop(lambda loop: loop[3], step, (*state, yes))[:3]

    both = lambda state: moved(moved(state, 2, None), 1, None)

    def around(a: Array, state: tuple) -> tuple:
        a = a.astype(jnp.int32)
        (_, b, c, d), most, best = state
        (_, b, c, d), most, best = moved(((a, b, c, d), most, best), 3, both)
        b_moves = b == a
        b = jnp.where(b_moves, after(b), b)
        c_moves = b_moves & (c == b)
        c = jnp.where(c_moves, after(c), c)
        d = jnp.where(c_moves & (d == c), after(d), d)
        return (a, b, c, d), most, best

    k = tuple(jnp.int32(i) for i in range(4))
    count = jnp.where(polygon.count > 4, polygon.count, 0)
    state = rolled.loop_while(polygon.points.shape[0], count, around, (k, area(k), k))
    chosen = jnp.where(polygon.count > 4, jnp.stack(state[2]), jnp.arange(4))
    return Polygon(polygon.points[chosen], jnp.minimum(polygon.count, 4))
