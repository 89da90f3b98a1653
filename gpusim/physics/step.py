"""One step of one world: mj_step."""

import jax
import jax.numpy as jnp
from jax import lax

from gpusim.physics.actuation import next_activation
from gpusim.physics.derived import Derived, derive
from gpusim.physics.integrate import (
    advance,
    euler_acceleration,
    implicit_acceleration,
    straightened,
)
from gpusim.physics.kinematics import integrate_pos, to_body
from gpusim.physics.linalg import Array
from gpusim.physics.model import Model
from gpusim.physics.stages import Dynamics, State, accelerate, activation
from gpusim.physics.versions import since


def init(model: Model, qpos: Array, qvel: Array) -> State:
    """A world at rest in the solver's eyes: no warm start yet, activations zero."""
    qpos, qvel = jnp.asarray(qpos), jnp.asarray(qvel)
    if qpos.shape != (model.nq,) or qvel.shape != (model.nv,):
        raise ValueError(
            f"model {model.name}: qpos and qvel must have shapes ({model.nq},) and ({model.nv},), "
            f"not {qpos.shape} and {qvel.shape}"
        )
    if not jnp.issubdtype(qpos.dtype, jnp.floating):
        qpos = qpos.astype(float)
    qvel = qvel.astype(qpos.dtype)
    act = jnp.zeros(model.na, qpos.dtype) if model.na else None
    return State(qpos, qvel, jnp.zeros_like(qvel), act)


def step(model: Model, state: State, ctrl: Array) -> tuple[State, Derived]:
    """Advance by model.timestep: mj_step. ctrl: (nu,).

    The derived quantities are those of the last forward pass, as in mjData after mj_step: of the
    state before the step; of Runge and Kutta's last stage, near the state after it (but `qacc` is
    the mean that moved the state, since MuJoCo 4).
    """
    model = model.astype(state.qpos.dtype)
    now = accelerate(model, state, ctrl)
    derived = derive(model, state, now)
    if model.options.integrator == "rk4":
        return _runge_kutta(model, state, ctrl, now, derived)
    implicit = model.options.integrator != "euler"
    qacc = (implicit_acceleration if implicit else euler_acceleration)(model, now)
    qpos, qvel = advance(model, state.qpos, state.qvel, to_body(model, now.pose, qacc))
    return _after(model, state, qpos, qvel, derived.qacc, now.action.act_dot), derived


def _after(
    model: Model, state: State, qpos: Array, qvel: Array, qacc: Array, act_dot: Array
) -> State:
    act = next_activation(model, activation(model, state), act_dot) if model.na else state.act
    return state._replace(qpos=qpos, qvel=qvel, qacc_warmstart=qacc, act=act)


def _runge_kutta(
    model: Model, state: State, ctrl: Array, first: Dynamics, derived: Derived
) -> tuple[State, Derived]:
    """Runge and Kutta's fourth order (mj_RungeKutta); one body of code for three later stages."""
    h, dtype = model.timestep, state.qpos.dtype
    rates = lambda now: (to_body(model, now.pose, now.solution.qacc), now.action.act_dot)

    def stage(k: Array, carry):
        """From the last stage's state and rates to the next ones, and what they add up to."""
        at, velocity, qacc, act_dot, total, _ = carry
        reach = jnp.where(k < 2, 0.5, 1.0).astype(dtype)
        weight = jnp.where(k < 2, 1 / 3, 1 / 6).astype(dtype)
        away = reach * velocity
        qpos = integrate_pos(model, state.qpos, away)
        qvel = state.qvel + reach * h * qacc
        act = activation(model, state) + reach * h * act_dot if model.na else state.act
        at = at._replace(qpos=qpos, qvel=qvel, act=act)
        now = accelerate(model, at, ctrl)
        qacc, act_dot = rates(now)
        velocity = straightened(model, h * away, qvel)
        here = (velocity, qacc, act_dot)
        total = jax.tree.map(lambda t, x: t + weight * x, total, here)
        return at, velocity, qacc, act_dot, total, derive(model, at, now)

    qacc, act_dot = rates(first)
    total = jax.tree.map(lambda x: x / 6, (state.qvel, qacc, act_dot))
    start = (state, jnp.asarray(state.qvel), qacc, act_dot, total, derived)
    *_, qacc, _, (velocity, acceleration, rate), derived = lax.fori_loop(0, 3, stage, start)
    qpos = integrate_pos(model, state.qpos, velocity)
    if since(4):
        derived = derived._replace(qacc=acceleration)
    return _after(model, state, qpos, state.qvel + h * acceleration, qacc, rate), derived


def forward(model: Model, state: State, ctrl: Array) -> Derived:
    """Everything that follows from a state, without advancing it: mj_forward."""
    model = model.astype(state.qpos.dtype)
    return derive(model, state, accelerate(model, state, ctrl))


def steps(model: Model, state: State, ctrl: Array, n: int) -> tuple[State, Derived]:
    """n steps with the same ctrl; the derived quantities are those of the last."""
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    once = jax.jit(lambda state: step(model, state, ctrl))  # jit: traced once, though named twice
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(once, state)[1])
    return lax.fori_loop(0, n, lambda _, at: once(at[0]), (state, nothing))
