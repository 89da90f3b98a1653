"""How the bodies move, and the forces their motion alone asks for.

Recursive Newton-Euler (Featherstone, Rigid Body Dynamics Algorithms, section 5.3), with gravity as
an upward acceleration of the world. Bodies without joints move with the body they are welded to,
so their inertias are added to it first.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import (
    Array,
    axial,
    contract,
    cross,
    cross_motion,
    dot,
    halves,
    join,
    matvec,
    rowdot,
    rows,
    skew,
    stack,
    symmetric,
)
from gpusim.physics.model import BALL, FREE, Model


class Motion(NamedTuple):
    """Spatial velocities about the tree's reference point, world axes."""

    bodies: jax.Array  # (nbody, 6)
    carried: dict[int, jax.Array]  # per body with joints: (6,) Σ d(cdof)/dt · qvel of its joints


def velocities(model: Model, pose: Pose, qvel: Array) -> Motion:
    """Velocities of the bodies, and the acceleration that comes from axes being carried along.

    An axis is carried by what lies before it in its own body: a free joint's three rotations all
    come after its three translations, and a translation's axis is fixed in the world.
    """
    top = model.topology
    steps = rows(pose.cdof * qvel[:, None])
    bodies: list = [np.zeros(6, pose.cdof.dtype)]
    owners, before, moving = [], [], []  # body; velocity that carries; motion that is carried
    for b in range(1, model.nbody):
        velocity = bodies[top.parent[b]]
        for joint in (top.joints[j] for j in top.body_joints[b]):
            d = joint.dof
            if joint.type == FREE:
                velocity = steps[d] + steps[d + 1] + steps[d + 2]
                motion = steps[d + 3] + steps[d + 4] + steps[d + 5]
            elif joint.type == BALL:
                motion = steps[d] + steps[d + 1] + steps[d + 2]
            else:
                motion = steps[d]
            owners.append(b)
            before.append(velocity)
            moving.append(motion)
            velocity = velocity + motion
        bodies.append(velocity)
    carried: dict = {}
    for b, rate in zip(owners, rows(cross_motion(stack(before), stack(moving))), strict=True):
        carried[b] = carried[b] + rate if b in carried else rate
    return Motion(stack(bodies), carried)


def accelerations(model: Model, motion: Motion) -> list[Array]:
    """Of each body (6,) what its velocities alone make of it: J̇ v."""
    out: list = [np.zeros(6, motion.bodies.dtype)]
    for b in range(1, model.nbody):
        above = out[model.topology.parent[b]]
        out.append(above + motion.carried[b] if b in motion.carried else above)
    return out


def bias_force(model: Model, pose: Pose, inertias: jax.Array, motion: Motion) -> jax.Array:
    """qfrc_bias (nv,): Coriolis, centrifugal and gravitational forces. inertias: (nbody, 10)."""
    top = model.topology
    moving = sorted(motion.carried)
    rigid = dict(enumerate(rows(inertias)))
    for b in range(1, model.nbody):
        if top.weld[b] not in (0, b):
            rigid[top.weld[b]] = rigid[top.weld[b]] + rigid[b]
    above = {b: top.weld[top.parent[b]] for b in moving}
    upward = np.concatenate([np.zeros((3, 3)), -np.eye(3)]).astype(inertias.dtype)
    acceleration: dict = {0: upward @ model.gravity}
    for b in moving:
        acceleration[b] = acceleration[above[b]] + motion.carried[b]
    velocity = rows(motion.bodies)
    force = newton_euler(
        stack([rigid[b] for b in moving]),
        stack([velocity[b] for b in moving]),
        stack([acceleration[b] for b in moving]),
    )
    return joint_forces(model, pose, moving, force)


def joint_forces(model: Model, pose: Pose, bodies: list[int], force: jax.Array) -> jax.Array:
    """Generalised forces (nv,) that do the work of spatial forces (n, 6) on bodies."""
    top = model.topology
    transmitted: list = [np.zeros(6, force.dtype)] * model.nbody
    for b, f in zip(bodies, rows(force), strict=True):
        transmitted[b] = f
    for b in reversed(range(1, model.nbody)):
        if top.parent[b]:
            transmitted[top.parent[b]] = transmitted[top.parent[b]] + transmitted[b]
    return rowdot(pose.cdof, stack([transmitted[b] for b in top.dof_body]))


def newton_euler(inertia: Array, velocity: Array, acceleration: Array) -> jax.Array:
    """Spatial forces (n, 6) that accelerate rigid bodies: I a + v ×* I v, with fewer products.

    A body's points r accelerate by a' + Ω r, with a' = a + ω × v that of the reference point and
    Ω = [α]× + ω ωᵀ - |ω|² 1. Summed over the mass that makes, with h = Σ m r and the tensor I,
    force = m a' + Ω h and torque = h × a' + tr(I) α - axial(Ω I).
    """
    moments, h, mass = (lax.slice_in_dim(inertia, *s, axis=1) for s in [(0, 6), (6, 9), (9, 10)])
    tensor = symmetric(moments)
    trace = dot(moments, np.array([[1], [1], [1], [0], [0], [0]], inertia.dtype))
    w, v = halves(velocity)
    alpha, a = halves(acceleration)
    point = a + cross(w, v)
    spread = lax.expand_dims(w, (2,)) * lax.expand_dims(w, (1,))
    eye = np.eye(3, dtype=inertia.dtype)
    omega = skew(alpha) + spread - rowdot(w, w)[:, None, None] * eye
    torque = cross(h, point) + trace * alpha - axial(contract(omega, tensor, 2, 1, batch=1))
    return join(torque, mass * point + matvec(omega, h))
