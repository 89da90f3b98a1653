"""How deep the origin lies in a convex set: the expanding polytope algorithm.

The polytope starts as a tetrahedron of support points and need not contain the origin: distances of
its faces have signs. Each trip adds the support point of the face that is nearest; the faces that
see it are replaced by those that join it to the edges of the hole they leave.

How far the set reaches along any direction is an upper bound of the depth: the least of all that
were tried is the answer. So whatever rounding does to the polytope, two shapes that lie in each
other stay in contact, and moving them apart by the answer parts them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.collision.gjk import simplex_weights
from gpusim.physics.collision.support import Difference, Support
from gpusim.physics.linalg import Array, cross, dot

VERTICES = 64  # at most
_FACES = 2 * VERTICES - 4  # of a polytope whose faces are triangles
_START = np.array([(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)])


class Deepest(NamedTuple):
    """The point of the surface that is nearest to the origin inside."""

    depth: jax.Array  # () m, how far the set reaches along the normal; negative: it is outside
    normal: jax.Array  # (3,) outwards
    on_a: jax.Array  # (3,) the point of a that belongs to it
    features: jax.Array  # (3, 2) of the corners of the face it lies on


class _Polytope(NamedTuple):
    """Vertices, faces, and what is not used of their memory."""

    points: jax.Array  # (V, 3)
    on_a: jax.Array  # (V, 3)
    features: jax.Array  # (V, 2)
    normals: jax.Array  # (F, 3) outwards
    offsets: jax.Array  # (F,) along the normal; huge for what is no face
    corners: jax.Array  # (F,) three numbers of vertices, 6 bits each, around the normal
    free: jax.Array  # (F,) numbers of faces that are no more
    n_free: jax.Array  # ()
    n_faces: jax.Array  # () faces that ever were
    hole: jax.Array  # (V,) a step around the hole, see `_code`; 0: not at the hole
    best: jax.Array  # () the nearest face
    normal: jax.Array  # (3,) of the face along which the set reaches least
    corner: jax.Array  # () of the same
    last: jax.Array  # () the vertex there
    reach: jax.Array  # () how far that is
    done: jax.Array  # () bool


class _Inside(NamedTuple):
    """What planes are computed with."""

    point: jax.Array  # (3,) inside the polytope
    least: jax.Array  # () m, what rounding makes of a corner, several times


def deepest(
    support: Difference, start: Array, tolerance: float, sharp: bool, flat: bool
) -> Deepest:
    """The nearest surface point of the difference; start: (3,) a direction to begin with; sharp:
    whether both shapes are polyhedra; flat: whether sides of both may lie on each other, and the
    point is to be in both nevertheless.
    """
    corners = _tetrahedron(support, start)
    inside = _Inside(corners.point.mean(0), _rounding(corners))
    state = _first(corners, inside)
    least = jnp.maximum(tolerance, inside.least)

    def trip(k: jax.Array, state: _Polytope) -> _Polytope:
        grow = lambda s: _expanded(support, s, k + 4, inside, least)
        return lax.cond(state.done, lambda s: s, grow, state)

    state = lanes.fori_loop(0, VERTICES - 4, trip, state)
    if flat:
        state = _under_the_origin(state, inside.least)
    return _answer(state, sharp)


def _tetrahedron(support: Difference, start: Array) -> Support:
    """Four support points that do not lie in a plane: each the farther one of two directions."""
    along = _unit(start)
    a, b = support(along), support(-along)
    edge = b.point - a.point
    across = jnp.argmin(jnp.abs(edge)) == np.arange(3)
    side = _unit(_cross(edge, across.astype(edge.dtype)))
    c = _farther(support, side, a)
    d = _farther(support, _unit(_cross(edge, c.point - a.point)), a)
    return jax.tree.map(lambda *x: jnp.stack(x), a, b, c, d)


def _farther(support: Difference, way: jax.Array, origin: Support) -> Support:
    one, two = support(way), support(-way)
    reach = lambda s: jnp.abs(dot(s.point - origin.point, way))
    first = reach(one) >= reach(two)
    return jax.tree.map(lambda x, y: jnp.where(first, x, y), one, two)


def _unit(v: Array) -> jax.Array:
    length2 = dot(v, v)
    x = np.eye(3, dtype=v.dtype)[0]
    return jnp.where(length2 > 1e-30, v * lax.rsqrt(jnp.maximum(length2, 1e-30)), x)


def _cross(a: Array, b: Array) -> jax.Array:
    return cross(a[None], b[None])[0]


def _plane(a: Array, b: Array, c: Array, inside: _Inside) -> tuple[jax.Array, jax.Array]:
    """Outward normal and offset of a triangle's plane; a huge offset for one without a plane:
    its corners lie on a line to rounding, which would turn it anyhow.
    """
    one, two = b - a, c - a
    normal = _cross(one, two)
    length2 = dot(normal, normal)
    longest2 = jnp.maximum(jnp.maximum(dot(one, one), dot(two, two)), dot(two - one, two - one))
    flat = length2 <= longest2 * (inside.least * inside.least)
    outwards = jnp.where(dot(normal, a - inside.point) < 0, -1, 1).astype(a.dtype)
    normal = normal * (outwards * lax.rsqrt(jnp.where(flat, 1, length2)))
    return normal, jnp.where(flat, _huge(a.dtype), dot(normal, a))


def _huge(dtype) -> jax.Array:
    return jnp.asarray(1e30, dtype)


def _first(corners: Support, inside: _Inside) -> _Polytope:
    dtype = inside.point.dtype
    room = lambda n, x: lanes.empty((n, *x.shape[1:]), x.dtype).at[: len(x)].set(x)
    at = corners.point
    planes = [_plane(at[i], at[j], at[k], inside) for i, j, k in _START]
    up = dot(_cross(corners.point[1] - corners.point[0], corners.point[2] - corners.point[0]),
             corners.point[3] - corners.point[0]) > 0  # fmt: skip
    packed = [
        jnp.where(up ^ bool(n % 2), i | j << 6 | k << 12, i | k << 6 | j << 12)
        for n, (i, j, k) in enumerate(_START)
    ]
    zero = jnp.int32(0)
    return _Polytope(
        room(VERTICES, corners.point), room(VERTICES, corners.on_a),
        room(VERTICES, corners.features),
        room(_FACES, jnp.stack([n for n, _ in planes])),
        jnp.full(_FACES, _huge(dtype)).at[:4].set(jnp.stack([o for _, o in planes])),
        room(_FACES, jnp.stack(packed).astype(jnp.int32)),
        lanes.empty((_FACES,), jnp.int32), zero, zero + 4,
        jnp.zeros(VERTICES, jnp.int32), zero,
        jnp.zeros(3, dtype), zero, zero, _huge(dtype), jnp.asarray(False),
    )  # fmt: skip


def _nearest(state: _Polytope, vertices: Array) -> _Polytope:
    """The state with its nearest face found."""

    def look(i: jax.Array, best: tuple) -> tuple:
        offset = rolled.at(state.offsets, i)
        nearer = offset < best[0]
        return jnp.where(nearer, offset, best[0]), jnp.where(nearer, i, best[1])

    none = _huge(state.offsets.dtype), jnp.int32(0)
    best = lanes.fori_loop(0, 2 * vertices - 4, look, none)[1]
    return state._replace(best=best)


def _expanded(
    support: Difference, state: _Polytope, v: Array, inside: _Inside, tolerance: Array
) -> _Polytope:
    """With vertex number v, unless the nearest face is one of the set itself."""
    state = _nearest(state, v)
    normal, offset = state.normals[state.best], state.offsets[state.best]
    new = support(normal)
    reach = dot(normal, new.point)
    # What lies in the face's plane to rounding cannot be told from its corners.
    done = reach - offset < tolerance
    lower = reach < state.reach + tolerance  # of equals the last: it is the smallest
    keep = lambda new, old: jnp.where(lower, new, old)
    state = state._replace(
        points=rolled.put(state.points, v, new.point),
        on_a=rolled.put(state.on_a, v, new.on_a),
        features=rolled.put(state.features, v, new.features),
        done=done,
        normal=keep(normal, state.normal),
        corner=keep(state.corners[state.best], state.corner),
        last=keep(v, state.last),
        reach=keep(reach, state.reach),
    )
    add = lambda s: _filled(_opened(s, v, new.point, inside.least), v, new.point, inside)
    return lax.cond(done, lambda s: s, add, state)


def _rounding(corners: Support) -> jax.Array:
    largest = jnp.maximum(jnp.abs(corners.point).max(), jnp.abs(corners.on_a).max())
    return 32 * float(np.finfo(largest.dtype).eps) * largest


def _opened(state: _Polytope, v: Array, point: Array, least: Array) -> _Polytope:
    """Without the faces that see the new vertex; the edges of the hole are those of one of them.

    A face that lies in a plane with the vertex does not: else rounding would tear several holes.
    """
    best = state.best
    nearest = _unpacked(state.corners[best])

    def look(i: jax.Array, seen: tuple) -> tuple:
        normal, offset = rolled.at(state.normals, i), rolled.at(state.offsets, i)
        sees = (dot(normal, point) > offset + least) & (i != best)
        # Written in any case: the next one overwrites a face that does not count.
        return seen[0].at[seen[1]].set(i, mode="promise_in_bounds"), seen[1] + sees

    def remove(k: jax.Array, carry: tuple) -> tuple:
        state, beside = carry
        corners = _unpacked(state.corners[seen[k]])
        common = sum((a == b).astype(jnp.int32) for a in corners for b in nearest)
        return _removed(state, seen[k]), beside | (common > 1)

    # A list first, for every world sees others: the k-th of them is removed in all at once.
    none = lanes.empty((_FACES + 1,), jnp.int32), jnp.int32(0)
    seen, count = lanes.fori_loop(0, 2 * v - 4, look, none)
    state, beside = rolled.loop_while(_FACES, count, remove, (state, jnp.asarray(False)))
    # The nearest face sees it too. If none of its neighbours does, but others do, it is a splinter
    # that rounding has turned: it stays, without a plane.
    alone = ~beside & (state.hole != 0).any()
    hide = lambda s: s._replace(offsets=s.offsets.at[best].set(_huge(point.dtype)))
    return lax.cond(alone, hide, lambda s: _removed(s, best), state)


def _removed(state: _Polytope, i: Array) -> _Polytope:
    corners = _unpacked(state.corners[i])
    hole = state.hole
    for k in range(3):
        after, before = corners[(k + 1) % 3], corners[(k + 2) % 3]
        hole = hole.at[corners[k]].add(_code(after) - _code(before))
    return state._replace(
        hole=hole,
        offsets=state.offsets.at[i].set(_huge(state.offsets.dtype)),
        free=state.free.at[state.n_free].set(i),
        n_free=state.n_free + 1,
    )


# The faces around a vertex of the hole add up the codes of the corners behind it less those of the
# corners before it. What lies between two of these faces cancels; what is left is the code of the
# next vertex around the hole less that of the last one: a difference and a difference of squares.
_HIGH = 1 << 14


def _code(vertex: jax.Array) -> jax.Array:
    return vertex * _HIGH + vertex * vertex


def _step(left: jax.Array) -> jax.Array:
    """From the last vertex to the next one."""
    return (left + _HIGH // 2) >> 14


def _last(left: jax.Array) -> jax.Array:
    step = _step(left)
    squares = (left - step * _HIGH).astype(jnp.float32)  # exact, and so is the quotient: a sum
    total = squares / jnp.where(step == 0, 1, step).astype(jnp.float32)
    return (total.astype(jnp.int32) - step) // 2


def _unpacked(packed: jax.Array) -> list[jax.Array]:
    return [packed >> shift & 63 for shift in (0, 6, 12)]


def _filled(state: _Polytope, v: Array, point: Array, inside: _Inside) -> _Polytope:
    """With the faces from the hole's edges to the new vertex."""

    def look(a: jax.Array, found: tuple) -> tuple:
        edge = rolled.at(state.hole, a) != 0
        return jnp.where(edge, a, found[0]), found[1] + edge.astype(jnp.int32)

    start, count = lanes.fori_loop(0, v, look, (jnp.int32(0), jnp.int32(0)))

    def join(_: jax.Array, walk: tuple) -> tuple:
        state, last, a = walk
        b = jnp.clip(last + _step(state.hole[a]), 0, VERTICES - 1)
        normal, offset = _plane(state.points[a], state.points[b], point, inside)
        again = state.n_free > 0
        place = jnp.where(again, state.free[jnp.maximum(state.n_free - 1, 0)], state.n_faces)
        state = state._replace(
            hole=state.hole.at[a].set(0),
            normals=state.normals.at[place].set(normal, mode="drop"),
            offsets=state.offsets.at[place].set(offset, mode="drop"),
            corners=state.corners.at[place].set(a | b << 6 | v << 12, mode="drop"),
            n_free=state.n_free - again,
            n_faces=state.n_faces + ~again,
        )
        return state, a, b

    walk = state, _last(state.hole[start]), start
    state, _, end = rolled.loop_while(VERTICES, count, join, walk)
    # Several holes, torn by rounding: this is as far as it goes.
    return state._replace(done=end != start)


def _under_the_origin(state: _Polytope, least: Array) -> _Polytope:
    """With that face, of all in the plane of the nearest one, in which the foot of the origin lies:
    where sides of both shapes lie on each other there are many, and only in that one is what
    belongs to the foot a mean of touching points."""
    parallel = 1 - 64 * float(np.finfo(state.reach.dtype).eps)

    def least_share(corner: Array) -> jax.Array:
        p = state.points[jnp.stack(_unpacked(corner))] - state.normal * state.reach
        return _shares(state, p).min()

    def look(i: jax.Array, best: tuple) -> tuple:
        there = jnp.abs(rolled.at(state.offsets, i) - state.reach) <= least
        there &= dot(rolled.at(state.normals, i), state.normal) > parallel
        return lax.cond(there, compare, lambda i, best: best, i, best)

    def compare(i: jax.Array, best: tuple) -> tuple:
        corner = rolled.at(state.corners, i)
        share = least_share(corner)
        better = share > best[0]
        return jnp.where(better, share, best[0]), jnp.where(better, corner, best[1])

    def search(best: tuple) -> tuple:
        return rolled.loop_while(_FACES, state.n_faces, look, best)

    own = least_share(state.corner), state.corner
    best = lax.cond(own[0] < -1e-6, search, lambda best: best, own)
    return state._replace(corner=best[1])


def _shares(state: _Polytope, p: Array) -> jax.Array:
    """Weights (3,) in the foot of the origin of the first three corners, p (n, 3) from it; -inf of
    a face that has no extent."""
    areas = jnp.stack([dot(state.normal, _cross(p[i], p[j])) for i, j in ((1, 2), (2, 0), (0, 1))])
    whole = areas.sum()
    return jnp.where(whole > 0, areas / jnp.where(whole > 0, whole, 1), -jnp.inf)


def _answer(state: _Polytope, sharp: bool) -> Deepest:
    """Where the set ends, as a mean of the face's corners.

    Of a set without curves that may lie outside the face, on another part of the same side; else
    it is then the nearest mean of the corners and of the last vertex.
    """
    face = jnp.stack(_unpacked(state.corner))
    corners = jnp.concatenate([face, state.last[None]])
    p = state.points[corners] - state.normal * state.reach
    shares = _shares(state, p)
    inside = (shares > -jnp.inf).all() & (sharp | (shares.min() > -1e-6))
    own = jnp.append(jnp.where(inside, shares, 0), 0)
    weights = lax.cond(inside, lambda _: own, lambda _: simplex_weights(p), None)
    on_a = dot(weights, state.on_a[corners])
    return Deepest(state.reach, state.normal, on_a, state.features[face])
