"""Small models, one a feature, and how a step of them is compared with C MuJoCo."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import lanes, physics
from gpusim.physics.kinematics import Mocap

FIELDS = ("qpos", "qvel", "act", "qacc", "mocap_pos", "mocap_quat", "ctrl", "qacc_warmstart")
COMPARED = (
    "xpos", "site_xpos", "subtree_com", "cvel", "cfrc_ext", "ten_length", "ten_velocity",
    "actuator_length", "actuator_velocity", "qfrc_bias", "qfrc_passive", "actuator_force",
    "qfrc_actuator", "qacc_smooth", "qfrc_constraint", "qacc",
)  # fmt: skip


class Moments(NamedTuple):
    """n moments: what goes into mj_step, and mjData after mj_forward and after mj_step."""

    given: dict[str, np.ndarray]
    before: list[mujoco.MjData]
    after: list[mujoco.MjData]
    last: list[mujoco.MjData]  # whichever of them holds the derived quantities of a step


def moments(
    m: mujoco.MjModel, n: int = 24, seed: int = 0, push: float = 1.0,
    wanted: Callable[[mujoco.MjData], bool] | None = None,
) -> Moments:  # fmt: skip
    """From motion in C with random controls and pushes; half of them as `wanted` if it can be."""
    rng = np.random.default_rng(seed)
    d, given, before, after = mujoco.MjData(m), [], [], []
    limited = np.asarray(m.actuator_ctrllimited, bool)
    strength = np.where(limited, np.abs(m.actuator_ctrlrange).max(1), 1.0)
    for tick in range(60 * n):
        if len(given) == n:
            break
        if tick % 150 == 0:
            mujoco.mj_resetData(m, d)
            move = push * 0.3 * rng.standard_normal(m.nv)
            mujoco.mj_integratePos(m, d.qpos, move, 1.0)
            d.qvel[:] = push * rng.standard_normal(m.nv)
            d.act[:] = rng.uniform(0, 1, m.na)
        if tick % 10 == 0:
            d.ctrl[:] = rng.uniform(-1.2, 1.2, m.nu) * strength
            d.mocap_pos[:] += 0.02 * rng.standard_normal((m.nmocap, 3))
            d.mocap_quat[:] += 0.05 * rng.standard_normal((m.nmocap, 4))
        state = {f: getattr(d, f).copy() for f in FIELDS}
        mujoco.mj_step(m, d)
        want = wanted is None or wanted(d) or len(given) % 2 or tick > 50 * n
        if np.isfinite(d.qvel).all() and rng.random() < 0.1 and want:
            given.append(state)
    for state in given:
        for function, out in ((mujoco.mj_forward, before), (mujoco.mj_step, after)):
            d = mujoco.MjData(m)
            for f in FIELDS:
                getattr(d, f)[:] = state[f]
            function(m, d)
            mujoco.mj_rnePostConstraint(m, d)
            out.append(d)
    last = after if m.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 else before
    return Moments({f: np.array([s[f] for s in given]) for f in FIELDS}, before, after, last)


def stepped(model: physics.Model, found: Moments, dtype: Any = np.float64):
    """State and derived quantities after a step from each moment."""
    m, g = model.mj, found.given

    def step(qpos, qvel, warmstart, act, mocap_pos, mocap_quat, ctrl):
        mocap = Mocap(mocap_pos, mocap_quat) if m.nmocap else None
        state = physics.State(qpos, qvel, warmstart, act if m.na else None, mocap)
        return physics.step(model, state, ctrl)

    names = ("qpos", "qvel", "qacc_warmstart", "act", "mocap_pos", "mocap_quat", "ctrl")
    with jax.enable_x64(True):
        args = [jnp.asarray(g[f], dtype) for f in names]
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(lanes.kernel(step)))(*args))


def errors(found: Moments, state: physics.State, derived: physics.Derived) -> dict[str, float]:
    """The largest difference from C in each quantity, relative to 1 + the largest number of it."""
    out = {}
    pairs = [(f, getattr(derived, f), found.last) for f in COMPARED]
    pairs += [(f, getattr(state, f), found.after) for f in ("qpos", "qvel")]
    pairs += [("act", state.act, found.after)] if found.given["act"].size else []
    for f, ours, data in pairs:
        if f == "cfrc_ext" and _pulled_in_other_ways(data[0].model):
            assert np.isnan(ours).all()
            continue
        theirs = np.array([getattr(d, f) for d in data]).reshape(ours.shape)
        if f in ("xpos", "cvel", "subtree_com"):
            ours, theirs = ours[:, 1:], theirs[:, 1:]
        scale = 1 + np.abs(theirs).max(initial=0)
        out[f] = float(np.abs(ours - theirs).max(initial=0) / scale)
    return out


def _pulled_in_other_ways(m: mujoco.MjModel) -> bool:
    """Whether C counts forces in cfrc_ext that are none of contacts and points held together, or
    noslip has changed."""
    welds = m.eq_active0.astype(bool) & (m.eq_type == mujoco.mjtEq.mjEQ_WELD)
    spatial = (m.wrap_type != mujoco.mjtWrap.mjWRAP_JOINT).any()
    return bool(m.opt.noslip_iterations or welds.any() or spatial)
