"""Faces and edges of shapes: those that belong to the corners at which two shapes touch.

After MuJoCo's multiccd. Lists have a fixed length and a count.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.collision.hulls import Hull, Hulls
from gpusim.physics.collision.shapes import BOX, CAPSULE, CYLINDER, MESH, Shape
from gpusim.physics.linalg import Array, cross, dot, rowdot

ALIGNED, ACROSS = float(np.cos(0.0889)), float(np.sin(0.0889))  # two directions are so, within 5°
_RIM = np.arange(16) * np.pi / 8  # a cap counts as a polygon of 16
# The faces of a box, +x, -x, +y, ...: the sides on which their corners are.
_BOX = np.array([
    [[1, 1, 1], [1, 1, -1], [1, -1, -1], [1, -1, 1]],
    [[-1, 1, -1], [-1, 1, 1], [-1, -1, 1], [-1, -1, -1]],
    [[-1, 1, -1], [1, 1, -1], [1, 1, 1], [-1, 1, 1]],
    [[-1, -1, 1], [1, -1, 1], [1, -1, -1], [-1, -1, -1]],
    [[-1, 1, 1], [1, 1, 1], [1, -1, 1], [-1, -1, 1]],
    [[1, 1, -1], [-1, 1, -1], [-1, -1, -1], [1, -1, -1]],
])  # fmt: skip


class Corners(NamedTuple):
    """Up to three corners of a shape."""

    first: jax.Array  # () numbers
    second: jax.Array
    third: jax.Array
    dim: jax.Array  # () how many of them differ: 1, 2 or 3


class Normals(NamedTuple):
    """Faces at corners."""

    normal: jax.Array  # (d, 3) in the world's axes, outwards
    face: jax.Array  # (d,) their numbers
    count: jax.Array  # ()


class Edges(NamedTuple):
    """Edges at a corner."""

    way: jax.Array  # (d, 3) unit vectors in the world's axes
    start: jax.Array  # (3,)
    end: jax.Array  # (d, 3)
    count: jax.Array  # ()


class Polygon(NamedTuple):
    """A face."""

    points: jax.Array  # (d, 3) in the world's axes
    count: jax.Array  # ()


def corners(features: jax.Array) -> Corners:
    """Of three numbers, with the equal ones behind."""
    a, b, c = features
    same = a == b
    second = jnp.where(same, c, b)
    dim = jnp.where(same, jnp.where(a == c, 1, 2), jnp.where((c == a) | (c == b), 2, 3))
    return Corners(a, second, c, dim)


def normals(kind: int, shape: Shape, at: Corners, outwards: jax.Array) -> Normals:
    """Of all faces that have these corners; outwards: (3,) of the contact, away from the shape."""
    if kind == BOX:
        return _box_normals(shape, at, outwards)
    if kind == MESH:
        return _mesh_normals(shape, at)
    axis = shape.mat[0][:, 2]
    flat = (at.dim == 1) & (kind == CYLINDER)
    up = jnp.where(at.first == 0, 1, -1).astype(axis.dtype)
    return Normals((axis * up)[None], at.first[None], flat.astype(jnp.int32))


def _box_normals(shape: Shape, at: Corners, outwards: jax.Array) -> Normals:
    """Those on whose side all corners are; if there are none, the one the contact is normal to."""
    mat, bits = shape.mat[0], np.array([1, 2, 4], np.int32)
    sides = [(c & bits) > 0 for c in (at.first, at.second, at.third)]
    common = (sides[0] == sides[1]) & ((at.dim < 3) | (sides[0] == sides[2]))
    local = dot(outwards, mat)
    straight = jnp.abs(local) > ALIGNED
    none = ~common.any()
    there = jnp.where(none, straight, common)
    positive = jnp.where(none, local > 0, sides[0])
    signs = jnp.where(positive, 1, -1).astype(mat.dtype)
    order = jnp.argsort(~there, stable=True)
    faces = 2 * jnp.arange(3, dtype=jnp.int32) + ~positive
    return Normals((mat.T * signs[:, None])[order], faces[order], there.sum().astype(jnp.int32))


def _mesh_normals(shape: Shape, at: Corners) -> Normals:
    assert shape.hull is not None
    t, mat = shape.hull.tables, shape.mat[0]
    most = int(np.diff(t.corners).max())
    ends = jnp.asarray(t.corners)
    start, stop = ends[at.first]
    all_normals, faces = jnp.asarray(t.normals), jnp.asarray(t.ring)[:, 0]
    second = ends[jnp.where(at.dim > 1, at.second, at.first)]
    third = ends[jnp.where(at.dim > 2, at.third, at.first)]

    def has(corner: Array, others: Array) -> jax.Array:
        """Whether a corner's face has one of these corners too."""
        face, count = faces[corner], others[1] - others[0]
        look = lambda k, found: found | (faces[others[0] + k] == face)
        return rolled.loop_while(most, count, look, jnp.asarray(False))

    def trip(k: Array, out: Normals) -> Normals:
        corner = jnp.minimum(start + k, stop - 1)
        mine = has(corner, second) & has(corner, third)
        place = jnp.where(mine, out.count, most)
        return Normals(
            out.normal.at[place].set(dot(mat, all_normals[corner]), mode="drop"),
            out.face.at[place].set(corner, mode="drop"),
            out.count + mine,
        )

    none = Normals(lanes.empty((most, 3), mat.dtype), lanes.empty((most,), jnp.int32), jnp.int32(0))
    return rolled.loop_while(most, stop - start, trip, none)


def edges(kind: int, shape: Shape, at: Corners, witness: jax.Array) -> Edges:
    """Of up to two corners; witness: (3,) the shape's point of contact."""
    pos, mat, size = shape.pos[0], shape.mat[0], jnp.asarray(shape.size[0])
    one = jnp.int32(1)
    if kind == CAPSULE:
        axis = mat[:, 2]
        middle = witness - axis * dot(witness - pos, axis)
        return Edges(axis[None], middle - axis * size[1], (middle + axis * size[1])[None], one)
    if kind == CYLINDER:
        down = jnp.where(at.first == 0, -1, 1).astype(mat.dtype)
        local = dot(witness - pos, mat)
        out = size[0] * lax.rsqrt(jnp.maximum(local[0] * local[0] + local[1] * local[1], 1e-30))
        rim = jnp.stack([local[0] * out, local[1] * out, -down * size[1]])
        start, way = pos + dot(mat, rim), mat[:, 2] * down
        return Edges(way[None], start, (start + way * (2 * size[1]))[None], one)
    if kind == BOX:
        bits = np.array([1, 2, 4], np.int32)
        place = lambda c: jnp.where((c & bits) > 0, 1, -1).astype(mat.dtype) * size
        start = pos + dot(mat, place(at.first))
        ends = jnp.stack([place(at.first ^ int(b)) for b in bits])
        ends = jnp.where(at.dim == 2, place(at.second), ends)
        ends = pos + dot(ends, mat.T)
        return Edges(_ways(ends - start), start, ends, jnp.where(at.dim == 2, 1, 3))
    assert shape.hull is not None
    t = shape.hull.tables
    vertices, before = jnp.asarray(t.vertices), jnp.asarray(t.before)
    most = int(np.diff(t.corners).max())
    first, stop = jnp.asarray(t.corners)[at.first]
    place = lambda v: pos + dot(mat, vertices[v])
    start = place(at.first)

    def trip(k: Array, ends: jax.Array) -> jax.Array:
        other = jnp.where(at.dim == 2, at.second, before[jnp.minimum(first + k, stop - 1)])
        return rolled.put(ends, k, place(other))

    count = jnp.where(at.dim == 2, 1, stop - first)
    ends = rolled.loop_while(most, count, trip, lanes.empty((most, 3), mat.dtype))
    return Edges(_ways(ends - start), start, ends, count)


def _ways(v: jax.Array) -> jax.Array:
    return v * lax.rsqrt(jnp.maximum(rowdot(v, v), 1e-30))[:, None]


def polygon(kind: int, shape: Shape, face: Array) -> Polygon:
    """A face by its number."""
    pos, mat, size = shape.pos[0], shape.mat[0], jnp.asarray(shape.size[0])
    if kind == BOX:
        return Polygon(pos + dot(jnp.asarray(_BOX)[face] * size, mat.T), jnp.int32(4))
    if kind == CYLINDER:
        up = jnp.where(face == 0, 1, -1).astype(mat.dtype)
        cos, sin = np.cos(_RIM).astype(mat.dtype), np.sin(_RIM).astype(mat.dtype)
        rim = jnp.stack([cos * size[0], -sin * (size[0] * up), up * size[1] * (0 * cos + 1)], 1)
        return Polygon(pos + dot(rim, mat.T), jnp.int32(16))
    assert shape.hull is not None
    t = shape.hull.tables
    vertices, most = jnp.asarray(t.vertices), _longest(t)
    start, stop = jnp.asarray(t.ring)[face]

    def trip(k: Array, points: jax.Array) -> jax.Array:
        return rolled.put(points, k, pos + dot(mat, vertices[_of_ring(t, face, k)]))

    none = lanes.empty((most, 3), mat.dtype)
    return Polygon(rolled.loop_while(most, stop - start, trip, none), stop - start)


def _longest(t: Hulls) -> int:
    """How many vertices a face has at most."""
    return int(np.diff(t.ring).max())


def _of_ring(t: Hulls, corner: Array, k: Array) -> jax.Array:
    """Vertex k of a corner's face; of those there are not, the last."""
    start, stop = jnp.asarray(t.ring)[corner]
    return jnp.asarray(t.rings)[jnp.minimum(start + k, stop - 1)]


def over_face(hull: Hull, corner: Array, point: Array, room: Array) -> jax.Array:
    """() whether a point (3,) in the geom's axes lies over a corner's face, and not beside it."""
    t, inside = hull.tables, jnp.asarray(True)
    start, stop = jnp.asarray(t.ring)[corner]
    vertices, normal = jnp.asarray(t.vertices), jnp.asarray(t.normals)[corner]

    def trip(k: Array, inside: jax.Array) -> jax.Array:
        a = vertices[_of_ring(t, corner, k)]
        b = vertices[_of_ring(t, corner, jnp.where(k + 1 < stop - start, k + 1, 0))]
        side = cross((b - a)[None], normal[None])[0]  # inwards: rings go around against normals
        return inside & (dot(point - a, side) >= -room * jnp.sqrt(dot(side, side)))

    return rolled.loop_while(_longest(t), stop - start, trip, inside)
