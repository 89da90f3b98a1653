"""The error function, its complement and its inverse."""

import math

from gpusim.lanes.math.base import Numbers, elementary
from gpusim.lanes.math.exp import exp, log

# fmt: off
ERF = {  # erf(x)/x - 1 in x^2, |x| < 1/2: 2^-56.0
    "double": (0.12837916709551256, -0.37612638903183465, 0.11283791670924813,
               -0.026866170632715777, 0.005223977370325936, -0.0008548297524326206,
               0.00012053324308066446, -1.4845583529414068e-05, 1.4723212464311276e-06),
}
# erf(x)/x in x^2, |x| < 3.925; the fraction then grows, and is over 1 at ERF_ONE: 2^-25.2
ERF_ONE = 4.07
ERF_P = (1.8512471, 0.31178933, 0.08645848, 0.0061511435, 0.00046654855, 3.3650133e-06)
ERF_Q = (1.640625, 0.82319045, 0.1869603, 0.02450581, 0.0019003222, 6.2466854e-05)
ERFC_MIDDLE = {"float": 3.0, "double": 3.75}
ERFC_ZERO = {"float": 10.0, "double": 28.0}  # beyond, erfc is 0
ERFC = {  # (a + k) exp(a^2) erfc(a) in (a - k)/(a + k), k = ERFC_MIDDLE, 0 <= a <= ERFC_ZERO
    "float": (1.0740069, -0.88339454, 0.5902277, -0.3104647, 0.11953647, -0.02684577,
              -0.0012587847, 0.003078916, -0.00043641852, -0.00029796534),  # 2^-26.6
    "double": (1.0919229095627891, -0.9587415766529095, 0.7363189252217203, -0.4904702912076742,
               0.27906204903535603, -0.131955401178773, 0.049118778584692734,
               -0.012535880039696938, 0.0009863383836525258, 0.0007948231302705067,
               -0.0003486486071240797, 1.0593537158986111e-05, 3.747793294948634e-05,
               -8.901356810931323e-06, -3.303246327879836e-06, 1.6481919288173916e-06,
               2.984206371469843e-07, -2.502242859162147e-07, -4.0597504250507775e-08,
               2.769309961992303e-08, 7.173538162399624e-09, -2.7928235029626708e-11),  # 2^-53.2
}
# erf_inv(x)/x in w - c or sqrt(w) - c, w = -log(1 - x^2). M. Giles, Approximating the erfinv
# function, GPU Computing Gems 2 (2012); XLA has the same, and with it jax.random.normal.
ERF_INV = {  # below this w: c, coefficients
    "float": (
        (5.0, 2.5, (1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087,
                    -4.39150654e-06, -3.5233877e-06, 3.43273939e-07, 2.81022636e-08)),
        (math.inf, 3.0, (2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773,
                         -0.00367342844, 0.00134934322, 0.000100950558, -0.000200214257)),
    ),
    "double": (
        (6.25, 3.125, (1.6536545626831027356, 0.24015818242558961693, -0.0060336708714301490533,
                       -0.00074070253416626697512, 0.0001867342080340571352,
                       -1.3882523362786468719e-05, -1.3654692000834678645e-06,
                       4.2347877827932403518e-07, -2.9070369957882005086e-08,
                       -4.1126339803469836976e-09, 1.051212273321532285e-09,
                       -5.4154120542946279317e-11, -1.2975133253453532498e-11,
                       2.6335093153082322977e-12, -8.1519341976054721522e-14,
                       -4.0545662729752068639e-14, 6.6376381343583238325e-15,
                       2.0972767875968561637e-17, -1.333171662854620906e-16,
                       1.115787767802518096e-17, 1.2858480715256400167e-18,
                       -1.685059138182016589e-19, -3.6444120640178196996e-21)),
        (16.0, 3.25, (3.0838856104922207635, 1.0052589676941592334, 0.005370914553590063617,
                      -0.0037512085075692412107, 0.0024914420961078508066,
                      -0.0016882755560235047313, 0.00095328937973738049703,
                      -0.0003550375203628474796, 2.4031110387097893999e-05,
                      6.8284851459573175448e-05, -4.7318229009055733981e-05,
                      1.2475304481671778723e-05, 2.9234449089955446044e-06,
                      -4.013867526981545969e-06, 1.5027403968909827627e-06,
                      1.8239629214389227755e-08, -2.7517406297064545428e-07,
                      9.0756561938885390979e-08, 2.2137376921775787049e-09)),
        (math.inf, 5.0, (4.8499064014085844221, 1.0103004648645343977, -0.00013871931833623122026,
                         -0.00021503011930044477347, 7.5995277030017761139e-05,
                         -1.9681778105531670567e-05, 4.5260625972231537039e-06,
                         -9.9298272942317002539e-07, 2.2900482228026654717e-07,
                         -6.7711997758452339498e-08, 2.9147953450901080826e-08,
                         -1.4960026627149240478e-08, 7.6157012080783393804e-09,
                         -3.7894654401267369937e-09, 1.5076572693500548083e-09,
                         -2.5556418169965252055e-10, -2.7109920616438573243e-11)),
    ),
}
# fmt: on


@elementary(math.erf)
def erf(o: Numbers, x):
    if o.type == "float":
        x = o.at_least(o.at_most(x, ERF_ONE), -ERF_ONE)
        z = o.mul(x, x)
        y = o.div(o.mul(x, o.horner(z, ERF_P)), o.horner(z, ERF_Q))
        return o.at_least(o.at_most(y, 1.0), -1.0)
    a = o.abs(x)
    near = o.fma(o.horner(o.mul(x, x), o.of(ERF)), x, x)
    far = o.with_sign(o.sub(1.0, _erfc(o, a)), x)
    return o.select(o.lt(a, 0.5), near, far)


@elementary(math.erfc)
def erfc(o: Numbers, x):
    y = _erfc(o, o.abs(x))
    return o.select(o.lt(x, 0.0), o.sub(2.0, y), y)


def _erfc(o, a):
    """erfc(a) for a >= 0, also far out to full relative precision."""
    a = o.at_most(a, o.of(ERFC_ZERO))
    middle = o.of(ERFC_MIDDLE)
    u = o.div(1.0, o.add(a, middle))
    t = o.fma(u, -2 * middle, 1.0)  # (a - middle)*u, to which what is missing is added
    missing = o.fma(o.neg(t), a, o.fma(o.add(t, 1.0), -middle, a))
    scaled = o.mul(o.horner(o.fma(missing, u, t), o.of(ERFC)), u)
    # exp(-a^2): what rounding the square loses is made good to first order
    square = o.mul(a, a)
    lost = o.fma(a, a, o.neg(square))
    decay = exp(o.g, o.neg(square))
    return o.mul(o.fma(o.neg(decay), lost, decay), scaled)


def _erf_inv_of_constant(x):
    """Newton's method on erf, or on erfc near its ends."""
    size = abs(x)
    if not size < 1:
        return math.copysign(math.inf, x) if size == 1 else math.nan
    y = 0.0
    for _ in range(60):
        error = math.erf(y) - size if size < 0.5 else (1 - size) - math.erfc(y)
        y -= error * math.sqrt(math.pi) / 2 * math.exp(y * y)
    return math.copysign(y, x)


@elementary(_erf_inv_of_constant)
def erf_inv(o: Numbers, x):
    # XLA rounds x*x too: near |x| = 1 that costs 60 roundings, but random numbers agree with it
    w = o.neg(log(o.g, o.fma(o.mul(x, x), -1.0, 1.0)))
    root, pieces = o.sqrt(w), o.of(ERF_INV)
    values = [o.horner(o.sub(root if k else w, c), p) for k, (_, c, p) in enumerate(pieces)]
    ratio = values[-1]
    for (below, _, _), value in zip(pieces[-2::-1], values[-2::-1], strict=True):
        ratio = o.select(o.lt(w, below), value, ratio)
    return o.mul(x, o.select(o.eq(w, math.inf), math.inf, ratio))
