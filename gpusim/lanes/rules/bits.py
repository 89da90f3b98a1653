"""Rules for the bits of numbers, and for conversions between types."""

import numpy as np

from gpusim.lanes import math as lane_math
from gpusim.lanes.program.constants import BITS
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.rules.arith import define, dtype_of
from gpusim.lanes.scalarize import elementwise, is_float, is_signed, rule

define("not", Graph.invert)
for name in ("and", "or", "xor"):
    define(name, lambda g, a, b, op=name: g.bitop(op, a, b))
for name, op in (
    ("shift_left", "shl"),
    ("shift_right_logical", "lshr"),
    ("shift_right_arithmetic", "ashr"),
):
    define(name, lambda g, a, b, op=op: g.shift(op, a, b))


@rule("population_count", "clz")
def _count_bits(s, eqn, x):
    op = {"population_count": "ctpop", "clz": "ctlz"}[eqn.primitive.name]
    return [elementwise(lambda a: s.g.node(op, s.g.type[a], a), x)]


@rule("mulhi")
def _mulhi(s, eqn, x, y):
    signed = is_signed(dtype_of(eqn))
    return [elementwise(lambda a, b: _high_product(s.g, a, b, signed), x, y)]


def _high_product(g: Graph, a, b, signed):
    """The upper half of the product of two integers."""
    t = g.type[a]
    bits = BITS[t]
    if bits < 64:
        product = g.mul(g.convert(a, "i64", signed), g.convert(b, "i64", signed))
        return g.convert(g.shift("lshr", product, g.const("i64", bits)), t)
    half, low = g.const(t, 32), g.const(t, 0xFFFFFFFF)
    upper = lambda x: g.shift("lshr", x, half)
    lower = lambda x: g.bitop("and", x, low)
    first, second = g.mul(upper(a), lower(b)), g.mul(lower(a), upper(b))
    carry = g.add(g.add(lower(first), lower(second)), upper(g.mul(lower(a), lower(b))))
    high = g.add(g.mul(upper(a), upper(b)), g.add(upper(first), upper(second)))
    high = g.add(high, upper(carry))
    if not signed:
        return high
    # read as unsigned, a negative number is 2^64 too large
    zero = g.const(t, 0)
    for x, y in ((a, b), (b, a)):
        high = g.sub(high, g.select(g.compare("lt", x, zero), y, zero))
    return high


# -- conversions -----------------------------------------------------------------------------------


@rule("convert_element_type")
def _convert(s, eqn, x):
    g, old, new = s.g, dtype_of(eqn), eqn.params["new_dtype"]
    t = s.lane_type(new)
    # which side is the integer decides how its sign bit reads; between integers it is the source
    signed = is_signed(new) if is_float(old) else is_signed(old)
    return [elementwise(lambda a: g.convert(a, t, signed), x)]


@rule("reduce_precision")
def _reduce_precision(s, eqn, x):
    exponent, mantissa = eqn.params["exponent_bits"], eqn.params["mantissa_bits"]
    return [elementwise(lambda a: lane_math.reduce_precision(s.g, a, exponent, mantissa), x)]


@rule("bitcast_convert_type")
def _bitcast(s, eqn, x):
    """The same bits as another type; of another size there is one more dimension, or one less, the
    lowest bits first.
    """
    old, new = dtype_of(eqn), eqn.params["new_dtype"]
    bits = _as_type(s.g, s.to_memory(x, old), s.number_type(old), s.number_type(new))
    return [s.from_memory(bits, new)]


def _as_type(g: Graph, x: np.ndarray, old: str, t: str) -> np.ndarray:
    if BITS[t] == BITS[old]:
        return elementwise(lambda a: g.bitcast(a, t), x)
    if BITS[t] < BITS[old]:
        word, part = f"i{BITS[old]}", f"i{BITS[t]}"

        def piece(a, k):
            shifted = g.shift("lshr", g.bitcast(a, word), g.const(word, k * BITS[t]))
            return g.bitcast(g.convert(shifted, part), t)

        pieces = [elementwise(lambda a, k=k: piece(a, k), x) for k in range(BITS[old] // BITS[t])]
        return np.stack(pieces, -1)
    word, part = f"i{BITS[t]}", f"i{BITS[old]}"

    def whole(*parts):
        out = g.const(word, 0)
        for k, a in enumerate(parts):
            wide = g.convert(g.bitcast(a, part), word, signed=False)
            out = g.bitop("or", out, g.shift("shl", wide, g.const(word, k * BITS[old])))
        return g.bitcast(out, t)

    return elementwise(whole, *np.moveaxis(x, -1, 0))
