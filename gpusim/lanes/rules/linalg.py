"""Products of small matrices."""

import functools
import itertools
import math

import numpy as np

from gpusim.lanes.program.graph import Graph
from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.rules.control import repeat
from gpusim.lanes.scalarize import Scalarizer, elementwise, is_signed, places, rule

# A product of matrices with more multiplications than this becomes a loop over tiles of its result.
# Written out it is no faster, since its operands exceed the registers, and LLVM takes its time. But
# a symmetric product written out is computed once: at 2,000 the humanoid's ran 1.4 times as long.
# A product with a vector has no such twin.
ROLL = 4000
ROLL_VECTOR = 1000
TILE = 4  # rows and columns of a tile, whose sums stay in registers


@rule("dot_general")
def _dot_general(s: Scalarizer, eqn, a, b):
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    dtype = eqn.outvars[0].aval.dtype
    a, b = _converted(s, a, dtype_of(eqn), dtype), _converted(s, b, dtype_of(eqn, 1), dtype)
    fa = [d for d in range(a.ndim) if d not in ca and d not in ba]
    fb = [d for d in range(b.ndim) if d not in cb and d not in bb]
    batch = [a.shape[d] for d in ba]
    m, n, k = (math.prod([x.shape[d] for d in dims]) for x, dims in ((a, fa), (b, fb), (a, ca)))
    left = a.transpose(*ba, *fa, *ca).reshape(*batch, m, k)
    right = b.transpose(*bb, *fb, *cb).reshape(*batch, n, k)
    zero = s.g.const(s.lane_type(dtype), 0)
    out = [product(s, left[at], right[at], zero) for at in places(batch)]
    shape = batch + [a.shape[d] for d in fa] + [b.shape[d] for d in fb]
    return [np.array(out, np.int64).reshape(shape)]


def _converted(s: Scalarizer, x: np.ndarray, old, new) -> np.ndarray:
    if old == new:
        return x
    return elementwise(lambda v: s.g.convert(v, s.lane_type(new), is_signed(old)), x)


def product(s: Scalarizer, left: np.ndarray, right: np.ndarray, zero: int) -> list[int]:
    """left (m, k) @ right (n, k).T, row by row; `zero` is the sum of nothing."""
    g = s.g
    limit = ROLL if min(len(left), len(right)) > 1 else ROLL_VECTOR
    if left.size * len(right) > limit:
        nonzero_left, nonzero_right = _nonzero(g, left), _nonzero(g, right)
        if (nonzero_left.sum(0) * nonzero_right.sum(0)).sum() > limit:
            tiled = _product_in_tiles(s, left, right, nonzero_left, nonzero_right, zero)
            return tiled.ravel().tolist()
    # products with a structural zero are skipped before they are built
    rows = [[(k, x) for k, x in enumerate(row) if x not in g.zero] for row in left.tolist()]
    out = []
    for row, column in itertools.product(rows, right.tolist()):
        terms = [g.mul(x, column[k]) for k, x in row if column[k] not in g.zero]
        out.append(functools.reduce(g.add, terms) if terms else zero)
    return out


def _nonzero(g: Graph, x: np.ndarray) -> np.ndarray:
    return np.reshape([n not in g.zero for n in x.ravel().tolist()], x.shape)


def _product_in_tiles(
    s: Scalarizer,
    left: np.ndarray,
    right: np.ndarray,
    nonzero_left: np.ndarray,
    nonzero_right: np.ndarray,
    zero: int,
) -> np.ndarray:
    """The same in tiles of the result, each a loop over what is summed, its sums in registers."""
    g, m, n = s.g, len(left), len(right)
    read_left, read_right = _reader(g, left), _reader(g, right)
    symmetric = np.array_equal(left, right)
    height, width = (TILE, TILE) if min(m, n) > 1 else (min(m, TILE**2), min(n, TILE**2))
    out = np.full((m, n), zero, np.int64)
    strips = _strips(nonzero_left, height, width), _strips(nonzero_right, width, height)
    for rows, columns in itertools.product(*strips):
        if symmetric and columns.start < rows.start:
            out[rows, columns] = out[columns, rows].T
            continue
        steps = np.flatnonzero(nonzero_left[rows].any(0) & nonzero_right[columns].any(0))
        sums = np.full(out[rows, columns].shape, zero, np.int64)
        runs = np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)
        reads = (read_left, rows), (read_right, columns)
        for run in runs if len(steps) else []:

            def step(k, carried, reads=reads, run=run):
                """Adds the products of one column of the left and one row of the right."""
                x, y = (read(r, k, int(run[0]), len(run)) for read, r in reads)
                terms = [g.mul(a, b) for a, b in itertools.product(x, y)]
                sums = map(g.add, carried[0].ravel().tolist(), terms)
                return [np.reshape(list(sums), carried[0].shape)], []

            (sums,), _ = repeat(s, len(run), [sums], step)
        out[rows, columns] = sums
    return out


def _strips(nonzero: np.ndarray, height: int, across: int) -> list[slice]:
    """The rows in strips of at most `height`, so that tiles as long as `across` take least time.

    A step of a tile's loop is as many multiplications as there are sums, two a cycle, and takes
    four cycles at least, which is how long one addition waits for the last.
    """
    best: list[tuple[float, list[slice]]] = [(0, [])]
    for end in range(1, len(nonzero) + 1):
        ways = []
        for start in range(end - 1, max(0, end - height) - 1, -1):
            steps = int(nonzero[start:end].any(0).sum())
            cycles = max(4, (end - start) * across / 2) * steps + 10
            ways.append((best[start][0] + cycles, [*best[start][1], slice(start, end)]))
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1][1]


def _reader(g: Graph, x: np.ndarray):
    """A function (rows, k, first, count): elements x[rows, first + k], for a k known only at run
    time that is less than count.
    """
    height, depth = x.shape
    flat = x.ravel().tolist()
    # in the order of the buffer, or of the memory, that it may come from
    by_row = bool((np.diff(flat) > 0).all())
    array = g.array(flat if by_row else x.T.ravel().tolist(), reread=True)

    def read(rows: slice, k: int, first: int, count: int) -> list[int]:
        starts = [
            row * depth + first if by_row else first * height + row
            for row in range(rows.start, rows.stop)
        ]
        return [g.element(array, k, start, 1 if by_row else height, count) for start in starts]

    return read
