"""The same task computed by C MuJoCo, through callbacks, and by MJX."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim.envs import engines, randomize
from gpusim.envs.engines import in_mjx, in_mujoco
from gpusim.envs.mujoco_task import Moment, MujocoTask
from gpusim.envs.tasks.brax.hopper import Hopper


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Varied(Hopper):
    """Masses, gravity and control ranges of its own in every episode."""

    def vary(self, key: jax.Array) -> Mapping[str, jax.Array]:
        ranges = jnp.asarray(self.model.actuator_ctrlrange, float)
        scale = jax.random.uniform(key, (), minval=0.5, maxval=1.0)
        return {
            **randomize.masses(key, self.model, 0.8, 1.2),
            "gravity": randomize.shift(key, self.model.gravity, -0.5, 0.5),
            "actuator_ctrlrange": ranges * scale,
        }


@pytest.mark.parametrize(
    ("make", "elsewhere"),
    [
        pytest.param(lambda: gpusim.make("humanoid"), in_mujoco, id="humanoid in C"),
        pytest.param(Varied, in_mujoco, id="varied in C"),
        pytest.param(Varied, in_mjx, id="varied in MJX", marks=pytest.mark.slow),
    ],
)
def test_it_is_the_same_task(make, elsewhere):
    ours = make()
    theirs = elsewhere(ours)
    assert (theirs.name, theirs.n_frames) == (ours.name, ours.n_frames)
    keys = jax.random.split(jax.random.key(0), 3)
    a, b = (jax.jit(jax.vmap(world.reset))(keys) for world in (ours, theirs))
    step = [jax.jit(jax.vmap(world.step)) for world in (ours, theirs)]
    for k in range(6):
        action = jax.random.uniform(jax.random.key(k), (3, ours.action_size), minval=-1.0)
        a, b = step[0](a, action), step[1](b, action)
        np.testing.assert_allclose(a.obs, b.obs, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(a.reward, b.reward, rtol=2e-3, atol=2e-3)
        np.testing.assert_array_equal(a.terminated, b.terminated)


def test_forces_on_bodies_are_seen_in_c():
    """Ant-v5 observes cfrc_ext, which C computes only when asked to."""
    pytest.importorskip("gymnasium")
    ours = gpusim.make("Ant-v5")
    assert isinstance(ours, MujocoTask)
    theirs, seen = in_mujoco(ours), 0.0
    a, b = (jax.jit(world.reset)(jax.random.key(0)) for world in (ours, theirs))
    step = [jax.jit(world.step) for world in (ours, theirs)]
    for k in range(12):
        action = jax.random.uniform(jax.random.key(k), (8,), minval=-1.0)
        a, b = step[0](a, action), step[1](b, action)
        a = a.replace(carry=b.carry)  # contacts part soon
        np.testing.assert_allclose(a.obs[27:], b.obs[27:], atol=0.02)
        seen = max(seen, float(jnp.abs(b.obs[27:]).max()))
    assert seen > 0.5


def test_by_name():
    pytest.importorskip("mujoco.mjx")
    world = gpusim.make("hopper", physics="mjx", reset_noise_scale=0.0)
    assert type(world.engine).__name__ == "Mjx"  # pyright: ignore[reportAttributeAccessIssue]
    assert jax.eval_shape(world.reset, jax.random.key(0)).obs.shape == (11,)
    with pytest.raises(ValueError, match="no task on a MuJoCo model"):
        gpusim.make("tests.envs.ring:Ring", physics="mjx")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shifted(MujocoTask):
    """A ball with an arm, of masses, centres of mass and sizes of its own: it is so large that it
    touches the ground."""

    mjcf: ClassVar[str] = """<mujoco><worldbody><geom type="plane" size="0 0 1"/>
      <body name="ball" pos="0 0 .29"><freejoint/><geom size=".2" mass="1"/>
      <body pos=".4 0 0"><joint name="j" axis="0 1 0"/>
      <geom type="capsule" size=".05 .3" pos="0 0 .3" mass=".5" contype="0"/></body></body>
      </worldbody><actuator><motor joint="j" gear="5"/></actuator></mujoco>"""
    n_frames: int = 20

    def vary(self, key: jax.Array) -> dict[str, jax.Array]:
        mass, ipos = (jnp.asarray(x) for x in (self.model.body_mass, self.model.body_ipos))
        size = jnp.asarray(self.model.geom_size).at[1, 0].set(0.3)
        return {"body_mass": mass * 2, "body_ipos": ipos + 0.05, "geom_size": size}

    def observation(self, memory: Any, now: Moment) -> jax.Array:
        return jnp.concatenate([now.state.qpos, now.derived.subtree_com.ravel()])

    def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        return {"none": jnp.zeros(())}


@pytest.mark.slow
def test_c_mujoco_has_a_world_s_own_masses_and_sizes():
    """What its compiler derived from the file's would stand for them."""
    world, action = Shifted(), jnp.array([0.5])
    start = jax.jit(world.start)(jax.random.key(0))
    ours, theirs = (jax.jit(w.transition)(start, action) for w in (world, in_mujoco(world)))
    np.testing.assert_allclose(ours.obs, theirs.obs, rtol=0, atol=1e-4)
    assert np.abs(ours.obs - start.obs).max() > 0.005


def test_c_mujoco_cannot_move_the_centre_of_a_lone_body():
    """Of which C keeps a diagonal inertia: it would go on as if nothing were moved."""
    text = """<mujoco><worldbody><body name="ball"><freejoint/><geom size=".1"/></body>
      </worldbody></mujoco>"""
    mj = mujoco.MjModel.from_xml_string(text)  # pyright: ignore[reportAttributeAccessIssue]
    same = engines._with_numbers(mj, {"body_ipos": mj.body_ipos})
    np.testing.assert_array_equal(same.body_ipos, mj.body_ipos)
    with pytest.raises(ValueError, match="cannot move the centre of mass of ball, a lone body"):
        engines._with_numbers(mj, {"body_ipos": mj.body_ipos + 0.01})
