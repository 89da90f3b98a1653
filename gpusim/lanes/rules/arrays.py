"""Rules that move numbers about, with indices known at trace time or not."""

import itertools

import numpy as np

from gpusim.lanes.program.constants import BITS
from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.scalarize import (
    Scalarizer,
    elementwise,
    is_float,
    is_signed,
    places,
    rule,
    spread,
)

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
    return [spread(x.reshape(aligned), shape)]


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
    if i in g.value:
        v = g.value[i] if signed else g.value[i] % (1 << BITS[t])
        return g.const("i32", min(max(v, 0), size - 1))
    i = g.minmax("min", i, g.const(t, size - 1), signed) if t != "i8" or size < 128 else i
    if signed:
        i = g.minmax("max", i, g.const(t, 0), signed)
    return g.convert(i, "i32", signed)


def window(s: Scalarizer, x: np.ndarray, starts: list[int], sizes) -> np.ndarray:
    """x[start : start + size] in every dimension; the starts are i32 nodes inside the range."""
    g = s.g
    known, index, span = [slice(None)] * x.ndim, g.const("i32", 0), 1
    for d in reversed(range(x.ndim)):
        if starts[d] in g.value:
            start = g.value[starts[d]]
            known[d] = slice(start, start + sizes[d])
            continue
        index = g.add(index, g.mul(starts[d], g.const("i32", span)))
        span *= x.shape[d] - sizes[d] + 1
    x = x[tuple(known)]
    if span == 1:
        return x
    out = np.empty(sizes, np.int64)
    for at in places(sizes):
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
    for where in places([out_shape[d] for d in batch]):
        starts, inside = [g.const("i32", 0)] * x.ndim, g.const("i1", 1)
        for k, d in enumerate(dn.start_index_map):
            i, size = int(indices[(*where, k)]), x.shape[d] - sizes[d] + 1
            starts[d] = clamp_index(s, i, size, signed)
            if fill is not None:
                inside = g.bitop("and", inside, _in_range(g, i, size, signed))
        for d, b in zip(dn.operand_batching_dims, dn.start_indices_batching_dims, strict=True):
            starts[d] = g.const("i32", where[b])
        piece = window(s, x, starts, sizes).reshape([sizes[d] for d in kept])
        if fill is not None and g.value.get(inside) != 1:
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
    if is_float(dtype):
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
    for where in places([updates.shape[d] for d in batch]):
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
