"""What MuJoCo's compiler derives from a model's masses and pose, of a world with its own numbers.

After `mj_setConst`: inverse weights say how easily a joint or body is moved in the pose qpos0, and
scale the softness of limits and contacts; the mean inertia scales the solver's tolerance.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.inertia import inertia
from gpusim.physics.kinematics import Pose, kinematics, positions
from gpusim.physics.linalg import Array, cross, dot, factorize, halves, rowdot, solve, stack
from gpusim.physics.model import BALL, FREE, Model, Some
from gpusim.physics.tendons import armature, tendons

_SOURCES = {"qpos0", "body_ipos", "body_mass", "body_inertia", "dof_armature"}
_LEAST = 1e-15


def with_constants(model: Model, numbers: Mapping[str, Array | Some]) -> dict[str, Array | Some]:
    """A world's own numbers of a model together with the constants that change with them: all that
    `model.replace` needs. Constants given are taken as they are.
    """
    if _SOURCES.isdisjoint(numbers):
        return dict(numbers)
    return constants(model.replace(**numbers)) | dict(numbers)


def constants(model: Model) -> dict[str, jax.Array]:
    """The constants of a model whose numbers were replaced."""
    model = model.astype(jnp.result_type(float))
    pose = kinematics(model, jnp.asarray(model.qpos0))
    matrix = inertia(model, pose).matrix
    if model.tendon_armature.any():
        matrix = matrix + armature(model, tendons(model, pose, jnp.asarray(model.qpos0)))
    factor = factorize(matrix)
    inverse = stack([solve(factor, unit) for unit in np.eye(model.nv, dtype=matrix.dtype)])
    return {
        "body_invweight0": _of_bodies(model, pose, inverse),
        "dof_invweight0": _of_joints(model, inverse),
        "mean_inertia": jnp.diagonal(matrix).mean(),
    }


def _of_joints(model: Model, inverse: jax.Array) -> jax.Array:
    """(nv,) diagonal of M⁻¹; of a free joint the means over its translations and its rotations."""
    diagonal = jnp.diagonal(inverse)
    weights: list = [None] * model.nv
    for joint in model.topology.joints:
        d = joint.dof
        if joint.type == FREE:
            parts = diagonal[d : d + 6].reshape(2, 3).mean(1)
            weights[d : d + 6] = [parts[0]] * 3 + [parts[1]] * 3
        elif joint.type == BALL:
            weights[d : d + 3] = [diagonal[d : d + 3].mean()] * 3
        else:
            weights[d] = _of_mass(model, joint.body) if _slides(model, joint.body) else diagonal[d]
    return jnp.stack(weights)


def _of_bodies(model: Model, pose: Pose, inverse: jax.Array) -> jax.Array:
    """(nbody, 2) mean of diag(J M⁻¹ Jᵀ) over three translations and three rotations of the centre
    of mass; zero for what is fixed to the world.
    """
    top = model.topology
    angular, linear = halves(pose.cdof)
    com = positions(model, pose, range(model.nbody), model.body_ipos)
    rows = []
    for b in range(model.nbody):
        if top.weld[b] == 0:
            rows.append(jnp.zeros(2, inverse.dtype))
            continue
        if _slides(model, b):
            rows.append(jnp.stack([_of_mass(model, b), jnp.zeros((), inverse.dtype)]))
            continue
        moves = top.body_dofs[b].astype(inverse.dtype)[:, None]
        at = linear + cross(angular, jnp.broadcast_to(com[b], angular.shape))
        jacobians = [lax.transpose(part * moves, (1, 0)) for part in (at, angular)]
        sums = [rowdot(dot(jacobian, inverse), jacobian).sum() for jacobian in jacobians]
        rows.append(jnp.stack(sums) / 3)
    return stack(rows)


def _slides(model: Model, body: int) -> bool:
    """A lone body on slides along the axes: of those MuJoCo takes the mass without armature."""
    return int(model.mj.body_simple[body]) == 2


def _of_mass(model: Model, body: int) -> jax.Array:
    return 1 / jnp.maximum(model.body_mass[body], _LEAST)
