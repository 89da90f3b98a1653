"""Arrays in memory: carried by loops, read at indices known at run time, overwritten in place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import lanes
from tests.lanes.agreement import agree, assert_same, lane_function

N = 17  # products of this size are loops over arrays in memory
TRIPS = 8


def repeat(body, *carry):
    return jax.lax.scan(lambda c, _: (body(*c), None), carry, None, length=TRIPS)[0]


def newton_schulz(a, x):
    """x to the inverse of a: each trip reads the carried matrix twice, the last time to choose."""

    def body(x, r, error):
        new = x @ (jnp.eye(N) + r)
        r = jnp.eye(N) - a @ new
        smaller = jnp.linalg.norm(r)
        return jnp.where(smaller < error, new, x), r, smaller

    return repeat(body, x, jnp.eye(N) - a @ x, jnp.inf)


def exchange(a, b):
    """Every trip hands each matrix on as the other."""
    return repeat(lambda x, y: (y, 0.1 * (x @ y)), a, b)


def read_late(a, b):
    """The old matrix is read by a product after the new one is known."""

    def body(x):
        new = 0.1 * (x @ b)
        return 0.5 * (new + 0.01 * (new @ x))

    return repeat(lambda x: (body(x),), a)


def twice_packed(a, b):
    """The carried matrix is the left side of one product and the right side of another."""
    return repeat(lambda x: (0.05 * (x @ b + b @ x),), a)


def nested(a, b):
    """A loop within a loop, which carries what the outer one carries."""

    def body(x, y):
        (inner,) = repeat(lambda z: (0.1 * (z @ y),), x)
        return inner, 0.5 * y + 0.01 * x @ inner

    return repeat(body, a, b)


def collected(a, b):
    """What is carried is also an output of every trip, and of the end."""

    def body(x, _):
        new = 0.1 * (x @ b)
        return new, (x[0], new[:, 3])

    return jax.lax.scan(body, a, None, length=TRIPS)


def chosen(a, b):
    """Inside a branch that only some lanes want, and after it."""

    def body(x):
        y = jax.lax.cond(x[0, 0] > 0, lambda: x @ b @ b, lambda: x)
        return 0.1 * (y @ b) + y[3, 5]

    return repeat(lambda x: (0.1 * body(x),), a)


def until(a, b):
    """A loop that lanes leave at different trips."""
    more = lambda c: (c[0] < 5) & (jnp.abs(c[1]).max() > 0.2)
    return jax.lax.while_loop(more, lambda c: (c[0] + 1, 0.15 * (c[1] @ b)), (0, a))


def stepped(a, b):
    """Rows read and written at the number of the trip, and at an index that varies."""

    def body(k, x):
        row = jnp.argmax(x[k]) % N
        return x.at[k].set(0.5 * x[row] + b[k]) + 0.01 * (x @ b)

    return jax.lax.fori_loop(0, N, body, a)


LOOPS = (
    newton_schulz,
    exchange,
    read_late,
    twice_packed,
    nested,
    collected,
    chosen,
    until,
    stepped,
)


@pytest.mark.parametrize("fn", LOOPS, ids=lambda f: f.__name__)
def test_loops_that_carry_matrices(fn):
    near = lambda a, x: fn(jnp.eye(N) + 0.02 * a, jnp.eye(N) + 0.02 * x)
    agree(near if fn is newton_schulz else fn, (N, N), (N, N), worlds=5)


def test_products_skip_structural_zeros_in_tiles():
    """Blocks of zeros, rows of zeros, a triangle, a matrix by itself and by its transpose."""
    blocks = np.kron(np.eye(3), np.ones((7, 7))).astype(np.float32)
    low = np.tril(np.ones((21, 21), np.float32))

    def products(a, b):
        x, y = a * blocks, (b * low).at[4:9].set(0)
        return x @ b, a @ x, x @ y, y @ y.T, a @ a.T, a.T @ a, jnp.trace(a @ b), y @ b[0]

    agree(products, (21, 21), (21, 21), worlds=5)


def lowered(fn):
    """LLVM IR of a function of two matrices, and its width."""
    return lane_function(fn, (N, N), (N, N)).lower((True, True), 512)


def test_a_carried_matrix_is_overwritten_in_its_array():
    """Its numbers go through no phi: only the sums of tiles do, and the error, which begin as
    constants.
    """
    text, width = lowered(newton_schulz)
    phis = [line for line in text.splitlines() if f"phi <{width} x float>" in line]
    assert all("splat" in line for line in phis)


def test_a_branch_reads_arrays_made_outside_it(monkeypatch):
    """Not a copy of them, made whenever the branch is entered."""
    monkeypatch.setattr("gpusim.lanes.function.BY_WORLD", 10_000)  # else these are brought near

    def fn(a, b):
        c = a * b
        x = jax.lax.cond(b[0, 0] > 0, lambda: c @ b @ c, lambda: b)
        return x + c @ a

    agree(fn, (N, N), (N, N), worlds=5)
    text, width = lowered(fn)
    assert (
        text.count(f"alloca [{N * N + 1} x <{width} x float>]") == 4
    )  # a, b, c and b @ c or c @ b


def test_of_a_table_that_a_branch_reads_only_what_is_read_is_loaded():
    """Two arrays of numbers of one argument, and each lane has its own place in them."""

    def fn(i, table):
        def read(k):
            k = jnp.clip(k, 0, 511).astype(int)
            return jax.nn.softmax(jnp.sin(table[k])).cumsum() * table[:, 0][k]

        return jax.lax.cond(i[0] > 3, read, lambda k: jnp.full(16, k), i[0])

    table = jnp.arange(512.0 * 16).reshape(512, 16)
    places = 100 * jnp.arange(6.0)[:, None]
    actual = jax.vmap(lanes.kernel(fn), in_axes=(0, None))(places, table)
    assert_same(actual, jax.vmap(fn, in_axes=(0, None))(places, table))
    text, _ = lane_function(fn, (1,), (512, 16)).lower((True, False), 512)
    assert "br i1" in text  # the branch is one
    assert text.count(" load float") < 10
