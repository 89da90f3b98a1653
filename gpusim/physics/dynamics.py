"""How the bodies move, and the forces their motion alone asks for.

Recursive Newton-Euler (Featherstone, Rigid Body Dynamics Algorithms, section 5.3), with gravity as
an upward acceleration of the world. Bodies without joints move with the body they are welded to,
so their inertias are added to it first.
"""

from typing import NamedTuple

import jax
import numpy as np

from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import (
    Array,
    cross_force,
    cross_motion,
    inertia_mul,
    rowdot,
    rows,
    stack,
)
from gpusim.physics.model import FREE, Model


class Motion(NamedTuple):
    """Spatial velocities about the tree's reference point, world axes."""

    bodies: jax.Array  # (nbody, 6)
    cdof_dot: jax.Array  # (nv, 6) rate of change of Pose.cdof


def velocities(model: Model, pose: Pose, qvel: Array) -> Motion:
    """Velocities of the bodies, and how the joint axes are carried along by them.

    An axis is carried by what lies before it in its own body: a free joint's three rotations all
    come after its three translations, and a translation's axis is fixed in the world.
    """
    top = model.topology
    still = np.zeros(6, pose.cdof.dtype)
    steps = rows(pose.cdof * qvel[:, None])
    bodies: list = [still]
    carried: list = [still] * model.nv
    for b in range(1, model.nbody):
        velocity = bodies[top.parent[b]]
        for joint in (top.joints[j] for j in top.body_joints[b]):
            if joint.type == FREE:
                velocity = steps[joint.dof] + steps[joint.dof + 1] + steps[joint.dof + 2]
                for d in range(joint.dof + 3, joint.dof + 6):
                    carried[d] = velocity
                for d in range(joint.dof + 3, joint.dof + 6):
                    velocity = velocity + steps[d]
            else:
                carried[joint.dof] = velocity
                velocity = velocity + steps[joint.dof]
        bodies.append(velocity)
    return Motion(stack(bodies), cross_motion(stack(carried), pose.cdof))


def bias_force(
    model: Model, pose: Pose, inertias: jax.Array, motion: Motion, qvel: Array
) -> jax.Array:
    """qfrc_bias (nv,): Coriolis, centrifugal and gravitational forces. inertias: (nbody, 10)."""
    top, dtype = model.topology, inertias.dtype
    moving = sorted(set(top.weld) - {0})
    rigid = dict(enumerate(rows(inertias)))
    for b in range(1, model.nbody):
        if top.weld[b] not in (0, b):
            rigid[top.weld[b]] = rigid[top.weld[b]] + rigid[b]

    steps = rows(motion.cdof_dot * qvel[:, None])
    gravity = np.zeros((6, 3), dtype)
    gravity[3:] = -np.eye(3)
    acceleration: dict = {0: gravity @ model.gravity}
    for b in moving:
        above = top.weld[top.parent[b]]
        own = [steps[d] for d, body in enumerate(top.dof_body) if body == b]
        acceleration[b] = sum(own, acceleration[above])

    mass = stack([rigid[b] for b in moving])
    velocity = stack([rows(motion.bodies)[b] for b in moving])
    force = inertia_mul(mass, stack([acceleration[b] for b in moving]))
    force = force + cross_force(velocity, inertia_mul(mass, velocity))
    carried = dict(zip(moving, rows(force), strict=True))
    for b in reversed(moving):
        above = top.weld[top.parent[b]]
        if above:
            carried[above] = carried[above] + carried[b]
    return rowdot(pose.cdof, stack([carried[b] for b in top.dof_body]))
