"""One step of one world: the stages in order."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gpusim.physics.actuation import actuation
from gpusim.physics.collision import collide
from gpusim.physics.constraint import constraints
from gpusim.physics.derived import Derived, Dynamics, derive
from gpusim.physics.dynamics import bias_force, velocities
from gpusim.physics.inertia import inertia
from gpusim.physics.integrate import damped, euler
from gpusim.physics.kinematics import kinematics, to_body, to_world
from gpusim.physics.linalg import Array, factorize, solve
from gpusim.physics.model import Model
from gpusim.physics.passive import passive_force
from gpusim.physics.solver import solve_constraints


class State(NamedTuple):
    """What one world carries from step to step."""

    qpos: Array  # (nq,) m, rad, unit quaternions
    qvel: Array  # (nv,) m/s, rad/s; of a free joint: linear in the world, angular in the body
    qacc_warmstart: Array  # (nv,) the last constrained acceleration: where the solver begins


def init(model: Model, qpos: Array, qvel: Array) -> State:
    """A world at rest in the solver's eyes: no warm start yet."""
    qpos, qvel = jnp.asarray(qpos), jnp.asarray(qvel)
    if qpos.shape != (model.nq,) or qvel.shape != (model.nv,):
        raise ValueError(
            f"model {model.name}: qpos and qvel must have shapes ({model.nq},) and ({model.nv},), "
            f"not {qpos.shape} and {qvel.shape}"
        )
    return State(qpos, qvel, jnp.zeros_like(qvel))


def step(model: Model, state: State, ctrl: Array) -> tuple[State, Derived]:
    """Advance by model.timestep: mj_step. ctrl: (nu,).

    The derived quantities are those of the state before the step, as in mjData after mj_step.
    """
    model = model.astype(state.qpos.dtype)
    now = _accelerate(model, state, ctrl)
    force = now.smooth_force + now.solution.force
    qacc = to_body(model, now.pose, damped(model, now.mass.matrix, now.solution.qacc, force))
    derived = derive(model, state.qpos, now)
    qpos, qvel = euler(model, state.qpos, state.qvel, qacc)
    return State(qpos, qvel, derived.qacc), derived


def forward(model: Model, state: State, ctrl: Array) -> Derived:
    """Everything that follows from a state, without advancing it: mj_forward."""
    model = model.astype(state.qpos.dtype)
    return derive(model, state.qpos, _accelerate(model, state, ctrl))


def steps(model: Model, state: State, ctrl: Array, n: int) -> tuple[State, Derived]:
    """n steps with the same ctrl; the derived quantities are those of the last."""
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    once = jax.jit(lambda state: step(model, state, ctrl))  # jit: traced once, though named twice
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(once, state)[1])
    return lax.fori_loop(0, n, lambda _, at: once(at[0]), (state, nothing))


def _accelerate(model: Model, state: State, ctrl: Array) -> Dynamics:
    """The stages of a step, up to the constrained acceleration."""
    ctrl = jnp.asarray(ctrl, state.qpos.dtype)
    if ctrl.shape != (model.nu,):
        raise ValueError(f"model {model.name}: ctrl has shape {ctrl.shape}, not ({model.nu},)")
    pose = kinematics(model, state.qpos)
    qvel = to_world(model, pose, state.qvel)
    mass = inertia(model, pose)
    motion = velocities(model, pose, qvel)
    bias = bias_force(model, pose, mass.bodies, motion)
    passive = passive_force(model, pose, motion, state.qpos, qvel)
    action = actuation(model, state.qpos, qvel, ctrl)
    smooth_force = passive + action.qfrc - bias
    smooth = solve(factorize(mass.matrix), smooth_force)
    contacts = collide(model, pose)
    rows = constraints(model, pose, contacts, state.qpos, qvel)
    warmstart = to_world(model, pose, state.qacc_warmstart)
    solution = solve_constraints(model.options, mass.matrix, smooth, rows, warmstart)
    return Dynamics(
        pose, mass, motion, bias, passive, action, smooth_force, smooth, contacts, solution
    )
