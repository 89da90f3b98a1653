"""Rules that combine the numbers of an array, or put them in order."""

import functools
import math

import numpy as np

from gpusim.lanes import jaxprs
from gpusim.lanes import math as lane_math
from gpusim.lanes.program.constants import FLOATS
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.rules.arith import _float_order, dtype_of
from gpusim.lanes.scalarize import (
    Scalarizer,
    elementwise,
    is_bool,
    is_float,
    is_signed,
    places,
    rule,
)

CHAINS = 4  # partial results of a long sum, product, maximum...


def combiner(s: Scalarizer, op: str, dtype):
    """The function of two nodes that a sum, product, maximum... of a dtype repeats."""
    g, signed = s.g, is_signed(dtype)
    return {
        "sum": g.add,
        "logsumexp": lambda a, b: lane_math.logaddexp(g, a, b),
        "prod": g.mul,
        "max": lambda a, b: g.minmax("max", a, b, signed),
        "min": lambda a, b: g.minmax("min", a, b, signed),
        "and": lambda a, b: g.bitop("and", a, b),
        "or": lambda a, b: g.bitop("or", a, b),
        "xor": lambda a, b: g.bitop("xor", a, b),
    }[op]


def identity(op: str, dtype):
    """What combined with x gives x."""
    if op in ("max", "min"):
        if is_float(dtype):
            low, high = -np.inf, np.inf
        elif is_bool(dtype):
            low, high = False, True
        else:
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        return low if op == "max" else high
    return {"sum": 0, "prod": 1, "and": -1, "or": 0, "xor": 0}[op]


@rule(
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor"
)
def _reduce(s, eqn, x):
    op, dtype = eqn.primitive.name[7:], dtype_of(eqn)
    combine = combiner(s, op, dtype)
    rows = _rows(x, eqn.params["axes"])
    if rows.shape[-1] == 0:
        return [s.full(rows.shape[:-1], dtype, identity(op, dtype))]
    out = np.empty(rows.shape[:-1], np.int64)
    for at in places(out.shape):
        out[at] = _fold(s.g, combine, rows[at].tolist())
    return [out]


def _rows(x: np.ndarray, axes) -> np.ndarray:
    """The array with what is reduced in one last dimension."""
    kept = [d for d in range(x.ndim) if d not in axes]
    shape = [x.shape[d] for d in kept]
    return x.transpose(*kept, *axes).reshape(*shape, math.prod(x.shape[d] for d in axes))


@rule("reduce")
def _reduce_by_program(s: Scalarizer, eqn, *operands):
    """Several arrays reduced together by a function of the user's, from given values on."""
    half = len(operands) // 2
    rows = [_rows(x, eqn.params["dimensions"]) for x in operands[:half]]
    starts = [np.broadcast_to(x, rows[0].shape[:-1]) for x in operands[half:]]
    items = [[x[..., k] for x in rows] for k in range(rows[0].shape[-1])]
    return functools.reduce(by_program(s, eqn.params["jaxpr"]), items, starts)


def by_program(s: Scalarizer, closed, consts=()):
    """combine(arrays, arrays) -> arrays: a program of two numbers, or two tuples of numbers, for
    every element.
    """
    inner, own = jaxprs.open_jaxpr(closed)
    consts = own or consts

    def combine(xs, ys):
        rows = zip(*(x.ravel().tolist() for x in (*xs, *ys)), strict=True)
        results = [
            [y.item() for y in s.run(inner, consts, [np.array(n) for n in row])] for row in rows
        ]
        flat = np.array(results, np.int64).reshape(-1, len(xs)).T
        return [y.reshape(xs[0].shape) for y in flat]

    return combine


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


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(s, eqn, x):
    combine = combiner(s, eqn.primitive.name[3:], dtype_of(eqn))
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
        for k, x in enumerate(arrays):
            x[at] = [item[k] for item in items]
    return arrays


@rule("top_k", "approx_top_k")
def _top_k(s, eqn, x):
    """The k largest, or smallest, and their indices: a stable sort from the largest on. Floats are
    in IEEE's total order, in which a NaN counts by its sign and -0 is less than 0.
    """
    g, t = s.g, s.lane_type(eqn.outvars[1].aval.dtype)
    axis = eqn.params.get("axis", eqn.params.get("reduction_dimension", -1))
    k, largest = eqn.outvars[0].aval.shape[axis], eqn.params.get("is_max_k", True)
    floating, signed = is_float(dtype_of(eqn)), is_signed(dtype_of(eqn))
    rows = np.moveaxis(x, axis, -1)
    if floating:
        rows = elementwise(lambda a: lane_math.total_order(g, a), rows)
    index = np.broadcast_to([g.const(t, i) for i in range(rows.shape[-1])], rows.shape)
    order = "gt" if largest else "lt"
    before = lambda a, b: g.compare(order, a[0], b[0], signed)
    rows, index = (y[..., :k] for y in _sorted(s, [rows, index], before))
    if floating:
        number = s.lane_type(dtype_of(eqn))
        rows = elementwise(lambda a: lane_math.from_total_order(g, a, number), rows)
    return [np.moveaxis(y, -1, axis) for y in (rows, index)]
