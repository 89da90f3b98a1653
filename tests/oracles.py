"""C MuJoCo as the oracle: models, states from real motion, and what mjData holds for them."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import functools
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

BRAX_MODELS = (
    "ant", "half_cheetah", "hopper", "humanoid", "inverted_double_pendulum", "inverted_pendulum",
    "pusher", "reacher", "swimmer", "walker2d",
)  # fmt: skip


def asset(name: str) -> pathlib.Path:
    """The MJCF file of one of Brax's robots, found without importing brax."""
    spec = importlib.util.find_spec("brax")
    assert spec is not None
    assert spec.origin is not None
    return pathlib.Path(spec.origin).parent / "envs" / "assets" / f"{name}.xml"


def exact_model(name: str) -> mujoco.MjModel:
    """A Brax robot whose solver iterates until it can do no better."""
    m = mujoco.MjModel.from_xml_path(str(asset(name)))
    m.opt.iterations, m.opt.tolerance = 100, 0
    return m


class Sample(NamedTuple):
    """n independent moments of a robot's life: what goes into mj_step and what comes out."""

    qpos: np.ndarray  # (n, nq)
    qvel: np.ndarray  # (n, nv)
    warmstart: np.ndarray  # (n, nv)
    ctrl: np.ndarray  # (n, nu)
    before: list[mujoco.MjData]  # after mj_forward at that state
    after: list[mujoco.MjData]  # after mj_step from that state


@functools.cache
def sample(name: str, n: int = 48, seed: int = 0) -> Sample:
    """Moments of a Brax robot flailing, falling and being pushed, for `exact_model(name)`."""
    return sample_of(exact_model(name), n, seed)


def sample_of(m: mujoco.MjModel, n: int = 48, seed: int = 0) -> Sample:
    """Moments from rollouts in C: random controls held for a while, random pushes, resets.

    Of four moments one has no active constraint, one has some and two have contacts, as long as
    such moments turn up.
    """
    rng = np.random.default_rng(seed)
    d = mujoco.MjData(m)
    inputs: list = []
    strength = np.where(m.actuator_ctrllimited, np.abs(m.actuator_ctrlrange).max(1), 1.0)
    for tick in range(200 * n):
        if len(inputs) == n:
            break
        if tick % 300 == 0:
            mujoco.mj_resetData(m, d)
            d.qpos[:] += 0.1 * rng.standard_normal(m.nq)
            d.qvel[:] += rng.standard_normal(m.nv)
        if tick % 10 == 0:
            d.ctrl[:] = rng.uniform(-1.2, 1.2, m.nu) * strength  # beyond the range at times
        if rng.random() < 0.01:
            d.qvel[:] += rng.standard_normal(m.nv)
        state = [a.copy() for a in (d.qpos, d.qvel, d.qacc_warmstart, d.ctrl)]
        mujoco.mj_step(m, d)
        wanted = (d.nefc == 0, d.nefc > 0, d.ncon > 0, d.ncon > 0)[len(inputs) % 4]
        if rng.random() < 0.2 and (wanted or tick > 150 * n):
            inputs.append(state)
    assert len(inputs) == n, f"only {len(inputs)} moments found"
    qpos, qvel, warmstart, ctrl = (np.array(x) for x in zip(*inputs, strict=True))
    before = [_at(m, state, mujoco.mj_forward) for state in inputs]
    after = [_at(m, state, mujoco.mj_step) for state in inputs]
    return Sample(qpos, qvel, warmstart, ctrl, before, after)


def _at(m: mujoco.MjModel, state, function) -> mujoco.MjData:
    d = mujoco.MjData(m)
    d.qpos[:], d.qvel[:], d.qacc_warmstart[:], d.ctrl[:] = state
    function(m, d)
    return d


def field(data: Sequence[mujoco.MjData], name: str) -> np.ndarray:
    """One field of mjData for all moments: (n, ...)."""
    return np.array([getattr(d, name) for d in data])


def mass_matrix(m: mujoco.MjModel, d: mujoco.MjData) -> np.ndarray:
    """(nv, nv), dense."""
    out = np.zeros((m.nv, m.nv))
    if hasattr(d, "qM") and not hasattr(d, "M"):
        mujoco.mj_fullM(m, out, d.qM)
        return out
    for i in range(m.nv):
        for k in range(m.M_rownnz[i]):
            address = m.M_rowadr[i] + k
            j = m.M_colind[address]
            out[i, j] = out[j, i] = d.M[address]
    return out


def jacobian(m: mujoco.MjModel, d: mujoco.MjData) -> np.ndarray:
    """efc_J (nefc, nv), dense."""
    if not d.nefc:
        return np.zeros((0, m.nv))
    if not mujoco.mj_isSparse(m):
        return np.array(d.efc_J).reshape(d.nefc, m.nv)
    out = np.zeros((d.nefc, m.nv))
    mujoco.mju_sparse2dense(out, d.efc_J, d.efc_J_rownnz, d.efc_J_rowadr, d.efc_J_colind)
    return out


def solver_cost(m: mujoco.MjModel, d: mujoco.MjData, qacc: np.ndarray) -> float:
    """What the constraint solver minimises, with the constraints of d, at an acceleration (nv,)."""
    away = qacc - d.qacc_smooth
    residual = np.minimum(jacobian(m, d) @ qacc - d.efc_aref, 0)
    return float(0.5 * away @ mass_matrix(m, d) @ away + 0.5 * (d.efc_D * residual) @ residual)


def solver_gradient(m: mujoco.MjModel, d: mujoco.MjData, qacc: np.ndarray) -> np.ndarray:
    """Derivative of `solver_cost` (nv,): zero at the solution."""
    J = jacobian(m, d)
    residual = np.minimum(J @ qacc - d.efc_aref, 0)
    return mass_matrix(m, d) @ (qacc - d.qacc_smooth) + J.T @ (d.efc_D * residual)
