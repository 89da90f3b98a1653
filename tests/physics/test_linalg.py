"""Small linear algebra, by hand and by numpy."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import mujoco
import numpy as np

from gpusim.physics import dynamics, linalg
from tests.physics.harness import close, over_worlds

RNG = np.random.default_rng(0)


def test_cross_skew_axial_agree_with_numpy():
    a, b = RNG.standard_normal((2, 5, 3))
    close(over_worlds(lambda a, b: linalg.cross(a[None], b[None])[0])(a, b), np.cross(a, b), 1e-15)
    skew = over_worlds(lambda a: linalg.skew(a[None])[0])(a)
    close(np.einsum("nij,nj->ni", skew, b), np.cross(a, b), 1e-15)
    close(over_worlds(lambda m: linalg.axial(m[None])[0])(skew), 2 * a, 1e-15)


def test_quaternions_agree_with_mujoco():
    p, q = RNG.standard_normal((2, 5, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    product, matrix = np.zeros(4), np.zeros(9)
    ours = over_worlds(lambda p, q: (linalg.quat_mul(p, q), linalg.quat_to_mat(q)))(p, q)
    for k in range(5):
        mujoco.mju_mulQuat(product, p[k], q[k])
        mujoco.mju_quat2Mat(matrix, q[k])
        close(ours[0][k], product, 1e-15)
        close(ours[1][k].ravel(), matrix, 1e-15)
    close(linalg.quat_to_mat(q), ours[1], 1e-15)  # numpy in, numpy out


def test_a_rotation_about_one_axis_leaves_exact_zeros():
    half = 0.3
    matrix = linalg.quat_to_mat(np.array([np.cos(half), 0, np.sin(half), 0]))
    np.testing.assert_array_equal(matrix[1], [0, 1, 0])
    np.testing.assert_array_equal(matrix[:, 1], [0, 1, 0])


def test_factor_solves_and_keeps_the_zeros_of_a_tree():
    """A star of three branches on one root: no pair of branches is coupled by the factor."""
    n = 7
    branch = np.array([0, 1, 1, 2, 2, 3, 3])
    couples = (branch[:, None] == branch) | (branch[:, None] == 0) | (branch == 0)
    half = RNG.standard_normal((n, n)) * couples
    full = np.where(couples, half + half.T, 0) + 2 * n * np.eye(n)
    x = RNG.standard_normal(n)
    lower = np.tril(full)[None]
    solved = over_worlds(lambda a, x: linalg.solve(linalg.factorize(a), x))(lower, x[None])
    close(solved[0], np.linalg.solve(full, x), 1e-13)
    close(over_worlds(linalg.symmetric_mul)(lower, x[None])[0], full @ x, 1e-13)
    factor = over_worlds(linalg.factorize)(lower)
    for k in range(1, n):
        np.testing.assert_array_equal(factor.lower[k][0][~couples[k, :k]], 0)


def test_newton_euler_of_a_few_point_masses():
    """Against Σ m r̈ and Σ r × m r̈ with r̈ = a + α × r + ω × (v + ω × r)."""
    mass = RNG.uniform(0.5, 2, 4)
    r = RNG.standard_normal((4, 3))
    w, v, alpha, a = RNG.standard_normal((4, 3))
    squares = [p @ p * np.eye(3) - np.outer(p, p) for p in r]
    upper = np.tensordot(mass, squares, 1)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    inertia = np.concatenate([upper, mass @ r, [mass.sum()]])
    motion, rate = np.concatenate([w, v]), np.concatenate([alpha, a])
    inertia, motion, rate = (x[None, None] for x in (inertia, motion, rate))  # one world, one body
    force = over_worlds(dynamics.newton_euler)(inertia, motion, rate)
    each = mass[:, None] * (a + np.cross(alpha, r) + np.cross(w, v + np.cross(w, r)))
    close(force[0, 0], np.concatenate([np.cross(r, each).sum(0), each.sum(0)]), 1e-13)
    momentum = over_worlds(linalg.inertia_mul)(inertia, motion)
    each = mass[:, None] * (v + np.cross(w, r))
    close(momentum[0, 0], np.concatenate([np.cross(r, each).sum(0), each.sum(0)]), 1e-13)
