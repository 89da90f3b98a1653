"""Rules that read and write arrays at indices, known at trace time or not.

What is known at trace time is NumPy indexing. Otherwise a place is a flat index `first + stride*j`
of the array in memory, and j is held inside the array in a type that can count its numbers.
"""

import math
from collections.abc import Sequence

import numpy as np

from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.operations import BITS
from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.scalarize import (
    Scalarizer,
    elementwise,
    is_float,
    is_signed,
    places,
    rule,
)

# A place among so many, in an array that is not in memory yet, is searched for by comparisons when
# it is written; the array stays in registers.
SEARCHED = 16


def as_i32(g: Graph, i: int, signed: bool) -> int:
    """An index in a type that can count the numbers of any array; one that is too large for it
    becomes the largest, or the least.
    """
    t = g.type[i]
    if BITS[t] < 32:
        return g.convert(i, "i32", signed)
    top = g.const(t, (1 << 31) - 1)
    if not signed or t == "i64":
        i = g.minmax("min", i, top, signed)
    if signed and t == "i64":
        i = g.minmax("max", i, g.const(t, -(1 << 31)), signed)
    return g.convert(i, "i32", signed)


def clamped(s: Scalarizer, i: int, size: int, signed: bool) -> int:
    """Index node i, as i32, inside 0..size-1."""
    return s.g.inside(as_i32(s.g, i, signed), size)


class Window:
    """The part of an array of a shape that begins at indices (i32, inside their ranges) and has
    these sizes.

    Its numbers are at `offsets + stride*j`, for a j among `possible`.
    """

    def __init__(self, g: Graph, shape: Sequence[int], starts: list[int], sizes: Sequence[int]):
        self.sizes = tuple(sizes)
        strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
        unknown = [d for d, i in enumerate(starts) if i not in g.value]
        reach = [n - m + 1 for n, m in zip(shape, sizes, strict=True)]
        known = [g.value.get(i, 0) for i in starts]
        # where its numbers are if the unknown indices are 0
        offsets = np.zeros(self.sizes, np.int64)
        for d, (i, stride) in enumerate(zip(known, strides, strict=True)):
            line = (i + np.arange(sizes[d])) * stride
            offsets += line.reshape([-1 if e == d else 1 for e in range(len(shape))])
        self.offsets = offsets
        if len(unknown) == 1:
            (d,) = unknown
            self.j, self.stride, self.count = starts[d], strides[d], reach[d]
            self.possible = list(range(self.count))
        else:
            self.j, self.stride, self.possible = g.const("i32", 0), 1, [0]
            for d in unknown:
                self.j = g.add(self.j, g.mul(starts[d], g.const("i32", strides[d])))
                steps = [strides[d] * k for k in range(reach[d])]
                self.possible = [a + b for a in self.possible for b in steps]
            self.count = max(self.possible) + 1

    def read(self, s: Scalarizer, x: np.ndarray) -> np.ndarray:
        """The numbers there."""
        if self.count == 1:
            return x.ravel()[self.offsets]
        if s.is_keys(x):
            words = np.moveaxis(s.key_data(x), -1, 0)
            return s.keys(np.stack([self.read(s, w) for w in words], -1))
        g, at = s.g, (self.stride, self.count)
        array = g.array(x.ravel().tolist())
        found = [g.element(array, self.j, first, *at) for first in self.offsets.ravel().tolist()]
        return np.array(found, np.int64).reshape(self.sizes)


class Target:
    """An array that is being written to: its numbers, or what it is in memory."""

    def __init__(self, s: Scalarizer, x: np.ndarray):
        self.s, self.shape = s, x.shape
        self.numbers = x.ravel().tolist()
        self.array = s.g.array_of(self.numbers)

    def result(self) -> np.ndarray:
        """What has become of it."""
        numbers = self.numbers if self.array is None else self.s.g.items(self.array)
        return np.array(numbers, np.int64).reshape(self.shape)

    def write(self, window: Window, update: np.ndarray, combine, inside: int | None = None):
        """Puts combine(old, update) into a window, where the mask `inside` is true."""
        offsets, values = window.offsets.ravel().tolist(), update.ravel().tolist()
        new = list(zip(offsets, values, strict=True))
        if self.array is None and len(window.possible) <= SEARCHED:
            self._search(window, new, combine, inside)
            return
        g, at = self.s.g, {"stride": window.stride, "count": window.count}
        array = g.array(self.numbers) if self.array is None else self.array
        for first, value in new:
            value = combine(g.element(array, window.j, first, **at), value)
            array = g.store(array, window.j, value, first=first, mask=inside, **at)
        self.array = array

    def _search(self, window: Window, new: list[tuple[int, int]], combine, inside):
        """Every place that may be meant is tried."""
        g, out = self.s.g, self.numbers
        for j in window.possible:
            here = (
                g.const("i1", 1)
                if window.count == 1
                else g.compare("eq", window.j, g.const("i32", j))
            )
            here = here if inside is None else g.bitop("and", here, inside)
            for first, value in new:
                k = first + window.stride * j
                out[k] = g.select(here, combine(out[k], value), out[k])


def written(s: Scalarizer, x: np.ndarray, writes, combine) -> np.ndarray:
    """x after each of the writes (window, update, mask or None), in their order."""
    if s.is_keys(x):
        words = [np.moveaxis(s.key_data(y), -1, 0) for y in (x, *(w[1] for w in writes))]
        out = [
            written(s, old, [(w[0], u, w[2]) for w, u in zip(writes, new, strict=True)], combine)
            for old, *new in zip(*words, strict=True)
        ]
        return s.keys(np.stack(out, -1))
    target = Target(s, x)
    for window, update, inside in writes:
        target.write(window, update, combine, inside)
    return target.result()


def _starts(s: Scalarizer, eqn, starts, shape, sizes, first: int) -> list[int]:
    """Run-time indices of a slice, held inside; `first` is the position of the first of them among
    the operands.
    """
    return [
        clamped(s, i.item(), n - m + 1, is_signed(dtype_of(eqn, first + d)))
        for d, (i, n, m) in enumerate(zip(starts, shape, sizes, strict=False))
    ]


@rule("dynamic_slice")
def _dynamic_slice(s, eqn, x, *starts):
    sizes = eqn.params["slice_sizes"]
    return [Window(s.g, x.shape, _starts(s, eqn, starts, x.shape, sizes, 1), sizes).read(s, x)]


@rule("dynamic_update_slice")
def _dynamic_update_slice(s, eqn, x, update, *starts):
    window = Window(s.g, x.shape, _starts(s, eqn, starts, x.shape, update.shape, 2), update.shape)
    return [written(s, x, [(window, update, None)], lambda old, new: new)]


@rule("gather")
def _gather(s, eqn, x, indices):
    p, g = eqn.params, s.g
    dn, sizes = p["dimension_numbers"], p["slice_sizes"]
    out_shape = eqn.outvars[0].aval.shape
    batch = [d for d in range(len(out_shape)) if d not in dn.offset_dims]
    dropped = (*dn.collapsed_slice_dims, *dn.operand_batching_dims)
    kept = [d for d in range(x.ndim) if d not in dropped]
    signed = is_signed(dtype_of(eqn, 1))
    fill = None
    if "FILL" in str(p["mode"]) and x.size:
        fill = _fill(s, p["fill_value"], x, dtype_of(eqn))
    out = np.empty(out_shape, np.int64)
    for where in places([out_shape[d] for d in batch]):
        starts, inside = [g.const("i32", 0)] * x.ndim, g.const("i1", 1)
        for k, d in enumerate(dn.start_index_map):
            i, size = int(indices[(*where, k)]), x.shape[d] - sizes[d] + 1
            starts[d] = clamped(s, i, size, signed)
            if fill is not None:
                inside = g.bitop("and", inside, _in_range(g, i, size, signed))
        for d, b in zip(dn.operand_batching_dims, dn.start_indices_batching_dims, strict=True):
            starts[d] = g.const("i32", where[b])
        piece = Window(g, x.shape, starts, sizes).read(s, x).reshape([sizes[d] for d in kept])
        if fill is not None and g.value.get(inside) != 1:
            piece = elementwise(lambda v, inside=inside: g.select(inside, v, fill), piece)
        out[_place(len(out_shape), batch, where)] = piece
    return [out]


def _place(ndim: int, batch: Sequence[int], where: Sequence[int]) -> tuple:
    """NumPy's index of the part of an array at these indices of its batch dimensions."""
    place: list = [slice(None)] * ndim
    for d, w in zip(batch, where, strict=True):
        place[d] = w
    return tuple(place)


def _in_range(g: Graph, i: int, size: int, signed: bool) -> int:
    i = as_i32(g, i, signed)
    below = g.compare("lt", i, g.const("i32", size))
    return g.bitop("and", below, g.compare("ge", i, g.const("i32", 0)))


def _fill(s: Scalarizer, value, x: np.ndarray, dtype) -> int:
    """What is read outside an array, unless a value is given."""
    if s.is_keys(x):
        words = s.key_data(x).shape[-1:]
        return s.keys(s.full(words, np.uint32, np.iinfo(np.uint32).max)).item()
    if value is None and is_float(dtype):
        value = np.nan
    elif value is None and dtype == np.bool_:
        value = True
    elif value is None:
        value = np.iinfo(dtype).min if is_signed(dtype) else np.iinfo(dtype).max
    return s.full((), dtype, value).item()


@rule("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(s, eqn, x, indices, updates):
    p, g = eqn.params, s.g
    dn, clip = p["dimension_numbers"], "CLIP" in str(p["mode"])
    if not updates.size or not x.size:
        return [x]
    signed, combine = is_signed(dtype_of(eqn, 1)), _combiner(s, eqn)
    batch = [d for d in range(updates.ndim) if d not in dn.update_window_dims]
    dropped = (*dn.inserted_window_dims, *dn.operand_batching_dims)
    kept = [d for d in range(x.ndim) if d not in dropped]
    sizes = [1] * x.ndim
    for d, w in zip(kept, dn.update_window_dims, strict=True):
        sizes[d] = updates.shape[w]
    writes = []
    for where in places([updates.shape[d] for d in batch]):
        starts, inside = [g.const("i32", 0)] * x.ndim, g.const("i1", 1)
        for k, d in enumerate(dn.scatter_dims_to_operand_dims):
            i, size = int(indices[(*where, k)]), x.shape[d] - sizes[d] + 1
            starts[d] = clamped(s, i, size, signed)
            if not clip:  # what would be outside is not written
                inside = g.bitop("and", inside, _in_range(g, i, size, signed))
        for d, b in zip(dn.operand_batching_dims, dn.scatter_indices_batching_dims, strict=True):
            starts[d] = g.const("i32", where[b])
        if g.value.get(inside) != 0:
            update = updates[_place(updates.ndim, batch, where)].reshape(sizes)
            mask = None if inside in g.value else inside
            writes.append((Window(g, x.shape, starts, sizes), update, mask))
    return [written(s, x, writes, combine)]


def _combiner(s: Scalarizer, eqn):
    """What a scatter makes of the number in place and the one given."""
    g, name, closed = s.g, eqn.primitive.name, eqn.params["update_jaxpr"]
    if name == "scatter" and closed is not None:
        consts = eqn.params["update_consts"]
        run = lambda old, new: s.run(closed, consts, [np.array(old), np.array(new)])
        return lambda old, new: run(old, new)[0].item()
    if name in ("scatter-min", "scatter-max"):
        signed = is_signed(dtype_of(eqn))
        return lambda a, b: g.minmax(name[-3:], a, b, signed)
    return {
        "scatter": lambda old, new: new,
        "scatter-add": g.add,
        "scatter-sub": g.sub,
        "scatter-mul": g.mul,
    }[name]
