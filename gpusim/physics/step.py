"""One step of one world: the stages in order."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from gpusim.physics.actuation import actuation
from gpusim.physics.collision import collide
from gpusim.physics.constraint import constraints
from gpusim.physics.derived import Derived, derive
from gpusim.physics.dynamics import bias_force, velocities
from gpusim.physics.inertia import inertia
from gpusim.physics.integrate import euler
from gpusim.physics.kinematics import kinematics
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
    derived = _forward(model, state, ctrl)
    force = derived.qfrc_smooth + derived.qfrc_constraint
    qpos, qvel = euler(model, derived.mass_matrix, *state[:2], derived.qacc, force)
    return State(qpos, qvel, derived.qacc), derived


def forward(model: Model, state: State, ctrl: Array) -> Derived:
    """Everything that follows from a state, without advancing it: mj_forward."""
    return _forward(model.astype(state.qpos.dtype), state, ctrl)


def steps(model: Model, state: State, ctrl: Array, n: int) -> tuple[State, Derived]:
    """n steps with the same ctrl; the derived quantities are those of the last."""
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    before = lax.fori_loop(0, n - 1, lambda _, s: step(model, s, ctrl)[0], state)
    return step(model, before, ctrl)


def _forward(model: Model, state: State, ctrl: Array) -> Derived:
    qpos, qvel, warmstart = state
    pose = kinematics(model, qpos)
    mass = inertia(model, pose)
    motion = velocities(model, pose, qvel)
    bias = bias_force(model, pose, mass.bodies, motion)
    passive = passive_force(model, qpos, qvel)
    action = actuation(model, qpos, qvel, ctrl)
    smooth = passive + action.qfrc - bias
    qacc_smooth = solve(factorize(mass.matrix), smooth)
    contacts = collide(model, pose)
    rows = constraints(model, pose, contacts, qpos, qvel)
    solution = solve_constraints(model.options, mass.matrix, qacc_smooth, rows, warmstart)
    return derive(
        model, qpos, pose, mass, motion, action, contacts, solution,
        qfrc_bias=bias, qfrc_passive=passive, qfrc_smooth=smooth, qacc_smooth=qacc_smooth,
    )  # fmt: skip
