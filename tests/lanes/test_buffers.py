"""Large arrays, of which the numbers of a world are neighbours in memory: read and written in
squares that are transposed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes
from gpusim.lanes.function import BY_WORLD
from gpusim.lanes.host import target
from tests.lanes.agreement import assert_same

SIZES = (BY_WORLD, BY_WORLD + 1, BY_WORLD + 44)  # whole squares, and some that overlap
DTYPES = (
    ("float32", 1, SIZES[0]), ("float64", 17, SIZES[1]), ("int8", 64, SIZES[2]),
    ("uint16", 33, SIZES[0]), ("uint64", 17, SIZES[2]), ("bool", 19, SIZES[1]),
)  # fmt: skip


def draw(dtype, worlds, size):
    x = np.random.default_rng(0).normal(size=(worlds, size)) * 50
    return x > 0 if dtype == "bool" else np.abs(x).astype(dtype)


def world(x, i, v):
    """Whole arrays, parts of them, and numbers found and changed at run time."""
    old = jnp.logical_not if x.dtype == bool else lambda x: x + x
    rolled = jnp.roll(x, 3).at[0].set(x[5])
    return {
        "whole": old(x),
        "backwards": x[::-1],
        "some": (x[7], x[40:200:3], x[-5:]),
        "found": (x[i], rolled[i + 1]),
        "changed": (x.at[i].set(x[3]), rolled.at[2 * i].set(x[i])),
        "looped": lax.fori_loop(0, 5, lambda k, y: y.at[i + k].set(y[k]), x),
        "mixed": jnp.concatenate([x[:3], x[100:], x[2:8]]),
        "table": jnp.where(x, v, x.sum(dtype=x.dtype)),
        "small": v * 2,
    }


def check(dtype, worlds, size):
    x, i = draw(dtype, worlds, size), np.arange(worlds) % 100
    v = np.float32(3)
    mapped = lambda f: jax.jit(jax.vmap(f, (0, 0, None)))
    assert_same(mapped(lanes.kernel(world))(x, i, v), mapped(world)(x, i, v))


@pytest.mark.parametrize(("dtype", "worlds", "size"), DTYPES)
def test_agrees(dtype, worlds, size):
    with jax.enable_x64(True):
        check(dtype, worlds, size)


@pytest.mark.parametrize("isa", ["sse", "avx2"])
def test_narrow_registers(isa, monkeypatch):
    whole = target.host()
    if isa == "avx2" and whole.vector_bits < 256:
        pytest.skip("this machine has no AVX2")
    features = {"avx2": True, "fma": True, "sse2": True}
    describe = functools.partial(target._describe, whole.triple, whole.cpu, features, isa)
    monkeypatch.setattr(target, "host", lambda: describe())
    check("float32", 33, SIZES[1])


def test_a_state_that_is_stepped_stays_where_it_is():
    """Large and small arrays, in a loop, with worlds that fill groups and that do not."""

    def step(state):
        big, small, key = state
        key, use = jax.random.split(key)
        at = jax.random.randint(use, (), 0, big.size)
        return big.at[at].add(small[0]), small + big[at], key

    def steps(f, worlds):
        keys = jax.random.split(jax.random.key(0), worlds)
        state = jnp.zeros((worlds, 300)), jnp.ones((worlds, 2)), keys
        return jax.jit(lambda s: lax.fori_loop(0, 20, lambda _, s: jax.vmap(f)(s), s))(state)

    for worlds in (64, 19):
        assert_same(steps(lanes.kernel(step), worlds), steps(step, worlds))


def test_keys():
    """Two words a key, side by side."""

    def fn(keys, i):
        return jax.random.key_data(keys), jax.random.split(keys[i], 200), keys[::-1]

    keys = jax.random.split(jax.random.key(0), (17, 150))
    i = jnp.arange(17)
    assert_same(jax.vmap(lanes.kernel(fn))(keys, i), jax.vmap(fn)(keys, i))


def test_nested_and_unmapped():
    """Axes of worlds that are made one, and arrays that all worlds share."""
    x = np.random.default_rng(0).normal(size=(3, 7, 20, 15)).astype("float32")
    table, index = jnp.asarray(x[0, 0]), jnp.arange(7) % 5
    fn = lambda x, table, i: (x @ table.T, jnp.sort(x[0]) + table[i], table.at[i].set(x[1]))
    for i, axis in ((index, 0), (3, None)):
        mapped = lambda f, axis=axis: jax.vmap(jax.vmap(f, (0, None, axis)), (0, None, None))
        assert_same(mapped(lanes.kernel(fn))(x, table, i), mapped(fn)(x, table, i))
