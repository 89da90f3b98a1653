"""Where robots touch: spheres and capsules against planes and against each other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision_pairs import ContactPoint
from gpusim.physics.kinematics import Pose, positions
from gpusim.physics.linalg import Array, cross, matvec, pick, rowdot
from gpusim.physics.model import Model


class Contacts(NamedTuple):
    """Points that may touch, n of them; those with dist beyond the margin do not act."""

    dist: jax.Array  # (n,) m, negative inside
    point: jax.Array  # (n, 3) between the surfaces, relative to the second body's reference
    frame: jax.Array  # (n, 3, 3) rows: normal from the first geom to the second, two tangents


def collide(model: Model, pose: Pose) -> Contacts:
    """Every contact point of the model's list (model.topology.contacts), touching or not."""
    planes = [p for p in model.topology.contacts if p.on_plane]
    others = [p for p in model.topology.contacts if not p.on_plane]
    found = [_on_planes(model, pose, planes)] if planes else []
    found += [_between(model, pose, others)] if others else []
    if not found:
        dtype = pose.offset.dtype
        return Contacts(jnp.zeros(0, dtype), jnp.zeros((0, 3), dtype), jnp.zeros((0, 3, 3), dtype))
    return Contacts(*(lax.concatenate(parts, 0) for parts in zip(*found, strict=True)))


class _Segments(NamedTuple):
    """Spheres (of half length zero) and capsules."""

    bodies: list[int]
    centre: jax.Array  # (n, 3) relative to the body's reference
    axis: jax.Array  # (n, 3)
    half: Array  # (n,) half length
    radius: Array  # (n,)


def _segments(model: Model, pose: Pose, geoms: list[int]) -> _Segments:
    bodies = [model.topology.geom_body[g] for g in geoms]
    capsule = model.geom_is_capsule[geoms]  # a constant: half lengths of spheres are exact zeros
    size = pick(model.geom_size, geoms)
    return _Segments(
        bodies=bodies,
        centre=positions(model, pose, bodies, model.geom_pos[geoms]),
        axis=matvec(pick(pose.xmat, bodies), model.geom_mat[geoms][:, :, 2]),
        half=size[:, 1] * capsule,
        radius=size[:, 0],
    )


# ------------------------------------------------------------------------------------ on planes


def _on_planes(model: Model, pose: Pose, points: list[ContactPoint]) -> Contacts:
    planes = [p.first for p in points]
    segment = _segments(model, pose, [p.second for p in points])
    ends = np.array([p.end for p in points], pose.offset.dtype)
    normal = model.geom_mat[planes][:, :, 2]
    centre = segment.centre + segment.axis * (segment.half * ends)[:, None]
    above = centre + (pick(pose.reference, segment.bodies) - model.geom_pos[planes])
    dist = rowdot(above, normal) - segment.radius
    point = centre - normal * (segment.radius + 0.5 * dist)[:, None]
    at_end = (ends * ends)[:, None]
    upright = _tangent(normal)
    first = upright * (1 - at_end) + _along(normal, segment.axis) * at_end
    return Contacts(dist, point, _frame(normal, first))


def _along(normal: Array, axis: jax.Array) -> jax.Array:
    """Capsules' axes projected onto their planes, normalised; the x axis where one stands upright.

    The pyramid of friction forces is not round: the tangents must be MuJoCo's.
    """
    flat = axis - normal * rowdot(axis, normal)[:, None]
    return _normalize(flat, least=float(jnp.finfo(axis.dtype).eps))[0]


# --------------------------------------------------------------------------------- between bodies


def _between(model: Model, pose: Pose, points: list[ContactPoint]) -> Contacts:
    """Spheres around the nearest points of two segments. (Parallel capsules touch at one point.)"""
    a = _segments(model, pose, [p.first for p in points])
    b = _segments(model, pose, [p.second for p in points])
    root = np.array(model.topology.root)
    apart = (root[a.bodies] != root[b.bodies]).astype(pose.offset.dtype)[:, None]
    shift = (pick(pose.reference, a.bodies) - pick(pose.reference, b.bodies)) * apart
    on_a, on_b = nearest_points(a.centre + shift, a.axis, a.half, b.centre, b.axis, b.half)
    normal, distance = _normalize(on_b - on_a, least=float(jnp.finfo(on_a.dtype).tiny) ** 0.5)
    dist = distance[:, 0] - a.radius - b.radius
    point = on_a + normal * (a.radius + 0.5 * dist)[:, None]
    return Contacts(dist, point, _frame(normal, _tangent(normal)))


def nearest_points(
    p: jax.Array, u: jax.Array, half_u: Array, q: jax.Array, v: jax.Array, half_v: Array
) -> tuple[jax.Array, jax.Array]:
    """Nearest points (n, 3) of segments around centres p and q, along unit axes u and v.

    The points are p + x u and q + y v. Minimising over the lines gives x; clipping it, then taking
    the best y for that x and the best x for that y, clipped too, ends at the optimum of the
    segments, because the distance is convex in (x, y).
    """
    apart = p - q
    cosine = rowdot(u, v)
    along_u, along_v = -rowdot(u, apart), rowdot(v, apart)
    least = float(jnp.finfo(p.dtype).eps)
    clip = lambda x, half: jnp.minimum(jnp.maximum(x, -half), half) * (half > 0)
    x = clip((along_u + cosine * along_v) / jnp.maximum(1 - cosine * cosine, least), half_u)
    y = clip(along_v + cosine * x, half_v)
    x = clip(along_u + cosine * y, half_u)
    return p + u * x[:, None], q + v * y[:, None]


# ----------------------------------------------------------------------------------------- frames


def _frame(normal: Array, tangent: Array) -> jax.Array:
    """(n, 3, 3) with rows normal, tangent, and their cross product."""
    rows = (normal, tangent, cross(normal, tangent))
    return lax.concatenate([lax.expand_dims(jnp.asarray(v), (1,)) for v in rows], 1)


def _tangent(normal: Array) -> Array:
    """The y axis made orthogonal to the normals, or the z axis where a normal leans towards y."""
    if isinstance(normal, np.ndarray):
        leans = (np.abs(normal[:, 1]) >= 0.5)[:, None]
        axis = np.where(leans, [0.0, 0.0, 1.0], [0.0, 1.0, 0.0])
        flat = axis - normal * (axis * normal).sum(1, keepdims=True)
        return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(normal.dtype)
    y, z = np.eye(3, dtype=normal.dtype)[1:, None]
    axis = jnp.where((jnp.abs(normal[:, 1]) >= 0.5)[:, None], z, y)
    return _normalize(axis - normal * rowdot(axis, normal)[:, None], least=0.0)[0]


def _normalize(v: jax.Array, least: float) -> tuple[jax.Array, jax.Array]:
    """Directions (n, 3) and lengths (n, 1); the x axis for vectors no longer than least."""
    length2 = rowdot(v, v)[:, None]
    short = length2 <= least * least
    inverse = lax.rsqrt(jnp.where(short, 1.0, length2))
    return jnp.where(short, np.array([1, 0, 0], v.dtype), v * inverse), length2 * inverse
