"""Rules for triangular factorisations of small matrices, and for solving with them."""

import functools

import numpy as np

from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.scalarize import Scalarizer, places, rule


@rule("cholesky")
def _cholesky(s, eqn, a):
    """The lower factor; if the matrix is not positive definite it is NaN, as in JAX, apart from
    what is zero by structure.
    """
    g = s.g
    zero = s.full((), dtype_of(eqn), 0).item()
    nan = s.full((), dtype_of(eqn), np.nan).item()
    out = np.full(a.shape, zero, np.int64)
    n = a.shape[-1]
    for at in places(a.shape[:-2]):
        m, low = a[at].tolist(), out[at]
        half = g.const(g.type[zero], 0.5)
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
        # a root of what is not positive makes all later ones NaN that depend on it: only those that
        # no other depends on need be looked at
        last = [j for j in range(n) if all(v in g.zero for v in low[j + 1 :, j].tolist())]
        ok = [g.compare("gt", int(low[j, j]), zero) for j in last]
        ok = functools.reduce(functools.partial(g.bitop, "and"), ok, g.const("i1", 1))
        for i, j in zip(*np.tril_indices(n), strict=True):
            v = int(low[i, j])
            low[i, j] = v if v in g.zero else g.select(ok, v, nan)
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


@rule("lu_pivots_to_permutation")
def _pivots_to_permutation(s: Scalarizer, eqn, pivots):
    """The order of rows that exchanging row i with row pivots[i], for every i, gives."""
    g, n = s.g, eqn.params["permutation_size"]
    numbers = [g.const("i32", k) for k in range(n)]
    out = np.empty((*pivots.shape[:-1], n), np.int64)
    for at in places(pivots.shape[:-1]):
        order = numbers.copy()
        for i, pivot in enumerate(pivots[at].tolist()):
            for j in range(i + 1, n):
                here = g.compare("eq", pivot, numbers[j])
                a, b = order[i], order[j]
                order[i], order[j] = g.select(here, b, a), g.select(here, a, b)
        out[at] = order
    return [out]


@rule("custom_linear_solve")
def _custom_linear_solve(s: Scalarizer, eqn, *args):
    lengths = eqn.params["const_lengths"]
    before, count = lengths.matvec + lengths.vecmat, lengths.solve
    b = args[sum(lengths) :]
    return s.run_closed(eqn.params["jaxprs"].solve, (*args[before : before + count], *b))
