"""A robot in a mirror: what its numbers are where left is right.

The mirror is the plane y = 0. Joints, motors and bodies are matched by where they are in the
model's own pose (qpos0): a left hip is found where the right one's image is. So a mirrored number
is another one or the same, perhaps negated. That the image moves as the robot does is asked of C
MuJoCo; where the limits of joints are, is not compared.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np

POLAR = np.array([1.0, -1.0, 1.0])
"""Signs of the parts of a position, a velocity or a force."""
AXIAL = -POLAR
"""Signs of the parts of an angular velocity or a torque."""
NEAR = 2e-3  # m: how far from its image's place a part of a robot may be; real robots are not exact
ALIKE = 0.15  # how unlike masses, and a joint's accelerations, may be, relative to them; likewise
TOUCHING = 1e-2  # m: and how far places and sizes of what touches
_FREE, _SLIDE, _HINGE = (
    int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_SLIDE),
    int(mujoco.mjtJoint.mjJNT_HINGE),
)  # fmt: skip


class Signed(NamedTuple):
    """Numbers in another order, some negated."""

    index: np.ndarray  # (n,) which becomes the i-th
    sign: np.ndarray  # (n,) 1 or -1

    def __call__(self, x: Any) -> Any:
        """The numbers (n,) so changed."""
        return x[self.index] * self.sign.astype(x.dtype)

    def part(self, first: int, count: int | None = None) -> "Signed":
        """Of so many numbers (all) from one on, that change places among themselves."""
        some = slice(first, None if count is None else first + count)
        return Signed(self.index[some] - first, self.sign[some])


def joined(*parts: Signed | Sequence[float] | np.ndarray) -> Signed:
    """Of numbers that follow each other; a part that is signs alone stays in its order."""
    signed = [p if isinstance(p, Signed) else Signed(np.arange(len(p)), np.array(p)) for p in parts]
    starts = np.cumsum([0, *(len(p.index) for p in signed)])
    index = [p.index + start for p, start in zip(signed, starts, strict=False)]
    return Signed(np.concatenate(index), np.concatenate([p.sign for p in signed]))


def rows(order: Sequence[int] | np.ndarray, *signs: Sequence[float] | np.ndarray) -> Signed:
    """Of rows of numbers, one after the other, that change places whole; each row is of parts with
    these signs."""
    sign = np.concatenate(signs)
    index = np.asarray(order)[:, None] * len(sign) + np.arange(len(sign))
    return Signed(index.ravel(), np.tile(sign, len(order)))


class Mirror(NamedTuple):
    """What becomes of a model's numbers."""

    qpos: Signed
    qvel: Signed
    ctrl: Signed
    bodies: np.ndarray  # (nbody,) which body becomes the i-th

    def of_bodies(self, *signs: Sequence[float] | np.ndarray) -> Signed:
        """Of rows of numbers, one for each body but the world, see `rows`."""
        return rows(self.bodies[1:] - 1, *signs)


def mirror(mj: mujoco.MjModel) -> Mirror:
    """What becomes of a model's numbers in the mirror y = 0.

    Raises ValueError, naming the part, for a model that is not its own mirror image, or has joints
    or transmissions for which that is not worked out (ball joints, motors of no joint).
    """
    data = mujoco.MjData(mj)
    mujoco.mj_kinematics(mj, data)
    mujoco.mj_comPos(mj, data)
    joints = [_image_of_joint(mj, data, j) for j in range(mj.njnt)]
    qpos, qvel = (Signed(np.arange(n), np.ones(n)) for n in (mj.nq, mj.nv))
    for j, (image, sign) in enumerate(joints):
        q, v = mj.jnt_qposadr[j], mj.jnt_dofadr[j]
        if mj.jnt_type[j] == _FREE:
            qpos.sign[q : q + 7] = np.concatenate([POLAR, [1], AXIAL])
            qvel.sign[v : v + 6] = np.concatenate([POLAR, AXIAL])
            width, turn = 7, 6
        else:
            qpos.sign[q], qvel.sign[v] = sign, sign
            width = turn = 1
        qpos.index[q : q + width] = mj.jnt_qposadr[image] + np.arange(width)
        qvel.index[v : v + turn] = mj.jnt_dofadr[image] + np.arange(turn)
    found = Mirror(qpos, qvel, _motors(mj, joints), _bodies(mj, data, joints))
    _check_geoms(mj, data, found.bodies)
    _check(mj, found)
    return found


def _image_of_joint(mj: mujoco.MjModel, data: mujoco.MjData, j: int) -> tuple[int, float]:
    """The joint that joint j is the image of, and the sign of its number."""
    kind, name = int(mj.jnt_type[j]), mj.joint(j).name or str(j)
    if kind not in (_FREE, _SLIDE, _HINGE):
        raise ValueError(f"model: joint {name!r} is a ball joint, of which no mirror image is made")
    anchors, axes = data.xanchor * POLAR, data.xaxis * (AXIAL if kind == _HINGE else POLAR)
    same = (mj.jnt_type == kind) & (np.abs(anchors - data.xanchor[j]).max(1) < NEAR)
    if kind == _FREE:
        mat = data.xmat[mj.jnt_bodyid[j]].reshape(3, 3)
        same &= np.arange(mj.njnt) == j
        if not same.any() or np.abs(mat - mat * np.outer(POLAR, POLAR)).max() > NEAR:
            raise ValueError(
                f"model: the free joint {name!r} is not in the plane y = 0, facing along it"
            )
        return j, 1.0
    along = axes @ data.xaxis[j]
    which = np.flatnonzero(same & (np.abs(np.abs(along) - 1) < NEAR))
    if len(which) != 1:
        number = "none" if not len(which) else f"{len(which)} joints"
        raise ValueError(f"model: joint {name!r} is the mirror image of {number}")
    image, sign = int(which[0]), float(np.sign(along[which[0]]))
    own, other = mj.qpos0[mj.jnt_qposadr[[j, image]]]
    if abs(own - sign * other) > NEAR:
        raise ValueError(
            f"model: joint {name!r} is the mirror image of {mj.joint(image).name!r}, but counts "
            f"from another angle: their refs are {own:g} and {other:g}"
        )
    return image, sign


def _motors(mj: mujoco.MjModel, joints: list[tuple[int, float]]) -> Signed:
    """(nu,) by the joints they drive."""
    found = Signed(np.arange(mj.nu), np.ones(mj.nu))
    for i in np.flatnonzero(mj.actuator_trntype != mujoco.mjtTrn.mjTRN_JOINT):
        name = mj.actuator(i).name or str(i)
        raise ValueError(f"model: actuator {name!r} drives no joint, and has no mirror image")
    for i in range(mj.nu):
        name, joint = mj.actuator(i).name or str(i), mj.actuator_trnid[i, 0]
        if mj.jnt_type[joint] == _FREE:
            raise ValueError(
                f"model: actuator {name!r} drives a free joint: no image is made of it"
            )
        image, sign = joints[joint]
        same = np.flatnonzero(mj.actuator_trnid[:, 0] == image)
        if len(same) != 1:
            raise ValueError(f"model: actuator {name!r} is the mirror image of {len(same)} others")
        found.index[i] = same[0]
        gears = mj.actuator_gear[i, 0] * mj.actuator_gear[same[0], 0]
        found.sign[i] = -sign if gears < 0 else sign
    return found


def _bodies(mj: mujoco.MjModel, data: mujoco.MjData, joints: list[tuple[int, float]]) -> np.ndarray:
    """(nbody,) by their parents and joints, and by where they, and what hangs on them, are."""
    images = np.array([image for image, _ in joints], int)
    jointed = [sorted(np.flatnonzero(mj.jnt_bodyid == k)) for k in range(mj.nbody)]
    found = np.zeros(mj.nbody, int)
    for i in range(1, mj.nbody):
        off = lambda x, i=i: np.abs(x * POLAR - x[i]).max(1)
        same = mj.body_parentid == found[mj.body_parentid[i]]
        same &= np.abs(mj.body_mass - mj.body_mass[i]) <= ALIKE * mj.body_mass[i]
        its = sorted(images[jointed[i]])
        same &= np.array([k > 0 and jointed[k] == its for k in range(mj.nbody)])
        same &= (off(data.xpos) < NEAR) & ~np.isin(np.arange(mj.nbody), found[:i])
        if not same.any():
            raise ValueError(f"model: body {mj.body(i).name or i!r} is the mirror image of none")
        # Of several at one place, as legs of an ant may begin, that whose masses are there.
        unlike = off(data.xipos) + off(data.subtree_com) + 1e-9 * (np.arange(mj.nbody) != i)
        found[i] = np.where(same, unlike, np.inf).argmin()
    return found


def _check_geoms(mj: mujoco.MjModel, data: mujoco.MjData, bodies: np.ndarray) -> None:
    """Raises ValueError unless what can touch has its like on the other side."""
    touches = (mj.geom_contype != 0) | (mj.geom_conaffinity != 0)
    close = lambda x, y: np.abs(x - y).max(1) < TOUCHING
    for g in np.flatnonzero(touches & (mj.body_weldid[mj.geom_bodyid] != 0)):
        same = touches & (mj.geom_bodyid == bodies[mj.geom_bodyid[g]])
        same &= mj.geom_type == mj.geom_type[g]
        same &= close(data.geom_xpos * POLAR, data.geom_xpos[g])
        if mj.geom_type[g] != mujoco.mjtGeom.mjGEOM_MESH:  # of which two may be turned otherwise
            same &= close(mj.geom_size, mj.geom_size[g])
        unlike = np.abs(mj.geom_friction - mj.geom_friction[g])
        same &= (unlike <= ALIKE * mj.geom_friction[g]).all(1)
        if not same.any():
            name = mj.geom(g).name or str(g)
            where = mj.body(mj.geom_bodyid[g]).name
            raise ValueError(
                f"model: geom {name!r} of body {where!r} is the mirror image of none of its "
                "kind, place, size and friction"
            )


def _check(mj: mujoco.MjModel, found: Mirror) -> None:
    """Raises ValueError unless the image, off the ground, accelerates as the robot does."""
    mj = copy.copy(mj)
    mj.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_LIMIT
    mj.opt.solver, mj.opt.iterations = mujoco.mjtSolver.mjSOL_NEWTON, 100
    rng, data = np.random.default_rng(0), mujoco.MjData(mj)
    low, high = _common_range(mj, found)
    active = np.flatnonzero(mj.actuator_actadr >= 0)
    last = mj.actuator_actadr[active] + mj.actuator_actnum[active] - 1

    def accelerations(qpos, qvel, ctrl, act):
        mujoco.mj_resetData(mj, data)
        data.qpos, data.qvel, data.ctrl = qpos, qvel, ctrl
        data.act[last] = act[active]
        mujoco.mj_forward(mj, data)
        change = np.zeros(mj.nu)
        change[active] = data.act_dot[last]
        return data.qacc.copy(), change

    here, there, changes = [], [], []
    for _ in range(16):
        qpos, qvel = mj.qpos0.copy(), rng.uniform(-1, 1, mj.nv)
        mujoco.mj_integratePos(mj, qpos, rng.uniform(-0.3, 0.3, mj.nv), 1.0)
        ctrl, act = rng.uniform(low, high, (2, mj.nu))
        qacc, change = accelerations(qpos, qvel, ctrl, act)
        image = found.qpos(qpos), found.qvel(qvel), found.ctrl(ctrl), found.ctrl(act)
        its_qacc, its_change = accelerations(*image)
        there.append(found.qvel(qacc))
        here.append(its_qacc)
        changes.append((its_change, found.ctrl(change)))
    off = _unlike(np.array(here), np.array(there))
    if off.max(initial=0) > ALIKE:
        joint = mj.joint(int(mj.dof_jntid[off.argmax()])).name
        raise ValueError(
            f"model: its mirror image moves otherwise at joint {joint!r} (accelerations differ "
            f"by {off.max():.0%})"
        )
    off = _unlike(*np.array(changes).swapaxes(0, 1))
    if off.max(initial=0) > ALIKE:
        name = mj.actuator(int(off.argmax())).name or str(off.argmax())
        raise ValueError(
            f"model: actuator {name!r} is not activated as its mirror image is (rates differ by "
            f"{off.max():.0%})"
        )


def _common_range(mj: mujoco.MjModel, found: Mirror) -> tuple[np.ndarray, np.ndarray]:
    """(nu,) each: between which controls both an actuator and its image take them."""
    low, high = np.where(mj.actuator_ctrllimited[:, None], mj.actuator_ctrlrange, [-1, 1]).T
    its_low, its_high = np.sort([found.ctrl(low), found.ctrl(high)], axis=0)
    least, most = np.maximum(low, its_low), np.minimum(high, its_high)
    for i in np.flatnonzero(least >= most):
        name = mj.actuator(i).name or str(i)
        raise ValueError(
            f"model: actuator {name!r} takes {low[i]:g} to {high[i]:g}, which as seen in a mirror "
            f"is {its_low[i]:g} to {its_high[i]:g}"
        )
    return least, most


def _unlike(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(n,) differences of numbers (samples, n), relative to the largest of each."""
    largest = np.abs(there).max(0)
    return np.abs(here - there).max(0) / np.maximum(largest, 1e-6 * largest.max(initial=1e-6))
