"""Whole steps against mj_step."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import physics
from tests import oracles
from tests.physics.harness import Run, close, over_worlds, run, run_model, state_of

# Float32 against double precision, relative to 1 + the largest number of a world: docs/physics.md.
SINGLE = {"qpos": 2e-6, "qvel": 3e-5, "qacc_warmstart": 1e-4}


@pytest.mark.parametrize("name", oracles.BRAX_MODELS)
def test_step_equals_mj_step(name: str):
    done = run(name)
    close(done.state.qpos, oracles.field(done.sample.after, "qpos"))
    close(done.state.qvel, oracles.field(done.sample.after, "qvel"))
    close(done.state.qacc_warmstart, oracles.field(done.sample.after, "qacc"))
    close(done.derived.qacc, oracles.field(done.sample.after, "qacc"))
    close(done.derived.qfrc_constraint, oracles.field(done.sample.after, "qfrc_constraint"))


@pytest.mark.parametrize("name", ["ant", "half_cheetah", "reacher"])
def test_single_precision_is_close(name: str):
    done = run(name)
    single = run_model(done.model.mj, done.sample, np.float32)
    if name == "ant":
        _far_away_is_the_same(single)
    for field, bound in SINGLE.items():
        ours, exact = getattr(single.state, field), getattr(done.state, field)
        assert ours.dtype == np.float32
        error = np.abs(ours - exact).max(1) / (1 + np.abs(exact).max(1))
        assert error.max() < bound, field


def _far_away_is_the_same(near: Run) -> None:
    """Float32 keeps its digits however far from the origin a robot has walked."""
    state = state_of(near.sample)
    away = np.array([1000.0, -1000.0] + [0.0] * 13)
    after, derived = near.step(state._replace(qpos=state.qpos + away), near.sample.ctrl)
    np.testing.assert_array_equal(derived.mass_matrix, near.derived.mass_matrix)
    np.testing.assert_allclose(after.qvel, near.state.qvel, rtol=1e-4, atol=1e-4)


def test_many_steps_stay_with_c():
    """A hopper lands, falls over and lies: differences may grow, but only as rounding does."""
    done = run("hopper")
    m = done.model.mj
    d = mujoco.MjData(m)
    d.qpos[1] += 0.1
    d.ctrl[:] = [0.3, -0.2, 0.1]
    qpos, qvel, warmstart = (np.array(x)[None] for x in (d.qpos, d.qvel, d.qacc_warmstart))
    state = physics.State(qpos, qvel, warmstart)
    for _ in range(300):
        state, _ = done.step(state, np.array(d.ctrl)[None])
        mujoco.mj_step(m, d)
        close(state.qpos[0], d.qpos, 1e-8)
    assert d.ncon > 0


def test_steps_are_steps():
    done = run("inverted_pendulum")
    thrice = over_worlds(lambda s, c: physics.steps(done.model, s, c, 3))
    state, derived = state_of(done.sample), None
    for _ in range(3):
        state, derived = done.step(state, done.sample.ctrl)
    state3, derived3 = thrice(state_of(done.sample), done.sample.ctrl)
    assert derived is not None
    close(state3.qpos, state.qpos, 1e-13)
    close(derived3.xpos, derived.xpos, 1e-13)
    with pytest.raises(ValueError, match="at least 1"):
        physics.steps(done.model, state, done.sample.ctrl, 0)


def test_forward_is_the_step_without_moving():
    done = run("inverted_pendulum")
    forward = over_worlds(functools.partial(physics.forward, done.model))
    derived = forward(state_of(done.sample), done.sample.ctrl)
    both = map(jax.tree.leaves, (derived, done.derived))
    for ours, theirs in zip(*both, strict=True):
        close(ours, theirs, 1e-13)


def test_shapes_are_checked():
    model = physics.load(oracles.asset("hopper"))
    state = physics.init(model, model.qpos0, jnp.zeros(6))
    assert state.qacc_warmstart.shape == (6,)
    with pytest.raises(ValueError, match=r"hopper\.xml.*\(6,\)"):
        physics.init(model, jnp.zeros(7), jnp.zeros(6))
    with pytest.raises(ValueError, match=r"hopper\.xml: ctrl has shape \(2,\), not \(3,\)"):
        physics.step(model, state, jnp.zeros(2))


def test_nothing_is_promoted():
    """A float32 world stays one, whatever precision the model and the controls are in."""
    model = physics.load(oracles.asset("ant"))
    with jax.enable_x64(True):
        state = physics.init(model, np.float32(model.qpos0), np.zeros(14, np.float32))
        shapes = jax.eval_shape(lambda s: physics.step(model, s, np.zeros(8)), state)
    assert {x.dtype for x in jax.tree.leaves(shapes)} == set(map(np.dtype, ("f4", "i4", "?")))


def test_tracing_is_quick():
    """A step of the ant is a few thousand operations: no scalar style crept in."""
    model = physics.load(oracles.asset("ant"))
    state = physics.init(model, model.qpos0, np.zeros(14))
    assert _size(jax.make_jaxpr(lambda s: physics.step(model, s, np.zeros(8)))(state).jaxpr) < 3000


def _size(jaxpr) -> int:
    inner = (v for e in jaxpr.eqns for v in e.params.values())
    bodies = (getattr(v, "jaxpr", v) for v in inner)
    return len(jaxpr.eqns) + sum(_size(b) for b in bodies if hasattr(b, "eqns"))
