"""What the elementary functions are written in: one graph's operations on one float format."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpusim.lanes.program.graph import Graph


class Format(NamedTuple):
    """An IEEE format, and what its bits mean when read as an integer of the same size."""

    word: str  # that integer type
    bits: int
    mantissa: int  # stored bits
    bias: int  # of the exponent
    tiny: float  # smallest normal number; smaller ones count as zero
    max: float

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.mantissa

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << self.bits - 1

    @property
    def exponent(self) -> int:
        """The bits of the exponent, which are those of infinity."""
        return self.sign - (1 << self.mantissa)


FORMATS = {
    "float": Format("i32", 32, 23, 127, 2.0**-126, float(np.finfo(np.float32).max)),
    "double": Format("i64", 64, 52, 1023, 2.0**-1022, float(np.finfo(np.float64).max)),
}


class Numbers:
    """Builds nodes of one floating-point type. An operand is a node (int) or a constant (float).

    A product that must be exact when it is added goes through `fma`: the code generator may fuse
    a multiplication with an addition, so a rounding of `mul` cannot be relied upon.
    """

    def __init__(self, g: Graph, type_: str):
        self.g, self.type, self.format = g, type_, FORMATS[type_]

    def __call__(self, x: int | float) -> int:
        """The node of an operand."""
        return self.g.const(self.type, x) if isinstance(x, float) else x

    def of(self, table: dict):
        """This format's entry of a table of coefficients."""
        return table[self.type]

    def add(self, a, b):
        return self.g.add(self(a), self(b))

    def sub(self, a, b):
        return self.g.sub(self(a), self(b))

    def mul(self, a, b):
        return self.g.mul(self(a), self(b))

    def div(self, a, b):
        return self.g.div(self(a), self(b))

    def fma(self, a, b, c):
        return self.g.fma(self(a), self(b), self(c))

    def neg(self, a):
        return self.g.neg(self(a))

    def abs(self, a):
        return self.g.unary("fabs", a, abs)

    def sqrt(self, a):
        return self.g.unary("sqrt", a, lambda v: v**0.5 if v >= 0 else np.nan)

    def lt(self, a, b):
        """a < b: false when one is NaN."""
        return self.g.compare("lt", self(a), self(b))

    def eq(self, a, b):
        return self.g.compare("eq", self(a), self(b))

    def select(self, c, a, b):
        return self.g.select(c, self(a), self(b))

    def at_most(self, x, limit: float):
        """min(x, limit); NaN stays. One instruction on x86, as the constant comes first."""
        return self.select(self.lt(limit, x), limit, x)

    def at_least(self, x, limit: float):
        """max(x, limit); NaN stays."""
        return self.select(self.g.compare("gt", self(limit), x), limit, x)

    def horner(self, x, coefficients):
        """c[0] + c[1] x + c[2] x^2 + ..., one fma a coefficient."""
        y = self(coefficients[-1])
        for c in coefficients[-2::-1]:
            y = self.fma(y, x, c)
        return y

    # -- the bits of a number ----------------------------------------------------------------------

    def integer(self, value: int):
        return self.g.const(self.format.word, value)

    def to_bits(self, x):
        return self.g.bitcast(self(x), self.format.word)

    def from_bits(self, n):
        return self.g.bitcast(n, self.type)

    def mask(self, n, mask: int):
        return self.g.bitop("and", n, self.integer(mask))

    def shift(self, op: str, n, count: int):
        return self.g.shift(op, n, self.integer(count))

    def flip_sign(self, x, n):
        """x, negated where the sign bit of the integer n is set."""
        sign = self.mask(n, self.format.sign)
        return self.from_bits(self.g.bitop("xor", self.to_bits(x), sign))

    def with_sign(self, size, x):
        """The number size >= 0 with the sign of x."""
        sign = self.mask(self.to_bits(x), self.format.sign)
        return self.from_bits(self.g.bitop("or", self.to_bits(size), sign))

    def round_by_adding(self, a, b, offset: int):
        """n = rint(a*b) as a number, and an integer whose low bits are those of n + offset.

        Adding 1.5 * 2^mantissa leaves no room for a fraction: one rounding, no conversion.
        """
        magic = 1.5 * 2.0**self.format.mantissa + offset
        shifted = self.fma(a, b, magic)
        return self.sub(shifted, magic), self.to_bits(shifted)


def elementary(exact: Callable[..., Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Makes f(o: Numbers, *nodes) a function of (graph, *nodes); constants give exact(*values)."""

    def decorate(f):
        @functools.wraps(f)
        def build(g: Graph, *nodes: int) -> int:
            type_ = g.type[nodes[0]]
            if all(n in g.value for n in nodes):
                with np.errstate(all="ignore"):
                    return g.const(type_, float(exact(*(np.float64(g.value[n]) for n in nodes))))
            return f(Numbers(g, type_), *nodes)

        return build

    return decorate
