"""One step of one world: mj_step."""

import jax
import jax.numpy as jnp
from jax import lax

from gpusim.physics.derived import Derived, derive
from gpusim.physics.integrate import damped, euler
from gpusim.physics.kinematics import to_body
from gpusim.physics.linalg import Array
from gpusim.physics.model import Model
from gpusim.physics.stages import State, accelerate


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
    now = accelerate(model, state, ctrl)
    force = now.smooth_force + now.solution.force
    qacc = to_body(model, now.pose, damped(model, now.mass.matrix, now.solution.qacc, force))
    derived = derive(model, state.qpos, now)
    qpos, qvel = euler(model, state.qpos, state.qvel, qacc)
    return State(qpos, qvel, derived.qacc), derived


def forward(model: Model, state: State, ctrl: Array) -> Derived:
    """Everything that follows from a state, without advancing it: mj_forward."""
    model = model.astype(state.qpos.dtype)
    return derive(model, state.qpos, accelerate(model, state, ctrl))


def steps(model: Model, state: State, ctrl: Array, n: int) -> tuple[State, Derived]:
    """n steps with the same ctrl; the derived quantities are those of the last."""
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    once = jax.jit(lambda state: step(model, state, ctrl))  # jit: traced once, though named twice
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(once, state)[1])
    return lax.fori_loop(0, n, lambda _, at: once(at[0]), (state, nothing))
