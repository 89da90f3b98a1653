"""Constants of a model against those its compiler wrote."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import jax.numpy as jnp
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
