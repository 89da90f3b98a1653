"""Factorisations of small matrices: as XLA's where they are unique, else what defines them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes
from tests.lanes.agreement import agree, assert_same
from tests.lanes.test_passes import graph_of

DTYPES = ("float32", "float64")
EXACT = {"float32": 2e-5, "float64": 1e-12}


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def matrices(*shape, dtype="float64", seed=0, worlds=17):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(worlds, *shape)), dtype)


def run(fn, *args):
    return jax.jit(jax.vmap(lanes.kernel(fn)))(*args)


def assert_zero(x, dtype, scale=1.0):
    np.testing.assert_allclose(x, np.zeros_like(x), atol=EXACT[dtype] * scale)


# -- Cholesky --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_cholesky_of_what_is_not_positive_definite(dtype):
    a = np.array(matrices(4, 4, dtype=dtype, worlds=20))
    a = a @ a.swapaxes(1, 2) + np.eye(4, dtype=dtype)
    wrong = [
        (0, 0, -1),
        (3, 3, -1),
        (2, 2, 0),
        (0, 0, 0),
        (2, 1, 1e3),
        (0, 0, -np.inf),
        (1, 0, np.inf),
    ]
    for world, (i, j, value) in enumerate([*wrong, (3, 3, np.inf), (0, 0, np.inf)]):
        a[world, i, j] = a[world, j, i] = value

    def fn(a):
        factors = [jnp.linalg.cholesky(a, symmetrize_input=s) for s in (True, False)]
        return *factors, jnp.linalg.cholesky(a, upper=True), lax.linalg.cholesky(a + a.T)

    agree(fn, args=[a], dtypes=(dtype,))
    a[:, 3, 0] = a[:, 0, 3] = np.nan  # LAPACKs differ in how much of this they pass on
    assert np.isnan(run(fn, a)[1][:, *np.tril_indices(4)]).all()


def test_cholesky_that_fails_in_a_block_of_its_own():
    """Numbers that are zero by structure stay so; all others of the factor are NaN."""

    def fn(x):
        a = jnp.diag(jnp.array([4.0, 9.0, 16.0, 25.0])).at[3, 2].set(x).at[2, 3].set(x)
        return jnp.linalg.cholesky(a.at[0, 0].add(x))

    good, bad = run(fn, jnp.array([1.0, -30.0]))
    np.testing.assert_allclose(good[2:, 2:] @ good[2:, 2:].T, [[16, 1], [1, 25]], rtol=1e-6)
    assert np.isnan(bad[np.diag_indices(4)]).all()
    assert np.isnan(bad[3, 2])


def test_cholesky_costs_a_choice_a_number():
    g, _ = graph_of(jnp.linalg.cholesky, (6, 6))
    assert g.op.count("select") == 21
    assert g.op.count("fcmp") == 1  # the last root alone tells


# -- QR --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 3), (3, 5), (4, 1), (1, 4), (20, 18)])
def test_qr(shape):
    """As LAPACK's, signs too; the last is large enough to be a loop."""

    def fn(a):
        return [jnp.linalg.qr(a, mode) for mode in ("reduced", "complete", "r", "raw")]

    a = matrices(*shape, worlds=5)
    assert_same(run(fn, a), jax.vmap(fn)(a))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_qr_of_small_large_and_singular_matrices(scale):
    a = np.array(matrices(4, 3, dtype="float32")) * np.float32(scale)
    a[3, :, 1] = 0
    a[4] = 0
    a[5, 1:] = 0
    a[6, :, 2] = a[6, :, 0]
    q, r = run(jnp.linalg.qr, a)
    assert_zero((q @ r - a) / scale, "float32")
    assert_zero(q.swapaxes(1, 2) @ q - np.eye(3), "float32")
    assert_zero(np.tril(r, -1), "float32")


def test_stacks_of_matrices():
    def fn(a):
        w, v = jnp.linalg.eigh(jnp.swapaxes(a, -1, -2) @ a)
        values = jnp.linalg.svd(a, compute_uv=False)
        return jnp.linalg.qr(a), w, jnp.abs(v), values, jnp.linalg.svd(a[:0])

    agree(fn, (2, 2, 3, 2), worlds=5, dtypes=("float64",))
    agree(lambda a: jnp.linalg.qr(a), (2, 3, 2), worlds=5, dtypes=("float64",))


def test_derivatives_of_qr():
    agree(jax.grad(lambda a: jnp.linalg.qr(a)[1].sum()), (3, 3), worlds=5, dtypes=("float64",))


# -- eigenvalues of symmetric matrices -------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 12])
def test_eigh(n, dtype):
    a = np.array(matrices(n, n, dtype=dtype, worlds=19))
    a += a.swapaxes(1, 2)
    a[0], a[1], a[2] = 0, np.eye(n), np.diag(np.arange(n)[::-1])  # equal eigenvalues; none to turn
    a[3] = np.ones((n, n))
    a[4] *= dtype_limit(dtype)
    a[5] /= dtype_limit(dtype)
    w, v = run(lambda a: jnp.linalg.eigh(a), a)
    size = np.maximum(np.abs(a).max((1, 2)), np.finfo(dtype).tiny)[:, None]
    exact = np.linalg.eigvalsh(a.astype(np.float64))
    assert_zero((w - exact) / size, dtype, n)
    assert_zero((a @ v - v * w[:, None]) / size[:, None], dtype, n)
    assert_zero(v.swapaxes(1, 2) @ v - np.eye(n), dtype, n)
    assert np.all(np.diff(w) >= 0)


def dtype_limit(dtype):
    """A number whose square is too large for the type."""
    return np.dtype(dtype).type(np.sqrt(np.finfo(dtype).max) * 16)


def test_eigh_of_a_triangle_and_of_missing_numbers():
    a = np.array(matrices(3, 3))
    for lower in (True, False):
        whole = np.tril(a) + np.tril(a, -1).swapaxes(1, 2)
        whole = whole if lower else np.triu(a) + np.triu(a, 1).swapaxes(1, 2)
        fn = lambda a, lo=lower: lax.linalg.eigh(a, lower=lo, symmetrize_input=False)[1]
        np.testing.assert_allclose(run(fn, a), np.linalg.eigvalsh(whole), rtol=1e-11, atol=1e-12)
    a[0, 2, 1], a[1, 0, 0] = np.nan, np.inf
    w, v = run(lambda a: jnp.linalg.eigh(a, symmetrize_input=False), a)
    assert np.isnan(w[:2]).all()
    assert np.isnan(v[:2]).all()
    assert np.isfinite(v[2:]).all()


def test_strict_promotion_is_for_the_user():
    a = matrices(3, 3, worlds=2)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        fn = lambda a: lax.linalg.svd(a @ a, compute_uv=False)
        np.testing.assert_allclose(run(fn, a), jax.vmap(fn)(a), rtol=1e-9)


def test_derivatives_of_eigenvalues():
    first = lambda a: jnp.linalg.eigvalsh(a + a.T)[0]
    agree(lambda a: (first(a), jax.grad(first)(a)), (4, 4), worlds=5, dtypes=("float64",))


# -- singular values -------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (5, 3), (3, 5), (6, 6), (1, 4)])
def test_svd(shape, full):
    a, k = np.array(matrices(*shape, worlds=19)), min(shape)
    a[0] = 0
    a[1] = a[1, :, :1] @ a[1, :1]  # of rank one
    a[2, 1:] = 0
    a[3] *= dtype_limit("float64")
    a[4] /= dtype_limit("float64")
    u, s, vh = run(lambda a: jnp.linalg.svd(a, full_matrices=full), a)
    size = np.maximum(np.abs(a).max((1, 2)), np.finfo(np.float64).tiny)[:, None]
    assert_zero((s - np.linalg.svd(a, compute_uv=False)) / size, "float64")
    assert_zero((u[:, :, :k] * s[:, None] @ vh[:, :k] - a) / size[:, None], "float64")
    assert_zero(u.swapaxes(1, 2) @ u - np.eye(u.shape[2]), "float64")
    assert_zero(vh @ vh.swapaxes(1, 2) - np.eye(vh.shape[1]), "float64")
    assert u.shape[2] == (shape[0] if full else k)
    assert vh.shape[1] == (shape[1] if full else k)
    assert np.all(np.diff(s) <= 0)


def test_svd_of_missing_numbers():
    a = np.array(matrices(3, 2))
    a[0, 1, 1], a[1, 0, 0] = np.nan, np.inf
    out = run(lambda a: jnp.linalg.svd(a), a)
    for x in out:
        assert np.isnan(x[:2]).all()
        assert np.isfinite(x[2:]).all()


def test_what_is_made_of_these():
    norm, number = jnp.linalg.norm, jnp.linalg.matrix_rank

    def fn(a, b):
        square = a[:3] @ a[:3].T + jnp.eye(3, dtype=a.dtype)
        return [
            *(
                norm(a, 2),
                norm(a, -2),
                norm(a, "nuc"),
                jnp.linalg.cond(a),
                number(a),
                number(0 * a),
            ),
            *(jnp.linalg.pinv(a), jnp.linalg.lstsq(a, b)[0], jnp.linalg.eigvalsh(square)),
            *(jnp.linalg.inv(square), jnp.linalg.det(square), jnp.linalg.slogdet(square)[1]),
            *(jnp.linalg.matrix_power(square, 3), jnp.linalg.solve(square, b[:3])),
            *(jax.scipy.linalg.expm(square / 9), jax.scipy.linalg.polar(a)[0]),
            jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(square), b[:3]),
        ]

    args = [np.array(matrices(5, 3)), np.array(matrices(5, seed=1))]
    agree(fn, args=args, dtypes=("float64",))


@pytest.mark.parametrize(("name", "fn"), [
    ("eig", lambda a: jnp.linalg.eig(a)),
    ("schur", lambda a: jax.scipy.linalg.schur(a)),
    ("qr with pivoting", lambda a: jax.scipy.linalg.qr(a, pivoting=True)),
])  # fmt: skip
def test_refused_by_name(name, fn):
    with pytest.raises(NotImplementedError, match=name):
        run(fn, matrices(3, 3))


# -- systems of equations --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 6, 40])
def test_tridiagonal_systems(n):
    args = [np.array(matrices(n, seed=k)) for k in range(3)] + [np.array(matrices(n, 2, seed=3))]
    args[1][1] = args[0][1] = 0  # singular
    if n > 1:
        args[1][2, 0] = 0  # rows must change places
    agree(lax.linalg.tridiagonal_solve, args=args, dtypes=("float64",))


def test_singular_systems():
    a = np.array(matrices(3, 3))
    a[0], a[1, :, 1], a[2, 0, 0] = 0, 0, np.nan
    solve = jax.scipy.linalg.solve_triangular
    fn = lambda a: (lax.linalg.lu(a), jnp.linalg.det(a), solve(a, a[0], lower=True))
    agree(fn, args=[a[3:]], dtypes=("float64",))
    agree(lambda a: (jnp.linalg.det(a), lax.linalg.lu(a)[1:]), args=[a[:2]], dtypes=("float64",))
