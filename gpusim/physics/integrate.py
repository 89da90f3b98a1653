"""One step of time: semi-implicit Euler, implicit in joint damping (mj_Euler)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.linalg import Array, dot, factorize, normalize, pick, quat_mul, solve
from gpusim.physics.model import FREE, Model


def damped(model: Model, matrix: jax.Array, qacc: Array, force: Array) -> jax.Array:
    """The acceleration (nv,) that Euler integrates: with joint damping B, (M + h B)⁻¹ force.

    matrix: (nv, nv) mass matrix, lower triangle; force: (nv,) all generalised forces; qacc: (nv,)
    what they accelerate to, used where nothing is damped.
    """
    damping = model.dof_damping
    if isinstance(damping, np.ndarray) and not damping.any():
        return qacc
    diagonal = np.eye(model.nv, dtype=matrix.dtype) * (model.timestep * damping)
    return solve(factorize(matrix + diagonal), force)


def euler(model: Model, qpos: Array, qvel: Array, qacc: Array) -> tuple[Array, Array]:
    """qpos and qvel one timestep later: semi-implicit, positions move with the new velocity."""
    qvel = qvel + model.timestep * qacc
    return integrate_pos(model, qpos, qvel), qvel


def integrate_pos(model: Model, qpos: Array, qvel: Array) -> jax.Array:
    """qpos moved along qvel for one timestep; quaternions are rotated and normalised."""
    h = model.timestep
    parts: list = []
    for joint in model.topology.joints:
        if joint.type == FREE:
            moved = pick(qvel, range(joint.dof, joint.dof + 3))
            parts.append(pick(qpos, range(joint.qpos, joint.qpos + 3)) + h * moved)
            quat = pick(qpos, range(joint.qpos + 3, joint.qpos + 7))
            spin = pick(qvel, range(joint.dof + 3, joint.dof + 6))
            parts.append(quat_mul(normalize(quat), _rotation(spin, h)))
        else:
            parts.append(pick(qpos, [joint.qpos]) + h * pick(qvel, [joint.dof]))
    return lax.concatenate(parts, 0)


def _rotation(spin: Array, h: float) -> jax.Array:
    """Quaternion of turning with angular velocity `spin` (3,) for h seconds."""
    speed2 = dot(spin, spin)
    still = speed2 < np.finfo(speed2.dtype).tiny
    per_speed = lax.rsqrt(jnp.where(still, jnp.ones_like(speed2), speed2))
    half = 0.5 * h * speed2 * per_speed
    vector = spin * jnp.where(still, 0.5 * h, jnp.sin(half) * per_speed)
    return lax.concatenate([jnp.cos(half)[None], vector], 0)
