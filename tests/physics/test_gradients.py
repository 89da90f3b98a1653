"""Derivatives through steps, against differences."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import lanes, physics

CART = """<mujoco><option timestep="0.01"/><worldbody>
  <body><joint name="x" type="slide" axis="1 0 0" damping="0.1"/><geom type="box" size=".2 .1 .1"/>
    <body><joint type="hinge" axis="0 1 0" damping="0.05"/>
      <geom type="capsule" fromto="0 0 0 0 0 .6" size=".04"/></body></body></worldbody>
  <actuator><motor joint="x" gear="5"/></actuator></mujoco>"""
# A leg pushed onto the floor, with a limit, dry friction and an equality that act.
LEG = """<mujoco><option timestep="0.005" cone="{}" iterations="50" tolerance="0"/><worldbody>
  <geom type="plane" size="1 1 1"/>
  <body pos="0 0 .55"><joint name="up" type="slide" axis="0 0 1"/>
    <joint name="along" type="slide" axis="1 0 0" frictionloss="0.3"/>
    <geom type="sphere" size=".1" mass="2"/>
    <body><joint name="hip" axis="0 1 0" limited="true" range="-2 2"/>
      <geom type="capsule" fromto="0 0 0 0 0 -.25" size=".04"/>
      <body pos="0 0 -.25"><joint name="knee" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0.05 0 -.25" size=".04"/></body></body></body>
  </worldbody><equality><joint joint1="knee" joint2="hip" polycoef="0.1 0.5 0 0 0"/></equality>
  <actuator><motor joint="hip" gear="3"/></actuator></mujoco>"""
BALL = """<body pos="{0} 0 {1}"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
  <geom type="sphere" size=".1"/></body>"""
PILE = (
    '<mujoco><worldbody><geom type="plane" size="1 1 1"/>'
    + "".join(
        BALL.format(0.19 * (k % 3) + 0.08 * (k // 3), 0.1 + 0.17 * (k // 3)) for k in range(6)
    )
    + "</worldbody></mujoco>"
)


def summed(model: physics.Model, steps: int) -> Callable:
    """A number of a world that depends on where it is after so many steps."""

    def after(qpos, qvel, ctrl):
        state = physics.init(model, qpos, qvel)
        step = lambda _, state: physics.step(model, state, ctrl)[0]
        state = jax.lax.fori_loop(0, steps, step, state)
        weight = lambda x: jnp.cos(jnp.arange(len(x), dtype=x.dtype)) @ x
        return weight(state.qpos) + 0.1 * weight(state.qvel)

    return after


def differences(f: Callable, args: list[np.ndarray], k: int, h: float = 1e-6) -> np.ndarray:
    """Of f by its argument k, in every world."""
    run = jax.jit(jax.vmap(lanes.kernel(f)))
    moved = lambda way: run(*(x + way if i == k else x for i, x in enumerate(args)))
    ways = h * np.eye(args[k].shape[1])
    return np.stack([(moved(way) - moved(-way)) / (2 * h) for way in ways], 1)


def moving(m: mujoco.MjModel, worlds: int = 6) -> list[np.ndarray]:
    """qpos, qvel and ctrl in the middle of real motions."""
    rng, found = np.random.default_rng(0), []
    for _ in range(worlds):
        d = mujoco.MjData(m)
        d.qvel[:] = rng.normal(0, 0.3, m.nv)
        ctrl = rng.uniform(-1, 1, m.nu)
        for _ in range(40):
            d.ctrl[:] = ctrl
            mujoco.mj_step(m, d)
        found.append((d.qpos.copy(), d.qvel.copy(), ctrl))
    return [np.array(x) for x in zip(*found, strict=True)]


ROUTES = {
    "kernel": lambda f: lanes.kernel(jax.grad(f, argnums=(0, 1, 2))),
    "XLA": lambda f: jax.grad(lanes.kernel(f), argnums=(0, 1, 2)),
}
CASES = [
    ("kernel", CART),
    pytest.param("XLA", CART, marks=pytest.mark.slow),
    ("kernel", LEG.format("elliptic")),
    pytest.param("kernel", LEG.format("pyramidal"), marks=pytest.mark.slow),
    pytest.param("XLA", LEG.format("pyramidal"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("route", "file"), CASES)
def test_gradients_are_those_of_the_motion(route: str, file: str):
    m = mujoco.MjModel.from_xml_string(file)
    with jax.enable_x64(True):
        args = moving(m)
        f = summed(physics.load(m), 3)
        gradients = jax.jit(jax.vmap(ROUTES[route](f)))(*args)
        for k, gradient in enumerate(gradients):
            expected = differences(f, args, k)
            assert np.abs(expected).max() > 1e-4
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_all_constraints_acted():
    """In the test above: else it would say little of them."""
    m = mujoco.MjModel.from_xml_string(LEG.format("elliptic"))
    kinds, contacts = set(), 0
    for qpos, qvel, ctrl in zip(*moving(m), strict=True):
        d = mujoco.MjData(m)
        d.qpos[:], d.qvel[:], d.ctrl[:] = qpos, qvel, ctrl
        mujoco.mj_forward(m, d)
        kinds |= {int(k) for k, force in zip(d.efc_type, d.efc_force, strict=True) if force}
        contacts += d.ncon
    names = ("EQUALITY", "FRICTION_DOF", "LIMIT_JOINT", "CONTACT_ELLIPTIC")
    assert kinds >= {int(getattr(mujoco.mjtConstraint, f"mjCNSTR_{name}")) for name in names}
    assert contacts


@pytest.mark.slow
def test_contacts_in_a_list_have_forward_derivatives():
    """Loops that end at run time can be followed forwards only."""
    m = mujoco.MjModel.from_xml_string(PILE)
    model = physics.load(m)
    assert model.topology.slots is not None
    with jax.enable_x64(True):
        args = moving(m, 2)
        f = lanes.kernel(summed(model, 2))
        way = np.random.default_rng(1).standard_normal(m.nv)
        along = lambda h, *x: f(x[0], x[1] + h * way, x[2])
        run = jax.jit(jax.vmap(along, (None, 0, 0, 0)))
        found = jax.jvp(lambda h: run(h, *args), (0.0,), (1.0,))[1]
        expected = (run(1e-6, *args) - run(-1e-6, *args)) / 2e-6
        assert np.abs(expected).min() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        with pytest.raises(ValueError, match="Reverse-mode"):
            jax.vmap(jax.grad(f, argnums=1))(*args)
