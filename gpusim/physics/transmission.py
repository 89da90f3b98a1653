"""Where actuators pull: their lengths, and moments on the degrees of freedom (mj_transmission)."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics.collision.collide import Contacts
from gpusim.physics.constraint.contacts import mean_normal
from gpusim.physics.kinematics import Mocap, Pose, motions_at, orientations, positions, to_world
from gpusim.physics.linalg import (
    Array,
    dot,
    normalize,
    pick,
    quat_conjugate,
    quat_mul,
    quat_to_mat,
    quat_to_vector,
)  # fmt: skip
from gpusim.physics.model import BALL, FREE, Model
from gpusim.physics.tendons import Tendons

_TRN = mujoco.mjtTrn
JOINT, IN_PARENT = int(_TRN.mjTRN_JOINT), int(_TRN.mjTRN_JOINTINPARENT)
TENDON, SITE, BODY = int(_TRN.mjTRN_TENDON), int(_TRN.mjTRN_SITE), int(_TRN.mjTRN_BODY)


class Transmission(NamedTuple):
    """Of all actuators; free joints and balls in world axes."""

    length: jax.Array  # (nu,) times the gear
    moment: Array  # (nu, nv) d length / d q
    velocity: jax.Array  # (nu,)


def transmission(
    model: Model,
    pose: Pose,
    tendons: Tendons,
    contacts: Sequence[Contacts],
    qpos: Array,
    qvel: Array,
    mocap: Mocap | None,
) -> Transmission:
    """Lengths, moments and velocities. qvel: (nv,), free joints in world axes."""
    if "actuation" in model.options.disabled:
        qvel = 0 * qvel  # as in mjData, where velocities are not computed then
    if _is_plain(model):
        return _plain(model, qpos, qvel)
    rows = [_row(model, pose, tendons, contacts, qpos, mocap, i) for i in range(model.nu)]
    length = jnp.stack([length for length, _ in rows])
    moment = jnp.stack([moment for _, moment in rows])
    return Transmission(length, moment, dot(moment, qvel))


def _is_plain(model: Model) -> bool:
    """Whether all actuators are on hinges and slides."""
    m = model.mj
    return all(
        m.actuator_trntype[i] in (JOINT, IN_PARENT)
        and m.jnt_type[m.actuator_trnid[i, 0]] not in (FREE, BALL)
        for i in range(model.nu)
    )


def _plain(model: Model, qpos: Array, qvel: Array) -> Transmission:
    joints = [model.topology.joints[j] for j in model.mj.actuator_trnid[: model.nu, 0]]
    gear = model.actuator_gear[:, 0]
    place = np.zeros((len(joints), model.nv), qpos.dtype)
    place[range(len(joints)), [joint.dof for joint in joints]] = 1
    length = pick(qpos, [joint.qpos for joint in joints]) * gear
    return Transmission(
        length, gear[:, None] * place, pick(qvel, [joint.dof for joint in joints]) * gear
    )


def _row(
    model: Model,
    pose: Pose,
    tendons: Tendons,
    contacts: Sequence[Contacts],
    qpos: Array,
    mocap: Mocap | None,
    i: int,
) -> tuple[jax.Array, jax.Array]:
    """Length () and moment (nv,) of one actuator."""
    m, gear = model.mj, model.actuator_gear[i]
    kind, target = int(m.actuator_trntype[i]), int(m.actuator_trnid[i, 0])
    none = jnp.zeros((), qpos.dtype)
    if kind == TENDON:
        return tendons.length[target] * gear[0], tendons.moment[target] * gear[0]
    if kind == BODY:
        return none, -mean_normal(model, pose, contacts, target)
    if kind == SITE and m.actuator_trnid[i, 1] >= 0:
        return _between_sites(model, pose, orientations(model, qpos, mocap), i)
    if kind == SITE:
        body, at = model.topology.site_body[target], model.site_pos[[target]]
        points = positions(model, pose, [body], at)
        linear, angular = (v[0] for v in motions_at(model, pose, [body], points))
        mat = dot(pose.xmat[body], model.site_mat[target])
        force, torque = dot(mat, gear[:3]), dot(mat, gear[3:])
        return none, dot(linear, force) + dot(angular, torque)
    joint = model.topology.joints[target]
    moment = jnp.zeros(model.nv, qpos.dtype)
    if joint.type not in (FREE, BALL):
        return qpos[joint.qpos] * gear[0], moment.at[joint.dof].set(gear[0])
    axis = gear[3:] if joint.type == FREE else gear[:3]
    quat = normalize(jnp.asarray(qpos[joint.quat]))
    if kind == IN_PARENT:
        axis = dot(quat_to_mat(quat).T, jnp.asarray(axis))
    moment = moment.at[joint.spin : joint.spin + 3].set(axis)
    if joint.type == FREE:
        return none, to_world(model, pose, moment.at[joint.dof : joint.dof + 3].set(gear[:3]))
    return dot(quat_to_vector(quat), jnp.asarray(axis)), to_world(model, pose, moment)


def _between_sites(model: Model, pose: Pose, quats: Array, i: int) -> tuple[jax.Array, jax.Array]:
    """Of a site seen from a reference site: in its axes, along and around the gear."""
    gear = model.actuator_gear[i]
    sites = [int(s) for s in model.mj.actuator_trnid[i]]
    bodies = [model.topology.site_body[s] for s in sites]
    points = positions(model, pose, bodies, model.site_pos[sites])
    linear, angular = motions_at(model, pose, bodies, points)
    moves = model.topology.body_dofs
    apart = (moves[bodies[0]] != moves[bodies[1]]).astype(points.dtype)[:, None]
    mat = dot(pose.xmat[bodies[1]], model.site_mat[sites[1]])
    away = points[0] - points[1] + pose.reference[bodies[0]] - pose.reference[bodies[1]]
    quat, reference = (
        quat_mul(quats[b], model.site_quat[s]) for b, s in zip(bodies, sites, strict=True)
    )
    turned = quat_to_vector(quat_mul(quat_conjugate(reference), quat))
    length = dot(dot(away, mat), jnp.asarray(gear[:3])) + dot(turned, jnp.asarray(gear[3:]))
    pull = dot((linear[0] - linear[1]) * apart, dot(mat, gear[:3]))
    return length, pull + dot((angular[0] - angular[1]) * apart, dot(mat, gear[3:]))
