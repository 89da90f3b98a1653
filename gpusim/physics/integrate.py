"""One step of time: semi-implicit Euler, Runge and Kutta's fourth order, implicit in velocity."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.dynamics import bias_force, velocities
from gpusim.physics.fluid import fluid_slope, in_fluid
from gpusim.physics.kinematics import integrate_pos
from gpusim.physics.linalg import (
    Array,
    contract,
    cross,
    factorize,
    solve,
    solve_general,
)
from gpusim.physics.model import BALL, FREE, Model
from gpusim.physics.passive import damping_slope, tendon_damping_slope
from gpusim.physics.stages import Dynamics
from gpusim.physics.versions import since


def euler_acceleration(model: Model, now: Dynamics) -> Array:
    """The acceleration (nv,) that Euler integrates: with joint damping B, (M + h B)⁻¹ force.

    Where no damping is positive, that of the constraints' solver (mj_EulerSkip).
    """
    qacc = now.solution.qacc
    damping = model.dof_damping
    curved = bool(np.asarray(model.dof_dampingpoly).any())
    if {"eulerdamp", "damper"} & model.options.disabled:
        return qacc
    if isinstance(damping, np.ndarray) and not curved and not (damping > 0).any():
        return qacc
    slope = damping_slope(model, now.qvel)
    diagonal = np.eye(model.nv, dtype=qacc.dtype) * (model.timestep * slope)
    implicit = solve(factorize(now.mass.matrix + diagonal), now.force)
    if isinstance(damping, np.ndarray) or curved:
        return implicit
    return jnp.where((damping > 0).any(), implicit, qacc)


def implicit_acceleration(model: Model, now: Dynamics) -> Array:
    """(M - h D)⁻¹ force, with D the derivative of the forces by velocity (mj_implicitSkip).

    implicitfast leaves Coriolis and centrifugal forces out of D, but for bodies that fly alone.
    """
    h, force = model.timestep, now.force
    below = np.tri(model.nv, k=-1, dtype=force.dtype)
    whole = now.mass.matrix + (now.mass.matrix * below).T - h * _force_slope(model, now)
    if model.options.integrator == "implicit":
        return solve_general(whole + h * _bias_slope(model, now, range(model.nv)), force)
    qacc = solve(factorize(whole), force)
    for joint in (model.topology.joints[j] for j in _flying(model)):
        dofs = np.array(joint.dofs)
        block = whole[np.ix_(dofs, dofs)] + h * _bias_slope(model, now, dofs)[dofs]
        qacc = qacc.at[dofs].set(solve_general(block, force[dofs]))
    return qacc


def _force_slope(model: Model, now: Dynamics) -> jax.Array:
    """(nv, nv) derivative by velocity of the forces of actuators, dampers and fluids.

    As in C, what couples different branches of the tree is left out.
    """
    related = model.topology.dof_ancestors + np.triu(model.topology.dof_ancestors.T, 1)
    return _whole_slope(model, now) * related.astype(now.qvel.dtype)


def _whole_slope(model: Model, now: Dynamics) -> jax.Array:
    moment = jnp.asarray(now.transmission.moment)
    slope = contract(moment * now.action.slope[:, None], moment, 0, 0)
    if in_fluid(model) and not {"spring", "damper"} <= model.options.disabled:
        flying = {model.topology.joints[j].body for j in _flying(model)}
        slope = slope + fluid_slope(model, now.pose, now.motion, flying)
    if "damper" in model.options.disabled:
        return slope
    slope = slope - np.eye(model.nv, dtype=slope.dtype) * damping_slope(model, now.qvel)
    if model.mj.ntendon:
        pull = tendon_damping_slope(model, now.tendons, now.qvel)
        slope = slope - contract(now.tendons.moment * pull[:, None], now.tendons.moment, 0, 0)
    return slope


def _bias_slope(model: Model, now: Dynamics, dofs) -> jax.Array:
    """(nv, n) derivative of qfrc_bias by the velocities of degrees of freedom."""

    def bias(qvel: Array) -> jax.Array:
        return bias_force(model, now.pose, now.mass.bodies, velocities(model, now.pose, qvel))

    units = np.eye(model.nv, dtype=now.qvel.dtype)[list(dofs)]
    columns = [jax.jvp(bias, (now.qvel,), (jnp.asarray(unit),))[1] for unit in units]
    return lax.concatenate([c[:, None] for c in columns], 1)


def _flying(model: Model) -> list[int]:
    """Free joints that are all the joints of their trees."""
    return [
        j
        for j, joint in enumerate(model.topology.joints)
        if joint.type == FREE
        and len(model.topology.body_joints[joint.body]) == 1
        and sum(model.topology.root[b] == joint.body for b in model.topology.dof_body) == 6
    ]


def advance(model: Model, qpos: Array, qvel: Array, qacc: Array) -> tuple[Array, Array]:
    """qpos and qvel one timestep later: semi-implicit, positions move with the new velocity."""
    qvel = qvel + model.timestep * qacc
    return integrate_pos(model, qpos, qvel), qvel


def straightened(model: Model, turned: Array, qvel: Array) -> Array:
    """qvel (nv,) at qpos turned by rotation vectors, as rates of change of those vectors.

    With u the rotation so far and θ its angle, ω + ½ u × ω + (1 - ½ θ cot ½ θ) / θ² u × (u × ω) for
    joints that turn freely (Munthe-Kaas); MuJoCo does so since version 4.
    """
    if not since(4):
        return qvel
    for joint in model.topology.joints:
        if joint.type in (FREE, BALL):
            at = slice(joint.spin, joint.spin + 3)
            u, w = turned[None, at], qvel[None, at]
            uw = cross(u, w)
            qvel = qvel.at[at].add((0.5 * uw + _bow((u * u).sum()) * cross(u, uw))[0])
    return qvel


def _bow(square: jax.Array) -> jax.Array:
    """(1 - ½ θ cot ½ θ) / θ² from θ², by its series where that would cancel."""
    small = square < 0.1
    far = jnp.where(small, 1, square)
    half = 0.5 * jnp.sqrt(far)
    series = 1 / 12 + square * (1 / 720 + square * (1 / 30240 + square * (1 / 1209600)))
    series = series + square**4 / 47900160
    return jnp.where(small, series, (1 - half * jnp.cos(half) / jnp.sin(half)) / far)
