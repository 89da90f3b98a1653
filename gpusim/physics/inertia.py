"""Where the mass is: spatial inertias of the bodies, and the joint-space mass matrix.

Composite rigid body algorithm (Featherstone, Rigid Body Dynamics Algorithms, section 6.2).
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from gpusim.physics.kinematics import Pose, positions
from gpusim.physics.linalg import contract, dot, inertia_mul, outer6, rows, stack
from gpusim.physics.model import Model


class Inertia(NamedTuple):
    """Spatial inertias about the tree's reference point, world axes."""

    bodies: jax.Array  # (nbody, 10)
    matrix: jax.Array  # (nv, nv) mass matrix, lower triangle (the rest is zero), kg m²


def inertia(model: Model, pose: Pose) -> Inertia:
    """Inertias of the bodies as they lie, and the mass matrix with armature."""
    top = model.topology
    bodies = body_inertias(model, pose)
    composite = rows(bodies)
    for b in reversed(range(1, model.nbody)):
        if top.parent[b]:
            composite[top.parent[b]] = composite[top.parent[b]] + composite[b]
    momenta = inertia_mul(stack([composite[b] for b in top.dof_body]), pose.cdof)
    matrix = contract(momenta, pose.cdof, 1, 1) * top.dof_ancestors.astype(bodies.dtype)
    return Inertia(bodies, matrix + np.eye(model.nv, dtype=bodies.dtype) * model.dof_armature)


def body_inertias(model: Model, pose: Pose) -> jax.Array:
    """(nbody, 10): d₁ 1 + Σ (dₖ - d₁) uₖ uₖᵀ + m (r·r 1 - r rᵀ) about the reference, m r, m.

    d are the principal moments and u their axes. Subtracting d₁ saves one axis always, and two for
    bodies of revolution, whose equal moments cancel to the constant zero.
    """
    dtype = pose.xmat.dtype
    identity = np.array([1, 1, 1, 0, 0, 0], dtype)
    d1, d2, d3 = (model.body_inertia[:, k, None] for k in range(3))
    axes = contract(pose.xmat, model.body_imat, 2, 1, batch=1)
    u2, u3 = (lax.squeeze(lax.slice_in_dim(axes, k, k + 1, axis=2), (2,)) for k in (1, 2))
    tensor = outer6(u2, (d2 - d1) * u2) + outer6(u3, (d3 - d1) * u3) + d1 * identity
    mass = model.body_mass[:, None]
    com = positions(model, pose, range(model.nbody), model.body_ipos)
    moment = com * mass
    rr = dot(com * moment, np.ones((3, 1), dtype))
    tensor = tensor + rr * identity - outer6(com, moment)
    return lax.concatenate([tensor, moment, mass * np.ones((1, 1), dtype)], 1)
