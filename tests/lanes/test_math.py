"""Elementary functions against longer arithmetic, in units in the last place, and at edges."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes
from gpusim.lanes import math as lane_math
from gpusim.lanes.program.graph import Graph

DTYPES = ("float32", "float64")
LONGER = {"float32": np.float64, "float64": np.longdouble}
BITS = {"float32": np.uint32, "float64": np.uint64}


def listed(f):
    """A function of numbers as one of arrays."""
    return lambda x: np.array([f(float(v)) for v in x], np.float64)


# name: (reference, largest |x| as a power of 2, or None for all; bound in units in the last place)
UNARY = {
    "sin": (np.sin, None, 2.7),
    "cos": (np.cos, None, 2.7),
    "tan": (np.tan, None, 4),
    "asin": (np.arcsin, 0, 4.5),
    "acos": (np.arccos, 0, 2.5),
    "atan": (np.arctan, None, 2.5),
    "sinh": (np.sinh, 7, 4),
    "cosh": (np.cosh, 7, 3),
    "tanh": (np.tanh, 5, 5.5),
    "asinh": (np.arcsinh, None, 4),
    "acosh": (np.arccosh, None, 3),
    "atanh": (np.arctanh, 0, 4),
    "exp": (np.exp, 7, 1.5),
    "exp2": (np.exp2, 7, 1.5),
    "expm1": (np.expm1, 7, 3),
    "log": (np.log, None, 2),
    "log1p": (np.log1p, None, 3),
    "logistic": (lambda x: 1 / (1 + np.exp(-x)), 7, 3),
    "erf": (listed(math.erf), 3, 6),
    "erfc": (listed(math.erfc), 3, 9),
    "cbrt": (np.cbrt, None, 4),
    "rsqrt": (lambda x: 1 / np.sqrt(x), None, 2),
}
EDGES = [
    0.0,
    1.0,
    2.0,
    0.5,
    1.5,
    1e-30,
    1e30,
    88.5,
    89.0,
    89.3,
    90.0,
    709.5,
    710.3,
    711.0,
    1e9,
    np.inf,
]


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True), np.errstate(all="ignore"):
        yield


def run(fn, *args):
    return np.asarray(jax.jit(jax.vmap(lanes.kernel(fn)))(*args))


def numbers(dtype, largest, seed=0, size=20_000):
    """Numbers of all magnitudes up to 2^largest, and as many in the middle of the range."""
    rng = np.random.default_rng(seed)
    high = largest if largest is not None else np.finfo(dtype).maxexp
    low = np.finfo(dtype).minexp + 4
    wide = 2.0 ** rng.uniform(low, high - 1e-4, size) * rng.choice([-1, 1], size)
    narrow = 2.0 ** min(high, 4) * rng.uniform(-1, 1, size)
    return np.concatenate([wide, narrow]).astype(dtype)


def assert_close(actual, expected, ulp):
    """Within so many units in the last place; what underflows may be anything tiny."""
    info = np.finfo(actual.dtype)
    rounded = expected.astype(actual.dtype)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(actual[infinite], rounded[infinite])
    ok = np.isfinite(rounded)
    a, e = actual[ok].astype(expected.dtype), expected[ok]
    unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(e), info.tiny))) - info.nmant)
    error = np.where(np.maximum(np.abs(a), np.abs(e)) < 2 * info.tiny, 0, np.abs(a - e) / unit)
    worst = np.argmax(error)
    assert error[worst] <= ulp, f"{error[worst]:.1f} ulp: {a[worst]!r} instead of {e[worst]!r}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_accuracy(name, dtype):
    reference, largest, ulp = UNARY[name]
    edges = np.array([*EDGES, *[-v for v in EDGES[1:]]], dtype)
    x = np.concatenate([edges, numbers(dtype, largest)])
    assert_close(run(getattr(lax, name), x), reference(x.astype(LONGER[dtype])), ulp)


@pytest.mark.parametrize("dtype", DTYPES)
def test_erf_inv(dtype):
    """To first order erf_inv(x) is off by (erf(y) - x)/erf'(y); at the ends it is infinite."""
    x = np.concatenate([numbers(dtype, -1), [-0.99, 0.99, 0.0]]).astype(dtype)
    y = run(lax.erf_inv, x)
    slope = 2 / math.sqrt(math.pi) * np.exp(-np.square(y, dtype=np.float64))
    error = np.abs(listed(math.erf)(y) - x) / slope
    assert np.all(error <= 5 * np.finfo(dtype).eps * np.abs(y))
    ends = np.array([1, -1, 1.5, -np.inf], dtype)
    np.testing.assert_array_equal(run(lax.erf_inv, ends), [np.inf, -np.inf, np.nan, np.nan])
    tails = np.sign(x) * (1 - np.abs(x) / 50)
    np.testing.assert_allclose(
        run(lax.erf_inv, tails), lax.erf_inv(tails), rtol=8 * np.finfo(dtype).eps
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_nan(dtype):
    """Whatever its sign and payload, as some functions compute with the bits of a number."""
    infinite = int(np.array(np.inf, dtype).view(BITS[dtype]))
    payloads = [1, (1 << np.finfo(dtype).nmant) - 1, 1 << np.finfo(dtype).nmant - 1, 123456]
    x = np.array([infinite | p for p in payloads], BITS[dtype]).view(dtype)
    x = np.concatenate([x, -x])
    names = [*UNARY, "erf_inv", "round"]
    assert np.isnan(run(lambda x: [getattr(lax, name)(x) for name in names], x)).all()
    functions = [lax.pow, lax.atan2, lax.rem, lax.nextafter]
    assert np.isnan(run(lambda x, y: [f(x, y) for f in functions], x, np.full_like(x, 2))).all()
    assert np.isnan(run(lambda x, y: [f(y, x) for f in functions], x, np.full_like(x, 2))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_numbers_count_as_zero(dtype):
    if dtype == "float64" and jax.default_backend() != "cpu":
        pytest.skip("a GPU has no such mode for float64")
    small = np.finfo(dtype).smallest_subnormal
    names = ("exp", "cos", "log", "erf", "sin", "rsqrt")
    y = run(lambda x: [getattr(lax, name)(x) for name in names], np.array([small, small], dtype))
    np.testing.assert_array_equal(y[:, 0], np.array([1, 1, -np.inf, 0, 0, np.inf], dtype))


# -- two arguments ---------------------------------------------------------------------------------


def pairs(values, dtype):
    x, y = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    return x.ravel(), y.ravel()


SPECIAL = [0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1.5, 2**24 + 2, 1e-30, 1e30, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow(dtype):
    rng = np.random.default_rng(0)
    long = LONGER[dtype]
    x = np.abs(numbers(dtype, None))
    limit = np.finfo(dtype).maxexp - 2
    y = (rng.uniform(-limit, limit, x.size) / np.log2(x)).astype(dtype)  # all results are finite
    assert_close(run(lax.pow, x, y), np.power(x.astype(long), y.astype(long)), 10)
    x, y = -np.abs(numbers(dtype, 4)), np.rint(numbers(dtype, 3))  # a sign from an odd exponent
    assert_close(run(lax.pow, x, y), np.power(x.astype(long), y.astype(long)), 4)
    x, y = pairs(SPECIAL, dtype)
    assert_close(run(lax.pow, x, y), np.power(x.astype(long), y.astype(long)), 2)


@pytest.mark.parametrize("exponent", [0.5, -0.5, 1.5, 1.0, 2.0, 3.0, -1.0, -2.0, 0.75])
def test_pow_by_a_constant(exponent):
    x = np.append(np.abs(numbers("float32", 8)), np.asarray([-np.inf, np.inf, -1], "float32"))
    y = run(lambda x: lax.pow(x, jnp.float32(exponent)), x)
    # an array: NumPy takes the square root for a power of 0.5, which is NaN for -inf
    assert_close(y, np.power(x.astype(np.float64), np.full(x.shape, exponent)), 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_atan2(dtype):
    long = LONGER[dtype]
    x, y = pairs(SPECIAL, dtype)
    x, y = np.concatenate([x, numbers(dtype, 60)]), np.concatenate([y, numbers(dtype, 60, seed=1)])
    assert_close(run(lax.atan2, y, x), np.arctan2(y.astype(long), x.astype(long)), 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rem_is_exact(dtype):
    rng = np.random.default_rng(0)
    y = (rng.uniform(-1, 1, 20_000) * 2.0 ** rng.uniform(-20, 20, 20_000)).astype(dtype)
    x = (y * rng.uniform(-1, 1, y.size) * 2.0 ** rng.uniform(0, 22, y.size)).astype(dtype)
    # quotients that are whole, or rounded to a whole number
    whole = y * rng.integers(-99, 99, y.size).astype(dtype)
    x, y = np.concatenate([x, whole]), np.concatenate([y, y])
    np.testing.assert_array_equal(run(lax.rem, x, y), np.fmod(x, y))
    for divisor in (0.3, -7.0, 2 * math.pi):  # a constant: its reciprocal multiplies
        d = np.dtype(dtype).type(divisor)
        x = np.concatenate([numbers(dtype, 20), d * np.arange(-2000, 2000).astype(dtype)])
        np.testing.assert_array_equal(run(lambda x, d=d: lax.rem(x, d), x), np.fmod(x, d))
    x, y = pairs([0, 1, -1, 2.5, -np.inf, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(run(lax.rem, x, y), np.fmod(x, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nextafter_and_round(dtype):
    x, y = pairs([0, 1, -1, 2, 0.1, -1e30, np.inf, -np.inf, np.nan], dtype)
    np.testing.assert_array_equal(run(lax.nextafter, x, y), np.nextafter(x, y))
    half = np.nextafter(np.array(0.5, dtype), 0)
    big = 2.0 ** (np.finfo(dtype).nmant - 1)
    x = np.array([0.5, -0.5, half, -half, 1.5, 2.5, -2.5, big + 0.5, 2 * big + 1, np.inf], dtype)
    away = np.array([1, -1, 0, 0, 2, 3, -3, big + 1, 2 * big + 1, np.inf], dtype)
    np.testing.assert_array_equal(run(lax.round, x), away)


# -- as graphs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["float", "double"])
@pytest.mark.parametrize("name", [*UNARY, "erf_inv", "round_away"])
def test_a_constant_gives_a_constant(name, type_):
    g = Graph()
    value = g.value[getattr(lane_math, name)(g, g.const(type_, 0.75))]
    reference = {"erf_inv": lambda x: [0.8134198475976185], "round_away": np.rint}
    expected = (UNARY.get(name) or (reference[name],))[0](np.array([0.75]))[0]
    expected = np.float32(expected) if type_ == "float" else expected
    assert value == pytest.approx(float(expected), rel=1e-15, nan_ok=True)


def test_sin_and_cos_of_one_angle_share_the_reduction():
    g = Graph()
    x = g.input("float", 0, 0, False)
    lane_math.sin(g, x)
    alone = len(g.op)
    lane_math.cos(g, x)
    assert g.op.count("loop") == 1
    assert len(g.op) - alone < 12


def test_large_angles_in_a_loop_and_equal_in_all_lanes():
    """Their branch lies in the loop that the angle lives in; without lanes it is a plain one."""

    def fn(x, y):
        total = lax.fori_loop(0, 3, lambda k, s: s + jnp.sin(x * (k + 1)), 0.0 * x)
        settled = lax.while_loop(lambda s: s < 2, lambda s: s + jnp.cos(x) ** 2 + 0.1, 0.0 * x)
        return total, settled, jnp.cos(y), x + jnp.tan(y)

    x = np.where(np.arange(40) % 7 == 0, 1e9, 1.0) * np.random.default_rng(0).normal(size=40)
    y = np.float64(1e20)
    actual = jax.jit(jax.vmap(lanes.kernel(fn), (0, None)))(x, y)
    expected = jax.vmap(fn, (0, None))(x, y)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12)


def test_angles_in_a_branch_keep_the_width_of_float():
    """The width of a kernel is that of its widest float type: large angles must not need double."""
    g = Graph()
    lane_math.tan(g, g.input("float", 0, 0, False))
    assert "double" not in g.type


# -- random bits -----------------------------------------------------------------------------------

KNOWN = [  # key, counter, result: Random123's own test vectors
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "result"), KNOWN)
def test_threefry(key, counter, result):
    g = Graph()
    nodes = lane_math.threefry2x32(g, *(g.const("i32", v) for v in (*key, *counter)))
    assert tuple(g.value[n] % 2**32 for n in nodes) == result


def test_random_numbers_are_those_of_jax():
    keys = jax.random.split(jax.random.key(3), 500)

    def draw(key):
        a, b, c = jax.random.split(key, 3)
        return (
            jax.random.bits(a, (3,)),
            jax.random.uniform(b, (4,), jnp.float32),
            jax.random.normal(c, (8,), jnp.float32),
        )

    actual = jax.jit(jax.vmap(lanes.kernel(draw)))(keys)
    expected = jax.vmap(draw)(keys)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])
    # one rounding of the uniform number behind it, fused or not, is much in the tails
    np.testing.assert_allclose(actual[2], expected[2], rtol=2e-4)
