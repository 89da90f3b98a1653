"""Lists of contacts: what worlds side by side share, how many a world may have, what is dropped."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import mujoco
import numpy as np
import pytest

from gpusim import lanes, physics
from tests.physics.features import errors, moments, stepped

# Limbs that touch each other and the floor, in three and in four dimensions.
LIMB = """<body pos="{x} {y} 0"><joint type="ball" damping=".1"/>
  <geom type="capsule" fromto="0 0 0 {x} {y} -.1" size=".06" condim="{dim}"/></body>"""
CRAB = f"""<mujoco><option timestep=".004"/><worldbody>
  <geom type="plane" size="5 5 1"/>
  <body pos="0 0 .2"><freejoint/><geom type="box" size=".12 .12 .05"/>
  {
    "".join(
        LIMB.format(x=x, y=y, dim=dim)
        for x, y, dim in [
            (0.15, 0.1, 3),
            (-0.15, 0.1, 3),
            (0.15, -0.1, 4),
            (-0.15, -0.1, 4),
            (0.02, 0.18, 3),
        ]
    )
}
  </body></worldbody></mujoco>"""


def brush(n: int) -> str:
    """A body that stands on n bristles."""
    foot = '<geom type="sphere" size=".02" pos="{x} {y} -.1"/>'
    feet = "".join(foot.format(x=0.05 * (k % 9), y=0.05 * (k // 9)) for k in range(n))
    return f"""<mujoco><option iterations="200" tolerance="1e-14"/><worldbody>
      <geom type="plane" size="9 9 1"/>
      <body pos="0 0 .1195"><freejoint/>{feet}</body></worldbody></mujoco>"""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_who_is_beside_a_world_changes_no_bit(dtype):
    m = mujoco.MjModel.from_xml_string(CRAB)
    model, found = physics.load(m), moments(m, 40, wanted=lambda d: d.ncon > 2)
    counts = [d.ncon for d in found.before]
    assert len(set(counts)) > 4  # worlds that have much to do beside others that have little

    def step(qpos, qvel):
        state, derived = physics.steps(model, physics.init(model, qpos, qvel), np.zeros(0), 3)
        return state.qpos, state.qvel, derived.contact.dist, derived.contact.force

    run = jax.jit(jax.vmap(lanes.kernel(step)))
    with jax.enable_x64(dtype == np.float64):
        given = [found.given[f].astype(dtype) for f in ("qpos", "qvel")]
        together = [np.asarray(x) for x in run(*given)]
        order = np.random.default_rng(0).permutation(len(counts))
        shuffled = run(*(x[order] for x in given))
        alone = [run(*(x[k : k + 1] for x in given)) for k in range(4)]
    for k, x in enumerate(together):
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(shuffled[k], x[order])
        np.testing.assert_array_equal(np.concatenate([one[k] for one in alone]), x[:4])


def test_a_world_may_have_sixty_contacts():
    m = mujoco.MjModel.from_xml_string(brush(60))
    model, found = physics.load(m), moments(m, 6, push=0.0)
    assert {d.ncon for d in found.before} == {60}
    state, derived = stepped(model, found)
    assert not derived.contacts_dropped.any()
    assert {k: v for k, v in errors(found, state, derived).items() if not v < 1e-9} == {}


def test_what_finds_no_place_is_counted():
    m = mujoco.MjModel.from_xml_string(brush(72))
    model, found = physics.load(m), moments(m, 3, push=0.0)
    assert {d.ncon for d in found.before} == {72}
    derived = stepped(model, found)[1]
    assert (derived.contacts_dropped == 72 - 64).all()
    assert (derived.contact.touches.sum(1) == 64).all()
