"""What of MJCF is not simulated: it is refused at load, by name.

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
# Flags that change nothing here, or are heeded.
_FLAGS = set(
    "constraint equality frictionloss limit contact spring damper gravity clampctrl warmstart "
    "filterparent actuation refsafe sensor midphase eulerdamp autoreset island "
    "nativeccd multiccd".split()  # these two as far as no pair of shapes depends on them
)


class Unsupported(ValueError):
    """A model asks for something this engine does not simulate."""


def check(m: mujoco.MjModel, file: str) -> None:
    """Raise Unsupported, naming element, feature and file, unless all of `m` is simulated."""
    for finding in findings(m):
        raise Unsupported(f"model {file}: {finding} is not supported; see docs/physics.md")


def _name(m: mujoco.MjModel, kind: mujoco.mjtObj, i: Any, noun: str) -> str:
    name = mujoco.mj_id2name(m, kind, int(i))
    return f"{noun} '{name}'" if name else f"{noun} {int(i)}"


def _type(enum, value: int) -> str:
    """'connect' for mjEQ_CONNECT."""
    return enum(int(value)).name.split("_", 1)[1].lower()


def findings(m: mujoco.MjModel) -> Iterator[str]:
    """Everything in the model that is not simulated; pairs of shapes apart."""
    yield from _options(m)
    yield from _elements(m)
    yield from _joints(m)
    yield from _actuators(m)


def _options(m: mujoco.MjModel) -> Iterator[str]:
    for bit in mujoco.mjtDisableBit.__members__.values():
        if bit != mujoco.mjtDisableBit.mjNDISABLE and m.opt.disableflags & int(bit):
            flag = _type(mujoco.mjtDisableBit, bit)
            if flag not in _FLAGS:
                yield f"option flag {flag}=disable"
    for flag in ("SLEEP", "DIAGEXACT", "IPC", "SPECULATIVE"):
        bit = getattr(mujoco.mjtEnableBit, f"mjENBL_{flag}", None)
        if bit is not None and m.opt.enableflags & int(bit):
            yield f"option flag {flag.lower()}=enable"


def _elements(m: mujoco.MjModel) -> Iterator[str]:
    kinds = ("connect", "weld", "joint", "tendon")
    for i in range(m.neq):
        if (kind := _type(mujoco.mjtEq, m.eq_type[i])) not in kinds:
            yield f"{_name(m, _OBJ.mjOBJ_EQUALITY, i, 'equality constraint')} (type {kind})"
    for i in range(m.ntendon):
        tendon = _name(m, _OBJ.mjOBJ_TENDON, i, "tendon")
        if getattr(m, "tendon_plasticadr", np.full(m.ntendon, -1))[i] >= 0:
            yield f"{tendon}: plasticity"
    if m.nplugin:
        yield "a model with plugins"
    if getattr(m, "nflex", 0):
        yield "a deformable object (flex)"
    for i in np.flatnonzero(getattr(m, "geom_adhesion", np.zeros(m.ngeom))):
        yield f"{_name(m, _OBJ.mjOBJ_GEOM, i, 'geom')}: adhesion"
    if np.any(getattr(m, "pair_adhesion", 0)):
        yield "an explicit contact pair with adhesion"
    for i in np.flatnonzero(np.any(getattr(m, "geom_surfacevel", np.zeros((m.ngeom, 3))), -1)):
        yield f"{_name(m, _OBJ.mjOBJ_GEOM, i, 'geom')}: surface velocity"


def _joints(m: mujoco.MjModel) -> Iterator[str]:
    poly = getattr(m, "dof_dampingpoly", np.zeros((m.nv, 1)))
    plastic = getattr(m, "jnt_plasticadr", np.full(m.njnt, -1))
    for j in range(m.njnt):
        joint = _name(m, _OBJ.mjOBJ_JOINT, j, "joint")
        turns = int(m.jnt_type[j]) in (_FREE, _BALL)
        if turns and np.any(poly[m.jnt_dofadr[j]]):
            yield f"{joint}: polynomial damping of a ball or free joint"
        if plastic[j] >= 0:
            yield f"{joint}: plasticity"
        if turns and m.jnt_actfrclimited[j]:
            yield f"{joint}: actuatorfrcrange of a ball or free joint"


def _actuators(m: mujoco.MjModel) -> Iterator[str]:
    count = getattr(m, "nactuator", m.nu)
    for i in range(count):
        actuator = _name(m, _OBJ.mjOBJ_ACTUATOR, i, "actuator")
        trn = _type(mujoco.mjtTrn, m.actuator_trntype[i])
        dyn, gain, bias = (
            _type(enum, getattr(m, f"actuator_{part}type")[i])
            for enum, part in (
                (mujoco.mjtDyn, "dyn"), (mujoco.mjtGain, "gain"), (mujoco.mjtBias, "bias"),
            )
        )  # fmt: skip
        if trn not in ("joint", "jointinparent", "tendon", "site", "body"):
            yield f"{actuator} (transmission {trn})"
        elif trn.startswith("joint") and m.jnt_type[m.actuator_trnid[i, 0]] == _BALL:
            servo = gain == "fixed" and bias == "affine" and dyn in ("none", "integrator")
            if servo and m.actuator_gainprm[i, 0] == -m.actuator_biasprm[i, 1]:
                yield f"{actuator}: a position servo on a ball joint"
        if dyn not in ("none", "integrator", "filter", "filterexact", "muscle"):
            yield f"{actuator} (dyntype {dyn})"
        if gain not in ("fixed", "affine", "muscle"):
            yield f"{actuator} (gaintype {gain})"
        if bias not in ("none", "affine", "muscle"):
            yield f"{actuator} (biastype {bias})"
        if getattr(m, "actuator_plugin", np.full(count, -1))[i] >= 0:
            yield f"{actuator} (plugin)"
        for field in ("damping", "dampingpoly", "armature", "delay"):
            if np.any(getattr(m, f"actuator_{field}", np.zeros(count))[i]):
                yield f"{actuator}: {field}"
