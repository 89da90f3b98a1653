"""Rules that only move numbers about, which costs nothing at run time."""

import numpy as np

from gpusim.lanes.scalarize import rule, spread

# -- pure movement ---------------------------------------------------------------------------------


@rule("reshape")
def _reshape(s, eqn, x, *_):
    order = eqn.params["dimensions"]
    x = x if order is None else x.transpose(order)
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
    return [pad(x, value.item(), eqn.params["padding_config"])]


def pad(x: np.ndarray, value: int, config) -> np.ndarray:
    """lax.pad of node arrays: (before, after, between) in each dimension; negative numbers cut."""
    shape = [
        max(0, low + high + n + max(0, n - 1) * inner)
        for n, (low, high, inner) in zip(x.shape, config, strict=True)
    ]
    out = np.full(shape, value, np.int64)
    source, target = [], []
    for size, n, (low, _, inner) in zip(x.shape, shape, config, strict=True):
        at = low + np.arange(size) * (inner + 1)
        inside = (at >= 0) & (at < n)
        source.append(np.flatnonzero(inside))
        target.append(at[inside])
    out[np.ix_(*target)] = x[np.ix_(*source)]
    return out


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
