"""Other people's functions as kernels, against XLA in double precision.

The fast tests are the smallest of each kind; the slow ones are all of them. gymnax is skipped where
it cannot be had: it asks for JAX before 0.12.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.functions import BRAX, FUNCTIONS, GYMNAX
from gpusim import lanes
from gpusim.lanes.rules import linalg
from tests.lanes.agreement import agree, assert_same

pytestmark = pytest.mark.filterwarnings("ignore")

FAST_BRAX = ["brax-spring inverted_pendulum"]
SLOW = [name for name in FUNCTIONS if not name.startswith("gymnax") and name not in FAST_BRAX]


def check(name, *, steps=3, worlds=5, tolerance=1e-9):
    """After each of some steps by XLA from random starts, one more by the kernel is the same."""
    if name.startswith("gymnax"):
        pytest.importorskip("gymnax")
    single = name == "gymnax Pendulum-v1"  # mixes precisions, and fails by itself in double
    tolerance = 1e-5 if single else tolerance
    with jax.enable_x64(not single):
        function = FUNCTIONS[name]()
        keys = jax.random.split(jax.random.key(0), (steps + 1, worlds))
        state = jax.jit(jax.vmap(function.start))(keys[0])
        step, kernel = (jax.jit(jax.vmap(f)) for f in (function.step, lanes.kernel(function.step)))
        for k in keys[1:]:
            action = jax.vmap(function.draw)(k)
            actual, state = kernel(state, action), step(state, action)
            assert_same(actual, state, tolerance)


@pytest.mark.parametrize("name", FAST_BRAX)
def test_brax(name):
    check(name)


@pytest.mark.parametrize("name", [f"gymnax {name}" for name in GYMNAX])
def test_gymnax(name):
    check(name, steps=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith("brax")])
def test_brax_resets(name):
    with jax.enable_x64(True):
        start = FUNCTIONS[name]().start
        keys = jax.random.split(jax.random.key(0), 5)
        assert_same(
            jax.jit(jax.vmap(lanes.kernel(start)))(keys), jax.jit(jax.vmap(start))(keys), 1e-9
        )


def test_every_brax_environment_is_listed():
    assert len(BRAX) == 11
    assert sum(name.startswith("brax") for name in FUNCTIONS) == 31  # swimmer has one backend


# -- what those functions needed of the compiler ---------------------------------------------------


@pytest.mark.parametrize("m", [1, 3, 16])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_large_products_are_loops(m, n, monkeypatch):
    """More multiplications than `ROLL`, with sizes that are and are not multiples of a tile's."""
    for limit in ("ROLL", "ROLL_VECTOR"):
        monkeypatch.setattr(linalg, limit, 5)
    agree(lambda a, b: (jnp.abs(a) @ b, a @ b), (m, 7), (7, n), worlds=3)
    agree(lambda a, b: (a + 1) @ b.T, (m, 7), (n, 7), worlds=3)


def test_products_with_weights_that_worlds_share():
    """They come from memory: one number for all lanes."""
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(48, 50)), rng.normal(size=(9, 48))
    for fn in (lambda w, x: x @ w, lambda w, x: jnp.outer(x @ w, x)[:3]):
        mapped = jax.vmap(lanes.kernel(fn), in_axes=(None, 0))
        with jax.enable_x64(True):
            assert_same(mapped(weights, x), jax.vmap(fn, in_axes=(None, 0))(weights, x))
    constant = lambda x: x @ weights
    with jax.enable_x64(True):
        assert_same(jax.vmap(lanes.kernel(constant))(x), jax.vmap(constant)(x))


def test_linear_systems():
    def fn(a, b):
        positive = a @ a.T + jnp.eye(5, dtype=a.dtype)
        return [
            *(jnp.linalg.solve(a, b), jnp.linalg.inv(a), jnp.linalg.det(a)),
            *jax.lax.linalg.lu(a),
            jax.scipy.linalg.solve(positive, b, assume_a="pos"),
            jnp.linalg.solve(positive, b[:, 0]),
        ]

    agree(fn, (5, 5), (5, 2), dtypes=("float64",))


def test_top_k():
    agree(lambda x: jax.lax.top_k(x, 3), (2, 7))
    ties = np.random.default_rng(0).integers(0, 3, (20, 6))
    agree(lambda x: jax.lax.top_k(x, 4), args=[ties], dtypes=("float64",))


def test_kernels_in_functions_that_were_traced_before():
    inner = jax.jit(jax.vmap(lanes.kernel(lambda x: jnp.sin(x) * 2)))
    inner(jnp.ones(5))
    agree(lambda x: inner(x) + 1, (5,))


def test_short_arrays_are_searched():
    """The elements are inputs that nothing else reads."""
    agree(lambda x, i: x[jnp.int32(jnp.abs(i) * 3) % 5], (5,), ())


def test_what_passes_through_does_not_enter():
    def fn(state, x):
        return {**state, "sum": state["sum"] + x}

    state = {
        "sum": jnp.zeros(4),
        "large": jnp.ones((4, 1000)),
        "key": jax.random.split(jax.random.key(0), 4),
    }
    mapped = jax.jit(jax.vmap(lanes.kernel(fn)))
    out = mapped(state, jnp.arange(4.0))
    assert_same(out, jax.vmap(fn)(state, jnp.arange(4.0)))
    call = next(
        line
        for line in mapped.lower(state, jnp.arange(4.0)).as_text().splitlines()
        if "gpusim_lanes_" in line
    )
    assert "1000" not in call


@pytest.mark.parametrize("worlds", [5, 64])
def test_empty_arrays(worlds):
    """XLA cannot lay them out; MJX's states are full of them."""
    fn = lambda x, e: (x + 1, e * 2, {"key": jax.random.key(0)}, x[:0], jnp.sum(e) + x)
    given = jnp.ones((worlds, 2)), jnp.ones((worlds, 0, 3))
    assert_same(jax.jit(jax.vmap(lanes.kernel(fn)))(*given), jax.jit(jax.vmap(fn))(*given))


def test_a_function_that_computes_nothing():
    fn = lambda x: (x, {"y": x})
    assert_same(jax.vmap(lanes.kernel(fn))(jnp.ones(3)), fn(jnp.ones(3)))
    assert_same(lanes.kernel(lambda: 3.0)(), jnp.asarray(3.0))


# -- derivatives -----------------------------------------------------------------------------------


def test_derivatives():
    """Forwards, backwards, of maps and through a scan: by XLA, or as kernels of their own."""

    def fn(x, y):
        body = lambda c, t: (jnp.sin(c) * t + x[0], c[0])
        c, trace = jax.lax.scan(body, x, jnp.linspace(0.5, 1.0, 4, dtype=x.dtype))
        return jnp.sum(c * y) + jnp.dot(trace, trace)

    with jax.enable_x64(True):
        x, y = np.random.default_rng(0).normal(size=(2, 6, 3))
        k = lanes.kernel(fn)
        ways = [
            lambda f: jax.vmap(jax.grad(f))(x, y),
            lambda f: jax.grad(lambda x: jax.vmap(f)(x, y).sum())(x),
            lambda f: jax.jvp(jax.vmap(f), (x, y), (y, x)),
            lambda f: jax.vmap(jax.hessian(f))(x, y),
            lambda f: jax.vmap(jax.jacfwd(f, argnums=1))(x, y),
            lambda f: jax.grad(
                lambda x: jax.lax.scan(
                    lambda c, _: (c - 0.1 * jax.grad(f)(c, y[0]), None), x, length=3
                )[0].sum()
            )(x[0]),
        ]
        for way in ways:
            assert_same(
                jax.jit(way, static_argnums=0)(k), jax.jit(way, static_argnums=0)(fn), 1e-11
            )
        # the derivative of one world, compiled
        gradient = lanes.kernel(jax.grad(fn))
        mapped = jax.jit(jax.vmap(gradient))
        assert mapped.lower(x, y).as_text().count("gpusim_lanes_") == 1
        assert_same(mapped(x, y), jax.vmap(jax.grad(fn))(x, y), 1e-11)
        forward = lanes.kernel(lambda x, y, dx: jax.jvp(fn, (x, y), (dx, y)))
        assert_same(
            jax.vmap(forward)(x, y, y),
            jax.vmap(lambda x, y, d: jax.jvp(fn, (x, y), (d, y)))(x, y, y),
            1e-11,
        )
