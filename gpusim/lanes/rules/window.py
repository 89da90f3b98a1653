"""Rules for windows that slide over an array: pooling and convolution.

A window is unrolled: for each of its places there is one array, of what stands there in every
position of the window.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.rules.arrays import pad
from gpusim.lanes.rules.linalg import product
from gpusim.lanes.rules.reduce import by_program, combiner, identity
from gpusim.lanes.scalarize import Scalarizer, elementwise, places, rule


class Windows(NamedTuple):
    """Windows of a size over an array: one entry a dimension."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    base_dilation: tuple[int, ...]  # the array's numbers are so far apart
    dilation: tuple[int, ...]  # the window's places are so far apart

    @classmethod
    def of(cls, eqn) -> "Windows":
        p, size = eqn.params, eqn.params["window_dimensions"]
        ones = (1,) * len(size)
        return cls(
            size,
            p["window_strides"],
            p["padding"],
            p.get("base_dilation") or ones,
            p.get("window_dilation") or ones,
        )

    def padded(self, x: np.ndarray, value: int) -> np.ndarray:
        """The array spread and padded with a node; negative padding cuts."""
        config = zip(self.padding, self.base_dilation, strict=True)
        return pad(x, value, [(*p, d - 1) for p, d in config])

    def parts(self, shape) -> list[tuple[slice, ...]]:
        """For each place in the window, the numbers of a padded array of that shape that stand
        there.
        """
        counts = [
            max(0, (n - (w - 1) * d - 1) // stride + 1)
            for n, w, d, stride in zip(shape, self.size, self.dilation, self.strides, strict=True)
        ]
        return [
            tuple(
                slice(k * d, k * d + (count - 1) * stride + 1 if count else k * d, stride)
                for k, d, count, stride in zip(at, self.dilation, counts, self.strides, strict=True)
            )
            for at in places(self.size)
        ]


# -- pooling ---------------------------------------------------------------------------------------


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _reduce_window(s, eqn, x):
    op, dtype, windows = eqn.primitive.name[14:], dtype_of(eqn), Windows.of(eqn)
    combine, start = combiner(s, op, dtype), s.full((), dtype, identity(op, dtype)).item()
    x = windows.padded(x, start)
    items = [x[part] for part in windows.parts(x.shape)]
    if not items:
        return [np.full(eqn.outvars[0].aval.shape, start)]
    return [functools.reduce(functools.partial(elementwise, combine), items)]


@rule("reduce_window")
def _reduce_window_by_program(s, eqn, *operands):
    windows, half = Windows.of(eqn), len(operands) // 2
    starts = operands[half:]
    xs = [windows.padded(x, i.item()) for x, i in zip(operands[:half], starts, strict=True)]
    items = [[x[part] for x in xs] for part in windows.parts(xs[0].shape)]
    shape = eqn.outvars[0].aval.shape
    first = [np.full(shape, i.item()) for i in starts]
    combine = by_program(s, eqn.params["jaxpr"], eqn.params["consts"])
    return functools.reduce(combine, items, first)


def _chosen(s: Scalarizer, eqn, windows: Windows, x: np.ndarray, items):
    """Of the windows' items those whose number in `x` is chosen: the largest if select_prim is ge,
    the smallest if it is le; the first of equal ones.
    """
    g, name = s.g, eqn.params["select_prim"].name
    parts = [x[part] for part in windows.parts(x.shape)]
    best, where = parts[0], items[0]
    for v, item in zip(parts[1:], items[1:], strict=True):
        keep = elementwise(functools.partial(g.compare, name), best, v)
        best, where = elementwise(g.select, keep, best, v), elementwise(g.select, keep, where, item)
    return where


@rule("select_and_gather_add")
def _select_and_gather(s: Scalarizer, eqn, tangents, x):
    windows, dtype = Windows.of(eqn), dtype_of(eqn, 1)
    least = identity("max" if eqn.params["select_prim"].name == "ge" else "min", dtype)
    x = windows.padded(x, s.full((), dtype, least).item())
    tangents = windows.padded(tangents, s.full((), dtype, 0).item())
    return [_chosen(s, eqn, windows, x, [tangents[part] for part in windows.parts(x.shape)])]


@rule("select_and_scatter_add")
def _select_and_scatter(s: Scalarizer, eqn, source, x):
    g, windows, dtype = s.g, Windows.of(eqn), dtype_of(eqn, 1)
    least = identity("max" if eqn.params["select_prim"].name == "ge" else "min", dtype)
    zero, shape = s.full((), dtype, 0), x.shape
    x = windows.padded(x, s.full((), dtype, least).item())
    parts = windows.parts(x.shape)
    number = lambda k: np.full(source.shape, g.const("i32", k))
    where = _chosen(s, eqn, windows, x, [number(k) for k in range(len(parts))])
    out = np.full(x.shape, zero.item())
    for k, part in enumerate(parts):
        here = elementwise(functools.partial(g.compare, "eq"), where, number(k))
        out[part] = elementwise(g.add, out[part], elementwise(g.select, here, source, zero))
    own = zip(windows.padding, shape, strict=True)
    return [out[tuple(slice(low, low + n) for (low, _), n in own)]]


# -- convolution -----------------------------------------------------------------------------------


@rule("conv_general_dilated")
def _convolution(s: Scalarizer, eqn, x, kernel):
    """Every output is a product of a row of the kernel and what a window sees."""
    p, dtype = eqn.params, eqn.outvars[0].aval.dtype
    dims, groups, batches = p["dimension_numbers"], p["feature_group_count"], p["batch_group_count"]
    x, kernel = x.transpose(dims.lhs_spec), kernel.transpose(dims.rhs_spec)
    zero = s.full((), dtype, 0).item()
    windows = Windows(
        (1, 1, *kernel.shape[2:]),
        (1, 1, *p["window_strides"]),
        ((0, 0), (0, 0), *p["padding"]),
        (1, 1, *p["lhs_dilation"]),
        (1, 1, *p["rhs_dilation"]),
    )
    x = windows.padded(x, zero)
    seen = np.stack([x[part] for part in windows.parts(x.shape)], 2)
    samples, channels, volume, *spatial = seen.shape
    # batch, channel, place in the window, position -> group, (sample, position), (channel, place)
    seen = seen.reshape(batches, samples // batches, groups, channels // groups, volume, -1)
    seen = seen.transpose(0, 2, 1, 5, 3, 4)
    rows = seen.reshape(batches * groups, -1, channels // groups * volume)
    features = len(kernel)
    columns = kernel.reshape(batches * groups, features // (batches * groups), -1)
    out = [product(s, r, c, zero) for r, c in zip(rows, columns, strict=True)]
    out = np.array(out, np.int64).reshape(
        -1, samples // batches, math.prod(spatial), columns.shape[1]
    )
    out = out.transpose(1, 0, 3, 2).reshape(samples // batches, features, *spatial)
    return [out.transpose(np.argsort(dims.out_spec))]
