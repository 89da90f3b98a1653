"""Rules that move numbers about, with indices known at trace time or not, and rules that combine
the numbers of an array.
"""

import functools
import itertools

import numpy as np

from gpusim.lanes.graph import FLOATS
from gpusim.lanes.rules_arith import _float_order, dtype_of
from gpusim.lanes.scalarize import Scalarizer, elementwise, is_signed, rule

CHAINS = 4  # partial results of a long sum, product, maximum...

# -- pure movement ---------------------------------------------------------------------------------


@rule("reshape")
def _reshape(s, eqn, x, *_):
    return [x.reshape(eqn.params["new_sizes"])]


@rule("squeeze", "expand_dims")
def _to_out_shape(s, eqn, x):
    return [x.reshape(eqn.outvars[0].aval.shape)]


@rule("broadcast_in_dim")
def _broadcast_in_dim(s, eqn, x, *_):
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    aligned = [1] * len(shape)
    for size, d in zip(x.shape, dims, strict=True):
        aligned[d] = size
    return [np.broadcast_to(x.reshape(aligned), shape)]


@rule("tile")
def _tile(s, eqn, x):
    return [np.tile(x, eqn.params["reps"])]


@rule("transpose")
def _transpose(s, eqn, x):
    return [x.transpose(eqn.params["permutation"])]


@rule("rev")
def _rev(s, eqn, x):
    return [np.flip(x, eqn.params["dimensions"])]


@rule("slice")
def _slice(s, eqn, x):
    p = eqn.params
    strides = p["strides"] or (1,) * x.ndim
    return [x[tuple(map(slice, p["start_indices"], p["limit_indices"], strides))]]


@rule("concatenate")
def _concatenate(s, eqn, *xs):
    return [np.concatenate(xs, eqn.params["dimension"])]


@rule("stack")
def _stack(s, eqn, *xs):
    return [np.stack(xs, eqn.params["axis"])]


@rule("unstack")
def _unstack(s, eqn, x):
    return list(np.moveaxis(x, eqn.params["axis"], 0))


@rule("split")
def _split(s, eqn, x):
    return np.split(x, np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"])


@rule("pad")
def _pad(s, eqn, x, value):
    out = np.full(eqn.outvars[0].aval.shape, value.item(), np.int64)
    source, target = [], []
    for size, n, (low, _, inner) in zip(
        x.shape, out.shape, eqn.params["padding_config"], strict=True
    ):
        at = low + np.arange(size) * (inner + 1)
        inside = (at >= 0) & (at < n)
        source.append(np.flatnonzero(inside))
        target.append(at[inside])
    out[np.ix_(*target)] = x[np.ix_(*source)]
    return [out]


@rule("iota")
def _iota(s, eqn, *_):
    p = eqn.params
    shape = [1] * len(p["shape"])
    shape[p["dimension"]] = -1
    line = np.arange(p["shape"][p["dimension"]]).astype(p["dtype"]).reshape(shape)
    return [s.lift(np.broadcast_to(line, p["shape"]))]


@rule("iota_2x32_shape")
def _iota_2x32(s, eqn):
    """High and low words of the numbers 0, 1, 2... of an array's elements."""
    shape = eqn.params["shape"]
    low = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    return [s.lift(np.zeros_like(low)), s.lift(low)]


# -- indexing --------------------------------------------------------------------------------------


def clamp_index(s: Scalarizer, i: int, size: int, signed: bool) -> int:
    """Index node i, as i32, inside 0..size-1."""
    g = s.g
    t = g.type[i]
    i = g.minmax("min", i, g.const(t, size - 1), signed) if t != "i8" or size < 128 else i
    if signed:
        i = g.minmax("max", i, g.const(t, 0), signed)
    return g.convert(i, "i32", signed)


def window(s: Scalarizer, x: np.ndarray, starts: list[int], sizes) -> np.ndarray:
    """x[start : start + size] in every dimension; the starts are i32 nodes inside the range."""
    g = s.g
    where, index, span = [], g.const("i32", 0), 1
    for d in reversed(range(x.ndim)):
        if starts[d] in g.value:
            where.append(slice(g.value[starts[d]], g.value[starts[d]] + sizes[d]))
            x = np.moveaxis(np.moveaxis(x, d, 0)[where[-1]], 0, d)
            continue
        index = g.add(index, g.mul(starts[d], g.const("i32", span)))
        span *= x.shape[d] - sizes[d] + 1
    if span == 1:
        return x
    out = np.empty(sizes, np.int64)
    for at in np.ndindex(*sizes):
        reach = tuple(slice(a, a + x.shape[d] - sizes[d] + 1) for d, a in enumerate(at))
        out[at] = g.element(x[reach].ravel().tolist(), index)
    return out


@rule("dynamic_slice")
def _dynamic_slice(s, eqn, x, *starts):
    sizes = eqn.params["slice_sizes"]
    starts = starts[: x.ndim]
    signed = [is_signed(dtype_of(eqn, 1 + d)) for d in range(x.ndim)]
    at = [
        clamp_index(s, i.item(), n - m + 1, sg)
        for i, n, m, sg in zip(starts, x.shape, sizes, signed, strict=True)
    ]
    return [window(s, x, at, sizes)]


@rule("dynamic_update_slice")
def _dynamic_update_slice(s, eqn, x, update, *starts):
    sizes = update.shape
    signed = [is_signed(dtype_of(eqn, 2 + d)) for d in range(x.ndim)]
    at = [
        clamp_index(s, i.item(), n - m + 1, sg)
        for i, n, m, sg in zip(starts, x.shape, sizes, signed, strict=True)
    ]
    out = x.copy()
    _store(s, out, update, at, lambda old, new: new)
    return [out]


def _store(s: Scalarizer, out: np.ndarray, update: np.ndarray, starts: list[int], combine):
    """out[start : start + size] = combine(old, update) in place; every place a start may point to
    is tried.

    A start outside the array changes nothing.
    """
    g = s.g
    reach = [range(n - m + 1) for n, m in zip(out.shape, update.shape, strict=True)]
    candidates = [
        [g.value[i]] if i in g.value else list(r) for i, r in zip(starts, reach, strict=True)
    ]
    for at in itertools.product(*candidates):
        if any(a not in r for a, r in zip(at, reach, strict=True)):
            continue
        here = g.const("i1", 1)
        for i, a in zip(starts, at, strict=True):
            here = g.bitop("and", here, g.compare("eq", i, g.const("i32", a)))
        place = tuple(slice(a, a + m) for a, m in zip(at, update.shape, strict=True))
        old = out[place]
        out[place] = elementwise(
            lambda o, u, here=here: g.select(here, combine(o, u), o), old, update
        )


@rule("gather")
def _gather(s, eqn, x, indices):
    p = eqn.params
    dn, sizes, mode = p["dimension_numbers"], p["slice_sizes"], str(p["mode"])
    out_shape = eqn.outvars[0].aval.shape
    offset = list(dn.offset_dims)
    batch = [d for d in range(len(out_shape)) if d not in offset]
    kept = [
        d
        for d in range(x.ndim)
        if d not in dn.collapsed_slice_dims and d not in dn.operand_batching_dims
    ]
    signed = is_signed(dtype_of(eqn, 1))
    g, out = s.g, np.empty(out_shape, np.int64)
    fill = None
    if "FILL" in mode:
        fill = (
            s.g.const(g.type[x.flat[0]], _fill_value(p["fill_value"], dtype_of(eqn)))
            if x.size
            else None
        )
    for where in np.ndindex(*(out_shape[d] for d in batch)):
        starts, inside = [g.const("i32", 0)] * x.ndim, g.const("i1", 1)
        for k, d in enumerate(dn.start_index_map):
            i, size = int(indices[(*where, k)]), x.shape[d] - sizes[d] + 1
            starts[d] = clamp_index(s, i, size, signed)
            if fill is not None:
                inside = g.bitop("and", inside, _in_range(g, i, size, signed))
        for d, b in zip(dn.operand_batching_dims, dn.start_indices_batching_dims, strict=True):
            starts[d] = g.const("i32", where[b])
        piece = window(s, x, starts, sizes).reshape([sizes[d] for d in kept])
        if fill is not None:
            piece = elementwise(lambda v, inside=inside: g.select(inside, v, fill), piece)
        place: list = [slice(None)] * len(out_shape)
        for d, w in zip(batch, where, strict=True):
            place[d] = w
        out[tuple(place)] = piece
    return [out]


def _in_range(g, i, size, signed):
    t = g.type[i]
    below = g.compare("lt", i, g.const(t, size), signed)
    return g.bitop("and", below, g.compare("ge", i, g.const(t, 0), signed))


def _fill_value(value, dtype):
    if value is not None:
        return value
    if np.issubdtype(dtype, np.floating):
        return np.nan
    return np.iinfo(dtype).min if np.issubdtype(dtype, np.signedinteger) else np.iinfo(dtype).max


@rule("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(s, eqn, x, indices, updates):
    p, g = eqn.params, s.g
    dn, clip = p["dimension_numbers"], "CLIP" in str(p["mode"])
    signed, data_signed = is_signed(dtype_of(eqn, 1)), is_signed(dtype_of(eqn))
    combine = {
        "scatter": lambda old, new: new,
        "scatter-add": g.add,
        "scatter-sub": g.sub,
        "scatter-mul": g.mul,
        "scatter-min": lambda a, b: g.minmax("min", a, b, data_signed),
        "scatter-max": lambda a, b: g.minmax("max", a, b, data_signed),
    }[eqn.primitive.name]
    window_dims = list(dn.update_window_dims)
    batch = [d for d in range(updates.ndim) if d not in window_dims]
    dropped = (*dn.inserted_window_dims, *dn.operand_batching_dims)
    kept = [d for d in range(x.ndim) if d not in dropped]
    sizes = [1] * x.ndim
    for d, w in zip(kept, window_dims, strict=True):
        sizes[d] = updates.shape[w]
    out = x.copy()
    for where in np.ndindex(*(updates.shape[d] for d in batch)):
        starts = [g.const("i32", 0)] * x.ndim
        for k, d in enumerate(dn.scatter_dims_to_operand_dims):
            i = int(indices[(*where, k)])
            starts[d] = (
                clamp_index(s, i, x.shape[d] - sizes[d] + 1, signed)
                if clip
                else g.convert(i, "i32", signed)
            )
        for d, b in zip(dn.operand_batching_dims, dn.scatter_indices_batching_dims, strict=True):
            starts[d] = g.const("i32", where[b])
        place: list = [slice(None)] * updates.ndim
        for d, w in zip(batch, where, strict=True):
            place[d] = w
        _store(s, out, updates[tuple(place)].reshape(sizes), starts, combine)
    return [out]


# -- reductions ------------------------------------------------------------------------------------


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
            (-np.inf, np.inf)
            if np.issubdtype(dtype, np.floating)
            else (np.iinfo(dtype).min, np.iinfo(dtype).max)
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
    for at in np.ndindex(*out.shape):
        items = rows[at].tolist()
        out[at] = _fold(combine, items) if items else s.full((), dtype, _identity(op, dtype)).item()
    return [out]


def _fold(combine, items):
    """All items combined, many of them in several chains: an operation takes four cycles, in which
    the processor can begin more than one.
    """
    chains = CHAINS if len(items) >= 8 * CHAINS else 1
    out = items[:chains]
    for k, item in enumerate(items[chains:]):
        out[k % chains] = combine(out[k % chains], item)
    return functools.reduce(combine, out)


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
    for at in np.ndindex(*out.shape):
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
    kinds = [
        (np.issubdtype(v.aval.dtype, np.floating), is_signed(v.aval.dtype)) for v in eqn.invars
    ]

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
    for at in np.ndindex(*arrays[0].shape[:-1]):
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
    kind = (np.issubdtype(dtype_of(eqn), np.floating), is_signed(dtype_of(eqn)))
    values, places = _sorted(s, [rows, index], lambda a, b: _precedes(s, b[0], a[0], *kind))
    return [np.moveaxis(y[..., :k], -1, axis) for y in (values, places)]
