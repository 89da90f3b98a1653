"""The operations of the scalar program: what each takes, what it gives, how LLVM writes it.

Whoever folds, checks or writes out operations reads them here.
"""

import functools
from typing import NamedTuple

FLOATS = ("float", "double")
INTEGERS = ("i8", "i16", "i32", "i64")
WORDS = ("i1", *INTEGERS)  # what bits can be combined in
BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64}
COMPARISONS = {
    "fcmp": ("oeq", "une", "olt", "ole", "ogt", "oge", "uno"),
    "icmp": ("eq", "ne", *(s + c for s in "su" for c in ("lt", "le", "gt", "ge"))),
}


class Operation(NamedTuple):
    """An operation on numbers of one type."""

    # how it is written: binary, unary, intrinsic, minmax, compare, cast, saturate or vote
    form: str
    takes: tuple[str, ...]  # types of an operand; all operands have the same one
    text: str  # LLVM's instruction or intrinsic
    operands: int = 2
    gives: tuple[str, ...] = ()  # types of the result; (): the operands' one
    commutes: bool = False
    flags: str = ""  # what LLVM may do beyond what is written


# The sign of zero is not kept, and a product may be fused with the sum it goes into.
_LOOSE = " nsz contract"

OPERATIONS = {
    "fadd": Operation("binary", FLOATS, "fadd", commutes=True, flags=_LOOSE),
    "fsub": Operation("binary", FLOATS, "fsub", flags=_LOOSE),
    "fmul": Operation("binary", FLOATS, "fmul", commutes=True, flags=_LOOSE),
    "fdiv": Operation("binary", FLOATS, "fdiv", flags=_LOOSE),
    "fneg": Operation("unary", FLOATS, "fneg", 1),
    "fma": Operation("intrinsic", FLOATS, "fma", 3),
    "fmin": Operation("minmax", FLOATS, "minimum", commutes=True),
    "fmax": Operation("minmax", FLOATS, "maximum", commutes=True),
    "sqrt": Operation("intrinsic", FLOATS, "sqrt", 1),
    "fabs": Operation("intrinsic", FLOATS, "fabs", 1),
    "floor": Operation("intrinsic", FLOATS, "floor", 1),
    "ceil": Operation("intrinsic", FLOATS, "ceil", 1),
    "trunc": Operation("intrinsic", FLOATS, "trunc", 1),
    "rint": Operation("intrinsic", FLOATS, "roundeven", 1),
    "add": Operation("binary", INTEGERS, "add", commutes=True),
    "sub": Operation("binary", INTEGERS, "sub"),
    "mul": Operation("binary", INTEGERS, "mul", commutes=True),
    "sdiv": Operation("binary", INTEGERS, "sdiv"),
    "udiv": Operation("binary", INTEGERS, "udiv"),
    "srem": Operation("binary", INTEGERS, "srem"),
    "urem": Operation("binary", INTEGERS, "urem"),
    "shl": Operation("binary", INTEGERS, "shl"),
    "lshr": Operation("binary", INTEGERS, "lshr"),
    "ashr": Operation("binary", INTEGERS, "ashr"),
    "and": Operation("binary", WORDS, "and", commutes=True),
    "or": Operation("binary", WORDS, "or", commutes=True),
    "xor": Operation("binary", WORDS, "xor", commutes=True),
    "ctpop": Operation("intrinsic", INTEGERS, "ctpop", 1),
    "ctlz": Operation("intrinsic", INTEGERS, "ctlz", 1, flags=", i1 false"),
    "fcmp": Operation("compare", FLOATS, "fcmp", gives=("i1",)),
    "icmp": Operation("compare", INTEGERS, "icmp", gives=("i1",)),
    "sitofp": Operation("cast", INTEGERS, "sitofp", 1, FLOATS),
    "uitofp": Operation("cast", INTEGERS, "uitofp", 1, FLOATS),
    "fpext": Operation("cast", ("float",), "fpext", 1, ("double",)),
    "fptrunc": Operation("cast", ("double",), "fptrunc", 1, ("float",)),
    "sext": Operation("cast", INTEGERS, "sext", 1, INTEGERS),
    "zext": Operation("cast", INTEGERS, "zext", 1, INTEGERS),
    "trunc_i": Operation("cast", INTEGERS, "trunc", 1, INTEGERS),
    "bitcast": Operation("cast", (*INTEGERS, *FLOATS), "bitcast", 1, (*INTEGERS, *FLOATS)),
    "fptosi": Operation("saturate", FLOATS, "fptosi", 1, INTEGERS),
    "fptoui": Operation("saturate", FLOATS, "fptoui", 1, INTEGERS),
    "any": Operation("vote", ("i1",), "", 1),  # the same in all lanes: whether one has it
}
COMMUTATIVE = frozenset(name for name, o in OPERATIONS.items() if o.commutes)
# What may be computed of another number than was asked for, as long as nobody sees it: nothing
# here traps, and none reads memory.
SPECULATIVE = frozenset(
    (
        "select",
        "fcmp",
        *(name for name, o in OPERATIONS.items() if o.takes == FLOATS and not o.gives),
    )
)


def array_type(t: str, size: int) -> str:
    """The type of an array of so many numbers, in LLVM's notation."""
    return f"[{size} x {t}]"


@functools.cache
def parts(t: str) -> tuple[int, str]:
    """Size and number type of an array type; of a number's type, 0 and itself."""
    if not t.startswith("["):
        return 0, t
    size, item = t[1:-1].split(" x ")
    return int(size), item
