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
    join,
    matvec,
    normalize,
    pick,
    quat_mul,
    quat_to_mat,
    rows,
    stack,
)
from gpusim.physics.model import FREE, HINGE, SLIDE, Model


class Pose(NamedTuple):
    """World frame, metres; "reference" is the position of the tree's root body."""

    reference: jax.Array  # (nbody, 3) root body's position, per body
    offset: jax.Array  # (nbody, 3) body position relative to the reference
    xmat: jax.Array  # (nbody, 3, 3) body frame to world
    cdof: jax.Array  # (nv, 6) motion per unit velocity of each degree of freedom


def kinematics(model: Model, qpos: Array) -> Pose:
    """Forward kinematics. qpos: (nq,); quaternions need not be normalised."""
    top, dtype = model.topology, model.body_pos.dtype
    zero, eye = np.zeros(3, dtype), np.eye(3, dtype=dtype)
    travel, turns = _joint_motions(model, qpos)
    reference: list = [zero]
    offset: list = [zero]
    mat: list = [eye]
    axes: list = []  # per degree of freedom: axis in the world
    arms: list = []  # per degree of freedom: from the reference to a point on the axis
    for b, p in enumerate(top.parent):
        if b == 0:
            continue
        at_root = top.root[b] == b
        if [top.joints[j].type for j in top.body_joints[b]] == [FREE]:
            address = top.joints[top.body_joints[b][0]].qpos
            reference.append(lax.slice_in_dim(qpos, address, address + 3))
            offset.append(zero)
            mat.append(turns[top.body_joints[b][0]])
            axes += [*eye, *rows(mat[b].T)]
            arms += [zero] * 6
            continue
        # The parent is the world: no rotation to apply, and its position is the origin.
        rotation = dot(mat[p], model.body_mat[b]) if p else model.body_mat[b]
        position = dot(mat[p], model.body_pos[b]) + offset[p] if p else model.body_pos[b]
        anchors: list = []  # of each joint, relative to the body's position before it
        shifts: list = []  # of the body's position, by each joint
        for j in top.body_joints[b]:
            axes.append(dot(rotation, model.jnt_axis[j]))
            if top.joints[j].type == SLIDE:
                anchors.append(zero)
                shifts.append(axes[-1] * travel[j])
                continue
            eccentric = model.jnt_pos[j].any()
            anchors.append(dot(rotation, model.jnt_pos[j]) if eccentric else zero)
            rotation = dot(rotation, turns[j])
            shifts.append(anchors[-1] - dot(rotation, model.jnt_pos[j]) if eccentric else zero)
        moved = sum(shifts[1:], shifts[0]) if shifts else zero
        reference.append(position + moved if at_root else reference[top.root[b]])
        offset.append(zero if at_root else position + moved)
        mat.append(rotation)
        for k, anchor in enumerate(anchors):
            arms.append(offset[b] + anchor - sum(shifts[k + 1 :], shifts[k]))
    return Pose(stack(reference), stack(offset), stack(mat), _cdof(model, axes, arms))


def _joint_motions(model: Model, qpos: Array) -> tuple[dict, dict]:
    """Per joint: how far a slide moved (1,), and how a hinge or free joint rotated (3, 3)."""
    joints = model.topology.joints
    travel: dict = {}
    turns: dict = {}
    hinges = [j for j, joint in enumerate(joints) if joint.type == HINGE]
    scalars = [j for j, joint in enumerate(joints) if joint.type != FREE]
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
        if joint.type == FREE:
            quat = lax.slice_in_dim(qpos, joint.qpos + 3, joint.qpos + 7)
            turns[j] = quat_to_mat(normalize(quat))
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
        elif joint.type == FREE:
            turning[joint.dof + 3 : joint.dof + 6] = 1
    axis, arm = stack(axes), stack(arms)
    return join(axis * turning, axis * (1 - turning) + cross(arm, axis) * turning)


def positions(model: Model, pose: Pose, body, local: Array) -> jax.Array:
    """Points fixed in bodies, relative to their trees' references: ids (n,), (n, 3) -> (n, 3)."""
    return pick(pose.offset, body) + matvec(pick(pose.xmat, body), local)


def orientations(model: Model, qpos: Array) -> jax.Array:
    """xquat (nbody, 4): the same rotations as Pose.xmat, as unit quaternions."""
    top, dtype = model.topology, model.body_pos.dtype
    quats: list = [np.array([1, 0, 0, 0], dtype)]
    for b, p in enumerate(top.parent):
        if b == 0:
            continue
        quat: Array = quat_mul(quats[p], model.body_quat[b]) if p else model.body_quat[b]
        for j in top.body_joints[b]:
            joint = top.joints[j]
            if joint.type == FREE:
                quat = lax.slice_in_dim(qpos, joint.qpos + 3, joint.qpos + 7)
            elif joint.type == HINGE:
                half = 0.5 * (pick(qpos, [joint.qpos]) - pick(model.qpos0, [joint.qpos]))
                turn = lax.concatenate([jnp.cos(half), jnp.sin(half) * model.jnt_axis[j]], 0)
                quat = quat_mul(quat, turn)
        quats.append(normalize(quat))
    return stack(quats)
