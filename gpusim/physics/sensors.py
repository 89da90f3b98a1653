"""What sensors measure: mjData.sensordata, of all sensors that need no contact forces.

As in C, noise is not added (a task adds its own), and readings beyond a cutoff are clipped.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics.derived import Derived
from gpusim.physics.dynamics import accelerations, velocities
from gpusim.physics.features import Unsupported
from gpusim.physics.kinematics import kinematics, to_world
from gpusim.physics.linalg import Array, dot, normalize, quat_conjugate, quat_mul
from gpusim.physics.model import Model
from gpusim.physics.stages import State
from gpusim.physics.transmission import TENDON

_OBJ = mujoco.mjtObj
_BODY, _XBODY = int(_OBJ.mjOBJ_BODY), int(_OBJ.mjOBJ_XBODY)
_GEOM, _SITE = int(_OBJ.mjOBJ_GEOM), int(_OBJ.mjOBJ_SITE)


class _Frame(NamedTuple):
    """A body, its centre of mass, a geom or a site."""

    body: int
    pos: jax.Array  # (3,)
    mat: jax.Array  # (3, 3)
    quat: Callable[[], jax.Array]  # (4,)


class _World:
    """What the sensors of one world read."""

    def __init__(self, model: Model, state: State, derived: Derived) -> None:
        self.model, self.state, self.d = model, state, derived
        self._acceleration: Array | None = None

    def frame(self, kind: int, i: int) -> _Frame:
        model, d, m = self.model, self.d, self.model.mj
        if kind == _SITE:
            body, quat = int(m.site_bodyid[i]), model.site_quat[i]
            return _Frame(body, d.site_xpos[i], *self._turned(body, model.site_mat[i], quat))
        if kind == _GEOM:
            body = int(m.geom_bodyid[i])
            pos = d.xpos[body] + dot(d.xmat[body], model.geom_pos[i])
            quat = np.asarray(m.geom_quat[i], pos.dtype)
            return _Frame(body, pos, *self._turned(body, model.geom_mat[i], quat))
        if kind == _XBODY:
            return _Frame(i, d.xpos[i], d.xmat[i], lambda: d.xquat[i])
        quat = np.asarray(m.body_iquat[i], d.xpos.dtype)
        return _Frame(i, d.xipos[i], *self._turned(i, model.body_imat[i], quat))

    def _turned(self, body: int, mat: Array, quat: Array) -> tuple:
        whole = lambda: quat_mul(self.d.xquat[body], jnp.asarray(quat))
        return dot(self.d.xmat[body], jnp.asarray(mat)), whole

    def velocity(self, at: _Frame) -> tuple[jax.Array, jax.Array]:
        """Angular and linear (3,), in world axes (mj_objectVelocity)."""
        angular, linear = self.d.cvel[at.body, :3], self.d.cvel[at.body, 3:]
        arm = at.pos - self.d.subtree_com[self.model.topology.root[at.body]]
        return angular, linear + jnp.cross(angular, arm)

    def acceleration(self, at: _Frame) -> tuple[jax.Array, jax.Array]:
        """Angular and linear (3,), in world axes, less gravity (mj_objectAcceleration)."""
        if self._acceleration is None:
            self._acceleration = self._accelerations()
        both = self._acceleration[at.body]
        arm = at.pos - self.d.xpos[self.model.topology.root[at.body]]
        spin, speed = self.velocity(at)
        linear = both[3:] + jnp.cross(both[:3], arm) + jnp.cross(spin, speed)
        return both[:3], linear - self.model.gravity

    def _accelerations(self) -> jax.Array:
        """(nbody, 6) about the references of the trees."""
        model, state = self.model, self.state
        pose = kinematics(model, jnp.asarray(state.qpos), state.mocap)
        motion = velocities(model, pose, to_world(model, pose, jnp.asarray(state.qvel)))
        pushed = to_world(model, pose, self.d.qacc)[:, None] * pose.cdof
        moved = dot(jnp.asarray(model.topology.body_dofs.astype(pushed.dtype)), pushed)
        return moved + jnp.stack([jnp.asarray(a) for a in accelerations(model, motion)])

    def subtree(self, body: int) -> tuple[jax.Array, jax.Array]:
        """Velocity of a subtree's centre of mass, angular momentum about it (mj_subtreeVel)."""
        model, d, top = self.model, self.d, self.model.topology
        inside = [body]
        for b in range(body + 1, model.nbody):
            if top.parent[b] in inside:
                inside.append(b)
        mass = jnp.asarray(model.body_mass)
        moving = {b: self.velocity(self.frame(_BODY, b)) for b in inside if b}
        momentum = sum((mass[b] * v for b, (_, v) in moving.items()), jnp.zeros(3, mass.dtype))
        total = sum((mass[b] for b in inside), jnp.zeros((), mass.dtype))
        velocity = momentum / jnp.maximum(total, 1e-15)
        spin = jnp.zeros(3, mass.dtype)
        for b, (angular, linear) in moving.items():
            axes = dot(d.xmat[b], jnp.asarray(model.body_imat[b]))
            spin = spin + dot(axes, model.body_inertia[b] * dot(angular, axes))
            spin = spin + mass[b] * jnp.cross(d.xipos[b] - d.subtree_com[body], linear - velocity)
        return velocity, spin


def _relative(world: _World, i: int, at: _Frame) -> tuple[_Frame, _Frame | None]:
    m = world.model.mj
    if m.sensor_refid[i] < 0:
        return at, None
    return at, world.frame(int(m.sensor_reftype[i]), int(m.sensor_refid[i]))


def _frame_pos(world: _World, i: int, at: _Frame) -> jax.Array:
    at, ref = _relative(world, i, at)
    return at.pos if ref is None else dot(at.pos - ref.pos, ref.mat)


def _frame_axis(k: int) -> Callable:
    def axis(world: _World, i: int, at: _Frame) -> jax.Array:
        at, ref = _relative(world, i, at)
        return at.mat[:, k] if ref is None else dot(at.mat[:, k], ref.mat)

    return axis


def _frame_quat(world: _World, i: int, at: _Frame) -> jax.Array:
    at, ref = _relative(world, i, at)
    return at.quat() if ref is None else quat_mul(quat_conjugate(ref.quat()), at.quat())


def _frame_velocity(angular: bool) -> Callable:
    def velocity(world: _World, i: int, at: _Frame) -> jax.Array:
        at, ref = _relative(world, i, at)
        spin, speed = world.velocity(at)
        if ref is None:
            return spin if angular else speed
        ref_spin, ref_speed = world.velocity(ref)
        carried = ref_speed + jnp.cross(ref_spin, at.pos - ref.pos)
        return dot(spin - ref_spin if angular else speed - carried, ref.mat)

    return velocity


# Of frames: f(world, number of the sensor, frame).
_FRAMES = {
    "FRAMEPOS": _frame_pos,
    "FRAMEQUAT": _frame_quat,
    "FRAMEXAXIS": _frame_axis(0),
    "FRAMEYAXIS": _frame_axis(1),
    "FRAMEZAXIS": _frame_axis(2),
    "FRAMELINVEL": _frame_velocity(angular=False),
    "FRAMEANGVEL": _frame_velocity(angular=True),
    "FRAMELINACC": lambda w, i, at: w.acceleration(at)[1],
    "FRAMEANGACC": lambda w, i, at: w.acceleration(at)[0],
    "VELOCIMETER": lambda w, i, at: dot(w.velocity(at)[1], at.mat),
    "GYRO": lambda w, i, at: dot(w.velocity(at)[0], at.mat),
    "ACCELEROMETER": lambda w, i, at: dot(w.acceleration(at)[1], at.mat),
    "MAGNETOMETER": lambda w, i, at: dot(np.asarray(w.model.mj.opt.magnetic, at.mat.dtype), at.mat),
}


def _tendon_force(world: _World, t: int) -> jax.Array:
    m = world.model.mj
    on = [i for i in range(m.nu) if m.actuator_trntype[i] == TENDON and m.actuator_trnid[i, 0] == t]
    return sum((world.d.actuator_force[i] for i in on), jnp.zeros((), world.d.qacc.dtype))


def _joint(world: _World, j: int):
    return world.model.topology.joints[j]


# Of other things: f(world, number of the joint, tendon, actuator or body).
_OTHERS = {
    "JOINTPOS": lambda w, j: w.state.qpos[_joint(w, j).qpos],
    "JOINTVEL": lambda w, j: w.state.qvel[_joint(w, j).dof],
    "JOINTACTFRC": lambda w, j: w.d.qfrc_actuator[_joint(w, j).dof],
    "BALLQUAT": lambda w, j: normalize(jnp.asarray(w.state.qpos[_joint(w, j).quat])),
    "BALLANGVEL": lambda w, j: w.state.qvel[_joint(w, j).spin : _joint(w, j).spin + 3],
    "TENDONPOS": lambda w, t: w.d.ten_length[t],
    "TENDONVEL": lambda w, t: w.d.ten_velocity[t],
    "TENDONACTFRC": _tendon_force,
    "ACTUATORPOS": lambda w, a: w.d.actuator_length[a],
    "ACTUATORVEL": lambda w, a: w.d.actuator_velocity[a],
    "ACTUATORFRC": lambda w, a: w.d.actuator_force[a],
    "SUBTREECOM": lambda w, b: w.d.subtree_com[b],
    "SUBTREELINVEL": lambda w, b: w.subtree(b)[0],
    "SUBTREEANGMOM": lambda w, b: w.subtree(b)[1],
}


def sensors(model: Model, state: State, derived: Derived) -> jax.Array:
    """mjData.sensordata (nsensordata,).

    state, derived: a state and what `step` or `forward` derived from it (a step's new state is not
    the one that its derived quantities are of). Raises Unsupported for sensors that are not known.
    """
    model = model.astype(state.qpos.dtype)
    world, m = _World(model, state, derived), model.mj
    readings = [_reading(world, i) for i in range(m.nsensor)]
    none = jnp.zeros(0, state.qpos.dtype)
    data = jnp.concatenate([none, *(jnp.atleast_1d(jnp.asarray(r)) for r in readings)])
    return 0 * data if "sensor" in model.options.disabled else data


def _reading(world: _World, i: int) -> Array:
    m = world.model.mj
    kind = mujoco.mjtSensor(int(m.sensor_type[i])).name[7:]
    objtype, target = int(m.sensor_objtype[i]), int(m.sensor_objid[i])
    kinds = (_BODY, _XBODY, _GEOM, _SITE)
    delayed = any(getattr(m, f"sensor_{f}", np.zeros(m.nsensor))[i] for f in ("delay", "nsample"))
    seen = kind in _FRAMES and objtype in kinds
    seen = seen and (m.sensor_refid[i] < 0 or int(m.sensor_reftype[i]) in kinds)
    if delayed or not (seen or kind in _OTHERS):
        name = m.sensor(i).name or i
        what = "delays" if delayed else f"type {kind.lower()}"
        raise Unsupported(
            f"model {world.model.name}: sensor '{name}' ({what}) is not supported; "
            "see docs/physics.md"
        )
    if seen:
        value = _FRAMES[kind](world, i, world.frame(objtype, target))
    else:
        value = _OTHERS[kind](world, target)
    cutoff = float(m.sensor_cutoff[i])
    real = int(m.sensor_datatype[i]) == int(mujoco.mjtDataType.mjDATATYPE_REAL)
    return jnp.clip(value, -cutoff, cutoff) if cutoff > 0 and real else value
