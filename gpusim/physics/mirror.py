"""A robot in a mirror: what its numbers are where left is right.

The mirror is the plane y = 0. Joints, motors and bodies are matched by where they are in the
model's own pose (qpos0): a left hip is found where the right one's image is. So a mirrored number
is another one or the same, perhaps negated. That the image moves as the robot does is asked of C
MuJoCo.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np

POLAR = np.array([1.0, -1.0, 1.0])
"""Signs of the parts of a position, a velocity or a force."""
AXIAL = -POLAR
"""Signs of the parts of an angular velocity or a torque."""
NEAR = 2e-3  # m: how far from its image's place a part of a robot may be; real robots are not exact
ALIKE = 0.3  # how unlike accelerations may be, relative to the largest; likewise
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
    found = Mirror(qpos, qvel, _motors(mj, joints), _bodies(mj, data))
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
        quat = mj.qpos0[mj.jnt_qposadr[j] + 3 :][:4]
        same &= np.arange(mj.njnt) == j
        if not same.any() or np.abs(quat - quat * [1, *AXIAL]).max() > NEAR:
            raise ValueError(
                f"model: the free joint {name!r} is not in the plane y = 0, facing along it"
            )
        return j, 1.0
    along = axes @ data.xaxis[j]
    which = np.flatnonzero(same & (np.abs(np.abs(along) - 1) < NEAR))
    if len(which) != 1:
        number = "none" if not len(which) else f"{len(which)} joints"
        raise ValueError(f"model: joint {name!r} is the mirror image of {number}")
    return int(which[0]), float(np.sign(along[which[0]]))


def _motors(mj: mujoco.MjModel, joints: list[tuple[int, float]]) -> Signed:
    """(nu,) by the joints they drive."""
    found = Signed(np.arange(mj.nu), np.ones(mj.nu))
    for i in np.flatnonzero(mj.actuator_trntype != mujoco.mjtTrn.mjTRN_JOINT):
        name = mj.actuator(i).name or str(i)
        raise ValueError(f"model: actuator {name!r} drives no joint, and has no mirror image")
    for i in range(mj.nu):
        name = mj.actuator(i).name or str(i)
        image, sign = joints[mj.actuator_trnid[i, 0]]
        same = np.flatnonzero(mj.actuator_trnid[:, 0] == image)
        if len(same) != 1:
            raise ValueError(f"model: actuator {name!r} is the mirror image of {len(same)} others")
        found.index[i] = same[0]
        gears = mj.actuator_gear[i, 0] * mj.actuator_gear[same[0], 0]
        found.sign[i] = sign * np.sign(gears)
    return found


def _bodies(mj: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """(nbody,) by their places and masses."""
    found = np.arange(mj.nbody)
    for i in range(mj.nbody):
        apart = np.abs(data.xpos * POLAR - data.xpos[i]).max(1)
        alike = np.abs(mj.body_mass - mj.body_mass[i]) <= ALIKE * mj.body_mass[i]
        same = np.flatnonzero((apart < NEAR) & alike)
        if not len(same):
            raise ValueError(f"model: body {mj.body(i).name!r} is the mirror image of none")
        found[i] = i if i in same else same[0]
    return found


def _check(mj: mujoco.MjModel, found: Mirror) -> None:
    """Raises ValueError unless the image, off the ground, accelerates as the robot does."""
    rng, data = np.random.default_rng(0), mujoco.MjData(mj)
    low, high = np.where(mj.actuator_ctrllimited[:, None], mj.actuator_ctrlrange, [-1, 1]).T

    def accelerations(qpos, qvel, ctrl):
        mujoco.mj_resetData(mj, data)
        data.qpos, data.qvel, data.ctrl = qpos, qvel, ctrl
        mujoco.mj_forward(mj, data)
        return data.qacc_smooth.copy()  # without what limits and contacts do

    for _ in range(3):
        qpos, qvel = mj.qpos0.copy(), rng.uniform(-1, 1, mj.nv)
        mujoco.mj_integratePos(mj, qpos, rng.uniform(-0.3, 0.3, mj.nv), 1.0)
        ctrl = rng.uniform(low, high)
        there = found.qvel(accelerations(qpos, qvel, ctrl))
        here = accelerations(found.qpos(qpos), found.qvel(qvel), found.ctrl(ctrl))
        off = np.abs(here - there) / np.abs(there).max()
        if off.max() > ALIKE:
            joint = mj.joint(int(mj.dof_jntid[off.argmax()])).name
            raise ValueError(
                f"model: its mirror image moves otherwise at joint {joint!r} (accelerations differ "
                f"by {off.max():.0%})"
            )
