"""Arrays that are read and written at run-time indices: values never see what was written later.

Loops stay loops and branches are jumped over, however small, so that arrays are in memory.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes
from gpusim.lanes.rules import control, indexing
from tests.lanes.agreement import assert_same

N = 20


@pytest.fixture(autouse=True)
def _nothing_unrolls(monkeypatch):
    for limit in ("UNROLL", "SELECT"):
        monkeypatch.setattr(control, limit, 1)
    monkeypatch.setattr(indexing, "SEARCHED", 1)


def old_and_new(x, i, v):
    y = x.at[i].set(v)
    z = y.at[(i + 3) % N].add(x[i])
    return x[(i + 1) % N] + y[(i + 2) % N], z, y.sum(), x[3] - y[3]


def read_later(x, i, v):
    """The old array is read at run time when the new one is known already."""
    y = x.at[i].mul(v)
    return y[(i + 1) % N], x[i], y[i], x


def chain(x, i, v):
    for k in range(5):
        x = x.at[(i * (k + 1)) % N].set(v + k + x[(i + k) % N])
    return x, x[i]


def swap(x, i, v):
    y = jnp.cos(x)

    def body(k, c):
        a, b = c
        return b.at[(i + k) % N].add(a[k % N]), a.at[k % N].set(v)

    return lax.fori_loop(0, 7, body, (x, y))


def rotate_three(x, i, v):
    def body(k, c):
        a, b, d = c
        return b, d.at[i % N].set(a[(k * i) % N]), a

    return lax.fori_loop(0, 5, body, (x, x * 2, x + v))


def previous(x, i, v):
    """Every trip hands on what there was before, too."""
    body = lambda k, c: (c[0].at[(i + 2 * k) % N].add(c[1][k % N] + 1), c[0])
    return lax.fori_loop(0, 9, body, (x, x))


def read_after_the_loop(x, i, v):
    y = lax.fori_loop(0, 6, lambda k, a: a.at[(i + k) % N].set(v * k), x)
    return y, x[i], x[(i + 1) % N] + y[i]


def inner_loop_takes_the_outer_array(x, i, v):
    def outer(k, c):
        a, _ = c
        inner = lambda j, d: (d[0].at[(j + i) % N].add(0.5 * a[(k + j) % N]), a)
        return lax.fori_loop(0, 4, inner, (a, jnp.zeros_like(a)))

    return lax.fori_loop(0, 5, outer, (x, x))


def inner_loop_swaps(x, i, v):
    def outer(k, c):
        a, b = lax.fori_loop(0, 3, lambda j, d: (d[1], d[0].at[(i + j) % N].add(v)), c)
        return b.at[k % N].set(a[i]), a

    return lax.fori_loop(0, 4, outer, (x, 2 * x))


def branch(x, i, v):
    y = lax.cond(v > 0, lambda a: a.at[i].set(v), lambda a: a, x)
    return y, y[i], x[i]


def both_branches(x, i, v):
    one = lambda a: a.at[i].set(v).at[(i + 1) % N].add(1)
    two = lambda a: a.at[(i + 2) % N].set(a[i])
    y = lax.cond(v > 0, one, two, x)
    return y, x[i]


def switched(x, i, v):
    branches = [
        lambda a, b: (a.at[i].add(1), b),
        lambda a, b: (b, a),
        lambda a, b: (a, b.at[i].set(a[i])),
        lambda a, b: (jnp.roll(a, 1), b.at[:3].set(v)),
    ]
    return lax.switch(i % 4, branches, x, x * 3)


def branch_in_a_loop(x, i, v):
    def body(k, c):
        a, n = c
        hit = a[(i + k) % N] > 0
        a = lax.cond(hit, lambda a: a.at[(i + k) % N].set(-v), lambda a: a, a)
        return lax.cond(
            a[k % N] > 0.5, lambda a, n: (a.at[0].add(n), n + 1), lambda a, n: (a, n), a, n
        )

    return lax.fori_loop(0, 12, body, (x, v))


def loop_in_a_branch(x, i, v):
    body = lambda k, a: a.at[(i + k) % N].mul(0.5).at[k].add(v)
    y = lax.cond(v > 0, lambda a: lax.fori_loop(0, 6, body, a), lambda a: a + 1, x)
    return y, x[i], y[i]


def branch_in_a_branch(x, i, v):
    inner = lambda a: lax.cond(a[i] > 0, lambda a: a.at[i].set(-1), lambda a: a.at[0].add(v), a)
    y = lax.cond(v > 0, inner, lambda a: a, x)
    return y, y[0] + x[0]


def until(x, i, v):
    """Lanes end at different trips and keep what they have."""

    def body(c):
        a, k = c
        return a.at[k % N].set(a[(k + i) % N] + v).at[(k * i) % N].add(0.25), k + 1

    a, k = lax.while_loop(lambda c: (c[1] < i) & (c[0][c[1] % N] < 9), body, (x, 0))
    return a, k, x[i]


def until_within_until(x, i, v):
    def outer(c):
        a, k = c
        more = lambda d: d[1] < (k * 7 + i) % 5
        a, _ = lax.while_loop(more, lambda d: (d[0].at[(d[1] + k) % N].add(v), d[1] + 1), (a, 0))
        return lax.fori_loop(0, 2, lambda j, a: a.at[(i + j) % N].mul(0.9), a), k + 1

    return lax.while_loop(lambda c: c[1] < i % 6, outer, (x, 0))


def branch_until(x, i, v):
    def body(c):
        a, k = c
        a = lax.cond(a[k % N] > 0, lambda a: a.at[k % N].set(-a[(k + i) % N]), lambda a: a, a)
        return a, k + 1

    return lax.while_loop(lambda c: c[1] < i, body, (x, 0))


def changed_to_be_tested(x, i, v):
    """What says whether to go on changes an array, which the end of the loop must not see."""

    def until(limit):
        more = lambda c: (c[0].at[c[1] % N].set(v)[(c[1] + 3) % N] < 9) & (c[1] < limit)
        return lax.while_loop(more, lambda c: (jnp.cos(c[0]), c[1] + 1), (x, 0))

    return until(i), until(5)


def numbers_become_the_array(x, i, v):
    """They are known before it is known which lanes go on."""

    def body(c):
        a, p, k = c
        a[(i + k) % N]
        return jnp.tile(p, 5), p * v, k + 1

    return lax.while_loop(lambda c: c[2] < i, body, (x, x[:4], 0))


def handed_on_twice(x, i, v):
    """As two values, of which nobody needs the first."""

    def body(c):
        a, b, k = c
        a[(i + k) % N]
        y = b * v + b[(i + k) % N]
        return y, y, k + 1

    return lax.while_loop(lambda c: c[2] < 5, body, (x, x, 0))[1]


def several_loops_by_vmap(x, i, v):
    one = lambda r: lax.while_loop(lambda r: r[i % 5] < 3, lambda r: r.at[i % 5].add(1 + v * v), r)
    return jax.vmap(one)(x.reshape(4, 5))


def chosen(x, i, v):
    y = x.at[i].set(v)
    z = jnp.where(v > 0, y.at[(i + 1) % N].set(0), y)
    w = jnp.where(x[0] > 0, z, y)
    return w.at[i].add(1), z[i], w


def chosen_at_random(x, i, v):
    """Neither array is made of the other."""
    a, b = x.at[i].set(v), jnp.cos(x).at[(i + 1) % N].set(v)
    c = jnp.where(v > 0, a, b)
    return c.at[i].add(1), a[i] + b[i] + c[(i + 1) % N]


def stacked(x, i, v):
    def body(a, k):
        a = a.at[(i + k) % N].add(v)
        return a, (a[k], a[:3], k)

    a, (s, rows, k) = lax.scan(body, x, jnp.arange(7))
    return a, s, rows, k, s[i % 7], rows[i % 7]


def backwards(x, i, v):
    body = lambda a, r: (a.at[(i + 1) % N].set(r[0]), a[i] + r[1])
    return lax.scan(body, x, jnp.stack([x, x * v], 1)[:9], reverse=True)


def rows_and_windows(x, i, v):
    m = x.reshape(4, 5)
    m = m.at[i % 4].set(v)
    m = lax.dynamic_update_slice(m, jnp.full((2, 2), v), (i % 4, (i + 1) % 5))
    m = m.at[jnp.array([0, 3]), jnp.array([1, 1]) + i % 2].add(v)
    return m, m[:, i % 5], lax.dynamic_slice(m, (i % 3, i % 4), (2, 2)), m[i % 4, i % 5]


def outside(x, i, v):
    far = i * 9 - 60
    return (
        x.at[far].set(v),
        x.at[far].add(v, mode="clip"),
        x.at[far].get(mode="fill", fill_value=7),
        x.at[jnp.stack([far, i, far, i])].add(v),
        x.at[jnp.stack([i, i, far])].mul(2.0),
        x.at[jnp.stack([i, i + 1])].min(0),
        lax.fori_loop(0, 5, lambda k, a: a.at[far + k].max(v, mode="drop"), x),
    )


def other_types(x, i, v):
    out = []
    for dtype in (bool, jnp.int8, jnp.uint8, jnp.int16, jnp.int32, jnp.uint32, jnp.float32):
        a = (x > 0) if dtype is bool else (x * 5).astype(dtype)
        a = a.at[i].set(a[(i + 1) % N]).at[(i + 2) % N].max(a[i])
        b = lax.fori_loop(0, 4, lambda k, b: b.at[(k + i) % N].set(b[k]), a)
        table = jnp.arange(40).astype(dtype)
        out += [a, b, b[i], table[i], table[2 * i]]
    return out


def keys(x, i, v):
    ks = jax.random.split(jax.random.key(3), N)
    ks = ks.at[i].set(jax.random.fold_in(ks[0], i))
    ks = lax.fori_loop(0, 3, lambda k, a: a.at[(i + k) % N].set(a[k]), ks)
    return jax.random.key_data(ks), jax.random.uniform(ks[i], (2,), x.dtype)


def untouched(x, i, v):
    """A table that a loop only reads, and one that it hands on."""
    table = jnp.sin(x)
    body = lambda k, c: (c[0] + table[(i + k) % N] + c[1][k], c[1])
    return lax.fori_loop(0, 8, body, (v, x))


def mostly_known(x, i, v):
    """Most numbers are those of an array in memory, a few are not."""
    y = x.at[i].set(v)
    y = y.at[2].set(5.0).at[7].add(1.0)
    z = lax.fori_loop(0, 3, lambda k, a: a.at[1].set(a[(i + k) % N]).at[4].set(v), y)
    return y[i], z, z[(i + 2) % N]


def short(x, i, v):
    """Arrays of few numbers."""
    a = lax.fori_loop(0, 6, lambda k, a: a.at[(i + k) % 3].add(a[k % 3]), x[:3])
    b = lax.fori_loop(0, 6, lambda k, a: a.at[(i + k) % 5].add(a[k % 5]), x[:5])
    changed = lambda a: (a * v).at[i % 2].set(a[0])
    c = lax.cond(v > 0, changed, lambda a: lax.fori_loop(0, 3, lambda k, a: a * 0.5, a), x[:2])
    return a, b, c, x[:5].at[i % 5].set(v), x[:1].at[i].set(v), x[:5][i % 5]


def put_together(x, i, v):
    """Arrays made of constants, computed numbers and arguments that are read nowhere else."""
    rolled = jnp.roll(x, 1).at[0].set(0.0)
    a = rolled.at[i].set(v)
    b = lax.select(v > 0, rolled.at[(i + 1) % N].add(v), rolled)
    c = jnp.concatenate([x[15:], jnp.sin(x[:3]), jnp.ones(2), x[5:7][::-1], v[None]])
    d = lax.fori_loop(0, 5, lambda k, c: c.at[(i + k) % 13].add(c[k] * v), c)
    outer = lambda k, c: c + jnp.concatenate([x[8:12], jnp.zeros(3), x[:6]]).at[(i + k) % 13].set(v)
    return a, b, rolled[i], d, lax.fori_loop(0, 4, outer, c)


FUNCTIONS = (
    old_and_new, read_later, chain, swap, rotate_three, previous, read_after_the_loop,
    inner_loop_takes_the_outer_array, inner_loop_swaps, branch, both_branches, switched,
    branch_in_a_loop, loop_in_a_branch, branch_in_a_branch, until, until_within_until, branch_until,
    changed_to_be_tested, numbers_become_the_array, handed_on_twice, several_loops_by_vmap,
    chosen, chosen_at_random, stacked, backwards, rows_and_windows, outside,
    other_types, keys, untouched, mostly_known, short, put_together,
)  # fmt: skip
# which of the array, the index and the number differ between worlds
MAPPED = [m for m in itertools.product((True, False), repeat=3) if any(m)]


def arguments(mapped, worlds=19):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(worlds, N)), rng.integers(0, N, worlds), rng.normal(size=worlds)
    given = [x if m else x[0] for x, m in zip(whole, mapped, strict=True)]
    return [jnp.asarray(x) for x in given], tuple(0 if m else None for m in mapped)


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mapped", [(True, True, True), (True, False, True), (False, True, False)])
def test_agrees(fn, mapped):
    with jax.enable_x64(True):
        args, axes = arguments(mapped)
        actual = jax.jit(jax.vmap(lanes.kernel(fn), axes))(*args)
        assert_same(actual, jax.jit(jax.vmap(fn, axes))(*args), each=True)


@pytest.mark.slow
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mapped", MAPPED)
def test_agrees_in_single_precision(fn, mapped):
    args, axes = arguments(mapped, 33)
    args = [x.astype(jnp.float32) if x.dtype.kind == "f" else x for x in args]
    actual = jax.jit(jax.vmap(lanes.kernel(fn), axes))(*args)
    assert_same(actual, jax.jit(jax.vmap(fn, axes))(*args), each=True)
