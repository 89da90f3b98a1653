"""What worlds that are computed side by side share, and what a program says for speed alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes

WORLDS = (1, 3, 17, 64)


def listed(x: jax.Array) -> jax.Array:
    """Sums, by a list of those places where a world, or one beside it, has a large number."""

    def trip(k, state):
        def put(state):
            count, numbers, places = state
            numbers = numbers.at[count].set(jnp.where(x[k] > 0.5, x[k], 0))
            return count + 1, numbers, places.at[count].set(k)

        return lax.cond(lanes.any_world(x[k] > 0.5), put, lambda state: state, state)

    n = x.shape[0]
    start = (jnp.int32(0), lanes.empty((n,), x.dtype), lanes.empty((n,), jnp.int32))
    count, numbers, places = lanes.fori_loop(0, n, trip, start)
    add = lambda k, total: total + numbers[k] * (1 + places[k])
    return lax.fori_loop(0, count, add, jnp.zeros((), x.dtype))


@pytest.mark.parametrize("worlds", WORLDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_list_for_all_gives_each_world_its_own_sum(worlds, dtype):
    with jax.enable_x64(dtype == np.float64):
        x = np.random.default_rng(0).uniform(0, 1, (worlds, 9)).astype(dtype)
        expected = np.where(x > 0.5, x * np.arange(1, 10), 0).sum(1)
        for run in (lanes.kernel(listed), listed):
            np.testing.assert_allclose(jax.vmap(run)(jnp.asarray(x)), expected, rtol=1e-6)


def test_neighbours_change_no_bit():
    x = np.random.default_rng(1).uniform(0, 1, (64, 9)).astype(np.float32)
    order = np.random.default_rng(2).permutation(64)
    run = jax.jit(jax.vmap(lanes.kernel(listed)))
    together = np.asarray(run(x))
    np.testing.assert_array_equal(run(x[order]), together[order])
    np.testing.assert_array_equal([run(x[k : k + 1])[0] for k in range(4)], together[:4])


def test_outside_a_kernel_nobody_is_beside():
    assert lanes.any_world(True)
    np.testing.assert_array_equal(
        jax.vmap(lanes.any_world)(jnp.array([True, False])), [True, False]
    )
    tangent = jax.jvp(lambda x: jnp.where(lanes.any_world(x > 0), x * x, x), (3.0,), (1.0,))[1]
    assert tangent == 6


def test_groups_are_no_wider_than_said():
    small = lanes.kernel(lambda x: jnp.where(lanes.any_world(x > 0), x, 0))
    text = jax.jit(jax.vmap(small)).lower(np.zeros(256, np.float32)).as_text()
    assert "gpusim" in text  # a kernel, not XLA
    # Far more worlds than a group has, one of them alone in wanting something: how many see it.
    seen = lanes.kernel(lambda x: lanes.any_world(x > 0).astype(jnp.int32))
    x = np.zeros(256, np.float32)
    x[100] = 1
    assert 1 <= int(jax.vmap(seen)(x).sum()) <= lanes.side_by_side()


@pytest.mark.parametrize("trips", [1, 2, 9])
def test_new_arrays_in_branches_and_loops(trips):
    def fn(x, n):
        def fill(a):
            return lax.fori_loop(0, trips, lambda k, a: a.at[k].set(x * k), a)

        a = lax.cond(lanes.any_world(n > 0), fill, lambda a: a, lanes.empty((trips,), x.dtype))
        b = lanes.fori_loop(
            0, trips, lambda k, a: a.at[k].set(x + k), lanes.empty((trips,), x.dtype)
        )
        return jnp.where(n > 0, a.sum(), 0) + b[n % trips]

    x, n = np.linspace(1, 2, 17).astype(np.float32), np.arange(17, dtype=np.int32) % 3
    sums = x * np.arange(trips).sum()
    expected = np.where(n > 0, sums, 0) + x + n % trips
    np.testing.assert_allclose(jax.vmap(lanes.kernel(fn))(x, n), expected, rtol=1e-6)


@pytest.mark.parametrize("low", [-3, 0, 2])
def test_counters_that_leave_an_array_stay_inside_it(low):
    """The bounds that a counter is known to have must not be tighter than what it reaches."""

    def fn(table, n):
        add = lambda k, total: total + 10 * lax.dynamic_index_in_dim(table, k, 0, False) + k
        return lax.fori_loop(low, n, add, jnp.float32(0))

    def ordinary(table, n):
        places = np.arange(low, n)
        inside = np.clip(np.where(places < 0, places + 5, places), 0, 4)
        return (10 * table[inside] + places).sum()

    table = np.random.default_rng(3).uniform(0, 1, (17, 5)).astype(np.float32)
    n = np.arange(17, dtype=np.int32) - 2
    expected = [ordinary(t, k) for t, k in zip(table, n, strict=True)]
    run = lanes.kernel(fn)
    np.testing.assert_allclose(jax.vmap(run)(table, n), expected, rtol=1e-5)
    for k in (0, 4, 5, 6, 9):  # the same end for all
        alike = jax.vmap(run, in_axes=(0, None))(table, jnp.int32(k))
        np.testing.assert_allclose(alike, [ordinary(t, k) for t in table], rtol=1e-5)
