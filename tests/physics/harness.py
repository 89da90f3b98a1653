"""Runs our physics on the oracle's samples: every model compiled once, in double precision."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import lanes, physics
from gpusim.physics.collision.collide import collide
from gpusim.physics.constraint.blocks import Block, Slots
from gpusim.physics.constraint.build import constraints
from gpusim.physics.constraint.laws import Cone, OneSided
from gpusim.physics.dynamics import velocities
from gpusim.physics.kinematics import kinematics, to_body, to_world
from gpusim.physics.tendons import tendons
from tests import oracles


class Rows(NamedTuple):
    """Constraint rows written out, as in mjData: k of them for each moment, acting or not."""

    J: Any  # (n, k, nv)
    aref: Any  # (n, k)
    D: Any  # (n, k) zero for those that do not act


class Run(NamedTuple):
    """What became of a sample; the leaves are numpy arrays with the moments in front."""

    model: physics.Model
    sample: oracles.Sample
    step: Callable  # physics.step of this model on batches
    state: physics.State  # after the step
    derived: physics.Derived
    rows: Rows


def over_worlds(fn: Callable, dtype: Any = np.float64) -> Callable:
    """fn of one world, compiled and mapped over batches of numpy arrays."""
    mapped = jax.jit(jax.vmap(lanes.kernel(fn)))

    def run(*args):
        with jax.enable_x64(True):
            cast = lambda x: jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else None)
            return jax.tree.map(np.asarray, mapped(*jax.tree.map(cast, args)))

    return run


def state_of(sample: oracles.Sample) -> physics.State:
    return physics.State(sample.qpos, sample.qvel, sample.warmstart)


def run_model(mj: mujoco.MjModel, sample: oracles.Sample, dtype: Any = np.float64) -> Run:
    """One step from every moment of a sample, and the constraint rows on the way."""
    model = physics.load(mj)

    def one_world(state, ctrl):
        after, derived = physics.step(model, state, ctrl)
        typed = model.astype(state.qpos.dtype)
        pose = kinematics(typed, state.qpos)
        qvel = to_world(typed, pose, state.qvel)
        motion, cords = velocities(typed, pose, qvel), tendons(typed, pose, state.qpos)
        contacts = collide(typed, pose)
        blocks = constraints(typed, pose, motion, cords, contacts, state.qpos, qvel)
        return after, derived, _written_out(typed, pose, blocks)

    step = over_worlds(one_world, dtype)
    after, derived, rows = step(state_of(sample), sample.ctrl)
    return Run(model, sample, lambda s, c: step(s, c)[:2], after, derived, rows)


@functools.cache
def run(name: str) -> Run:
    """One step of a Brax robot from all moments of `oracles.sample`."""
    return run_model(oracles.exact_model(name), oracles.sample(name))


def _written_out(model: physics.Model, pose, blocks: list[Block]) -> Rows:
    """Rows of one world as mjData has them: free joints in the body's axes, nothing scaled."""
    parts = [_rows_of(block, model.nv) for block in blocks]
    none = jnp.zeros((0, model.nv)), jnp.zeros(0), jnp.zeros(0)
    jacobian, aref, stiffness = (jnp.concatenate(x) for x in zip(none, *parts, strict=True))
    return Rows(to_body(model, pose, jacobian.T).T, aref, stiffness)


def _rows_of(block: Block, nv: int):
    stiffness = block.params.stiffness
    n, k = block.aref.shape
    jacobian = jax.vmap(block.row)(jnp.arange(n))
    scale = jnp.ones((n, k))
    if isinstance(block.law, OneSided):
        edges = block.law.edges
        rows = jnp.einsum("ek,nkv->nev", edges, jacobian)
        aref, stiffness = block.aref @ edges.T, jnp.repeat(stiffness[:, None], len(edges), 1)
    else:
        if isinstance(block.law, Cone):
            scale, stiffness = block.scale, stiffness[:, None]
        rows, aref = jacobian / scale[:, :, None], block.aref / scale
        stiffness = jnp.broadcast_to(stiffness * scale**2, aref.shape)
    acts = jnp.ones(n, bool) if not isinstance(block, Slots) else jnp.arange(n) < block.count
    rows, aref, stiffness = (
        jnp.where(acts.reshape(n, *(1,) * (x.ndim - 1)), x, 0) for x in (rows, aref, stiffness)
    )
    return rows.reshape(-1, nv), aref.reshape(-1), stiffness.reshape(-1)


def close(actual, expected, tolerance: float = 1e-9) -> None:
    """Equal to so many digits of the largest number in the array."""
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)
