"""The model of one robot: MuJoCo's compiled MJCF, split into static topology and plain numbers.

MuJoCo's own compiler reads the file; nothing here parses XML. The fields keep MuJoCo's names.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics import features
from gpusim.physics.collision.groups import Group, groups, slots
from gpusim.physics.collision.pairs import Pair, friction_table, pairs
from gpusim.physics.linalg import Array, quat_to_mat
from gpusim.suggest import nearest

FREE = int(mujoco.mjtJoint.mjJNT_FREE)
BALL = int(mujoco.mjtJoint.mjJNT_BALL)
SLIDE = int(mujoco.mjtJoint.mjJNT_SLIDE)
HINGE = int(mujoco.mjtJoint.mjJNT_HINGE)

# Per type of joint: coordinates, velocities, and where its quaternion and its three rotations are.
SIZES = {FREE: (7, 6), BALL: (4, 3), SLIDE: (1, 1), HINGE: (1, 1)}
QUATERNION = {FREE: (3, 3), BALL: (0, 0)}


# Ranges of actuators, and what says whether each counts.
LIMITED = {
    "actuator_ctrlrange": "actuator_ctrllimited",
    "actuator_forcerange": "actuator_forcelimited",
    "actuator_actrange": "actuator_actlimited",
}


class Joint(NamedTuple):
    """One joint's place in the tree and in the state vectors."""

    type: int  # FREE, BALL, SLIDE or HINGE
    body: int  # the body it moves
    qpos: int  # address of its first coordinate
    dof: int  # address of its first velocity

    @property
    def dofs(self) -> range:
        """All its degrees of freedom."""
        return range(self.dof, self.dof + SIZES[self.type][1])

    @property
    def quat(self) -> slice:
        """Where its quaternion is in qpos; of those that turn freely."""
        start = self.qpos + QUATERNION[self.type][0]
        return slice(start, start + 4)

    @property
    def spin(self) -> int:
        """The first of its three rotations; of those that turn freely."""
        return self.dof + QUATERNION[self.type][1]


@dataclasses.dataclass(frozen=True, eq=False)
class Topology:
    """Everything that decides the shape of the computation: plain Python, fixed at load."""

    parent: tuple[int, ...]  # per body; the world is body 0 and its own parent
    root: tuple[int, ...]  # per body: the child of the world at the bottom of its tree
    weld: tuple[int, ...]  # per body: the nearest body at or above it that has joints, or 0
    joints: tuple[Joint, ...]
    body_joints: tuple[tuple[int, ...], ...]  # per body: indices into joints
    dof_body: tuple[int, ...]  # per degree of freedom: the body it moves
    dof_ancestors: np.ndarray  # (nv, nv) 0/1: [i, j] = 1 where j is i or an ancestor of i
    body_dofs: np.ndarray  # (nbody, nv) 0/1: degrees of freedom that move a body
    limited: tuple[int, ...]  # joints with limits
    rubbing: tuple[int, ...]  # degrees of freedom with dry friction
    pairs: tuple[Pair, ...]  # of geoms that may touch
    groups: tuple[Group, ...]  # the same, by shapes and dimension
    slots: int | None  # how many contacts of a dimension are kept; None: all points are
    geom_type: tuple[int, ...]
    geom_body: tuple[int, ...]
    site_body: tuple[int, ...]
    mocap: dict[int, int]  # bodies that are put where the caller wants them: their mocap numbers


@dataclasses.dataclass(frozen=True)
class Options:
    """MuJoCo's option block, as far as it matters here."""

    timestep: float  # s
    iterations: int  # Newton steps at most
    ls_iterations: int  # evaluations of a line search at most
    tolerance: float  # of scaled gradient and improvement
    noslip_iterations: int  # sweeps at most
    noslip_tolerance: float  # of scaled improvement
    impratio: float
    elliptic: bool  # friction cones: elliptic or pyramidal
    refsafe: bool  # time constants are at least two timesteps
    integrator: str  # euler, rk4, implicit or implicitfast
    disabled: frozenset[str]  # parts of the physics that are off: MuJoCo's names of the flags
    groups_off: frozenset[int]  # groups of actuators that are off
    density: float  # of the medium, kg/m³
    viscosity: float  # Pa s
    wind: tuple[float, ...]  # (3,) m/s


# Numbers that may be given per world: numpy as loaded, a jax array once put there by `replace`.
NUMBERS = (
    "gravity", "qpos0", "qpos_spring", "body_ipos", "body_mass", "body_inertia",
    "body_invweight0", "body_gravcomp", "jnt_range", "jnt_margin", "jnt_stiffness",
    "dof_armature", "dof_damping", "dof_invweight0", "dof_frictionloss", "mean_inertia",
    "geom_size", "geom_friction", "pair_friction", "actuator_gear", "actuator_gainprm",
    "actuator_biasprm", "actuator_dynprm", "actuator_ctrlrange", "actuator_forcerange",
    "actuator_actrange", "tendon_stiffness", "tendon_damping", "tendon_frictionloss",
)  # fmt: skip
# Numbers that decide which zeros and ones exist at compile time: always numpy.
_FIXED = (
    "body_pos", "body_quat", "body_mat", "body_imat", "jnt_pos", "jnt_axis", "jnt_solref",
    "jnt_solimp", "dof_solref", "dof_solimp", "geom_pos", "geom_mat", "geom_rbound",
    "site_pos", "site_mat", "site_quat", "jnt_stiffnesspoly", "dof_dampingpoly",
    "jnt_actfrcrange", "eq_data", "eq_solref", "eq_solimp", "tendon_length0", "tendon_lengthspring",
    "tendon_range", "tendon_margin", "tendon_invweight0", "tendon_solref_lim", "tendon_solimp_lim",
    "tendon_solref_fri", "tendon_solimp_fri", "tendon_stiffnesspoly", "tendon_dampingpoly",
    "tendon_armature", "tendon_actfrcrange", "actuator_lengthrange", "actuator_acc0",
)  # fmt: skip


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Some:
    """New values of some of a field's numbers; the others stay constants, which cost nothing.

    `places` is an index as numpy's, of whole numbers and tuples of them: `Some(slides, (floor, 0))`
    is one number, `Some(masses, ((3, 4, 7),))` are those of three bodies.
    """

    values: Any  # what `model.FIELD[places]` becomes
    places: tuple[int | tuple, ...] = dataclasses.field(metadata={"static": True})

    def within(self, field: np.ndarray) -> jax.Array:
        """All numbers of the field. Raises ValueError for values that do not fit there."""
        places = tuple(np.array(p) if isinstance(p, tuple) else p for p in self.places)
        if np.shape(self.values) != np.shape(field[places]):
            raise ValueError(
                f"has shape {np.shape(field[places])} at {self.places}, not {np.shape(self.values)}"
            )
        values = jnp.asarray(self.values)
        return jnp.asarray(field, values.dtype).at[places].set(values)


@dataclasses.dataclass(frozen=True, eq=False)  # equal only to itself, and so hashable
class Model:
    """A robot. MuJoCo's names, SI units; arrays are numpy float64 unless replaced."""

    name: str  # of the file, for messages
    mj: mujoco.MjModel
    topology: Topology
    options: Options
    gravity: Array  # (3,) m/s²
    qpos0: Array  # (nq,)
    qpos_spring: Array  # (nq,)
    body_pos: np.ndarray  # (nbody, 3) in the parent
    body_quat: np.ndarray  # (nbody, 4) in the parent
    body_mat: np.ndarray  # (nbody, 3, 3) the same rotation
    body_ipos: Array  # (nbody, 3) centre of mass in the body
    body_imat: np.ndarray  # (nbody, 3, 3) principal axes in the body, as columns
    body_mass: Array  # (nbody,) kg
    body_inertia: Array  # (nbody, 3) kg m² about the centre of mass, along the principal axes
    body_invweight0: Array  # (nbody, 2)
    body_gravcomp: Array  # (nbody,) part of its weight that is carried
    jnt_pos: np.ndarray  # (njnt, 3)
    jnt_axis: np.ndarray  # (njnt, 3)
    jnt_range: Array  # (njnt, 2) rad or m
    jnt_margin: Array  # (njnt,)
    jnt_stiffness: Array  # (njnt,)
    jnt_solref: np.ndarray  # (njnt, 2)
    jnt_solimp: np.ndarray  # (njnt, 5)
    dof_armature: Array  # (nv,), equal for the three rotations of a free joint
    dof_damping: Array  # (nv,), likewise
    dof_invweight0: Array  # (nv,)
    dof_frictionloss: Array  # (nv,) N or N m
    dof_solref: np.ndarray  # (nv, 2) of dry friction
    dof_solimp: np.ndarray  # (nv, 5)
    mean_inertia: Array  # () mean of the mass matrix's diagonal in the pose qpos0
    geom_pos: np.ndarray  # (ngeom, 3)
    geom_mat: np.ndarray  # (ngeom, 3, 3)
    geom_rbound: np.ndarray  # (ngeom,) radii of bounding spheres, 0 for planes
    geom_size: Array  # (ngeom, 3)
    geom_friction: Array  # (ngeom, 3)
    pair_friction: Array  # (npair, 5) of explicit pairs, or (1, 5): that overrides all
    site_pos: np.ndarray  # (nsite, 3)
    site_mat: np.ndarray  # (nsite, 3, 3)
    site_quat: np.ndarray  # (nsite, 4)
    jnt_stiffnesspoly: np.ndarray  # (njnt, 2) of higher powers
    dof_dampingpoly: np.ndarray  # (nv, 2)
    jnt_actfrcrange: np.ndarray  # (njnt, 2) of all actuators on a joint; infinite where unlimited
    eq_data: np.ndarray  # (neq, 11)
    eq_solref: np.ndarray  # (neq, 2)
    eq_solimp: np.ndarray  # (neq, 5)
    tendon_length0: np.ndarray  # (ntendon,) m or rad, in the pose qpos0
    tendon_lengthspring: np.ndarray  # (ntendon, 2) between these a spring is slack
    tendon_range: np.ndarray  # (ntendon, 2)
    tendon_margin: np.ndarray  # (ntendon,)
    tendon_invweight0: np.ndarray  # (ntendon,)
    tendon_solref_lim: np.ndarray  # (ntendon, 2)
    tendon_solimp_lim: np.ndarray  # (ntendon, 5)
    tendon_solref_fri: np.ndarray  # (ntendon, 2)
    tendon_solimp_fri: np.ndarray  # (ntendon, 5)
    tendon_stiffness: Array  # (ntendon,)
    tendon_stiffnesspoly: np.ndarray  # (ntendon, 2)
    tendon_damping: Array  # (ntendon,)
    tendon_dampingpoly: np.ndarray  # (ntendon, 2)
    tendon_frictionloss: Array  # (ntendon,)
    tendon_armature: np.ndarray  # (ntendon,)
    tendon_actfrcrange: np.ndarray  # (ntendon, 2), infinite where unlimited
    actuator_gear: Array  # (nu, 6)
    actuator_gainprm: Array  # (nu, 10)
    actuator_biasprm: Array  # (nu, 10)
    actuator_dynprm: Array  # (nu, 10)
    actuator_actrange: Array  # (nu, 2), infinite where unlimited
    actuator_lengthrange: np.ndarray  # (nu, 2) of muscles
    actuator_acc0: np.ndarray  # (nu,) of muscles
    actuator_ctrlrange: Array  # (nu, 2), infinite where unlimited
    actuator_forcerange: Array  # (nu, 2), infinite where unlimited

    nq = property(lambda self: self.mj.nq)
    nv = property(lambda self: self.mj.nv)
    nu = property(lambda self: self.mj.nu)
    na = property(lambda self: self.mj.na)
    nbody = property(lambda self: self.mj.nbody)
    timestep = property(lambda self: self.options.timestep)

    @property
    def body_names(self) -> tuple[str, ...]:
        return tuple(self.mj.body(i).name for i in range(self.nbody))

    def replace(self, **changes: Any) -> "Model":
        """A model with some fields replaced, by one world's jax arrays for instance, or parts of
        them (`Some`).

        Quantities MuJoCo's compiler computes from others stay as they were: see `with_constants`.
        Ranges of actuators that the file does not limit stay infinite, as in C. Damping or armature
        that is not equal for the three rotations of a free joint or a ball is NaN: its axes turn
        with the body in C. Raises ValueError for anything but fields in `NUMBERS`.
        """
        for field, value in changes.items():
            if field not in NUMBERS:
                raise ValueError(
                    f"model {self.name}: {field!r} cannot be replaced; {nearest(field, NUMBERS)}"
                    f"These can: {', '.join(NUMBERS)}"
                )
            if isinstance(value, Some):
                try:
                    value = changes[field] = value.within(getattr(self, field))
                except (ValueError, IndexError) as error:
                    raise ValueError(f"model {self.name}: {field} {error}") from error
            if np.shape(value) != np.shape(getattr(self, field)):
                raise ValueError(
                    f"model {self.name}: {field} has shape {np.shape(getattr(self, field))}, "
                    f"not {np.shape(value)}"
                )
        changes |= {field: self._honoured(field, value) for field, value in changes.items()}
        return dataclasses.replace(self, **changes)

    def _honoured(self, field: str, value: Any) -> Any:
        """What of a new number counts: see `replace`."""
        if field in LIMITED:
            limited = getattr(self.mj, LIMITED[field]).astype(bool)
            if not limited.all():
                infinite = jnp.asarray([-jnp.inf, jnp.inf], jnp.result_type(value))
                return jnp.where(limited[:, None], value, infinite)
        if field in ("dof_damping", "dof_armature"):
            for k in (j.spin for j in self.topology.joints if j.type in QUATERNION):
                value = jnp.asarray(value)
                three = value[k : k + 3]
                equal = (three == three[0]).all()
                value = value.at[k : k + 3].set(jnp.where(equal, three, jnp.nan))
        return value

    def astype(self, dtype: Any) -> "Model":
        """The same model with all numbers in `dtype`, so that no world is promoted by it."""
        keep = lambda a: isinstance(a, float)  # promotes nothing
        cast = lambda a: a if keep(a) else a.astype(dtype)
        return dataclasses.replace(self, **{f: cast(getattr(self, f)) for f in NUMBERS + _FIXED})


def load(source: str | os.PathLike | mujoco.MjModel, **options: Any) -> Model:
    """Read a model from an MJCF file, an XML string or a compiled mujoco.MjModel.

    options: fields of `Options` to override (timestep, iterations, tolerance ...).
    Raises features.Unsupported (a ValueError) naming the first element that is not simulated, and
    ValueError for what is no number.
    """
    mj: mujoco.MjModel
    if isinstance(source, mujoco.MjModel):
        mj, name = source, _model_name(source)
    elif isinstance(source, str) and source.lstrip().startswith("<"):
        mj = mujoco.MjModel.from_xml_string(source)
        name = _model_name(mj)
    else:
        mj, name = mujoco.MjModel.from_xml_path(os.fspath(source)), pathlib.Path(source).name
    features.check(mj, name)
    numbers: dict[str, Any] = {
        f: _clean(getattr(mj, f)) for f in NUMBERS + _FIXED if hasattr(mj, f)
    }
    _check_numbers(mj, name, numbers)
    off = mj.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    numbers["gravity"] = _clean(mj.opt.gravity) * (not off)
    numbers["mean_inertia"] = float(mj.stat.meaninertia)
    numbers["body_mat"] = _rotations(mj.body_quat)
    numbers["body_imat"] = _rotations(mj.body_iquat)
    numbers["geom_mat"] = _rotations(mj.geom_quat)
    numbers["pair_friction"] = friction_table(mj)
    numbers["body_inertia"] = _equalize(mj.body_inertia)
    numbers["actuator_ctrlrange"] = _ranges(mj.actuator_ctrlrange, mj.actuator_ctrllimited)
    numbers["site_mat"] = _rotations(mj.site_quat)
    numbers["actuator_actrange"] = _ranges(mj.actuator_actrange, mj.actuator_actlimited)
    numbers["jnt_actfrcrange"] = _ranges(mj.jnt_actfrcrange, mj.jnt_actfrclimited)
    numbers["tendon_actfrcrange"] = _ranges(mj.tendon_actfrcrange, mj.tendon_actfrclimited)
    for poly, n in (
        ("jnt_stiffnesspoly", mj.njnt),
        ("dof_dampingpoly", mj.nv),
        ("tendon_stiffnesspoly", mj.ntendon),
        ("tendon_dampingpoly", mj.ntendon),
    ):
        numbers.setdefault(poly, np.zeros((n, 2)))
    numbers["actuator_forcerange"] = _ranges(mj.actuator_forcerange, mj.actuator_forcelimited)
    return Model(name, mj, _topology(mj, name), _options(mj, **options), **numbers)


def _check_numbers(mj: mujoco.MjModel, name: str, numbers: dict[str, Any]) -> None:
    """Raises ValueError for NaN, of which C's compiler only warns, and for a time step of none."""
    for field, array in ({"qpos0": mj.qpos0, "gravity": mj.opt.gravity} | numbers).items():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and np.isnan(array).any():
            row = int(np.argwhere(np.isnan(array))[0][0])
            raise ValueError(f"model {name}: {field} {row} is not a number (NaN)")
    if not mj.opt.timestep > 0:
        raise ValueError(f"model {name}: its timestep is {mj.opt.timestep}, not positive")


def _model_name(mj: mujoco.MjModel) -> str:
    return mj.names[: mj.names.index(b"\0")].decode() or "(unnamed)"


def _options(mj: mujoco.MjModel, **overrides: Any) -> Options:
    bits = mujoco.mjtDisableBit.__members__.items()
    flags = {n[7:].lower(): int(b) for n, b in bits if n.startswith("mjDSBL_")}
    disabled = frozenset(n for n, bit in flags.items() if mj.opt.disableflags & bit)
    values = {
        "timestep": float(mj.opt.timestep),
        "iterations": int(mj.opt.iterations),
        "ls_iterations": int(mj.opt.ls_iterations),
        "tolerance": float(mj.opt.tolerance),
        "noslip_iterations": int(mj.opt.noslip_iterations),
        "noslip_tolerance": float(mj.opt.noslip_tolerance),
        "impratio": float(mj.opt.impratio),
        "elliptic": mj.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC,
        "refsafe": "refsafe" not in disabled,
        "integrator": mujoco.mjtIntegrator(int(mj.opt.integrator)).name[6:].lower(),
        "disabled": disabled,
        "groups_off": frozenset(k for k in range(31) if mj.opt.disableactuator >> k & 1),
        "density": float(mj.opt.density),
        "viscosity": float(mj.opt.viscosity),
        "wind": tuple(float(w) for w in mj.opt.wind),
    }
    return Options(**values | overrides)


def _topology(mj: mujoco.MjModel, name: str) -> Topology:
    parent = tuple(int(p) for p in mj.body_parentid)
    joints = tuple(
        Joint(*(int(x) for x in row))
        for row in zip(mj.jnt_type, mj.jnt_bodyid, mj.jnt_qposadr, mj.jnt_dofadr, strict=True)
    )
    ancestors = np.eye(mj.nv)
    for i, p in enumerate(mj.dof_parentid):
        if p >= 0:
            ancestors[i] += ancestors[p]
    body_dofs = np.zeros((mj.nbody, mj.nv))
    for b in range(1, mj.nbody):
        first, count = mj.body_dofadr[b], mj.body_dofnum[b]
        body_dofs[b] = ancestors[first + count - 1] if count else body_dofs[parent[b]]
    candidates = pairs(mj)
    grouped = groups(mj, candidates, name)
    return Topology(
        parent=parent,
        root=tuple(int(r) for r in mj.body_rootid),
        weld=tuple(int(w) for w in mj.body_weldid),
        joints=joints,
        body_joints=tuple(
            tuple(j for j, joint in enumerate(joints) if joint.body == b) for b in range(mj.nbody)
        ),
        dof_body=tuple(int(b) for b in mj.dof_bodyid),
        dof_ancestors=ancestors,
        body_dofs=body_dofs,
        limited=tuple(int(j) for j in np.flatnonzero(mj.jnt_limited)),
        rubbing=tuple(int(d) for d in np.flatnonzero(mj.dof_frictionloss)),
        pairs=tuple(candidates),
        groups=grouped,
        slots=slots(grouped),
        geom_type=tuple(int(t) for t in mj.geom_type),
        geom_body=tuple(int(b) for b in mj.geom_bodyid),
        site_body=tuple(int(b) for b in mj.site_bodyid),
        mocap={b: int(k) for b, k in enumerate(mj.body_mocapid) if k >= 0},
    )


def _clean(x: Any) -> np.ndarray:
    """A copy in float64 without the compiler's rounding dust, which would hide exact zeros."""
    x = np.array(x, np.float64)
    return np.where(np.abs(x) < 1e-14, 0.0, x)


def _rotations(quat: np.ndarray) -> np.ndarray:
    """Rotation matrices, exact where a multiple of 90 degrees was meant."""
    mats = np.asarray(quat_to_mat(np.array(quat, np.float64)))
    return np.round(mats, 14) + 0.0  # + 0.0: no negative zeros


def _equalize(inertia: np.ndarray) -> np.ndarray:
    """Principal moments that differ by rounding only (bodies of revolution) made equal."""
    out = np.array(inertia, np.float64)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        same = np.isclose(out[:, a], out[:, b], rtol=1e-12, atol=0)
        out[:, b] = np.where(same, out[:, a], out[:, b])
    return out


def _ranges(values: np.ndarray, limited: np.ndarray) -> np.ndarray:
    return np.where(np.asarray(limited, bool)[:, None], values, [-np.inf, np.inf])
