"""The scalar program as data: nodes, each there once, in regions that are loops and branches.

A node is one number of one world (one lane), or an array of numbers that is kept in memory. It has
a type (`float`, `double`, `i1`, `i8`, `i16`, `i32`, `i64`, an array of these such as `[9 x float]`;
signedness belongs to the operation), an opcode and operands. Two equal expressions are one node.
Every node lives in the innermost region that one of its operands lives in; what does not depend on
a loop is therefore outside it, without a pass that moves it there.

Arrays are values like numbers: `store` gives a new array and leaves the old one as it was. Whether
the new one takes the memory of the old one is decided when the program is written out.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gpusim.lanes.program import constants
from gpusim.lanes.program.operations import COMMUTATIVE, array_type, parts

FOLDED = {"fneg", "select"}  # with which, and with constants, arithmetic is folded


@dataclass(eq=False)
class Region:
    """Code that runs a number of times: the kernel's body (once), a loop, or a branch some lanes
    want.
    """

    # "root"; "for": a fixed number of trips; "while": until no lane wants more; "if": once, when a
    # lane wants it
    kind: str
    depth: int
    trips: int = 0  # of a "for"
    # in the order they were built; loops of the region among them
    nodes: list[int] = field(default_factory=list)
    # loops: carried values at the start of a trip; "if": what it reads
    params: list[int] = field(default_factory=list)
    # loops: their values before the first trip; "if": the same, outside
    inits: list[int] = field(default_factory=list)
    # loops: their values after a trip; "if": the results
    outs: list[int] = field(default_factory=list)
    # "if": the results of lanes that do not want it, outside
    otherwise: list[int] = field(default_factory=list)
    counter: int = -1  # node holding the number of the trip, in a "for"
    # "while": lanes that want this trip (inside node); "if": lanes that want it (outside node)
    cond: int = -1
    node: int = -1  # the node of the loop in its parent, once closed
    parent: "Region | None" = None


class TooLarge(Exception):
    """A program needs more than it may have; the message says of what, and what to do."""


SMALLER = (
    "keep its loops rolled (lanes.fori_loop) and its arrays small, or raise GPUSIM_LANES_BUDGET"
)


class Nodes:
    """Nodes are integers; `op[n]`, `type[n]`, `args[n]`, `attr[n]`, `region[n]` describe node n.

    Raises TooLarge when there are more than `limit` operations.
    """

    def __init__(self, limit: float = math.inf):
        self.limit = limit
        self.op: list[str] = []
        self.type: list[str] = []
        self.args: list[tuple[int, ...]] = []
        self.attr: list = []
        self.region: list[Region] = []
        self.root = Region("root", 0)
        self.memo: dict[str, dict] = defaultdict(dict)  # by opcode
        self.value: dict[int, Any] = {}  # of constant nodes
        self.zero: set[int] = set()  # constant nodes equal to zero
        self.folds: set[int] = set()  # nodes that an operation on them may be folded with
        self.first_item: dict[int, int] = {}  # array: its item 0; the others follow
        self.spans: dict[int, tuple | None] = {}  # array of constants: the least, the greatest
        self.limits: dict[int, tuple[int, int]] = {}  # the same of counters of "while" loops

    # -- numbers -----------------------------------------------------------------------------------

    def new(self, op, type_, args=(), attr=None, region=None) -> int:
        n = len(self.op)
        self.op.append(op)
        self.type.append(type_)
        self.args.append(args)
        self.attr.append(attr)
        self.region.append(region or self.root)
        return n

    def several(self, op, types, args, attrs, region) -> list[int]:
        """New nodes that differ in type and attribute only."""
        first, count = len(self.op), len(types)
        self.limit += count  # they are names, and cost nothing unless they are used
        self.op += [op] * count
        self.type += types
        self.args += [args] * count
        self.attr += attrs
        self.region += [region] * count
        return list(range(first, first + count))

    def node(self, op: str, type_: str, *args: int, attr=None) -> int:
        """The node `op(args)`, made if it does not exist."""
        if op in COMMUTATIVE and args[0] > args[1]:
            args = (args[1], args[0])
        if attr is None and args and type_ == self.type[args[-1]]:
            return self.alike(op, type_, args)
        memo, key = self.memo[op], (type_, args, attr)
        n = memo.get(key)
        if n is None:
            n = memo[key] = self._make(op, type_, args, attr)
        return n

    def alike(self, op: str, type_: str, args: tuple[int, ...]) -> int:
        """The same for a node that has the type of its last operand, as most have, and no
        attribute; its operands say all of it.
        """
        memo = self.memo[op]
        n = memo.get(args)
        if n is None:
            n = memo[args] = self._make(op, type_, args, None)
        return n

    def _make(self, op, type_, args, attr) -> int:
        """A new node, in the innermost region of its operands."""
        where, region = self.root, self.region
        for a in args:
            r = region[a]
            if r is not where and r.depth > where.depth:
                where = r
        n = len(region)  # as `new` does, without the call: every operation comes by here
        if n > self.limit:
            raise TooLarge(f"it is more than {self.limit:,.0f} operations; {SMALLER}")
        self.op.append(op)
        self.type.append(type_)
        self.args.append(args)
        self.attr.append(attr)
        region.append(where)
        where.nodes.append(n)
        if op in FOLDED:
            self.folds.add(n)
        return n

    def const(self, type_: str, value) -> int:
        """The constant `value`, rounded or wrapped to the type."""
        memo, asked = self.memo["asked"], (type_, value if value else repr(value))
        n = memo.get(asked)
        if n is None:
            n = memo[asked] = self._const(type_, constants.round_to(type_, value))
        return n

    def _const(self, type_: str, value) -> int:
        # as keys of a dictionary -0.0 and 0.0 are equal, and NaN equals nothing
        memo, key = self.memo["const"], (type_, value if value and value == value else repr(value))
        n = memo.get(key)
        if n is None:
            n = memo[key] = self.new("const", type_, (), value)
            self.value[n] = value
            self.folds.add(n)
            if value == 0:
                self.zero.add(n)
        return n

    def input(self, type_: str, buffer: int, element: int, uniform: bool) -> int:
        """Number `element` of input buffer `buffer`; uniform when all lanes read the same one."""
        return self.node("input", type_, attr=(buffer, element, uniform))

    # -- arrays ------------------------------------------------------------------------------------

    def is_array(self, n: int) -> bool:
        """Whether node n is an array rather than a number."""
        return self.type[n].startswith("[")

    def size(self, array: int) -> int:
        """How many numbers it has."""
        return parts(self.type[array])[0]

    def pack(self, items: list[int], reread: bool = False) -> int:
        """The array of these numbers; `reread` if each will be read often, so that it should be
        near.
        """
        size, t = len(items), self.type[items[0]]
        return self.node("pack", array_type(t, size), *map(self._outside, items), attr=reread)

    def _outside(self, n: int) -> int:
        """What a parameter of a branch stands for: an array made outside is not copied within."""
        while self.op[n] == "param" and self.attr[n][0].kind == "if":
            r, k = self.attr[n]
            n = r.inits[k]
        return n

    def blank(self, t: str, size: int) -> int:
        """An array of which nothing is known yet."""
        return self.new("blank", array_type(t, size))

    def is_of_blank(self, n: int) -> bool:
        """Whether node n is a number of which nothing is known."""
        return self.op[n] == "item" and self.op[self.args[n][0]] == "blank"

    def items(self, array: int) -> list[int]:
        """The numbers of an array, as nodes."""
        if self.op[array] == "pack":
            return list(self.args[array])
        size, t = parts(self.type[array])
        first = self.first_item.get(array)
        if first is None:
            region = self.region[array]
            first = self.several("item", [t] * size, (array,), list(range(size)), region)[0]
            self.first_item[array] = first
        return list(range(first, first + size))

    def array_of(self, items: list[int]) -> int | None:
        """The array of which these are the items, all and in order; None if there is none yet, or
        if these are none."""
        if not items or self.op[items[0]] != "item":
            return None
        first = items[0]
        (array,) = self.args[first]
        known = self.first_item[array] == first and self.size(array) == len(items)
        return array if known and items == list(range(first, first + len(items))) else None

    # -- regions -----------------------------------------------------------------------------------

    def open(self, kind: str, parent: Region, types, inits, trips=0) -> Region:
        r = Region(kind, parent.depth + 1, trips, inits=list(inits), parent=parent)
        r.params = self.several("param", types, (), [(r, k) for k in range(len(types))], r)
        if kind == "for":
            r.counter = self.new("counter", "i32", (), r, r)
        return r

    def carry(self, r: Region, init: int) -> int:
        """One more value for a loop to carry; its `outs` must follow."""
        r.inits.append(init)
        r.params.append(self.new("param", self.type[init], (), (r, len(r.params)), r))
        return r.params[-1]

    def close(self, r: Region) -> list[int]:
        """Ends a region; its carried values or results as seen from outside.

        The result nodes follow the node of the loop: result k of loop n is node n + 1 + k.
        """
        assert r.parent is not None
        loop = r.node = self.new("loop", "void", (), r, r.parent)
        r.parent.nodes.append(loop)
        types = [self.type[n] for n in r.outs]
        return self.several("result", types, (loop,), range(len(types)), r.parent)
