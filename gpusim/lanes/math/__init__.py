"""Elementary functions as graphs of additions, multiplications, comparisons and integer operations.

Every function is `f(graph, *nodes) -> node` on nodes of one type, `float` or `double`, the same for
a SIMD vector and for a CUDA thread; of constants it gives a constant. There are no branches, but
that sin, cos and tan leave their straight line when a lane's angle is large, and rem when its
quotient is. Numbers below the smallest normal one may count as 0, the sign of zero may be lost, and
NaN stays NaN.
"""

import numpy as np

from gpusim.lanes.math.base import Numbers, elementary
from gpusim.lanes.math.bessel import bessel_i0e, bessel_i1e
from gpusim.lanes.math.erf import erf, erf_inv, erfc
from gpusim.lanes.math.exp import (
    acosh,
    asinh,
    atanh,
    cosh,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    logaddexp,
    logistic,
    pow,
    sinh,
    tanh,
)
from gpusim.lanes.math.gamma import digamma, lgamma
from gpusim.lanes.math.trig import acos, asin, atan, atan2, cos, sin, tan
from gpusim.lanes.program.graph import Graph

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e", "bessel_i1e", "cbrt",
    "cos", "cosh", "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "from_total_order",
    "lgamma", "log", "log1p", "logaddexp", "logistic", "nextafter", "pow", "reduce_precision",
    "rem", "round_away", "rsqrt", "sin", "sinh", "tan", "tanh", "threefry2x32", "total_order",
]  # fmt: skip


# -- roots -----------------------------------------------------------------------------------------


@elementary(lambda x: 1 / np.sqrt(x))
def rsqrt(o: Numbers, x):
    return o.div(1.0, o.sqrt(x))


@elementary(np.cbrt)
def cbrt(o: Numbers, x):
    """By iteration for 1/cbrt, which needs no division."""
    g, a = o.g, o.abs(x)
    # exponent / -3 by dividing all the bits; 3.5 % off at most
    start = {"float": 0x54A2FA8C, "double": 0x553EF0FF289DD796}[o.type]
    y = o.from_bits(
        g.sub(o.integer(start), g.node("udiv", o.format.word, o.to_bits(a), o.integer(3)))
    )
    for _ in range({"float": 2, "double": 3}[o.type]):
        h = o.fma(o.neg(o.mul(a, y)), o.mul(y, y), 1.0)
        y = o.fma(o.mul(y, h), o.horner(h, (1 / 3, 2 / 9, 14 / 81)), y)
    root = o.mul(o.mul(a, y), y)
    missing = o.fma(o.neg(o.mul(root, root)), root, a)
    root = o.fma(missing, o.mul(o.mul(y, y), 1 / 3), root)
    return o.with_sign(o.select(o.lt(a, np.inf), root, a), x)


# -- remainder and rounding ------------------------------------------------------------------------


@elementary(np.fmod)
def rem(o: Numbers, x, y):
    """x - trunc(x/y) y, with the sign of x, exactly."""
    a, b = o.abs(x), o.abs(y)
    if a in o.g.zero or b in o.g.zero:  # the graph takes 0/0 for 0
        return o.select(o.lt(0.0, b), x, np.nan)
    ratio = o.div(a, b)
    r = _subtract(o, a, b, ratio)
    # the quotient was rounded; with a constant b its reciprocal was, and it may be down too
    if y in o.g.value:
        r = o.select(o.lt(r, b), r, o.sub(r, b))
    r = o.select(o.lt(a, b), a, r)
    return o.with_sign(_long_division(o, a, b, ratio, r), x)


def _subtract(o: Numbers, a, b, ratio):
    """a - n b >= 0 for n = trunc(a/b), or n - 1 if that was rounded up to a whole number."""
    r = o.fma(o.neg(o.g.unary("trunc", ratio, np.trunc)), b, a)
    return o.select(o.lt(r, 0.0), o.add(r, b), r)


def _long_division(o, a, b, ratio, r):
    """The remainder r of a by b, in a loop over its digits where the quotient has too many."""
    g, digits = o.g, o.format.mantissa - 1
    proper = g.bitop("and", o.lt(a, np.inf), g.compare("ge", b, o(o.format.tiny)))
    long = g.bitop("and", proper, g.compare("ge", ratio, o(2.0**digits)))
    if g.value.get(long) == 0:
        return r
    key = ("long division", a, b)  # a loop is not shared by the graph
    if key not in g.memo:
        region = g.open("while", g.region[long], [o.type], [o.select(long, a, r)])
        (rest,) = region.params
        region.cond = g.bitop("and", proper, g.compare("ge", rest, b))
        # the largest b 2^k that leaves a quotient of so many digits: nothing is rounded on the way
        exponent = lambda v: o.mask(o.to_bits(v), o.format.exponent)
        k = g.sub(g.sub(exponent(rest), exponent(b)), o.integer(digits << o.format.mantissa))
        scaled = o.from_bits(g.add(o.to_bits(b), g.minmax("max", k, o.integer(0))))
        region.outs = [_subtract(o, rest, scaled, o.div(rest, scaled))]
        g.memo[key] = g.close(region)[0]
    return g.memo[key]


@elementary(lambda x: np.copysign(np.floor(abs(x)) + (abs(x) - np.floor(abs(x)) >= 0.5), x))
def round_away(o: Numbers, x):
    """The nearest whole number, of two the one farther from 0."""
    almost_half = 0.5 - 2.0 ** -(o.format.mantissa + 2)  # the number before 1/2
    return o.g.unary("trunc", o.add(x, o.with_sign(almost_half, x)), np.trunc)


def reduce_precision(g: Graph, x: int, exponent_bits: int, mantissa_bits: int) -> int:
    """x rounded, to even, to a format of so many bits, in which what is too large is infinite and
    what is smaller than its normal numbers 0; as XLA does it.
    """
    o = Numbers(g, g.type[x])
    f, bits = o.format, o.to_bits(x)
    lost = f.mantissa - mantissa_bits
    if lost > 0:
        last = o.mask(o.shift("lshr", bits, lost), 1)
        bits = g.add(bits, g.add(last, o.integer((1 << lost - 1) - 1)))
        bits = o.mask(bits, -1 << lost)
    if exponent_bits < f.bits - 1 - f.mantissa:
        bias = (1 << exponent_bits - 1) - 1
        sign, exponent = o.mask(bits, f.sign), o.mask(bits, f.exponent)
        largest, smallest = f.bias + bias, f.bias - bias
        infinite = g.bitop("or", sign, o.integer(f.exponent))
        too_large = g.compare("gt", exponent, o.integer(largest << f.mantissa))
        too_small = g.compare("le", exponent, o.integer(smallest << f.mantissa))
        bits = g.select(too_large, infinite, g.select(too_small, sign, bits))
    return g.select(g.compare("ne", x, x), x, o.from_bits(bits))


def nextafter(g: Graph, x: int, y: int) -> int:
    """The neighbour of x in the direction of y; of 0 it is a denormal number."""
    o = Numbers(g, g.type[x])
    bits, one = o.to_bits(x), o.integer(1)
    away = g.compare("eq", o.lt(x, y), o.lt(0.0, x))
    moved = g.select(away, g.add(bits, one), g.sub(bits, one))
    sign = o.mask(o.to_bits(y), o.format.sign)
    moved = g.select(o.eq(x, 0.0), g.bitop("or", sign, one), moved)
    result = o.select(o.eq(x, y), y, o.from_bits(moved))
    nan = g.bitop("or", g.compare("ne", x, x), g.compare("ne", y, y))
    return o.select(nan, np.nan, result)


def total_order(g: Graph, x: int) -> int:
    """An integer that is in the order of IEEE's totalOrder: -NaN, -inf, ... -0, 0, ... inf, NaN."""
    o = Numbers(g, g.type[x])
    return _flip_size(o, o.to_bits(x))


def from_total_order(g: Graph, n: int, type_: str) -> int:
    """The number that total_order makes n of."""
    o = Numbers(g, type_)
    return o.from_bits(_flip_size(o, n))


def _flip_size(o, bits):
    """All bits but the sign inverted where that is set."""
    negative = o.shift("ashr", bits, o.format.bits - 1)
    return o.g.bitop("xor", bits, o.mask(negative, o.format.sign - 1))


# -- random bits -----------------------------------------------------------------------------------

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry2x32(g: Graph, k0: int, k1: int, x0: int, x1: int) -> tuple[int, int]:
    """Random bits for the counter (x0, x1) under the key (k0, k1), all i32.

    Threefry with 20 rounds: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
    """
    i32 = lambda v: g.const("i32", v)
    keys = (k0, k1, g.bitop("xor", g.bitop("xor", k0, k1), i32(0x1BD11BDA)))
    x0, x1 = g.add(x0, k0), g.add(x1, k1)
    for step in range(1, 6):
        for r in ROTATIONS[(step - 1) % 2]:
            x0 = g.add(x0, x1)
            rotated = g.bitop("or", g.shift("shl", x1, i32(r)), g.shift("lshr", x1, i32(32 - r)))
            x1 = g.bitop("xor", rotated, x0)
        x0 = g.add(x0, keys[step % 3])
        x1 = g.add(g.add(x1, keys[(step + 1) % 3]), i32(step))
    return x0, x1
