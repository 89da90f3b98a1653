"""Advantages against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from gpusim.agents.returns import gae


def column(*values, dtype=float):
    return jnp.array(values, dtype)[:, None]


def advantages(terminated, truncated, value_tp1):
    """Three steps of one world: rewards 1, 2, 3; values 4, 5, 6; discount 1/2, lambda 1/2."""
    result = gae(
        column(1, 2, 3),
        column(4, 5, 6),
        column(*value_tp1),
        column(*terminated, dtype=bool),
        column(*truncated, dtype=bool),
        discount=0.5,
        lambda_=0.5,
    )
    return np.asarray(result[:, 0])


def test_running_episode():
    # delta = 1+5/2-4, 2+6/2-5, 3+8/2-6 = -1/2, 0, 1;  A = delta + A_next/4
    np.testing.assert_allclose(advantages([0, 0, 0], [0, 0, 0], [5, 6, 8]), [-0.4375, 0.25, 1])


def test_termination_has_no_future():
    # delta_1 = 2 - 5, whatever comes after; A_0 = -1/2 - 3/4
    np.testing.assert_allclose(advantages([0, 1, 0], [0, 0, 0], [5, 6, 8]), [-1.25, -3, 1])


def test_truncation_bootstraps_from_the_final_observation():
    # the final observation is worth 10, the world then starts anew at 6: delta_1 = 2 + 10/2 - 5
    np.testing.assert_allclose(advantages([0, 0, 0], [0, 1, 0], [5, 10, 8]), [0, 2, 1])


def test_value_after_termination_may_be_nan():
    np.testing.assert_allclose(advantages([0, 1, 0], [0, 0, 0], [5, np.nan, 8]), [-1.25, -3, 1])


def test_lambda_one_is_the_discounted_return():
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 7, 3)).astype(np.float32)
    last = rng.normal(size=3).astype(np.float32)
    value_tp1 = np.concatenate([value[1:], last[None]])
    never = np.zeros((7, 3), bool)
    got = gae(
        *map(jnp.asarray, (reward, value, value_tp1, never, never)), discount=0.9, lambda_=1.0
    )
    expected, future = np.zeros((7, 3)), last
    for t in reversed(range(7)):
        future = reward[t] + 0.9 * future
        expected[t] = future - value[t]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_worlds_do_not_mix():
    flags = jnp.array([[False, True], [False, False]])
    ones, never = jnp.ones((2, 2)), jnp.zeros((2, 2), bool)
    got = gae(ones, 0 * ones, ones, flags, never, discount=1.0, lambda_=1.0)
    np.testing.assert_allclose(got, [[4, 1], [2, 2]])


def test_shapes_must_agree():
    ones, never = jnp.ones((2, 2)), jnp.zeros((2, 2), bool)
    with pytest.raises(AssertionError, match="shape"):
        gae(ones, jnp.ones((2, 1)), ones, never, never, discount=1.0, lambda_=1.0)
