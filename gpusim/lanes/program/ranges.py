"""What an integer of a program can be at most and at least: indices that cannot be wrong need no
check.
"""

from gpusim.lanes.program.nodes import Nodes
from gpusim.lanes.program.operations import BITS

Range = tuple[int, int]
LIMIT = 100  # nodes that are looked at


def bounds(g: Nodes, n: int) -> Range:
    """The least and the largest value that node n can have, read as a signed integer."""
    known: dict[int, Range] = {}

    def of(n: int) -> Range:
        if n in g.value:
            return g.value[n], g.value[n]
        if n not in known:
            known[n] = every(n)
            if len(known) <= LIMIT:
                known[n] = look(n)
        return known[n]

    def every(n: int) -> Range:
        t = g.type[n]
        return (0, 1) if t == "i1" else (-(1 << BITS[t] - 1), (1 << BITS[t] - 1) - 1)

    def look(n: int) -> Range:
        rule, (low, high) = _RULES.get(g.op[n]), every(n)
        found = rule(g, n, of) if rule else None
        if found is None or found[0] < low or found[1] > high:  # it may wrap around
            return low, high
        return found

    return of(n)


def _counter(g: Nodes, n: int, _) -> Range:
    return 0, g.attr[n].trips - 1


def _param(g: Nodes, n: int, of) -> Range | None:
    if n in g.limits:
        return g.limits[n]
    region, k = g.attr[n]
    return of(region.inits[k]) if region.kind == "if" else None


def _add(g: Nodes, n: int, of) -> Range:
    (a, b), (c, d) = map(of, g.args[n])
    return a + c, b + d


def _sub(g: Nodes, n: int, of) -> Range:
    (a, b), (c, d) = map(of, g.args[n])
    return a - d, b - c


def _mul(g: Nodes, n: int, of) -> Range:
    (a, b), (c, d) = map(of, g.args[n])
    corners = a * c, a * d, b * c, b * d
    return min(corners), max(corners)


def _and(g: Nodes, n: int, of) -> Range | None:
    tops = [high for low, high in map(of, g.args[n]) if low >= 0]
    return (0, min(tops)) if tops else None


def _zext(g: Nodes, n: int, of) -> Range:
    (x,) = g.args[n]
    low, high = of(x)
    return (low, high) if low >= 0 else (0, (1 << BITS[g.type[x]]) - 1)


def _same(g: Nodes, n: int, of) -> Range:
    return of(g.args[n][0])


def _lshr(g: Nodes, n: int, of) -> Range | None:
    low, high = of(g.args[n][0])
    by = g.value.get(g.args[n][1])
    if by is None:
        return None
    return (low >> by, high >> by) if low >= 0 else (0, (1 << BITS[g.type[n]] - by) - 1)


def _ashr(g: Nodes, n: int, of) -> Range | None:
    low, high = of(g.args[n][0])
    by = g.value.get(g.args[n][1])
    return None if by is None else (low >> by, high >> by)


def _srem(g: Nodes, n: int, of) -> Range | None:
    low, high = of(g.args[n][0])
    by = g.value.get(g.args[n][1], 0)
    return (0 if low >= 0 else 1 - by, 0 if high <= 0 else by - 1) if by > 0 else None


def _urem(g: Nodes, n: int, of) -> Range | None:
    by = g.value.get(g.args[n][1], 0)
    return (0, by - 1) if by > 0 else None


def _count(g: Nodes, n: int, _) -> Range:
    return 0, BITS[g.type[n]]


def _element(g: Nodes, n: int, _) -> Range | None:
    """Of a table of constants, which is looked through once: it may be long, and read often."""
    array = g.args[n][0]
    if array not in g.spans:
        items = set(g.args[array]) if g.op[array] == "pack" else set()
        known = items and items <= g.value.keys()
        values = [g.value[i] for i in items] if known else []
        g.spans[array] = (min(values), max(values)) if values else None
    return g.spans[array]


def _select(g: Nodes, n: int, of) -> Range | None:
    c, x, y = g.args[n]
    (a, b), (low, high) = of(x), of(y)
    if g.op[c] == "icmp":
        p, q = g.args[c]
        test = g.attr[c]
        if (p, q) == (x, y):
            if test in ("slt", "sle"):
                return min(a, low), min(b, high)
            if test in ("sgt", "sge"):
                return max(a, low), max(b, high)
            if test in ("ult", "ule") and (a >= 0 or low >= 0):
                return 0, min(top for least, top in ((a, b), (low, high)) if least >= 0)
        if test == "slt" and g.value.get(q) == 0 and p == y:  # of a negative index, and of others
            (least, _), shift = of(p), _shift(g, p, x)
            if shift is not None:
                return min(least + shift, max(0, low)), max(shift - 1, high)
    return min(a, low), max(b, high)


def _shift(g: Nodes, x: int, y: int) -> int | None:
    """k where y is x + k."""
    if g.op[y] == "add" and x in g.args[y]:
        other = g.args[y][g.args[y][0] == x]
        return g.value.get(other)
    return None


_RULES = {
    "counter": _counter,
    "param": _param,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "and": _and,
    "zext": _zext,
    "sext": _same,
    "trunc_i": _same,
    "lshr": _lshr,
    "ashr": _ashr,
    "srem": _srem,
    "urem": _urem,
    "ctpop": _count,
    "ctlz": _count,
    "element": _element,
    "select": _select,
}
