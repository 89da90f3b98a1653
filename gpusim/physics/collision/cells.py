"""Directions in cells, and the few vertices of a hull that can be the farthest in each.

The six sides of a cube around a hull are cut into n by n squares: a direction leaves through one of
them. What lies behind another vertex for the square's four corners does so for all of its
directions, which are sums of these. What is left is a handful of vertices, however many there are.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim import lanes
from gpusim.physics.linalg import Array, dot

_FEW = 6.0  # vertices a cell, on average: with no more, cells are not made smaller
_FINEST = 16  # cells along an edge of the cube, at most
# Of the hull's size, what heights must differ by to tell vertices apart: more than rounding makes
# of a height in float32, or of the cell that a direction falls into.
_TELL = 1e-5


class Cells(NamedTuple):
    """Of several hulls, one after the other."""

    bounds: np.ndarray  # (c + 1,) where the vertices of a cell begin; they end at the next one's
    vertices: np.ndarray  # (k,) their numbers, ascending
    points: np.ndarray  # (k, 3) m, where these are


def cells(hulls: Sequence[np.ndarray], dtype) -> tuple[Cells, np.ndarray]:
    """Cells of hulls (v, 3); and of each its first cell and n, (h, 2)."""
    bounds, numbers, points, places = [np.zeros(1, int)], [], [], []
    first = vertex = 0
    for hull in hulls:
        n, lists = _cut(np.asarray(hull, np.float64).tobytes())
        places.append((first, n))
        found = np.concatenate(lists)
        bounds.append(bounds[-1][-1] + np.cumsum([len(one) for one in lists]))
        numbers.append(found + vertex)
        points.append(hull[found])
        first, vertex = first + len(lists), vertex + len(hull)
    table = Cells(
        np.concatenate(bounds).astype(np.int32),
        np.concatenate(numbers).astype(np.int32),
        np.concatenate(points).astype(dtype),
    )
    return table, np.array(places, np.int32)


@functools.lru_cache(maxsize=256)  # of the meshes of a model: it is traced several times
def _cut(vertices: bytes) -> tuple[int, list[np.ndarray]]:
    """How many cells lie along an edge of the cube, and the vertices of each cell."""
    hull = np.frombuffer(vertices).reshape(-1, 3)
    n, tell = 1, _TELL * float(np.abs(hull).max())
    whole = np.arange(len(hull))
    lists = [_ahead(hull, whole, ways, tell) for ways in _corners(1).reshape(6, 4, 3)]
    while np.mean([len(one) for one in lists]) > _FEW and n < _FINEST:
        corners = _corners(2 * n)
        fine = np.arange(2 * n)
        above = (np.arange(6)[:, None, None] * n + fine[:, None] // 2) * n + fine // 2
        n *= 2
        lists = [
            _ahead(hull, lists[cell], ways, tell)
            for cell, ways in zip(above.reshape(-1), corners.reshape(-1, 4, 3), strict=True)
        ]
    return n, lists


def _ahead(hull: np.ndarray, some: np.ndarray, ways: np.ndarray, tell: float) -> np.ndarray:
    """Those of some vertices that are not behind one of the farthest ones for all four ways."""
    heights = hull[some] @ ways.T
    farthest = heights[heights.argmax(0)]
    behind = ((farthest[None] - heights[:, None]).min(2) > tell).max(1)
    return some[~behind]


def _corners(n: int) -> np.ndarray:
    """(6, n, n, 4, 3) unit vectors to the corners of each cell, in the order of `_cell`."""
    edge = np.linspace(-1, 1, n + 1)
    ends = np.stack([edge[:-1], edge[1:]], 1)
    shape = (n, n, 2, 2)
    u, v = (
        np.broadcast_to(ends[:, None, :, None], shape),
        np.broadcast_to(ends[None, :, None, :], shape),
    )
    sides = []
    for axis in range(3):
        for sign in (1, -1):
            way = np.insert(np.stack([u, v], -1), axis, sign, axis=-1)
            sides.append(way.reshape(n, n, 4, 3))
    ways = np.stack(sides)
    return ways / np.linalg.norm(ways, axis=-1, keepdims=True)


def _cell(direction: Array, n: Array) -> jax.Array:
    """() the number of the cell of a direction (3,)."""
    x, y, z = direction
    a, b, c = jnp.abs(direction)
    by_x, by_y = (a >= b) & (a >= c), b >= c
    along = jnp.where(by_x, x, jnp.where(by_y, y, z))
    u, v = jnp.where(by_x, y, x), jnp.where(by_x | by_y, z, y)
    side = 2 * jnp.where(by_x, 0, jnp.where(by_y, 1, 2)) + (along < 0)
    scale = 0.5 * n / jnp.maximum(jnp.abs(along), np.finfo(along.dtype).tiny)
    place = lambda w: jnp.clip((w * scale + 0.5 * n).astype(jnp.int32), 0, n - 1)
    return (side * n + place(u)) * n + place(v)


def farthest(table: Cells, first: Array, n: Array, direction: jax.Array):
    """The vertex of a hull farthest in a direction (3,), of equals the first: number and point."""
    direction = jnp.asarray(direction)
    cell = first + _cell(direction, n)
    bounds, points = jnp.asarray(table.bounds), jnp.asarray(table.points)
    start, stop = bounds[cell], bounds[cell + 1]

    def trip(state: tuple) -> tuple:
        k, best, found = state
        place = jnp.minimum(start + k, stop - 1)  # worlds with fewer see their last one again
        height = dot(points[place], direction)
        better = height > best
        return k + 1, jnp.where(better, height, best), jnp.where(better, place, found)

    none = jnp.int32(0), jnp.asarray(-np.inf, direction.dtype), start
    more = lambda state: lanes.any_world(start + state[0] < stop)
    found = jax.lax.while_loop(more, trip, none)[2]
    return jnp.asarray(table.vertices)[found], points[found]
