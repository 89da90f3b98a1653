"""Loops and branches of a function in LLVM IR."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gpusim.lanes.codegen.arrays import ArrayWriter
from gpusim.lanes.codegen.slots import Slot
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.program.operations import BITS

RARELY = '!0 = !{!"branch_weights", i32 1, i32 1000}'  # keeps branches out of the way of the rest


class Stays(NamedTuple):
    """A number of a result that is what it was in an argument, unless a branch changes it."""

    argument: int  # its buffer, whose memory the result takes if it can
    result: int
    element: int  # of both


class RegionWriter(ArrayWriter):
    """Writes loops and branches.

    A `while` loop runs until no lane wants more, a branch if some lane wants it; the lanes that do
    not want it keep what they have.
    """

    tests: dict[Region, int]  # of a "while": how many of its nodes, the first, say whether to go on
    stays: dict[int, Stays]  # by result of a branch
    changed: list[tuple[str, dict[int, str]]]  # of each branch: is it taken, and where it left them

    def emit_nodes(self, nodes: list[int], first: int = 0):
        """Writes nodes of the region that is being written; `first` is the place of the first."""
        raise NotImplementedError

    def emit_loop(self, n: int):
        r: Region = self.g.attr[n]
        {"for": self.emit_for, "while": self.emit_while, "if": self.emit_if}[r.kind](n, r)

    def enter(self, r: Region):
        """From now on region r is written."""
        self.within.append(r)
        self.at.append(0)

    def own(self, r: Region, slots: dict[int, Slot]):
        """From now on region r may overwrite these arrays, in lanes that want it."""
        for slot in slots.values():
            slot.owner = r
            if self.masked(r):
                slot.masks.append(r.cond)

    def leave(self, r: Region, slots: dict[int, Slot]):
        """From now on the region around r is written, and these arrays are its results."""
        assert r.parent is not None
        self.at.pop()
        self.within.pop()
        for k, slot in slots.items():
            slot.owner = r.parent
            if self.masked(r):
                slot.masks.pop()
            self.make(r.node + 1 + k, slot)

    def masked(self, r: Region) -> bool:
        """Whether some lanes may not want what others want; a thread that does not is not here."""
        return r.cond >= 0 and self.width > 1 and self.is_wide(r.cond)

    def wanted(self, r: Region) -> tuple[list[int], list[int]]:
        """Which of the values that r gives or carries are needed: numbers, and arrays."""
        numbers, arrays = [], []
        for k in self.memory.needed(r):
            (arrays if self.g.is_array(r.outs[k]) else numbers).append(k)
        return numbers, arrays

    # -- loops -------------------------------------------------------------------------------------

    def open_phis(self, r: Region, numbers: list[int], first: dict[int, str], before: str):
        """Phi of each carried number: its name, and the line where close_phis will fill in the
        value after a trip.
        """
        phis = {}
        for k in numbers:
            name = self.fresh("p")
            phis[k] = (name, len(self.lines))
            self.lines.append(f"  {name} = phi {self.typed(r.params[k])} [{first[k]}, %{before}], ")
        return phis

    def close_phis(self, phis, values: dict[int, str]):
        for k, (_, line) in phis.items():
            self.lines[line] += f"[{values[k]}, %{self.block}]"

    def first_values(self, r: Region) -> tuple[dict[int, str], dict[int, Slot]]:
        """What the carried numbers are before the first trip, and where the carried arrays are."""
        numbers, arrays = self.wanted(r)
        carried = [k for k in numbers if self.uses[r.params[k]]]
        slots = {k: self.take(r.inits[k], r.params[k]) for k in arrays}
        for slot in slots.values():
            self.vacate(slot)
        return {k: self.use(r.inits[k], self.is_wide(r.params[k])) for k in carried}, slots

    def bind_params(self, r: Region, phis, slots: dict[int, Slot]):
        for k, slot in slots.items():
            self.make(r.params[k], slot)
        for k, (name, _) in phis.items():
            self.bind(r.params[k], name)

    def emit_for(self, n: int, r: Region):
        first, slots = self.first_values(r)
        before, body, end = self.block, self.label(), self.label()
        self.lines.append(f"  br label %{body}")
        self.start(body)
        trip, at = self.fresh("i"), len(self.lines)
        self.lines.append(f"  {trip} = phi i32 [0, %{before}], ")
        phis = self.open_phis(r, list(first), first, before)
        self.enter(r)
        self.own(r, slots)
        self.bind(r.counter, trip)
        self.bind_params(r, phis, slots)
        self.emit_nodes(r.nodes)
        self.hand_on(r, slots)
        values = {k: self.use(r.outs[k], self.is_wide(r.params[k])) for k in phis}
        next_ = self.put(f"add i32 {trip}, 1")
        more = self.put(f"icmp ult i32 {next_}, {r.trips}")
        self.lines.append(f"  br i1 {more}, label %{body}, label %{end}")
        self.lines[at] += f"[{next_}, %{self.block}]"
        self.close_phis(phis, values)
        self.start(end)
        self.leave(r, slots)
        for k in self.wanted(r)[0]:
            self.alias(n + 1 + k, r.outs[k])

    def emit_while(self, n: int, r: Region):
        first, slots = self.first_values(r)
        before, head, body, end = self.block, self.label(), self.label(), self.label()
        self.lines.append(f"  br label %{head}")
        self.start(head)
        phis = self.open_phis(r, list(first), first, before)
        self.enter(r)
        self.bind_params(r, phis, slots)
        tests = self.tests[r]
        self.emit_nodes(r.nodes[:tests])
        more = self.any(r.cond)
        self.lines.append(f"  br i1 {more}, label %{body}, label %{end}")
        self.start(body)
        self.own(r, slots)  # not before: if the test is the last, what is carried stays as it is
        self.emit_nodes(r.nodes[tests:], tests)
        self.hand_on(r, slots)
        values = {}
        for k in phis:
            p, out = r.params[k], r.outs[k]
            value = self.use(out, self.is_wide(p))
            if self.masked(r) and out != p:
                value = self.merge(r, self.typed(p), value, self.use(p, True))
            values[k] = value
        self.close_phis(phis, values)
        self.lines.append(f"  br label %{head}")
        self.start(end)
        self.leave(r, slots)
        for k in phis:
            self.alias(n + 1 + k, r.params[k])

    def merge(self, r: Region, t: str, value: str, old: str) -> str:
        """The value in lanes that want the region, in others the old one."""
        return self.put(
            f"select {self.vector('i1')} {self.use(r.cond, True)}, {t} {value}, {t} {old}"
        )

    def hand_on(self, r: Region, slots: dict[int, Slot]):
        """Brings each array to where the next trip, or whoever comes after the branch, reads it."""
        moves = {}
        for k, slot in slots.items():
            out = r.outs[k]
            if self.memory.built_in.get(out, -1) not in r.params:
                self.readers[out] -= 1
                if self.g.op[out] != "blank" and self.slot(out) is not slot:
                    moves[k] = out
        for out in moves.values():  # out of the way of the others
            if self.slot(out) in slots.values():
                aside = self.allocate(self.g.type[out], self.is_wide(out))
                self.copy(out, aside)
                self.slots[out] = aside
        for k, slot in slots.items():
            self.store_late(r.outs[k])
            if k in moves:
                self.vacate(slot)
                self.copy(moves[k], slot, self.all_of(slot.masks, slot.wide))

    # -- branches ----------------------------------------------------------------------------------

    def emit_if(self, n: int, r: Region):
        numbers, arrays = self.wanted(r)
        stay = [k for k in numbers if n + 1 + k in self.stays]
        numbers = [k for k in numbers if n + 1 + k not in self.stays]
        read = [k for k, p in enumerate(r.params) if self.uses[p]]
        others = {k: self.use(r.otherwise[k], self.is_wide(n + 1 + k)) for k in numbers}
        # what the branch changes must be ready before it: lanes may not want it
        within = Counter(r.inits[k] for k in read)
        slots = {k: self.take(r.otherwise[k], n + 1 + k, within[r.otherwise[k]]) for k in arrays}
        for slot in slots.values():
            self.vacate(slot)
        wanted, body, end = self.any(r.cond), self.label(), self.label()
        before = self.block
        self.lines.append(f"  br i1 {wanted}, label %{body}, label %{end}, !prof !0")
        self.start(body)
        self.enter(r)
        self.own(r, slots)
        # what the branch puts into a new array, it puts where that one will be
        wide = {r.inits[k]: self.is_wide(r.params[k]) for k in read}
        makes = {r.otherwise[k]: x for k, x in slots.items()}
        blank = {b: x for b, x in makes.items() if self.is_new(b) and wide.get(b) == x.wide}
        self.slots.update(blank)
        for k in read:
            self.alias(r.params[k], r.inits[k])
        for array in blank:
            del self.slots[array]
        self.emit_nodes(r.nodes)
        self.hand_on(r, slots)
        values = {k: self.use(r.outs[k], self.is_wide(n + 1 + k)) for k in numbers}
        if self.masked(r):
            for k, value in values.items():
                values[k] = self.merge(r, self.typed(n + 1 + k), value, others[k])
        self.leave_changed(r, stay, wanted)
        last = self.block
        self.lines.append(f"  br label %{end}")
        self.start(end)
        names = {k: self.fresh("p") for k in numbers}
        for k, name in names.items():
            t = self.typed(n + 1 + k)
            ends = f"[{values[k]}, %{last}], [{others[k]}, %{before}]"
            self.lines.append(f"  {name} = phi {t} {ends}")
        self.readers.subtract(r.inits[k] for k in read if self.g.is_array(r.params[k]))
        self.leave(r, slots)
        for k, name in names.items():
            self.bind(n + 1 + k, name)

    # -- numbers that stay as they are -------------------------------------------------------------

    def leave_changed(self, r: Region, stay: list[int], wanted: str):
        """At the end of branch r: what it makes of numbers that stay otherwise is put aside, so
        that who does not take it has nothing to do with them.
        """
        places = {}
        for k in stay:
            n = r.node + 1 + k
            t, (argument, _, element) = self.g.type[n], self.stays[n]
            value = self.use(r.outs[k], True)
            if self.masked(r):
                old = self.load_input(t, argument, element, False)
                value = self.merge(r, self.vector(t), value, old)
            places[n] = self.fresh("aside")
            self.entry.append(f"  {places[n]} = alloca {self.vector(t)}, align 64")
            self.allocated += BITS[t] * self.width // 8
            # volatile: LLVM would carry them in registers all the way to where they are stored
            self.lines.append(f"  store volatile {self.vector(t)} {value}, ptr {places[n]}")
        if places:
            self.changed.append((wanted, places))

    def store_changed(self):
        """At the end of the function: what branches have changed, and all that stays of results
        that did not take their argument's memory.
        """
        for wanted, places in self.changed:
            pairs = {(self.stays[n].argument, self.stays[n].result): None for n in places}
            apart = [
                self.put(f"icmp ne ptr {self.base('ins', a)}, {self.base('outs', b)}")
                for a, b in pairs
            ]
            self.when(
                functools.reduce(lambda x, y: self.put(f"or i1 {x}, {y}"), apart),
                lambda places=places: self.copy_stays(places),
            )
            self.when(wanted, lambda places=places: self.store_aside(places))

    def copy_stays(self, numbers: Iterable[int]):
        """Results of a branch, as they are where it is not taken."""
        for n in numbers:
            t, (argument, result, element) = self.g.type[n], self.stays[n]
            self.store_output(result, element, t, self.load_input(t, argument, element, False))

    def store_aside(self, places: dict[int, str]):
        """Results of a branch that was taken."""
        for n, place in places.items():
            t, (_, result, element) = self.g.type[n], self.stays[n]
            value = self.put(f"load volatile {self.vector(t)}, ptr {place}")
            self.store_output(result, element, t, value)

    def when(self, condition: str, body: Callable[[], None]):
        """Writes what is rarely done."""
        rare, end = self.label(), self.label()
        self.lines.append(f"  br i1 {condition}, label %{rare}, label %{end}, !prof !0")
        self.start(rare)
        body()
        self.lines.append(f"  br label %{end}")
        self.start(end)

    def any(self, cond: int) -> str:
        """True when some lane's mask is set."""
        x = self.use(cond, self.is_wide(cond))
        if not self.is_wide(cond) or self.width == 1:
            return x
        bits = self.put(f"bitcast {self.vector('i1')} {x} to i{self.width}")
        return self.put(f"icmp ne i{self.width} {bits}, 0")
