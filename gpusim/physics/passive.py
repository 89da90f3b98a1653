"""Forces that need neither actuators nor constraints: springs, dampers, and the drag of a fluid."""

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.dynamics import Motion, joint_forces
from gpusim.physics.kinematics import Pose, positions
from gpusim.physics.linalg import Array, contract, cross, dot, halves, join, matvec, pick
from gpusim.physics.model import FREE, Model


def passive_force(model: Model, pose: Pose, motion: Motion, qpos: Array, qvel: Array) -> jax.Array:
    """qfrc_passive (nv,): everything this file knows of."""
    force = springs_and_dampers(model, qpos, qvel)
    if model.options.density or model.options.viscosity:
        force = force + fluid_drag(model, pose, motion)
    return force


def springs_and_dampers(model: Model, qpos: Array, qvel: Array) -> jax.Array:
    """-k (q - q_spring) - b v (nv,). Free joints have no springs."""
    joints = [(j, joint) for j, joint in enumerate(model.topology.joints) if joint.type != FREE]
    force = -model.dof_damping * qvel
    if not joints:
        return force
    index, address = [j for j, _ in joints], [joint.qpos for _, joint in joints]
    stretch = pick(qpos, address) - pick(model.qpos_spring, address)
    place = np.zeros((len(joints), model.nv), force.dtype)
    place[range(len(joints)), [joint.dof for _, joint in joints]] = 1
    return force - dot(pick(model.jnt_stiffness, index) * stretch, place)


def fluid_drag(model: Model, pose: Pose, motion: Motion) -> jax.Array:
    """qfrc_fluid (nv,): MuJoCo's inertia-box model, in still air or water, or in wind.

    Each body drags like the box that has its inertia (mj_inertiaBoxFluidModel): Stokes' force
    and torque of a ball of the box's mean size, and forces quadratic in the velocity of each face.
    """
    density, viscosity = model.options.density, model.options.viscosity
    bodies = [b for b in range(1, model.nbody) if model.mj.body_mass[b] > 0]
    inertia, mass = pick(model.body_inertia, bodies), pick(model.body_mass, bodies)[:, None]
    spread = dot(inertia, np.ones((3, 3), inertia.dtype)) - 2 * inertia
    box = jnp.sqrt(6 * jnp.maximum(spread, 1e-15) / mass)
    axes = contract(pick(pose.xmat, bodies), pick(model.body_imat, bodies), 2, 1, batch=1)
    com = positions(model, pose, bodies, pick(model.body_ipos, bodies))

    angular, linear = halves(pick(motion.bodies, bodies))
    wind = np.array(model.options.wind, inertia.dtype)
    into_box = lambda v: contract(axes, v, 1, 1, batch=1)
    spin, flow = into_box(angular), into_box(linear + cross(angular, com) - wind)

    size = dot(box, np.full((3, 1), 1 / 3, inertia.dtype))
    sides = np.ones((3, 3), inertia.dtype) - np.eye(3, dtype=inertia.dtype)
    area = box[:, (1, 2, 0)] * box[:, (2, 0, 1)]
    torque = -np.pi * viscosity * size**3 * spin
    torque = torque - density / 64 * box * dot(box**4, sides) * jnp.abs(spin) * spin
    force = -3 * np.pi * viscosity * size * flow - 0.5 * density * area * jnp.abs(flow) * flow
    torque, force = matvec(axes, torque), matvec(axes, force)
    applied = join(torque + cross(com, force), force)
    return joint_forces(model, pose, bodies, applied)
