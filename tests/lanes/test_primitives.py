"""Every supported primitive against XLA, in float64 to 1e-12 and in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes
from tests.lanes.agreement import agree, assert_same, lane_function

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e-3, 3e8, -7e9, np.inf, -np.inf, np.nan]


def edges(n):
    """All combinations of n edge values, [worlds] each."""
    grid = np.meshgrid(*[EDGES] * n, indexing="ij")
    return [g.ravel() for g in grid]


def arithmetic(x, y):
    # constants and shared terms meet the folding rules as well
    z = jnp.zeros_like(x)
    return [
        *(x + y, x - y, x * y, -x, x * x, x + z, x * 1.0, x - z, z - x, x * -1.0, x - (-y)),
        *((-x) * y, (-x) + y, x / 3.0, x / 4.0, x**3, x**-2, x**0, jnp.square(y)),
    ]


def test_arithmetic():
    agree(arithmetic, (2, 3), (2, 3))


def test_arithmetic_at_edges():
    x, y = edges(2)
    agree(lambda x, y: (x + y, x - y, x * y, x / y, -x), args=(x, y))
    agree(lambda x, y: (jnp.maximum(x, y), jnp.minimum(x, y), jnp.clip(x, -1, 1)), args=(x, y))
    agree(lambda x: (jnp.maximum(x, 0), jnp.minimum(2.0, x), jnp.maximum(-1.0, x)), args=edges(1))
    agree(lambda x: (jnp.abs(x), jnp.sign(x), jnp.isfinite(x), jnp.isnan(x)), args=edges(1))
    agree(lambda x: (jnp.floor(x), jnp.ceil(x), jnp.round(x), jnp.sqrt(x)), args=edges(1))
    agree(lambda x: (lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), jnp.trunc(x)), args=edges(1))


def test_comparison_and_choice():
    x, y = edges(2)
    agree(lambda x, y: (x < y, x <= y, x > y, x >= y, x == y, x != y), args=(x, y))
    agree(lambda x, y: jnp.where((x > 0) | ~(y < 1) & (x != y) ^ (y == 2), x, y), args=(x, y))

    def choose(x, y):
        i = jnp.clip(jnp.int32(x), 0, 2)
        return (
            lax.select_n(i, x, y, x + y),
            lax.clamp(x.dtype.type(-0.5), x, x.dtype.type(0.5)),
            jnp.where(x > 0, True, y > 0),
        )

    agree(choose, (), ())


def integers(dtype):
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    special = [0, 1, 2, 7, 31, info.max, info.min, info.max - 1]
    large = rng.integers(info.min, info.max, (2, 64), dtype=dtype)
    small = rng.integers(0, 9, 24, dtype=dtype)
    special = np.array(special, dtype)
    a = np.concatenate([large[0, :40], small, np.repeat(special, 8)])
    return a, np.concatenate([large[1], np.tile(special, 8)])


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "int8", "uint8", "int16"])
def test_integers(dtype):
    def fn(a, b):
        shift = b & a.dtype.type(63)
        return [
            *(a + b, a - b, a * b, -a, a & b, a | b, a ^ b, ~a, jnp.abs(a), jnp.sign(a)),
            *(lax.div(a, b), lax.rem(a, b), a // b, a % b, jnp.minimum(a, b), jnp.maximum(a, b)),
            *(lax.shift_left(a, shift), lax.shift_right_logical(a, shift), a << 3, a >> 2),
            *(lax.shift_right_arithmetic(a, shift), lax.population_count(a), lax.clz(a)),
            *(a < b, a <= b, a > b, a >= b, a == b, a != b, jnp.clip(a, 2, 100)),
        ]

    agree(fn, args=integers(dtype), dtypes=("float64",))


def test_conversions():
    def fn(x):
        i, j, small = x.astype("int32"), jnp.abs(x).astype("uint32"), x.astype("int8")
        return [
            *(i, j, small, x.astype("int64"), x.astype(bool), (x > 0).astype(x.dtype)),
            *(i.astype("float32"), j.astype("float32"), i.astype("int64"), small.astype("int32")),
            *(i.astype("int16"), x.astype("float32").astype("float64"), (x > 0).astype("int32")),
            lax.bitcast_convert_type(x.astype("float32"), jnp.uint32),
            lax.bitcast_convert_type(i + (1 << 30), jnp.float32) > 2.0,  # around 2, not denormal
        ]

    agree(fn, (), scale=50.0)
    agree(lambda x: (x.astype("int32"), x.astype("int64"), x.astype("uint32")), args=edges(1))


def test_movement():
    def fn(x, y):
        return [
            *(x.reshape(4, 3), x.T, x[1], x[:, ::2], x[::-1], x[0, 1:3], jnp.flip(x, 1)),
            *(jnp.concatenate([x, y[None]]), jnp.stack([x[0], y]), jnp.pad(x, ((1, 0), (0, 2)))),
            lax.pad(x, x.dtype.type(7), ((-1, 1, 1), (2, -1, 2))),
            *jnp.split(x, 2, 1),
            *(
                jnp.broadcast_to(y, (2, 4)),
                jnp.expand_dims(y, 1),
                jnp.roll(x, 1, 0),
                jnp.tile(y, 2),
            ),
            *(x[jnp.array([2, 0])], x[jnp.array([2, 0]), jnp.array([1, 3])], jnp.diag(x[:, :3])),
            *(jnp.arange(4) + y, jnp.eye(3) @ x, jnp.tril(x), jnp.swapaxes(x, 0, 1), x.ravel()),
            *(y.at[1].set(5.0), y.at[jnp.array([0, 2])].add(x[0, :2]), x.at[1, 1:3].multiply(2.0)),
            *(x.at[:, 0].min(0.0), x.at[0].max(y), y.at[7].set(1.0), jnp.repeat(y, 2)),
        ]

    agree(fn, (3, 4), (4,))


def test_indices_known_only_at_run_time():
    def fn(x, t):
        i = jnp.int32(t * 10)  # also negative and beyond the end
        return [
            *(x[i], x[::-1][i], x[:6][i % 6], x.at[i].set(7.0), x.at[i].add(1.0)),
            *(lax.dynamic_slice(x, (i,), (3,)), lax.dynamic_update_slice(x, x[:2], (i,))),
            *(x.reshape(6, 5)[i % 6, (i // 2) % 5], x.reshape(6, 5)[:, i % 5], jnp.arange(40.0)[i]),
            *(x.at[i].get(mode="fill", fill_value=-3.0), x.at[i].set(2.0, mode="drop")),
            *(x.at[i].get(mode="clip"), (x > 0)[i], jnp.take(x, jnp.stack([i % 30, i % 7]))),
        ]

    agree(fn, (30,), (), worlds=50)


def test_reductions():
    def fn(x):
        return [
            *(x.sum(), x.sum(0), x.prod(1), x.max(0), x.min(), (x > 0).any(0), (x > -1).all()),
            *(
                jnp.cumsum(x, 1),
                jnp.cumprod(x, 0),
                lax.cummax(x, 1),
                lax.cummin(x, 0, reverse=True),
            ),
            *(jnp.argmax(x, 0), jnp.argmin(x), x.mean(), x.std(), jnp.linalg.norm(x), x[:0].sum()),
            *(lax.reduce_xor(jnp.int32(x * 9), (0,)), jnp.logical_xor(x > 0, x > 1)),
        ]

    agree(fn, (3, 4))


def test_argmax_at_edges():
    rows = np.array(EDGES * 3).reshape(-1, 3)
    agree(lambda x: (jnp.argmax(x), jnp.argmin(x)), args=[rows])


def test_sort():
    agree(lambda x: (jnp.sort(x), jnp.argsort(x), jnp.sort(x, descending=True)), (7,))
    ties = np.random.default_rng(0).integers(0, 3, (20, 6)).astype("float64")
    agree(lambda x: lax.sort((x, jnp.arange(6)), num_keys=1), args=[ties])
    agree(lambda x: jnp.sort(x), args=[np.array(EDGES * 3).reshape(-1, 7)])


def test_products_of_matrices():
    def fn(a, b, v):
        return (
            a @ b,
            a @ v,
            v @ a,
            jnp.vdot(v, v),
            jnp.einsum("ij,ik,j->k", a, b, v),
            jnp.cross(v, v[::-1]),
        )

    agree(fn, (3, 3), (3, 3), (3,))
    agree(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (2, 3, 4), (2, 4, 2))


def test_linear_algebra():
    def fn(a, b):
        m = a @ a.T + 4 * jnp.eye(4, dtype=a.dtype)
        c = jnp.linalg.cholesky(m)
        solve = jax.scipy.linalg.solve_triangular
        return [
            *(c, jax.scipy.linalg.cho_solve((c, True), b), solve(c, b, lower=True)),
            *(
                solve(c.T, b),
                solve(c, b, trans=1, lower=True),
                solve(c, b, unit_diagonal=True, lower=True),
            ),
            lax.linalg.triangular_solve(c, b.T, left_side=False, lower=True),
            lax.linalg.triangular_solve(c, b.T, left_side=False, lower=True, transpose_a=True),
        ]

    agree(fn, (4, 4), (4, 2))


def test_fori_loop():
    def fn(x):
        return lax.fori_loop(
            0, 500, lambda i, c: (c[0] * 0.9 + c[1], c[1] + i * 1e-3, c[2]), (x, x, x[0])
        )

    agree(fn, (5,))


def test_while_loop_stops_lane_by_lane():
    def fn(x):
        return lax.while_loop(
            lambda c: jnp.any(jnp.abs(c[0]) > 0.01), lambda c: (c[0] * 0.5, c[1] + 1), (x, 0)
        )

    agree(fn, (2,), scale=9.0)


def test_nested_loops():
    def outer(c, _):
        inner = lax.while_loop(
            lambda d: (d[0] > 0.1) & (d[1] < 20), lambda d: (d[0] * 0.7, d[1] + 1), (c, 0)
        )
        return inner[0] + 1.0, inner[1]

    agree(lambda x: lax.scan(outer, x, None, length=300), ())


@pytest.mark.parametrize("length", [1, 7, 400])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(length, reverse):
    def fn(x, y):
        return lax.scan(lambda c, t: (c * 0.5 + t, (c[0], t * 2, t > 0, 3)), x, y, reverse=reverse)

    agree(fn, (3,), (length, 3))


@pytest.mark.parametrize("worlds", [7, 64, 67])
def test_what_stays_unless_a_branch_changes_it(worlds):
    """Numbers of a state that a loop carries and that only a rare branch draws anew: in place where
    the width divides the worlds. They are read after the branch, too, and the arguments are kept.
    """

    def step(state):
        x, kept, flags, small, (a, b) = state

        def anew():
            much = x
            for _ in range(40):
                much = much * 1.01 + jnp.roll(much, 1) * 0.01
            return kept + much[0], jnp.roll(~flags, 1), small + jnp.int8(1), (b * 2, a + much[1])

        found = lax.cond(x[0] > 0.8, anew, lambda: (kept, flags, small, (a, b)))
        x = jnp.cos(0.3 * jnp.roll(x, 1) + 0.2 * kept.sum() + 0.1 * found[2][0])
        return (x, *found), (found[1][0], kept)

    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=(worlds, *shape)), jnp.float32)
    start = draw(4), draw(5), draw(3) > 0, draw(2).astype(jnp.int8), (draw(3), draw(3))
    run = lambda f: jax.jit(lambda s: lax.scan(lambda s, _: jax.vmap(f)(s), s, length=9))
    before = jax.tree.map(np.asarray, start)
    expected = run(step)(start)
    assert_same(run(lanes.kernel(step))(start), expected)
    assert_same(start, before)
    changed = (np.asarray(expected[0][1]) != before[1]).any(axis=1)
    assert changed.any()
    assert not changed.all()


def test_branches():
    def heavy(x):
        for _ in range(50):
            x = x * 1.01 + jnp.roll(x, 1) * 0.01
        return x, x[0] > 1

    agree(lambda x: lax.cond(x[0] > 0, lambda x: x * 2, lambda x: x - 1, x), (3,))
    agree(lambda x: lax.cond(x[0] > 1, heavy, lambda x: (x - 1, False), x), (20,))
    agree(
        lambda x: lax.switch(jnp.int32(2 * x[1]), [lambda x: x, jnp.sin, lambda x: x * 2], x), (3,)
    )
    never = lambda x: lax.cond(x[0] > 1e9, heavy, lambda x: (x - 1, False), x)
    agree(never, (20,))


def test_a_scan_that_stops_jumps_over_the_rest():
    """A product of 25 by 25 is work worth a jump, though its result is small."""

    def fn(a, x):
        def search(x, more):
            x = 0.5 * x
            return x, jnp.vdot(a @ x, x) > 0.1

        trip = lambda c, _: (lax.cond(c[1], search, lambda x, more: (x, False), *c), None)
        return lax.scan(trip, (x, True), None, length=9)[0]

    agree(fn, (25, 25), (25,))
    text, _ = lane_function(fn, (25, 25), (25,)).lower((True, True), 512)
    assert "!prof" in text


def test_calls():
    @jax.custom_jvp
    def custom(x):
        return x * 2

    custom.defjvp(lambda p, t: (custom(*p), t[0]))
    agree(
        lambda x: (custom(x), jax.jit(jnp.sum)(x), jax.checkpoint(jnp.cos)(x), jax.nn.relu(x)), (3,)
    )
    agree(lambda x: jax.grad(lambda y: jnp.sum(jnp.sin(y) * y))(x), (3,))


def test_random_numbers():
    def fn(words):
        key = jax.random.wrap_key_data(words)
        a, b = jax.random.split(key)
        c = jax.random.fold_in(a, 7)
        return [
            *(
                jax.random.bits(a, (3,)),
                jax.random.uniform(b, (2,)),
                jax.random.randint(c, (4,), -3, 9),
            ),
            *(jax.random.normal(c, (3,)), jax.random.key_data(b), jax.random.bernoulli(a, 0.3)),
            # one number for several keys, and one key for several numbers
            jax.random.key_data(jax.vmap(lambda k: jax.random.fold_in(k, 7))(jnp.stack([a, b]))),
            jax.random.key_data(jax.vmap(lambda i: jax.random.fold_in(a, i))(jnp.arange(3))),
        ]

    words = np.random.default_rng(0).integers(0, 2**32, (21, 2), dtype=np.uint32)
    agree(fn, args=[words], dtypes=("float32",))


def test_keys_are_ordinary_values():
    def fn(key, x):
        def draw(k, _):
            k, sub = jax.random.split(k)
            return k, jax.random.uniform(sub)

        key, xs = lax.scan(draw, key, None, length=100)
        return jnp.where(x > 0, key, jax.random.key(3)), xs.sum()

    keys = jax.random.split(jax.random.key(0), 18)
    x = jnp.linspace(-1, 1, 18)
    assert_same(jax.vmap(lanes.kernel(fn))(keys, x), jax.vmap(fn)(keys, x))
