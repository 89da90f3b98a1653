"""Each feature in a model of its own, one step from states where it acts, against C MuJoCo."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import physics
from tests.physics.features import errors, moments, stepped
from tests.physics.models import FEATURES

# Nearest points of round shapes are searched for too, and C ends a cord's search inside a hollow at
# 1e-6.
SEARCHES = {
    "inside wrap": 1e-7,
    "height field": 1e-6,
    "height field, margins": 1e-6,
    "capsule ellipsoid": 1e-3,
    "capsule cylinder": 1e-3,
}


def exact(m: mujoco.MjModel) -> mujoco.MjModel:
    """The same with the one solver of C that converges to rounding."""
    m.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return m


# What others here or in test_collision.py show too.
SLOW = (
    "box box", "box mesh", "mesh mesh", "sphere mesh", "capsule mesh", "capsule cylinder",
    "capsule ellipsoid", "implicitfast in flight, a part welded on", "implicitfast in a fluid",
    "implicitfast ellipsoids in a fluid", "implicit ellipsoids in a fluid",
    "implicit in a fluid", "implicitfast in flight", "height field, margins",
    "implicitfast across branches", "noslip 6", "noslip elliptic 4", "noslip elliptic 6",
)  # fmt: skip
SOME = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FEATURES]


def acts(name: str) -> Callable[[mujoco.MjData], bool]:
    """Whether the feature does: of two things, whether they touch each other."""
    if 'site="there"' in FEATURES[name]:
        return lambda d: bool(
            (np.sort(d.contact.geom) == (d.model.ngeom - 2, d.model.ngeom - 1)).all(1).any()
        )
    return lambda d: d.nefc > 0


@pytest.mark.parametrize("name", SOME)
def test_a_step_is_c_s(name: str):
    m = mujoco.MjModel.from_xml_string(FEATURES[name])
    loaded = physics.load(m)
    found = moments(exact(m), wanted=acts(name))
    assert len(found.before) > 10
    state, derived = stepped(loaded, found)
    worst = errors(found, state, derived)
    bound = SEARCHES.get(name, 1e-9)
    assert {k: v for k, v in worst.items() if not v < bound} == {}
    if '<geom type="plane" size="9 9 1" euler="5 3 0"' in FEATURES[name]:  # of `thing`
        assert np.mean([acts(name)(d) for d in found.before]) > 0.2


@pytest.mark.parametrize("name", ["explicit pair, elliptic", "override"])
def test_frictions_that_are_no_geom_s_may_be_a_world_s_own(name: str):
    m = mujoco.MjModel.from_xml_string(FEATURES[name])
    loaded = physics.load(m)
    with jax.enable_x64(True):
        own = loaded.replace(pair_friction=jnp.asarray(0.3 * loaded.pair_friction))
    m.pair_friction *= 0.3
    m.opt.o_friction *= 0.3
    found = moments(exact(m), wanted=acts(name))
    assert max(errors(found, *stepped(own, found)).values()) < 1e-9
    assert max(errors(found, *stepped(loaded, found)).values()) > 1e-3
