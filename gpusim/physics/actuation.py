"""Forces of actuators: force = gain · input + bias, the input a control or an activation.

After mj_fwdActuation.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics import muscle
from gpusim.physics.linalg import Array, dot, pick
from gpusim.physics.model import Model
from gpusim.physics.transmission import IN_PARENT, JOINT, TENDON, Transmission
from gpusim.physics.versions import since

_DYN = mujoco.mjtDyn
_NONE, _INTEGRATOR = int(_DYN.mjDYN_NONE), int(_DYN.mjDYN_INTEGRATOR)
_FILTER, _EXACT = int(_DYN.mjDYN_FILTER), int(_DYN.mjDYN_FILTEREXACT)
_MUSCLE = int(_DYN.mjDYN_MUSCLE)
_GAIN_AFFINE, _GAIN_MUSCLE = int(mujoco.mjtGain.mjGAIN_AFFINE), int(mujoco.mjtGain.mjGAIN_MUSCLE)
_BIAS_AFFINE, _BIAS_MUSCLE = int(mujoco.mjtBias.mjBIAS_AFFINE), int(mujoco.mjtBias.mjBIAS_MUSCLE)
_LEAST = 1e-15


class Actuation(NamedTuple):
    """What the actuators do."""

    force: jax.Array  # (nu,) actuator_force, N or N m before the gear
    qfrc: jax.Array  # (nv,) qfrc_actuator, before what is common to a joint's actuators
    act_dot: jax.Array  # (na,)
    slope: jax.Array  # (nu,) d force / d velocity, zero where a force is at its limit


def actuation(model: Model, to: Transmission, act: Array, ctrl: Array) -> Actuation:
    """Forces for controls (nu,), clamped to actuator_ctrlrange, and activations (na,)."""
    dtype, m = to.length.dtype, model.mj
    if not model.nu or "actuation" in model.options.disabled:
        none = jnp.zeros(model.nu, dtype)
        return Actuation(none, jnp.zeros(model.nv, dtype), jnp.zeros(model.na, dtype), none)
    if "clampctrl" not in model.options.disabled:
        ctrl = _clamp(ctrl, model.actuator_ctrlrange)
    act_dot = _act_dot(model, act, ctrl)
    source = _input(model, act, act_dot, ctrl)
    gain, gain_slope = _gain(model, to)
    bias, bias_slope = _bias(model, to)
    on = np.array([m.actuator_group[i] not in model.options.groups_off for i in range(model.nu)])
    free = source * gain + bias
    if not on.all():
        free = jnp.where(on, free, 0)
    force, yields = _tendon_limits(model, free)
    force = _clamp(force, model.actuator_forcerange)
    yields &= _inside(force, model.actuator_forcerange) & on
    slope = jnp.where(yields, source * gain_slope + bias_slope, 0)
    return Actuation(force, dot(force, jnp.asarray(to.moment)), act_dot, slope)


def at_joints(model: Model, action: Actuation, qfrc: jax.Array) -> Actuation:
    """Without the slope of actuators of joints whose force (qfrc (nv,)) is at its limit.

    MuJoCo does so since version 4, and alike at tendons; before, the slope stayed.
    """
    m = model.mj
    joints = np.where(np.isin(m.actuator_trntype, (JOINT, IN_PARENT)), m.actuator_trnid[:, 0], -1)
    limited = [i for i, j in enumerate(joints) if j >= 0 and m.jnt_actfrclimited[j]]
    if not limited or not since(4):
        return action
    dofs = [model.topology.joints[j].dof for j in joints[limited]]  # hinges and slides: features.py
    yields = _inside(pick(qfrc, dofs), model.jnt_actfrcrange[joints[limited]])
    slope = jnp.where(yields, pick(action.slope, limited), 0)
    return action._replace(slope=action.slope.at[np.array(limited)].set(slope))


def _affine(prm: Array, to: Transmission) -> Array:
    """prm₀ + prm₁ length + prm₂ velocity, without what is zero."""
    state = (1.0, to.length, to.velocity)
    terms = (prm[:, k] * x for k, x in enumerate(state) if not _is_zero(prm[:, k]))
    return sum(terms, np.zeros(prm.shape[0], to.length.dtype))


def _gain(model: Model, to: Transmission) -> tuple[Array, Array]:
    """Gains and their slopes (nu,)."""
    m, prm = model.mj, model.actuator_gainprm
    affine = np.array([[1, t == _GAIN_AFFINE, t == _GAIN_AFFINE] for t in m.actuator_gaintype])
    prm3 = prm[:, :3] * affine.reshape(-1, 3).astype(prm.dtype)
    muscles = [i for i in range(model.nu) if m.actuator_gaintype[i] == _GAIN_MUSCLE]
    gain, slope = _affine(prm3, to), prm3[:, 2]
    if muscles:
        args = _of(model, to, muscles, prm)
        gain = jnp.asarray(gain).at[np.array(muscles)].set(muscle.gain(*args))
        slope = jnp.asarray(slope).at[np.array(muscles)].set(muscle.gain_slope(*args))
    return gain, slope


def _bias(model: Model, to: Transmission) -> tuple[Array, Array]:
    """Biases and their slopes (nu,)."""
    m, prm = model.mj, model.actuator_biasprm
    affine = np.array([t == _BIAS_AFFINE for t in m.actuator_biastype])[:, None]
    prm3 = prm[:, :3] * affine.astype(prm.dtype)
    muscles = [i for i in range(model.nu) if m.actuator_biastype[i] == _BIAS_MUSCLE]
    bias = _affine(prm3, to)
    if muscles:
        prm, length, _, lengthrange, acc0 = _of(model, to, muscles, prm)
        passive = muscle.bias(prm, length, lengthrange, acc0)
        bias = jnp.asarray(bias).at[np.array(muscles)].set(passive)
    return bias, prm3[:, 2]


def _of(model: Model, to: Transmission, muscles: list[int], prm: Array) -> tuple:
    each = (prm, to.length, to.velocity, model.actuator_lengthrange, model.actuator_acc0)
    return tuple(pick(x, muscles) for x in each)


def _input(model: Model, act: Array, act_dot: Array, ctrl: Array) -> Array:
    """What the gains multiply (nu,): controls, or activations, now or a step ahead."""
    m = model.mj
    if not model.na:
        return ctrl
    ahead = next_activation(model, act, act_dot)
    rows = []
    for i in range(model.nu):
        k = int(m.actuator_actadr[i])
        rows.append(ctrl[i] if k < 0 else ahead[k] if m.actuator_actearly[i] else act[k])
    return jnp.stack(rows)


def _stateful(model: Model) -> list[int]:
    """Actuators with an activation, in the order of the activations."""
    return [i for i in range(model.nu) if model.mj.actuator_actadr[i] >= 0]


def _act_dot(model: Model, act: Array, ctrl: Array) -> jax.Array:
    """(na,) rates of change."""
    rates = []
    for i in _stateful(model):
        kind, prm = int(model.mj.actuator_dyntype[i]), model.actuator_dynprm[i]
        a, u = act[int(model.mj.actuator_actadr[i])], ctrl[i]
        if kind == _INTEGRATOR:
            rates.append(u)
        elif kind == _MUSCLE:
            rates.append(muscle.activation_rate(prm[None], u[None], a[None])[0])
        else:
            rates.append((u - a) / jnp.maximum(prm[0], _LEAST))
    return jnp.stack(rates) if rates else jnp.zeros(0, ctrl.dtype)


def next_activation(model: Model, act: Array, act_dot: Array) -> Array:
    """act (na,) a timestep later, inside actuator_actrange."""
    if not model.na or "actuation" in model.options.disabled:
        return act
    h, after = model.timestep, []
    for k, i in enumerate(_stateful(model)):
        rate, tau = act_dot[k], jnp.maximum(model.actuator_dynprm[i, 0], _LEAST)
        if model.mj.actuator_group[i] in model.options.groups_off:
            rate = 0 * rate
        exact = int(model.mj.actuator_dyntype[i]) == _EXACT
        after.append(act[k] + rate * (tau * -jnp.expm1(-h / tau) if exact else h))
    return _clamp(jnp.stack(after), pick(model.actuator_actrange, _stateful(model)))


def _tendon_limits(model: Model, force: Array) -> tuple[Array, jax.Array]:
    """Forces of the actuators on a tendon, scaled down together to what it bears; which are not."""
    m, limits = model.mj, model.tendon_actfrcrange
    yields = jnp.ones(model.nu, bool)
    for t in np.flatnonzero(np.isfinite(limits).all(1)):
        on = [
            i for i in range(model.nu)
            if m.actuator_trntype[i] == TENDON and m.actuator_trnid[i, 0] == t
        ]  # fmt: skip
        if on:
            total = pick(force, on).sum()
            scale = jnp.clip(total, *limits[t]) / jnp.where(total == 0, 1, total)
            force = force.at[np.array(on)].multiply(jnp.where(total == 0, 1, scale))
            if since(4):
                yields = yields.at[np.array(on)].set(_inside(total, limits[t]))
    return force, yields


def _is_zero(x: Array) -> bool:
    return isinstance(x, np.ndarray) and not x.any()


def _inside(x: Array, limits: Array) -> jax.Array:
    """Whether x (...,) is strictly between the two of limits (..., 2)."""
    return (x > limits[..., 0]) & (x < limits[..., 1])


def _clamp(x: Array, limits: Array) -> jax.Array:
    """x between the columns of limits; no work where both are infinite."""
    if isinstance(limits, np.ndarray) and np.isinf(limits).all():
        return jnp.asarray(x)
    return jnp.clip(x, limits[:, 0], limits[:, 1])
