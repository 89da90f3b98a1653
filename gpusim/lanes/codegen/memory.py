"""What is known of arrays and their numbers before a program is written out.

Most numbers are values that LLVM keeps in registers or spills as it sees fit. An array that is read
or written at an index known only at run time is in memory. Its numbers are stored there as soon as
they are known, and read again from there when they are wanted much later, so that they need not be
spilled as well.

A new array takes the memory of the one it is made of if nobody reads that one any more: whoever
writes the program out counts the readers down. What is counted, and when each number of an array is
read for the last time, is found here.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from gpusim.lanes.codegen.buffers import ByWorld
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.program.operations import parts

# Among so many places a varying index is looked for by comparisons, of numbers in registers; among
# more of them, or in memory, each lane reads at its own address.
SELECT_CHAIN = 16
# Numbers of an input that are read one a lane, each in a cache line of its own, are that much more
# expensive than copying a number to where it is near.
DISTANT = 8
LOOP = 8  # trips that a loop is taken to make
NARROW = ("i1", "i8", "i16")  # types that no processor gathers


class Place(NamedTuple):
    """Number `index` of the array `pack`."""

    pack: int
    index: int


class Rows(NamedTuple):
    """Evenly spaced numbers of an input buffer."""

    buffer: int
    first: int
    stride: int
    uniform: bool


class Memory:
    """The analysis; `varying` is None where a lane is a thread, to which all its values are alike.

    `results` are the numbers of each array that is an output, `together` those outputs that are put
    together in memory. Nodes stand in their regions in the
    order in which they will be written.
    """

    def __init__(
        self,
        g: Graph,
        uses: list[int],
        varying: bytearray | None,
        results: list[list[int]],
        by_world: ByWorld,
        together: set[int],
    ):
        self.g, self.uses, self.varying, self.by_world = g, uses, varying, by_world
        self.spaced: dict[int, Rows | None] = {}
        self.inputs: dict[int, Rows | None] = {}  # by pack: it may be long, and is looked at often
        self.tables: dict[int, bool] = {}  # likewise
        self.readers: Counter[int] = Counter()  # of each array
        self.last: dict[int, float] = {}  # of items: the place in their region of the last reader
        self.items: dict[int, list[int]] = defaultdict(list)  # of each array, those that are read
        self.scattered: set[str] = set()  # types of arrays in which lanes have their own places
        self.packs: set[int] = {*together}  # those that are in memory
        # packs of numbers of an input of which each lane reads others: for each reader how often
        self.distant: dict[int, list[int]] = defaultdict(list)
        if "pack" in g.memo or "blank" in g.op:
            self._look(g.root, [])
            for numbers in results:
                array = g.array_of(numbers)
                self._read(numbers if array is None else [array], [math.inf])
            self._bring_near()
        self.built_in = self._built_in()  # packs that are made where a loop carries them: param
        self.places = self._places()

    def _look(self, region: Region, around: Sequence[float]):
        """Notes what the nodes of a region read; `around` are the places of the loops it is in."""
        g = self.g
        here = [*around, 0]
        for k, n in enumerate(region.nodes):
            here[-1] = k
            op = g.op[n]
            if op == "loop":
                r: Region = g.attr[n]
                carried = zip(r.inits, r.params, strict=True)
                self._read([i for i, p in carried if self.uses[p]], here)
                if r.kind == "if":
                    self._read([*(r.otherwise[k] for k in self.needed(r)), r.cond], here)
                self._look(r, here)
                ends = [*here, math.inf]
                if r.kind == "while":
                    self._read([r.cond], ends)
                self._read([r.outs[k] for k in self.needed(r)], ends)
            elif op == "element":
                array, j = g.args[n]
                self._read([j], here)
                if self.selects(n):
                    self._read(self.reach(n), here)
                elif self._varies(j) and self.rows_of(array):
                    self.distant[array].append(1 if len(here) == 1 else LOOP)
                elif self._needs_array(n):
                    self._read([array], here)
            else:
                if op == "store" and self._varies(g.args[n][1]):
                    self.scattered.add(g.type[n])
                self._read(g.args[n], here)

    def _bring_near(self):
        """Decides which arrays of an input are copied before each lane reads its own number:
        those that are in memory anyway, or that many numbers are read of. What all lanes share is
        near already.
        """
        for pack, reads in list(self.distant.items()):
            size, t = parts(self.g.type[pack])
            far = pack not in self.packs and t not in NARROW and DISTANT * sum(reads) <= size
            if self.g.attr[self.g.args[pack][0]][2] or far:
                continue
            del self.distant[pack]
            self.packs.add(pack)
            self.readers[pack] += len(reads)
            self.scattered.add(self.g.type[pack])

    def needed(self, r: Region) -> list[int]:
        """Which of the values that a region gives or carries somebody needs."""
        uses, places = self.uses, range(len(r.outs))
        carries = r.kind != "if"
        return [k for k in places if uses[r.node + 1 + k] or (carries and uses[r.params[k]])]

    def _read(self, nodes: Iterable[int], here: Sequence[float]):
        g = self.g
        for n in nodes:
            if g.op[n] == "item":
                if n not in self.last:
                    self.items[g.args[n][0]].append(n)
                self.last[n] = here[g.region[n].depth]
            elif g.type[n][0] == "[":
                self.readers[n] += 1
                if g.op[n] == "pack":
                    self.packs.add(n)

    def _varies(self, n: int) -> bool:
        return self.varying is not None and bool(self.varying[n])

    def _needs_array(self, n: int) -> bool:
        """Whether element n is read from memory of our own."""
        array, j = self.g.args[n]
        if self._varies(j):
            self.scattered.add(self.g.type[array])
            return True
        return self.g.op[array] != "pack" or self.rows(array) is None

    def selects(self, n: int) -> bool:
        """Whether element n is chosen from numbers in registers."""
        (array, j), (_, _, count) = self.g.args[n], self.g.attr[n]
        return self._varies(j) and self.g.op[array] == "pack" and count <= SELECT_CHAIN

    def reach(self, n: int) -> tuple[int, ...]:
        """The numbers that element n, of an array made of numbers, may be."""
        first, stride, count = self.g.attr[n]
        return self.g.args[self.g.args[n][0]][first : first + stride * (count - 1) + 1 : stride]

    def rows(self, pack: int) -> Rows | None:
        """Where the numbers of an array are read if they are in an input.

        Unless they are read often and are one for each lane: on the host such numbers are as far
        apart as there are lanes, and worth a copy. Or where worlds are not neighbours.
        """
        if pack not in self.spaced:
            rows, often = self.rows_of(pack), self.g.attr[pack]
            if rows is not None and not rows.uniform and self.varying is not None:
                rows = None if often or rows.buffer in self.by_world.ins else rows
            self.spaced[pack] = rows
        return self.spaced[pack]

    def rows_of(self, pack: int) -> Rows | None:
        """The same, however often they are read."""
        if pack not in self.inputs:
            self.inputs[pack] = self._rows_of(pack)
        return self.inputs[pack]

    def _rows_of(self, pack: int) -> Rows | None:
        items = self.g.args[pack]
        if self.g.op[pack] != "pack" or any(self.g.op[i] != "input" for i in items):
            return None
        buffers, elements, uniform = zip(*(self.g.attr[i] for i in items), strict=True)
        strides = {b - a for a, b in pairwise(elements)} or {1}
        if len(set(buffers)) > 1 or len(strides) != 1:
            return None
        return Rows(buffers[0], elements[0], strides.pop(), uniform[0])

    def is_table(self, pack: int) -> bool:
        """Whether all its numbers are constants."""
        if pack not in self.tables:
            self.tables[pack] = all(i in self.g.value for i in self.g.args[pack])
        return self.tables[pack]

    def is_copied(self, pack: int) -> bool:
        """Whether its numbers come from where they stand side by side, and are no results."""
        return self.is_table(pack) or self.rows_of(pack) is not None

    def _built_in(self) -> dict[int, int]:
        """Packs that are made where a loop carries them, as nobody else reads them: the parameter
        they are the next value of.
        """
        g, out = self.g, {}
        for pack in self.packs:
            r = g.region[pack]
            if r.kind in ("for", "while") and self.readers[pack] == 1 and not self.is_copied(pack):
                out.update((pack, r.params[k]) for k in self.needed(r) if r.outs[k] == pack)
        return out

    def _places(self) -> dict[int, list[Place]]:
        """Of the numbers that are computed as often as their array is."""
        g, out = self.g, {}
        for pack in self.packs:
            if not self.is_copied(pack):
                for k, i in enumerate(g.args[pack]):
                    if g.region[i] is g.region[pack] and i not in g.value and g.op[i] != "item":
                        out.setdefault(i, []).append(Place(pack, k))
        return out
