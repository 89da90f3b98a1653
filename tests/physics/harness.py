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
from gpusim.physics.collision import collide
from gpusim.physics.constraint import Constraints, constraints
from gpusim.physics.kinematics import kinematics, to_body, to_world
from tests import oracles


class Rows(NamedTuple):
    """Constraint rows written out, as in mjData: k of them for each moment, acting or not."""

    J: np.ndarray  # (n, k, nv)
    aref: np.ndarray  # (n, k)
    D: np.ndarray  # (n, k) zero for those that do not act


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
        limits, contacts = constraints(typed, pose, collide(typed, pose), state.qpos, qvel)
        columns = jnp.moveaxis(contacts.jacobian, 2, 0)
        jacobian = jnp.moveaxis(to_body(typed, pose, columns), 0, 2)  # mjData's free joints
        return after, derived, Constraints(limits, contacts._replace(jacobian=jacobian))

    step = over_worlds(one_world, dtype)
    after, derived, rows = step(state_of(sample), sample.ctrl)
    return Run(model, sample, lambda s, c: step(s, c)[:2], after, derived, _written_out(rows))


@functools.cache
def run(name: str) -> Run:
    """One step of a Brax robot from all moments of `oracles.sample`."""
    return run_model(oracles.exact_model(name), oracles.sample(name))


def _written_out(rows: Constraints) -> Rows:
    limits, contacts = rows
    n, _, nv = limits.place.shape
    mu = contacts.friction[..., None]
    normal, *tangents = np.moveaxis(np.asarray(contacts.jacobian), 2, 0)
    edges = [normal + sign * mu * t for t in tangents for sign in (1, -1)]
    aref = [contacts.aref[..., 0] + s * contacts.aref[..., t] for t in (1, 2) for s in (1, -1)]
    return Rows(
        np.concatenate(
            [limits.sign[..., None] * limits.place, np.stack(edges, 2).reshape(n, -1, nv)], 1
        ),
        np.concatenate([limits.aref, np.stack(aref, 2).reshape(n, -1)], 1),
        np.concatenate([limits.stiffness, np.repeat(contacts.stiffness, 4, 1)], 1),
    )


def close(actual, expected, tolerance: float = 1e-9) -> None:
    """Equal to so many digits of the largest number in the array."""
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)
