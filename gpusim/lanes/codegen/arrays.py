"""Numbers and arrays of a function in LLVM IR: what a node is called, and which are in memory."""

from gpusim.lanes.codegen.memory import Memory, Place
from gpusim.lanes.codegen.text import Writer, literal, size_of
from gpusim.lanes.program.graph import Graph

NEAR = 50  # instructions for which a number that lives in memory is kept in a register too


class ArrayWriter(Writer):
    """Writes reads and writes of numbers and arrays.

    `uses` says how often a node is read; one that never is, is not written.
    """

    def __init__(self, g: Graph, uses: list[int], varying: bytearray, width: int):
        super().__init__(g, varying, width)
        self.uses = uses
        self.memory = Memory(g, uses, varying if width > 1 else None)
        # operands by node: scalars, and vectors; "" if not known, or in memory
        scalars = [""] * len(g.op)
        self.names = (scalars, scalars if width == 1 else scalars.copy())
        self.made: dict[int, tuple[str, int]] = {}  # scalars: the name, and the line to widen it in
        self.arrays: dict[int, tuple[str, bool]] = {}  # pack or stacked node: its array, varying?
        self.resident: dict[int, Place] = {}  # node: where in memory it can be read again
        self.recent: dict[int, tuple[str, str, int]] = {}  # its name, and the block and line of it

    # -- numbers -----------------------------------------------------------------------------------

    def use(self, n: int, wide: bool) -> str:
        """Operand text of node n, as a vector if `wide`."""
        return self.names[wide][n] or self.find(n, wide)

    def find(self, n: int, wide: bool) -> str:
        """The same for a node that has no name yet, or not any more."""
        if n in self.g.value:
            t, value = self.g.type[n], literal(self.g.type[n], self.g.value[n])
            text = f"splat ({t} {value})" if wide and self.width > 1 else value
            self.names[wide][n] = text
            return text
        self.load(n)
        if wide and not self.varying[n]:
            return self.widen(n)
        return self.names[wide][n] or self.reload(n)

    def widen(self, n: int) -> str:
        """A scalar as a vector, which is made where the scalar is, for all that read it."""
        if n not in self.made:  # it changes in memory, or is another name of a constant
            return self.splat(self.g.type[n], self.use(n, False))
        name, line = self.made[n]
        vector = self.names[True][n] = self.splat(self.g.type[n], name, line)
        return vector

    def load(self, n: int):
        """Loads node n if it is an input that is not loaded yet."""
        if self.g.op[n] != "input" or self.names[self.is_wide(n)][n] or n in self.resident:
            return
        buffer, element, uniform = self.g.attr[n]
        t = self.g.type[n]
        stored = "i8" if t == "i1" else t
        place = self.place("ins", buffer, element, stored, uniform)
        whole = stored if uniform and self.width > 1 else self.vector(stored)
        name = self.put(f"load {whole}, ptr {place}, align {size_of(stored)}")
        if t == "i1":
            zero = "0" if whole == stored else "zeroinitializer"
            name = self.put(f"icmp ne {whole} {name}, {zero}")
        self.bind(n, name)

    def reload(self, n: int) -> str:
        """A node that lives in memory."""
        name, block, line = self.recent.get(n, ("", "", 0))
        if block != self.block or len(self.lines) > line + NEAR:
            pack, k = self.resident[n]
            name = self.load_element(*self.array_of(pack), self.g.type[n], str(k))
            self.recent[n] = (name, self.block, len(self.lines))
        return name

    def bind(self, n: int, name: str):
        """Node n has been computed as `name`."""
        if self.varying[n]:
            self.names[True][n] = name
        else:
            self.names[False][n] = name
            self.made[n] = name, len(self.lines)
            self.lines.append("")
        if n in self.memory.places:
            self.settle(n)

    def settle(self, n: int):
        """Stores a number that is now known in its places."""
        for place in self.memory.places[n]:
            self.store_item(place, n)
        place = self.memory.places[n][0]
        if self.array_of(place.pack)[1] == self.is_wide(n) and n not in self.resident:
            self.recent[n] = (self.names[self.is_wide(n)][n], self.block, len(self.lines))
            self.live_in(place, n)

    def live_in(self, place: Place, n: int):
        """From now on node n is read from that place."""
        self.resident[n] = place
        self.names[self.is_wide(n)][n] = ""

    def alias(self, n: int, source: int):
        """Node n is another name for `source`."""
        if not self.uses[n]:
            return
        if source in self.resident and self.is_wide(n) == self.is_wide(source):
            self.live_in(self.resident[source], n)
        else:
            wide = self.is_wide(n)
            self.names[wide][n] = self.use(source, wide)
        if source in self.made:
            self.made[n] = self.made[source]
        if n in self.memory.places:
            self.settle(n)

    # -- arrays ------------------------------------------------------------------------------------

    def allocate(self, t: str, size: int, wide: bool) -> str:
        name = self.fresh("array")
        self.entry.append(f"  {name} = alloca [{size} x {self.vector(t) if wide else t}], align 64")
        return name

    def array_of(self, pack: int) -> tuple[str, bool]:
        """The memory of an array, and whether its elements vary."""
        if pack not in self.arrays:
            items, t = self.g.args[pack], self.g.type[pack]
            if all(i in self.g.value for i in items):
                self.arrays[pack] = (self.table(t, items), self.width == 1)
            else:
                wide = self.is_wide(pack)
                self.arrays[pack] = (self.allocate(t, len(items), wide), wide)
        return self.arrays[pack]

    def store_item(self, place: Place, item: int):
        array, wide = self.array_of(place.pack)
        value = self.use(item, wide)
        self.store_element(array, wide, self.g.type[place.pack], str(place.index), value)

    def write_pack(self, pack: int):
        """Stores the elements of an array in memory that are not stored when they are computed."""
        items = self.g.args[pack]
        if pack not in self.memory.arrays or all(i in self.g.value for i in items):
            return
        for i in items:
            self.load(i)
        for k, i in enumerate(items):
            if i in self.g.value or self.g.region[i] is not self.g.region[pack]:
                self.store_item(Place(pack, k), i)

    def table(self, t: str, items: tuple[int, ...]) -> str:
        """An array of constants beside the code."""
        name = f"@table{len(self.declared)}"
        numbers = ", ".join(f"{t} {literal(t, self.g.value[i])}" for i in items)
        self.declared[name] = (
            f"{name} = private unnamed_addr constant [{len(items)} x {t}] [{numbers}], align 64"
        )
        return name

    def store_element(self, array: str, wide: bool, t: str, index: str, value: str):
        whole = self.vector(t) if wide else t
        at = self.put(f"getelementptr {whole}, ptr {array}, i32 {index}")
        self.lines.append(f"  store {whole} {value}, ptr {at}")

    def load_element(self, array: str, wide: bool, t: str, index: str) -> str:
        whole = self.vector(t) if wide else t
        at = self.put(f"getelementptr {whole}, ptr {array}, i32 {index}")
        return self.put(f"load {whole}, ptr {at}")

    def emit_element(self, n: int) -> str:
        g, (pack, index), t = self.g, self.g.args[n], self.g.type[n]
        rows = self.memory.rows(pack)
        if rows and (not self.is_wide(index) or self.width == 1):
            buffer, first, stride, uniform = rows
            at = self.put(f"mul i32 {self.use(index, False)}, {stride}")
            at = self.put(f"add i32 {at}, {first}")
            at = self.put(f"zext i32 {at} to i64")
            place = self.place("ins", buffer, at, t, uniform)
            whole = t if uniform else self.vector(t)
            return self.put(f"load {whole}, ptr {place}, align {size_of(t)}")
        if not self.is_wide(index) or self.width == 1:
            array, wide = self.array_of(pack)
            name = self.load_element(array, wide, t, self.use(index, False))
            if self.varying[n] and not wide:
                return self.splat(t, name)
            return name
        items, v = g.args[pack], self.vector(t)
        x = self.use(index, True)
        if self.memory.selects(n):
            out = self.use(items[0], True)
            for k, i in enumerate(items[1:], 1):
                here = self.put(f"icmp eq {self.vector('i32')} {x}, splat (i32 {k})")
                out = self.put(
                    f"select {self.vector('i1')} {here}, {v} {self.use(i, True)}, {v} {out}"
                )
            return out
        return self.gather(*self.array_of(pack), t, x)

    def gather(self, array: str, wide: bool, t: str, x: str) -> str:
        """A load at an address of its own for every lane."""
        w, v, vi = self.width, self.vector(t), self.vector("i32")
        if wide:  # element k of lane l is number k*width + l
            row = self.put(f"mul {vi} {x}, splat (i32 {w})")
            x = self.put(f"add {vi} {row}, <{', '.join(f'i32 {k}' for k in range(w))}>")
        at = self.put(f"getelementptr {t}, ptr {array}, {vi} {x}")
        suffix = f"v{w}{t}".replace("float", "f32").replace("double", "f64")
        name = f"@llvm.masked.gather.{suffix}.v{w}p0"
        self.declared[name] = f"declare {v} {name}(<{w} x ptr>, <{w} x i1>, {v})"
        return self.put(
            f"call {v} {name}(<{w} x ptr> align {size_of(t)} {at}, "
            f"<{w} x i1> splat (i1 true), {v} poison)"
        )
