"""sin, cos, tan and their inverses.

Coefficients are minimax in the relative error of the whole function; the error is behind them.
"""

import numpy as np

from gpusim.lanes.math.base import Numbers, elementary

# pi/2 in three parts, each the rounded rest: n*part has no rounding inside an fma
HALF_PI = {
    "float": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "double": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# beyond, the quotient x / (pi/2) is too long for the fast reduction
LARGE = {"float": 2.0**17, "double": 2.0**30}
TWO_OVER_PI = int(  # its first 1280 bits
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e0"
    "06492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f4"
    "9c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d"
    "7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d",
    16,
)
# fmt: off
SIN = {  # (sin(r)/r - 1)/r^2 in r^2, |r| < pi/4
    "float": (-0.16666654, 0.008332106, -0.00019507883),  # 2^-27.8
    "double": (-0.16666666666666627, 0.00833333333332108, -0.00019841269828713262,
               2.7557313304977103e-06, -2.5050696603876965e-08, 1.5893184001974378e-10),  # 2^-57.7
}
COS = {  # (cos(r) - 1 + r^2/2)/r^4 in r^2, |r| < pi/4
    "float": (0.041666646, -0.0013887298, 2.4429148e-05),  # 2^-31.8
    "double": (0.04166666666666658, -0.001388888888887097, 2.4801587287528232e-05,
               -2.755731379178035e-07, 2.0875647544233277e-09, -1.1355748401244081e-11),  # 2^-63.7
}
ATAN = {  # (atan(t)/t - 1)/t^2 in t^2, |t| < 1
    "float": (-0.33333153, 0.19993767, -0.14211002, 0.1066577, -0.07551668, 0.04320496,
              -0.016363466, 0.0029195368),  # 2^-25.8
    "double": (-0.3333333333333186, 0.19999999999755183, -0.14285714271339178,
               0.11111110678776738, -0.09090901234735028, 0.07692212914413692,
               -0.0666586018985873, 0.05877306604444445, -0.05239227545415548,
               0.04673931029255784, -0.040925909885226285, 0.03406690346460884,
               -0.025825475775228472, 0.016976587522023467, -0.009183382520108094,
               0.0038552880527642896, -0.0011637994315335557, 0.00022295673719571128,
               -2.0251286702576552e-05),  # 2^-54.9
}
ASIN = {  # (asin(t)/t - 1)/t^2 in t^2, |t| < 1/2
    "float": (0.16666752, 0.074953094, 0.045469154, 0.024184741, 0.042158395),  # 2^-27.6
    "double": (0.16666666666665408, 0.07500000000337159, 0.04464285682818816,
               0.030381959143390983, 0.022371757884515838, 0.017359707409846915,
               0.013885208129777064, 0.012169397935177448, 0.006527143184645338,
               0.019530608514756884, -0.016228026569443686, 0.031914918792337876),  # 2^-55.9
}
# fmt: on


# -- sin, cos, tan ---------------------------------------------------------------------------------


@elementary(np.sin)
def sin(o: Numbers, x):
    s, c, q = _sin_cos(o, x)
    odd = _is_odd(o, q)
    return o.flip_sign(o.select(odd, c, s), o.shift("shl", q, o.format.bits - 2))


@elementary(np.cos)
def cos(o: Numbers, x):
    s, c, q = _sin_cos(o, x)
    odd, next_ = _is_odd(o, q), o.g.add(q, o.integer(1))
    return o.flip_sign(o.select(odd, s, c), o.shift("shl", next_, o.format.bits - 2))


@elementary(np.tan)
def tan(o: Numbers, x):
    s, c, q = _sin_cos(o, x)
    odd = _is_odd(o, q)
    ratio = o.div(o.select(odd, c, s), o.select(odd, s, c))
    return o.flip_sign(ratio, o.shift("shl", q, o.format.bits - 1))


def _is_odd(o, q):
    return o.g.compare("ne", o.mask(q, 1), o.integer(0))


def _sin_cos(o, x):
    """sin(r), cos(r), q with x = q*pi/2 + r, |r| <= pi/4: the same nodes for every use of x."""
    r, q = _reduce(o, x)
    return *_near_zero(o, r), q


def _near_zero(o, r):
    """sin(r), cos(r) for |r| <= pi/4."""
    z = o.mul(r, r)
    s = o.fma(o.horner(z, o.of(SIN)), o.mul(z, r), r)
    c = o.fma(o.horner(z, (-0.5, *o.of(COS))), z, 1.0)
    return s, c


def sin_cos_pi(o: Numbers, x) -> tuple[int, int]:
    """sin(pi x) and cos(pi x), both negated for some x."""
    rest = o.sub(x, o.g.unary("rint", x, np.rint))
    size = o.abs(rest)
    steep = o.lt(0.25, size)
    s, c = _near_zero(o, o.mul(o.select(steep, o.sub(0.5, size), size), np.pi))
    return o.with_sign(o.select(steep, c, s), rest), o.select(steep, s, c)


def _reduce(o, x):
    """r and an integer q (its two low bits matter) with x = q*pi/2 + r, |r| <= pi/4."""
    g = o.g
    key = ("quarter turns", x)  # a branch is not shared by the graph: keep what came out of it
    if key not in g.memo:
        n, q = o.round_by_adding(x, 2 / np.pi, 0)
        r = x
        for part in o.of(HALF_PI):
            r = o.fma(n, -part, r)
        large = g.compare("ge", o.abs(x), o(o.of(LARGE)))
        branch = g.open("if", g.region[x], [o.type], [x])
        branch.cond, branch.otherwise = large, [r, q]
        branch.outs = list(_reduce_large(o, branch.params[0]))
        g.memo[key] = tuple(g.close(branch))
    return g.memo[key]


def _reduce_large(o, x):
    """_reduce for |x| >= LARGE: a product with as many bits of 2/pi as matter.

    |x| = m * 2^e with an integer m, so bits of 2/pi above 2^(1-e) only add whole turns. A window of
    192 bits from there (96 for float) times m is |x| / (2 pi) as a fraction of a turn.
    Payne and Hanek, Radian reduction for trigonometric functions, SIGNUM Newsletter 18 (1983).
    """
    g, f = o.g, o.format
    size = f.bits
    levels = {"float": 2, "double": 4}[o.type]  # log2 of the number of places a window can start
    lead = f.mantissa + 2 - int(np.log2(o.of(LARGE))) + 1  # zeros before the point: no start < 0
    total = size * (3 + (1 << levels))
    digits = TWO_OVER_PI >> (1280 + lead - total)
    words = [o.integer(digits >> (total - size * (k + 1))) for k in range(3 + (1 << levels))]

    exponent = o.shift("lshr", o.mask(o.to_bits(x), f.sign - 1), f.mantissa)
    start = g.add(exponent, o.integer(lead - 2 - f.bias - f.mantissa))
    for level in reversed(range(levels)):
        far = g.compare("ne", o.mask(start, size << level), o.integer(0))
        words = [g.select(far, b, a) for a, b in zip(words, words[1 << level :], strict=False)]
    left = o.mask(start, size - 1)
    right = g.bitop("xor", left, o.integer(size - 1))  # size - 1 - left
    upper = [g.node("shl", f.word, w, left) for w in words]
    lower = [g.node("lshr", f.word, o.shift("lshr", w, 1), right) for w in words]
    window = [g.bitop("or", a, b) for a, b in zip(upper, lower[1:], strict=False)]
    fraction_bits = o.mask(o.to_bits(x), (1 << f.mantissa) - 1)
    m = g.bitop("or", fraction_bits, o.integer(1 << f.mantissa))
    turn = _product(g, _limbs(g, [m]), _limbs(g, window[::-1]))

    # the top two bits are the quarter turn; rounded, so that the rest is in [-1/2, 1/2) quarters
    i64 = lambda v: g.const("i64", v)
    high = g.bitop("or", g.shift("shl", turn[-1], i64(32)), turn[-2])
    low = g.bitop("or", g.shift("shl", turn[-3], i64(32)), turn[-4] if len(turn) > 3 else i64(0))
    q = g.shift("lshr", g.add(high, i64(1 << 61)), i64(62))
    rest = g.bitop("or", g.shift("shl", high, i64(2)), g.shift("lshr", low, i64(62)))
    tail = g.convert(g.shift("shl", low, i64(2)), o.type, signed=False)
    rest = o.fma(tail, 2.0**-64, g.convert(rest, o.type))
    first, second, _ = o.of(HALF_PI)
    r = o.fma(rest, first * 2.0**-64, o.mul(rest, second * 2.0**-64))

    negative, q = o.lt(x, 0.0), g.convert(q, f.word)
    r = o.select(negative, o.neg(r), r)
    r = o.select(o.lt(o.abs(x), np.inf), r, np.nan)
    return r, g.select(negative, g.neg(q), q)


def _limbs(g, words):
    """Integers as 32-bit pieces in i64, the lowest first."""
    if g.type[words[0]] == "i32":
        return [g.convert(w, "i64", signed=False) for w in words]
    low, size = g.const("i64", 0xFFFFFFFF), g.const("i64", 32)
    return [p for w in words for p in (g.bitop("and", w, low), g.shift("lshr", w, size))]


def _product(g, a, b):
    """The low len(b) limbs of a*b."""
    low, size, zero = (g.const("i64", v) for v in (0xFFFFFFFF, 32, 0))
    out = [zero] * len(b)
    for i, x in enumerate(a):
        carry = zero
        for j in range(len(b) - i):
            t = g.add(g.add(g.mul(x, b[j]), out[i + j]), carry)
            out[i + j], carry = g.bitop("and", t, low), g.shift("lshr", t, size)
    return out


# -- inverses --------------------------------------------------------------------------------------


@elementary(np.asin)
def asin(o: Numbers, x):
    w, big = _asin_part(o, x)
    return o.with_sign(o.select(big, o.fma(w, -2.0, np.pi / 2), w), x)


@elementary(np.acos)
def acos(o: Numbers, x):
    w, big = _asin_part(o, x)
    twice, negative = o.add(w, w), o.lt(x, 0.0)
    outer = o.select(negative, o.sub(np.pi, twice), twice)
    return o.select(big, outer, o.sub(np.pi / 2, o.with_sign(w, x)))


def _asin_part(o, x):
    """asin(|x|), or where |x| > 1/2 half of pi/2 - asin(|x|); and whether it is that."""
    a = o.abs(x)
    big = o.lt(0.5, a)
    half = o.fma(a, -0.5, 0.5)
    z = o.select(big, half, o.mul(a, a))
    s = o.select(big, o.sqrt(half), a)
    return o.fma(o.horner(z, o.of(ASIN)), o.mul(z, s), s), big


@elementary(np.atan)
def atan(o: Numbers, x):
    a = o.abs(x)
    big = o.lt(1.0, a)
    t = o.div(o.select(big, 1.0, a), o.select(big, a, 1.0))
    return o.with_sign(_atan_octant(o, t, big), x)


@elementary(np.atan2)
def atan2(o: Numbers, y, x):
    """The angle of (x, y); a negative zero x counts as 0."""
    a, b = o.abs(y), o.abs(x)
    steep = o.lt(b, a)
    small, large = o.select(steep, b, a), o.select(steep, a, b)
    large = o.at_least(large, o.format.tiny)  # 0/0 shall be 0, inf/inf 1
    t = o.select(o.eq(small, large), 1.0, o.div(small, large))
    angle = _atan_octant(o, t, steep)
    return o.with_sign(o.select(o.lt(x, 0.0), o.sub(np.pi, angle), angle), y)


def _atan_octant(o, t, complement):
    """atan(t) for 0 <= t <= 1, or pi/2 less it."""
    z = o.mul(t, t)
    angle = o.fma(o.horner(z, o.of(ATAN)), o.mul(z, t), t)
    return o.select(complement, o.sub(np.pi / 2, angle), angle)
