"""From the scalar graph to LLVM IR: one function that advances `width` worlds, each number a vector
of lanes.

At width 1 the same text is what one CUDA thread runs (nvidia/emitter.py). Values equal in all lanes
stay scalars and are widened where they meet varying ones. The text is written directly: an object
for every instruction would cost most of the compile time.
"""

from typing import NamedTuple

from gpusim.lanes.codegen.arrays import ArrayWriter
from gpusim.lanes.codegen.text import literal, size_of
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.liveness import count_uses, needs, varying_nodes
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.program.passes import bring_forward, choose_once

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


class Emitter(ArrayWriter):
    """Writes one function; `text` is it."""

    def __init__(self, g: Graph, outputs: list[Output], width: int):
        results = [o.node for o in outputs]
        uses = count_uses(g, results)
        choose_once(g, uses)
        bring_forward(g, g.root, uses)
        varying = varying_nodes(g) if width > 1 else bytearray([1]) * len(g.op)
        super().__init__(g, uses, varying, width)
        self.outputs = outputs

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
        body = "\n".join(filter(None, self.entry + self.lines))
        declarations = "\n".join(self.declared.values())
        return (
            "define void @group(ptr noalias readonly %ins, ptr noalias readonly %outs, "
            # without alignstack LLVM spills registers across cache lines
            "i64 %lane, i64 %lanes) nounwind alignstack(64) {\nentry:\n"
            f"{body}\n  ret void\n}}\n{declarations}\n{RARELY}\n"
        )

    def emit_region(self, nodes: list[int]):
        g, outermost = self.g, nodes is self.g.root.nodes
        ops, varying = g.op, self.varying
        for n in nodes:
            op = ops[n]
            if op in FLOAT_OPS and varying[n]:
                self.emit_arithmetic(n, op)
            elif op == "loop":
                if outermost:
                    self.load_inputs(g.attr[n])
                self.emit_loop(n)
            elif op == "pack":
                self.write_pack(n)
            elif op not in ("input", "key"):
                self.bind(n, self.emit_node(n))

    def load_inputs(self, r: Region):
        """Loads the inputs that region r is the first to read: before it, and so once."""
        g = self.g
        for i in (*r.inits, *r.outs, *r.stacked, *([r.cond] if r.cond >= 0 else [])):
            if self.uses[i]:
                self.load(i)
        for n in r.nodes:
            op = g.op[n]
            if op == "loop":
                self.load_inputs(g.attr[n])
            elif op == "element" and self.memory.selects(n):
                pack, index = g.args[n]
                for a in (*g.args[pack], index):
                    self.load(a)
            elif op != "pack" or n in self.memory.arrays:
                for a in g.args[n]:
                    if g.op[a] == "input":
                        self.load(a)

    def store_output(self, o: Output):
        t = self.g.type[o.node]
        value, v = self.use(o.node, True), self.vector(t)
        if t == "i1":
            value, t = self.put(f"zext {v} {value} to {self.vector('i8')}"), "i8"
            v = self.vector(t)
        place = self.place("outs", o.buffer, o.element, t, False)
        self.lines.append(f"  store {v} {value}, ptr {place}, align {size_of(t)}")

    # -- straight-line nodes -----------------------------------------------------------------------

    def emit_arithmetic(self, n: int, op: str):
        """An operation on vectors, as most are: `emit_node` and `bind` in one, for speed."""
        names, (a, b) = self.names[True], self.g.args[n]
        x = names[a] or self.find(a, True)
        y = names[b] or self.find(b, True)
        self.count += 1
        name = names[n] = f"%t{self.count}"
        t = self.vectors[self.g.type[n]]
        self.lines.append(f"  {name} = {op} nsz contract {t} {x}, {y}")
        if n in self.memory.places:
            self.settle(n)

    def emit_node(self, n: int) -> str:
        g, op, args = self.g, self.g.op[n], self.g.args[n]
        wide = self.is_wide(n)
        t = self.vector(g.type[n]) if wide else g.type[n]
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
        flags = " nsz contract" if op in FLOAT_OPS else ""
        return self.put(f"{op}{flags} {t} {x[0]}, {x[1]}")

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

    # -- loops and branches ------------------------------------------------------------------------

    def emit_loop(self, n: int):
        r: Region = self.g.attr[n]
        {"for": self.emit_for, "while": self.emit_while, "if": self.emit_if}[r.kind](n, r)

    def carried(self, r: Region) -> list[int]:
        return [k for k, p in enumerate(r.params) if self.uses[p]]

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
        kept = [s for s in r.stacked if self.uses[s]]
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
                self.live_in(self.memory.carried[p], p)
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
        needed = needs(self.g, r, r.cond)
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
        outs = [k for k in range(len(r.outs)) if self.uses[n + 1 + k]]
        values = {k: self.use(r.outs[k], self.is_wide(n + 1 + k)) for k in outs}
        last = self.block
        self.lines.append(f"  br label %{end}")
        self.start(end)
        names = {}
        for k in outs:
            names[k] = self.fresh("p")
            t = self.typed(n + 1 + k)
            zero = (
                literal(self.g.type[n + 1 + k], 0) if not t.startswith("<") else "zeroinitializer"
            )
            self.lines.append(f"  {names[k]} = phi {t} [{values[k]}, %{last}], [{zero}, %{before}]")
        for k, name in names.items():
            self.bind(n + 1 + k, name)

    def any(self, cond: int) -> str:
        """True when some lane's mask is set."""
        x = self.use(cond, self.is_wide(cond))
        if not self.is_wide(cond) or self.width == 1:
            return x
        bits = self.put(f"bitcast {self.vector('i1')} {x} to i{self.width}")
        return self.put(f"icmp ne i{self.width} {bits}, 0")
