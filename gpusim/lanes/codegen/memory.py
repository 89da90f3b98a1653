"""Which arrays of a finished graph are kept in memory, and which of its numbers live in them.

Most numbers are values that LLVM keeps in registers or spills as it sees fit. An array that is read
at an index known only at run time must be in memory. Its numbers are stored there as soon as they
are known, and read back from there when they are wanted much later; so they need not be spilled as
well, and a loop that carries a matrix carries it in its array.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.nodes import Region

# An array up to this long is searched by selects when its index varies; a longer one is gathered.
SELECT_CHAIN = 16


class Place(NamedTuple):
    """Element `index` of the array `pack`."""

    pack: int
    index: int


class Memory:
    """The analysis; `varying` is None where a lane is a thread, to which all its values are alike.

    `arrays` are the packs that are kept in memory. `places` says of a number where it is stored
    once it is known, the first of them being where it is read again. `carried` says of a parameter
    of a loop where it is handed from trip to trip; it has no phi.
    """

    def __init__(self, g: Graph, uses: list[int], varying: bytearray | None):
        self.g, self.varying = g, varying
        self.spaced: dict[int, tuple[int, int, int, bool] | None] = {}
        self.arrays = {
            g.args[n][0]
            for n, op in enumerate(g.op)
            if op == "element" and uses[n] and self._needs_array(n)
        }
        self.places = self._places()
        self.carried = self._carried()
        for p, place in self.carried.items():
            r, k = g.attr[p]
            self.places.setdefault(r.outs[k], []).append(place)

    def _varies(self, n: int) -> bool:
        return self.varying is None or bool(self.varying[n])

    def _needs_array(self, n: int) -> bool:
        """Whether element n is read at an index that is the same in all lanes, or of an array too
        long to select from.
        """
        pack, index = self.g.args[n]
        if self.varying is not None and self.varying[index]:
            return len(self.g.args[pack]) > SELECT_CHAIN
        return self.rows(pack) is None

    def selects(self, n: int) -> bool:
        """Whether element n is chosen from registers."""
        pack, index = self.g.args[n]
        return self.varying is not None and bool(self.varying[index]) and pack not in self.arrays

    def rows(self, pack: int) -> tuple[int, int, int, bool] | None:
        """(buffer, first, stride, uniform) if the array is evenly spaced numbers of an input, which
        are read where they are.

        Unless they are read often and are one for each lane: on the host such numbers are as far
        apart as there are lanes, and worth a copy.
        """
        if pack not in self.spaced:
            rows, often = self._rows(pack), self.g.attr[pack]
            far = rows is not None and not rows[3] and self.varying is not None
            self.spaced[pack] = None if often and far else rows
        return self.spaced[pack]

    def _rows(self, pack: int) -> tuple[int, int, int, bool] | None:
        items = self.g.args[pack]
        if any(self.g.op[i] != "input" or self.g.type[i] == "i1" for i in items):
            return None
        buffers, elements, uniform = zip(*(self.g.attr[i] for i in items), strict=True)
        strides = {b - a for a, b in pairwise(elements)}
        if len(set(buffers)) > 1 or len(strides) != 1:
            return None
        return buffers[0], elements[0], strides.pop(), uniform[0]

    def _places(self) -> dict[int, list[Place]]:
        """Of the numbers that are computed as often as their array is."""
        g, out = self.g, {}
        for pack in self.arrays:
            for k, i in enumerate(g.args[pack]):
                if g.region[i] is g.region[pack] and i not in g.value:
                    out.setdefault(i, []).append(Place(pack, k))
        return out

    def _carried(self) -> dict[int, Place]:
        """The parameters whose next value can be stored over the old one when it is known, because
        nothing reads the old one after that.
        """
        g, out = self.g, {}
        regions = {id(g.attr[n][0]): g.attr[n][0] for n in self.places if g.op[n] == "param"}
        for r in regions.values():
            if r.kind != "for":
                continue
            last = self._last_reads(r)
            position = {n: k for k, n in enumerate(r.nodes)}
            for k, p in enumerate(r.params):
                v = r.outs[k]
                known = position.get(g.args[v][0] if g.op[v] == "result" else v, -1)
                similar = [
                    place
                    for place in self.places.get(p, ())
                    if self._varies(place.pack) == self._varies(p) == self._varies(v)
                ]
                if similar and g.region[v] is r and last.get(p, -1) <= known:
                    out[p] = similar[0]
        return out

    def _last_reads(self, r: Region) -> dict[int, float]:
        """For each number that region r reads, the position in it of the last node to do so."""
        g = self.g
        last: dict[int, float] = {}
        packs: dict[int, int] = {}

        def visit(region: Region, at: int | None):
            for k, n in enumerate(region.nodes):
                here, op = k if at is None else at, g.op[n]
                if op == "loop":
                    inner = g.attr[n]
                    note((*inner.inits, *inner.outs, *inner.stacked, inner.cond), here)
                    visit(inner, here)
                elif op == "element":
                    pack, index = g.args[n]
                    packs[pack] = last[index] = here
                elif op != "pack":
                    note(g.args[n], here)
                elif n in self.arrays:  # stores what was known before
                    note([a for a in g.args[n] if g.region[a] is not g.region[n]], here)

        def note(nodes: Iterable[int], here: float):
            for n in nodes:
                last[n] = here

        visit(r, None)
        for pack, here in packs.items():
            note([n for n in g.args[pack] if last.get(n, -1) < here], here)
        note((*r.outs, *r.stacked), math.inf)
        return last
