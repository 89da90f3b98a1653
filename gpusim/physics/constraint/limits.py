"""Rows along coordinates: limits of joints and tendons, and dry friction in them."""

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.constraint.blocks import Coordinates, Written
from gpusim.physics.constraint.laws import Friction, OneSided, Params
from gpusim.physics.constraint.softness import Softness, softness, stiffness
from gpusim.physics.kinematics import Pose, to_world
from gpusim.physics.linalg import Array, contract, normalize, pick, quat_to_vector
from gpusim.physics.model import BALL, FREE, Model
from gpusim.physics.tendons import Tendons


def limit_blocks(
    model: Model, pose: Pose, tendons: Tendons, qpos: Array, qvel: Array
) -> list[Coordinates | Written]:
    """Joints and tendons within their margin of an end of their range."""
    joints = [model.topology.joints[j] for j in model.topology.limited]
    scalar = [j for j, k in zip(model.topology.limited, joints, strict=True) if k.type != BALL]
    balls = [j for j, k in zip(model.topology.limited, joints, strict=True) if k.type == BALL]
    cords = [t for t in range(model.mj.ntendon) if model.mj.tendon_limited[t]]
    blocks = []
    if scalar:
        blocks += _joints(model, scalar, qpos, qvel)
    if balls:
        blocks.append(_balls(model, pose, balls, qpos, qvel))
    if cords:
        blocks += _cords(model, tendons, cords, qvel)
    return blocks


def _pushing(
    soft: Softness, weight: Array, dist: jax.Array, velocity: jax.Array
) -> tuple[jax.Array, Params]:
    """aref (n,) and parameters of rows that push where dist < 0."""
    impedance = soft.impedance(dist)
    aref = -soft.damping * velocity - soft.spring * impedance * dist
    stiff = jnp.where(dist < 0, stiffness(impedance, weight), jnp.zeros((), dist.dtype))
    return aref, Params(stiff)


def _joints(model: Model, index: list[int], qpos: Array, qvel: Array) -> list[Coordinates]:
    """Hinges and slides: the nearer end, or both where both may act at once."""
    joints = [model.topology.joints[j] for j in index]
    dofs = [joint.dof for joint in joints]
    position = pick(qpos, [joint.qpos for joint in joints])
    ends, margin = pick(model.jnt_range, index), pick(model.jnt_margin, index)
    lower, upper = position - ends[:, 0], ends[:, 1] - position
    soft = _softness(model, model.jnt_solref[index], model.jnt_solimp[index])
    weight = pick(model.dof_invweight0, dofs)
    narrow = np.ptp(model.mj.jnt_range[index], axis=1) <= 2 * model.mj.jnt_margin[index]

    def block(sign: Array, dist: Array) -> Coordinates:
        aref, params = _pushing(soft, weight, dist - margin, sign * pick(qvel, dofs))
        return Coordinates(OneSided(1), params, dofs, sign[:, None], aref[:, None], model.nv)

    one = np.ones(len(dofs), qpos.dtype)
    if narrow.any():
        return [block(one, lower), block(-one, upper)]
    return [block(jnp.where(lower < upper, one, -one), jnp.minimum(lower, upper))]


def _balls(model: Model, pose: Pose, index: list[int], qpos: Array, qvel: Array) -> Written:
    """Balls: the angle of their rotation."""
    joints = [model.topology.joints[j] for j in index]
    rows, dist = [], []
    for j, joint in zip(index, joints, strict=True):
        turn = quat_to_vector(normalize(jnp.asarray(qpos[joint.quat])))
        angle2 = (turn * turn).sum()
        still = angle2 < 1e-30
        angle = jnp.sqrt(jnp.where(still, 1, angle2))
        axis = jnp.where(still, np.array([1, 0, 0], turn.dtype), turn / angle)
        rows.append(jnp.zeros(model.nv, qpos.dtype).at[joint.dof : joint.dof + 3].set(-axis))
        dist.append(jnp.max(model.jnt_range[j]) - jnp.where(still, 0, angle))
    jacobian = to_world(model, pose, jnp.stack(rows).T).T
    margin = pick(model.jnt_margin, index)
    soft = _softness(model, model.jnt_solref[index], model.jnt_solimp[index])
    weight = pick(model.dof_invweight0, [joint.dof for joint in joints])
    velocity = contract(jacobian, qvel, 1, 0)
    aref, params = _pushing(soft, weight, jnp.stack(dist) - margin, velocity)
    return written_rows(OneSided(1), params, jacobian, _reach(model, joints), aref)


def _cords(model: Model, tendons: Tendons, index: list[int], qvel: Array) -> list[Written]:
    """Tendons: the nearer end, or both where both may act at once."""
    length, moment = pick(tendons.length, index), pick(tendons.moment, index)
    ends, margin = model.tendon_range[index], model.tendon_margin[index]
    lower, upper = length - ends[:, 0], ends[:, 1] - length
    soft = _softness(model, model.tendon_solref_lim[index], model.tendon_solimp_lim[index])
    weight = model.tendon_invweight0[index]
    velocity = contract(moment, qvel, 1, 0)
    narrow = np.ptp(model.mj.tendon_range[index], axis=1) <= 2 * model.mj.tendon_margin[index]

    def block(sign: Array, dist: Array) -> Written:
        aref, params = _pushing(soft, weight, dist - margin, sign * velocity)
        reach = np.ones((len(index), model.nv), bool) & reach_of_tendons(model)[index]
        return written_rows(OneSided(1), params, moment, reach, aref, sign)

    one = np.ones(len(index), length.dtype)
    if narrow.any():
        return [block(one, lower), block(-one, upper)]
    return [block(jnp.where(lower < upper, one, -one), jnp.minimum(lower, upper))]


def friction_blocks(
    model: Model, pose: Pose, tendons: Tendons, qvel: Array
) -> list[Coordinates | Written]:
    """Dry friction of degrees of freedom and tendons."""
    top, blocks = model.topology, []
    turning = {d for joint in top.joints if joint.type in (FREE, BALL) for d in joint.dofs}
    plain = [d for d in top.rubbing if d not in turning]
    spun = [d for d in top.rubbing if d in turning]
    if plain:
        aref, params = _rubbing(model, plain, pick(qvel, plain))
        sign = np.ones((len(plain), 1), qvel.dtype)
        blocks.append(Coordinates(Friction(), params, plain, sign, aref[:, None], model.nv))
    if spun:  # in the axes of the bodies
        jacobian = to_world(model, pose, jnp.asarray(np.eye(model.nv, dtype=qvel.dtype)[:, spun])).T
        aref, params = _rubbing(model, spun, contract(jacobian, qvel, 1, 0))
        reach = _reach(model, [top.joints[int(model.mj.dof_jntid[d])] for d in spun])
        blocks.append(written_rows(Friction(), params, jacobian, reach, aref))
    cords = [t for t in range(model.mj.ntendon) if model.mj.tendon_frictionloss[t] > 0]
    if cords:
        moment = pick(tendons.moment, cords)
        soft = _softness(model, model.tendon_solref_fri[cords], model.tendon_solimp_fri[cords])
        weight, loss = model.tendon_invweight0[cords], pick(model.tendon_frictionloss, cords)
        aref, params = _dry(soft, weight, loss, contract(moment, qvel, 1, 0))
        reach = reach_of_tendons(model)[cords]
        blocks.append(written_rows(Friction(), params, moment, reach, aref))
    return blocks


def _rubbing(model: Model, dofs: list[int], velocity: Array) -> tuple[jax.Array, Params]:
    soft = _softness(model, model.dof_solref[dofs], model.dof_solimp[dofs])
    weight, loss = pick(model.dof_invweight0, dofs), pick(model.dof_frictionloss, dofs)
    return _dry(soft, weight, loss, velocity)


def _dry(soft: Softness, weight: Array, loss: Array, velocity: Array) -> tuple[jax.Array, Params]:
    """aref (n,) and parameters of rows that rub with forces up to loss."""
    impedance = soft.impedance(jnp.zeros_like(velocity))
    stiff = stiffness(impedance, weight)[:, None]
    return -soft.damping * velocity, Params(stiff, jnp.asarray(loss, velocity.dtype))


def _softness(model: Model, solref: np.ndarray, solimp: np.ndarray) -> Softness:
    options = model.options
    return softness(solref, solimp, options.timestep, options.refsafe, solref.dtype)


def _reach(model: Model, joints: list) -> np.ndarray:
    """(n, nv) which degrees of freedom are a joint's."""
    out = np.zeros((len(joints), model.nv), bool)
    for row, joint in zip(out, joints, strict=True):
        row[list(joint.dofs)] = True
    return out


def reach_of_tendons(model: Model) -> np.ndarray:
    """(ntendon, nv) which degrees of freedom may change a tendon's length."""
    m = model.mj
    out = np.zeros((m.ntendon, m.nv), bool)
    for t in range(m.ntendon):
        first = m.ten_J_rowadr[t]
        out[t, m.ten_J_colind[first : first + m.ten_J_rownnz[t]]] = True
    return out


def written_rows(
    law, params: Params, jacobian: Array, reach: np.ndarray, aref: Array, sign: Array | None = None
) -> Written:
    """A block of rows J (n, nv), possibly with signs (n,)."""
    one = np.ones((len(reach), 1), aref.dtype)
    scale = one if sign is None else sign[:, None]
    return Written(law, params, jacobian[:, None], reach, scale, one[:, None], aref[:, None])
