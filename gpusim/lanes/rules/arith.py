"""Rules for element-wise primitives: arithmetic, comparison, choice."""

import functools
import math

import numpy as np

from gpusim.lanes import math as lane_math
from gpusim.lanes.program.constants import BITS, FLOATS
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.scalarize import Scalarizer, elementwise, is_bool, is_float, is_signed, rule


def dtype_of(eqn, k=0):
    return eqn.invars[k].aval.dtype


def define(name, f):
    """A rule that applies f(graph, *scalars) to every element."""

    @rule(name)
    def _(s: Scalarizer, eqn, *operands):
        return [elementwise(functools.partial(f, s.g), *operands)]


for name in ("add", "add_any"):
    define(name, Graph.add)
define("sub", Graph.sub)
define("mul", Graph.mul)
define("neg", Graph.neg)
define("square", lambda g, a: g.mul(a, a))
define("sqrt", lambda g, a: g.unary("sqrt", a, lambda v: math.sqrt(v) if v >= 0 else math.nan))
define("floor", lambda g, a: g.unary("floor", a, np.floor))
define("ceil", lambda g, a: g.unary("ceil", a, np.ceil))
define("rsqrt", lane_math.rsqrt)
define(
    "is_finite", lambda g, a: g.compare("lt", g.unary("fabs", a, abs), g.const(g.type[a], math.inf))
)
for name in (
    "copy", "copy_p", "stop_gradient", "name", "optimization_barrier",
    # where the arrays of one world are is the kernel's own affair
    "device_put", "reshard", "sharding_constraint", "layout_constraint", "pvary",
):  # fmt: skip
    rule(name)(lambda s, eqn, *xs: list(xs))


@rule("pow")
def _pow(s, eqn, x, y):
    g = s.g
    if not is_float(dtype_of(eqn, 1)):
        y = (
            elementwise(lambda a: g.convert(a, g.type[x.flat[0]], is_signed(dtype_of(eqn, 1))), y)
            if x.size
            else y
        )
    return [elementwise(lambda a, b: lane_math.pow(g, a, b), x, y)]


@rule("div")
def _div(s, eqn, a, b):
    if is_float(dtype_of(eqn)):
        return [elementwise(s.g.div, a, b)]
    return [elementwise(lambda x, y: _int_div(s.g, x, y, is_signed(dtype_of(eqn)))[0], a, b)]


@rule("rem")
def _rem(s, eqn, a, b):
    if is_float(dtype_of(eqn)):
        return [elementwise(lambda x, y: lane_math.rem(s.g, x, y), a, b)]
    return [elementwise(lambda x, y: _int_div(s.g, x, y, is_signed(dtype_of(eqn)))[1], a, b)]


def _int_div(g, a, b, signed):
    """Quotient and remainder as XLA defines them: x/0 = -1 (all ones), x%0 = x, min/-1 = min,
    min%-1 = 0.
    """
    t = g.type[a]
    va, vb = g.value.get(a), g.value.get(b)
    if va is not None and vb is not None and vb != 0:
        if not signed:
            va, vb = va % (1 << BITS[t]), vb % (1 << BITS[t])
        q = abs(va) // abs(vb) * (1 if (va < 0) == (vb < 0) else -1)
        return g.const(t, q), g.const(t, va - q * vb)
    zero = g.compare("eq", b, g.const(t, 0))
    special = zero
    if signed:
        overflow = g.bitop(
            "and",
            g.compare("eq", b, g.const(t, -1)),
            g.compare("eq", a, g.const(t, -(1 << BITS[t] - 1))),
        )
        special = g.bitop("or", zero, overflow)
    # the divisor is made harmless first: an integer division by zero would trap
    safe = g.select(special, g.const(t, 1), b)
    q = g.node("sdiv" if signed else "udiv", t, a, safe)
    r = g.node("srem" if signed else "urem", t, a, safe)
    return g.select(zero, g.const(t, -1), q), g.select(zero, a, r)


@rule("max", "min")
def _minmax(s, eqn, a, b):
    name, signed = eqn.primitive.name, is_signed(dtype_of(eqn))
    return [elementwise(lambda x, y: s.g.minmax(name, x, y, signed), a, b)]


@rule("clamp")
def _clamp(s, eqn, low, x, high):
    g, signed = s.g, is_signed(dtype_of(eqn, 1))
    return [
        elementwise(
            lambda lo, v, hi: g.minmax("min", g.minmax("max", v, lo, signed), hi, signed),
            low,
            x,
            high,
        )
    ]


@rule("lt", "le", "gt", "ge", "eq", "ne")
def _compare(s, eqn, a, b):
    name, signed = eqn.primitive.name, is_signed(dtype_of(eqn))
    return [elementwise(lambda x, y: s.g.compare(name, x, y, signed), a, b)]


@rule("eq_to", "lt_to", "le_to")
def _total_order(s, eqn, a, b):
    g, name = s.g, eqn.primitive.name[:2]
    if not is_float(dtype_of(eqn)):
        return [elementwise(lambda x, y: g.compare(name, x, y, is_signed(dtype_of(eqn))), a, b)]
    return [elementwise(lambda x, y: _float_order(g, name, x, y), a, b)]


def _float_order(g, name, x, y):
    """Comparison in which NaN is larger than everything and equal to itself."""
    xn, yn = g.compare("ne", x, x), g.compare("ne", y, y)
    if name == "eq":
        return g.bitop("or", g.compare("eq", x, y), g.bitop("and", xn, yn))
    if name == "lt":
        return g.bitop("or", g.compare("lt", x, y), g.bitop("and", g.invert(xn), yn))
    return g.bitop("or", g.compare("le", x, y), yn)


@rule("select_n")
def _select_n(s, eqn, which, *cases):
    g = s.g
    if is_bool(dtype_of(eqn)):
        masks = set(which.ravel().tolist())
        if len(masks) == 1:
            return [s.choose(masks.pop(), *cases[::-1])]
        return [elementwise(lambda c, b, a: g.select(c, a, b), which, *cases)]

    def choose(i, *xs):
        out = xs[-1]
        for k in range(len(xs) - 2, -1, -1):
            out = g.select(g.compare("le", i, g.const(g.type[i], k)), xs[k], out)
        return out

    return [elementwise(choose, which, *cases)]


@rule("abs")
def _abs(s, eqn, x):
    g = s.g
    if is_float(dtype_of(eqn)):
        return [elementwise(lambda a: g.unary("fabs", a, abs), x)]
    return [elementwise(lambda a: g.minmax("max", a, g.neg(a), is_signed(dtype_of(eqn))), x)]


@rule("sign")
def _sign(s, eqn, x):
    g, signed = s.g, is_signed(dtype_of(eqn))

    def sign(a):
        t = g.type[a]
        zero, one = g.const(t, 0), g.const(t, 1)
        if t in FLOATS:  # NaN stays NaN, -0 stays -0
            return g.select(
                g.compare("gt", a, zero), one, g.select(g.compare("lt", a, zero), g.const(t, -1), a)
            )
        negative = g.const(t, -1) if signed else zero
        return g.select(
            g.compare("gt", a, zero, signed),
            one,
            g.select(g.compare("lt", a, zero, signed), negative, zero),
        )

    return [elementwise(sign, x)]


@rule("round")
def _round(s, eqn, x):
    g = s.g
    if "EVEN" in eqn.params["rounding_method"].name:
        return [elementwise(lambda a: g.unary("rint", a, np.rint), x)]
    return [elementwise(lambda a: lane_math.round_away(g, a), x)]


@rule("integer_pow")
def _integer_pow(s, eqn, x):
    g, n = s.g, eqn.params["y"]

    def power(a):
        if n == 0:
            return g.const(g.type[a], 1)
        out, square, k = None, a, abs(n)
        while k:
            if k & 1:
                out = square if out is None else g.mul(out, square)
            square, k = (g.mul(square, square) if k > 1 else square), k >> 1
        return g.div(g.const(g.type[a], 1), out) if n < 0 else out

    return [elementwise(power, x)]


@rule("one_minus_square")
def _one_minus_square(s, eqn, x):
    g, one = s.g, lambda a: s.g.const(s.g.type[a], 1)
    return [elementwise(lambda a: g.mul(g.add(one(a), a), g.sub(one(a), a)), x)]


@rule("empty2")
def _empty(s, eqn):
    """A place that JAX fills before it is read: derivatives of branches have some."""
    return [s.full(eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype, 0)]
