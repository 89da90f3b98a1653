"""Numbers of 16 bits: they are computed as float32 and rounded after every operation; memory has
their bits. Formats: bfloat16, and IEEE's float16, of which the small numbers without a leading one
count as others do.
"""

import numpy as np

from gpusim.lanes.math import reduce_precision
from gpusim.lanes.math.base import Numbers
from gpusim.lanes.program.graph import Graph

HALVES = ("bfloat16", "float16")
_STEP = 2.0**-24  # between the smallest numbers of float16
_NORMAL = 2.0**-14  # where its steps begin to grow
_BIAS = 127 - 15  # what float32 adds to the exponent beyond float16


def rounded(g: Graph, x: int, dtype: str) -> int:
    """The nearest number of the format, to even."""
    if dtype == "bfloat16":
        return reduce_precision(g, x, 8, 7)
    o = Numbers(g, "float")
    near = reduce_precision(g, x, 5, 10)
    size = o.abs(x)
    count = g.unary("rint", o.mul(size, 1 / _STEP), np.rint)
    return o.select(o.lt(size, _NORMAL), o.with_sign(o.mul(count, _STEP), x), near)


def from_bits(g: Graph, word: int, dtype: str) -> int:
    """The number of an i16."""
    o = Numbers(g, "float")
    bits = g.convert(word, "i32", signed=False)
    if dtype == "bfloat16":
        return o.from_bits(o.shift("shl", bits, 16))
    fraction, exponent = o.mask(bits, 0x3FF), o.mask(bits, 0x7C00)
    shifted = o.shift("shl", o.mask(bits, 0x7FFF), 13)
    whole = g.add(shifted, o.integer(_BIAS << 23))
    infinite = g.bitop("or", shifted, o.integer(o.format.exponent))  # or NaN
    size = g.select(g.compare("eq", exponent, o.integer(0x7C00)), infinite, whole)
    small = o.mul(g.convert(fraction, "float", signed=False), _STEP)
    size = g.select(g.compare("eq", exponent, o.integer(0)), o.to_bits(small), size)
    sign = o.shift("shl", o.mask(bits, 0x8000), 16)
    return o.from_bits(g.bitop("or", size, sign))


def to_bits(g: Graph, x: int, dtype: str) -> int:
    """The i16 of a number of the format."""
    o = Numbers(g, "float")
    bits, nan = o.to_bits(x), g.compare("ne", x, x)
    if dtype == "bfloat16":
        word = g.select(nan, o.integer(0x7FC0), o.shift("lshr", bits, 16))
        return g.convert(word, "i16")
    size = o.abs(x)
    word = g.sub(o.shift("lshr", o.to_bits(size), 13), o.integer(_BIAS << 10))
    small = g.convert(o.mul(size, 1 / _STEP), "i32", signed=False)
    word = g.select(o.lt(size, _NORMAL), small, word)
    word = g.select(o.eq(size, float("inf")), o.integer(0x7C00), word)
    word = g.select(nan, o.integer(0x7E00), word)
    sign = o.mask(o.shift("lshr", bits, 16), 0x8000)
    return g.convert(g.bitop("or", word, sign), "i16")
