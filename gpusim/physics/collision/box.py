"""Boxes against spheres and against each other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.shapes import FAR, Shape, Touch, one, unit
from gpusim.physics.linalg import Array, contract, cross, dot, matvec, rowdot

_EDGE_BIAS = 1e-6  # an edge must be so much better than the best face, relative to itself


def sphere_box(a: Shape, b: Shape) -> Touch:
    """The sphere's centre and the point of the box nearest to it; inside, the nearest face."""
    centre = contract(b.mat, a.pos - b.pos, 1, 1, batch=1)
    return sphere_at(a, b, centre)


def sphere_at(a: Shape, b: Shape, centre: Array) -> Touch:
    """A sphere of a's radius around a point (n, 3) in the axes of box b."""
    radius, half = a.size[:, 0], b.size
    nearest = jnp.clip(centre, -half, half)
    way, length = unit(nearest - centre)
    inside = (length <= 1e-15)[:, None]
    # Of two faces as near, the first of -x, +x, -y, ...: as C searches them.
    gaps = jnp.stack([half + centre, half - centre], 2).reshape(-1, 6)
    face = jnp.argmin(gaps, 1)[:, None]
    depth = jnp.min(gaps, 1)
    ways = np.array([[s if i == k else 0 for i in range(3)] for k in range(3) for s in (1, -1)])
    inward = sum(
        (jnp.where(face == k, 1, 0) * w for k, w in enumerate(ways.astype(centre.dtype))),
        jnp.zeros_like(centre),
    )
    within = centre + inward * (0.5 * (radius - depth))[:, None]
    outside = 0.5 * (nearest + centre + way * radius[:, None])
    normal = jnp.where(inside, inward, way)
    dist = jnp.where(inside[:, 0], -depth, length) - radius
    point = b.pos + matvec(b.mat, jnp.where(inside, within, outside))
    return one(dist, point, matvec(b.mat, normal))


# ---------------------------------------------------------------------------------- box against box


class _Frames(NamedTuple):
    """Two boxes as they lie to each other."""

    rot: jax.Array  # (3, 3) axes of the second in the first, as columns
    away: jax.Array  # (3,) centre of the second in the first
    back: jax.Array  # (3,) centre of the first in the second
    size: jax.Array  # (3,) half sizes of the first
    other: jax.Array  # (3,) and of the second


def box_box(a: Shape, b: Shape) -> Touch:
    """The axis of greatest separation among 15; then the clipped face, or two edges, that touch.

    After mjc_BoxBox: a face has up to 8 points, the corners of what the incident face and the
    reference face have in common; an edge has one. Of one pair of boxes.
    """
    (p, q), (m, n) = (a.pos[0], b.pos[0]), (a.mat[0], b.mat[0])
    f = _Frames(dot(m.T, n), dot(m.T, q - p), dot(n.T, p - q), a.size[0], b.size[0])
    faces, edges, axes = _separations(f)
    best, k = faces.max(), jnp.argmax(faces)
    edge_best, e = _best_edge(edges, best)
    axis = dot(_one_hot(e, 9, axes.dtype), axes)  # of the first box
    is_edge = (e >= 0) & ~_same_as_face(f, axis, k, edge_best, best)
    dist, mid, normal = _edge_contact(f, axis, e)
    first = _face_contact(f, k)
    other = _Frames(f.rot.T, f.back, f.away, f.other, f.size)
    second = _face_contact(other, k - 3)
    of_first = k < 3
    world = lambda at, mat, pos: pos + dot(at, mat.T)
    points = jnp.where(of_first, world(first[1], m, p), world(second[1], n, q))
    face_normal = jnp.where(of_first, dot(m, first[2]), -dot(n, second[2]))
    dists = jnp.where(of_first, first[0], second[0])
    alone = np.arange(12) == 0
    dists = jnp.where(is_edge, jnp.where(alone, dist, FAR), dists)
    points = jnp.where(is_edge & alone[:, None], world(mid, m, p), points)
    normal = jnp.where(is_edge, dot(m, normal), face_normal)
    # A pair apart along any axis has no contact, wherever its faces would touch.
    gap = jnp.maximum(best, edges.max())
    dists = jnp.where(gap > 0, jnp.maximum(dists, gap), dists)
    return Touch(dists[None], points[None], jnp.broadcast_to(normal, (1, 12, 3)))


def _one_hot(k: Array, n: int, dtype) -> jax.Array:
    return (k == np.arange(n)).astype(dtype)


def _separations(f: _Frames) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Along the 6 face normals and the 9 products of edges, and those axes (9, 3) in the first."""
    spread = jnp.abs(f.rot)
    first = jnp.abs(f.away) - f.size - dot(spread, f.other)
    second = jnp.abs(f.back) - f.other - dot(f.size, spread)
    columns = f.rot.T  # edges of the second box
    eye = np.eye(3, dtype=f.rot.dtype)
    i, j = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    across = cross(jnp.asarray(eye[i]), columns[j])
    length2 = rowdot(across, across)
    flat = length2 < (1e-16 if f.rot.dtype == np.float64 else 1e-7)
    axes = across * lax.rsqrt(jnp.where(flat, 1, length2))[:, None]
    reach = dot(jnp.abs(axes), f.size) + dot(jnp.abs(dot(axes, f.rot)), f.other)
    edges = jnp.abs(dot(axes, f.away)) - reach
    return jnp.concatenate([first, second]), jnp.where(flat, -FAR, edges), axes


def _best_edge(edges: Array, face: Array) -> tuple[jax.Array, jax.Array]:
    """The best edge pair and its number; -1 if the best face is as good."""
    best, found = face, jnp.asarray(-1)
    for k in range(9):
        better = (edges[k] - _EDGE_BIAS * jnp.abs(edges[k]) > best) & (edges[k] > face)
        best, found = jnp.where(better, edges[k], best), jnp.where(better, k, found)
    return best, found


def _same_as_face(f: _Frames, axis: Array, k: Array, edge: Array, face: Array) -> jax.Array:
    """Whether an edge axis nearly is the best face's normal and hardly better: the face has more
    points."""
    on_first = dot(_one_hot(k, 3, axis.dtype), axis)
    on_second = dot(_one_hot(k - 3, 3, axis.dtype), dot(axis, f.rot))
    along = jnp.abs(jnp.where(k < 3, on_first, on_second))
    return (along > 0.99) & (edge < face + 0.05 * jnp.abs(face) + 1e-15)


def _edge_contact(f: _Frames, axis: Array, e: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Distance, point and normal, in the first box, of the nearest points of two edges.

    Where the axis lies in a face both of its edges support it: the nearer pair counts.
    """
    dtype = axis.dtype
    axis = jnp.where(dot(axis, f.away) < 0, -axis, axis)
    i, j = e // 3, e % 3
    along_i, along_j = _one_hot(i, 3, dtype), _one_hot(j, 3, dtype)
    turned = dot(axis, f.rot)
    unsure = 1e-9 if dtype == np.float64 else 1e-5
    sign = lambda v: jnp.where(v >= 0, 1, -1).astype(dtype)
    flips_1 = _doubtful(axis, i, unsure)
    flips_2 = _doubtful(turned, j, unsure)
    d2 = dot(f.rot, along_j)
    b = dot(along_i, d2)
    denominator = 1 - b * b
    half_1, half_2 = dot(along_i, f.size), dot(along_j, f.other)
    best = jnp.asarray(FAR**2, dtype)
    w1 = w2 = jnp.zeros(3, dtype)
    for flip_1 in (0, 1):
        for flip_2 in (0, 1):
            c1 = sign(axis) * f.size * (1 - along_i) * (1 - 2 * flip_1 * flips_1)
            cc = -sign(turned) * f.other * (1 - along_j) * (1 - 2 * flip_2 * flips_2)
            c2 = dot(f.rot, cc) + f.away
            gap = c2 - c1
            d1e, d2e = dot(along_i, gap), dot(d2, gap)
            flat = denominator < 1e-15
            s = jnp.where(flat, 0, (d1e - b * d2e) / jnp.where(flat, 1, denominator))
            s = jnp.clip(s, -half_1, half_1)
            t = jnp.clip(b * s - d2e, -half_2, half_2)
            s = jnp.clip(d1e + b * t, -half_1, half_1)
            p1, p2 = c1 + along_i * s, c2 + d2 * t
            apart2 = dot(p2 - p1, p2 - p1)
            nearer = apart2 < best
            best = jnp.where(nearer, apart2, best)
            w1, w2 = jnp.where(nearer, p1, w1), jnp.where(nearer, p2, w2)
    return dot(w2 - w1, axis), 0.5 * (w1 + w2), axis


def _doubtful(v: Array, k: Array, least: float) -> jax.Array:
    """(3,) 1 at the component after k, or else the one after that, that is nearly zero."""
    small = jnp.abs(v) < least
    after = [_one_hot((k + s) % 3, 3, v.dtype) for s in (1, 2)]
    first = (after[0] * small).sum() > 0
    return jnp.where(first, after[0], after[1] * small)


def _face_contact(f: _Frames, k: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Distances (12,), points (12, 3) and normal in the reference box, whose face k is touched.

    The corners of the common part of two parallelograms: of each edge of the incident face the part
    inside the reference face, and the corners of the reference face inside the incident one.
    """
    dtype = f.rot.dtype
    ax, ay, az = (_one_hot((k + s) % 3, 3, dtype) for s in (1, 2, 0))
    towards = jnp.where(dot(az, f.away) >= 0, 1, -1).astype(dtype)
    facing = dot(az, f.rot)  # the incident box's axes along the normal
    b = jnp.argmax(jnp.abs(facing))
    bz, bu, bv = (_one_hot((b + s) % 3, 3, dtype) for s in (0, 1, 2))
    opposed = jnp.where(towards * dot(facing, bz) > 0, -1, 1).astype(dtype)
    plane = jnp.stack([ax, ay, az * towards])
    into = lambda v: dot(plane, v)
    edge = lambda axis: into(dot(f.rot, axis)) * dot(axis, f.other)
    limits = dot(jnp.stack([ax, ay]), f.size)
    lift = np.array([0, 0, 1], dtype) * dot(az, f.size)
    centre = into(f.away) + opposed * edge(bz) - lift
    u, v = edge(bu), edge(bv)
    around = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype)
    corners = centre + around[:, :1] * u + around[:, 1:] * v
    sides = corners[np.array([1, 2, 3, 0])] - corners
    enter, leave = _clipped(corners[:, :2], sides[:, :2], limits)
    there = enter <= leave
    starts = corners + enter[:, None] * sides
    ends = corners + leave[:, None] * sides
    det = u[0] * v[1] - u[1] * v[0]
    rest = around * limits - centre[:2]
    safe = jnp.where(det == 0, 1, det)
    s = (rest[:, 0] * v[1] - rest[:, 1] * v[0]) / safe
    t = (u[0] * rest[:, 1] - u[1] * rest[:, 0]) / safe
    least = float(np.finfo(dtype).eps) ** 0.5  # corners and edges that coincide are one to rounding
    within = (jnp.abs(s) < 1 - least) & (jnp.abs(t) < 1 - least) & (det != 0)
    inner = centre + s[:, None] * u + t[:, None] * v
    points = jnp.concatenate([starts, ends, inner])
    # The end of an edge that is no corner of the incident face begins no other edge.
    valid = jnp.concatenate([there, there & (leave < 1 - least), within])
    height = points[:, 2]
    flat = points - (0.5 * height)[:, None] * np.array([0, 0, 1], dtype) + lift
    normal = az * towards
    return jnp.where(valid, height, FAR), dot(flat, plane), normal


def _clipped(start: Array, way: Array, limits: Array) -> tuple[jax.Array, jax.Array]:
    """The parts (4,) of segments inside a rectangle (Liang and Barsky).

    Those that lie along one of its sides to rounding do not cross it: where they would is noise.
    """
    least = float(np.finfo(start.dtype).eps) ** 0.5 * jnp.abs(way).max(1)
    enter, leave = jnp.zeros(4, start.dtype), jnp.ones(4, start.dtype)
    for axis in (0, 1):
        for sign in (1, -1):
            gap, speed = limits[axis] - sign * start[:, axis], sign * way[:, axis]
            along = jnp.abs(speed) <= least
            at = gap / jnp.where(along, 1, speed)
            enter = jnp.where(~along & (speed < 0), jnp.maximum(enter, at), enter)
            leave = jnp.where(~along & (speed > 0), jnp.minimum(leave, at), leave)
            leave = jnp.where(along & (gap < -least), -1, leave)
    return enter, leave
