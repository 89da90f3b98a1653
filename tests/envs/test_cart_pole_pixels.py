"""The cart and pole that are filmed: those of CartPole-v1, and pictures of where they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gpusim
from gpusim.envs.tasks.pixels.cart_pole import HIGH, METRE, RAIL, WIDE

FILMED: Any = gpusim.make("cart_pole_pixels")
STILL = [0.0] * 8  # positions, m, and angles, rad, the newest first


def test_it_moves_as_cart_pole_does():
    plain: Any = gpusim.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(0), 32)
    a, b = jax.vmap(plain.reset)(keys), jax.vmap(FILMED.reset)(keys)
    steps = [jax.jit(jax.vmap(world.step)) for world in (plain, FILMED)]
    history = [a.carry] * 4
    for k in range(12):
        action = jax.random.randint(jax.random.key(k), (32,), 0, 2)
        a, b = steps[0](a, action), steps[1](b, action)
        history = [a.carry, *history[:-1]]
        for x, y in ((a.carry, b.carry.now), (a.reward, b.reward), (a.terminated, b.terminated)):
            np.testing.assert_allclose(x, y, atol=1e-6)
        expected = np.stack([h[:, k] for k in (0, 2) for h in history], axis=1)
        np.testing.assert_allclose(b.obs, expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(FILMED.pose)(b), jax.vmap(plain.pose)(a), atol=1e-6)


def test_a_picture_by_hand():
    """Cart in the middle, pole upright: both are two pixels wide or more, about the middle line."""
    picture = np.asarray(FILMED.picture(jnp.array(STILL)))
    assert picture.shape == (HIGH, WIDE, 4)
    middle, hinge = WIDE // 2, int(RAIL)
    np.testing.assert_allclose(picture[hinge - 6, middle - 2 : middle + 2, 0], [0, 1, 1, 0])
    np.testing.assert_allclose(picture[hinge, middle - 4 : middle - 1, 0], [0, 0.5, 0.5])
    assert picture[hinge - 11, middle, 0] == 1
    assert picture[hinge - 15, middle, 0] == 0
    np.testing.assert_array_equal(picture[..., 0], picture[:, ::-1, 0])
    np.testing.assert_array_equal(picture[..., 0], picture[..., 3])


def test_each_picture_is_of_its_time_and_moves_by_parts_of_a_pixel():
    centre = lambda picture: (picture.sum(0) * np.arange(WIDE)).sum() / picture.sum()
    obs = np.array([0.30, 0.29, 0.28, 0.20, 0, 0, 0, 0], np.float32)
    pictures = np.asarray(FILMED.picture(jnp.array(obs)))
    places = [centre(pictures[..., k]) for k in range(4)]
    expected = WIDE / 2 - 0.5 + METRE * obs[:4]
    np.testing.assert_allclose(places, expected, atol=0.05)


def test_the_pole_leans_the_way_it_falls():
    obs = np.array(STILL, np.float32)
    obs[4] = 0.2
    picture = np.asarray(FILMED.picture(jnp.array(obs)))[..., 0]
    top = picture[int(RAIL) - 11]
    end = WIDE / 2 + 11.5 * np.tan(0.2)
    assert abs((top * (np.arange(WIDE) + 0.5)).sum() / top.sum() - end) < 0.5
