"""The scalar program as it is built: numbers, and arrays of them in memory."""

from gpusim.lanes.program.arithmetic import Arithmetic
from gpusim.lanes.program.operations import parts
from gpusim.lanes.program.ranges import bounds


class Graph(Arithmetic):
    """Makes nodes; operands and results are their numbers.

    A place in an array that is known only at run time is `first + stride*j` for a j in
    range(count).
    """

    def array(self, items: list[int], reread: bool = False) -> int:
        """The array of these numbers: the one they are read from, that one with a few of them
        changed, or a new one.
        """
        array = self.nearest(items)
        if array is None:
            return self.pack(items, reread)
        for k, (old, new) in enumerate(zip(self.items(array), items, strict=True)):
            if old != new:
                array = self.store(array, self.const("i32", 0), new, first=k)
        return array

    def nearest(self, items: list[int]) -> int | None:
        """The array in memory that most of these numbers are read from, in order."""
        array = self.array_of(items)
        if array is not None:
            return array
        origins = [self.args[i][0] for i in items if self.op[i] == "item"]
        if 2 * len(origins) <= len(items):
            return None
        array = max(dict.fromkeys(origins), key=origins.count)
        if self.size(array) != len(items):
            return None
        kept = sum(a == b for a, b in zip(self.items(array), items, strict=True))
        return array if 2 * kept > len(items) else None

    def element(self, array: int, j: int, first=0, stride=1, count=1) -> int:
        """The number at a place known only at run time."""
        j = self.inside(j, count)
        if j in self.value:
            return self.items(array)[first + stride * self.value[j]]
        if self.op[array] == "pack":
            reach = self.args[array][first : first + stride * (count - 1) + 1 : stride]
            if reach.count(reach[0]) == len(reach):
                return reach[0]
        return self.node(
            "element", parts(self.type[array])[1], array, j, attr=(first, stride, count)
        )

    def store(self, array: int, j: int, value: int, *, first=0, stride=1, count=1, mask=None):
        """The array with another number at a place; where the mask is false, as it was."""
        if mask is not None and mask in self.value:
            if not self.value[mask]:
                return array
            mask = None
        j = self.inside(j, count)
        attr = (first, stride, count)
        if j in self.value:
            j, attr = self.const("i32", 0), (first + stride * self.value[j], 1, 1)
            if self.items(array)[attr[0]] == value:
                return array
        given = (array, j, value) if mask is None else (array, j, value, mask)
        return self.node("store", self.type[array], *given, attr=attr)

    def inside(self, j: int, count: int) -> int:
        """j, held inside range(count) unless it cannot be elsewhere."""
        low, high = bounds(self, j)
        if high >= count:
            j = self.minmax("min", j, self.const("i32", count - 1))
        if low < 0:
            j = self.minmax("max", j, self.const("i32", 0))
        return j

    def choose(self, c: int, a: int, b: int) -> int:
        """Array `a` where c, else array `b`: if one is the other with a few numbers changed, these
        are changed where c is (or is not) true.
        """
        if c in self.value:
            return a if self.value[c] else b
        for mask, new, old in ((c, a, b), (self.invert(c), b, a)):
            changes = self._changes(new, old)
            if changes is not None:
                for j, value, also, (first, stride, count) in changes:
                    m = mask if also is None else self.bitop("and", mask, also)
                    old = self.store(old, j, value, first=first, stride=stride, count=count, mask=m)
                return old
        return self.node("blend", self.type[a], c, a, b)

    def _changes(self, new: int, old: int) -> list[tuple] | None:
        """The stores that make one array of another, if they are few."""
        found: list[tuple] = []
        while new != old:
            if self.op[new] != "store" or len(found) == 8:
                return None
            array, j, value, *mask = self.args[new]
            found.append((j, value, mask[0] if mask else None, self.attr[new]))
            new = array
        return found[::-1]
