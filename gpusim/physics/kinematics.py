"""Where the bodies are: positions, rotations, and the joint axes that move them.

Recursion from the root outwards, as in mj_kinematics. Positions inside a tree are kept relative
to its root body: spatial vectors refer to that point, and stay small however far a robot walks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.linalg import (
    Array,
    cross,
    dot,
    halves,
    join,
    matvec,
    normalize,
    pick,
    quat_mul,
    quat_to_mat,
    rows,
    stack,
)
from gpusim.physics.model import BALL, FREE, HINGE, QUATERNION, SLIDE, Model


class Pose(NamedTuple):
    """World frame, metres; "reference" is the position of the tree's root body.

    MuJoCo gives the angular velocity of a free joint or ball in its body's axes. Inside the engine
    it is in world axes (`to_world`, `to_body`): the motions of a free joint are then the six unit
    vectors, and the products with them, in the mass matrix and the Jacobians, are free.
    """

    reference: jax.Array  # (nbody, 3) root body's position, per body
    offset: jax.Array  # (nbody, 3) body position relative to the reference
    xmat: jax.Array  # (nbody, 3, 3) body frame to world
    cdof: jax.Array  # (nv, 6) motion per unit velocity of each degree of freedom


class Mocap(NamedTuple):
    """Where the caller puts bodies that move by no force."""

    pos: Array  # (nmocap, 3)
    quat: Array  # (nmocap, 4) need not be normalised


def kinematics(model: Model, qpos: Array, mocap: Mocap | None = None) -> Pose:
    """Forward kinematics. qpos: (nq,); quaternions need not be normalised.

    mocap: by default those bodies are where the model has them.
    """
    top, dtype = model.topology, model.body_pos.dtype
    zero, eye = np.zeros(3, dtype), np.eye(3, dtype=dtype)
    travel, turns = _joint_motions(model, qpos)
    reference: list = [zero]
    offset: list = [zero]
    mat: list = [eye]
    axes: list = []  # per degree of freedom: axis in the world
    arms: list = []  # per degree of freedom: from the reference to a point on the axis
    for b in range(1, model.nbody):
        if [top.joints[j].type for j in top.body_joints[b]] == [FREE]:
            (j,) = top.body_joints[b]
            reference.append(lax.slice_in_dim(qpos, top.joints[j].qpos, top.joints[j].qpos + 3))
            offset.append(zero)
            mat.append(turns[j])
            axes += [*eye, *eye]
            arms += [zero] * 6
            continue
        position, rotation = _mount(model, b, offset, mat, mocap)
        rotation, moved, its_axes, anchors = _joints_of(model, b, rotation, travel, turns)
        at_root = top.root[b] == b
        reference.append(position + moved if at_root else reference[top.root[b]])
        offset.append(zero if at_root else position + moved)
        mat.append(rotation)
        axes += its_axes
        arms += [offset[b] + anchor for anchor in anchors]
    return Pose(stack(reference), stack(offset), stack(mat), _cdof(model, axes, arms))


def _mount(
    model: Model, b: int, offset: list, mat: list, mocap: Mocap | None
) -> tuple[Array, Array]:
    """Position and rotation of a body before its joints move it; the world is where it is."""
    p = model.topology.parent[b]
    if mocap is not None and b in model.topology.mocap:
        k = model.topology.mocap[b]
        return mocap.pos[k], quat_to_mat(normalize(mocap.quat[k]))
    if p == 0:
        return model.body_pos[b], model.body_mat[b]
    return offset[p] + dot(mat[p], model.body_pos[b]), dot(mat[p], model.body_mat[b])


def _joints_of(
    model: Model, b: int, rotation: Array, travel: dict, turns: dict
) -> tuple[Array, Array, list, list]:
    """What the joints of a body do to it, one after the other.

    Returns its rotation, how far its origin moved, the axes of their degrees of freedom (of a ball
    those of the world), and points on them relative to where the origin ends up.
    """
    zero = np.zeros(3, model.body_pos.dtype)
    axes: list = []
    anchors: list = []  # relative to the origin before the joint
    shifts: list = []  # of the origin, by the joint
    for j in model.topology.body_joints[b]:
        axes.append(dot(rotation, model.jnt_axis[j]))
        if model.topology.joints[j].type == SLIDE:
            anchors.append(zero)
            shifts.append(axes[-1] * travel[j])
            continue
        eccentric = model.jnt_pos[j].any()
        anchors.append(dot(rotation, model.jnt_pos[j]) if eccentric else zero)
        rotation = dot(rotation, turns[j])
        shifts.append(anchors[-1] - dot(rotation, model.jnt_pos[j]) if eccentric else zero)
    after = [sum(shifts[k + 1 :], shift) for k, shift in enumerate(shifts)]
    anchors = [anchor - rest for anchor, rest in zip(anchors, after, strict=True)]
    unit = list(np.eye(3, dtype=zero.dtype))
    balls = [model.topology.joints[j].type == BALL for j in model.topology.body_joints[b]]
    axes = [a for axis, ball in zip(axes, balls, strict=True) for a in (unit if ball else [axis])]
    anchors = [a for a, ball in zip(anchors, balls, strict=True) for a in [a] * (3 if ball else 1)]
    return rotation, after[0] if after else zero, axes, anchors


def _joint_motions(model: Model, qpos: Array) -> tuple[dict, dict]:
    """Per joint: how far a slide moved (1,), and how a hinge or free joint rotated (3, 3)."""
    joints = model.topology.joints
    travel: dict = {}
    turns: dict = {}
    hinges = [j for j, joint in enumerate(joints) if joint.type == HINGE]
    scalars = [j for j, joint in enumerate(joints) if joint.type in (HINGE, SLIDE)]
    if scalars:
        address = [joints[j].qpos for j in scalars]
        moved = pick(qpos, address) - pick(model.qpos0, address)
        travel = dict(zip(scalars, lax.split(moved, (1,) * len(scalars)), strict=True))
    if hinges:
        angle = lax.concatenate([travel[j] for j in hinges], 0)[:, None, None]
        along, around, rest = _rodrigues(model.jnt_axis[hinges])
        spin = jnp.cos(angle) * rest + jnp.sin(angle) * around + along
        turns = dict(zip(hinges, rows(spin), strict=True))
    for j, joint in enumerate(joints):
        if joint.type in QUATERNION:
            turns[j] = quat_to_mat(normalize(jnp.asarray(qpos[joint.quat])))
    return travel, turns


def _rodrigues(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constants of R(θ) = cos θ (1 - a aᵀ) + sin θ [a×] + a aᵀ, in the order aaᵀ, [a×], 1 - aaᵀ."""
    along = axis[:, :, None] * axis[:, None, :]
    x, y, z = axis.T
    none = np.zeros_like(x)
    around = np.stack([none, -z, y, z, none, -x, -y, x, none], -1).reshape(-1, 3, 3)
    return along, around, np.eye(3, dtype=axis.dtype) - along


def _cdof(model: Model, axes: list, arms: list) -> jax.Array:
    """Motions of unit joint velocities: a rotation about the axis through arm, or a translation."""
    turning = np.zeros((model.nv, 1), model.body_pos.dtype)
    for joint in model.topology.joints:
        if joint.type == HINGE:
            turning[joint.dof] = 1
        elif joint.type in QUATERNION:
            turning[joint.spin : joint.spin + 3] = 1
    axis, arm = stack(axes), stack(arms)
    return join(axis * turning, axis * (1 - turning) + cross(arm, axis) * turning)


def to_world(model: Model, pose: Pose, x: Array) -> jax.Array:
    """Velocities, accelerations or forces (nv, ...) with angular parts of free joints and balls
    turned from the body's axes to the world's."""
    return _turn(model, x, lambda b: pose.xmat[b])


def to_body(model: Model, pose: Pose, x: Array) -> jax.Array:
    """The inverse of `to_world`."""
    return _turn(model, x, lambda b: pose.xmat[b].T)


def _turn(model: Model, x: Array, rotation) -> Array:
    parts, done = [], 0
    for joint in model.topology.joints:
        if joint.type in QUATERNION:
            angular = joint.spin
            parts.append(lax.slice_in_dim(x, done, angular))
            parts.append(dot(rotation(joint.body), lax.slice_in_dim(x, angular, angular + 3)))
            done = angular + 3
    return lax.concatenate([*parts, lax.slice_in_dim(x, done, model.nv)], 0) if parts else x


def motions_at(model: Model, pose: Pose, bodies, points: Array) -> tuple[jax.Array, jax.Array]:
    """Jacobians (n, nv, 3) of the velocities of points (n, 3) of bodies, relative to their trees'
    references, and of the bodies' angular velocities.
    """
    moves = model.topology.body_dofs[list(bodies)].astype(pose.cdof.dtype)[:, :, None]
    angular, linear = halves(pose.cdof)
    arm = lax.expand_dims(jnp.asarray(points), (1,)) * moves
    return linear * moves + cross(jnp.broadcast_to(angular, arm.shape), arm), angular * moves


def positions(model: Model, pose: Pose, body, local: Array) -> jax.Array:
    """Points fixed in bodies, relative to their trees' references: ids (n,), (n, 3) -> (n, 3)."""
    return pick(pose.offset, body) + matvec(pick(pose.xmat, body), local)


def orientations(model: Model, qpos: Array, mocap: Mocap | None = None) -> jax.Array:
    """xquat (nbody, 4): the same rotations as Pose.xmat, as unit quaternions."""
    top, dtype = model.topology, model.body_pos.dtype
    quats: list = [np.array([1, 0, 0, 0], dtype)]
    for b, p in enumerate(top.parent):
        if b == 0:
            continue
        quat: Array = quat_mul(quats[p], model.body_quat[b]) if p else model.body_quat[b]
        if mocap is not None and b in top.mocap:
            quat = mocap.quat[top.mocap[b]]
        for j in top.body_joints[b]:
            joint = top.joints[j]
            if joint.type == FREE:
                quat = qpos[joint.quat]
            elif joint.type == BALL:
                quat = quat_mul(quat, normalize(qpos[joint.quat]))
            elif joint.type == HINGE:
                half = 0.5 * (pick(qpos, [joint.qpos]) - pick(model.qpos0, [joint.qpos]))
                turn = lax.concatenate([jnp.cos(half), jnp.sin(half) * model.jnt_axis[j]], 0)
                quat = quat_mul(quat, turn)
        quats.append(normalize(quat))
    return stack(quats)


def integrate_pos(model: Model, qpos: Array, qvel: Array) -> jax.Array:
    """qpos moved along qvel for one timestep; quaternions are rotated and normalised."""
    h = model.timestep
    parts: list = []
    for joint in model.topology.joints:
        if joint.type not in (FREE, BALL):
            parts.append(pick(qpos, [joint.qpos]) + h * pick(qvel, [joint.dof]))
            continue
        if joint.type == FREE:
            moved = pick(qvel, range(joint.dof, joint.dof + 3))
            parts.append(pick(qpos, range(joint.qpos, joint.qpos + 3)) + h * moved)
        spin = pick(qvel, range(joint.spin, joint.spin + 3))
        parts.append(quat_mul(normalize(qpos[joint.quat]), _rotation(spin, h)))
    return lax.concatenate(parts, 0) if parts else jnp.asarray(qpos)


def _rotation(spin: Array, h: float) -> jax.Array:
    """Quaternion of turning with angular velocity `spin` (3,) for h seconds."""
    speed2 = dot(spin, spin)
    still = speed2 < np.finfo(speed2.dtype).tiny
    per_speed = lax.rsqrt(jnp.where(still, jnp.ones_like(speed2), speed2))
    half = 0.5 * h * speed2 * per_speed
    vector = spin * jnp.where(still, 0.5 * h, jnp.sin(half) * per_speed)
    return lax.concatenate([jnp.cos(half)[None], vector], 0)
