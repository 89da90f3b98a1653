"""Numbers known when a program is compiled, with the results that the machine would give."""

import ctypes
import math

from gpusim.lanes.program.operations import BITS, FLOATS


def round_to(t: str, value):
    """The number of LLVM type t nearest to the value; integers wrap."""
    if t == "float":
        return ctypes.c_float(value).value
    if t == "double":
        return float(value)
    if t == "i1":
        return int(bool(value))
    return wrap(int(value), BITS[t])


def wrap(v: int, bits: int) -> int:
    """The two's complement value of v in so many bits."""
    v &= (1 << bits) - 1
    return v - (1 << bits) if v >> (bits - 1) else v


def divide(a: float, b: float) -> float:
    """a / b, by zero too."""
    if b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def convert(v, t: str, to: str, signed: bool):
    """v of type t as a number of another type, not yet rounded; out-of-range floats saturate."""
    if to == "i1" or (t in FLOATS and to in FLOATS):
        return v
    if t in FLOATS:
        low, high = (
            (-(1 << BITS[to] - 1), (1 << BITS[to] - 1) - 1) if signed else (0, (1 << BITS[to]) - 1)
        )
        return 0 if v != v else low if v <= low else high if v >= high else int(v)
    return v if signed or t == "i1" else v % (1 << BITS[t])


def to_bits(v, t: str) -> bytes:
    """The number as it is in memory."""
    if t == "float":
        return bytes(ctypes.c_float(v))
    if t == "double":
        return bytes(ctypes.c_double(v))
    return (v % (1 << BITS[t])).to_bytes(BITS[t] // 8, "little")


def from_bits(b: bytes, t: str):
    """The number that memory holds; integers unsigned."""
    if t == "float":
        return ctypes.c_float.from_buffer_copy(b).value
    if t == "double":
        return ctypes.c_double.from_buffer_copy(b).value
    return int.from_bytes(b, "little")
