"""Where robots touch the ground: spheres and capsule ends against planes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.kinematics import Pose, positions
from gpusim.physics.linalg import cross, matvec, pick, rowdot
from gpusim.physics.model import Model


class Contacts(NamedTuple):
    """Points that may touch, n of them; those with dist beyond the margin do not act."""

    dist: jax.Array  # (n,) m, negative inside
    point: jax.Array  # (n, 3) halfway between the surfaces, relative to the tree's reference
    frame: jax.Array  # (n, 3, 3) rows: normal out of the plane, and two tangents


def collide(model: Model, pose: Pose) -> Contacts:
    """Every contact point of the model's list (model.topology.contacts), touching or not."""
    dtype = pose.offset.dtype
    points = model.topology.contacts
    planes, geoms = [p.plane for p in points], [p.geom for p in points]
    bodies = [model.topology.geom_body[g] for g in geoms]
    ends = np.array([p.end for p in points], dtype)[:, None]

    normal = model.geom_mat[planes][:, :, 2]
    axis = matvec(pick(pose.xmat, bodies), model.geom_mat[geoms][:, :, 2])
    half_length = pick(model.geom_size, geoms)[:, 1, None] * ends
    centre = positions(model, pose, bodies, model.geom_pos[geoms]) + half_length * axis
    above = centre + (pick(pose.reference, bodies) - model.geom_pos[planes])
    radius = pick(model.geom_size, geoms)[:, 0]
    dist, point = sphere_on_plane(centre, rowdot(above, normal), radius, normal)
    first = np.where(ends == 0, _default_tangent(normal), 0) + ends * ends * _along(normal, axis)
    second = cross(normal, first)
    frame = [lax.expand_dims(v, (1,)) for v in (jnp.asarray(normal), first, second)]
    return Contacts(dist, point, lax.concatenate(frame, 1))


def sphere_on_plane(
    centre: jax.Array, height: jax.Array, radius, normal: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """Distances (n,) and points (n, 3) of spheres whose centres are `height` above their planes."""
    dist = height - radius
    return dist, centre - normal * (radius + 0.5 * dist)[:, None]


def _default_tangent(normal: np.ndarray) -> np.ndarray:
    """The y axis made orthogonal to the normals, or the z axis where a normal leans towards y."""
    leans = np.abs(normal[:, 1]) >= 0.5
    axis = np.where(leans[:, None], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0])
    tangent = axis - normal * (axis * normal).sum(1, keepdims=True)
    return (tangent / np.linalg.norm(tangent, axis=1, keepdims=True)).astype(normal.dtype)


def _along(normal: np.ndarray, axis: jax.Array) -> jax.Array:
    """Capsules' axes projected onto their planes, normalised; the x axis where one stands upright.

    The pyramid of friction forces is not round: the tangents must be MuJoCo's.
    """
    flat = axis - normal * rowdot(axis, normal)[:, None]
    length2 = rowdot(flat, flat)[:, None]
    upright = length2 < jnp.finfo(axis.dtype).eps ** 2
    flat = flat * lax.rsqrt(jnp.where(upright, 1.0, length2))
    return jnp.where(upright, np.array([1, 0, 0], axis.dtype), flat)
