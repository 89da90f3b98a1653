"""The scalar program: a hash-consed graph of numbers, with loops as nested regions.

A node is one number of one world (one lane). It has an LLVM type (`float`, `double`, `i1`, `i8`,
`i16`, `i32`, `i64`; signedness belongs to the operation), an opcode and operands. Building a node
folds constants and drops work that cannot matter, and two equal expressions are one node, so
structural zeros of a model cost nothing.

Folding treats numbers as real numbers in three places: x*0 is 0 (also for a non-finite x), the sign
of zero is not kept, and division by a constant is multiplication by its reciprocal (one more
rounding).

Every node lives in the innermost region that one of its operands lives in; what does not depend on
a loop is therefore outside it, without a pass that moves it there.
"""

import ctypes
import math
from dataclasses import dataclass, field
from typing import Any

FLOATS = ("float", "double")
BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64}
COMMUTATIVE = {"fadd", "fmul", "add", "mul", "and", "or", "xor", "fmin", "fmax"}


@dataclass
class Region:
    """Code that runs a number of times: the kernel's body (once), a loop, or a branch some lanes
    want.
    """

    # "root"; "for": a fixed number of trips; "while": until no lane wants more; "if": once, when a
    # lane wants it
    kind: str
    depth: int
    trips: int = 0  # of a "for"
    nodes: list[int] = field(
        default_factory=list
    )  # in the order they were built; loops of the region among them
    params: list[int] = field(
        default_factory=list
    )  # loops: carried values at the start of a trip; "if": what it reads
    inits: list[int] = field(
        default_factory=list
    )  # loops: their values before the first trip; "if": the same, outside
    outs: list[int] = field(
        default_factory=list
    )  # loops: their values after a trip; "if": the results
    stacked: list[int] = field(
        default_factory=list
    )  # inside nodes kept for every trip (the ys of a scan)
    counter: int = -1  # node holding the number of the trip, in a "for"
    cond: int = (
        -1
    )  # "while": lanes that want this trip (inside node); "if": lanes that want it (outside node)
    node: int = -1  # the node of the loop in its parent, once closed
    parent: "Region | None" = None


class Graph:
    """Nodes are integers; `op[n]`, `type[n]`, `args[n]`, `attr[n]`, `region[n]` describe node n."""

    def __init__(self):
        self.op: list[str] = []
        self.type: list[str] = []
        self.args: list[tuple[int, ...]] = []
        self.attr: list = []
        self.region: list[Region] = []
        self.root = Region("root", 0)
        self.memo: dict = {}
        self.value: dict[int, Any] = {}  # of constant nodes
        self.zero: set[int] = set()  # constant nodes equal to zero

    # -- nodes -------------------------------------------------------------------------------------

    def new(self, op, type_, args=(), attr=None, region=None) -> int:
        n = len(self.op)
        self.op.append(op)
        self.type.append(type_)
        self.args.append(args)
        self.attr.append(attr)
        self.region.append(region or self.root)
        return n

    def node(self, op: str, type_: str, *args: int, attr=None) -> int:
        """The node `op(args)`, made if it does not exist."""
        if op in COMMUTATIVE and args[0] > args[1]:
            args = (args[1], args[0])
        key = (op, type_, args, attr)
        n = self.memo.get(key)
        if n is None:
            where, region = self.root, self.region
            for a in args:
                r = region[a]
                if r is not where and r.depth > where.depth:
                    where = r
            n = self.memo[key] = len(self.op)
            self.op.append(op)  # as `new` does, whose call is a tenth of the time to build a graph
            self.type.append(type_)
            self.args.append(args)
            self.attr.append(attr)
            region.append(where)
            where.nodes.append(n)
        return n

    def const(self, type_: str, value) -> int:
        """The constant `value`, rounded or wrapped to the type."""
        # as it was asked for; -0.0 and 0.0 are equal keys, NaN equals nothing
        asked = ("asked", type_, value if value else repr(value))
        n = self.memo.get(asked)
        if n is None:
            n = self.memo[asked] = self._const(type_, value)
        return n

    def _const(self, type_: str, value) -> int:
        if type_ == "float":
            value = ctypes.c_float(value).value
        elif type_ == "double":
            value = float(value)
        elif type_ == "i1":
            value = int(bool(value))
        else:
            value = wrap(int(value), BITS[type_])
        if type_ in FLOATS:
            # repr tells -0.0 from 0.0 and keeps NaN equal to itself
            key = ("const", type_, repr(value))
        else:
            key = ("const", type_, value)
        n = self.memo.get(key)
        if n is None:
            n = self.memo[key] = self.new("const", type_, (), value)
            self.value[n] = value
            if value == 0:
                self.zero.add(n)
        return n

    def input(self, type_: str, buffer: int, element: int, uniform: bool) -> int:
        """Number `element` of input buffer `buffer`; uniform when all lanes read the same one."""
        return self.node("input", type_, attr=(buffer, element, uniform))

    # -- arithmetic --------------------------------------------------------------------------------

    def add(self, a, b):
        t = self.type[a]
        if a in self.zero:
            return b
        if b in self.zero:
            return a
        if t not in FLOATS:
            return self._int("add", t, a, b, lambda x, y: x + y)
        if a in self.value and b in self.value:
            return self.const(t, self.value[a] + self.value[b])
        if self.op[b] == "fneg":
            return self.sub(a, self.args[b][0])
        if self.op[a] == "fneg":
            return self.sub(b, self.args[a][0])
        return self.node("fadd", t, a, b)

    def sub(self, a, b):
        t = self.type[a]
        if b in self.zero:
            return a
        if t not in FLOATS:
            return self._int("sub", t, a, b, lambda x, y: x - y)
        if a in self.value and b in self.value:
            return self.const(t, self.value[a] - self.value[b])
        if a in self.zero:
            return self.neg(b)
        if self.op[b] == "fneg":
            return self.add(a, self.args[b][0])
        return self.node("fsub", t, a, b)

    def mul(self, a, b):
        t = self.type[a]
        if a in self.zero:
            return a
        if b in self.zero:
            return b
        va, vb = self.value.get(a), self.value.get(b)
        if va == 1:
            return b
        if vb == 1:
            return a
        if t not in FLOATS:
            return self._int("mul", t, a, b, lambda x, y: x * y)
        if va is not None and vb is not None:
            return self.const(t, va * vb)
        if va == -1:
            return self.neg(b)
        if vb == -1:
            return self.neg(a)
        # a sign is moved outwards, where it meets an addition and vanishes
        if self.op[a] == "fneg":
            return self.neg(self.mul(self.args[a][0], b))
        if self.op[b] == "fneg":
            return self.neg(self.mul(a, self.args[b][0]))
        return self.node("fmul", t, a, b)

    def div(self, a, b):
        """Floating-point division."""
        t = self.type[a]
        va, vb = self.value.get(a), self.value.get(b)
        if va is not None and vb is not None:
            return self.const(t, fdiv(va, vb))
        if a in self.zero:
            return a
        if vb is not None and vb != 0 and math.isfinite(vb):
            r = ctypes.c_float(1 / vb).value if t == "float" else 1 / vb
            if math.isfinite(r) and abs(r) > (1e-37 if t == "float" else 1e-300):
                return self.mul(a, self.const(t, r))
        return self.node("fdiv", t, a, b)

    def neg(self, a):
        t = self.type[a]
        if t not in FLOATS:
            return self.sub(self.const(t, 0), a)
        if a in self.value:
            return self.const(t, -self.value[a])
        if self.op[a] == "fneg":
            return self.args[a][0]
        return self.node("fneg", t, a)

    def minmax(self, op, a, b, signed=True):
        """`op` is "min" or "max"; NaN wins, as in lax.max."""
        t = self.type[a]
        if a == b:
            return a
        pick = min if op == "min" else max
        va, vb = self.value.get(a), self.value.get(b)
        if t in FLOATS:
            if va is not None and vb is not None:
                return self.const(t, math.nan if va != va or vb != vb else pick(va, vb))
            return self.node("f" + op, t, a, b)
        return self.select(self.compare("lt" if op == "min" else "gt", a, b, signed), a, b)

    def _int(self, op, t, a, b, fold):
        if a in self.value and b in self.value:
            return self.const(t, fold(self.value[a], self.value[b]))
        return self.node(op, t, a, b)

    def bitop(self, op, a, b):
        """`and`, `or`, `xor` on integers and masks."""
        t = self.type[a]
        va, vb = self.value.get(a), self.value.get(b)
        if va is not None and vb is not None:
            return self.const(t, {"and": va & vb, "or": va | vb, "xor": va ^ vb}[op])
        if a == b and op != "xor":
            return a
        ones = 1 if t == "i1" else -1
        for x, vy, y in ((a, vb, b), (b, va, a)):
            if vy is None:
                continue
            if vy == 0:
                return y if op == "and" else x
            if vy == ones and op != "xor":
                return x if op == "and" else y
        return self.node(op, t, a, b)

    def invert(self, a):
        return self.bitop("xor", a, self.const(self.type[a], -1))

    def shift(self, op, a, b):
        """`shl`, `lshr`, `ashr`; a shift by the width or more gives zeros (or the sign)."""
        t = self.type[a]
        bits = BITS[t]
        if b in self.value:
            s = self.value[b] % (1 << bits)
            if s == 0:
                return a
            if s >= bits:
                return (
                    self.shift(op, a, self.const(t, bits - 1)) if op == "ashr" else self.const(t, 0)
                )
            if a in self.value:
                v = self.value[a]
                u = v % (1 << bits)
                return self.const(t, {"shl": u << s, "lshr": u >> s, "ashr": v >> s}[op])
            return self.node(op, t, a, b)
        inside = self.compare("lt", b, self.const(t, bits), signed=False)
        safe = self.node(op, t, a, self.select(inside, b, self.const(t, bits - 1)))
        return safe if op == "ashr" else self.select(inside, safe, self.const(t, 0))

    # -- choice ------------------------------------------------------------------------------------

    def compare(self, op, a, b, signed=True):
        """`op` is one of lt le gt ge eq ne; every comparison with NaN but `ne` is false."""
        t = self.type[a]
        va, vb = self.value.get(a), self.value.get(b)
        if va is not None and vb is not None:
            if not signed:
                va, vb = va % (1 << BITS[t]), vb % (1 << BITS[t])
            result = {
                "lt": va < vb,
                "le": va <= vb,
                "gt": va > vb,
                "ge": va >= vb,
                "eq": va == vb,
                "ne": va != vb,
            }[op]
            return self.const("i1", result)
        if t in FLOATS:
            return self.node("fcmp", "i1", a, b, attr="une" if op == "ne" else "o" + op)
        if t == "i1" and op in ("eq", "ne"):
            x = self.bitop("xor", a, b)
            return x if op == "ne" else self.invert(x)
        if a == b:
            return self.const("i1", op in ("le", "ge", "eq"))
        return self.node(
            "icmp", "i1", a, b, attr=op if op in ("eq", "ne") else ("s" if signed else "u") + op
        )

    def select(self, c, a, b):
        """`a` where c, else `b`."""
        if c in self.value:
            return a if self.value[c] else b
        if a == b:
            return a
        t = self.type[a]
        if t == "key":
            return self.node(
                "key",
                "key",
                *(self.select(c, x, y) for x, y in zip(self.args[a], self.args[b], strict=True)),
            )
        if t == "i1":
            if a in self.value:
                return (
                    self.bitop("or", c, b)
                    if self.value[a]
                    else self.bitop("and", self.invert(c), b)
                )
            if b in self.value:
                return (
                    self.bitop("or", self.invert(c), a)
                    if self.value[b]
                    else self.bitop("and", c, a)
                )
        return self.node("select", t, c, a, b)

    # -- unary, conversions ------------------------------------------------------------------------

    def unary(self, op, a, fold=None):
        """An LLVM unary float operation (`sqrt`, `fabs`, `floor`, `ceil`, `trunc`, `rint`), folded
        by `fold`.
        """
        t = self.type[a]
        if a in self.value and fold is not None:
            return self.const(t, fold(self.value[a]))
        return self.node(op, t, a)

    def fma(self, a, b, c):
        """a*b + c with one rounding: for polynomials and argument reduction, where it is exactness
        and not only speed.
        """
        if (
            a in self.zero
            or b in self.zero
            or c in self.zero
            or self.value.get(a) == 1
            or self.value.get(b) == 1
        ):
            return self.add(self.mul(a, b), c)
        return self.node("fma", self.type[a], a, b, c)

    def convert(self, a, to, signed=True):
        """Value conversion between types; `signed` says how the integer side reads. Out-of-range
        floats saturate.
        """
        t = self.type[a]
        if t == to:
            return a
        if a in self.value:
            return self.const(to, _convert_constant(self.value[a], t, to, signed))
        if to == "i1":
            return self.compare("ne", a, self.const(t, 0))
        if t in FLOATS:
            if to in FLOATS:
                return self.node("fpext" if to == "double" else "fptrunc", to, a)
            return self.node("fptosi" if signed else "fptoui", to, a)
        if to in FLOATS:
            return self.node("sitofp" if signed and t != "i1" else "uitofp", to, a)
        if BITS[to] < BITS[t]:
            return self.node("trunc_i", to, a)
        return self.node("sext" if signed and t != "i1" else "zext", to, a)

    def bitcast(self, a, to):
        t = self.type[a]
        if t == to:
            return a
        if a in self.value:
            return self.const(to, _bits_to_value(_value_to_bits(self.value[a], t), to))
        if self.op[a] == "bitcast":
            return self.bitcast(self.args[a][0], to)
        return self.node("bitcast", to, a)

    # -- arrays in memory --------------------------------------------------------------------------

    def element(self, items: list[int], index: int) -> int:
        """items[index] for an index known only at run time, which must be inside the range (the
        caller clamps).
        """
        if index in self.value:
            return items[self.value[index]]
        if all(i == items[0] for i in items):
            return items[0]
        if self.type[items[0]] == "key":
            halves = zip(*(self.args[i] for i in items), strict=True)
            return self.node("key", "key", *(self.element(list(h), index) for h in halves))
        t = self.type[items[0]]
        if t == "i1":  # masks are kept in memory as bytes
            return self.convert(self.element([self.convert(i, "i8") for i in items], index), "i1")
        return self.node("element", t, self.pack(items), index)

    def pack(self, items: list[int], reread: bool = False) -> int:
        """The array of these numbers, for nodes `element` to read; `reread` if each will be read
        often, so that it should be near.
        """
        return self.node("pack", self.type[items[0]], *map(self._outside, items), attr=reread)

    def _outside(self, n: int) -> int:
        """What a parameter of a branch stands for: an array made outside is not copied within."""
        while self.op[n] == "param" and self.attr[n][0].kind == "if":
            r, k = self.attr[n]
            n = r.inits[k]
        return n

    # -- regions -----------------------------------------------------------------------------------

    def open(self, kind: str, parent: Region, types, inits, trips=0) -> Region:
        r = Region(kind, parent.depth + 1, trips, inits=list(inits), parent=parent)
        r.params = [self.new("param", t, (), (r, k), r) for k, t in enumerate(types)]
        if kind == "for":
            r.counter = self.new("counter", "i32", (), r, r)
        return r

    def close(self, r: Region) -> list[int]:
        """Ends a region; its carried values or results as seen from outside. A branch nobody wanted
        has unspecified ones.

        The result nodes follow the node of the loop: result k of loop n is node n + 1 + k.
        """
        assert r.parent is not None
        loop = r.node = self.new("loop", "void", (), r, r.parent)
        r.parent.nodes.append(loop)
        return [
            self.new("result", self.type[n], (loop,), k, r.parent) for k, n in enumerate(r.outs)
        ]


def wrap(v: int, bits: int) -> int:
    """The two's complement value of v in so many bits."""
    v &= (1 << bits) - 1
    return v - (1 << bits) if v >> (bits - 1) else v


def fdiv(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _convert_constant(v, t, to, signed):
    if to == "i1" or (t in FLOATS and to in FLOATS):
        return v
    if t in FLOATS:
        low, high = (
            (-(1 << BITS[to] - 1), (1 << BITS[to] - 1) - 1) if signed else (0, (1 << BITS[to]) - 1)
        )
        return 0 if v != v else low if v <= low else high if v >= high else int(v)
    return v if signed or t == "i1" else v % (1 << BITS[t])


def _value_to_bits(v, t) -> bytes:
    if t == "float":
        return bytes(ctypes.c_float(v))
    if t == "double":
        return bytes(ctypes.c_double(v))
    return (v % (1 << BITS[t])).to_bytes(BITS[t] // 8, "little")


def _bits_to_value(b: bytes, t):
    if t == "float":
        return ctypes.c_float.from_buffer_copy(b).value
    if t == "double":
        return ctypes.c_double.from_buffer_copy(b).value
    return int.from_bytes(b, "little")
