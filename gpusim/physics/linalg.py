"""Small linear algebra on the last axes: vectors, rotations, spatial vectors, tree-sparse factors.

Arrays here are tiny and their zeros matter: a factor that is the literal constant zero costs
nothing once compiled, so everything is written densely and the constants do the rest.

Spatial vectors are (6,) arrays, angular part first. Motions are (ω, v of the point that lies at
the reference point), forces (torque about the reference point, force). A spatial inertia about the
reference point is (10,): Ixx Iyy Izz Ixy Ixz Iyz, mass times centre of mass, mass.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# A jax array or, where the numbers are known at trace time, a numpy array.
Array: TypeAlias = Any

# Where the six numbers of a symmetric 3x3 matrix go: (6, 3, 3), one-hot.
_SYMMETRIC = np.zeros((6, 3, 3))
for _i, (_r, _c) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]):
    _SYMMETRIC[_i, _r, _c] = _SYMMETRIC[_i, _c, _r] = 1.0
_LEVI_CIVITA = np.zeros((3, 3, 3))
for _i, _j, _k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    _LEVI_CIVITA[_i, _j, _k], _LEVI_CIVITA[_i, _k, _j] = 1.0, -1.0
# a b = Σ a_i b_k _HAMILTON[i, :, k]: the products of 1, i, j, k.
_HAMILTON = np.array(
    [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]],
        [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]],
        [[0, 0, 0, -1], [0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
    ]
)
_ROWS, _COLS = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


def contract(a: Array, b: Array, axis_a: int, axis_b: int, batch: int = 0) -> jax.Array:
    """Sum over one axis of each; the first `batch` axes of both run along.

    Written with lax (not einsum) because it traces ten times faster, and with full precision
    because an accelerator would otherwise round the factors to 10 bits.
    """
    lead = tuple(range(batch))
    numbers = (((axis_a,), (axis_b,)), (lead, lead))
    return lax.dot_general(a, b, numbers, precision=lax.Precision.HIGHEST)


def dot(a: Array, b: Array) -> jax.Array:
    """Matrix-matrix, matrix-vector or inner product: last axis of a with the first of b."""
    return contract(a, b, a.ndim - 1, 0)


def rowdot(a: Array, b: Array) -> jax.Array:
    """Inner products of corresponding rows: (n, k), (n, k) -> (n,)."""
    return contract(a, b, 1, 1, batch=1)


def matvec(a: Array, b: Array) -> jax.Array:
    """Products of corresponding matrices and vectors: (n, i, j), (n, j) -> (n, i)."""
    return contract(a, b, 2, 1, batch=1)


def pick(x: Array, index) -> Array:
    """Rows `index` of x, mostly known at trace time; those that are not must be inside x."""
    if isinstance(index, jax.Array):
        return jnp.take(jnp.asarray(x), index, axis=0, mode="clip")
    index = np.asarray(index, np.int32)
    if isinstance(x, np.ndarray):
        return x[index]
    if len(index) and (np.diff(index) == 1).all():
        return lax.slice_in_dim(x, int(index[0]), int(index[-1]) + 1)
    return jnp.take(x, index, axis=0, mode="clip")


def rows(x: Array) -> list:
    """The slices of x along its first axis, that axis dropped."""
    if isinstance(x, np.ndarray):
        return list(x)
    return [lax.squeeze(r, (0,)) for r in lax.split(x, (1,) * x.shape[0])]


def stack(parts) -> jax.Array:
    """Join equal-shaped arrays along a new first axis."""
    return lax.concatenate([lax.expand_dims(p, (0,)) for p in parts], 0)


def _yzx(a: Array) -> Array:
    last = a.ndim - 1
    parts = [lax.slice_in_dim(a, 1, 3, axis=last), lax.slice_in_dim(a, 0, 1, axis=last)]
    return lax.concatenate(parts, last)


def cross(a: Array, b: Array) -> jax.Array:
    """a × b along the last axis, shapes (n, 3)."""
    return _yzx(a * _yzx(b) - _yzx(a) * b)


def skew(a: Array) -> jax.Array:
    """[a]×, the matrix of a × ·: (n, 3) -> (n, 3, 3)."""
    return contract(a, _LEVI_CIVITA.astype(a.dtype), 1, 1)


def axial(a: Array) -> jax.Array:
    """(a₃₂ - a₂₃, a₁₃ - a₃₁, a₂₁ - a₁₂): twice the vector of the antisymmetric part, (n, 3)."""
    flat = lax.reshape(a, (a.shape[0], 9))
    return contract(flat, -_LEVI_CIVITA.astype(a.dtype).reshape(3, 9), 1, 1)


def symmetric(s: Array) -> jax.Array:
    """Symmetric matrices from their six different elements: (n, 6) -> (n, 3, 3)."""
    return contract(s, _SYMMETRIC.astype(s.dtype), 1, 0)


def outer6(u: Array, v: Array) -> jax.Array:
    """u vᵀ for parallel u and v, as its six different elements: (n, 3), (n, 3) -> (n, 6)."""
    eye = np.eye(3, dtype=u.dtype)
    return dot(u, eye[:, _ROWS]) * dot(v, eye[:, _COLS])


# ------------------------------------------------------------------------------------- rotations


def quat_to_mat(q: Array) -> Array:
    """Rotation matrix (..., 3, 3) of unit quaternions (..., 4), scalar part first.

    The diagonal is 1 - 2(y² + z²), not w² + x² - y² - z²: components that are the constant zero
    (planar robots) then leave exact ones and zeros behind.
    """
    xp = np if isinstance(q, np.ndarray) else jnp
    w, x, y, z = (q[..., i] for i in range(4))
    elements = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return xp.stack(elements, -1).reshape(*q.shape[:-1], 3, 3)


def quat_mul(a: Array, b: Array) -> jax.Array:
    """Hamilton product of two quaternions (4,)."""
    return dot(dot(a, _HAMILTON.astype(a.dtype).reshape(4, 16)).reshape(4, 4), b)


def quat_conjugate(q: Array) -> Array:
    """The inverse of a unit quaternion (4,)."""
    return q * np.array([1, -1, -1, -1], q.dtype)


def quat_to_vector(q: Array) -> jax.Array:
    """Axis times angle (3,), the angle in (-π, π], of a unit quaternion: mju_quat2Vel."""
    w, v = q[0], q[1:]
    sine2 = dot(v, v)
    still = sine2 < float(np.finfo(q.dtype).tiny)
    sine = jnp.sqrt(jnp.where(still, 1, sine2))
    angle = 2 * jnp.arctan2(jnp.where(still, 0, sine), w)
    angle = jnp.where(angle > np.pi, angle - 2 * np.pi, angle)
    return v * jnp.where(still, 0, angle / sine)


def normalize(v: Array) -> jax.Array:
    """v / |v| of one vector."""
    return v * lax.rsqrt(dot(v, v))


# --------------------------------------------------------------------------------- spatial algebra


def halves(s: Array) -> tuple[jax.Array, jax.Array]:
    """Angular and linear parts of spatial vectors: (n, 6) -> (n, 3), (n, 3)."""
    return lax.slice_in_dim(s, 0, 3, axis=1), lax.slice_in_dim(s, 3, 6, axis=1)


def join(angular: Array, linear: Array) -> jax.Array:
    """Spatial vectors from their parts: (n, 3), (n, 3) -> (n, 6)."""
    return lax.concatenate([angular, linear], 1)


def inertia_mul(inertia: Array, motion: Array) -> jax.Array:
    """Momentum of spatial inertias (n, 10) moving with (n, 6): (I ω + h × v, m v - h × ω)."""
    moments, h, mass = (lax.slice_in_dim(inertia, *s, axis=1) for s in [(0, 6), (6, 9), (9, 10)])
    w, v = halves(motion)
    return join(matvec(symmetric(moments), w) + cross(h, v), v * mass - cross(h, w))


def cross_motion(a: Array, m: Array) -> jax.Array:
    """Rate of change of motions m carried along by motions a: (ωa × ω, ωa × v + va × ω)."""
    (wa, va), (w, v) = halves(a), halves(m)
    return join(cross(wa, w), cross(wa, v) + cross(va, w))


# --------------------------------------------------------------- symmetric matrices with tree zeros


class Factor(NamedTuple):
    """A = Lᵀ D L with unit lower triangular L."""

    lower: list  # row k of L left of the diagonal, shape (k,)
    inverse: list  # 1 / D[k], shape (1,)


def factorize(a: Array) -> Factor:
    """Lᵀ D L of a symmetric positive matrix (n, n); only its lower triangle is read.

    Leaves first, root last (Featherstone, Rigid Body Dynamics Algorithms, section 6.5): where
    the zeros of `a` are those of a kinematic tree no zero is filled in.
    """
    n = a.shape[0]
    lower: list = [None] * n
    inverse: list = [None] * n
    for k in reversed(range(n)):
        row = lax.slice(a, (k, 0), (k + 1, k))
        inverse[k] = 1.0 / lax.reshape(lax.slice(a, (k, k), (k + 1, k + 1)), (1,))
        scaled = row * inverse[k]
        lower[k] = lax.reshape(scaled, (k,))
        if k:
            a = lax.slice(a, (0, 0), (k, k)) - contract(row, scaled, 0, 0)
    return Factor(lower, inverse)


def solve(factor: Factor, x: Array) -> jax.Array:
    """A⁻¹ x for a factored A, shapes (n,)."""
    n = len(factor.lower)
    scaled: list = [None] * n
    for k in reversed(range(n)):
        last = lax.slice(x, (k,), (k + 1,))
        scaled[k] = last * factor.inverse[k]
        x = lax.slice(x, (0,), (k,)) - factor.lower[k] * last
    done = scaled[0]
    for k in range(1, n):
        done = lax.concatenate([done, scaled[k] - dot(factor.lower[k], done)], 0)
    return done


def solve_general(a: Array, x: Array) -> jax.Array:
    """A⁻¹ x for a matrix (n, n) that is symmetric but for a small part: elimination without pivots,
    leaves first.
    """
    n = a.shape[0]
    rows: list = [None] * n
    for k in reversed(range(n)):
        inverse = 1.0 / a[k, k]
        rows[k] = (a[k, :k] * inverse, x[k] * inverse)
        column = a[:k, k]
        a = a[:k, :k] - column[:, None] * rows[k][0]
        x = x[:k] - column * rows[k][1]
    done = rows[0][1][None]
    for k in range(1, n):
        done = lax.concatenate([done, (rows[k][1] - dot(rows[k][0], done))[None]], 0)
    return done


def symmetric_mul(a: Array, x: Array) -> jax.Array:
    """A x where only the lower triangle of A (n, n) is stored."""
    strict = a * np.tri(a.shape[0], k=-1, dtype=a.dtype)
    return dot(a, x) + contract(strict, x, 0, 0)
