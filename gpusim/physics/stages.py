"""The stages of a step in their order, up to the constrained acceleration: mj_forward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim.physics.actuation import Actuation, actuation
from gpusim.physics.collision.collide import Contacts, collide
from gpusim.physics.constraint.build import constraints
from gpusim.physics.constraint.solver import Solution, solve_constraints
from gpusim.physics.dynamics import Motion, bias_force, velocities
from gpusim.physics.inertia import Inertia, inertia
from gpusim.physics.kinematics import Pose, kinematics, to_world
from gpusim.physics.linalg import Array, factorize, solve
from gpusim.physics.model import Model
from gpusim.physics.passive import passive_force


class State(NamedTuple):
    """What one world carries from step to step."""

    qpos: Array  # (nq,) m, rad, unit quaternions
    qvel: Array  # (nv,) m/s, rad/s; of a free joint: linear in the world, angular in the body
    qacc_warmstart: Array  # (nv,) the last constrained acceleration: where the solver begins


class Dynamics(NamedTuple):
    """The stages' results for one state; vectors (nv,) with free joints in world axes."""

    pose: Pose
    mass: Inertia
    motion: Motion
    bias: jax.Array  # (nv,)
    passive: jax.Array  # (nv,)
    action: Actuation
    smooth_force: jax.Array  # (nv,)
    smooth: jax.Array  # (nv,) acceleration without constraints
    contacts: list[Contacts]
    solution: Solution


def accelerate(model: Model, state: State, ctrl: Array) -> Dynamics:
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
    scale = 1.0 / (model.mean_inertia * max(1, model.nv))
    solution = solve_constraints(model.options, scale, mass.matrix, smooth, rows, warmstart)
    return Dynamics(
        pose, mass, motion, bias, passive, action, smooth_force, smooth, contacts, solution
    )
