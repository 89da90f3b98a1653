"""Rows that hold two things together: points, poses, joints' angles, tendons' lengths.

After mj_instantiateEquality and mj_Jdotv.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import lax

from gpusim.physics.constraint.blocks import Written
from gpusim.physics.constraint.laws import Equality, Params
from gpusim.physics.constraint.limits import reach_of_tendons
from gpusim.physics.constraint.softness import softness, stiffness
from gpusim.physics.dynamics import Motion, accelerations
from gpusim.physics.kinematics import Pose, motions_at, positions
from gpusim.physics.linalg import (
    Array,
    cross,
    dot,
    halves,
    pick,
    quat_conjugate,
    quat_mul,
)
from gpusim.physics.model import Model
from gpusim.physics.tendons import Tendons

_CONNECT, _WELD = int(mujoco.mjtEq.mjEQ_CONNECT), int(mujoco.mjtEq.mjEQ_WELD)
_JOINT = int(mujoco.mjtEq.mjEQ_JOINT)


def equality_blocks(
    model: Model,
    pose: Pose,
    motion: Motion,
    quats: Array,
    tendons: Tendons,
    qpos: Array,
    qvel: Array,
) -> list[Written]:
    """A block for each constraint that is active in the model. quats: (nbody, 4)."""
    blocks, carried = [], None
    for i in active(model):
        if anchors(model, i) is not None:
            carried = accelerations(model, motion) if carried is None else carried
            blocks.append(_bodies(model, pose, motion, carried, quats, i, qvel))
        else:
            blocks.append(_lengths(model, tendons, i, qpos, qvel))
    return blocks


def active(model: Model) -> list[int]:
    """The equality constraints that are active, in the order of their blocks."""
    off = "equality" in model.options.disabled
    return [] if off else np.flatnonzero(model.mj.eq_active0).tolist()


def anchors(model: Model, i: int) -> tuple[list[int], np.ndarray] | None:
    """Of a connect or weld: the two bodies, and the points in them (2, 3); None of others."""
    m, kind = model.mj, int(model.mj.eq_type[i])
    if kind not in (_CONNECT, _WELD):
        return None
    things = [int(m.eq_obj1id[i]), int(m.eq_obj2id[i])]
    if int(m.eq_objtype[i]) == int(mujoco.mjtObj.mjOBJ_SITE):
        bodies = [model.topology.site_body[s] for s in things]
        return bodies, model.site_pos[things]
    points = model.eq_data[i][:6].reshape(2, 3)
    return things, points[::-1] if kind == _WELD else points


def _block(
    model: Model,
    i: int,
    pos: Array,
    jacobian: Array,
    reach: np.ndarray,
    qvel: Array,
    weight: Array,
    rate: Array,
) -> Written:
    """Constraint i with k rows: pos and J̇ v (k,), J (k, nv), inverse inertia (k,)."""
    options, k = model.options, pos.shape[0]
    soft = softness(
        model.eq_solref[[i]], model.eq_solimp[[i]], options.timestep, options.refsafe, pos.dtype
    )
    distance = jnp.abs(pos) if k == 1 else jnp.sqrt(jnp.maximum(dot(pos, pos), 0))[None]
    impedance = soft.impedance(distance)
    aref = -soft.damping * dot(jacobian, qvel) - soft.spring * impedance * pos - rate
    one = np.ones((1, k), pos.dtype)
    params = Params(stiffness(impedance, weight)[None])
    square = np.ones((1, k, k), pos.dtype)
    return Written(Equality(), params, jacobian[None], reach[None], one, square, aref[None])


# ------------------------------------------------------------------------------ joints and tendons


def _lengths(model: Model, tendons: Tendons, i: int, qpos: Array, qvel: Array) -> Written:
    """q₁ - ref₁ = polynomial of q₂ - ref₂."""
    m, dtype = model.mj, qvel.dtype
    data = model.eq_data[i]
    of = [int(k) for k in (m.eq_obj1id[i], m.eq_obj2id[i]) if k >= 0]
    if int(m.eq_type[i]) == _JOINT:
        joints = [model.topology.joints[j] for j in of]
        value = [qpos[j.qpos] - model.qpos0[j.qpos] for j in joints]
        moment = [jnp.asarray(np.eye(m.nv, dtype=dtype)[j.dof]) for j in joints]
        reach = [np.arange(m.nv) == j.dof for j in joints]
        weight = [model.dof_invweight0[j.dof] for j in joints]
    else:
        value = [tendons.length[t] - model.tendon_length0[t] for t in of]
        moment = [tendons.moment[t] for t in of]
        reach = list(reach_of_tendons(model)[of])
        weight = [model.tendon_invweight0[t] for t in of]
    pos, jacobian = value[0] - data[0], moment[0]
    if len(of) == 2:
        x = value[1]
        pos = pos - x * (data[1] + x * (data[2] + x * (data[3] + x * data[4])))
        slope = data[1] + x * (2 * data[2] + x * (3 * data[3] + x * (4 * data[4])))
        jacobian = jacobian - slope * moment[1]
    weight = jnp.asarray(sum(weight), dtype)[None]
    reached = np.max(np.stack(reach), axis=0)
    return _block(model, i, pos[None], jacobian[None], reached, qvel, weight, jnp.zeros(1, dtype))


# ------------------------------------------------------------------------------ points and poses


class _End(NamedTuple):
    """One of the two things that are held."""

    body: int
    point: jax.Array  # (3,) relative to its tree's reference
    quat: Array  # (4,)


def _ends(model: Model, pose: Pose, quats: Array, i: int) -> tuple[_End, _End]:
    m = model.mj
    things = int(m.eq_obj1id[i]), int(m.eq_obj2id[i])
    found = anchors(model, i)
    assert found is not None
    bodies, local = found
    if int(m.eq_objtype[i]) == int(mujoco.mjtObj.mjOBJ_SITE):
        turned = [
            quat_mul(quats[b], model.site_quat[s]) for b, s in zip(bodies, things, strict=True)
        ]
    else:
        weld = int(m.eq_type[i]) == _WELD
        first = quat_mul(quats[bodies[0]], model.eq_data[i][6:10]) if weld else quats[0]
        turned = [first, quats[bodies[1]]]
    points = positions(model, pose, bodies, local)
    return _End(bodies[0], points[0], turned[0]), _End(bodies[1], points[1], turned[1])


def _bodies(
    model: Model, pose: Pose, motion: Motion, held: list, quats: Array, i: int, qvel: Array
) -> Written:
    """A point (connect), or a point and an orientation (weld), the same on both bodies."""
    first, second = _ends(model, pose, quats, i)
    bodies = [first.body, second.body]
    points = jnp.stack([first.point, second.point])
    away = pick(pose.reference, [first.body])[0] - pick(pose.reference, [second.body])[0]
    pos = first.point - second.point + away
    linear, angular = motions_at(model, pose, bodies, points)
    jacobian = (linear[0] - linear[1]).T
    accelerated = [_point_acceleration(motion, held, end) for end in (first, second)]
    rate = accelerated[0] - accelerated[1]
    moves = np.max(model.topology.body_dofs[bodies], axis=0) > 0
    inverse = pick(model.body_invweight0, bodies)
    weight = jnp.repeat(inverse[:1, 0] + inverse[1:, 0], 3)
    if int(model.mj.eq_type[i]) == _WELD:
        turn = _Turn(model, motion, held, first, second, i)
        pos = lax.concatenate([pos, turn.error], 0)
        spin = (angular[0] - angular[1]).T
        jacobian = lax.concatenate([jacobian, dot(turn.map(first.quat, second.quat), spin)], 0)
        rate = lax.concatenate([rate, turn.rate], 0)
        weight = jnp.concatenate([weight, jnp.repeat(inverse[:1, 1] + inverse[1:, 1], 3)])
    return _block(model, i, pos, jacobian, moves, qvel, weight, rate)


def _point_acceleration(motion: Motion, held: list, end: _End) -> jax.Array:
    """(3,) acceleration of a point of a body, by velocities alone: J̇ v."""
    spin, velocity = (v[0] for v in halves(motion.bodies[end.body][None]))
    turning, moving = (v[0] for v in halves(jnp.asarray(held[end.body])[None]))
    across = lambda a, b: cross(a[None], b[None])[0]
    speed = velocity + across(spin, end.point)
    return moving + across(turning, end.point) + across(spin, speed)


class _Turn:
    """The rotation that separates two bodies, as half the vector of conj(q₂) q₁, scaled."""

    def __init__(
        self, model: Model, motion: Motion, held: list, first: _End, second: _End, i: int
    ) -> None:
        self.scale = model.eq_data[i][10]
        q, inverse = first.quat, quat_conjugate(second.quat)
        self.error = self.scale * quat_mul(inverse, q)[1:]
        spins = [motion.bodies[end.body][:3] for end in (first, second)]
        turning = [jnp.asarray(held[end.body])[:3] for end in (first, second)]
        spin = spins[0] - spins[1]
        q_rate = quat_mul(0.5 * _pure(spins[0]), q)
        inverse_rate = quat_conjugate(quat_mul(0.5 * _pure(spins[1]), second.quat))
        terms = (
            quat_mul(quat_mul(inverse_rate, _pure(spin)), q)
            + quat_mul(quat_mul(inverse, _pure(turning[0] - turning[1])), q)
            + quat_mul(quat_mul(inverse, _pure(spin)), q_rate)
        )
        self.rate = 0.5 * self.scale * terms[1:]

    def map(self, q: Array, p: Array) -> jax.Array:
        """(3, 3) from relative angular velocity to the rate of the error."""
        inverse = quat_conjugate(p)
        units = [_pure(jnp.asarray(unit)) for unit in np.eye(3, dtype=q.dtype)]
        columns = [quat_mul(quat_mul(inverse, unit), q)[1:] for unit in units]
        return 0.5 * self.scale * jnp.stack(columns, 1)


def _pure(v: Array) -> jax.Array:
    return lax.concatenate([jnp.zeros(1, v.dtype), v], 0)
