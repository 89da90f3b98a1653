"""MuJoCo Playground's own environments, unmodified: the same as mapped by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim

pytest.importorskip("mujoco_playground")


def test_a_playground_environment_is_a_world():
    world = gpusim.make("playground:CartpoleBalance")
    assert (world.name, world.action_size) == ("playground:CartpoleBalance", 1)
    assert (world.dt, world.max_episode_steps) == (0.01, 1000)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        ours, theirs = jax.vmap(world.reset)(keys), jax.jit(jax.vmap(world.start))(keys)
        action = jnp.linspace(-1, 1, 3)[:, None]
        for _ in range(3):
            ours = jax.jit(jax.vmap(world.step))(ours, action)
            theirs = jax.jit(jax.vmap(world.transition))(theirs, action)
        np.testing.assert_allclose(ours.obs, theirs.obs, atol=1e-9)
        np.testing.assert_allclose(ours.reward, theirs.reward, atol=1e-9)


def test_an_unknown_one_is_told():
    with pytest.raises(ValueError, match="did you mean 'CartpoleBalance'"):
        gpusim.make("playground:CartpoleBalanse")
