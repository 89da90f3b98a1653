"""Rows along joint coordinates: limits of joints, and dry friction in them."""

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.constraint.blocks import Coordinates
from gpusim.physics.constraint.laws import Friction, OneSided, Params
from gpusim.physics.constraint.softness import softness, stiffness
from gpusim.physics.linalg import Array, pick
from gpusim.physics.model import Model


def limit_blocks(model: Model, qpos: Array, qvel: Array) -> list[Coordinates]:
    """Hinges and slides within their margin of an end of their range: the nearer end."""
    index = list(model.topology.limited)
    if not index:
        return []
    dtype = qpos.dtype
    joints = [model.topology.joints[j] for j in index]
    dofs = [joint.dof for joint in joints]
    position = pick(qpos, [joint.qpos for joint in joints])
    ends = pick(model.jnt_range, index)
    lower, upper = position - ends[:, 0], ends[:, 1] - position
    sign = jnp.where(lower < upper, np.ones((), dtype), -np.ones((), dtype))
    dist = jnp.minimum(lower, upper) - pick(model.jnt_margin, index)
    options = model.options
    soft = softness(
        model.jnt_solref[index], model.jnt_solimp[index], options.timestep, options.refsafe, dtype
    )
    impedance = soft.impedance(dist)
    aref = -soft.damping * (sign * pick(qvel, dofs)) - soft.spring * impedance * dist
    stiff = stiffness(impedance, pick(model.dof_invweight0, dofs))
    stiff = jnp.where(dist < 0, stiff, jnp.zeros((), dtype))
    return [
        Coordinates(OneSided(1), Params(stiff), dofs, sign[:, None], aref[:, None], model.nv)
    ]


def friction_blocks(model: Model, qvel: Array) -> list[Coordinates]:
    """Dry friction of degrees of freedom."""
    loss = model.dof_frictionloss
    dofs = [int(d) for d in model.topology.rubbing]
    if not dofs:
        return []
    dtype, options = qvel.dtype, model.options
    soft = softness(
        model.dof_solref[dofs], model.dof_solimp[dofs], options.timestep, options.refsafe, dtype
    )
    none = jnp.zeros(len(dofs), dtype)
    stiff = stiffness(soft.impedance(none), pick(model.dof_invweight0, dofs))
    aref = -soft.damping * pick(qvel, dofs)
    params = Params(stiff[:, None], jnp.asarray(pick(loss, dofs), dtype))
    sign = np.ones((len(dofs), 1), dtype)
    return [Coordinates(Friction(), params, dofs, sign, aref[:, None], model.nv)]
