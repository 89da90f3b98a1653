"""What of MJCF is supported: everything else is refused at load, by name.

A feature that were silently ignored would be a wrong simulation, so the checks err on refusing.
docs/physics.md has the table for users.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

_OBJ = mujoco.mjtObj
_FREE, _BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)


class Unsupported(ValueError):
    """A model asks for something this engine does not simulate."""


def check(m: mujoco.MjModel, file: str) -> None:
    """Raise Unsupported, naming element, feature and file, unless all of `m` is simulated."""
    for finding in _findings(m):
        raise Unsupported(f"model {file}: {finding} is not supported; see docs/physics.md")


def _name(m: mujoco.MjModel, kind: mujoco.mjtObj, i: Any, noun: str) -> str:
    name = mujoco.mj_id2name(m, kind, int(i))
    return f"{noun} '{name}'" if name else f"{noun} {int(i)}"


def _type(enum, value: int) -> str:
    """'connect' for mjEQ_CONNECT."""
    return enum(int(value)).name.split("_", 1)[1].lower()


def _findings(m: mujoco.MjModel) -> Iterator[str]:
    yield from _options(m)
    yield from _elements(m)
    yield from _joints(m)
    yield from _actuators(m)


def _options(m: mujoco.MjModel) -> Iterator[str]:
    if int(m.opt.integrator) != int(mujoco.mjtIntegrator.mjINT_EULER):
        yield f"option integrator={_type(mujoco.mjtIntegrator, m.opt.integrator)} (only Euler)"
    if int(m.opt.cone) != int(mujoco.mjtCone.mjCONE_PYRAMIDAL):
        yield "option cone=elliptic (only pyramidal)"
    if int(m.opt.solver) != int(mujoco.mjtSolver.mjSOL_NEWTON):
        yield f"option solver={_type(mujoco.mjtSolver, m.opt.solver)} (only Newton)"
    if m.opt.noslip_iterations:
        yield "option noslip_iterations"
    if m.opt.disableactuator:
        yield "option actuatorgroupdisable"
    # Whether islands are solved one by one changes no result, so that flag is ours to ignore.
    harmless = int(getattr(mujoco.mjtDisableBit, "mjDSBL_ISLAND", 0))
    for bit in mujoco.mjtDisableBit.__members__.values():
        if bit != mujoco.mjtDisableBit.mjNDISABLE and m.opt.disableflags & int(bit) & ~harmless:
            yield f"option flag {_type(mujoco.mjtDisableBit, bit)}=disable"
    sleep = getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", None)  # since MuJoCo 3.4
    relevant = [mujoco.mjtEnableBit.mjENBL_OVERRIDE, *([sleep] if sleep is not None else [])]
    for bit in relevant:
        if m.opt.enableflags & int(bit):
            yield f"option flag {_type(mujoco.mjtEnableBit, bit)}=enable"


def _elements(m: mujoco.MjModel) -> Iterator[str]:
    for i in range(m.neq):
        kind = _type(mujoco.mjtEq, m.eq_type[i])
        yield f"{_name(m, _OBJ.mjOBJ_EQUALITY, i, 'equality constraint')} (type {kind})"
    for i in range(m.ntendon):
        yield _name(m, _OBJ.mjOBJ_TENDON, i, "tendon")
    for count, noun in ((m.npair, "explicit contact pair"), (m.nplugin, "plugin")):
        if count:
            yield f"a model with {noun}s"
    if getattr(m, "nflex", 0):
        yield "a deformable object (flex)"
    for i in range(m.nbody):
        if m.body_mocapid[i] >= 0:
            yield f"{_name(m, _OBJ.mjOBJ_BODY, i, 'body')}: mocap"
        if m.body_gravcomp[i]:
            yield f"{_name(m, _OBJ.mjOBJ_BODY, i, 'body')}: gravcomp"
    in_fluid = m.opt.density or m.opt.viscosity
    for i in np.flatnonzero(m.geom_fluid[:, 0]) if in_fluid else []:
        yield f"{_name(m, _OBJ.mjOBJ_GEOM, i, 'geom')}: fluidshape=ellipsoid"
    for i in np.flatnonzero(getattr(m, "geom_adhesion", np.zeros(m.ngeom))):
        yield f"{_name(m, _OBJ.mjOBJ_GEOM, i, 'geom')}: adhesion"
    for i in np.flatnonzero(np.any(getattr(m, "geom_surfacevel", np.zeros((m.ngeom, 3))), -1)):
        yield f"{_name(m, _OBJ.mjOBJ_GEOM, i, 'geom')}: surface velocity"


def _joints(m: mujoco.MjModel) -> Iterator[str]:
    nv, njnt = m.nv, m.njnt
    jnt_poly = getattr(m, "jnt_stiffnesspoly", np.zeros((njnt, 1)))
    dof_poly = getattr(m, "dof_dampingpoly", np.zeros((nv, 1)))
    plastic = getattr(m, "jnt_plasticadr", np.full(njnt, -1))
    for j in range(njnt):
        joint = _name(m, _OBJ.mjOBJ_JOINT, j, "joint")
        kind = int(m.jnt_type[j])
        if kind == _BALL:
            yield f"{joint} (type ball)"
        if kind == _FREE and m.jnt_stiffness[j]:
            yield f"{joint}: stiffness of a free joint"
        if np.any(jnt_poly[j]) or np.any(dof_poly[m.jnt_dofadr[j]]):
            yield f"{joint}: polynomial stiffness or damping"
        if plastic[j] >= 0:
            yield f"{joint}: plasticity"
        if m.jnt_limited[j] and np.ptp(m.jnt_range[j]) <= 2 * m.jnt_margin[j]:
            yield f"{joint}: a range narrower than twice its margin"
        if m.jnt_limited[j] and not (m.jnt_solref[j] > 0).all():
            yield f"{joint}: solreflimit in direct (negative) form"
        if m.jnt_actfrclimited[j]:
            yield f"{joint}: actuatorfrcrange"
        if m.jnt_actgravcomp[j]:
            yield f"{joint}: actuatorgravcomp"
    for v in np.flatnonzero(m.dof_frictionloss):
        yield f"{_name(m, _OBJ.mjOBJ_JOINT, m.dof_jntid[v], 'joint')}: frictionloss"


def _actuators(m: mujoco.MjModel) -> Iterator[str]:
    gains = [int(mujoco.mjtGain.mjGAIN_FIXED), int(mujoco.mjtGain.mjGAIN_AFFINE)]
    biases = [int(mujoco.mjtBias.mjBIAS_NONE), int(mujoco.mjtBias.mjBIAS_AFFINE)]
    nu = getattr(m, "nactuator", m.nu)
    for i in range(nu):
        actuator = _name(m, _OBJ.mjOBJ_ACTUATOR, i, "actuator")
        if int(m.actuator_trntype[i]) != int(mujoco.mjtTrn.mjTRN_JOINT):
            yield f"{actuator} (transmission {_type(mujoco.mjtTrn, m.actuator_trntype[i])})"
        elif int(m.jnt_type[m.actuator_trnid[i, 0]]) in (_FREE, _BALL):
            yield f"{actuator} on a joint that is neither hinge nor slide"
        if int(m.actuator_dyntype[i]) != int(mujoco.mjtDyn.mjDYN_NONE):
            yield f"{actuator} (dyntype {_type(mujoco.mjtDyn, m.actuator_dyntype[i])})"
        if int(m.actuator_gaintype[i]) not in gains:
            yield f"{actuator} (gaintype {_type(mujoco.mjtGain, m.actuator_gaintype[i])})"
        if int(m.actuator_biastype[i]) not in biases:
            yield f"{actuator} (biastype {_type(mujoco.mjtBias, m.actuator_biastype[i])})"
        for field in ("damping", "dampingpoly", "armature", "delay"):
            if np.any(getattr(m, f"actuator_{field}", np.zeros(nu))[i]):
                yield f"{actuator}: {field}"
