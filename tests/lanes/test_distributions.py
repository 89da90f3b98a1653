"""jax.random's distributions inside kernels: the same draws for the same keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from gpusim import lanes

WORLDS = 30


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def check(fn, tolerance=1e-4):
    """fn(key, dtype): what is drawn, per world; whole numbers agree to the bit."""
    keys = random.split(random.key(0), WORLDS)
    for dtype in ("float32", "float64"):
        draw = lambda key, t=dtype: fn(key, np.dtype(t))
        actual = jax.jit(jax.vmap(lanes.kernel(draw)))(keys)
        expected = jax.jit(jax.vmap(draw))(keys)
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            assert (a.shape, a.dtype) == (e.shape, e.dtype)
            if a.dtype.kind == "f":
                bound = tolerance if a.dtype == np.float32 else 1e-9
                np.testing.assert_allclose(a, e, rtol=bound, atol=bound)
            else:
                np.testing.assert_array_equal(a, e)


@pytest.mark.slow
def test_gamma_and_its_kin():
    """Each is drawn until one is accepted: a wrong bit would be another number altogether."""

    def fn(key, t):
        shape = jnp.array([0.3, 1.0, 5.0], t)
        return [
            *(random.gamma(key, shape, dtype=t), random.loggamma(key, shape, dtype=t)),
            *(random.beta(key, t.type(2), 3.0, dtype=t), random.dirichlet(key, shape, dtype=t)),
            *(random.t(key, 3.0, (2,), dtype=t), random.chisquare(key, 3.0, (2,), dtype=t)),
            random.f(key, 3.0, 4.0, dtype=t),
            jax.grad(lambda a: random.gamma(key, a, dtype=t))(t.type(1.3)),
        ]

    check(fn, 1e-3)


def test_counts():
    def fn(key, t):
        return [
            random.poisson(key, jnp.array([0.5, 4.0, 30.0], t)),
            *(random.binomial(key, n, 0.4, (3,), dtype=t) for n in (10, 100)),
            *(random.geometric(key, 0.3), random.bernoulli(key, 0.3, (3,)), random.rademacher(key)),
            random.multinomial(key, 5, jnp.array([0.2, 0.8], t), dtype=t),
        ]

    check(fn)


def test_choices():
    def fn(key, t):
        weights, table = jnp.arange(7, dtype=t) / 21, jnp.arange(6, dtype=t).reshape(3, 2)
        return [
            random.categorical(key, jnp.array([0.1, 0.5, 1.0], t), shape=(4,)),
            *(random.choice(key, 7, (3,), p=p) for p in (None, weights)),
            *(random.choice(key, 7, (3,), replace=False, p=p) for p in (None, weights)),
            *(random.permutation(key, 6), random.permutation(key, table, axis=1, independent=True)),
            *(random.bits(key, (2,), f"uint{n}") for n in (8, 16, 64)),
            *(random.randint(key, (3,), 0, 200, "uint8"), random.randint(key, (3,), -5, 2**40)),
        ]

    check(fn)


def test_vectors():
    def fn(key, t):
        mean, spread = jnp.zeros(2, t), jnp.array([[1.0, 0.5], [0.5, 2.0]], t)
        return [
            *(random.ball(key, 3, dtype=t), random.orthogonal(key, 3, dtype=t)),
            random.multivariate_normal(key, mean, spread, dtype=t),
        ]

    check(fn, 1e-3)


def test_continuous_distributions():
    def fn(key, t):
        plain = "gumbel exponential cauchy laplace logistic maxwell lognormal".split()
        return [
            *(getattr(random, name)(key, dtype=t) for name in plain),
            *(random.pareto(key, 2.0, dtype=t), random.weibull_min(key, 1.0, 2.0, dtype=t)),
            *(random.truncated_normal(key, -1.0, 2.0, (3,), t), random.rayleigh(key, 1.0, dtype=t)),
            random.double_sided_maxwell(key, 0.0, 1.0, dtype=t),
            random.triangular(key, 0.0, 0.5, 1.0, dtype=t),
            *(random.wald(key, 1.0, dtype=t), random.generalized_normal(key, 1.5, dtype=t)),
        ]

    check(fn, 3e-3)
