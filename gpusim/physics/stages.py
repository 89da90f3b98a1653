"""The stages of a step in their order, up to the constrained acceleration: mj_forward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim.physics.actuation import Actuation, actuation, at_joints
from gpusim.physics.collision.collide import Contacts, collide
from gpusim.physics.constraint.blocks import Block
from gpusim.physics.constraint.build import constraints
from gpusim.physics.constraint.noslip import without_slip
from gpusim.physics.constraint.solver import Solution, solve_constraints
from gpusim.physics.dynamics import Motion, bias_force, velocities
from gpusim.physics.inertia import Inertia, inertia
from gpusim.physics.kinematics import Mocap, Pose, kinematics, to_world
from gpusim.physics.linalg import Array, factorize, solve
from gpusim.physics.model import Model
from gpusim.physics.passive import applied_force, passive_force
from gpusim.physics.tendons import Tendons, armature, armature_bias, tendons
from gpusim.physics.transmission import Transmission, transmission


class State(NamedTuple):
    """What one world carries from step to step."""

    qpos: Array  # (nq,) m, rad, unit quaternions
    qvel: Array  # (nv,) m/s, rad/s; of a free joint: linear in the world, angular in the body
    qacc_warmstart: Array  # (nv,) the last constrained acceleration: where the solver begins
    act: Array = None  # (na,) activations of actuators; None in a model without
    mocap: Mocap | None = None  # where mocap bodies are put; None: where the model has them
    xfrc_applied: Array = None  # (nbody, 6) N, N m: force at the centre of mass of each body, and
    # torque, in world axes, as long as they are here; None: none


class Dynamics(NamedTuple):
    """The stages' results for one state; vectors (nv,) with free joints in world axes."""

    pose: Pose
    qvel: jax.Array  # (nv,)
    tendons: Tendons
    mass: Inertia
    motion: Motion
    bias: jax.Array  # (nv,)
    passive: jax.Array  # (nv,)
    transmission: Transmission
    action: Actuation
    actuator: jax.Array  # (nv,) qfrc_actuator
    smooth_force: jax.Array  # (nv,)
    smooth: jax.Array  # (nv,) acceleration without constraints
    contacts: list[Contacts]
    blocks: list[Block]  # all constraints; those of contacts last
    solution: Solution

    @property
    def force(self) -> jax.Array:
        """(nv,) of everything."""
        return self.smooth_force + self.solution.force


def accelerate(model: Model, state: State, ctrl: Array) -> Dynamics:
    """The stages of a step, up to the constrained acceleration."""
    ctrl = jnp.asarray(ctrl, state.qpos.dtype)
    arrays = {"ctrl": (ctrl, model.nu), "qpos": (state.qpos, model.nq)}
    arrays |= {name: (getattr(state, name), model.nv) for name in ("qvel", "qacc_warmstart")}
    for name, (x, size) in arrays.items():
        if x.shape != (size,):
            raise ValueError(f"model {model.name}: {name} has shape {x.shape}, not ({size},)")
    pushes = state.xfrc_applied
    if pushes is not None and pushes.shape != (model.nbody, 6):
        raise ValueError(
            f"model {model.name}: xfrc_applied has shape {pushes.shape}, not ({model.nbody}, 6)"
        )
    pose = kinematics(model, state.qpos, state.mocap)
    qvel = to_world(model, pose, state.qvel)
    cords = tendons(model, pose, state.qpos)
    mass = inertia(model, pose)
    motion = velocities(model, pose, qvel)
    bias = bias_force(model, pose, mass.bodies, motion)
    if model.tendon_armature.any():
        mass = mass._replace(matrix=mass.matrix + armature(model, cords))
        bias = bias + armature_bias(model, cords, state.qpos, jnp.asarray(state.qvel))
    passive = passive_force(model, pose, motion, cords, state.qpos, qvel)
    contacts = collide(model, pose)
    levers = transmission(model, pose, cords, contacts, state.qpos, qvel, state.mocap)
    action = actuation(model, levers, activation(model, state), ctrl)
    actuator = _by_joint(model, pose, action.qfrc, passive.gravcomp)
    action = at_joints(model, action, actuator)
    smooth_force = passive.qfrc + actuator - bias
    if pushes is not None:
        smooth_force = smooth_force + applied_force(model, pose, pushes)
    smooth = solve(factorize(mass.matrix), smooth_force)
    blocks = constraints(model, pose, motion, cords, contacts, state.qpos, qvel, state.mocap)
    warmstart = to_world(model, pose, state.qacc_warmstart)
    scale = 1.0 / (model.mean_inertia * max(1, model.nv))
    problem = model.options, scale, mass.matrix, smooth, blocks
    solution = solve_constraints(*problem, warmstart)
    if model.options.noslip_iterations:
        solution = without_slip(*problem, solution)
    return Dynamics(
        pose, qvel, cords, mass, motion, bias, passive.qfrc, levers, action, actuator,
        smooth_force, smooth, contacts, blocks, solution,
    )  # fmt: skip


def activation(model: Model, state: State) -> Array:
    """The state's activations (na,)."""
    return state.act if model.na else jnp.zeros(0, state.qpos.dtype)


def _by_joint(model: Model, pose: Pose, qfrc: jax.Array, gravcomp: Array) -> jax.Array:
    """qfrc_actuator (nv,): with the gravity that actuators carry, inside each joint's range."""
    top, m = model.topology, model.mj
    carried = [bool(m.jnt_actgravcomp[j]) for j in m.dof_jntid]
    if any(carried):
        qfrc = qfrc + jnp.where(jnp.array(carried), gravcomp, 0)
    low, high = model.jnt_actfrcrange.T
    limited = [j for j in range(m.njnt) if m.jnt_actfrclimited[j]]
    if not limited:
        return qfrc
    dofs = jnp.array([top.joints[j].dof for j in limited])  # hinges and slides: features.py
    return qfrc.at[dofs].set(jnp.clip(qfrc[dofs], low[limited], high[limited]))
