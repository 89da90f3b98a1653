"""Forces of actuators: motors and affine servos on hinges and slides."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.linalg import Array, dot, pick
from gpusim.physics.model import Model


class Actuation(NamedTuple):
    """What the actuators do."""

    force: jax.Array  # (nu,) actuator_force, N or N m before the gear
    qfrc: jax.Array  # (nv,) qfrc_actuator


def actuation(model: Model, qpos: Array, qvel: Array, ctrl: Array) -> Actuation:
    """force = gain · clamp(ctrl) + bias; gain and bias are affine in length and velocity.

    Length and velocity are those of the joint times the gear. ctrl: (nu,), clamped to
    actuator_ctrlrange; the force is clamped to actuator_forcerange.
    """
    dtype = qpos.dtype
    joints = [model.topology.joints[j] for j in model.topology.actuator_joint]
    if not joints:
        return Actuation(jnp.zeros(0, dtype), jnp.zeros(model.nv, dtype))
    gear = model.actuator_gear[:, 0]
    state = (
        1.0,
        pick(qpos, [joint.qpos for joint in joints]) * gear,
        pick(qvel, [joint.dof for joint in joints]) * gear,
    )
    affine = lambda prm: sum(
        (prm[:, k] * x for k, x in enumerate(state) if not _is_zero(prm[:, k])), np.zeros((), dtype)
    )
    force = _clamp(ctrl, model.actuator_ctrlrange) * affine(model.actuator_gainprm)
    force = _clamp(force + affine(model.actuator_biasprm), model.actuator_forcerange)
    place = np.zeros((len(joints), model.nv), dtype)
    place[range(len(joints)), [joint.dof for joint in joints]] = 1
    return Actuation(force, dot(force * gear, place))


def _is_zero(x: Array) -> bool:
    return isinstance(x, np.ndarray) and not x.any()


def _clamp(x: Array, limits: Array) -> jax.Array:
    """x between the columns of limits; no work where both are infinite."""
    if isinstance(limits, np.ndarray) and np.isinf(limits).all():
        return jnp.asarray(x)
    return jnp.clip(x, limits[:, 0], limits[:, 1])
