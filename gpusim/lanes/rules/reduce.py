"""Rules that combine the numbers of an array, or put them in order."""

import functools

import numpy as np

from gpusim.lanes.program.constants import FLOATS
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.rules.arith import _float_order, dtype_of
from gpusim.lanes.scalarize import Scalarizer, elementwise, is_float, is_signed, places, rule

CHAINS = 4  # partial results of a long sum, product, maximum...


def _combiner(s: Scalarizer, op: str, dtype):
    g, signed = s.g, is_signed(dtype)
    return {
        "sum": g.add,
        "prod": g.mul,
        "max": lambda a, b: g.minmax("max", a, b, signed),
        "min": lambda a, b: g.minmax("min", a, b, signed),
        "and": lambda a, b: g.bitop("and", a, b),
        "or": lambda a, b: g.bitop("or", a, b),
        "xor": lambda a, b: g.bitop("xor", a, b),
    }[op]


def _identity(op: str, dtype):
    if op in ("max", "min"):
        low, high = (
            (-np.inf, np.inf) if is_float(dtype) else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        )
        return low if op == "max" else high
    return {"sum": 0, "prod": 1, "and": -1, "or": 0, "xor": 0}[op]


@rule(
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor"
)
def _reduce(s, eqn, x):
    op, dtype, axes = eqn.primitive.name[7:], dtype_of(eqn), eqn.params["axes"]
    combine = _combiner(s, op, dtype)
    kept = [d for d in range(x.ndim) if d not in axes]
    rows = x.transpose(*kept, *axes).reshape([x.shape[d] for d in kept] + [-1])
    out = np.empty(rows.shape[:-1], np.int64)
    for at in places(out.shape):
        items = rows[at].tolist()
        out[at] = (
            _fold(s.g, combine, items) if items else s.full((), dtype, _identity(op, dtype)).item()
        )
    return [out]


def _fold(g: Graph, combine, items):
    """All items combined, many of them in several chains: an operation takes four cycles, in which
    the processor can begin more than one. They are taken as they become known, while they are in
    registers.
    """
    chains = 1
    if len(items) >= 8 * CHAINS:
        chains, items = CHAINS, sorted(items, key=lambda n: _source(g, n))
    out = items[:chains]
    for k, item in enumerate(items[chains:]):
        out[k % chains] = combine(out[k % chains], item)
    return functools.reduce(combine, out)


def _source(g: Graph, n: int) -> int:
    """The result of a loop, or other beginning, from which n is a few operations away."""
    for _ in range(8):
        made_of = [a for a in g.args[n] if a not in g.value]
        if not made_of or g.op[n] == "result":
            break
        n = min(made_of)
    return n


@rule("cumsum", "cumprod", "cummax", "cummin")
def _cumulative(s, eqn, x):
    combine = _combiner(s, eqn.primitive.name[3:], dtype_of(eqn))
    x = np.moveaxis(x, eqn.params["axis"], 0)
    x = x[::-1] if eqn.params["reverse"] else x
    rows = [x[0]] if len(x) else []
    for row in x[1:]:
        rows.append(elementwise(combine, rows[-1], row))
    out = np.stack(rows) if rows else x
    out = out[::-1] if eqn.params["reverse"] else out
    return [np.moveaxis(out, 0, eqn.params["axis"])]


@rule("argmax", "argmin")
def _argminmax(s, eqn, x):
    g, (axis,), signed = s.g, eqn.params["axes"], is_signed(dtype_of(eqn))
    index_type = s.full((), eqn.params["index_dtype"], 0).item()
    name = "gt" if eqn.primitive.name == "argmax" else "lt"
    rows = np.moveaxis(x, axis, -1)
    out = np.empty(rows.shape[:-1], np.int64)
    for at in places(out.shape):
        best, where = int(rows[at][0]), index_type
        for k, v in enumerate(rows[at].tolist()[1:], 1):
            better = g.compare(name, v, best, signed)
            if g.type[v] in FLOATS:  # the first NaN wins, as in XLA
                v_nan, best_nan = g.compare("ne", v, v), g.compare("ne", best, best)
                better = g.bitop("and", g.bitop("or", better, v_nan), g.invert(best_nan))
            where = g.select(better, g.const(g.type[index_type], k), where)
            best = g.select(better, v, best)
        out[at] = where
    return [out]


@rule("sort")
def _sort(s, eqn, *operands):
    g, p = s.g, eqn.params
    kinds = [(is_float(v.aval.dtype), is_signed(v.aval.dtype)) for v in eqn.invars]

    def before(a, b):  # lexicographic on the first num_keys operands
        less, equal = g.const("i1", 0), g.const("i1", 1)
        for x, y, kind in list(zip(a, b, kinds, strict=True))[: p["num_keys"]]:
            less = g.bitop("or", less, g.bitop("and", equal, _precedes(s, x, y, *kind)))
            same = _float_order(g, "eq", x, y) if kind[0] else g.compare("eq", x, y)
            equal = g.bitop("and", equal, same)
        return less

    rows = [np.moveaxis(x, p["dimension"], -1) for x in operands]
    return [np.moveaxis(x, -1, p["dimension"]) for x in _sorted(s, rows, before)]


def _precedes(s, x, y, floating, signed):
    return _float_order(s.g, "lt", x, y) if floating else s.g.compare("lt", x, y, signed)


def _sorted(s, arrays, before):
    """Rows of the arrays sorted together by a stable odd-even transposition network: n(n-1)/2
    comparisons, fit for the small arrays of one world.
    """
    g, arrays, n = s.g, [x.copy() for x in arrays], arrays[0].shape[-1]
    for at in places(arrays[0].shape[:-1]):
        items = [tuple(int(x[at][k]) for x in arrays) for k in range(n)]
        for turn in range(n):
            for k in range(turn % 2, n - 1, 2):
                a, b = items[k], items[k + 1]
                swap = before(b, a)
                items[k] = tuple(g.select(swap, y, x) for x, y in zip(a, b, strict=True))
                items[k + 1] = tuple(g.select(swap, x, y) for x, y in zip(a, b, strict=True))
        for x, column in zip(arrays, zip(*items, strict=True), strict=True):
            x[at] = column
    return arrays


@rule("top_k")
def _top_k(s, eqn, x):
    """The k largest and their indices: a stable sort from the largest on."""
    k, axis = eqn.params["k"], eqn.params.get("axis", -1)
    t = s.lane_type(eqn.outvars[1].aval.dtype)
    rows = np.moveaxis(x, axis, -1)
    index = np.broadcast_to([s.g.const(t, i) for i in range(rows.shape[-1])], rows.shape)
    kind = (is_float(dtype_of(eqn)), is_signed(dtype_of(eqn)))
    both = _sorted(s, [rows, index], lambda a, b: _precedes(s, b[0], a[0], *kind))
    return [np.moveaxis(y[..., :k], -1, axis) for y in both]
