"""Numbers of a function in LLVM IR: what a node is called, and where in memory it can be read."""

from collections import Counter

from gpusim.lanes.codegen.buffers import BufferWriter, ByWorld
from gpusim.lanes.codegen.memory import Memory
from gpusim.lanes.codegen.slots import Slot
from gpusim.lanes.codegen.text import literal
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.nodes import Region

# An argument in which the numbers of a world are neighbours is brought near as a whole, unless only
# one in so many of its numbers is read.
FEW = 16
NEAR = 50  # instructions for which a number that lives in memory is kept in a register too


class NumberWriter(BufferWriter):
    """Finds and makes the operands of instructions.

    `uses` says how often a node is read; one that never is, is not written. `results` are the
    numbers of each array that the function gives, `together` the arrays of those that are put
    together in memory.
    """

    def __init__(
        self,
        g: Graph,
        uses: list[int],
        varying: bytearray,
        width: int,
        results: list[list[int]],
        by_world: ByWorld,
        together: set[int],
    ):
        super().__init__(g, varying, width, by_world)
        self.uses = uses
        self.memory = Memory(g, uses, varying if width > 1 else None, results, by_world, together)
        # how many numbers are read of each argument
        self.read_of = Counter(g.attr[n][0] for n in g.memo["input"].values() if uses[n])
        self.within: list[Region] = [g.root]  # the regions that what is being written is in
        self.at = [0]  # and its place in each of them
        # operands by node: scalars, and vectors; "" if not known, or in memory
        scalars = [""] * len(g.op)
        self.names = (scalars, scalars if width == 1 else scalars.copy())
        self.made: dict[str, int] = {}  # scalars by name: the line to widen each in
        self.wide: dict[str, str] = {}  # scalars by name: as vectors
        self.homes: dict[int, Slot] = {}  # numbers that are read from memory: the array they are in
        self.computed: dict[int, str] = {}  # of these, what they were called when they were made
        self.recent: dict[int, tuple[str, str, int]] = {}  # its name, and the block and line of it

    def use(self, n: int, wide: bool) -> str:
        """Operand text of node n, as a vector if `wide`."""
        return self.names[wide][n] or self.find(n, wide)

    def find(self, n: int, wide: bool) -> str:
        """The same for a node that has no name yet, or not any more."""
        # of a number of which nothing is known any is as good as another
        value = 0 if self.g.is_of_blank(n) else self.g.value.get(n)
        if value is not None:
            t, value = self.g.type[n], literal(self.g.type[n], value)
            text = f"splat ({t} {value})" if wide and self.width > 1 else value
            self.names[wide][n] = text
            return text
        self.load(n)
        if wide and not self.varying[n]:
            return self.widen(n)
        return self.names[wide][n] or self.reload(n)

    def widen(self, n: int) -> str:
        """A scalar as a vector, which is made where the scalar is, for all that read it."""
        name = self.use(n, False)
        if name not in self.made:  # it changes in memory, or is another name of a constant
            return self.splat(self.g.type[n], name)
        if name not in self.wide:
            self.wide[name] = self.splat(self.g.type[n], name, self.made[name])
        self.names[True][n] = self.wide[name]
        return self.wide[name]

    def load(self, n: int):
        """Loads node n if it is an input that is not loaded yet."""
        if self.g.op[n] != "input" or self.names[self.is_wide(n)][n] or n in self.homes:
            return
        buffer, element, uniform = self.g.attr[n]
        if buffer not in self.by_world.ins:
            self.bind(n, self.load_input(self.g.type[n], buffer, element, uniform))
        elif self.read_of[buffer] * FEW < self.by_world.ins[buffer]:
            self.bind(n, self.load_apart(self.g.type[n], buffer, element))
        else:
            self.live_in(self.nearby(buffer, self.g.type[n]), element, n)
            if n in self.memory.places:
                self.settle(n)

    def nearby(self, buffer: int, t: str) -> Slot:
        """Memory with the numbers of an argument, in which the worlds are neighbours."""
        raise NotImplementedError

    def bind(self, n: int, name: str):
        """Node n has been computed as `name`."""
        if self.varying[n]:
            self.names[True][n] = name
        else:
            self.names[False][n] = name
            self.made[name] = len(self.lines)
            self.lines.append("")
        if n in self.memory.places:
            self.settle(n)

    def settle(self, n: int):
        """Stores a number that is now known in the arrays that it belongs to."""
        raise NotImplementedError

    def alias(self, n: int, source: int):
        """Node n is another name for `source`, as long as that one is not changed."""
        if not self.uses[n]:
            return
        if self.g.is_array(n):
            self.share(n, source)
            return
        home = self.homes.get(source)
        if home is not None and self.is_wide(n) == self.is_wide(source):
            self.live_in(home, home.index[source], n, self.computed.get(source))
        else:
            wide = self.is_wide(n)
            self.names[wide][n] = self.use(source, wide)
        if n in self.memory.places:
            self.settle(n)

    def share(self, array: int, source: int):
        """The same for an array."""
        raise NotImplementedError

    # -- numbers that live in memory ---------------------------------------------------------------

    def live_in(self, home: Slot, index: int, n: int, name: str | None = None):
        """From now on node n, computed as `name` if it was, is read from there."""
        home.add(n, index)
        self.homes[n] = home
        if name is not None:
            self.computed[n] = name
        self.names[self.is_wide(n)][n] = ""

    def reload(self, n: int) -> str:
        """A node that lives in memory."""
        name, block, line = self.recent.get(n, ("", "", 0))
        if block != self.block or len(self.lines) > line + NEAR:
            home = self.homes[n]
            name = self.read(home, home.index[n])
            self.recent[n] = (name, self.block, len(self.lines))
        return name

    def read(self, home: Slot, first: int, j: str = "") -> str:
        """Loads number first + j, for a j that is the same in all lanes."""
        raise NotImplementedError

    def vacate(self, home: Slot, index: int | None = None):
        """Numbers are about to be overwritten, one or all of them: those that will be read again
        get names of their own.
        """
        for n in list(home.index if index is None else home.nodes[index]):
            name = self.computed.get(n)
            if name is None and self.is_read_later(n):
                name = self.read(home, home.index[n])
                if not self.varying[n]:
                    self.made[name] = len(self.lines)
                    self.lines.append("")
            self.forget(n)
            if name is not None:
                self.names[self.is_wide(n)][n] = name

    def forget(self, n: int):
        """Node n is not to be read from memory any more."""
        self.homes.pop(n).remove(n)
        self.computed.pop(n, None)
        self.recent.pop(n, None)

    def is_read_later(self, n: int) -> bool:
        """Whether what is written now, or later, reads it. Parameters are not followed."""
        region, last = self.g.region[n], self.memory.last.get(n)
        if self.within[region.depth :] and self.within[region.depth] is region:
            return last is None or last >= self.at[region.depth]
        return False
