"""Rules for elementary and special functions."""

import jax.numpy as jnp
from jax import lax
from jax._src.lax import special

from gpusim.lanes import math as lane_math
from gpusim.lanes.rules.arith import define, dtype_of
from gpusim.lanes.rules.definition import defined
from gpusim.lanes.scalarize import elementwise, is_half, rule

for name in (
    "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 expm1 log log1p logistic "
    "erf erfc erf_inv cbrt atan2"
).split():
    define(name, getattr(lane_math, name))


@rule("nextafter")
def _nextafter(s, eqn, x, y):
    if is_half(dtype_of(eqn)):
        raise s.error(f"nextafter of {dtype_of(eqn)} is not supported")
    return [elementwise(lambda a, b: lane_math.nextafter(s.g, a, b), x, y)]


# -- special functions -----------------------------------------------------------------------------

for name in ("lgamma", "digamma", "bessel_i0e", "bessel_i1e"):
    define(name, getattr(lane_math, name))


def _like_floats(definition):
    """One of JAX's definitions, which want all arguments of one shape, and the dtype."""

    def traced(*xs):
        xs = jnp.broadcast_arrays(*xs)
        return definition(*xs, dtype=xs[0].dtype)

    return traced


for name in ("igamma", "igammac", "igamma_grad_a", "regularized_incomplete_beta"):
    defined(name, _like_floats(getattr(special, f"{name}_impl")))


def zeta(x, q):
    """Hurwitz's zeta function by Euler and Maclaurin's formula, as Cephes and XLA have it."""
    terms = 9
    total = sum((q + k) ** -x for k in range(terms))
    a = q + terms
    power = a**-x
    total = total + power * (a / (x - 1) + 0.5)
    # Bernoulli's numbers B_2k / (2k)!
    bernoulli = (12.0, -720.0, 30240.0, -1209600.0, 47900160.0, -1.8924375803183791606e9)
    bernoulli += (7.47242496e10, -2.950130727918164224e12, 1.1646782814350067249e14)
    bernoulli += (-4.5979787224074726105e15, 1.8152105401943546773e17, -7.1661652561756670113e18)
    factor, power = x, power / a
    for k, b in enumerate(bernoulli):
        total = total + factor * power / b
        factor = factor * (x + 2 * k + 1) * (x + 2 * k + 2)
        power = power / (a * a)
    whole = jnp.floor(q) == q
    pole = jnp.where(whole & (x == jnp.floor(x)) & (x % 2 == 0), jnp.inf, jnp.nan)
    outside = (q < 0) & (jnp.floor(x) != x) | (x < 1)
    total = jnp.where(outside, jnp.nan, jnp.where(q <= 0, jnp.where(whole, pole, total), total))
    return jnp.where(x == 1, jnp.inf, total)


def polygamma(m, x):
    order = jnp.exp(lax.lgamma(m + 1)) * zeta(m + 1, x)
    y = jnp.where(m == 0, lax.digamma(x), jnp.where(m % 2 == 0, -order, order))
    return jnp.where((m < 0) | (m != jnp.floor(m)), jnp.nan, y)


defined("zeta", zeta)
defined("polygamma", polygamma)

# -- reductions over an axis that the function itself maps, which is one of the array by now -------

for name, reduce in (
    ("psum", lax.reduce_sum),
    ("pmax", lax.reduce_max),
    ("pmin", lax.reduce_min),
):
    defined(name, lambda x, axes, axis_index_groups, reduce=reduce: [reduce(x, axes)])
