"""From the scalar graph to LLVM IR: one function that advances `width` worlds, each number a vector
of lanes.

At width 1 the same text is what one CUDA thread runs (nvidia_codegen.py). Values equal in all lanes
stay scalars and are widened where they meet varying ones. The text is written directly: an object
for every instruction would cost most of the compile time.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from gpusim.lanes.graph import FLOATS, Graph, Region
from gpusim.lanes.liveness import live_nodes, varying_nodes
from gpusim.lanes.memory import Memory, Place

NEAR = 50  # instructions for which a number that lives in memory is kept in a register too
RARELY = '!0 = !{!"branch_weights", i32 1, i32 1000}'  # keeps branches out of the way of the rest
INTRINSICS = {  # opcode: LLVM intrinsic of one floating-point operand
    "sqrt": "sqrt",
    "fabs": "fabs",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "rint": "roundeven",
    "ctpop": "ctpop",
}
CASTS = {"sitofp", "uitofp", "fpext", "fptrunc", "sext", "zext", "bitcast", "trunc_i", "toint"}
FLOAT_OPS = {"fadd", "fsub", "fmul", "fdiv"}


class Output(NamedTuple):
    """Node `node` is number `element` of result buffer `buffer`."""

    buffer: int
    element: int
    node: int


def emit(g: Graph, outputs: list[Output], width: int) -> str:
    """LLVM IR of `void @group(ptr ins, ptr outs, i64 lane, i64 lanes)`.

    `ins` and `outs` are arrays of pointers, one a buffer. Element k of lane l of a lane buffer is
    at k*lanes + l; a uniform input has just its elements. Lanes lane..lane+width-1 are computed.
    """
    return Emitter(g, outputs, width).text()


class Emitter:
    """Writes one function; `text` is it."""

    start_block = "entry"  # where the nodes of the root region begin

    def __init__(self, g: Graph, outputs: list[Output], width: int):
        self.g, self.outputs, self.width = g, outputs, width
        self.live = live_nodes(g, [o.node for o in outputs])
        self.varying = varying_nodes(g, self.live) if width > 1 else set()
        self.lines: list[str] = []
        self.entry: list[str] = []  # allocas, buffer pointers: must come first
        self.names: dict[int, str] = {}  # node: its scalar, or its vector when it varies
        self.wide: dict[int, str] = {}  # uniform node: its vector
        self.arrays: dict[int, tuple[str, bool]] = {}  # pack or stacked node: its array, varying?
        self.resident: dict[int, Place] = {}  # node: where in memory it can be read again
        self.recent: dict[int, tuple[str, str, int]] = {}  # its name, and the block and line of it
        self.declared: dict[str, str] = {}
        self.pointers: set[tuple[str, int]] = set()  # those in `entry` already
        self.block = self.start_block
        self.count = 0
        self.widened = self._widened()
        self.memory = Memory(g, self.live, self.varying if width > 1 else None)

    # -- what must exist as a vector ---------------------------------------------------------------

    def _widened(self) -> set[int]:
        """Uniform nodes that a varying node, carried value, branch or output reads as a vector."""
        g, out = self.g, {o.node for o in self.outputs}
        for n in self.live:
            if n in self.varying:
                out.update(g.args[n])
            if g.op[n] == "param":
                r, k = g.attr[n]
                if n in self.varying:
                    out.add(r.inits[k])
                    if r.kind != "if":
                        out.add(r.outs[k])
            elif g.op[n] == "result" and n in self.varying:
                r, k = g.attr[g.args[n][0]], g.attr[n]
                out.add(r.outs[k])
        # a result or parameter that is widened widens what it stands for
        changed = True
        while changed:
            before = len(out)
            for n in [n for n in out if g.op[n] == "result" and n not in self.varying]:
                r = g.attr[g.args[n][0]]
                out.add(r.outs[g.attr[n]] if r.kind != "while" else r.params[g.attr[n]])
            for n in [n for n in out if g.op[n] == "param" and n not in self.varying]:
                r, k = g.attr[n]
                if r.kind == "if":
                    out.add(r.inits[k])
            changed = len(out) > before
        return {n for n in out if n not in self.varying and n not in g.value and self.width > 1}

    # -- types and operands ------------------------------------------------------------------------

    def vector(self, t: str) -> str:
        return t if self.width == 1 else f"<{self.width} x {t}>"

    def is_wide(self, n: int) -> bool:
        return self.width == 1 or n in self.varying

    def typed(self, n: int) -> str:
        t = self.g.type[n]
        return self.vector(t) if self.is_wide(n) else t

    def use(self, n: int, wide: bool) -> str:
        """Operand text of node n, as a vector if `wide`."""
        if n in self.g.value:
            literal = _literal(self.g.type[n], self.g.value[n])
            return f"splat ({self.g.type[n]} {literal})" if wide and self.width > 1 else literal
        if wide and not self.is_wide(n):
            return self.wide[n]
        return self.reload(n) if n in self.resident else self.names[n]

    def reload(self, n: int) -> str:
        """A node that lives in memory."""
        name, block, line = self.recent.get(n, ("", "", 0))
        if block != self.block or len(self.lines) > line + NEAR:
            pack, k = self.resident[n]
            name = self.load_element(*self.array_of(pack), self.g.type[n], str(k))
            self.recent[n] = (name, self.block, len(self.lines))
        return name

    def fresh(self, prefix="t") -> str:
        self.count += 1
        return f"%{prefix}{self.count}"

    def put(self, text: str, prefix="t") -> str:
        name = self.fresh(prefix)
        self.lines.append(f"  {name} = {text}")
        return name

    def call(self, intrinsic: str, t: str, operands: Iterable[str], extra="", flags="") -> str:
        """Calls an intrinsic whose operands and result all have type t."""
        operands = list(operands)
        suffix = t if not t.startswith("<") else "v" + t[1:-1].replace(" x ", "")
        suffix = suffix.replace("float", "f32").replace("double", "f64")
        name = f"@llvm.{intrinsic}.{suffix}"
        extra_types = ", i1" if extra else ""
        self.declared[name] = f"declare {t} {name}({', '.join([t] * len(operands))}{extra_types})"
        return f"call {flags}{t} {name}({', '.join(f'{t} {o}' for o in operands)}{extra})"

    def bind(self, n: int, name: str):
        """Node n has been computed as `name`."""
        self.names[n] = name
        if n in self.widened:
            self.wide[n] = self.splat(self.g.type[n], name)
        if n in self.memory.places:
            self.settle(n)

    def settle(self, n: int):
        """Stores a number that is now known in its places."""
        for place in self.memory.places[n]:
            self.store_item(place, n)
        place = self.memory.places[n][0]
        if self.array_of(place.pack)[1] == self.is_wide(n) and n not in self.resident:
            self.recent[n] = (self.names[n], self.block, len(self.lines))
            self.resident[n] = place

    def splat(self, t: str, name: str) -> str:
        v = self.vector(t)
        one = self.put(f"insertelement {v} poison, {t} {name}, i64 0")
        return self.put(
            f"shufflevector {v} {one}, {v} poison, <{self.width} x i32> zeroinitializer"
        )

    # -- the function ------------------------------------------------------------------------------

    def emit_root(self):
        """Everything, from the inputs to the stores of the outputs."""
        self.emit_region(self.g.root.nodes)
        for o in self.outputs:
            self.load(o.node)  # all before the first store: a result may take an argument's memory
        for o in self.outputs:
            self.store_output(o)

    def text(self) -> str:
        """The function, and the declarations it needs."""
        self.emit_root()
        body = "\n".join(self.entry + self.lines)
        declarations = "\n".join(self.declared.values())
        return (
            "define void @group(ptr noalias readonly %ins, ptr noalias readonly %outs, "
            # without alignstack LLVM spills registers across cache lines
            "i64 %lane, i64 %lanes) nounwind alignstack(64) {\nentry:\n"
            f"{body}\n  ret void\n}}\n{declarations}\n{RARELY}\n"
        )

    def emit_region(self, nodes: list[int]):
        outermost = nodes is self.g.root.nodes
        for n in nodes:
            op = self.g.op[n]
            if n not in self.live or op in ("input", "key"):
                continue
            if outermost:
                self.load_inputs(n)
            if op == "loop":
                self.emit_loop(n)
            elif op == "pack":
                self.write_pack(n)
            else:
                self.bind(n, self.emit_node(n))

    def load_inputs(self, n: int):
        """Loads the inputs that node n, or any node of the loop n, is the first to read: as late as
        possible, once.
        """
        g, op = self.g, self.g.op[n]
        if op == "loop":
            r: Region = g.attr[n]
            for i in (*r.inits, *r.outs, *r.stacked, *([r.cond] if r.cond >= 0 else [])):
                if i in self.live:
                    self.load(i)
            for m in r.nodes:
                if m in self.live:
                    self.load_inputs(m)
        elif op == "element" and self.memory.selects(n):
            pack, index = g.args[n]
            for a in (*g.args[pack], index):
                self.load(a)
        elif op != "pack" or n in self.memory.arrays:
            for a in g.args[n]:
                if g.op[a] == "input":
                    self.load(a)

    def load(self, n: int):
        """Loads node n if it is an input that is not loaded yet."""
        if self.g.op[n] != "input" or n in self.names:
            return
        buffer, element, uniform = self.g.attr[n]
        t = self.g.type[n]
        stored = "i8" if t == "i1" else t
        place = self.place("ins", buffer, element, stored, uniform)
        whole = stored if uniform and self.width > 1 else self.vector(stored)
        name = self.put(f"load {whole}, ptr {place}, align {_size(stored)}")
        if t == "i1":
            zero = "0" if whole == stored else "zeroinitializer"
            name = self.put(f"icmp ne {whole} {name}, {zero}")
        self.bind(n, name)

    def place(self, table: str, buffer: int, element: int | str, t: str, uniform: bool) -> str:
        """Address of element `element` (of lane %lane) of a buffer."""
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

    def store_output(self, o: Output):
        t = self.g.type[o.node]
        value, v = self.use(o.node, True), self.vector(t)
        if t == "i1":
            value, t = self.put(f"zext {v} {value} to {self.vector('i8')}"), "i8"
            v = self.vector(t)
        place = self.place("outs", o.buffer, o.element, t, False)
        self.lines.append(f"  store {v} {value}, ptr {place}, align {_size(t)}")

    # -- straight-line nodes -----------------------------------------------------------------------

    def emit_node(self, n: int) -> str:
        g, op, args = self.g, self.g.op[n], self.g.args[n]
        wide = self.is_wide(n)
        t = self.typed(n)
        if op in FLOAT_OPS:
            a, b = args
            return self.put(f"{op} nsz contract {t} {self.use(a, wide)}, {self.use(b, wide)}")
        if op == "element":
            return self.emit_element(n)
        if op == "stacked":
            kept, trip = g.attr[n]
            return self.load_element(*self.arrays[kept], g.type[n], str(trip))
        x = [self.use(a, wide) for a in args]
        if op in ("fcmp", "icmp"):
            source = self.vector(g.type[args[0]]) if wide else g.type[args[0]]
            return self.put(f"{op} {g.attr[n]} {source} {x[0]}, {x[1]}")
        if op == "select":
            mask = self.vector("i1") if wide else "i1"
            return self.put(f"select {mask} {x[0]}, {t} {x[1]}, {t} {x[2]}")
        if op == "fma":
            return self.put(self.call("fma", t, x))
        if op in ("fmin", "fmax"):
            return self.emit_minmax(op, t, args, x)
        if op == "fneg":
            return self.put(f"fneg {t} {x[0]}")
        if op in INTRINSICS:
            return self.put(self.call(INTRINSICS[op], t, x))
        if op == "ctlz":
            return self.put(self.call("ctlz", t, x, ", i1 false"))
        if op in CASTS:
            source = self.vector(g.type[args[0]]) if wide else g.type[args[0]]
            return self.put(
                f"{ {'trunc_i': 'trunc', 'toint': 'fptosi'}.get(op, op) } {source} {x[0]} to {t}"
            )
        if op in ("fptosi", "fptoui"):
            return self.emit_saturating(op, n, wide, x[0])
        return self.put(f"{op} {t} {x[0]}, {x[1]}")

    def emit_minmax(self, op, t, args, x) -> str:
        """A NaN on either side wins. The hardware's instruction returns its second operand when one
        is NaN.
        """
        compare = "fcmp ogt" if op == "fmax" else "fcmp olt"
        mask = "i1" if not t.startswith("<") else self.vector("i1")
        a, b = x if args[0] in self.g.value else x[::-1]
        if (
            args[0] in self.g.value or args[1] in self.g.value
        ):  # the constant first: the other one is kept if NaN
            c = self.put(f"{compare} {t} {a}, {b}")
            return self.put(f"select {mask} {c}, {t} {a}, {t} {b}")
        c = self.put(f"{compare} {t} {a}, {b}")
        m = self.put(f"select {mask} {c}, {t} {a}, {t} {b}")
        nan = self.put(f"fcmp uno {t} {a}, {a}")
        return self.put(f"select {mask} {nan}, {t} {a}, {t} {m}")

    def emit_saturating(self, op, n, wide, x) -> str:
        to, source = self.typed(n), self.g.type[self.g.args[n][0]]
        source = self.vector(source) if wide else source
        suffix = [
            s if not s.startswith("<") else "v" + s[1:-1].replace(" x ", "") for s in (to, source)
        ]
        tail = ".".join(suffix).replace("float", "f32").replace("double", "f64")
        name = f"@llvm.{op}.sat.{tail}"
        self.declared[name] = f"declare {to} {name}({source})"
        return self.put(f"call {to} {name}({source} {x})")

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
                self.arrays[pack] = (self.table(t, items), False)
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
        for k, i in enumerate(items):
            if i in self.g.value or self.g.region[i] is not self.g.region[pack]:
                self.store_item(Place(pack, k), i)

    def table(self, t: str, items: tuple[int, ...]) -> str:
        """An array of constants beside the code."""
        name = f"@table{len(self.declared)}"
        numbers = ", ".join(f"{t} {_literal(t, self.g.value[i])}" for i in items)
        self.declared[name] = (
            f"{name} = private unnamed_addr constant [{len(items)} x {t}] [{numbers}], align 64"
        )
        return name

    def use_wide(self, n: int) -> str:
        """Operand n as a vector, widened on the spot where that was not foreseen."""
        foreseen = n in self.varying or n in self.wide or n in self.g.value
        return self.use(n, True) if foreseen else self.splat(self.g.type[n], self.names[n])

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
            return self.put(f"load {whole}, ptr {place}, align {_size(t)}")
        if not self.is_wide(index) or self.width == 1:
            array, wide = self.array_of(pack)
            name = self.load_element(array, wide, t, self.use(index, False))
            if n in self.varying and not wide:
                return self.splat(t, name)
            return name
        items, v = g.args[pack], self.vector(t)
        x = self.use(index, True)
        if self.memory.selects(n):
            out = self.use_wide(items[0])
            for k, i in enumerate(items[1:], 1):
                here = self.put(f"icmp eq {self.vector('i32')} {x}, splat (i32 {k})")
                out = self.put(
                    f"select {self.vector('i1')} {here}, {v} {self.use_wide(i)}, {v} {out}"
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
            f"call {v} {name}(<{w} x ptr> align {_size(t)} {at}, "
            f"<{w} x i1> splat (i1 true), {v} poison)"
        )

    # -- loops and branches ------------------------------------------------------------------------

    def label(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def start(self, label: str):
        self.lines.append(f"{label}:")
        self.block = label

    def emit_loop(self, n: int):
        r: Region = self.g.attr[n]
        {"for": self.emit_for, "while": self.emit_while, "if": self.emit_if}[r.kind](n, r)

    def carried(self, r: Region) -> list[int]:
        return [k for k, p in enumerate(r.params) if p in self.live]

    def first_values(self, r: Region) -> dict[int, str]:
        """What the carried values are before the first trip; those that live in memory are stored
        there.
        """
        values = {}
        for k in self.carried(r):
            p = r.params[k]
            if p in self.memory.carried:
                self.store_item(self.memory.carried[p], r.inits[k])
            else:
                values[k] = self.use(r.inits[k], self.is_wide(p))
        return values

    def open_phis(self, r: Region, first: dict[int, str], before: str):
        """Phi of each carried value that is not in memory: its name, and the line where close_phis
        will fill in the value after a trip.
        """
        phis = {}
        for k, value in first.items():
            name = self.fresh("p")
            phis[k] = (name, len(self.lines))
            self.lines.append(f"  {name} = phi {self.typed(r.params[k])} [{value}, %{before}], ")
        for k, (name, _) in phis.items():
            self.bind(r.params[k], name)
        return phis

    def close_phis(self, phis, values: dict[int, str]):
        for k, (_, line) in phis.items():
            self.lines[line] += f"[{values[k]}, %{self.block}]"

    def emit_for(self, n: int, r: Region):
        before, body, end = self.block, self.label(), self.label()
        kept = [s for s in r.stacked if s in self.live]
        for s in kept:
            wide = self.is_wide(s)
            self.arrays[s] = (self.allocate(self.g.type[s], r.trips, wide), wide)
        first = self.first_values(r)
        self.lines.append(f"  br label %{body}")
        self.start(body)
        trip = self.fresh("i")
        at = len(self.lines)
        self.lines.append(f"  {trip} = phi i32 [0, %{before}], ")
        phis = self.open_phis(r, first, before)
        self.bind(r.counter, trip)
        for p in r.params:
            if p in self.memory.carried:
                self.resident[p] = self.memory.carried[p]
                for place in self.memory.places[p]:
                    if place != self.resident[p]:
                        self.store_item(place, p)
        self.emit_region(r.nodes)
        for s in kept:
            self.load(s)
            array, wide = self.arrays[s]
            self.store_element(array, wide, self.g.type[s], trip, self.use(s, wide))
        values = {k: self.use(r.outs[k], self.is_wide(r.params[k])) for k in phis}
        next_ = self.put(f"add i32 {trip}, 1")
        more = self.put(f"icmp ult i32 {next_}, {r.trips}")
        self.lines.append(f"  br i1 {more}, label %{body}, label %{end}")
        self.lines[at] += f"[{next_}, %{self.block}]"
        self.close_phis(phis, values)
        self.start(end)
        for k in range(len(r.outs)):
            self.alias(n + 1 + k, r.outs[k])

    def emit_while(self, n: int, r: Region):
        before, head, body, end = self.block, self.label(), self.label(), self.label()
        first = self.first_values(r)
        self.lines.append(f"  br label %{head}")
        self.start(head)
        phis = self.open_phis(r, first, before)
        needed = self.inner_needs(r, r.cond)
        self.emit_region([m for m in r.nodes if m in needed])
        more = self.any(r.cond)
        self.lines.append(f"  br i1 {more}, label %{body}, label %{end}")
        self.start(body)
        self.emit_region([m for m in r.nodes if m not in needed])
        values = {}
        for k in phis:
            wide = self.is_wide(r.params[k])
            value = self.use(r.outs[k], wide)
            # finished lanes keep what they have; a finished thread is not here
            if self.width > 1 and self.is_wide(r.cond) and r.outs[k] != r.params[k]:
                old, t, mask = (
                    self.use(r.params[k], True),
                    self.typed(r.params[k]),
                    self.use(r.cond, True),
                )
                value = self.put(f"select {self.vector('i1')} {mask}, {t} {value}, {t} {old}")
            values[k] = value
        self.close_phis(phis, values)
        self.lines.append(f"  br label %{head}")
        self.start(end)
        for k in phis:
            self.alias(n + 1 + k, r.params[k])

    def emit_if(self, n: int, r: Region):
        before, body, end = self.block, self.label(), self.label()
        self.lines.append(f"  br i1 {self.any(r.cond)}, label %{body}, label %{end}, !prof !0")
        before = self.block
        self.start(body)
        for k in self.carried(r):
            self.alias(r.params[k], r.inits[k])
        self.emit_region(r.nodes)
        outs = [k for k in range(len(r.outs)) if n + 1 + k in self.live]
        values = {k: self.use(r.outs[k], self.is_wide(n + 1 + k)) for k in outs}
        last = self.block
        self.lines.append(f"  br label %{end}")
        self.start(end)
        names = {}
        for k in outs:
            names[k] = self.fresh("p")
            t = self.typed(n + 1 + k)
            zero = (
                _literal(self.g.type[n + 1 + k], 0) if not t.startswith("<") else "zeroinitializer"
            )
            self.lines.append(f"  {names[k]} = phi {t} [{values[k]}, %{last}], [{zero}, %{before}]")
        for k, name in names.items():
            self.bind(n + 1 + k, name)

    def alias(self, n: int, source: int):
        """Node n is another name for `source`."""
        if n not in self.live:
            return
        if source in self.resident and self.is_wide(n) == self.is_wide(source):
            self.resident[n] = self.resident[source]
        else:
            self.names[n] = self.use(source, self.is_wide(n))
        if n in self.widened:
            self.wide[n] = self.use(source, True)
        if n in self.memory.places:
            self.settle(n)

    def any(self, cond: int) -> str:
        """True when some lane's mask is set."""
        x = self.use(cond, self.is_wide(cond))
        if not self.is_wide(cond) or self.width == 1:
            return x
        bits = self.put(f"bitcast {self.vector('i1')} {x} to i{self.width}")
        return self.put(f"icmp ne i{self.width} {bits}, 0")

    def inner_needs(self, r: Region, n: int) -> set[int]:
        """The nodes of region r (and loops in it) that node n depends on."""
        g, needed, todo = self.g, set(), [n]
        while todo:
            m = todo.pop()
            if m in needed or g.region[m].depth < r.depth:
                continue
            needed.add(m)
            todo.extend(g.args[m])
            if g.op[m] == "loop":
                inner = g.attr[m]
                todo.extend((*inner.inits, *inner.outs, *([inner.cond] if inner.cond >= 0 else [])))
                todo.extend(self.outer_reads(inner))
        return needed

    def outer_reads(self, r: Region) -> list[int]:
        reads = []
        for m in r.nodes:
            reads.extend(self.g.args[m])
            if self.g.op[m] == "loop":
                inner = self.g.attr[m]
                reads.extend(
                    (*inner.inits, *inner.outs, *([inner.cond] if inner.cond >= 0 else []))
                )
                reads.extend(self.outer_reads(inner))
        return reads


def _size(t: str) -> int:
    return {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}[t]


def _literal(t: str, value) -> str:
    if t in FLOATS:
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if t == "i1":
        return "true" if value else "false"
    return str(value)
