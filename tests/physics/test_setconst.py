"""Constants of a model against those its compiler wrote."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import lanes, physics
from gpusim.physics.setconst import constants
from tests import oracles
from tests.physics.harness import close
from tests.physics.test_zoo import MACHINE, PILE, TERRAIN

MODELS = {name: str(oracles.asset(name)) for name in oracles.BRAX_MODELS}
MODELS |= {"terrain": TERRAIN, "machine": MACHINE, "pile": PILE}


@pytest.mark.parametrize("name", MODELS)
def test_constants_are_the_compiler_s(name: str):
    model = physics.load(MODELS[name])
    with jax.enable_x64(True):
        kernel = lanes.kernel(lambda mass: constants(model.replace(body_mass=mass)))
        found = kernel(jnp.asarray(model.body_mass))
    close(found["body_invweight0"], model.mj.body_invweight0)
    close(found["dof_invweight0"], model.mj.dof_invweight0)
    close(found["mean_inertia"], model.mj.stat.meaninertia)


def test_numbers_that_derive_nothing_stay_alone():
    model = physics.load(MODELS["ant"])
    alone = {"gravity": model.gravity, "geom_friction": model.geom_friction}
    assert physics.with_constants(model, alone) == alone
    given = {"body_mass": model.body_mass, "dof_invweight0": model.dof_invweight0}
    found = jax.eval_shape(lambda: physics.with_constants(model, given))
    assert set(found) == {*given, "body_invweight0", "mean_inertia"}


def test_ranges_that_the_file_does_not_limit_stay_infinite():
    """As C takes a number written into a model whose flag says that it does not count."""
    model = physics.load(
        """<mujoco><worldbody><body><joint name="j"/><geom size=".1"/></body></worldbody>
        <actuator>
          <motor joint="j" ctrllimited="true" ctrlrange="-1 1"/> <motor joint="j"/>
        </actuator>
        </mujoco>"""
    )
    new = model.replace(
        actuator_ctrlrange=jnp.asarray([[-2.0, 2.0], [-0.5, 0.5]]),
        actuator_forcerange=jnp.asarray([[-1.0, 1.0], [-1.0, 1.0]]),
    )
    np.testing.assert_array_equal(new.actuator_ctrlrange, [[-2, 2], [-np.inf, np.inf]])
    np.testing.assert_array_equal(new.actuator_forcerange, [[-np.inf, np.inf]] * 2)


def test_damping_that_turns_with_a_body_is_nan():
    """A free joint's damping may differ between its rotations in C, about axes of the body."""
    model = physics.load(
        """<mujoco><worldbody><body><joint name="root" type="free" damping=".3"/>
        <geom type="box" size=".1 .2 .3"/></body></worldbody></mujoco>"""
    )
    alike, unlike = np.full(6, 0.5), np.arange(6.0)
    np.testing.assert_array_equal(model.replace(dof_damping=alike).dof_damping, alike)
    assert np.isnan(model.replace(dof_damping=unlike).dof_damping[3:]).all()
    assert np.isnan(model.replace(dof_armature=unlike).dof_armature[3:]).all()
