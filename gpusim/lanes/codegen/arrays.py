"""Arrays of a function in LLVM IR: where they are, and who takes whose memory."""

from collections import Counter, defaultdict

from gpusim.lanes.codegen.access import AccessWriter
from gpusim.lanes.codegen.memory import Place, Rows
from gpusim.lanes.codegen.slots import Slot
from gpusim.lanes.codegen.text import literal, size_of
from gpusim.lanes.program.operations import array_type, parts

COMPARED = 6  # places in memory among which a varying index is looked for by comparisons


class ArrayWriter(AccessWriter):
    """Writes what is in memory.

    An array takes the memory of the one it is made of if the region that is being written owns it
    and nobody reads it any more. Otherwise that one is copied.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.readers = Counter(self.memory.readers)  # of each array, those that are still to come
        self.slots: dict[int, Slot] = {}  # by array
        self.arguments: dict[int, Slot] = {}  # that have been brought near
        self.allocated = 0  # bytes
        # numbers of an array that wait until the one it takes the memory of has been read
        self.late: dict[int, list[Place]] = defaultdict(list)
        self.waiting: Counter = Counter()  # how many of these each number is

    # -- who is where ------------------------------------------------------------------------------

    def allocate(self, array_type: str, wide: bool) -> Slot:
        """Memory for an array, with a place behind it for what no lane wants to write."""
        size, t = parts(array_type)
        stored = self.stored(array_type)
        name = self.fresh("array")
        whole = self.vector(stored) if wide else stored
        self.entry.append(f"  {name} = alloca [{size + 1} x {whole}], align 64")
        self.allocated += (size + 1) * size_of(stored) * (self.width if wide else 1)
        return Slot(name, t, stored, size, wide, self.within[-1])

    def stored(self, array_type: str) -> str:
        """As what the numbers of such arrays are kept: masks as bytes, and small numbers as words
        where each lane has an address of its own, for processors do that with words only.
        """
        _, t = parts(array_type)
        if t in ("i1", "i8", "i16") and array_type in self.memory.scattered:
            return "i32"
        return "i8" if t == "i1" else t

    def table(self, pack: int) -> Slot:
        """An array of constants beside the code."""
        size, t = parts(self.g.type[pack])
        stored = self.stored(self.g.type[pack])
        known = (self.g.value[i] for i in self.g.args[pack])
        values = [int(v) if t == "i1" else v for v in known]
        numbers = ", ".join(f"{stored} {literal(stored, v)}" for v in values)
        name = f"@table{len(self.declared)}"
        self.declared[name] = (
            f"{name} = private unnamed_addr constant [{size} x {stored}] [{numbers}], align 64"
        )
        return Slot(name, t, stored, size, self.width == 1, None)

    def slot(self, array: int) -> Slot:
        """Where an array is."""
        if array not in self.slots:
            if self.g.op[array] == "pack" and self.memory.is_table(array):
                self.slots[array] = self.table(array)
            else:
                raise AssertionError(
                    f"array {array} ({self.g.op[array]}) is read before it is made"
                )
        return self.slots[array]

    def make(self, array: int, slot: Slot):
        """The memory holds this array from now on."""
        self.slots[array], slot.array = slot, array
        for n in self.memory.items[array]:
            self.live_in(slot, self.g.attr[n], n)

    def is_new(self, array: int) -> bool:
        """Whether it has no memory yet, nor numbers that anybody knows."""
        return self.g.op[array] == "blank" and array not in self.slots

    def share(self, array: int, source: int):
        if self.is_new(source):
            self.make(array, self.allocate(self.g.type[array], self.is_wide(array)))
            return
        slot = self.slots[array] = self.slot(source)
        if slot.owner is self.within[-1]:  # it is to be changed here
            slot.array = array
        for n in self.memory.items[array]:
            self.live_in(slot, self.g.attr[n], n)

    def take(self, old: int, new: int, within: int = 0) -> Slot:
        """Memory for array `new` that holds `old`, of which one reader less is to come; `within`
        are readers that see the new array.
        """
        self.readers[old] -= 1
        wide = self.is_wide(new)
        if self.is_free(old, wide, within):
            return self.slots[old]
        slot = self.allocate(self.g.type[new], wide)
        self.copy(old, slot)
        return slot

    def is_free(self, old: int, wide: bool, readers: int = 0) -> bool:
        """Whether an array with so many readers to come may be overwritten here."""
        slot = self.slots.get(old)
        if slot is None or slot.owner is not self.within[-1] or slot.wide != wide:
            return False
        return self.readers[old] == readers

    # -- reading -----------------------------------------------------------------------------------

    def emit_element(self, n: int) -> str:
        g, (array, j), (first, stride, count) = self.g, self.g.args[n], self.g.attr[n]
        varies = self.is_wide(j) and self.width > 1
        if self.memory.selects(n):
            found = [self.use(i, True) for i in self.memory.reach(n)]
            return self.search(self.use(j, True), found, g.type[n])
        rows = self.memory.rows(array) if g.op[array] == "pack" and not varies else None
        if rows:
            return self.read_rows(rows, g.type[n], self.use(j, False), first, stride)
        if varies and array in self.memory.distant:
            return self.gather_rows(array, self.place_of(self.use(j, True), first, stride))
        slot = self.slot(array)
        self.readers[array] -= 1
        x = self.use(j, varies)
        if not varies:
            return self.read(slot, first, self.times(x, stride))
        if slot.wide and count <= COMPARED:
            found = [self.read(slot, first + stride * k) for k in range(count)]
            return self.search(x, found, g.type[n])
        return self.gather(slot, self.place_of(x, first, stride))

    # -- writing -----------------------------------------------------------------------------------

    def emit_store(self, n: int):
        g, (array, j, value, *mask), (first, stride, count) = self.g, self.g.args[n], self.g.attr[n]
        varies = self.is_wide(j) and self.width > 1
        x, at = self.use(value, self.is_wide(n)), self.use(j, varies)
        slot = self.take(array, n)
        lanes = self.all_of([*slot.masks, *mask], slot.wide)
        self.vacate(slot, first if j in g.value else None)
        if not varies:
            self.write(slot, first, "" if j in g.value else self.times(at, stride), x, lanes)
        elif count <= COMPARED:
            for k in range(count):
                mask = self.put(f"icmp eq {self.vector('i32')} {at}, splat (i32 {k})")
                if lanes:
                    mask = self.put(f"and {self.vector('i1')} {mask}, {lanes}")
                self.write(slot, first + stride * k, "", x, mask)
        else:
            self.scatter(slot, self.place_of(at, first, stride), x, lanes)
        self.make(n, slot)

    def settle(self, n: int):
        places = self.memory.places[n]
        stored = [self.store_item(place, n) for place in places]
        slot, index = self.home_of(places[0].pack), places[0].index
        whole = stored[0] and not slot.masks and slot.wide == self.is_wide(n)
        if whole and n not in self.homes:
            name = self.names[self.is_wide(n)][n]
            self.recent[n] = (name, self.block, len(self.lines))
            self.live_in(slot, index, n, name)

    def home_of(self, pack: int) -> Slot:
        """The memory of an array that is being made of its numbers."""
        if pack not in self.slots:
            carried = self.memory.built_in.get(pack)
            self.slots[pack] = (
                self.allocate(self.g.type[pack], self.is_wide(pack))
                if carried is None
                else self.slots[carried]
            )
        return self.slots[pack]

    def store_item(self, place: Place, n: int) -> bool:
        """Stores a number of an array that is being made; whether that can be done already."""
        slot = self.home_of(place.pack)
        waits = slot.owner is not self.within[-1] or self.readers[slot.array]
        if place.pack in self.memory.built_in and waits:
            self.late[place.pack].append(place)
            self.waiting[n] += 1
            return False
        value = self.use(n, slot.wide)
        self.vacate(slot, place.index)
        self.write(slot, place.index, "", value, self.all_of(slot.masks, slot.wide))
        return True

    def write_pack(self, pack: int):
        """Completes an array with the numbers that are not stored when they are computed."""
        memory, items = self.memory, self.g.args[pack]
        if pack not in memory.packs or memory.is_table(pack):
            return
        rows = memory.rows_of(pack)
        if rows:
            slot = self.allocate(self.g.type[pack], self.is_wide(pack))
            self.copy_rows(pack, rows, slot)
            self.slots[pack] = slot
            return
        self.store_late(pack)
        for k, i in enumerate(items):
            if Place(pack, k) not in memory.places.get(i, ()):
                self.store_item(Place(pack, k), i)
            else:
                self.load(i)  # an input that nobody has read yet is stored now

    def store_late(self, pack: int):
        """Stores what had to wait, if it need not wait longer."""
        for place in self.late.pop(pack, ()):
            n = self.g.args[pack][place.index]
            self.store_item(place, n)
            self.waiting[n] -= 1

    def is_read_later(self, n: int) -> bool:
        """Also by the arrays that it waits to be stored in."""
        return self.waiting[n] > 0 or super().is_read_later(n)

    # -- whole arrays ------------------------------------------------------------------------------

    def copy(self, array: int, to: Slot, mask: str = ""):
        """Copies an array, where the mask is true."""
        if self.g.op[array] == "blank":
            return
        source = self.slot(array)
        read = self.read_wide if to.wide else self.read
        self.each(to.size, lambda k: self.write(to, 0, k, read(source, 0, k), mask))

    def copy_rows(self, pack: int, rows: Rows, to: Slot):
        """Copies numbers of an input."""
        if rows.buffer not in self.by_world.ins:
            alike = rows.uniform and to.wide and self.width > 1
            read = lambda k: self.read_rows(rows, to.t, k, 0, 1)
            wide = lambda k: self.splat(to.t, read(k)) if alike else read(k)
            self.each(to.size, lambda k: self.write(to, 0, k, wide(k)))
        elif rows.stride != 1 or to.size < self.side:
            for k, i in enumerate(self.g.args[pack]):
                self.write(to, k, "", self.use(i, to.wide))
        else:
            self.copy_squares(rows.buffer, rows.first, to)

    def nearby(self, buffer: int, t: str) -> Slot:
        if buffer not in self.arguments:
            size = self.by_world.ins[buffer]
            slot = self.arguments[buffer] = self.allocate(array_type(t, size), True)
            self.copy_squares(buffer, 0, slot)
        return self.arguments[buffer]

    def copy_squares(self, buffer: int, first: int, to: Slot):
        """Copies numbers of an argument in which those of a world are neighbours."""

        def square(start: str):
            at = self.put(f"add i32 {start}, {first}")
            for k, x in enumerate(self.load_square(to.t, buffer, at)):
                self.write(to, k, start, x)

        self.squares(to.size, square)

    def emit_blend(self, n: int):
        """Array a where a mask is true, else b; in the memory of one of them if it is free."""
        c, a, b = self.g.args[n]
        wide = self.is_wide(n)
        mask = self.use(c, wide)
        if self.is_free(a, wide, 1) and not self.is_free(b, wide, 1):
            a, b = b, a
            mask = self.put(f"xor {self.mask_type(wide)} {mask}, {self.ones(wide)}")
        slot = self.take(b, n)
        lanes = self.all_of(slot.masks, wide)
        if lanes:
            mask = self.put(f"and {self.mask_type(wide)} {mask}, {lanes}")
        self.vacate(slot)
        self.copy(a, slot, mask)
        self.readers[a] -= 1
        self.make(n, slot)
