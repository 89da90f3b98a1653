"""Any two convex shapes, by their support functions: distance by GJK, depth by EPA."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics.collision.epa import Deepest, deepest
from gpusim.physics.collision.features import ALIGNED, corners, normals, over_face
from gpusim.physics.collision.gjk import nearest
from gpusim.physics.collision.manifold import manifold, nothing
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
from gpusim.physics.collision.support import Difference, core, corner_of, difference, radius
from gpusim.physics.linalg import Array, cross, dot, rowdot

# Lengths in m. C has one of them, ccd_tolerance, by default 1e-6.
_TOUCHING = 1e-6  # cores nearer than this: how deep they lie in each other is asked for
_DEPTH = 1e-7  # to which that is known
_DISTANCE = 1e-8  # to which the nearest points of separate cores are known
_TRIPS = 35  # of GJK
_SECANTS = 6  # until an angle is known to rounding
_CROSSING = 1e-2  # rad: lines at a smaller angle lie beside each other
_BESIDE = 1e-6  # points that touch are no farther beside each other

# Pairs that touch at one point.
SINGLE = (
    (SPHERE, ELLIPSOID), (SPHERE, MESH), (CAPSULE, ELLIPSOID), (ELLIPSOID, ELLIPSOID),
    (ELLIPSOID, CYLINDER), (ELLIPSOID, BOX), (ELLIPSOID, MESH),
)  # fmt: skip

# Pairs that may touch along faces and edges, at up to four.
SEVERAL = (
    (CAPSULE, CYLINDER), (CAPSULE, MESH), (CYLINDER, CYLINDER), (CYLINDER, BOX), (CYLINDER, MESH),
    (BOX, MESH), (MESH, MESH),
)  # fmt: skip


def convex(kinds: tuple[int, int]) -> Callable[[Shape, Shape], Touch]:
    """The function for a pair of such shapes: one point, or four. Of one pair of shapes."""
    return lambda a, b: _touch(kinds, a, b)


def _touch(kinds: tuple[int, int], a: Shape, b: Shape) -> Touch:
    radius_a, radius_b = radius(kinds[0], a), radius(kinds[1], b)
    found = penetration(kinds, a, b, radius_a + radius_b + a.margin)
    dist = -(found.depth + radius_a + radius_b)
    if kinds in SEVERAL:
        several = lambda _: manifold(kinds, a, b, found, (radius_a, radius_b))
        none = nothing(dist.dtype)
        touches = dist < a.margin
        touch = lax.cond(lanes.any_world(touches), several, lambda _: none, None)
        return touch._replace(dist=jnp.where(touches, touch.dist, none.dist))
    middle = found.on_a + found.normal * (0.5 * (radius_a - radius_b - found.depth))
    return one(dist[None], middle[None], found.normal[None])


def penetration(kinds: tuple[int, int], a: Shape, b: Shape, reach: jax.Array) -> Deepest:
    """How far the cores of two shapes lie in each other; a negative depth is their distance,
    or something farther than `reach`."""
    between = a.pos[0] - b.pos[0]
    # Relative to b, so that rounding is that of their sizes.
    support = difference(kinds, a._replace(pos=between[None]), b._replace(pos=0 * b.pos))
    near = nearest(support, between, reach, _DISTANCE, _TRIPS)
    length = jnp.maximum(near.distance, 1e-30)
    used = jnp.where(near.weights > 0, jnp.arange(4), jnp.argmax(near.weights))
    order = jnp.argsort(near.weights <= 0, stable=True)[:3]
    apart = Deepest(
        -near.distance,
        -near.point / length,
        dot(near.weights, near.on_a),
        near.features[used[order]],
    )
    touching = ~near.apart | (near.distance < _TOUCHING)
    sharp = all(k in (HFIELD, SPHERE, CAPSULE, BOX, MESH) for k in kinds)
    tolerance = 16 * float(np.finfo(between.dtype).eps) if sharp else _DEPTH
    flat = HFIELD in kinds and bool({BOX, MESH, CYLINDER} & {*kinds})  # others have several points
    deep = lambda _: deepest(support, -between, tolerance, sharp, flat)
    found = lax.cond(touching, deep, lambda _: apart, None)
    if not sharp:
        moved = a._replace(pos=between[None]), b._replace(pos=0 * b.pos)
        found = _at_a_face(kinds, moved, support, found)
        if CYLINDER in kinds and not {HFIELD, ELLIPSOID, SPHERE} & {*kinds}:
            found = _at_a_side(kinds, moved, support, found)
        if kinds == (CYLINDER, CYLINDER):
            found = _at_a_rim(moved, support, found, 0)
            found = _at_a_rim(moved, support, found, 1)
    on_a = found.on_a + b.pos[0]
    if ELLIPSOID in kinds:  # curved everywhere: it touches where it reaches farthest
        normal = found.normal
        on_a = (
            core(ELLIPSOID, a, normal)[0] if kinds[0] == ELLIPSOID
            else core(ELLIPSOID, b, -normal)[0] + normal * found.depth
        )  # fmt: skip
    return found._replace(on_a=on_a)


def _at_a_face(
    kinds: tuple[int, int], shapes: tuple[Shape, Shape], support: Difference, found: Deepest
) -> Deepest:
    """Exactly at a flat face, where the search of a curved shape has ended beside that within its
    tolerance: depths along any direction are upper bounds, and this one is as small.

    Only where what touches the face, the other shape's farthest point, lies in it; on_a and the
    shapes are relative to the same point. Corners that rounding does not tell from the farthest
    one touch too, others of those at which the search has ended do not.
    """
    for k, (kind, shape) in enumerate(zip(kinds, shapes, strict=True)):
        if kind not in (HFIELD, CYLINDER, BOX, MESH):
            continue
        sign = -1 if k else 1
        normal, face = _face(kind, shape, found.features[:, k], sign * found.normal)
        normal = sign * normal
        new = support(normal)
        reach = dot(normal, new.point)
        rounding = 32 * float(np.finfo(reach.dtype).eps) * jnp.abs(new.point).max()
        better = (dot(normal, found.normal) > ALIGNED) & (reach <= found.depth + rounding)
        other = new.on_a if k else new.on_a - new.point
        better &= _over(kind, shape, face, other, rounding)
        features = _touching(kinds, shapes, 1 - k, found.features, new.features, normal, rounding)
        there = Deepest(reach, normal, other + (0 if k else normal * reach), features)
        found = jax.tree.map(lambda x, y, better=better: jnp.where(better, x, y), there, found)
    return found


def _at_a_side(
    kinds: tuple[int, int], shapes: tuple[Shape, Shape], support: Difference, found: Deepest
) -> Deepest:
    """Exactly where the side of a cylinder crosses an edge, or the side, of the other shape: along
    the normal of both lines, if the difference reaches no farther there than where the search has
    ended. on_a and the shapes are relative to the same point.
    """
    k = kinds.index(CYLINDER)
    axis, corner = shapes[k].mat[0][:, 2], found.features[:, 1 - k]
    lines, low, high = _lines(kinds[1 - k], shapes[1 - k], corner)
    normals = cross(jnp.broadcast_to(axis, lines.shape), lines)
    length2, along = rowdot(normals, normals), dot(normals, found.normal)
    crosses = length2 > _CROSSING * _CROSSING
    scale = jnp.where(along < 0, -1, 1) * lax.rsqrt(jnp.where(crosses, length2, 1))
    n = jnp.argmax(jnp.where(crosses, along * scale, -2))
    normal, line = normals[n] * scale[n], lines[n]
    new = support(normal)
    reach = dot(normal, new.point)
    rounding = 32 * float(np.finfo(reach.dtype).eps) * jnp.abs(new.point).max()
    on_a, on_b = new.on_a, new.on_a - new.point
    mine, other = (on_b, on_a) if k else (on_a, on_b)
    # How far along each from these points they cross, seen along the normal.
    s, t = (_triple(other - mine, way, normal) for way in (line, axis))
    across = _triple(axis, line, normal)
    across = jnp.where(jnp.abs(across) < 0.5 * _CROSSING, 1, across)
    mine, other = mine + axis * (s / across), other + line * (t / across)
    beyond = jnp.abs(dot(axis, mine - shapes[k].pos[0])) - jnp.asarray(shapes[k].size)[0, 1]
    beyond = jnp.maximum(beyond, jnp.maximum(low[n] - dot(line, other), dot(line, other) - high[n]))
    better = crosses[n] & (beyond <= rounding) & (reach <= found.depth + rounding)
    better &= dot(normal, found.normal) > ALIGNED
    if kinds[1 - k] == MESH:  # the farthest corner is one of the edge
        farthest = new.features[1 - k]
        better &= (farthest == corner[n]) | (farthest == corner[(n + 1) % 3])
    there = found._replace(depth=reach, normal=normal, on_a=other if k else mine)
    return jax.tree.map(lambda x, y: jnp.where(better, x, y), there, found)


def _at_a_rim(shapes: tuple[Shape, Shape], support: Difference, found: Deepest, k: int) -> Deepest:
    """Where the side of cylinder k touches the rim of the other one: of the directions across its
    axis the one along which the difference reaches least, by secants; likewise. If they have come
    to it: where a cap lies on the side, its rim's farthest point runs around with the direction.
    """
    side = shapes[k]
    axis = side.mat[0][:, 2]
    start = found.normal - axis * dot(axis, found.normal)
    start = start * lax.rsqrt(jnp.maximum(dot(start, start), 1e-30))
    ahead = cross(axis[None], start[None])[0]
    normal = lambda angle: jnp.cos(angle) * start + jnp.sin(angle) * ahead

    def slope(angle: jax.Array) -> jax.Array:
        n = normal(angle)
        return dot(support(n).point, cross(axis[None], n[None])[0])

    old, angle = jnp.zeros_like(start[0]), jnp.full_like(start[0], 1e-3)
    before = slope(old)
    for _ in range(_SECANTS):
        now = slope(angle)
        change = jnp.where(
            now == before, 0, now * (angle - old) / jnp.where(now == before, 1, now - before)
        )
        old, before, angle = angle, now, angle - jnp.clip(change, -0.1, 0.1)
    n = normal(angle)
    new = support(n)
    reach = dot(n, new.point)
    rounding = 32 * float(np.finfo(reach.dtype).eps) * jnp.abs(new.point).max()
    other = new.on_a if k else new.on_a - new.point  # the point of the rim
    beyond = jnp.abs(dot(axis, other - side.pos[0])) - jnp.asarray(side.size)[0, 1]
    beside = jnp.abs(dot(new.point, cross(axis[None], n[None])[0]))
    better = (beyond <= rounding) & (beside < _BESIDE) & (reach < found.depth)
    better &= dot(n, found.normal) > ALIGNED
    there = found._replace(depth=reach, normal=n, on_a=other if k else other + n * reach)
    return jax.tree.map(lambda x, y: jnp.where(better, x, y), there, found)


def _triple(a: Array, b: Array, c: Array) -> jax.Array:
    return dot(cross(a[None], b[None])[0], c)


def _lines(kind: int, shape: Shape, corner: Array) -> tuple[Array, Array, Array]:
    """Straight lines of a shape at which it may be crossed: unit vectors (n, 3), and where along
    themselves they begin and end (n,). Of a mesh those between three of its corners."""
    pos, mat, size = shape.pos[0], jnp.asarray(shape.mat[0]), jnp.asarray(shape.size[0])
    if kind in (CAPSULE, CYLINDER):
        line, half, middle = mat[:, 2][None], size[1:2], pos[None]
    elif kind == BOX:
        line, half, middle = mat.T, size, jnp.broadcast_to(pos, (3, 3))
    else:
        first = jnp.stack([corner_of(kind, shape, c) for c in corner])
        second = first[np.array([1, 2, 0])]
        length2 = rowdot(second - first, second - first)
        line = (second - first) * lax.rsqrt(jnp.maximum(length2, 1e-30))[:, None]
        half, middle = 0.5 * jnp.sqrt(length2), 0.5 * (first + second)
    at = rowdot(line, middle)
    return line, at - half, at + half


def _touching(kinds, shapes, k: int, old: Array, new: Array, normal: Array, rounding: Array):
    """Corners (3, 2) with those of shape k that lie lower than its farthest one replaced by it."""
    if kinds[k] not in (BOX, MESH):
        return old
    out = normal if k == 0 else -normal
    height = lambda corner: dot(out, corner_of(kinds[k], shapes[k], corner))
    lower = jnp.stack([height(c) for c in old[:, k]]) < height(new[k]) - rounding
    return old.at[:, k].set(jnp.where(lower, new[k], old[:, k]))


def _face(kind: int, shape: Shape, features: jax.Array, out: jax.Array) -> tuple[Array, Array]:
    """The normal (3,) of the face of a shape, of those at some corners, that looks most along
    `out`, and its number; -1 where corners amid a face of a mesh have none."""
    mat = shape.mat[0]
    if kind == HFIELD:  # the prism's upper side
        p, q, r = jnp.asarray(shape.corners)[3:]
        up = cross((q - p)[None], (r - p)[None])[0]
        return dot(mat, up * (jnp.sign(up[2]) * lax.rsqrt(dot(up, up)))), jnp.int32(0)
    if kind == MESH:
        faces = normals(kind, shape, corners(features), out)
        there = np.arange(faces.normal.shape[0]) < faces.count
        k = jnp.argmax(jnp.where(there, dot(faces.normal, out), -2))
        some = faces.count > 0
        return jnp.where(some, faces.normal[k], out), jnp.where(some, faces.face[k], -1)
    local = dot(out, mat)
    axis = jnp.int32(2) if kind == CYLINDER else jnp.argmax(jnp.abs(local)).astype(jnp.int32)
    side = jnp.where(np.arange(3) == axis, jnp.where(local < 0, -1, 1), 0)
    return dot(mat, side.astype(out.dtype)), axis


def _over(kind: int, shape: Shape, face: Array, point: Array, rounding: Array) -> jax.Array:
    """() whether a point (3,) lies over a face of a shape, and not beside it."""
    size = jnp.asarray(shape.size[0])
    local = dot(point - shape.pos[0], shape.mat[0])
    if kind == CYLINDER:
        reach = size[0] + rounding
        return local[0] * local[0] + local[1] * local[1] <= reach * reach
    if kind == BOX:
        return ((jnp.abs(local) <= size + rounding) | (np.arange(3) == face)).all()
    if kind == HFIELD:
        p = jnp.asarray(shape.corners)[3:, :2]
        edge, to = p[np.array([1, 2, 0])] - p, local[:2] - p
        side = edge[:, 0] * to[:, 1] - edge[:, 1] * to[:, 0]
        room = rounding * jnp.abs(edge).max()
        return (side >= -room).all() | (side <= room).all()
    assert shape.hull is not None
    return over_face(shape.hull, face, local, rounding) & (face >= 0)
