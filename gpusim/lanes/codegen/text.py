"""The text of a function in LLVM IR: lines, names, types, literals, addresses."""

import struct
from collections.abc import Iterable

from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.operations import BITS, FLOATS


class Writer:
    """Collects the lines of one function, in which a number is a vector of `width` lanes, or at
    width 1 a scalar.

    `varying` are the nodes that differ between lanes (at width 1: all of them); the others are
    scalars at any width.
    """

    start_block = "entry"  # where the nodes of the root region begin

    def __init__(self, g: Graph, varying: bytearray, width: int):
        self.g, self.varying, self.width = g, varying, width
        self.vectors = {t: t if width == 1 else f"<{width} x {t}>" for t in BITS}
        self.lines: list[str] = []
        self.entry: list[str] = []  # allocas, buffer pointers: must come first
        self.declared: dict[str, str] = {}
        self.pointers: set[tuple[str, int]] = set()  # those in `entry` already
        self.block = self.start_block
        self.count = 0

    def vector(self, t: str) -> str:
        return self.vectors[t]

    def is_wide(self, n: int) -> bool:
        return bool(self.varying[n])

    def typed(self, n: int) -> str:
        t = self.g.type[n]
        return self.vector(t) if self.varying[n] else t

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"%{prefix}{self.count}"

    def put(self, text: str) -> str:
        self.count += 1
        name = f"%t{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def suffix(self, t: str) -> str:
        """Of the name of an intrinsic for this type."""
        name = t if not t.startswith("<") else "v" + t[1:-1].replace(" x ", "")
        return name.replace("float", "f32").replace("double", "f64")

    def call(self, intrinsic: str, t: str, operands: Iterable[str], extra="") -> str:
        """Calls an intrinsic whose operands and result all have type t."""
        operands = list(operands)
        name = f"@llvm.{intrinsic}.{self.suffix(t)}"
        extra_types = ", i1" if extra else ""
        self.declared[name] = f"declare {t} {name}({', '.join([t] * len(operands))}{extra_types})"
        return f"call {t} {name}({', '.join(f'{t} {o}' for o in operands)}{extra})"

    def splat(self, t: str, name: str, line: int | None = None) -> str:
        """A scalar as a vector, made here or in a line that was left free for it."""
        v, one, vector = self.vector(t), self.fresh("t"), self.fresh("t")
        first = f"<{self.width} x i32> zeroinitializer"
        text = (
            f"  {one} = insertelement {v} poison, {t} {name}, i64 0\n"
            f"  {vector} = shufflevector {v} {one}, {v} poison, {first}"
        )
        if line is None:
            self.lines.append(text)
        else:
            self.lines[line] = text
        return vector

    def label(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def start(self, label: str):
        self.lines.append(f"{label}:")
        self.block = label


def size_of(t: str) -> int:
    return {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}[t]


def literal(t: str, value) -> str:
    if t in FLOATS:
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if t == "i1":
        return "true" if value else "false"
    return str(value)
