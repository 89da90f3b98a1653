"""The buffers of a function: where its arguments are read and its results are written.

In most of them the worlds are neighbours: a vector is a load. Where a world has many numbers they
would be far apart, each in a page of its own, so large arrays have the numbers of a world side by
side instead. They are read and written in squares, of as many numbers as worlds, that are
transposed in registers.
"""

from collections.abc import Callable
from typing import NamedTuple

from gpusim.lanes.codegen.text import Writer, size_of
from gpusim.lanes.program.operations import BITS

SQUARE = 16  # numbers of a world in one register
# As what small numbers are transposed: LLVM takes long to find out how to move bytes.
MOVED = {"i1": "i32", "i8": "i32", "i16": "i32"}


class ByWorld(NamedTuple):
    """The buffers in which the numbers of a world are neighbours: how many there are."""

    ins: dict[int, int] = {}  # noqa: RUF012
    outs: dict[int, int] = {}  # noqa: RUF012


class BufferWriter(Writer):
    """Writes loads from arguments, and stores to results."""

    def __init__(self, g, varying: bytearray, width: int, by_world: ByWorld):
        super().__init__(g, varying, width)
        self.by_world = by_world
        self.side = min(SQUARE, width)

    def place(self, table: str, buffer: int, element: int | str, t: str, uniform: bool) -> str:
        """Address of element `element` (of lane %lane) of a buffer whose worlds are neighbours."""
        base = self.base(table, buffer)
        if uniform:
            return self.put(f"getelementptr {t}, ptr {base}, i64 {element}")
        row = self.put(f"mul i64 %lanes, {element}")
        offset = self.put(f"add i64 {row}, %lane")
        return self.put(f"getelementptr {t}, ptr {base}, i64 {offset}")

    def base(self, table: str, buffer: int) -> str:
        """Pointer to a buffer, loaded from its table once."""
        base = f"%{table}{buffer}"
        if (table, buffer) not in self.pointers:
            self.pointers.add((table, buffer))
            self.entry.append(f"  {base}.at = getelementptr ptr, ptr %{table}, i64 {buffer}")
            self.entry.append(f"  {base} = load ptr, ptr {base}.at")
        return base

    def load_input(self, t: str, buffer: int, element: int | str, uniform: bool) -> str:
        """Number `element` of an argument whose worlds are neighbours."""
        stored = "i8" if t == "i1" else t
        place = self.place("ins", buffer, element, stored, uniform)
        whole = stored if uniform and self.width > 1 else self.vector(stored)
        name = self.put(f"load {whole}, ptr {place}, align {size_of(stored)}")
        return self.as_mask(name, whole) if t == "i1" else name

    def store_output(self, buffer: int, element: int | str, t: str, value: str):
        """Number `element` of a result whose worlds are neighbours."""
        if t == "i1":
            value, t = self.as_byte(value), "i8"
        place = self.place("outs", buffer, element, t, False)
        self.lines.append(f"  store {self.vector(t)} {value}, ptr {place}, align {size_of(t)}")

    def as_mask(self, name: str, t: str) -> str:
        """Bytes, as masks are kept in memory, as a mask."""
        return self.put(f"icmp ne {t} {name}, {'zeroinitializer' if t.startswith('<') else '0'}")

    def as_byte(self, mask: str) -> str:
        return self.put(f"zext {self.vector('i1')} {mask} to {self.vector('i8')}")

    def load_apart(self, t: str, buffer: int, element: int) -> str:
        """Number `element` of an argument of which the numbers of a world are neighbours."""
        stored, worlds = "i8" if t == "i1" else t, range(self.width)
        size = self.by_world.ins[buffer]
        world = self.put(f"mul i64 %lane, {size}")
        first = self.put(f"add i64 {world}, {element}")
        base = self.put(f"getelementptr {stored}, ptr {self.base('ins', buffer)}, i64 {first}")
        steps = ", ".join(f"i64 {size * k}" for k in worlds)
        at = self.put(f"getelementptr {stored}, ptr {base}, <{self.width} x i64> <{steps}>")
        name = self.load_each(stored, at)
        return self.as_mask(name, self.vector(stored)) if t == "i1" else name

    def load_each(self, t: str, at: str) -> str:
        """A load at an address of its own for every lane."""
        raise NotImplementedError

    # -- squares -----------------------------------------------------------------------------------

    def squares(self, size: int, body: Callable[[str], None]):
        """Writes body(start) for as many squares as it takes, as a loop over most of them. The last
        may overlap the one before.
        """
        self.each(size // self.side, lambda k: body(self.put(f"mul i32 {k}, {self.side}")))
        if size % self.side:
            body(str(size - self.side))

    def each(self, size: int, body: Callable[[str], None]):
        """Writes body(index) for each index, as a loop if they are many."""
        raise NotImplementedError

    def load_square(self, t: str, buffer: int, start: str) -> list[str]:
        """Numbers start, start + 1... of an argument, a vector of worlds each."""
        stored, moved = "i8" if t == "i1" else t, MOVED.get(t, t)
        row = f"<{self.side} x {stored}>"
        rows = [
            self.put(f"load {row}, ptr {at}, align {size_of(stored)}")
            for at in self._rows("ins", buffer, self.by_world.ins[buffer], start, stored)
        ]
        rows = [self._as(moved, x, stored, self.side) for x in rows]
        groups = [
            self._transposed(moved, rows[k : k + self.side])
            for k in range(0, self.width, self.side)
        ]
        numbers = [self._joined(moved, list(parts)) for parts in zip(*groups, strict=True)]
        if t == "i1":
            return [self.as_mask(x, self.vector(moved)) for x in numbers]
        return [self._as(t, x, moved, self.width) for x in numbers]

    def store_square(self, t: str, buffer: int, start: str, values: list[str]):
        """Numbers start, start + 1... of a result."""
        stored, moved = "i8" if t == "i1" else t, MOVED.get(t, t)
        values = [self._as(moved, x, t, self.width) for x in values]
        row, side = f"<{self.side} x {stored}>", self.side
        rows: list[str] = []
        for first in range(0, self.width, side):
            rows += self._transposed(moved, [self._part(moved, x, first) for x in values])
        places = self._rows("outs", buffer, self.by_world.outs[buffer], start, stored)
        for at, x in zip(places, rows, strict=True):
            x = self._as(stored, x, moved, side)
            self.lines.append(f"  store {row} {x}, ptr {at}, align {size_of(stored)}")

    def _as(self, t: str, x: str, source: str, size: int) -> str:
        """Small integers, or masks, as larger ones or the reverse."""
        if t == source:
            return x
        cast = "zext" if BITS[t] > BITS[source] else "trunc"
        return self.put(f"{cast} <{size} x {source}> {x} to <{size} x {t}>")

    def _rows(self, table: str, buffer: int, size: int, start: str, t: str) -> list[str]:
        """Where number `start` of every world is."""
        if not start.isdigit():
            start = self.put(f"zext i32 {start} to i64")
        world = self.put(f"mul i64 %lane, {size}")
        at = self.put(f"add i64 {world}, {start}")
        first = self.put(f"getelementptr {t}, ptr {self.base(table, buffer)}, i64 {at}")
        return [
            self.put(f"getelementptr {t}, ptr {first}, i64 {size * k}") for k in range(self.width)
        ]

    def _transposed(self, t: str, rows: list[str]) -> list[str]:
        """The columns of a square, by exchanging ever larger blocks (Eklundh 1972)."""
        side, rows = self.side, list(rows)
        step = 1
        while step < side:
            for k in range(side):
                if not k & step:
                    a, b = rows[k], rows[k + step]
                    low = [j if not j & step else side + j - step for j in range(side)]
                    high = [j + step if not j & step else side + j for j in range(side)]
                    rows[k] = self._shuffled(t, side, a, b, low)
                    rows[k + step] = self._shuffled(t, side, a, b, high)
            step *= 2
        return rows

    def _shuffled(self, t: str, size: int, a: str, b: str, places: list[int]) -> str:
        """A vector of numbers of two others, of `size` numbers each, put one behind the other."""
        mask = ", ".join(f"i32 {k}" for k in places)
        v = f"<{size} x {t}>"
        return self.put(f"shufflevector {v} {a}, {v} {b}, <{len(places)} x i32> <{mask}>")

    def _joined(self, t: str, parts: list[str]) -> str:
        """Vectors one behind the other."""
        size = self.side
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self._shuffled(t, size, a, b, list(range(2 * size))) for a, b in pairs]
            size *= 2
        return parts[0]

    def _part(self, t: str, vector: str, first: int) -> str:
        """A square's side of a vector, from lane `first` on."""
        if self.width == self.side:
            return vector
        lanes = list(range(first, first + self.side))
        return self._shuffled(t, self.width, vector, "poison", lanes)
