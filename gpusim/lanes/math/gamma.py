"""The logarithm of the gamma function, and its derivative.

Each is a polynomial on [1, 2.5), its zero divided out; below 1 it follows from the value at x + 1,
beyond 2.5 there is Stirling's series, and negative arguments are reflected. Coefficients are
interpolated at Chebyshev's points; the relative error of the polynomial is behind them.
"""

import math

import numpy as np

from gpusim.lanes.math.base import Numbers, elementary
from gpusim.lanes.math.exp import log
from gpusim.lanes.math.trig import sin_cos_pi

FAR = 2.5  # from here on Stirling's series
ZERO = {  # of digamma, in two parts
    "float": (1.4616321325302124, 1.243815e-08),
    "double": (1.4616321449683622, 9.549995429965697e-17),
}
# fmt: off
LGAMMA = {  # lgamma(1 + t) / (t (t - 1)) in t - 3/4, 0 <= t < 1.5
    "float": (0.4501393, -0.119481586, 0.044520445, -0.019054154, 0.008776476, -0.0042234557,
              0.0020940586, -0.0010768067, 0.0005536448, -0.00023743547, 0.00012387955,
              -0.00013694791, 7.317447e-05),  # 2^-26.8
    "double": (0.4501393121092563, -0.11948158662524273, 0.04452044719851477, -0.01905395783025038,
               0.008776370424820181, -0.004226194125675554, 0.0020955338945061364,
               -0.0010605660833747756, 0.0005448967395731498, -0.0002831904844654093,
               0.000148519311589166, -7.846314845465087e-05, 4.168906612494944e-05,
               -2.227242258991742e-05, 1.2018712758946373e-05, -6.474995691895185e-06,
               3.3111117558652085e-06, -1.7932743600527255e-06, 1.3252079532403106e-06,
               -7.242058089691726e-07, -1.7642211252539126e-08, 1.1196787207499e-08,
               2.7358340821171866e-07, -1.5069416728386754e-07),  # 2^-54.4
}
STIRLING = {  # x (lgamma(x) - (x - 1/2) log(x) + x - log(2 pi)/2) in 1/x^2, x >= FAR
    "float": (0.08333333, -0.0027772828, 0.00077741203, -0.00041150514),  # 2^-24.0
    "double": (0.08333333333333331, -0.0027777777777425704, 0.000793650781074075,
               -0.0005952362987522148, 0.000841614646879006, -0.0019112061268279628,
               0.006214168826005307, -0.025211948412357663, 0.10689474580636292,
               -0.3973020094645442, 1.1113197656611955, -1.9839543804967954,
               1.6579125790956448),  # 2^-52.1
}
DIGAMMA = {  # digamma(1 + t) / (1 + t - ZERO) in t - 3/4, 0 <= t < 1.5
    "float": (0.8581832, -0.3262546, 0.1571218, -0.08228655, 0.044764943, -0.024870222,
              0.014241937, -0.008056777, 0.003658333, -0.0020806277, 0.002634603,
              -0.0015038744),  # 2^-25.0
    "double": (0.8581832171262995, -0.3262546278681057, 0.15712011335204287, -0.08228558635577836,
               0.04479965445273985, -0.024890048488912565, 0.01398578618617086,
               -0.007910468781929783, 0.00449181364672186, -0.002556686367507804,
               0.0014573755956349848, -0.0008314991405858443, 0.0004746724618090757,
               -0.00027107414127335234, 0.00015488023513747138, -8.848107178256062e-05,
               5.037306922478186e-05, -2.8781726259309088e-05, 1.699656557302208e-05,
               -9.711942635667115e-06, 4.363954155587837e-06, -2.493637963206625e-06,
               3.176783869523677e-06, -1.8152982571215072e-06, -6.553134477930105e-07,
               3.744655461967921e-07, 7.489345618425701e-07, -4.279624085203948e-07),  # 2^-55.5
}
DIGAMMA_FAR = {  # x^2 (log(x) - 1/(2x) - digamma(x)) in 1/x^2, x >= FAR
    "float": (0.08333333, -0.00833288, 0.0039444584, -0.0037026987, 0.003338899),  # 2^-24.0
    "double": (0.08333333333333331, -0.008333333333291002, 0.003968253948113313,
               -0.004166662822085602, 0.007575365827373784, -0.02106816782981107,
               0.08228901994055324, -0.4114235035035998, 2.3170346651026064, -12.733161189215059,
               60.32814338601384, -223.1996123889133, 586.3577861464491, -958.3260579158436,
               726.592276433788),  # 2^-52.1
}
# fmt: on


def _lgamma_of_constant(x):
    if (x <= 0 and x == np.floor(x)) or np.isinf(x):
        return math.inf
    return math.lgamma(x) if x == x else x


@elementary(_lgamma_of_constant)
def lgamma(o: Numbers, x):
    """log(|gamma(x)|)."""
    a = o.abs(x)
    log_a = log(o.g, a)
    below, t, inverse = _parts(o, a)
    near = o.mul(o.mul(t, o.sub(t, 1.0)), o.horner(o.sub(t, 0.75), o.of(LGAMMA)))
    series = o.mul(o.horner(o.mul(inverse, inverse), o.of(STIRLING)), inverse)
    rest = o.add(series, (math.log(2 * math.pi) - 1) / 2)
    far = o.fma(o.sub(a, 0.5), o.sub(log_a, 1.0), rest)
    y = o.select(o.lt(a, FAR), near, far)  # for a < 1 it is lgamma(1 + a)
    positive = o.sub(y, o.select(below, log_a, 0.0))
    # gamma(-a) gamma(1 + a) = -pi / sin(pi a)
    sine, _ = sin_cos_pi(o, a)
    sine = o.mul(o.abs(sine), o.select(below, 1 / math.pi, o.mul(a, 1 / math.pi)))
    negative = o.neg(o.add(log(o.g, sine), y))
    negative = o.select(o.lt(a, np.inf), negative, a)
    return o.select(o.lt(x, 0.0), negative, positive)


def _digamma_of_constant(x):
    """By recurrence to where the asymptotic series holds."""
    if x <= 0 and x == np.floor(x):
        return math.nan
    if x < 0:
        return _digamma_of_constant(1 - x) - math.pi / math.tan(math.pi * (x - np.rint(x)))
    if not x < math.inf:
        return x
    y = 0.0
    while x < 20:
        y, x = y - 1 / x, x + 1
    z = 1 / (x * x)
    bernoulli = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
    series = sum(b * z ** (k + 1) for k, b in enumerate(bernoulli))
    return y + math.log(x) - 0.5 / x - series


@elementary(_digamma_of_constant)
def digamma(o: Numbers, x):
    """The derivative of lgamma; NaN at 0 and where it has no limit, at negative whole numbers."""
    a = o.abs(x)
    below, t, inverse = _parts(o, a)
    first, second = o.of(ZERO)
    # 1 + t without a rounding, which below 1 it would have
    from_zero = o.sub(o.add(t, 1.0 - first), second)
    near = o.mul(from_zero, o.horner(o.sub(t, 0.75), o.of(DIGAMMA)))
    z = o.mul(inverse, inverse)
    series = o.fma(o.horner(z, o.of(DIGAMMA_FAR)), z, o.mul(inverse, 0.5))
    y = o.select(o.lt(a, FAR), near, o.sub(log(o.g, a), series))  # for a < 1 digamma(1 + a)
    positive = o.sub(y, o.select(below, inverse, 0.0))
    # digamma(-a) = digamma(1 + a) + pi / tan(pi a)
    sine, cosine = sin_cos_pi(o, a)
    cotangent = o.div(o.mul(cosine, math.pi), sine)
    negative = o.add(o.add(y, o.select(below, 0.0, inverse)), cotangent)
    whole = o.g.bitop("or", o.eq(sine, 0.0), o.eq(a, np.inf))
    negative = o.select(whole, np.nan, negative)
    positive = o.select(o.eq(x, 0.0), np.nan, positive)
    return o.select(o.lt(x, 0.0), negative, positive)


def _parts(o, a):
    """Of a >= 0: whether it is below 1, the t of the polynomials, and 1/a."""
    below = o.lt(a, 1.0)
    return below, o.select(below, a, o.sub(a, 1.0)), o.div(1.0, a)
