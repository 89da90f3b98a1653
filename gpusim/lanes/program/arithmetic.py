"""Operations on the numbers of a scalar program that leave out what cannot matter.

Building a node folds constants and drops work without effect, so structural zeros of a model cost
nothing. Folding treats numbers as real numbers in four places: x*0 is 0 (also for a non-finite x,
and where 0 is a mask), 0/x is 0 (also for x = 0), the sign of zero is not kept, and division by a
constant is multiplication by its reciprocal (one more rounding).

Masks (`i1`) are false and true, never numbers of one bit: true is the larger one, their sum is `or`
and their product `and`, as in XLA.
"""

import math
import operator

from gpusim.lanes.program import constants
from gpusim.lanes.program.nodes import Nodes
from gpusim.lanes.program.operations import BITS, FLOATS
from gpusim.lanes.program.ranges import bounds

BITWISE = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}


class Arithmetic(Nodes):
    """Makes nodes that are numbers; operands and results are their numbers."""

    # -- arithmetic --------------------------------------------------------------------------------

    def add(self, a, b):
        t = self.type[a]
        if t in FLOATS and a not in self.folds and b not in self.folds:
            return self.alike("fadd", t, (a, b) if a <= b else (b, a))
        if a in self.zero:
            return b
        if b in self.zero:
            return a
        if t == "i1":
            return self.bitop("or", a, b)
        if t not in FLOATS:
            return self._int("add", t, a, b, lambda x, y: x + y)
        if a in self.value and b in self.value:
            return self.const(t, self.value[a] + self.value[b])
        if self.op[b] == "fneg":
            return self.sub(a, self.args[b][0])
        if self.op[a] == "fneg":
            return self.sub(b, self.args[a][0])
        if "select" in (self.op[a], self.op[b]):
            return self._of_choice(self.add, "fadd", a, b)
        return self.node("fadd", t, a, b)

    def sub(self, a, b):
        t = self.type[a]
        if t in FLOATS and a not in self.folds and b not in self.folds:
            return self.alike("fsub", t, (a, b))
        if b in self.zero:
            return a
        if t not in FLOATS:
            return self._int("sub", t, a, b, lambda x, y: x - y)
        if a in self.value and b in self.value:
            return self.const(t, self.value[a] - self.value[b])
        if a in self.zero:
            return self.neg(b)
        if self.op[b] == "fneg":
            return self.add(a, self.args[b][0])
        if "select" in (self.op[a], self.op[b]):
            return self._of_choice(self.sub, "fsub", a, b)
        return self.node("fsub", t, a, b)

    def mul(self, a, b):
        t = self.type[a]
        if t in FLOATS and a not in self.folds and b not in self.folds:
            return self.alike("fmul", t, (a, b) if a <= b else (b, a))
        va, vb = self.value.get(a), self.value.get(b)
        if va == 0 or vb == 1:
            return a
        if vb == 0 or va == 1:
            return b
        if t == "i1":
            return self.bitop("and", a, b)
        if t not in FLOATS:
            return self._int("mul", t, a, b, lambda x, y: x * y)
        if va is not None and vb is not None:
            return self.const(t, va * vb)
        if va == -1:
            return self.neg(b)
        if vb == -1:
            return self.neg(a)
        # a sign is moved outwards, where it meets an addition and vanishes
        if self.op[a] == "fneg":
            return self.neg(self.mul(self.args[a][0], b))
        if self.op[b] == "fneg":
            return self.neg(self.mul(a, self.args[b][0]))
        if "select" in (self.op[a], self.op[b]):
            return self._of_choice(self.mul, "fmul", a, b)
        return self.node("fmul", t, a, b)

    def div(self, a, b):
        """Floating-point division."""
        t = self.type[a]
        va, vb = self.value.get(a), self.value.get(b)
        if va is not None and vb is not None:
            return self.const(t, constants.divide(va, vb))
        if a in self.zero:
            return a
        if vb is not None and vb != 0 and math.isfinite(vb):
            r = constants.round_to(t, 1 / vb)
            if math.isfinite(r) and abs(r) > (1e-37 if t == "float" else 1e-300):
                return self.mul(a, self.const(t, r))
        return self.node("fdiv", t, a, b)

    def neg(self, a):
        t = self.type[a]
        if t not in FLOATS:
            return self.sub(self.const(t, 0), a)
        if a in self.value:
            return self.const(t, -self.value[a])
        if self.op[a] == "fneg":
            return self.args[a][0]
        return self.node("fneg", t, a)

    def minmax(self, op, a, b, signed=True):
        """`op` is "min" or "max"; NaN wins, as in lax.max."""
        t = self.type[a]
        if a == b:
            return a
        if t == "i1":
            return self.bitop("and" if op == "min" else "or", a, b)
        va, vb = self.value.get(a), self.value.get(b)
        if t in FLOATS:
            for v, n in ((va, a), (vb, b)):
                if v is not None and v != v:
                    return n
            if va is not None and vb is not None:
                return self.const(t, (min if op == "min" else max)(va, vb))
            return self.node("f" + op, t, a, b)
        return self.select(self.compare("lt" if op == "min" else "gt", a, b, signed), a, b)

    def _int(self, op, t, a, b, fold):
        if a in self.value and b in self.value:
            return self.const(t, fold(self.value[a], self.value[b]))
        if "select" in (self.op[a], self.op[b]):
            return self._of_choice(getattr(self, op), op, a, b)
        return self.node(op, t, a, b)

    def bitop(self, op, a, b):
        """`and`, `or`, `xor` on integers and masks."""
        t = self.type[a]
        va, vb = self.value.get(a), self.value.get(b)
        if va is not None and vb is not None:
            return self.const(t, BITWISE[op](va, vb))
        if a == b and op != "xor":
            return a
        if op == "or" and t == "i1":
            for x, y in ((a, b), (b, a)):
                if self._covers(x, y):
                    return x
        ones = 1 if t == "i1" else -1
        for x, vy, y in ((a, vb, b), (b, va, a)):
            if vy is None:
                continue
            if vy == 0:
                return y if op == "and" else x
            if vy == ones and op != "xor":
                return x if op == "and" else y
        return self.node(op, t, a, b)

    def _covers(self, wide, narrow) -> bool:
        """Whether mask `wide`, |x| <= limit, is true wherever `narrow`, x == k, is."""
        kinds = [(self.op[m], self.attr[m]) for m in (wide, narrow)]
        if kinds != [("fcmp", "ole"), ("fcmp", "oeq")]:
            return False
        (size, limit), (x, k) = self.args[wide], self.args[narrow]
        if (self.op[size], self.args[size]) != ("fabs", (x,)):
            return False
        return all(v in self.value for v in (k, limit)) and abs(self.value[k]) <= self.value[limit]

    def invert(self, a):
        return self.bitop("xor", a, self.const(self.type[a], -1))

    def any(self, a):
        """Whether a is true in one of the lanes."""
        return a if a in self.value else self.node("any", "i1", a)

    def shift(self, op, a, b):
        """`shl`, `lshr`, `ashr`; a shift by the width or more gives zeros (or the sign)."""
        t = self.type[a]
        bits = BITS[t]
        if b in self.value:
            s = self.value[b] % (1 << bits)
            if s == 0:
                return a
            if s >= bits:
                return (
                    self.shift(op, a, self.const(t, bits - 1)) if op == "ashr" else self.const(t, 0)
                )
            if a in self.value:
                v = self.value[a]
                u = v % (1 << bits)
                return self.const(t, {"shl": u << s, "lshr": u >> s, "ashr": v >> s}[op])
            return self.node(op, t, a, b)
        inside = self.compare("lt", b, self.const(t, bits), signed=False)
        safe = self.node(op, t, a, self.select(inside, b, self.const(t, bits - 1)))
        return safe if op == "ashr" else self.select(inside, safe, self.const(t, 0))

    # -- choice ------------------------------------------------------------------------------------

    def compare(self, op, a, b, signed=True):
        """`op` is one of lt le gt ge eq ne; every comparison with NaN but `ne` is false."""
        t = self.type[a]
        va, vb = self.value.get(a), self.value.get(b)
        if va is not None and vb is not None:
            if not signed:
                va, vb = va % (1 << BITS[t]), vb % (1 << BITS[t])
            return self.const("i1", getattr(operator, op)(va, vb))
        if t in FLOATS:
            if op in ("eq", "ne") and b in self.zero and self.op[a] == "fneg":
                a = self.args[a][0]  # zero has no sign
            return self.node("fcmp", "i1", a, b, attr="une" if op == "ne" else "o" + op)
        if t == "i1":
            return self._compare_masks(op, a, b)
        if a == b:
            return self.const("i1", op in ("le", "ge", "eq"))
        if va is not None or vb is not None:
            decided = self._decided(op, a, b, signed)
            if decided is not None:
                return self.const("i1", decided)
        return self.node(
            "icmp", "i1", a, b, attr=op if op in ("eq", "ne") else ("s" if signed else "u") + op
        )

    def _decided(self, op, a, b, signed) -> bool | None:
        """What a comparison of integers gives if it cannot give anything else."""
        (least, most), (low, high) = bounds(self, a), bounds(self, b)
        if not signed and (least < 0 or low < 0):
            return None
        if most < low:
            return op in ("lt", "le", "ne")
        if least > high:
            return op in ("gt", "ge", "ne")
        if (op == "le" and most <= low) or (op == "ge" and least >= high):
            return True
        if (op == "gt" and most <= low) or (op == "lt" and least >= high):
            return False
        return None

    def _compare_masks(self, op, a, b):
        if op in ("gt", "ge"):
            op, a, b = {"gt": "lt", "ge": "le"}[op], b, a
        if op in ("lt", "le"):  # not a and b; not a or b
            return self.bitop("and" if op == "lt" else "or", self.invert(a), b)
        x = self.bitop("xor", a, b)
        return x if op == "ne" else self.invert(x)

    def select(self, c, a, b):
        """`a` where c, else `b`."""
        if c in self.value:
            return a if self.value[c] else b
        a, b = self._chosen(a, c, 1), self._chosen(b, c, 2)
        if a == b:
            return a
        if self.op[c] == "xor":
            x, y = self.args[c]
            if x in self.value or y in self.value:  # the inverse of the other one
                return self.select(y if x in self.value else x, b, a)
        t = self.type[a]
        if t == "key":
            return self.node(
                "key",
                "key",
                *(self.select(c, x, y) for x, y in zip(self.args[a], self.args[b], strict=True)),
            )
        if t == "i1":
            if a in self.value:
                return (
                    self.bitop("or", c, b)
                    if self.value[a]
                    else self.bitop("and", self.invert(c), b)
                )
            if b in self.value:
                return (
                    self.bitop("or", self.invert(c), a)
                    if self.value[b]
                    else self.bitop("and", c, a)
                )
        return self.node("select", t, c, a, b)

    def _chosen(self, a, c, arm):
        """What a is where mask c has been decided."""
        again = self.op[a] == "select" and self.args[a][0] == c
        return self.args[a][arm] if again else a

    def _of_choice(self, combine, op, a, b):
        """The node op(a, b), one of them a select. A choice of constants combined with a constant,
        or with another by the same mask, is a choice of constants; a mask times x is x or 0.
        """
        value = self.value
        for chosen, other in ((a, b), (b, a)):
            if self.op[chosen] != "select":
                continue
            c, x, y = self.args[chosen]
            if x not in value or y not in value:
                continue
            u, v = self._chosen(other, c, 1), self._chosen(other, c, 2)
            is_mask = op in ("fmul", "mul") and {value[x], value[y]} == {0, 1}
            if is_mask or (u in value and v in value):
                pairs = ((x, u), (y, v)) if chosen == a else ((u, x), (v, y))
                return self.select(c, *(combine(*pair) for pair in pairs))
        return self.node(op, self.type[a], a, b)

    # -- unary, conversions ------------------------------------------------------------------------

    def unary(self, op, a, fold=None):
        """An LLVM unary float operation (`sqrt`, `fabs`, `floor`, `ceil`, `trunc`, `rint`), folded
        by `fold`.
        """
        t = self.type[a]
        if a in self.value and fold is not None:
            return self.const(t, fold(self.value[a]))
        if op == "fabs" and self.op[a] == "fneg":
            a = self.args[a][0]
        return self.node(op, t, a)

    def fma(self, a, b, c):
        """a*b + c with one rounding: for polynomials and argument reduction, where it is exactness
        and not only speed.
        """
        if (
            a in self.zero
            or b in self.zero
            or c in self.zero
            or self.value.get(a) == 1
            or self.value.get(b) == 1
        ):
            return self.add(self.mul(a, b), c)
        return self.node("fma", self.type[a], a, b, c)

    def convert(self, a, to, signed=True):
        """Value conversion between types; `signed` says how the integer side reads. Out-of-range
        floats saturate.
        """
        t = self.type[a]
        if t == to:
            return a
        if a in self.value:
            return self.const(to, constants.convert(self.value[a], t, to, signed))
        if t == "i1":
            return self.select(a, self.const(to, 1), self.const(to, 0))
        if self.op[a] == "select" and all(x in self.value for x in self.args[a][1:]):
            c, x, y = self.args[a]
            return self.select(c, self.convert(x, to, signed), self.convert(y, to, signed))
        if to == "i1":
            return self.compare("ne", a, self.const(t, 0))
        if t in FLOATS:
            if to in FLOATS:
                return self.node("fpext" if to == "double" else "fptrunc", to, a)
            return self.node("fptosi" if signed else "fptoui", to, a)
        if to in FLOATS:
            return self.node("sitofp" if signed else "uitofp", to, a)
        if BITS[to] < BITS[t]:
            return self.node("trunc_i", to, a)
        return self.node("sext" if signed else "zext", to, a)

    def bitcast(self, a, to):
        t = self.type[a]
        if t == to:
            return a
        if a in self.value:
            return self.const(to, constants.from_bits(constants.to_bits(self.value[a], t), to))
        if self.op[a] == "bitcast":
            return self.bitcast(self.args[a][0], to)
        return self.node("bitcast", to, a)
