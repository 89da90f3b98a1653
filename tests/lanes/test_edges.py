"""Element-wise primitives, reductions and orders at edge values, number by number against XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes
from tests.lanes.agreement import assert_same

WORLDS = (1, 17)
FLOATS = ("float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True), np.errstate(all="ignore"):
        yield


def edges(dtype) -> np.ndarray:
    """Zeros, ones, the largest and smallest numbers, what is not a number."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.unique(
            np.array([0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.min + 1, 64])
        )
    info = np.finfo(dtype)
    sizes = [
        0.0,
        1.0,
        0.5,
        1.5,
        2.5,
        3.0,
        1e-3,
        2.0**30,
        1e9 + 7,
        info.max,
        info.tiny,
        np.inf,
        np.nan,
    ]
    return np.array([*sizes, *(-v for v in sizes[:-1])], dtype)


def pairs(dtype):
    x, y = np.meshgrid(edges(dtype).astype(dtype), edges(dtype).astype(dtype))
    return x.ravel(), y.ravel()


def check(fn, *args, in_axes: int | tuple[int | None, ...] = 0, ulp=0):
    """fn compiled is fn mapped by XLA, for every world and for one alone; of floats the largest
    difference is `ulp` units in the last place. Zeros have no sign.
    """
    for worlds in (slice(0, 1), slice(None)):
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        given = [x[worlds] if a == 0 else x for x, a in zip(args, axes, strict=True)]
        actual = jax.jit(jax.vmap(lanes.kernel(fn), axes))(*given)
        expected = jax.jit(jax.vmap(fn, axes))(*given)
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            assert a.shape == e.shape
            assert a.dtype == e.dtype
            a, e = np.asarray(a), np.asarray(e)
            if ulp and a.dtype.kind == "f":
                np.testing.assert_allclose(a, e, rtol=ulp * np.finfo(a.dtype).eps, atol=0)
            else:
                np.testing.assert_array_equal(a, e)


# -- largest and smallest --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "bool"])
def test_largest_and_smallest(dtype):
    def fn(x, y):
        both = (jnp.maximum(x, y), jnp.minimum(x, y), lax.clamp(y, x, y), lax.clamp(x, y, x))
        return (*both, lax.max(x, y), lax.min(y, x), jnp.fmax(x, y), jnp.fmin(x, y))

    values = edges(dtype).astype(dtype)
    check(fn, *pairs(dtype))
    x = np.resize(values, max(17, len(values)))
    check(lambda x: [(*fn(x, c), *fn(c, x)) for c in values], x)  # constants, NaN among them
    uniform = lambda x, cs: [fn(x, cs[k]) for k in range(len(values))]
    check(uniform, x, values, in_axes=(0, None))


@pytest.mark.parametrize("dtype", FLOATS)
def test_clip_by_what_is_not_a_number(dtype):
    nan, one = np.dtype(dtype).type(np.nan), np.dtype(dtype).type(1)
    x = np.resize(edges(dtype), 17)
    clips = lambda x, a, b: (jnp.clip(x, a, b), jnp.clip(x, b, a), jnp.clip(a, x, b))
    check(lambda x: (clips(x, nan, one), clips(x, -one, nan), clips(x, nan, nan)), x)
    check(clips, x, nan, one, in_axes=(0, None, None))


# -- remainders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_remainders_of_large_quotients(dtype):
    """As exact as C's fmod, however long the quotient; zero, infinite and missing numbers too."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    low, high = info.minexp + info.nmant + 1, info.maxexp - 1e-3
    draw = lambda: 2.0 ** rng.uniform(low, high, 500) * rng.uniform(1, 2, 500)
    x = (draw() * rng.choice([-0.5, 0.5], 500)).astype(dtype)
    y = (draw() * 0.5).astype(dtype)
    near = (x * 2.0 ** rng.uniform(-info.nmant - 3, 0, 500)).astype(dtype)
    near = np.where(np.abs(near) < 2.0**low, np.dtype(dtype).type(3), near)
    for a, b in ((x, y), (x, near), pairs(dtype)):
        tiny = (np.abs(np.fmod(a, b)) < info.tiny) & (np.fmod(a, b) != 0)  # counts as zero
        expected = np.where(tiny, 0, np.fmod(a, b))
        actual = jax.jit(jax.vmap(lanes.kernel(lax.rem)))(a, b)
        np.testing.assert_array_equal(actual, expected)
        finite = np.isfinite(a) & np.isfinite(b)
        np.testing.assert_array_equal(np.signbit(actual)[finite], np.signbit(expected)[finite])
    for divisor in (np.pi, 3.0, 0.1, 2.0**-20):
        d = np.dtype(dtype).type(divisor)
        actual = jax.vmap(lanes.kernel(lambda x, d=d: lax.rem(x, d)))(x)
        np.testing.assert_array_equal(actual, np.fmod(x, d))
    ends = np.array([0, np.inf, np.nan, info.max], dtype)
    check(lambda x: [(lax.rem(x, d), lax.rem(d, x)) for d in ends], np.resize(edges(dtype), 27))
    check(lambda x, y: (jnp.mod(x, y), jnp.remainder(x, y), jnp.divmod(x, y)), x, y)


def test_remainders_of_uniform_numbers_and_in_loops():
    def fn(x, y):
        total = lax.fori_loop(0, 3, lambda k, s: s + jnp.fmod(x * 2.0 ** (9 * k), y), 0.0 * x)
        small = lax.while_loop(lambda s: s > 0.5, lambda s: jnp.fmod(s, 0.3), jnp.abs(x))
        return total, small, jnp.fmod(y, 0.7)

    x = np.random.default_rng(0).normal(size=17) * 2.0 ** np.arange(0, 680, 40)
    check(fn, x, np.float64(3.7e20), in_axes=(0, None))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_division_of_integers(dtype):
    check(lambda x, y: (lax.div(x, y), lax.rem(x, y), x // y, x % y), *pairs(dtype))


# -- powers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_whole_powers(dtype):
    x = np.resize(edges(dtype), 27)
    x = np.where((x == 0) | (np.abs(x) == np.finfo(dtype).tiny), 0, x)  # zeros have no sign
    check(lambda x: [lax.integer_pow(x, n) for n in (0, 1, 2, 3, 4, 7, -1, -2, -3, -7)], x, ulp=4)
    powers = np.array([0, 1, 2, 3, -1, -2, -3, 100, -100], np.int32)
    base, n = (v.ravel() for v in np.meshgrid(x, powers))
    check(lax.pow, base, n, ulp=8)
    check(lambda x: [lax.pow(x, jnp.int32(n)) for n in powers], x, ulp=8)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_powers_of_integers(dtype):
    x = np.resize(edges(dtype).astype(dtype), 17)
    check(lambda x: [lax.integer_pow(x, n) for n in (0, 1, 2, 3, 5, 64)], x)
    check(lambda x: (jnp.square(x), x**3, jnp.power(x, jnp.abs(x) % 9)), x)


# -- bits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_reduced_precision(dtype):
    info, rng = np.finfo(dtype), np.random.default_rng(1)
    x = (2.0 ** rng.uniform(info.minexp, info.maxexp - 1e-3, 300)).astype(dtype)
    ties = (1 + np.arange(200) / 64).astype(dtype) * np.repeat(
        [1.0, 2.0**-14, 2.0**15, 2.0**127], 50
    )
    x = np.concatenate([x, -x, ties.astype(dtype), edges(dtype)])
    formats = [(5, 10), (8, 7), (5, 3), (8, 23), (4, 0), (1, 5), (2, 2), (11, 52), (6, 30), (8, 22)]
    check(lambda x: [lax.reduce_precision(x, *f) for f in formats], x)
    check(lambda z: [lax.reduce_precision(v, 5, 3) + z for v in x[-30:]], np.zeros(17, dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bits(dtype):
    def fn(x, y):
        counts = (lax.population_count(x), lax.clz(x), lax.mulhi(x, y))
        shifts = (lax.shift_left, lax.shift_right_logical, lax.shift_right_arithmetic)
        return (*counts, *(f(x, y) for f in shifts))

    check(fn, *pairs(dtype))


def test_bits_as_numbers_of_another_size():
    x = np.random.default_rng(0).integers(-(2**62), 2**62, (17, 4))
    words = np.random.default_rng(1).integers(0, 2**16, (17, 3, 2, 2)).astype("uint16")
    kinds = ("uint8", "int16", "uint32", "float32", "float64")
    check(lambda x: [lax.bitcast_convert_type(x, t) for t in kinds], x)
    check(
        lambda x: (lax.bitcast_convert_type(x, "int32"), lax.bitcast_convert_type(x, "int8")), words
    )
    check(lambda x: lax.bitcast_convert_type(x.reshape(3, 4), "int64"), words)


# -- reductions ------------------------------------------------------------------------------------


def test_nothing_is_reduced():
    def fn(x):
        m = x > 0
        whole = jnp.int32(x)
        return [
            *(x[:0].sum(), x[:0].sum(1), x[:0].prod(0), x[:, :0].sum(0), x[:0, :0].sum()),
            *(x[:0].max(1), x[:, :0].sum((0, 1)), m[:0].any(0), m[:0].all(0), m[:0].any(1)),
            *(lax.reduce_max(v[:0], (0,)) for v in (x, whole, jnp.uint8(whole), m)),
            *(lax.reduce_min(v[:0], (0,)) for v in (x, whole, jnp.uint8(whole), m)),
            *(lax.reduce_and(whole[:0], (0,)), lax.reduce_xor(whole[:0], (0,)), x.sum(())),
            *(
                jnp.argmax(x[:0], 1),
                jnp.argmin(x[:, :0], 0),
                jnp.cumsum(x[:0], 1),
                jnp.cumprod(x[:0], 0),
            ),
            *(jnp.sort(x[:0], 0), jnp.sort(x[:0], 1), lax.top_k(x, 0), lax.cummax(x[:, :0], 1)),
            *(x[:0] @ x.T, x[:, :0] @ x[:, :0].T, jnp.linalg.cholesky(x[:0, :0]), x.T @ x[:, :0]),
            *(lax.reduce(x[:0], x.dtype.type(3), lax.add, (0,)), jnp.clip(x[:0], 0, 1), x[:0] ** 2),
        ]

    check(fn, np.random.default_rng(0).normal(size=(17, 3, 4)))
    check(lambda x: fn(x[1:]), np.float32(np.random.default_rng(0).normal(size=(17, 3, 4))))


def heavy(x):
    """More than is computed for all lanes rather than jumped over."""
    return jnp.tanh(jnp.sort(jax.nn.softmax(x))).cumsum()


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, e, k: lax.cond(k > 2, lambda: (heavy(x), e * 2), lambda: (x, e)),
        lambda x, e, k: lax.switch(
            k, [lambda: (heavy(x), e * 2), lambda: (x, e), lambda: (-heavy(x), e - 1)]
        ),
        lambda x, e, k: lax.fori_loop(0, 9, lambda i, c: (heavy(c[0]), c[1] + 1), (x, e)),
        lambda x, e, k: lax.while_loop(
            lambda c: c[2] < k, lambda c: (heavy(c[0]), c[1] + 1, c[2] + 1), (x, e, 0)
        ),
        lambda x, e, k: lax.scan(lambda c, a: (heavy(c) + a.sum(), c[:0]), x, e),
        lambda x, e, k: lax.fori_loop(
            0,
            4,
            lambda i, c: lax.cond(i + k > 3, lambda: (heavy(c[0]), c[1] * 2), lambda: c),
            (x, e),
        ),
        lambda x, e, k: jax.grad(
            lambda x, e: lax.cond(
                k > 2, lambda: (heavy(x) * jnp.pad(e.sum(0), (0, 57))).sum(), lambda: x.sum()
            ),
            (0, 1),
        )(x, e),
    ],
    ids=["cond", "switch", "fori", "while", "scan", "cond in fori", "gradient"],
)
def test_nothing_is_carried(fn):
    """Arrays without elements, through large branches and loops."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 60)))
    args = x, jnp.zeros((7, 0, 3)), jnp.arange(7)
    assert_same(jax.vmap(lanes.kernel(fn))(*args), jax.vmap(fn)(*args))


def test_masks_are_reduced_and_ordered():
    def fn(x, y):
        number = jnp.arange(6)
        return [
            *(jnp.max(x), jnp.min(x), x.any(), x.all(), jnp.sum(x), jnp.prod(x), jnp.argmax(x)),
            *(jnp.argmin(x), jnp.sort(x), jnp.argsort(x), lax.sort((x, number), num_keys=1)),
            *(jnp.cumsum(x), jnp.cumprod(x)),
            *(lax.reduce_max(x, (0,)), lax.reduce_min(x, (0,)), lax.reduce_xor(x, (0,))),
            *(lax.reduce_and(x, (0,)), lax.reduce_or(x, (0,)), jnp.dot(x, y), jnp.outer(x, y) @ y),
            *(x < y, x <= y, x > y, x >= y, x == y, x != y, jnp.maximum(x, y), jnp.minimum(x, y)),
            *(jnp.maximum(x, True), jnp.minimum(x, False), x > True, x >= False, x < x[::-1]),
            *(lax.select_n(x, x, y), lax.clamp(y, x, True), x + y, x * y, jnp.bitwise_not(x)),
        ]

    masks = np.random.default_rng(0).random((2, 64, 6)) < 0.5
    check(fn, *masks)


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "uint8", "int64", "uint64"])
def test_orders_at_edges(dtype):
    every = edges(dtype).astype(dtype)
    rows = np.random.default_rng(0).choice(every[every != 0], (60, 5))
    rows[::7, 2] = 0

    def fn(x):
        return [
            *(jnp.sort(x), jnp.argsort(x), jnp.sort(x, descending=True), lax.top_k(x, 3)),
            *(jnp.argmax(x), jnp.argmin(x), jnp.max(x), jnp.min(x), lax.cummax(x), lax.cummin(x)),
            *(lax.sort((jnp.round(x), x[::-1]), num_keys=2), jnp.sign(x)),
            *(lax.cummax(x, reverse=True), jnp.median(x) if x.dtype.kind == "f" else x),
        ]

    check(fn, rows)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_by_the_total_order(dtype):
    """A NaN counts by its sign, -0 is less than 0."""
    every = np.concatenate([edges(dtype), -edges(dtype)])
    rows = np.random.default_rng(5).choice(every, (60, 5))
    check(
        lambda x: (
            lax.top_k(x, 5),
            lax.top_k(x[::-1], 2),
            lax.approx_min_k(jnp.nan_to_num(x), 2)[0],
        ),
        rows,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_cumulative_log_sum_exp(dtype):
    x = np.random.default_rng(0).choice(edges(dtype), (40, 4)).astype(dtype)
    check(lambda x: (lax.cumlogsumexp(x), lax.cumlogsumexp(x, reverse=True)), x, ulp=8)


def test_reshape_in_another_order():
    x = np.random.default_rng(0).normal(size=(17, 3, 4, 5))
    check(lambda x: lax.reshape(x, (3, 20), dimensions=(2, 1, 0)), x)
