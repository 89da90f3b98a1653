"""Forces of springs and dampers in the joints."""

import jax
import numpy as np

from gpusim.physics.linalg import Array, dot, pick
from gpusim.physics.model import FREE, Model


def passive_force(model: Model, qpos: Array, qvel: Array) -> jax.Array:
    """qfrc_passive (nv,): -k (q - q_spring) - b v. Free joints have no springs."""
    joints = [(j, joint) for j, joint in enumerate(model.topology.joints) if joint.type != FREE]
    force = -model.dof_damping * qvel
    if not joints:
        return force
    index, address = [j for j, _ in joints], [joint.qpos for _, joint in joints]
    stretch = pick(qpos, address) - pick(model.qpos_spring, address)
    place = np.zeros((len(joints), model.nv), force.dtype)
    place[range(len(joints)), [joint.dof for _, joint in joints]] = 1
    return force - dot(pick(model.jnt_stiffness, index) * stretch, place)
