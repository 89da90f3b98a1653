"""Several points for shapes that touch along faces or edges, by the corners GJK or EPA end at.

After MuJoCo's single-shot multiccd of version 4: a face on a face, or an edge on a face, within 5
degrees; else the one point stays.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics import rolled
from gpusim.physics.collision.clip import clipped, ends, widest
from gpusim.physics.collision.epa import Deepest
from gpusim.physics.collision.features import (
    ACROSS,
    ALIGNED,
    Corners,
    Edges,
    Normals,
    Polygon,
    corners,
    edges,
    normals,
    polygon,
)  # fmt: skip
from gpusim.physics.collision.shapes import CAPSULE, FAR, Shape, Touch
from gpusim.physics.linalg import Array, dot

_POINTS = 4


class _Side(NamedTuple):
    """What one of the shapes has where they touch."""

    kind: int
    shape: Shape
    at: Corners
    out: jax.Array  # (3,) the contact's normal, away from it
    inflation: Array  # () m: half the margin, unless the witness has it already
    faces: Normals
    edges: Edges


def manifold(
    kinds: tuple[int, int], a: Shape, b: Shape, found: Deepest, radii: tuple[Array, Array]
) -> Touch:
    """Up to four points of one pair of shapes, of which EPA or GJK have found the nearest."""
    n, half = found.normal, 0.5 * a.margin
    margin = jnp.asarray(a.margin, n.dtype)
    on_b = found.on_a - n * found.depth
    witness = (found.on_a + n * (radii[0] + half), on_b - n * (radii[1] + half))
    # Edges of cylinders are found from the point itself.
    start = lambda k, out: witness[k] if kinds[k] == CAPSULE else witness[k] - out * half
    first = _side(kinds[0], a, found.features[:, 0], n, start(0, n), half)
    second = _side(kinds[1], b, found.features[:, 1], -n, start(1, -n), half)
    dist = -(found.depth + radii[0] + radii[1])
    middle = 0.5 * (witness[0] + witness[1])
    alone = np.arange(_POINTS) == 0
    single = (
        jnp.where(alone, dist, jnp.asarray(FAR, n.dtype)),
        jnp.broadcast_to(middle, (_POINTS, 3)),
        n,
    )
    i, j, faces = _facing(first, second)
    edge_a, face_b, lies_a = _across(first.edges, second.faces, n)
    edge_b, face_a, lies_b = _across(second.edges, first.faces, -n)
    lies_a &= ~faces & (first.at.dim < 3)
    lies_b &= ~faces & ~lies_a & (second.at.dim < 3)
    # C takes a face too that looks against the contact's normal by rounding alone, as the far end
    # of a rod on a disc may: then the shapes lie much deeper in each other along the face's normal.
    against = lambda face, out: dot(face, out) < -ACROSS
    lies_a &= against(second.faces.normal[face_b], n)
    lies_b &= against(first.faces.normal[face_a], -n)
    result, round_a, round_b = single, kinds[0] == CAPSULE, kinds[1] == CAPSULE
    cases = (
        (round_a or round_b, faces, lambda s: _face_on_face(first, second, i, j, s, margin)),
        (round_b, lies_a, lambda s: _edge_on_face(first, second, edge_a, face_b, s, margin)),
        (round_a, lies_b, lambda s: _edge_on_face(second, first, edge_b, face_a, s, margin)),
    )
    for never, hit, points in cases:
        if not never:
            result = lax.cond(hit, points, lambda s: s, result)
    dist, point, normal = result
    flip = jnp.where(dot(normal, n) < 0, -1, 1).astype(n.dtype)
    return Touch(dist[None], point[None], jnp.broadcast_to(normal * flip, (1, _POINTS, 3)))


def nothing(dtype) -> Touch:
    """Of a pair that does not touch."""
    zero = jnp.zeros((1, _POINTS, 3), dtype)
    return Touch(jnp.full((1, _POINTS), FAR, dtype), zero, zero)


def _side(kind: int, shape: Shape, features, out, witness, half) -> _Side:
    at = corners(features)
    return _Side(
        kind, shape, at, out, 0 * half if kind == CAPSULE else half,
        normals(kind, shape, at, out), edges(kind, shape, at, witness),
    )  # fmt: skip


def _facing(a: _Side, b: _Side) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The two faces that look at each other most, and whether they do."""

    def outer(i: Array, best: tuple) -> tuple:
        one = rolled.at(a.faces.normal, i)

        def inner(j: Array, best: tuple) -> tuple:
            two = rolled.at(b.faces.normal, j)
            value = dot(one, two)
            better = (dot(one, a.out) > ACROSS) & (dot(two, b.out) > ACROSS) & (value < best[0])
            return tuple(jnp.where(better, x, y) for x, y in zip((value, i, j), best, strict=True))

        return rolled.loop_while(b.faces.normal.shape[0], b.faces.count, inner, best)

    none = jnp.asarray(-ALIGNED, a.out.dtype), jnp.int32(0), jnp.int32(0)
    best = rolled.loop_while(a.faces.normal.shape[0], a.faces.count, outer, none)
    return best[1], best[2], best[0] < -ALIGNED


def _across(lines: Edges, faces: Normals, out: jax.Array) -> tuple[jax.Array, ...]:
    """The first face that looks against `out` and edge that lies along it, and whether there is."""

    def outer(i: Array, best: tuple) -> tuple:
        normal = rolled.at(faces.normal, i)
        looks = dot(normal, out) < -1e-15

        def inner(j: Array, best: tuple) -> tuple:
            lies = looks & (jnp.abs(dot(rolled.at(lines.way, j), normal)) < ACROSS) & ~best[2]
            return jnp.where(lies, j, best[0]), jnp.where(lies, i, best[1]), best[2] | lies

        return rolled.loop_while(lines.way.shape[0], lines.count, inner, best)

    none = jnp.int32(0), jnp.int32(0), jnp.asarray(False)
    return rolled.loop_while(faces.normal.shape[0], faces.count, outer, none)


def _face_on_face(a: _Side, b: _Side, i: Array, j: Array, single: tuple, margin: Array):
    face = polygon(a.kind, a.shape, a.faces.face[i])
    other = polygon(b.kind, b.shape, b.faces.face[j])
    normal, way = a.faces.normal[i], b.faces.normal[j]
    inflation = a.inflation + b.inflation
    part = widest(clipped(face, other, normal, inflation))
    return _points(part, face, normal, way, (a.inflation, b.inflation), single, margin)


def _edge_on_face(line: _Side, side: _Side, e: Array, f: Array, single: tuple, margin: Array):
    face = polygon(side.kind, side.shape, side.faces.face[f])
    normal = side.faces.normal[f]
    edge = Polygon(jnp.stack([line.edges.start, line.edges.end[e]]), jnp.int32(2))
    part = clipped(face, edge, normal, line.inflation + side.inflation)
    part = ends(part, line.edges.way[e])
    return _points(part, face, normal, -normal, (side.inflation, line.inflation), single, margin)


def _points(
    part: Polygon, face: Polygon, normal: Array, way: Array, inflation: tuple, single: tuple, margin
):
    """Distances (4,), points (4, 3) and normal (3,); the single point if there is no part.

    Each point of the part lies opposite one on the face; their distance is along `way`.
    """
    height = dot(part.points[:4] - face.points[0], normal)
    on_face = part.points[:4] - height[:, None] * normal
    dist = dot(on_face - part.points[:4], way)
    opposite = on_face - dist[:, None] * way
    on_face = on_face - inflation[0] * way
    opposite = opposite + inflation[1] * way
    there = np.arange(_POINTS) < part.count
    dist = dist - inflation[0] - inflation[1] + margin
    some = part.count > 0
    found = jnp.where(there, dist, FAR), 0.5 * (on_face + opposite), -way
    return jax.tree.map(lambda x, y: jnp.where(some, x, y), found, single)
