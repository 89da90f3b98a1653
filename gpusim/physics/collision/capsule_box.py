"""A capsule against a box: spheres at the nearest point of its segment and, where it lies along a
face or an edge, at a second one.

After mjraw_CapsuleBox, in the axes of the box and of one pair; places on the segment and on edges
run from -1 to 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.collision.box import sphere_at
from gpusim.physics.collision.shapes import FAR, Shape, Touch
from gpusim.physics.linalg import Array, dot

_LEAST = 1e-15
_EDGES = [(j, i) for j in range(3) for i in range(8) if not i & 1 << j]  # axis, corner it starts at


class _Nearest(NamedTuple):
    """The part of the box nearest to the segment."""

    distance2: jax.Array
    at: jax.Array  # place on the segment
    on_edge: jax.Array  # place on the edge
    corner: jax.Array  # its bits say on which side of each axis it is
    edge: jax.Array  # axis of the edge; -1: a face, or the inside, at an end of the segment
    face: jax.Array  # axis of the face, -1: inside
    inner: jax.Array  # bool: the middle of the edge, rather than a corner


def capsule_box(a: Shape, b: Shape) -> Touch:
    """Up to two points."""
    pos = dot(b.mat[0].T, a.pos[0] - b.pos[0])
    axis = dot(b.mat[0].T, a.axis[0])
    half, size = axis * a.size[0, 1], b.size[0]
    near = _nearest(pos, half, a.size[0, 1], size)
    second = _second(near, pos, axis, half, size)
    touch = sphere_at(a, b, (pos + half * near.at)[None])
    there = second > -FAR
    at = near.at + jnp.where(there, second, 0)
    other = sphere_at(a, b, (pos + half * at)[None])
    both = lambda x, y: jnp.concatenate([x, y], 1)
    return Touch(
        both(touch.dist, jnp.where(there, other.dist, FAR)),
        both(touch.point, other.point),
        both(touch.normal, other.normal),
    )


def _nearest(pos: Array, half: Array, length: Array, size: Array) -> _Nearest:
    none = jnp.asarray(0)
    zero = jnp.zeros((), pos.dtype)
    best = _Nearest(jnp.asarray(FAR, pos.dtype), zero, zero, none, none - 1, none - 1, none > 0)
    for end in (-1, 1):
        point = pos + half * end
        out = jnp.abs(point) > size
        gap = jnp.clip(point, -size, size) - point
        face = jnp.max(jnp.where(out, np.arange(3), -1))
        found = best._replace(distance2=dot(gap, gap), at=zero + end, face=face)
        better = (out.sum() < 2) & (found.distance2 < best.distance2)
        best = _choose(better, found, best)
    for axis, corner in _EDGES:
        found = _edge(pos, half, length, size, axis, corner)
        best = _choose(found.distance2 < best.distance2 - _LEAST, found, best)
    return best


def _choose(condition: Array, a: _Nearest, b: _Nearest) -> _Nearest:
    return _Nearest(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))


def _edge(pos: Array, half: Array, length: Array, size: Array, j: int, corner: int) -> _Nearest:
    """Nearest places on an edge and on the segment."""
    signs = np.array([(1 if corner >> k & 1 else -1) * (k != j) for k in range(3)], pos.dtype)
    middle = size * signs
    gap = middle - pos
    ma, mb, mc = size[j] * size[j], -size[j] * half[j], length * length
    u, v = -size[j] * gap[j], dot(half, gap)
    det = ma * mc - mb * mb
    parallel = jnp.abs(det) < _LEAST
    inverse = 1 / jnp.where(parallel, 1, det)
    free = (mc * u - mb * v) * inverse
    x = jnp.clip(free, -1, 1)
    y = jnp.where(jnp.abs(free) > 1, (v - mb * x) / mc, (ma * v - mb * u) * inverse)
    clipped = jnp.clip(y, -1, 1)
    again = jnp.where(jnp.abs(y) > 1, (u - mb * clipped) / ma, x)
    # Which end it is, is not forgotten where the place on the edge moves inwards again.
    end = jnp.where(jnp.abs(again) > 1, again, free)
    x = jnp.clip(again, -1, 1)
    away = gap - half * clipped + np.eye(3, dtype=pos.dtype)[j] * size[j] * x
    upper = jnp.where(end > 1, 1 << j, 0)
    return _Nearest(
        distance2=jnp.where(parallel, FAR, dot(away, away)),
        at=clipped,
        on_edge=x,
        corner=corner + upper,
        edge=jnp.asarray(j),
        face=jnp.asarray(-1),
        inner=jnp.abs(end) <= 1,
    )


def _second(near: _Nearest, pos: Array, axis: Array, half: Array, size: Array) -> jax.Array:
    """How far along the segment the second point is from the first; -FAR: there is none.

    It may be the first point again, which C counts twice, too.
    """
    bits = np.array([1, 2, 4])
    direction = jnp.where(half > 0, bits, 0).sum()
    reach = jnp.where(half == 0, FAR, 2 * size / jnp.abs(jnp.where(half == 0, 1, half)))
    by_corner = _from_corner(near, direction ^ near.corner, axis, reach)
    by_edge = _from_edge(near, direction, axis, reach)
    by_face = _from_face(near, pos, half, size)
    return jnp.where(near.edge < 0, by_face, jnp.where(near.inner, by_edge, by_corner))


def _from_corner(near: _Nearest, turn: Array, axis: Array, reach: Array) -> jax.Array:
    """Along the edge or face that the segment lies along, unless it points at the corner."""
    forward = (turn == 1) | (turn == 2) | (turn == 4)
    way = jnp.where(forward, 1, -1).astype(axis.dtype)
    bit = jnp.where(forward, turn, 7 - turn)
    along = (bit == np.array([1, 2, 4])).astype(axis.dtype)
    ahead, behind = 1 - way * near.at, 1 + way * near.at
    edge = jnp.minimum(ahead, dot(along, reach)) * way
    face = jnp.minimum(behind, jnp.min(jnp.where(along > 0, FAR, reach))) * -way
    found = jnp.where(dot(along, axis) ** 2 > 0.5, edge, face)
    return jnp.where((turn == 0) | (turn == 7), -FAR, found)


def _from_edge(near: _Nearest, direction: Array, axis: Array, reach: Array) -> jax.Array:
    """Across the face that the segment is less inclined to, if it crosses the edge slantwise."""
    bits = np.array([1, 2, 4])
    on = (near.edge == np.arange(3)).astype(axis.dtype)
    turn = (direction ^ near.corner) & (7 - (on * bits).sum().astype(direction.dtype))
    crossing = (turn == 1) | (turn == 2) | (turn == 4)
    after = [(near.edge + s) % 3 == np.arange(3) for s in (1, 2)]
    size_of = lambda which: jnp.abs((axis * which).sum())
    first = size_of(after[0]) > size_of(after[1])
    across = jnp.where(first, after[0], after[1])
    up = (jnp.where(across, turn & bits, 0).sum()) > 0
    way = jnp.where(up, 1, -1).astype(axis.dtype)
    length = jnp.minimum(1 - way * near.at, jnp.where(across, reach, 0).sum())
    same = ((jnp.where(on > 0, direction & bits, 0).sum()) > 0) == up
    left = jnp.where(same, 1 - near.on_edge, 1 + near.on_edge)
    length = jnp.minimum(length, 0.5 * dot(on, reach) * left)
    return jnp.where(crossing, length * way, -FAR)


def _from_face(near: _Nearest, pos: Array, half: Array, size: Array) -> jax.Array:
    """From the end that is over a face to where the segment leaves it."""
    way = -near.at
    end = pos - half * way
    flat = half == 0
    beside = (near.face != np.arange(3)) & ~flat
    length = jnp.asarray(2, pos.dtype)
    for sign in (1, -1):
        leaves = (sign * size - end) / jnp.where(flat, 1, half) * way
        length = jnp.minimum(length, jnp.min(jnp.where(beside & (leaves > 0), leaves, FAR)))
    return jnp.where(near.face < 0, -FAR, length * way)
