"""What every environment keeps to: purity, one program, honest numbers, broken worlds contained."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs import mujoco_task, world

WORLDS = 5


@pytest.fixture(scope="module")
def env():
    return gpusim.make("hopper")


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(jax.vmap(env.step))


@pytest.fixture
def start(env):
    return jax.vmap(env.reset)(jax.random.split(jax.random.key(0), WORLDS))


def actions(env, seed=0):
    return jax.random.uniform(jax.random.key(seed), (WORLDS, env.action_size), minval=-1.0)


def leaves(state):
    """All arrays of a state."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def test_sizes_and_times_are_brax_s():
    expected = {
        "ant": (27, 8, 0.05),
        "humanoid": (244, 17, 0.015),
        "half_cheetah": (17, 6, 0.05),
        "hopper": (11, 3, 0.008),
        "inverted_pendulum": (4, 1, 0.04),
        "inverted_double_pendulum": (8, 1, 0.02),
        "reacher": (11, 2, 0.02),
        "swimmer": (8, 2, 0.04),
        "pusher": (23, 7, 0.05),
        "humanoidstandup": (244, 17, 0.015),
        "walker2d": (17, 6, 0.008),
    }
    assert expected.keys() <= set(gpusim.envs.names())
    for name, (observations, actions, dt) in expected.items():
        env = gpusim.make(name)
        assert (env.name, env.observation_size, env.action_size) == (name, observations, actions)
        assert env.dt == pytest.approx(dt)
        assert env.max_episode_steps == 1000
        assert env.action_space == world.Box(actions)


def test_step_is_pure(env, step, start):
    before = leaves(start)
    assert same(step(start, actions(env)), step(start, actions(env)))
    assert all(np.array_equal(x, y) for x, y in zip(before, leaves(start), strict=True))


def test_worlds_do_not_see_each_other(env, step, start):
    batch = step(start, actions(env))
    one = jax.tree.map(lambda x: x[3], start)
    alone = jax.jit(env.step)(one, actions(env)[3])
    for x, y in zip(leaves(alone), leaves(batch), strict=True):
        np.testing.assert_array_equal(x, y[3])


def test_shapes_and_dtypes_are_a_fixed_point(env, start):
    after = jax.eval_shape(jax.vmap(env.step), start, actions(env))
    kind = lambda x: (x.shape, x.dtype, x.weak_type)
    assert jax.tree.map(kind, jax.eval_shape(lambda: start)) == jax.tree.map(kind, after)


def test_second_step_does_not_compile(env, start):
    step: Any = jax.jit(jax.vmap(env.step))
    state = step(step(start, actions(env)), actions(env, 1))
    assert step._cache_size() == 1
    assert (
        jax.jit(jax.vmap(env.step)).lower(state, actions(env)).as_text().count("custom_call") == 1
    )


def test_starts_are_drawn_around_the_pose(env):
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 200))
    noise = np.asarray(starts.carry.physics.qpos) - env.init_qpos
    assert np.abs(noise).max() <= env.reset_noise_scale
    assert np.unique(noise, axis=0).shape[0] == 200
    # uniform noise: the standard deviation of 1,200 draws is within a few percent of scale/sqrt(3)
    assert noise.std() == pytest.approx(env.reset_noise_scale / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 10 * mujoco_task.SPEED_LIMIT])
def test_a_world_that_blew_up_ends_and_poisons_nothing(env, step, start, broken):
    physics = start.carry.physics
    physics = physics._replace(qvel=physics.qvel.at[2, 1].set(broken))
    sick = start.replace(carry=start.carry._replace(physics=physics))
    after, healthy = step(sick, actions(env)), step(start, actions(env))
    assert after.terminated[2]
    assert after.metrics["diverged"].tolist() == [0, 0, 1, 0, 0]
    assert after.reward[2] == 0
    assert not after.obs[2].any()
    for x, y in zip(leaves(after), leaves(healthy), strict=True):
        np.testing.assert_array_equal(np.delete(x, 2, 0), np.delete(y, 2, 0))


def test_import_is_light():
    """`import gpusim` starts neither JAX nor MuJoCo; an environment needs no Brax and no agents."""
    program = (
        "import sys, gpusim; assert not {'jax', 'mujoco', 'brax'} & set(sys.modules)\n"
        "gpusim.make('ant').model\n"
        "loaded = {'brax', 'flax', 'gpusim.agents', 'optax', 'mujoco.mjx', 'mujoco.renderer'}\n"
        "assert not loaded & set(sys.modules), loaded & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_public_names():
    assert {"make", "State", "lanes", "__version__"} <= set(dir(gpusim))
    assert gpusim.State is world.State
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gpusim.nothing  # noqa: B018


def test_action_range_is_the_actuators(env):
    humanoid: Any = gpusim.make("humanoid")
    onto = mujoco_task.onto_control_range
    np.testing.assert_allclose(onto(humanoid.model, jnp.ones(17)), 0.4, rtol=1e-6)
    np.testing.assert_allclose(onto(humanoid.model, -jnp.ones(17)), -0.4, rtol=1e-6)
    np.testing.assert_array_equal(
        onto(env.model, jnp.array([0.3, -1.0, 2.0])), np.array([0.3, -1, 2], np.float32)
    )
