"""The gamma function's kin and Bessel functions, in units in the last place and at edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax import lax

from gpusim import lanes
from gpusim.lanes import math as lane_math
from gpusim.lanes.program.graph import Graph
from tests.lanes.test_edges import check
from tests.lanes.test_math import assert_close

DTYPES = ("float32", "float64")
PROPER = {"float32": 1e-5, "float64": 1e-11}  # of what XLA computes by the same formula


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True), np.errstate(all="ignore"):
        yield


def run(fn, *args):
    return np.asarray(jax.jit(jax.vmap(lanes.kernel(fn)))(*args))


def positive(dtype):
    """Numbers of all sizes."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(0, 12, 2000), 10 ** rng.uniform(-10, 10, 2000)]).astype(
        dtype
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "reference"), [("lgamma", "gammaln"), ("digamma", "psi")])
def test_gamma(name, reference, dtype):
    x = positive(dtype)
    exact = getattr(scipy.special, reference)(x.astype(np.float64))
    actual = run(getattr(lax, name), x)
    far = np.abs(exact) > 0.3  # where scipy's are exact enough
    assert_close(actual[far], exact[far], 10)
    assert np.all(np.abs(actual - exact)[~far] < 4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_at_its_zeros(dtype):
    """Against Taylor's series at 1 and 2; digamma is 0 where lgamma is smallest."""
    d = np.ldexp(np.random.default_rng(0).uniform(-1, 1, 500), -9).astype(dtype)
    for at in (1, 2):
        x = (at + d).astype(dtype)
        t = x.astype(np.float64) - at
        zetas = [scipy.special.zeta(k) - (at - 1) for k in range(2, 9)]
        series = sum(z * (-t) ** k / k for k, z in enumerate(zetas, 2))
        assert_close(run(lax.lgamma, x), series + (at - 1 - np.euler_gamma) * t, 5)
    zero = 1.4616321449683623
    slope = run(lax.digamma, np.array([zero - 1e-3, zero, zero + 1e-3], dtype))
    expected = np.array([-9.680287e-4, 0, 9.673433e-4])  # digamma' = 0.9676722, digamma'' = -0.685
    np.testing.assert_allclose(slope, expected, atol=4e-7)


# x, log|gamma(x)|, digamma(x) by mpmath: scipy loses 100 units in the last place here
NEGATIVE = [
    (-0.3, 1.4648400508576025, 2.113309779635399),
    (-1.5, 0.860047015376481, 0.7031566406452432),
    (-2.7, -0.07140708531564569, -1.1153471291406896),
    (-7.9, -8.072039736012833, -7.540007224419479),
    (-20.4, -42.35279092555145, 4.060609840029619),
    (-2.4570247382208006, 5.6191923589501e-17, 1.5156034480216576),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_of_negative_numbers(dtype):
    """Near its zeros the function is as good as its largest term."""
    x = np.array([row[0] for row in NEGATIVE])
    for k, name in enumerate(("lgamma", "digamma"), 1):
        expected = np.array([row[k] for row in NEGATIVE])
        bound = 8 * np.finfo(dtype).eps * np.maximum(np.abs(expected), 1)
        # float32 cannot hold x: what rounding it changes is a few units more
        bound = bound + np.abs(x.astype(dtype) - x) * np.abs(scipy.special.polygamma(k - 1, x))
        assert np.all(np.abs(run(getattr(lax, name), x.astype(dtype)) - expected) <= bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_at_edges(dtype):
    x = np.array([0, 1, 2, -1, -2, np.inf, np.nan, 3e30, 0.5, -0.5, 1e-30], dtype)
    gamma = np.array([np.inf, 0, 0, np.inf, np.inf, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(run(lax.lgamma, x)[:7], gamma)
    assert run(lax.lgamma, np.array([-np.inf], dtype)) == np.inf
    nothing = np.isnan(run(lax.digamma, x))
    np.testing.assert_array_equal(nothing[:7], [True, False, False, True, True, False, True])
    np.testing.assert_allclose(run(lax.lgamma, x)[7:], scipy.special.gammaln(x[7:]), rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "reference"), [("bessel_i0e", "i0e"), ("bessel_i1e", "i1e")])
def test_bessel(name, reference, dtype):
    x = np.concatenate([positive(dtype), [0, 8, np.inf, np.nan]]).astype(dtype)
    exact = getattr(scipy.special, reference)
    for signed in (x, -x):
        assert_close(run(getattr(lax, name), signed), exact(signed.astype(np.float64)), 16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_incomplete_gamma_and_beta(dtype):
    rng = np.random.default_rng(2)
    a, b, x = rng.uniform(0.05, 20, (3, 300)).astype(dtype)
    names = {"igamma": scipy.special.gammainc, "igammac": scipy.special.gammaincc}
    for name, exact in names.items():
        y = run(getattr(lax, name), a, x)
        np.testing.assert_allclose(y, exact(*np.array([a, x], np.float64)), atol=PROPER[dtype])
    u = (x / 20).astype(dtype)
    y = run(lax.betainc, a, b, u)
    np.testing.assert_allclose(
        y, scipy.special.betainc(*np.array([a, b, u], np.float64)), atol=PROPER[dtype]
    )
    slope = lambda a, x: jax.grad(lax.igamma, (0, 1))(a, x)
    for got, want in zip(*(jax.vmap(f)(a, x) for f in (lanes.kernel(slope), slope)), strict=True):
        np.testing.assert_allclose(got, want, rtol=20 * PROPER[dtype], atol=PROPER[dtype])
    ends = np.array([0, 1, np.inf, -1, np.nan], dtype)
    a, x = (v.ravel() for v in np.meshgrid(ends, ends))
    check(lambda a, x: (lax.igamma(a, x), lax.igammac(a, x)), a, x, ulp=30)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeta_and_polygamma(dtype):
    rng = np.random.default_rng(3)
    x, q = (rng.uniform(low, 8, 300).astype(dtype) for low in (1.05, 0.05))
    exact = scipy.special.zeta(*np.array([x, q], np.float64))
    np.testing.assert_allclose(run(lax.zeta, x, q), exact, rtol=30 * np.finfo(dtype).eps)
    for order in range(4):
        y = run(lambda q, n=order: lax.polygamma(q.dtype.type(n), q), q)
        expected = scipy.special.polygamma(order, q.astype(np.float64))
        np.testing.assert_allclose(y, expected, rtol=PROPER[dtype], atol=PROPER[dtype])


def test_functions_of_the_whole_library():
    special = jax.scipy.special

    def fn(x, y):
        return [
            *(
                special.beta(x, y),
                special.gamma(x),
                special.factorial(x),
                special.i0(x),
                special.i1(x),
            ),
            *(
                special.multigammaln(x + 2, 2),
                special.xlogy(x, y),
                special.entr(x),
                special.ndtr(x),
            ),
            *(jax.scipy.stats.gamma.logpdf(x, y), jax.scipy.stats.t.logpdf(x, y)),
            *(
                jax.scipy.stats.poisson.logpmf(jnp.floor(x), y),
                jax.scipy.stats.beta.cdf(x / 9, 2.0, y),
            ),
        ]

    check(fn, *np.random.default_rng(4).uniform(0.1, 8, (2, 17)), ulp=500)


@pytest.mark.parametrize("type_", ["float", "double"])
@pytest.mark.parametrize("value", [0.3, 1.7, 2.9, 30.0, -0.7, -4.2])
@pytest.mark.parametrize(
    ("name", "reference"),
    [("lgamma", "gammaln"), ("digamma", "psi"), ("bessel_i0e", "i0e"), ("bessel_i1e", "i1e")],
)
def test_a_constant_gives_a_constant(name, reference, value, type_):
    g = Graph()
    node = g.const(type_, value)
    exact = getattr(scipy.special, reference)(g.value[node])
    precision = {"float": 1e-7, "double": 1e-14}[type_]
    assert g.value[getattr(lane_math, name)(g, node)] == pytest.approx(exact, rel=precision)
