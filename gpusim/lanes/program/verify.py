"""Checks that a program means something before it is written out: a mistake of a rule or a pass
becomes an error instead of a wrong number.
"""

from collections.abc import Iterable

from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.program.operations import BITS, COMPARISONS, OPERATIONS, parts
from gpusim.lanes.program.ranges import bounds

# What an operation takes and gives, in one lookup for most nodes.
_FINE = {
    (name, t, (t,) * o.operands)
    for name, o in OPERATIONS.items()
    if not o.gives and o.form != "compare"
    for t in o.takes
}
_SIZES = {  # what a conversion makes of so many bits
    "sext": lambda old, new: new > old,
    "zext": lambda old, new: new > old,
    "trunc_i": lambda old, new: new < old,
    "bitcast": lambda old, new: new == old,
}


class Wrong(AssertionError):
    """A program that a rule or a pass has made wrongly."""


def verify(g: Graph, results: Iterable[int], uses: list[int]):
    """Raises Wrong unless types match, no mask is taken for a number, every operand is known where
    it is read, and every index into an array is inside of it; for nodes that are used.
    """
    checker = _Checker(g, uses)
    checker.region(g.root)
    for n in results:
        checker.reads(n, "the function")


class _Checker:
    def __init__(self, g: Graph, uses: list[int]):
        self.g, self.uses = g, uses
        self.known: set[int] = set()  # what has been computed where the check is

    def region(self, r: Region):
        """The nodes of a region, in their order."""
        ops, types, args, known = self.g.op, self.g.type, self.g.args, self.known
        for n in r.nodes:
            op, operands = ops[n], args[n]
            for a in operands:
                if a not in known:
                    self.reads(a, n)
            if (op, types[n], tuple([types[a] for a in operands])) not in _FINE:
                self.node(n)
            known.add(n)

    def reads(self, n: int, reader: int | str):
        """Whether a node is known where it is read."""
        g = self.g
        if n in self.known or g.op[n] in ("const", "input", "blank"):
            return
        if g.op[n] != "item":
            raise Wrong(f"{reader} reads node {n}, {g.op[n]}, which is not known there")
        (array,) = g.args[n]
        self.require(n, 0 <= g.attr[n] < g.size(array), "is outside its array")
        self.reads(array, n)

    def require(self, n: int, fine: bool, what: str):
        if not fine:
            raise Wrong(f"node {n}, {self.g.op[n]}{self.g.args[n]}: {what}")

    def node(self, n: int):
        """A node that is not one of the many simple ones."""
        g, op, t = self.g, self.g.op[n], self.g.type[n]
        types = [g.type[a] for a in g.args[n]]
        if op == "loop":
            self.loop(n, g.attr[n])
        elif op == "select":
            fine = types == ["i1", t, t] and t in BITS
            self.require(n, fine, f"gives {t}, chosen from {types}")
        elif op in OPERATIONS:
            self.operation(n, types)
        elif op == "pack":
            size, item = parts(t)
            fine = set(types) == {item} and size == len(types) and item in BITS
            self.require(n, fine, f"gives {t}, made of {set(types)}")
        elif op in ("element", "store"):
            self.place(n, types)
        elif op == "blend":
            self.require(n, types == ["i1", t, t], f"gives {t}, chosen from {types}")
        elif op not in ("key", "input"):
            raise Wrong(f"node {n}: there is no operation {op}")

    def operation(self, n: int, types: list[str]):
        g, op, t, o = self.g, self.g.op[n], self.g.type[n], OPERATIONS[self.g.op[n]]
        fine = len(types) == o.operands and set(types) <= set(o.takes) and len(set(types)) == 1
        self.require(n, fine and t in (o.gives or types), f"gives {t}, takes {types}")
        if o.form == "compare":
            self.require(n, g.attr[n] in COMPARISONS[op], f"is no comparison: {g.attr[n]}")
        if op in _SIZES:
            fine = _SIZES[op](BITS[types[0]], BITS[t])
            self.require(n, fine, f"does not make {t} of {types[0]}")

    def place(self, n: int, types: list[str]):
        """A read or a write at a run-time index."""
        g, op, (first, stride, count) = self.g, self.g.op[n], self.g.attr[n]
        size, item = parts(types[0])
        if op == "element":
            fine = g.type[n] == item and len(types) == 2
        else:
            fine = g.type[n] == types[0] and types[2:] in ([item], [item, "i1"])
        self.require(n, fine and types[1] == "i32", f"gives {g.type[n]}, takes {types}")
        ends = first, first + stride * (count - 1)
        self.require(n, min(ends) >= 0 and max(ends) < size, f"reaches {ends} of {size} numbers")
        low, high = bounds(g, g.args[n][1])
        self.require(n, low >= 0 and high < count, f"has an index in {low}..{high}, of {count}")

    def loop(self, n: int, r: Region):
        """A loop or branch and what is in it."""
        g, uses, name = self.g, self.uses, f"{r.kind} {n}"
        for k, (p, i) in enumerate(zip(r.params, r.inits, strict=True)):
            same = g.type[p] == g.type[i] and (r.kind == "if" or g.type[p] == g.type[r.outs[k]])
            self.require(n, same, f"carries {k} as another type than it has")
            if uses[p]:
                self.reads(i, name)
        wanted = [
            k
            for k in range(len(r.outs))
            if uses[n + 1 + k] or (r.kind != "if" and uses[r.params[k]])
        ]
        if r.kind == "if":
            self.reads(r.cond, name)
            for k in wanted:
                same = g.type[r.otherwise[k]] == g.type[r.outs[k]]
                self.require(n, same, f"gives {k} as another type to lanes that do not want it")
                self.reads(r.otherwise[k], name)
        if r.cond >= 0:
            self.require(n, g.type[r.cond] == "i1", f"is wanted by a {g.type[r.cond]}")
        own = (*r.params, r.counter)
        self.known.update(own)
        self.region(r)
        for a in (*(r.outs[k] for k in wanted), *([r.cond] if r.kind == "while" else [])):
            self.reads(a, f"the end of {name}")
        self.known.difference_update(own, r.nodes, *map(self._results, r.nodes))
        self.known.update(self._results(n))

    def _results(self, n: int) -> range:
        return range(n + 1, n + 1 + len(self.g.attr[n].outs) if self.g.op[n] == "loop" else n + 1)
