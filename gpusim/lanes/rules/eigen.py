"""Orthogonal factorisations of small matrices: QR, eigenvalues of symmetric ones, singular values.

They are programs of JAX for one matrix, scaled so that its largest number is 1 and squares neither
overflow nor vanish.
"""

import jax.numpy as jnp
from jax import lax

from gpusim.lanes.rules.definition import run
from gpusim.lanes.scalarize import rule

UNROLL = 5000  # multiplications of a factorisation that is written out
SWEEPS = 20  # of Jacobi's rotations; six or seven are usual


def _scaled(a):
    """The matrix divided by its largest number, and that number (1 if there is none)."""
    size = jnp.max(jnp.abs(a), initial=0)
    size = jnp.where((size > 0) & (size < jnp.inf), size, 1)
    return a / size, size


# -- QR --------------------------------------------------------------------------------------------


@rule("geqrf")
def _geqrf(s, eqn, a):
    return run(s, geqrf, eqn, [a], ndim=2)


@rule("householder_product")
def _householder_product(s, eqn, a, taus):
    return run(s, householder_product, eqn, [a, taus], ndim=2)


@rule("qr")
def _qr(s, eqn, a):
    if eqn.params["pivoting"]:
        raise s.error("qr with pivoting is not supported")
    return run(s, qr, eqn, [a], ndim=2, full=eqn.params["full_matrices"])


def _times(columns, work: int, body, init):
    """body(column, state) for each column in turn, written out if that is not too much work."""
    if work <= UNROLL:
        for j in columns:
            init = body(j, init)
        return init
    return lax.fori_loop(0, len(columns), lambda k, x: body(jnp.asarray(columns)[k], x), init)


def geqrf(a):
    """Householder's reflections as LAPACK keeps them: R above, their vectors below, their factors.

    Reflection j is 1 - tau v v' with v[j] = 1; of a column that is zero below the diagonal tau = 0.
    """
    (a, size), (m, n) = _scaled(a), a.shape
    row, column, count = jnp.arange(m), jnp.arange(n), min(a.shape)

    def reflect(j, state):
        a, taus = state
        x, below = a[:, j], row > j
        alpha, tail = x[j], jnp.where(below, x, 0)
        squares = jnp.sum(tail * tail)
        done = squares == 0
        norm = jnp.sqrt(alpha * alpha + squares)
        beta = jnp.where(done, alpha, jnp.where(alpha < 0, norm, -norm))
        tau = jnp.where(done, 0, (beta - alpha) / beta)
        v = tail / jnp.where(done, 1, alpha - beta)
        full = jnp.where(row == j, 1, v)
        a = a - jnp.where(column > j, jnp.outer(full, tau * (full @ a)), 0)
        x = jnp.where(below, v, jnp.where(row == j, beta, x))
        return jnp.where(column == j, x[:, None], a), jnp.where(jnp.arange(count) == j, tau, taus)

    a, taus = _times(range(count), count * m * n, reflect, (a, jnp.zeros(count, a.dtype)))
    return jnp.where(row[:, None] <= column, a * size, a), taus


def householder_product(a, taus):
    """The first columns of the product of the reflections that geqrf gives."""
    m, n = a.shape
    row, count = jnp.arange(m), taus.shape[0]

    def reflect(j, q):
        v = jnp.where(row > j, a[:, j], jnp.where(row == j, 1, 0))
        return q - jnp.outer(v, taus[j] * (v @ q))

    return _times(range(count)[::-1], count * m * n, reflect, jnp.eye(m, n, dtype=a.dtype))


def qr(a, *, full: bool):
    m, n = a.shape
    reflections, taus = geqrf(a)
    columns = m if full or m < n else n
    wide = jnp.zeros((m, columns), a.dtype).at[:, : min(m, n)].set(reflections[:, : min(m, n)])
    return householder_product(wide, taus), jnp.triu(reflections[:columns])


# -- Jacobi's method -------------------------------------------------------------------------------


@rule("eigh")
def _eigh(s, eqn, a):
    p, n = eqn.params, a.shape[-1]
    if p.get("subset_by_index") not in (None, (0, n)):
        raise s.error("eigh of a subset is not supported")
    return run(s, eigh, eqn, [a], ndim=2, lower=p["lower"])


@rule("svd")
def _svd(s, eqn, a):
    p = eqn.params
    if p.get("subset_by_index") not in (None, (0, min(a.shape[-2:]))):
        raise s.error("svd of a subset is not supported")
    full, vectors = p["full_matrices"], p["compute_uv"]
    return run(s, svd, eqn, [a], ndim=2, full=full, vectors=vectors)


def _tournament(n: int) -> list[int]:
    """The order of n (even) players for the next round, player i against i + n/2: in n - 1 rounds
    everybody meets everybody. Brent and Luk, SIAM J. Sci. Stat. Comput. 6 (1985).
    """
    half = n // 2
    if half == 1:
        return [0, 1]
    top, bottom = list(range(half)), list(range(half, n))
    return [top[0], bottom[0], *top[1:-1], *bottom[1:], top[-1]]


def _rotation(app, aqq, apq, idle):
    """cos, sin and tan of the angle that makes apq zero; of the smaller one. None where idle."""
    ratio = (aqq - app) / (2 * jnp.where(idle, 1, apq))
    t = jnp.where(ratio < 0, -1, 1) / (jnp.abs(ratio) + jnp.sqrt(1 + ratio * ratio))
    t = jnp.where(idle, 0, t)
    c = 1 / jnp.sqrt(1 + t * t)
    return c, c * t, t


def _rotate(x, c, s):
    """Columns i and i + n/2 of x turned against each other."""
    p, q = jnp.split(x, 2, axis=1)
    return jnp.concatenate([c * p - s * q, s * p + c * q], 1)


def _until(more, rounds: int, body, init):
    """body(state) again and again while more(state); one round is enough for two players."""
    if rounds == 1:
        return body(init)
    trip = lambda state: (state[0] + 1, body(state[1]))
    unfinished = lambda state: (state[0] < SWEEPS * rounds) & more(state[1])
    return lax.while_loop(unfinished, trip, (0, init))[1]


def eigh(a, *, lower: bool):
    """Eigenvectors (columns) and eigenvalues, ascending, of a symmetric matrix; only one triangle
    is read. All NaN if one of its numbers is not finite.
    """
    a, n = (a if lower else a.T), len(a)
    a, size = _scaled(jnp.tril(a) + jnp.tril(a, -1).T)
    if n == 0:
        return a, a[0:0, 0]
    even = n + n % 2
    order, half = jnp.array(_tournament(even)), even // 2
    if even > n:  # a player who rests: an eigenvalue beyond the others, which is dropped
        a = jnp.pad(a, (0, 1)).at[n, n].set(2 * n)
    pairs = jnp.eye(even, k=half, dtype=bool)

    def more(state):
        squares = jnp.triu(state[0], 1) ** 2
        return jnp.sum(squares) > (jnp.finfo(a.dtype).eps / 8) ** 2

    def body(state):
        a, v = state
        d, apq = jnp.diag(a), jnp.diag(a, half)
        app, aqq = d[:half], d[half:]
        c, s, t = _rotation(app, aqq, apq, apq == 0)
        a = _rotate(_rotate(a, c, s).T, c, s)
        a = jnp.where(pairs, 0, jnp.triu(a, 1))
        d = jnp.concatenate([app - t * apq, aqq + t * apq])
        a = a + a.T + jnp.diag(d)
        return a[order][:, order], _rotate(v, c, s)[:, order]

    b, v = _until(more, even - 1, body, (a, jnp.eye(n, even, dtype=a.dtype)))
    w = jnp.broadcast_to(jnp.diag(b), v.shape)
    w, v = lax.sort((w, v), dimension=1, num_keys=1)
    finite = jnp.all(jnp.isfinite(a))
    return jnp.where(finite, v[:, :n], jnp.nan), jnp.where(finite, w[0, :n] * size, jnp.nan)


def svd(a, *, full: bool, vectors: bool):
    """Singular values, descending, and the vectors (U as columns, V as rows) if wanted.

    Pairs of columns are turned until all are orthogonal: then they are U times the singular values.
    Hestenes, J. SIAM 6 (1958). Columns of U that belong to a singular value of 0 come from a QR
    factorisation. All NaN if a number is not finite.
    """
    m, n = a.shape
    if m < n:
        values, *uv = svd(a.T, full=full, vectors=vectors)
        return values, *(x.T for x in reversed(uv))
    a, size = _scaled(a)
    finite = jnp.all(jnp.isfinite(a))
    if n == 0:
        eye = jnp.eye(m, m if full else 0, dtype=a.dtype)
        return (a[0], eye, a[:0]) if vectors else (a[0],)
    even = n + n % 2
    order = jnp.array(_tournament(even))
    tolerance = jnp.finfo(a.dtype).eps * m**0.5

    def more(state):
        return state[2] < even - 1  # rounds since something was turned

    def body(state):
        b, v, quiet = state
        p, q = jnp.split(b, 2, axis=1)
        dot = lambda x, y: jnp.sum(x * y, 0)
        alpha, beta, gamma = dot(p, p), dot(q, q), dot(p, q)
        idle = ~(jnp.abs(gamma) > tolerance * jnp.sqrt(alpha) * jnp.sqrt(beta))
        c, s, _ = _rotation(alpha, beta, gamma, idle)
        quiet = jnp.where(jnp.all(idle), quiet + 1, 0)
        return _rotate(b, c, s)[:, order], _rotate(v, c, s)[:, order], quiet

    b = jnp.pad(a, ((0, 0), (0, even - n)))
    # a column that is there to make the number even, and its zero, are sorted behind all others
    b, v, _ = _until(more, even - 1, body, (b, jnp.eye(n, even, dtype=a.dtype), 0))
    norms = jnp.sqrt(jnp.sum(b * b, 0))
    spare = jnp.sum(v * v, 0) < 0.5
    key = jnp.where(spare, 1, -norms)
    rows = jnp.concatenate([b, v])
    key, rows = lax.sort((jnp.broadcast_to(key, rows.shape), rows), dimension=1, num_keys=1)
    values = jnp.where(finite, -key[0, :n] * size, jnp.nan)
    if not vectors:
        return (values,)
    u, r = qr(rows[:m, :n], full=full)
    sign = jnp.where(jnp.diag(r) < 0, -1, 1)
    u = jnp.concatenate([u[:, :n] * sign, u[:, n:]], 1)
    return values, jnp.where(finite, u, jnp.nan), jnp.where(finite, rows[m:, :n].T, jnp.nan)


# -- tridiagonal systems ---------------------------------------------------------------------------


@rule("tridiagonal_solve")
def _tridiagonal_solve(s, eqn, *operands):
    if eqn.params.get("perturb_singular"):
        raise s.error("tridiagonal_solve with perturb_singular is not supported")
    return run(s, tridiagonal_solve, eqn, operands, ndim=1)


def tridiagonal_solve(lower, diagonal, upper, b):
    """Elimination with the larger of two rows, as LAPACK's gtsv; all NaN if a pivot is 0."""

    def forward(row, below):  # a row: three neighbouring numbers, and those of b
        first, second, right = row
        (below, own, after), other = below
        swap = jnp.abs(below) > jnp.abs(first)
        pick = lambda x, y: jnp.where(swap, x, y)
        pivot, rest = pick(below, first), pick(first, below)
        pivot_row = pick(own, second), pick(after, 0), pick(other, right)
        factor = rest / pivot
        row = (
            pick(second, own) - factor * pivot_row[0],
            pick(0, after) - factor * pivot_row[1],
            pick(right, other) - factor * pivot_row[2],
        )
        return row, (pivot, *pivot_row)

    rows = (lower[1:], diagonal[1:], upper[1:]), b[1:]
    (pivot, _, right), upper_rows = lax.scan(forward, (diagonal[0], upper[0], b[0]), rows)
    last = right / pivot

    def backward(known, row):
        one, two = known
        pivot, first, second, right = row
        x = (right - first * one - second * two) / pivot
        return (x, one), x

    _, x = lax.scan(backward, (last, jnp.zeros_like(last)), upper_rows, reverse=True)
    x = jnp.concatenate([x, last[None]])
    singular = jnp.any(upper_rows[0] == 0) | (pivot == 0)
    return (jnp.where(singular, jnp.nan, x),)
