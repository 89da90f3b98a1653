"""Convex hulls of meshes: tables that loops read, and the vertex farthest in a direction."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.collision import cells
from gpusim.physics.collision.cells import Cells
from gpusim.physics.linalg import Array, dot

_SMALL = 256  # vertices: fewer are tried faster than looked up


class Hulls(NamedTuple):
    """Hulls of several meshes, one after the other.

    A corner is a vertex as part of a face; the corners of a vertex are neighbours here.
    """

    vertices: np.ndarray  # (v, 3) m, in the axes of the mesh's geom
    # (v, 2) where a vertex's corners begin and end. Of some nothing is between: MuJoCo joins faces
    # that are nearly in a plane, and vertices amid such a face stick out of it a little.
    corners: np.ndarray
    normals: np.ndarray  # (c, 3) of a corner's face, outwards
    spread: (
        np.ndarray
    )  # (c, 3) further vertices of the face: with this one the widest four; -1: none
    rings: np.ndarray  # (r,) the vertices of all faces, each the way round that C goes
    ring: np.ndarray  # (c, 2) where that of the corner's face begins and ends
    before: np.ndarray  # (c,) the one before this in the mesh's order


class Hull(NamedTuple):
    """The one of them that a geom has."""

    tables: Hulls
    start: Array  # () its first vertex
    stop: Array  # ()
    cells: Cells | None  # of all hulls; None: they are so small that all vertices are tried
    cell: Array  # () the first of its cells
    fineness: Array  # () how many of them lie along an edge of the cube


def hulls(m: mujoco.MjModel, meshes: Sequence[int], dtype) -> list[Hull]:
    """Of meshes, in this order."""
    parts = [_hull(m, mesh) for mesh in meshes]
    sizes = [len(p.vertices) for p in parts]
    vertices = np.cumsum([0, *sizes])
    table, places = None, np.zeros((len(parts), 2), np.int32)
    if max(sizes) > _SMALL:
        table, places = cells.cells([p.vertices for p in parts], dtype)
    corners = np.cumsum([0, *(len(p.normals) for p in parts)])
    rings = np.cumsum([0, *(len(p.rings) for p in parts)])
    as_int = lambda x: np.concatenate(x).astype(np.int32)
    later = lambda xs: as_int(
        [np.where(x < 0, -1, x + k) for x, k in zip(xs, vertices, strict=False)]
    )
    joined = Hulls(
        np.concatenate([p.vertices for p in parts]).astype(dtype),
        as_int([p.corners + k for p, k in zip(parts, corners, strict=False)]),
        np.concatenate([p.normals for p in parts]).astype(dtype),
        later([p.spread for p in parts]),
        later([p.rings for p in parts]),
        as_int([p.ring + k for p, k in zip(parts, rings, strict=False)]),
        later([p.before for p in parts]),
    )
    ends = zip(vertices.astype(np.int32), vertices[1:].astype(np.int32), places, strict=False)
    return [Hull(joined, start, stop, table, *place) for start, stop, place in ends]


def _hull(m: mujoco.MjModel, mesh: int) -> Hulls:
    """The hull of one mesh, from the faces that MuJoCo's compiler found."""
    start, count = int(m.mesh_vertadr[mesh]), int(m.mesh_vertnum[mesh])
    every = np.array(m.mesh_vert[start : start + count], np.float64)
    first = int(m.mesh_polyadr[mesh])
    points, polyvert = every.tolist(), m.mesh_polyvert.tolist()
    used = _vertices(m, mesh)
    place = np.full(count, -1)
    place[used] = np.arange(len(used))
    normals, spread, corners, ring, before = [], [], [], [], []
    rings: dict[int, np.ndarray] = {}  # by face
    ends: dict[int, tuple[int, int]] = {}
    length = 0
    for v in used.tolist():
        begin = int(m.mesh_polymapadr[start + v])
        faces = m.mesh_polymap[begin : begin + int(m.mesh_polymapnum[start + v])]
        for face in faces:
            at = int(m.mesh_polyvertadr[first + face])
            around = polyvert[at : at + int(m.mesh_polyvertnum[first + face])]
            turned = around[around.index(v) :] + around[: around.index(v)]
            normals.append(m.mesh_polynormal[first + face])
            chosen = [place[turned[k]] for k in _widest([points[k] for k in turned])]
            spread.append([*chosen, -1][:3])
            if face not in rings:
                rings[face], ends[face] = place[around[::-1]], (length, length + len(around))
                length += len(around)
            ring.append(ends[face])
            before.append(place[turned[-1]])
        corners.append((len(normals) - len(faces), len(normals)))
    return Hulls(
        every[used],
        np.array(corners),
        np.array(normals),
        np.array(spread),
        np.concatenate([*rings.values()]),
        np.array(ring),
        np.array(before),
    )


def _vertices(m: mujoco.MjModel, mesh: int) -> np.ndarray:
    """The numbers of the hull's vertices among the mesh's own, ascending."""
    start, graph = int(m.mesh_vertadr[mesh]), int(m.mesh_graphadr[mesh])
    on_faces = np.flatnonzero(m.mesh_polymapnum[start : start + int(m.mesh_vertnum[mesh])])
    if graph < 0:
        return on_faces
    count = int(m.mesh_graph[graph])  # then as many of faces, and as many places of edges
    first = graph + 2 + count
    return np.union1d(on_faces, m.mesh_graph[first : first + count])


def _widest(polygon: list[list[float]]) -> tuple[int, ...]:
    """Corners of a polygon that, with its first one, are a wide quadrilateral.

    As C's hull4f finds them: each moves on while that makes it wider.
    """
    n = len(polygon)
    if n <= 4:
        return tuple(range(1, n))

    def area(b: int, c: int, d: int) -> float:
        p, q, r, s = polygon[0], polygon[b % n], polygon[c % n], polygon[d % n]
        x, y, z = (i - j for i, j in zip(p, r, strict=True))
        u, v, w = (i - j for i, j in zip(q, s, strict=True))
        across = y * w - z * v, z * u - x * w, x * v - y * u
        return math.sqrt(sum(c * c for c in across))

    here = [1, 2, 3]

    def moved(k: int) -> bool:
        there = [x + (i == k) for i, x in enumerate(here)]
        if wider := area(*there) > area(*here):
            here[:] = there
        return wider

    while moved(2):
        while moved(1):
            pass
        while moved(0):
            pass
    return tuple(k % n for k in here)


def farthest(hull: Hull, direction: Array) -> tuple[jax.Array, jax.Array]:
    """The vertex farthest in a direction (3,) of the geom's axes, of equals the first: its number
    and the point.
    """
    direction = jnp.asarray(direction)
    if hull.cells is not None:
        return cells.farthest(hull.cells, hull.cell, hull.fineness, direction)
    points = jnp.asarray(hull.tables.vertices)

    def trip(k: Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        height = dot(rolled.at(points, k), direction)
        better = height > best[0]
        return jnp.where(better, height, best[0]), jnp.where(better, k, best[1])

    none = jnp.asarray(-np.inf, direction.dtype), jnp.asarray(hull.start, jnp.int32)
    found = lanes.fori_loop(hull.start, hull.stop, trip, none)[1]
    return found, points[found]


def facing(hull: Hull, vertex: Array, direction: Array) -> jax.Array:
    """The number of the corner at a vertex whose face looks most in a direction (3,)."""
    start, stop = jnp.asarray(hull.tables.corners)[vertex]
    normals = jnp.asarray(hull.tables.normals)

    def trip(state: tuple) -> tuple:
        k, best, found = state
        height = dot(normals[k], direction)
        better = height > best
        return k + 1, jnp.where(better, height, best), jnp.where(better, k, found)

    none = start, jnp.asarray(-np.inf, direction.dtype), start
    return jax.lax.while_loop(lambda s: s[0] < stop, trip, none)[2]
