"""Numbers of arrays in LLVM IR: their addresses, reading and writing them, one for all lanes or one
for each.
"""

from gpusim.lanes.codegen.memory import Rows
from gpusim.lanes.codegen.numbers import NumberWriter
from gpusim.lanes.codegen.slots import Slot
from gpusim.lanes.codegen.text import size_of
from gpusim.lanes.program.operations import parts

WRITTEN_OUT = 8  # numbers of an array that are copied without a loop


class AccessWriter(NumberWriter):
    """Reads and writes at places of arrays; where these are it is told."""

    def address(self, home: Slot, first: int, j: str) -> tuple[str, str]:
        """Where number first + j is, for a j that is the same in all lanes, and its type there.

        The sum is left to the addressing of the processor.
        """
        whole, at = self.vector(home.stored) if home.wide else home.stored, home.name
        if j:
            at = self.put(f"getelementptr {whole}, ptr {at}, i32 {j}")
        if first or not j:
            at = self.put(f"getelementptr {whole}, ptr {at}, i32 {first}")
        return at, whole

    def read(self, home: Slot, first: int, j: str = "") -> str:
        at, whole = self.address(home, first, j)
        return self.from_memory(home, self.put(f"load {whole}, ptr {at}"), home.wide)

    def read_wide(self, home: Slot, first: int, j: str = "") -> str:
        """The same as a vector."""
        value = self.read(home, first, j)
        return value if home.wide else self.splat(home.t, value)

    def from_memory(self, home: Slot, name: str, wide: bool) -> str:
        """A number as it is kept, as it is used."""
        if home.t == home.stored:
            return name
        whole = self.vector(home.stored) if wide else home.stored
        if home.t == "i1":
            return self.as_mask(name, whole)
        return self.put(f"trunc {whole} {name} to {self.vector(home.t) if wide else home.t}")

    def to_memory(self, home: Slot, value: str, wide: bool) -> str:
        """And the other way."""
        if home.t == home.stored:
            return value
        kept, used = (self.vector(t) if wide else t for t in (home.stored, home.t))
        return self.put(f"zext {used} {value} to {kept}")

    def write(self, home: Slot, first: int, j: str, value: str, mask: str = ""):
        """Stores number first + j, for a j that all lanes share, where the mask is true."""
        at, whole = self.address(home, first, j)
        value = self.to_memory(home, value, home.wide)
        if mask:
            old = self.put(f"load {whole}, ptr {at}")
            kind = self.mask_type(home.wide)
            value = self.put(f"select {kind} {mask}, {whole} {value}, {whole} {old}")
        self.lines.append(f"  store {whole} {value}, ptr {at}")

    def all_of(self, masks: list[int], wide: bool) -> str:
        """The lanes in which all masks are true; "" for no masks."""
        names = [self.use(m, wide) for m in dict.fromkeys(masks)]
        out = names[0] if names else ""
        for name in names[1:]:
            out = self.put(f"and {self.mask_type(wide)} {out}, {name}")
        return out

    def mask_type(self, wide: bool) -> str:
        return self.vector("i1") if wide else "i1"

    def ones(self, wide: bool) -> str:
        """A mask that is true in all lanes."""
        return "splat (i1 true)" if wide and self.width > 1 else "true"

    def times(self, j: str, stride: int) -> str:
        return j if stride == 1 else self.put(f"mul i32 {j}, {stride}")

    def place_of(self, j: str, first: int, stride: int) -> str:
        """The index first + stride*j of every lane."""
        kind = self.vector("i32")
        if stride != 1:
            j = self.put(f"mul {kind} {j}, splat (i32 {stride})")
        return self.put(f"add {kind} {j}, splat (i32 {first})") if first else j

    def search(self, j: str, candidates: list[str], t: str) -> str:
        """The candidate number j of each lane, by comparisons."""
        v, index, mask = self.vector(t), self.vector("i32"), self.vector("i1")
        out = candidates[0]
        for k, x in enumerate(candidates[1:], 1):
            here = self.put(f"icmp eq {index} {j}, splat (i32 {k})")
            out = self.put(f"select {mask} {here}, {v} {x}, {v} {out}")
        return out

    def read_rows(self, rows: Rows, t: str, j: str, first: int, stride: int) -> str:
        """A number of an input, at an index that is the same in all lanes."""
        start, step = rows.first + first * rows.stride, stride * rows.stride
        at = self.put(f"add i32 {self.times(j, step)}, {start}")
        at = self.put(f"zext i32 {at} to i64")
        return self.load_input(t, rows.buffer, at, rows.uniform)

    def addresses(self, home: Slot, x: str) -> str:
        """The address of number x of each lane."""
        w, index = self.width, self.vector("i32")
        if home.wide:  # number k of lane l is at k*width + l
            row = self.put(f"mul {index} {x}, splat (i32 {w})")
            x = self.put(f"add {index} {row}, <{', '.join(f'i32 {k}' for k in range(w))}>")
        return self.put(f"getelementptr {home.stored}, ptr {home.name}, {index} {x}")

    def gather(self, home: Slot, x: str) -> str:
        """Number x of each lane, from memory."""
        return self.from_memory(home, self.load_each(home.stored, self.addresses(home, x)), True)

    def load_each(self, t: str, at: str) -> str:
        """A load at an address of its own for every lane."""
        w, v = self.width, self.vector(t)
        name = f"@llvm.masked.gather.{self.suffix(v)}.v{w}p0"
        self.declared[name] = f"declare {v} {name}(<{w} x ptr>, <{w} x i1>, {v})"
        return self.put(
            f"call {v} {name}(<{w} x ptr> align {size_of(t)} {at}, "
            f"<{w} x i1> splat (i1 true), {v} poison)"
        )

    def gather_rows(self, pack: int, x: str) -> str:
        """Number x of each lane, of an array that is part of an input."""
        rows, (_, t) = self.memory.rows_of(pack), parts(self.g.type[pack])
        assert rows is not None
        narrow, wide = self.vector("i32"), self.vector("i64")
        x = self.put(f"zext {narrow} {self.place_of(x, rows.first, rows.stride)} to {wide}")
        if not rows.uniform:
            counted = f"<{', '.join(f'i64 {k}' for k in range(self.width))}>"
            world = self.put(f"add {wide} {self.splat('i64', '%lane')}, {counted}")
            size = self.by_world.ins.get(rows.buffer)
            if size is None:
                x = self.put(f"mul {wide} {x}, {self.splat('i64', '%lanes')}")
            else:
                world = self.put(f"mul {wide} {world}, splat (i64 {size})")
            x = self.put(f"add {wide} {x}, {world}")
        stored = "i8" if t == "i1" else t
        base = self.base("ins", rows.buffer)
        at = self.put(f"getelementptr {stored}, ptr {base}, {wide} {x}")
        loaded = self.load_each(stored, at)
        return self.as_mask(loaded, self.vector(stored)) if t == "i1" else loaded

    def scatter(self, home: Slot, x: str, value: str, mask: str):
        """A store at an address of its own for every lane; where the mask is false, behind the
        array.
        """
        w, v, index = self.width, self.vector(home.stored), self.vector("i32")
        if mask:
            behind = f"splat (i32 {home.size})"
            x = self.put(f"select {self.vector('i1')} {mask}, {index} {x}, {index} {behind}")
        value = self.to_memory(home, value, True)
        at = self.addresses(home, x)
        name = f"@llvm.masked.scatter.{self.suffix(v)}.v{w}p0"
        self.declared[name] = f"declare void {name}({v}, <{w} x ptr>, <{w} x i1>)"
        self.lines.append(
            f"  call void {name}({v} {value}, <{w} x ptr> align {size_of(home.stored)} {at}, "
            f"<{w} x i1> splat (i1 true))"
        )

    def each(self, size: int, body):
        """Writes body(index) for each index, as a loop if they are many."""
        if size <= WRITTEN_OUT:
            for k in range(size):
                body(str(k))
            return
        before, start, end = self.block, self.label(), self.label()
        self.lines.append(f"  br label %{start}")
        self.start(start)
        index, at = self.fresh("i"), len(self.lines)
        self.lines.append("")
        body(index)
        after = self.put(f"add i32 {index}, 1")
        more = self.put(f"icmp ult i32 {after}, {size}")
        self.lines.append(f"  br i1 {more}, label %{start}, label %{end}")
        self.lines[at] = f"  {index} = phi i32 [0, %{before}], [{after}, %{self.block}]"
        self.start(end)
