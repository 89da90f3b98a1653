"""Forces that need neither actuators nor constraints: springs, dampers, gravity that is carried,
the drag of a fluid (mj_passive), and what the caller pushes with.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.dynamics import Motion, joint_forces
from gpusim.physics.fluid import fluid_force, in_fluid
from gpusim.physics.kinematics import Pose, positions, to_world
from gpusim.physics.linalg import (
    Array,
    cross,
    dot,
    halves,
    join,
    normalize,
    pick,
    quat_conjugate,
    quat_mul,
    quat_to_vector,
)
from gpusim.physics.model import BALL, FREE, HINGE, SLIDE, Model
from gpusim.physics.tendons import Tendons


class Passive(NamedTuple):
    """Generalised forces (nv,), free joints and balls in world axes."""

    qfrc: Array  # of everything here, but for gravity that the actuators are to carry
    gravcomp: Array  # of all gravity that is carried


def passive_force(
    model: Model, pose: Pose, motion: Motion, tendons: Tendons, qpos: Array, qvel: Array
) -> Passive:
    """qfrc_passive."""
    disabled = model.options.disabled
    none = np.zeros(model.nv, qvel.dtype)
    if {"spring", "damper"} <= disabled:
        return Passive(jnp.asarray(none), none)
    force = none
    if "damper" not in disabled:
        force = force - damping(model, qvel) * qvel
    if "spring" not in disabled:
        force = force + springs(model, pose, qpos)
    if model.mj.ntendon:
        force = force + tendon_forces(model, tendons, qvel)
    carried = gravity_carried(model, pose) if _carries(model) else none
    if in_fluid(model):
        force = force + fluid_force(model, pose, motion)
    by_actuators = np.asarray(model.mj.jnt_actgravcomp, bool)[list(model.mj.dof_jntid)]
    return Passive(force + carried * ~by_actuators, carried)


def polynomial(linear: Array, higher: Array, x: Array) -> Array:
    """linear + higher₀ x + higher₁ x² ... for rows of coefficients."""
    out, power = linear, 1.0
    for k in range(higher.shape[1]):
        power = power * x
        if np.asarray(higher[:, k]).any():
            out = out + higher[:, k] * power
    return out


def damping(model: Model, qvel: Array) -> Array:
    """(nv,) force of a degree of freedom's damper by velocity."""
    return polynomial(model.dof_damping, model.dof_dampingpoly, jnp.abs(qvel))


def damping_slope(model: Model, qvel: Array) -> Array:
    """(nv,) derivative of that force by velocity."""
    higher = model.dof_dampingpoly * (2 + np.arange(model.dof_dampingpoly.shape[1]))
    higher = higher.astype(model.dof_dampingpoly.dtype)
    return polynomial(model.dof_damping, higher, jnp.abs(qvel))


def springs(model: Model, pose: Pose, qpos: Array) -> Array:
    """-k (q - q_spring) (nv,); of joints that turn freely, along the rotation that is between."""
    stiff = lambda j: (
        not isinstance(model.jnt_stiffness, np.ndarray)
        or model.jnt_stiffness[j]
        or model.jnt_stiffnesspoly[j].any()
    )
    joints = [(j, joint) for j, joint in enumerate(model.topology.joints) if stiff(j)]
    scalar = [(j, joint) for j, joint in joints if joint.type in (HINGE, SLIDE)]
    force = jnp.zeros(model.nv, qpos.dtype)
    if scalar:
        index, address = [j for j, _ in scalar], [joint.qpos for _, joint in scalar]
        stretch = pick(qpos, address) - pick(model.qpos_spring, address)
        place = np.zeros((len(scalar), model.nv), force.dtype)
        place[range(len(scalar)), [joint.dof for _, joint in scalar]] = 1
        constant = polynomial(
            pick(model.jnt_stiffness, index), model.jnt_stiffnesspoly[index], stretch
        )
        force = force - dot(constant * stretch, place)
    free = [(j, joint) for j, joint in joints if joint.type in (FREE, BALL)]
    for j, joint in free:
        pull = lambda x, j=j: (
            -x
            * polynomial(
                pick(model.jnt_stiffness, [j]), model.jnt_stiffnesspoly[[j]], jnp.sqrt(dot(x, x))
            )
        )
        if joint.type == FREE:
            at = slice(joint.qpos, joint.qpos + 3)
            force = force.at[joint.dof : joint.dof + 3].add(pull(qpos[at] - model.qpos_spring[at]))
        rest = quat_conjugate(jnp.asarray(model.qpos_spring[joint.quat]))
        turned = quat_to_vector(quat_mul(rest, normalize(jnp.asarray(qpos[joint.quat]))))
        force = force.at[joint.spin : joint.spin + 3].add(pull(turned))
    return to_world(model, pose, force) if free else force


def tendon_forces(model: Model, tendons: Tendons, qvel: Array) -> jax.Array:
    """(nv,) of springs, slack within lengthspring, and dampers."""
    force = jnp.zeros_like(tendons.length)
    if "spring" not in model.options.disabled:
        low, high = model.tendon_lengthspring.T
        length = tendons.length
        stretch = jnp.maximum(length - high, 0) + jnp.minimum(length - low, 0)
        stiffness = polynomial(model.tendon_stiffness, model.tendon_stiffnesspoly, stretch)
        force = force - stiffness * stretch
    if "damper" not in model.options.disabled:
        velocity = dot(tendons.moment, qvel)
        damper = polynomial(model.tendon_damping, model.tendon_dampingpoly, jnp.abs(velocity))
        force = force - damper * velocity
    return dot(force, tendons.moment)


def tendon_damping_slope(model: Model, tendons: Tendons, qvel: Array) -> Array:
    """(ntendon,) derivative of the dampers' forces by velocity."""
    velocity = dot(tendons.moment, qvel)
    higher = model.tendon_dampingpoly * (2 + np.arange(model.tendon_dampingpoly.shape[1]))
    return polynomial(model.tendon_damping, higher.astype(velocity.dtype), jnp.abs(velocity))


def _carries(model: Model) -> bool:
    return bool(model.mj.body_gravcomp.any()) and "gravity" not in model.options.disabled


def gravity_carried(model: Model, pose: Pose) -> jax.Array:
    """qfrc_gravcomp (nv,): the part of their weight that is taken off bodies."""
    bodies = [b for b in range(1, model.nbody) if model.mj.body_gravcomp[b]]
    share = pick(model.body_mass, bodies) * pick(model.body_gravcomp, bodies)
    force = -share[:, None] * model.gravity
    com = positions(model, pose, bodies, pick(model.body_ipos, bodies))
    return joint_forces(model, pose, bodies, join(cross(com, jnp.asarray(force)), force))


def applied_force(model: Model, pose: Pose, pushes: Array) -> jax.Array:
    """(nv,) of forces and torques on bodies, (nbody, 6): mj_xfrcAccumulate."""
    bodies = list(range(1, model.nbody))
    return joint_forces(model, pose, bodies, applied_wrenches(model, pose, pushes)[1:])


def applied_wrenches(model: Model, pose: Pose, pushes: Array, about: Array = 0) -> jax.Array:
    """(nbody, 6) torque and force of these about points (nbody, 3) relative to each tree's
    reference; none on the world."""
    force, torque = halves(jnp.asarray(pushes))
    arm = positions(model, pose, range(model.nbody), model.body_ipos) - about
    return join(torque + cross(arm, force), force).at[0].set(0)
