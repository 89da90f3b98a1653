"""exp, log, pow, and the hyperbolic functions.

Coefficients are minimax in the relative error of the whole function; the error is behind them.
"""

import numpy as np

from gpusim.lanes.math.base import Numbers, elementary

LN2 = {  # in two parts; the first has so few digits that its product with an exponent is exact
    "float": (0.693145751953125, 1.428606765330187e-06),
    "double": (0.6931471803691238, 1.9082149292705877e-10),
}
# fmt: off
EXP = {  # (exp(r) - 1 - r)/r^2 for |r| <= ln(2)/2; of expm1
    "float": (0.49999997, 0.16666539, 0.04166739, 0.008367092, 0.001387108),  # 2^-26.0
    "double": (0.5000000000000006, 0.16666666666666588, 0.04166666666657635, 0.008333333333389915,
               0.001388888893171016, 0.0001984126971837172, 2.4801505088078084e-05,
               2.7557407925934473e-06, 2.7626115540018995e-07, 2.505372258478259e-08),  # 2^-54.8
}
LOG = {  # (log(1 + f) - f + f^2/2)/f^3 for 1 + f within a factor sqrt(2) of 1
    "float": (0.3333333, -0.25000823, 0.2000126, -0.16623347, 0.14201085, -0.13159552,
              0.12765554, -0.076408766),  # 2^-27.3
    "double": (0.3333333333332852, -0.2500000000000629, 0.20000000001653892, -0.1666666666673881,
               0.14285714094014348, -0.12499999814099949, 0.1111112174826343, -0.10000018366152796,
               0.09090589244474255, -0.0833255428097467, 0.0769763608192545, -0.07160177115455144,
               0.0662210733409096, -0.06041984063070877, 0.059721067815436166,
               -0.06783628479828516, 0.06325434841238887, -0.028328428125852654),  # 2^-54.1
}
ATANH = {  # (2 atanh(s)/s - 2)/s^2 in s^2, for s = f/(2 + f) with f as above
    "float": (0.6666666, 0.40000972, 0.28498793, 0.24278858),  # 2^-35.2
    "double": (0.6666666666666666, 0.40000000000004926, 0.28571428569408797, 0.22222222607534584,
               0.18181778296094536, 0.153869919300558, 0.13252069908166228,
               0.13235552480486232),  # 2^-66.6
}
# tanh(x)/x in x^2, |x| < 9.01; the fraction then grows, and is over 1 at TANH_ONE: 2^-25.2
TANH_ONE = 9.3
TANH_P = (1.0, 0.13383316, 0.0034982183, 2.0648693e-05, 1.3402381e-08)
TANH_Q = (1.0, 0.46716636, 0.02588722, 0.00032897794, 7.797619e-07)
# fmt: on


# -- exp -------------------------------------------------------------------------------------------


@elementary(np.exp)
def exp(o: Numbers, x):
    """Results below 2^-125.5 (float) or 2^-1021.5 (double) are 0."""
    return _exp(o, *_range(o, x))


@elementary(np.exp2)
def exp2(o: Numbers, x):
    f = o.format
    x = o.at_least(o.at_most(x, f.bias + 1.3), 0.9 - f.bias)
    n, scale = _power(o, x, 1.0, 1)
    return _exp(o, o.mul(o.sub(x, n), np.log(2)), scale)


@elementary(np.expm1)
def expm1(o: Numbers, x):
    half = _expm1(o, x, 1)
    return o.add(half, half)


def _power(o, a, b, less):
    """n = rint(a*b) and 2^(n - less), or 0 if that is not a normal number (or 2^128, 2^1024)."""
    n, low = o.round_by_adding(a, b, o.format.bias - less)
    return n, o.from_bits(o.shift("shl", low, o.format.mantissa))


def _range(o, x, less=1):
    """r and 2^(n - less) with x = n ln(2) + r, |r| <= ln(2)/2; x is clipped to the range of exp."""
    high, low = o.of(LN2)
    x = o.at_most(x, (o.format.bias + less) * np.log(2) + 0.3)
    x = o.at_least(x, (less - o.format.bias) * np.log(2))
    n, scale = _power(o, x, 1 / np.log(2), less)
    return o.fma(n, -low, o.fma(n, -high, x)), scale


def _exp(o, r, half):
    """exp(r) * 2 * half; doubling exp(r) lets the result reach what overflows, and overflow."""
    doubled = (2.0, 2.0, *(2 * c for c in o.of(EXP)))
    return o.mul(o.horner(r, doubled), half)


def _expm1(o, x, less):
    """(exp(x) - 1) / 2^less, which overflows that much later than exp."""
    r, scale = _range(o, x, less)
    q = o.fma(o.horner(r, o.of(EXP)), o.mul(r, r), r)
    return o.fma(scale, q, o.sub(scale, 0.5**less))


@elementary(lambda x: 1 / (1 + np.exp(-x)))
def logistic(o: Numbers, x):
    """1 / (1 + exp(-x))."""
    return o.div(1.0, o.add(_exp(o, *_range(o, o.neg(x))), 1.0))


# -- hyperbolic ------------------------------------------------------------------------------------


@elementary(np.tanh)
def tanh(o: Numbers, x):
    if o.type == "float":
        x = o.at_least(o.at_most(x, TANH_ONE), -TANH_ONE)
        z = o.mul(x, x)
        y = o.div(o.mul(x, o.horner(z, TANH_P)), o.horner(z, TANH_Q))
        return o.at_least(o.at_most(y, 1.0), -1.0)
    a = o.abs(x)
    half = _expm1(o, o.add(a, a), 1)
    return o.with_sign(o.div(half, o.add(half, 1.0)), x)


@elementary(np.sinh)
def sinh(o: Numbers, x):
    half, whole = _half_exp(o, x)
    y = o.add(half, o.div(half, whole))
    return o.with_sign(o.select(o.lt(half, np.inf), y, half), x)


@elementary(np.cosh)
def cosh(o: Numbers, x):
    half, whole = _half_exp(o, x)
    return o.add(o.add(half, 0.5), o.div(0.5, whole))


def _half_exp(o, x):
    """(exp|x| - 1)/2 and exp|x|."""
    quarter = _expm1(o, o.abs(x), 2)
    return o.add(quarter, quarter), o.fma(quarter, 4.0, 1.0)


@elementary(np.asinh)
def asinh(o: Numbers, x):
    a = o.abs(x)
    square = o.mul(a, a)
    u = o.add(a, o.div(square, o.add(o.sqrt(o.add(square, 1.0)), 1.0)))
    return o.with_sign(_log_1p_or_2x(o, u, a), x)


@elementary(np.acosh)
def acosh(o: Numbers, x):
    t = o.sub(x, 1.0)
    y = _log_1p_or_2x(o, o.add(t, o.sqrt(o.fma(t, t, o.add(t, t)))), x)
    return o.select(o.lt(x, 1.0), np.nan, y)


@elementary(np.atanh)
def atanh(o: Numbers, x):
    a = o.abs(x)
    y = log1p(o.g, o.div(o.add(a, a), o.sub(1.0, a)))
    return o.with_sign(o.mul(y, 0.5), x)


def _log_1p_or_2x(o, u, x):
    """log(1 + u), or log(2x) where x is so large that its square may overflow."""
    big = o.lt({"float": 1e9, "double": 1e17}[o.type], x)
    y = log1p(o.g, o.select(big, x, u))
    return o.add(y, o.select(big, np.log(2), 0.0))


# -- log -------------------------------------------------------------------------------------------


@elementary(np.log)
def log(o: Numbers, x):
    e, f, _ = _split(o, x)
    return _log_edges(o, x, _log(o, e, f))


@elementary(np.log1p)
def log1p(o: Numbers, x):
    """log(1 + x); |x| below 2^-124 (float) or 2^-1020 (double) counts as 0."""
    u = o.add(x, 1.0)
    e, _, biased = _split(o, u)
    # with s = 2^-e, f = (1 + x)*s - 1 without the rounding of 1 + x; 4s, as s itself may underflow
    top = 2 * o.format.bias + 2 << o.format.mantissa
    s4 = o.from_bits(o.g.sub(o.integer(top), biased))
    f = o.fma(o.mul(x, 0.25), s4, o.fma(s4, 0.25, -1.0))
    return _log_edges(o, u, _log(o, e, f))


@elementary(np.logaddexp)
def logaddexp(o: Numbers, x, y):
    """log(exp(x) + exp(y))."""
    largest = o.g.minmax("max", x, y)
    apart = o.sub(x, y)
    sum_ = o.add(largest, log1p(o.g, exp(o.g, o.neg(o.abs(apart)))))
    # of infinities the difference is NaN
    return o.select(o.g.compare("ne", apart, apart), o.add(x, y), sum_)


def _split(o, x):
    """e, f and the exponent bits of 2^e, with x = (1 + f) 2^e, 1 + f in [sqrt(1/2), sqrt(2))."""
    g, form = o.g, o.format
    start = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}[o.type]  # sqrt(1/2)
    bits = g.add(o.to_bits(x), o.integer(form.one - start))
    biased = o.shift("lshr", bits, form.mantissa)
    # the integer k in the last digits of 2^mantissa is 2^mantissa + k: no conversion
    whole = 2.0**form.mantissa
    e = o.sub(o.from_bits(g.bitop("or", biased, o.to_bits(whole))), whole + form.bias)
    f = g.add(o.mask(bits, (1 << form.mantissa) - 1), o.integer(start))
    return e, o.sub(o.from_bits(f), 1.0), o.mask(bits, -1 << form.mantissa)


def _log(o, e, f):
    q = o.horner(f, (-0.5, *o.of(LOG)))
    return o.fma(e, float(np.log(2)), o.fma(o.mul(f, f), q, f))


def _log_edges(o, x, y):
    """y where x is positive and finite; log(0) is -inf, log(-1) NaN, of inf and NaN themselves."""
    y = o.select(o.lt(x, np.inf), y, x)
    edge = o.select(o.lt(x, 0.0), np.nan, -np.inf)
    return o.select(o.lt(x, o.format.tiny), edge, y)


# -- pow -------------------------------------------------------------------------------------------


@elementary(np.power)
def pow(o: Numbers, x, y):
    """x^y as in C99 Annex F, but that a negative zero x counts as 0."""
    special = _pow_by_constant(o, x, o.g.value.get(y))
    if special is not None:
        return special
    g, a = o.g, o.abs(x)
    high, low = _log_wide(o, a)
    # p + tail = y*log(a), beyond the precision of one number
    p = o.mul(y, high)
    tail = o.fma(y, low, o.fma(y, high, o.neg(p)))
    far = (o.format.bias + 2) * np.log(2)
    clipped = o.at_least(o.at_most(p, far), -far)
    r, scale = _range(o, clipped)
    r = o.add(r, o.select(o.eq(p, clipped), tail, 0.0))
    size = _exp(o, r, scale)

    infinite = g.bitop("and", o.eq(a, 1.0), o.eq(o.abs(y), np.inf))
    one = g.bitop("or", g.bitop("or", o.eq(x, 1.0), o.eq(y, 0.0)), infinite)
    size = o.select(one, 1.0, size)
    negative = o.lt(x, 0.0)
    whole = o.eq(_rint(o, y), y)
    half = o.mul(y, 0.5)
    odd = g.bitop("and", whole, g.compare("ne", _rint(o, half), half))
    size = o.select(g.bitop("and", negative, odd), o.neg(size), size)
    outside = g.bitop("and", negative, g.invert(whole))
    outside = g.bitop("and", outside, o.lt(a, np.inf))
    return o.select(outside, np.nan, size)


def _rint(o, x):
    return o.g.unary("rint", x, np.rint)


def _pow_by_constant(o, x, y):
    """x^y for exponents with a shorter way; else None."""
    if y in (0.5, 1.5, -0.5):
        x = o.select(o.eq(x, -np.inf), np.inf, x)  # not sqrt's NaN
        root = o.sqrt(x)
        return o.div(1.0, root) if y < 0 else root if y < 1 else o.mul(x, root)
    if y in (1, 2, 3, -1, -2):
        x = x if y > 0 else o.div(1.0, x)
        return {1: x, 2: o.mul(x, x), 3: o.mul(o.mul(x, x), x)}[abs(y)]
    return None


def _log_wide(o, a):
    """log(a) for a >= 0 as a sum of two numbers, its error some 2^-8 of the rounding of one.

    log(1 + f) = 2 atanh(s), s = f/(2 + f), with s as a sum of two.
    """
    e, f, _ = _split(o, a)
    d = o.add(f, 2.0)
    d_low = o.sub(f, o.sub(d, 2.0))
    inverse = o.div(1.0, d)
    s = o.mul(f, inverse)
    s_low = o.mul(o.fma(o.neg(s), d_low, o.fma(o.neg(s), d, f)), inverse)
    z = o.mul(s, s)
    ln2, ln2_low = o.of(LN2)
    # both products are exact, so a fused one is the same
    whole, twice = o.mul(e, ln2), o.mul(s, 2.0)
    total = o.add(whole, twice)
    rest = o.sub(twice, o.sub(total, whole))
    series = o.fma(o.mul(z, s), o.horner(z, o.of(ATANH)), o.mul(e, ln2_low))
    rest = o.add(rest, o.fma(s_low, o.fma(z, 2.0, 2.0), series))
    high = o.add(total, rest)
    low = o.sub(rest, o.sub(high, total))
    high = o.select(o.lt(a, np.inf), high, a)
    return o.select(o.lt(a, o.format.tiny), -np.inf, high), low
