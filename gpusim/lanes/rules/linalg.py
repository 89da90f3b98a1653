"""Rules for linear algebra of small matrices."""

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
    out = [_product(s, left[at], right[at], zero) for at in places(batch)]
    shape = batch + [a.shape[d] for d in fa] + [b.shape[d] for d in fb]
    return [np.array(out, np.int64).reshape(shape)]


def _converted(s: Scalarizer, x: np.ndarray, old, new) -> np.ndarray:
    if old == new:
        return x
    return elementwise(lambda v: s.g.convert(v, s.lane_type(new), is_signed(old)), x)


def _product(s: Scalarizer, left: np.ndarray, right: np.ndarray, zero: int) -> list[int]:
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


@rule("cholesky")
def _cholesky(s, eqn, a):
    g = s.g
    out = np.full(a.shape, s.full((), dtype_of(eqn), 0).item(), np.int64)
    n = a.shape[-1]
    for at in places(a.shape[:-2]):
        m, low = a[at].tolist(), out[at]
        half = g.const(g.type[m[0][0]], 0.5) if n else 0
        for j in range(n):
            for i in range(j, n):
                v = m[i][j]
                if eqn.params.get("symmetrize_input"):
                    v = v if m[j][i] == v else g.mul(half, g.add(v, m[j][i]))
                for k in range(j):
                    v = g.sub(v, g.mul(int(low[i, k]), int(low[j, k])))
                if i == j:
                    low[j, j] = g.unary("sqrt", v, lambda x: np.sqrt(x) if x >= 0 else np.nan)
                    inverse = g.div(g.const(g.type[v], 1), int(low[j, j]))
                else:
                    low[i, j] = g.mul(v, inverse)
    return [out]


@rule("triangular_solve")
def _triangular_solve(s, eqn, a, b):
    g, p = s.g, eqn.params
    if not p["left_side"]:  # x a = b is a' x' = b'
        a, b = np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)
    lower = p["lower"] == bool(p["left_side"])
    if p["transpose_a"]:
        a, lower = np.swapaxes(a, -1, -2), not lower
    out = b.copy()
    n = a.shape[-1]
    order = range(n) if lower else range(n - 1, -1, -1)
    for at in places(a.shape[:-2]):
        m, x = a[at].tolist(), out[at]
        for column in range(x.shape[-1]):
            done: list[int] = []
            for i in order:
                v = int(x[i, column])
                for j in done:
                    v = g.sub(v, g.mul(m[i][j], int(x[j, column])))
                x[i, column] = (
                    v if p["unit_diagonal"] else g.mul(v, g.div(g.const(g.type[v], 1), m[i][i]))
                )
                done.append(i)
    return [out if p["left_side"] else np.swapaxes(out, -1, -2)]


@rule("lu")
def _lu(s: Scalarizer, eqn, a):
    """With partial pivoting: unit lower and upper factors in one matrix, pivots, permutation."""
    g, (m, n), t = s.g, a.shape[-2:], s.lane_type(dtype_of(eqn))
    one, i32 = g.const(t, 1), lambda v: g.const("i32", v)
    size, out = min(m, n), a.copy()
    pivots = np.empty((*a.shape[:-2], size), np.int64)
    order = np.empty((*a.shape[:-2], m), np.int64)
    for at in places(a.shape[:-2]):
        rows = [[*row, i32(i)] for i, row in enumerate(a[at].tolist())]  # each with its number
        for j in range(size):
            best, where = g.unary("fabs", rows[j][j], abs), i32(j)
            for i in range(j + 1, m):
                v = g.unary("fabs", rows[i][j], abs)
                larger = g.compare("gt", v, best)
                best, where = g.select(larger, v, best), g.select(larger, i32(i), where)
            pivots[(*at, j)] = where
            for i in range(j + 1, m):
                here = g.compare("eq", where, i32(i))
                pairs = list(zip(rows[i], rows[j], strict=True))
                rows[i] = [g.select(here, y, x) for x, y in pairs]
                rows[j] = [g.select(here, x, y) for x, y in pairs]
            inverse = g.div(one, rows[j][j])
            for row in rows[j + 1 :]:
                # a column of zeros has no pivot and is left as it is, as LAPACK does
                empty = g.compare("eq", rows[j][j], g.const(t, 0))
                row[j] = g.select(empty, row[j], g.mul(row[j], inverse))
                for k in range(j + 1, n):
                    row[k] = g.sub(row[k], g.mul(row[j], rows[j][k]))
        out[at] = [row[:-1] for row in rows]
        order[at] = [row[-1] for row in rows]
    return [out, pivots, order]


@rule("custom_linear_solve")
def _custom_linear_solve(s: Scalarizer, eqn, *args):
    lengths = eqn.params["const_lengths"]
    before, count = lengths.matvec + lengths.vecmat, lengths.solve
    b = args[sum(lengths) :]
    return s.run_closed(eqn.params["jaxprs"].solve, (*args[before : before + count], *b))
