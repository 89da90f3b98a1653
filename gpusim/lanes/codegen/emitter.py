"""From the scalar graph to LLVM IR: one function that advances `width` worlds, each number a vector
of lanes.

At width 1 the same text is what one CUDA thread runs (nvidia/emitter.py). Values equal in all lanes
stay scalars and are widened where they meet varying ones. The text is written directly: an object
for every instruction would cost most of the compile time.
"""

from collections.abc import Mapping
from itertools import chain, groupby
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from gpusim.lanes import budget
from gpusim.lanes.codegen.buffers import ByWorld
from gpusim.lanes.codegen.regions import RARELY, RegionWriter, Stays
from gpusim.lanes.codegen.slots import Slot
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.liveness import count_uses, needs, varying_nodes
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.program.operations import OPERATIONS, array_type
from gpusim.lanes.program.passes import bring_forward, choose_once
from gpusim.lanes.program.verify import verify

NONE = ByWorld()
SIMPLE = {name: o.text + o.flags for name, o in OPERATIONS.items() if o.form == "binary"}


class Output(NamedTuple):
    """Node `node` is number `element` of result buffer `buffer`."""

    buffer: int
    element: int
    node: int


def emit(
    g: Graph,
    outputs: list[Output],
    width: int,
    by_world: ByWorld = NONE,
    in_place: Mapping[int, int] = MappingProxyType({}),
) -> str:
    """LLVM IR of `void @group(ptr ins, ptr outs, i64 lane, i64 lanes)`.

    `ins` and `outs` are arrays of pointers, one a buffer. Element k of lane l of a lane buffer is
    at k*lanes + l, or if the numbers of a world are neighbours at l*size + k; a uniform input has
    just its elements. Lanes lane..lane+width-1 are computed. `in_place` are the arguments whose
    memory a result may be given, and which one.
    """
    return Emitter(g, outputs, width, by_world, in_place).text()


class Emitter(RegionWriter):
    """Writes one function; `text` is it."""

    simple: ClassVar = SIMPLE  # operations that `emit_binary` writes

    def __init__(
        self,
        g: Graph,
        outputs: list[Output],
        width: int,
        by_world: ByWorld = NONE,
        in_place: Mapping[int, int] = MappingProxyType({}),
    ):
        self.outputs = {
            k: [o.node for o in same] for k, same in groupby(outputs, lambda o: o.buffer)
        }
        self.together = {k: self._together(g, self.outputs[k]) for k in by_world.outs}
        given = [o.node for o in outputs]
        uses = count_uses(g, given)
        choose_once(g, uses)
        bring_forward(g, g.root, uses)
        self.tests = {}
        _tests_first(g, g.root, self.tests)
        verify(g, given, uses)
        varying = varying_nodes(g) if width > 1 else bytearray([1]) * len(g.op)
        for pack in self.together.values():
            varying[pack] = True
        results = [*self.outputs.values()]
        super().__init__(g, uses, varying, width, results, by_world, set(self.together.values()))
        self.stays = {
            o.node: Stays(argument, o.buffer, o.element)
            for o in outputs
            if (argument := self._unless_changed(o)) is not None
            and in_place.get(argument) == o.buffer
            and o.buffer not in by_world.outs
        }
        self.changed = []

    def _unless_changed(self, o: Output) -> int | None:
        """The argument of which an output has the same number, unless a branch changes it that
        everything else is outside of.
        """
        g = self.g
        if g.op[o.node] != "result" or self.uses[o.node] > 1:
            return None
        r: Region = g.attr[g.args[o.node][0]]
        if r.kind != "if" or r.parent is not g.root:
            return None
        old = r.otherwise[g.attr[o.node]]
        if g.op[old] != "input" or g.is_array(old):
            return None
        argument, element, uniform = g.attr[old]
        return argument if element == o.element and not uniform else None

    @staticmethod
    def _together(g: Graph, numbers: list[int]) -> int:
        """The array of a result in which those of a world are neighbours: it is put together in
        memory, and nobody else reads it.
        """
        return g.new("pack", array_type(g.type[numbers[0]], len(numbers)), tuple(numbers))

    # -- the function ------------------------------------------------------------------------------

    def emit_root(self):
        """Everything, from the inputs to the stores of the outputs."""
        self.emit_nodes(self.g.root.nodes)
        for n in chain.from_iterable(self.outputs.values()):
            self.load(n)  # all before the first store: a result may take an argument's memory
        for buffer, numbers in self.outputs.items():
            self.store_outputs(buffer, numbers)
        self.store_changed()
        budget.check_stack(self.allocated, self.width)

    def text(self) -> str:
        """The function, and the declarations it needs."""
        self.emit_root()
        body = "\n".join(filter(None, self.entry + self.lines))
        declarations = "\n".join(self.declared.values())
        return (
            "define void @group(ptr noalias readonly %ins, ptr noalias readonly %outs, "
            # without alignstack LLVM spills registers across cache lines
            "i64 %lane, i64 %lanes) nounwind alignstack(64) {\nentry:\n"
            f"{body}\n  ret void\n}}\n{declarations}\n{RARELY}\n"
        )

    def emit_nodes(self, nodes: list[int], first: int = 0):
        ops, varying, simple, at = self.g.op, self.varying, self.simple, self.at
        depth = len(at) - 1
        for k, n in enumerate(nodes, first):
            at[depth] = k
            op = ops[n]
            if op in simple and varying[n]:
                self.emit_binary(n, simple[op])
            elif op in OPERATIONS or op in ("select", "element"):
                self.bind(n, self.emit_node(n))
            elif op == "loop":
                if depth == 0:
                    self.load_inputs(self.g.attr[n])
                self.emit_loop(n)
            elif op == "pack":
                self.write_pack(n)
            elif op == "store":
                self.emit_store(n)
            elif op == "blend":
                self.emit_blend(n)

    def load_inputs(self, r: Region):
        """Loads the inputs that region r is the first to read: before it, and so once."""
        g, uses = self.g, self.uses
        begins = [i for i, p in zip(r.inits, r.params, strict=True) if uses[p]]
        for i in (*begins, *r.outs, *r.otherwise, *([r.cond] if r.cond >= 0 else [])):
            if uses[i]:
                self.load(i)
        for n in r.nodes:
            op = g.op[n]
            if op == "loop":
                self.load_inputs(g.attr[n])
            elif op == "element" and self.memory.selects(n):
                for a in (*self.memory.reach(n), g.args[n][1]):
                    self.load(a)
            elif op != "pack" or n in self.memory.packs:
                for a in g.args[n]:
                    if g.op[a] == "input":
                        self.load(a)

    def store_outputs(self, buffer: int, numbers: list[int]):
        """Stores the numbers of one result; a copy of an array if they are that."""
        array, t = self.g.array_of(numbers), self.g.type[numbers[0]]
        if array is None and buffer in self.together:
            array = self.together[buffer]
            self.write_pack(array)
        if array is not None:
            self.store_array(buffer, self.slot(array))
        else:
            for k, n in enumerate(numbers):
                if n not in self.stays:
                    self.store_output(buffer, k, t, self.use(n, True))

    def store_array(self, buffer: int, slot: Slot):
        """Stores a result that is an array in memory."""

        def number(k: str):
            at = self.put(f"zext i32 {k} to i64")
            self.store_output(buffer, at, slot.t, self.read_wide(slot, 0, k))

        def square(start: str):
            numbers = [self.read_wide(slot, k, start) for k in range(self.side)]
            self.store_square(slot.t, buffer, start, numbers)

        if buffer in self.by_world.outs:
            self.squares(slot.size, square)
        else:
            self.each(slot.size, number)

    # -- straight-line nodes -----------------------------------------------------------------------

    def emit_binary(self, n: int, text: str):
        """An operation on two vectors, as most are: `emit_node` and `bind` in one, for speed."""
        names, (a, b) = self.names[True], self.g.args[n]
        x = names[a] or self.find(a, True)
        y = names[b] or self.find(b, True)
        self.count += 1
        name = names[n] = f"%t{self.count}"
        self.lines.append(f"  {name} = {text} {self.vectors[self.g.type[n]]} {x}, {y}")
        if n in self.memory.places:
            self.settle(n)

    def emit_node(self, n: int) -> str:
        g, op, args = self.g, self.g.op[n], self.g.args[n]
        if op == "element":
            return self.emit_element(n)
        if op == "any":
            return self.any(args[0])
        wide = self.is_wide(n)
        t = self.typed(n)
        x = [self.use(a, wide) for a in args]
        if op == "select":
            mask = self.vector("i1") if wide else "i1"
            return self.put(f"select {mask} {x[0]}, {t} {x[1]}, {t} {x[2]}")
        form, text, flags = OPERATIONS[op].form, OPERATIONS[op].text, OPERATIONS[op].flags
        source = self.vector(g.type[args[0]]) if wide else g.type[args[0]]
        if form == "binary":
            return self.put(f"{text}{flags} {t} {x[0]}, {x[1]}")
        if form == "intrinsic":
            return self.put(self.call(text, t, x, flags))
        if form == "compare":
            return self.put(f"{text} {g.attr[n]} {source} {x[0]}, {x[1]}")
        if form == "minmax":
            return self.emit_minmax(op, t, args, x)
        if form == "unary":
            return self.put(f"{text} {t} {x[0]}")
        if form == "cast":
            return self.put(f"{text} {source} {x[0]} to {t}")
        return self.emit_saturating(text, t, source, x[0])

    def emit_minmax(self, op, t, args, x) -> str:
        """A NaN on either side wins. The hardware's instruction returns its second operand when one
        is NaN.
        """
        compare = "fcmp ogt" if op == "fmax" else "fcmp olt"
        mask = "i1" if not t.startswith("<") else self.vector("i1")
        # a constant comes first (it is none that is NaN): the other one is kept if NaN
        a, b = x if args[0] in self.g.value else x[::-1]
        c = self.put(f"{compare} {t} {a}, {b}")
        m = self.put(f"select {mask} {c}, {t} {a}, {t} {b}")
        if args[0] in self.g.value or args[1] in self.g.value:
            return m
        nan = self.put(f"fcmp uno {t} {a}, {a}")
        return self.put(f"select {mask} {nan}, {t} {a}, {t} {m}")

    def emit_saturating(self, op: str, t: str, source: str, x: str) -> str:
        """A conversion in which what is too large becomes the largest integer, and NaN 0."""
        name = f"@llvm.{op}.sat.{self.suffix(t)}.{self.suffix(source)}"
        self.declared[name] = f"declare {t} {name}({source})"
        return self.put(f"call {t} {name}({source} {x})")


def _tests_first(g: Graph, region: Region, tests: dict[Region, int]):
    """Puts what a `while` loop goes on by before the rest of its nodes."""
    for n in region.nodes:
        if g.op[n] == "loop":
            r: Region = g.attr[n]
            _tests_first(g, r, tests)
            if r.kind == "while":
                needed = needs(g, r, r.cond)
                first = [m for m in r.nodes if m in needed]
                r.nodes[:] = [*first, *(m for m in r.nodes if m not in needed)]
                tests[r] = len(first)
