"""Height fields: every cell under a shape is two prisms, and each of them is a convex shape.

After mjc_ConvexHField, in the axes of the field.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics.collision.convex import penetration
from gpusim.physics.collision.shapes import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    HFIELD,
    MESH,
    SPHERE,
    Shape,
    Touch,
    one,
)  # fmt: skip
from gpusim.physics.collision.support import core, radius
from gpusim.physics.linalg import Array, dot

T = TypeVar("T")

KINDS = [(HFIELD, k) for k in (SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH)]
POINTS = 50  # of a pair at most: mjMAXCONPAIR


class Field(NamedTuple):
    """One height field of the tables of all."""

    heights: np.ndarray  # (h,) m above the geom's plane, of all fields, row by row
    start: Array  # () where this one's begin
    rows: Array  # ()
    columns: Array  # ()
    size: Array  # (4,) m: half its extents, its height, and how far it goes down


def fields(m: mujoco.MjModel, used: Sequence[int], dtype) -> Field:
    """The tables of some height fields; the numbers of each in front (n, ...)."""
    parts = []
    for k in used:
        first, count = int(m.hfield_adr[k]), int(m.hfield_nrow[k] * m.hfield_ncol[k])
        parts.append(np.asarray(m.hfield_data[first : first + count]) * m.hfield_size[k, 2])
    start = np.cumsum([0, *(len(p) for p in parts)])[:-1].astype(np.int32)
    rows, columns = (np.asarray(x)[list(used)] for x in (m.hfield_nrow, m.hfield_ncol))
    size = np.asarray(m.hfield_size)[list(used)].astype(dtype)
    heights = np.concatenate(parts).astype(dtype)
    return Field(heights, start, rows.astype(np.int32), columns.astype(np.int32), size)


def search(
    field: Field,
    kind: int,
    a: Shape,
    b: Shape,
    near: Array,
    add: Callable[[T, Touch, Array], T],
    found: T,
) -> T:
    """add(found, touch, reaches) for every prism of field a that shape b of a kind, if it is near,
    reaches in this world or in one beside it.
    """
    mat = a.mat[0]
    there = dot(b.pos[0] - a.pos[0], mat)
    local = b._replace(pos=there[None], mat=dot(mat.T, b.mat[0])[None])
    low, high = _box(kind, local)
    low, high = low - a.margin, high + a.margin
    cells = jnp.stack([field.columns, field.rows]) - 1
    extent = jnp.asarray(field.size)[:2]
    per_cell = 2 * extent / cells
    first = jnp.maximum(jnp.floor((low[:2] + extent) / per_cell).astype(jnp.int32), 0)
    last = jnp.minimum(jnp.ceil((high[:2] + extent) / per_cell).astype(jnp.int32), cells)
    width, depth = last[0] - first[0], last[1] - first[1]
    over = near & (low[2] <= field.size[2]) & (high[2] >= -field.size[3])
    count = jnp.where(over & (width > 0) & (depth > 0), 2 * width * depth, 0)

    def trip(state: tuple) -> tuple:
        k, found = state
        cell, second = k // 2, k % 2 == 1
        at = first + jnp.stack([cell % jnp.maximum(width, 1), cell // jnp.maximum(width, 1)])
        prism = _prism(field, at, second, per_cell)
        reaches = (k < count) & (prism[3:, 2].max() >= low[2])
        touch = lambda found: add(found, _touch(kind, prism, local, a), reaches)
        return k + 1, lax.cond(lanes.any_world(reaches), touch, lambda found: found, found)

    some = lambda s: lanes.any_world(s[0] < count)
    return lax.while_loop(some, trip, (jnp.int32(0), found))[1]


def _box(kind: int, shape: Shape) -> tuple[jax.Array, jax.Array]:
    """The corners (3,) of a box around a shape."""
    reach = radius(kind, shape)
    eye = np.eye(3, dtype=shape.pos.dtype)
    least = [core(kind, shape, jnp.asarray(-eye[k]))[0][k] - reach for k in range(3)]
    most = [core(kind, shape, jnp.asarray(eye[k]))[0][k] + reach for k in range(3)]
    return jnp.stack(least), jnp.stack(most)


def _prism(field: Field, at: Array, second: Array, cell: Array) -> jax.Array:
    """(6, 3) corners: three below, and the same three above, of one half of a cell.

    The diagonal runs from the cell's first corner to its last one in C's sense: the first half has
    the corners (column, row) = (0, 1), (0, 0), (1, 1), the second (0, 0), (1, 1), (1, 0).
    """
    halves = np.array([[[0, 1], [0, 0], [1, 1]], [[0, 0], [1, 1], [1, 0]]], np.int32)
    places = at + jnp.where(second, halves[1], halves[0])
    heights = jnp.asarray(field.heights)
    top = heights[field.start + places[:, 1] * field.columns + places[:, 0]]
    flat = places.astype(cell.dtype) * cell - jnp.asarray(field.size)[:2]
    bottom = jnp.broadcast_to(-jnp.asarray(field.size)[3], (3,))
    sides = lambda z: lax.concatenate([flat, z[:, None]], 1)
    return lax.concatenate([sides(bottom), sides(top)], 0)


def _touch(kind: int, prism: Array, local: Shape, a: Shape) -> Touch:
    """Of one prism and the shape, both in the field's axes; the point it gives in the world's."""
    middle = prism.mean(0)
    eye = jnp.asarray(np.eye(3, dtype=prism.dtype))
    solid = Shape(middle[None], eye[None], local.size, corners=prism - middle)
    around = radius(kind, local)
    found = penetration((HFIELD, kind), solid, local, around + a.margin)
    normal = dot(a.mat[0], found.normal)
    point = found.on_a - found.normal * (0.5 * (around + found.depth))
    return one(
        -(found.depth + around)[None],
        (a.pos[0] + dot(a.mat[0], point))[None],
        normal[None],
    )
