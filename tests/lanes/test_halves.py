"""bfloat16 and float16: computed in 32 bits, rounded after every operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes

DTYPES = ("bfloat16", "float16")
# Steps between neighbours, relative to the number.
STEP = {"bfloat16": 2.0**-7, "float16": 2.0**-10}


def every(dtype) -> jax.Array:
    """All numbers there are; of bfloat16 without those that float32 has no normal form for."""
    words = np.arange(2**16, dtype=np.uint16)
    if dtype == "bfloat16":
        words = words[((words & 0x7F80) != 0) | ((words & 0x7FFF) == 0)]
    return jnp.asarray(words.view(jnp.dtype(dtype)))


def some(dtype, *shape, seed=0, scale=3.0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * scale, dtype)


def same(fn, *args):
    """Bit for bit, but for the sign of zero and what NaN carries."""
    actual = jax.jit(jax.vmap(lanes.kernel(fn)))(*args)
    expected = jax.jit(jax.vmap(fn))(*args)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(e, np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_is_read_and_written(dtype):
    same(lambda x: (-x, x.astype("float32"), abs(x), jnp.maximum(x, 1), x[None]), every(dtype))
    same(lambda x: (x > 0.5, x == x, jnp.isfinite(x), lax.sign(x), lax.floor(x)), every(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding(dtype):
    """Of float32, of integers, and of what is half way between two numbers."""
    rng = np.random.default_rng(0)
    size = 2.0 ** rng.integers(-26 if dtype == "float16" else -100, 20, 20_000)
    x = (rng.normal(size=20_000) * size).astype("float32")
    number = every(dtype).astype("float32")
    halfway = np.asarray((number[:-1] + number[1:]) / 2)
    halfway = halfway[np.abs(halfway) > 2.0**-120]
    for given in (
        x,
        halfway,
        np.asarray([np.inf, -np.inf, np.nan, 65519.9, 65520, 1e30], "float32"),
    ):
        same(lambda x: x.astype(dtype), given)
    same(lambda i: i.astype(dtype), rng.integers(-70_000, 70_000, 5_000, "int32"))
    same(lambda x: x.astype("int32"), every(dtype)[::7])


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic_is_rounded(dtype):
    x, y = some(dtype, 5_000), some(dtype, 5_000, seed=1, scale=50)
    for fn in (jnp.add, jnp.subtract, jnp.multiply, jnp.divide, lax.max):
        same(fn, x, y)
    same(lambda x: (x * 1.1, 2 * x, jnp.sqrt(abs(x)), x > 1), x)
    same(lambda x: lax.reduce_precision(x, 8, 3), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits(dtype):
    x = every(dtype)
    finite = jnp.asarray(np.asarray(x)[np.isfinite(np.asarray(x, "float32"))][::5])
    same(
        lambda x: (lax.bitcast_convert_type(x, "int16"), lax.bitcast_convert_type(x, "uint8")),
        finite,
    )
    back = lambda n: lax.bitcast_convert_type(n, dtype)
    same(back, lax.bitcast_convert_type(x[::5], "uint16"))
    same(lambda n: back(lax.bitcast_convert_type(n, "uint16")), np.arange(-999, 999, dtype="int32"))


def composed(x, i):
    """A bit of everything."""
    scan = lax.scan(lambda c, y: (c * 0.9 + y, c), x[0], x)
    looped = lax.fori_loop(0, 30, lambda k, a: a.at[(i + k) % 9].set(a[k % 9] * 0.97), x)
    noise = jax.random.normal(jax.random.key(i), (4,), x.dtype)
    weights = jnp.asarray(np.linspace(-1, 1, 36).reshape(9, 4), x.dtype)
    return {
        "sum": (x.sum(), x.mean(), x.var(), jnp.cumsum(x)),
        "functions": (jnp.tanh(x), jnp.exp(x / 8), jnp.sin(x), jax.nn.softmax(x)),
        "product": (x @ weights, jnp.outer(x, x)),
        "order": (jnp.sort(x), jnp.argmax(x), x[i], x.at[i].set(1.5), x.at[i].add(x[0])),
        "branch": lax.cond(i > 3, lambda x: x * 3, lambda x: x - 1, x),
        "loops": (scan, looped),
        "noise": noise,
        "mixed": (x.astype("float32") * 2, x + 1, x * np.float32(0.3)),
        "gradient": jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2))(x),
        "constant": jnp.asarray([0.1, 1e-7, 3e38], x.dtype),
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_composed(dtype):
    """XLA keeps more digits between operations that it fuses."""
    x, i = some(dtype, 19, 9), jnp.arange(19) % 9
    actual, expected = (jax.jit(jax.vmap(f))(x, i) for f in (lanes.kernel(composed), composed))
    for (path, a), e in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert (a.dtype, a.weak_type) == (e.dtype, e.weak_type), path
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        bound = 6 * STEP[dtype] * max(1.0, np.abs(e[np.isfinite(e)]).max())
        np.testing.assert_allclose(a, e, rtol=4 * STEP[dtype], atol=bound, err_msg=str(path))


def test_a_large_state_and_what_is_refused():
    x = some("bfloat16", 17, 300)
    same(lambda x: (x[::-1] * 2, x.at[3].set(1)), x)
    with pytest.raises(lanes.LanesError, match="nextafter of float16 is not supported"):
        jax.jit(jax.vmap(lanes.kernel(jnp.nextafter))).lower(*[some("float16", 4)] * 2)
    with pytest.raises(lanes.LanesError, match="dtype float8_e5m2 is not supported"):
        jax.jit(jax.vmap(lanes.kernel(lambda x: x + x))).lower(some("float8_e5m2", 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_that_a_loop_fills(dtype):
    def filled(x):
        fill = lambda k, a: a.at[k].set(x * k)
        return lanes.fori_loop(0, 3, fill, lanes.empty((3,), dtype))

    same(filled, some(dtype, 8))
