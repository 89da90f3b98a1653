"""The constrained acceleration: Newton's method on MuJoCo's convex cost.

    cost(a) = ½ (a - a₀)ᵀ M (a - a₀) + Σ ½ Dᵢ min(Jᵢ a - arefᵢ, 0)²

is piecewise quadratic. On one piece gradients move linearly along a Newton direction and vanish at
its end, so everything that follows a step (gradient, slope and curvature of the line search, cost)
is written as "what the current piece says" plus "rows that changed sides". Apart from costing
less, this lets a world whose active rows have settled reach a gradient of exactly zero, in float32
as well, and stop.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.constraint import Constraints, Edges, Values, along, edges, gather, hessian
from gpusim.physics.linalg import Array, dot, factorize, solve, symmetric_mul
from gpusim.physics.model import Options


class Solution(NamedTuple):
    qacc: jax.Array  # (nv,)
    qfrc_constraint: jax.Array  # (nv,) = -Jᵀ D min(J qacc - aref, 0)
    iterations: jax.Array  # () Newton steps taken


class _Iterate(NamedTuple):
    qacc: jax.Array  # (nv,)
    gradient: jax.Array  # (nv,)
    residual: Values  # J qacc - aref
    iteration: jax.Array  # ()
    active: jax.Array  # () bool: whether to go on


def solve_constraints(
    options: Options,
    matrix: jax.Array,
    qacc_smooth: jax.Array,
    rows: Constraints,
    warmstart: Array,
) -> Solution:
    """Minimise the cost from the better of the warm start and the unconstrained acceleration.

    matrix: (nv, nv) mass matrix, lower triangle; qacc_smooth, warmstart: (nv,). A world in which
    no row acts stops where it starts, at qacc_smooth; one that is not finite stops at once too.
    """
    stiffness = _stiffness(rows)
    start = _start(options, matrix, qacc_smooth, rows, stiffness, warmstart)

    def newton(at: _Iterate) -> _Iterate:
        force = edges(at.residual)
        inside = _each(lambda d, r: jnp.where(r < 0, d, jnp.zeros_like(d)), stiffness, force)
        factor = factorize(matrix + hessian(rows, inside))
        step = -solve(factor, at.gradient)
        slope = dot(at.gradient, step)
        change = along(rows, step)
        piece = _piece(stiffness, force, edges(change))
        alpha = _line_search(options, slope, piece)
        crossed = _crossed(piece, alpha)
        pull = _each(lambda d, y: d * y, stiffness, crossed)
        gradient = (1 - alpha) * at.gradient + gather(rows, pull)
        improvement = -(alpha * (1 - 0.5 * alpha)) * slope - 0.5 * _total(
            _each(lambda s, p, y: s * p * y, piece.side, pull, crossed)
        )
        iteration = at.iteration + 1
        return _Iterate(
            qacc=at.qacc + alpha * step,
            gradient=gradient,
            residual=Values(*_each(lambda r, c: r + alpha * c, at.residual, change)),
            iteration=iteration,
            active=(iteration < options.iterations)
            & (options.scale * improvement > options.tolerance)
            & _steep(options, gradient),
        )

    end = lax.while_loop(lambda at: at.active, newton, start)
    return Solution(
        qacc=end.qacc,
        qfrc_constraint=-gather(rows, _force(stiffness, end.residual)),
        iterations=end.iteration,
    )


def _start(
    options: Options,
    matrix: jax.Array,
    qacc_smooth: jax.Array,
    rows: Constraints,
    stiffness: Edges,
    warmstart: Array,
) -> _Iterate:
    """MuJoCo's choice: the warm start if it costs less than the unconstrained acceleration."""
    aref = Values(rows.limits.aref, rows.contacts.aref)
    residual = lambda a: Values(*_each(lambda j, r: j - r, along(rows, a), aref))
    warm, smooth = residual(warmstart), residual(qacc_smooth)
    distance = warmstart - qacc_smooth
    pull = symmetric_mul(matrix, distance)
    better = dot(distance, pull) + _twice_cost(stiffness, warm) < _twice_cost(stiffness, smooth)
    choose = lambda a, b: jnp.where(better, a, b)
    residual = Values(*_each(choose, warm, smooth))
    gradient = choose(pull, jnp.zeros_like(pull)) + gather(rows, _force(stiffness, residual))
    return _Iterate(
        qacc=choose(warmstart, qacc_smooth),
        gradient=gradient,
        residual=residual,
        iteration=jnp.int32(0),
        active=_steep(options, gradient) & (options.iterations > 0),
    )


def _steep(options: Options, gradient: jax.Array) -> jax.Array:
    """Whether the scaled gradient exceeds the tolerance; false where it is not a number."""
    limit = np.square(options.tolerance / options.scale)
    return dot(gradient, gradient) > limit


# ------------------------------------------------------------------------------------ line search


class _Piece(NamedTuple):
    """The rows along a search direction, as seen from the piece it starts on.

    A row at distance x(α) from its boundary started on one side of it; side · x(α) = start +
    α towards is positive until it crosses.
    """

    side: Edges  # +1 outside (no force), -1 inside
    start: Edges  # |x(0)|
    towards: Edges  # side · dx/dα
    slope: Edges  # D dx/dα: a crossed row adds slope · (start + α towards) to the derivative
    curvature: Edges  # slope · towards


def _piece(stiffness: Edges, value: Edges, change: Edges) -> _Piece:
    side = _each(lambda r: jnp.where(r < 0, -jnp.ones_like(r), jnp.ones_like(r)), value)
    towards = _each(lambda r, c: jnp.where(r < 0, -c, c), value, change)
    slope = _each(lambda d, c: d * c, stiffness, change)
    curvature = _each(lambda s, t: s * t, slope, towards)
    return _Piece(side, _each(jnp.abs, value), towards, slope, curvature)


def _crossed(piece: _Piece, alpha: jax.Array) -> Edges:
    """How far each row is beyond its boundary at α: negative, or zero for rows not crossed."""
    return _each(lambda u, v: jnp.minimum(u + alpha * v, 0), piece.start, piece.towards)


def _line_search(options: Options, slope: jax.Array, piece: _Piece) -> jax.Array:
    """The minimum over α > 0, by Newton's method on the derivative, kept inside a bracket.

    The derivative is continuous, increasing and linear between crossings. α = 1 is the minimum of
    the first piece: if no row crosses on the way there it is the answer, after one evaluation.
    """
    eps = float(jnp.finfo(slope.dtype).eps)

    def derivatives(alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = _each(lambda u, v: u + alpha * v, piece.start, piece.towards)
        add = lambda y, z: jnp.where(y < 0, z, jnp.zeros_like(z))
        first = _total(_each(lambda y, s: add(y, s * y), y, piece.slope))
        second = _total(_each(add, y, piece.curvature))
        return (1 - alpha) * slope + first, second - slope

    def body(carry):
        alpha, low, high, count, _ = carry
        first, second = derivatives(alpha)
        low = jnp.where(first < 0, alpha, low)
        high = jnp.where(first > 0, alpha, high)
        step = first / second
        new = alpha - step
        middle = jnp.where(jnp.isinf(high), 2 * alpha, 0.5 * (low + high))
        new = jnp.where((new > low) & (new < high), new, middle)
        go = (jnp.abs(step) > 8 * eps * alpha) & (count < options.ls_iterations)
        return jnp.where(go, new, alpha), low, high, count + 1, go

    one = jnp.ones((), slope.dtype)
    start = (one, 0 * one, jnp.inf * one, jnp.int32(1), slope < 0)
    alpha, *_ = lax.while_loop(lambda c: c[-1], body, start)
    return alpha


# ------------------------------------------------------------------------------------ rows, summed


def _each(f, *args) -> Edges:
    return Edges(*(f(*parts) for parts in zip(*args, strict=True)))


def _total(x: Edges) -> jax.Array:
    return x.limits.sum() + x.contacts.sum()


def _stiffness(rows: Constraints) -> Edges:
    contacts = jnp.broadcast_to(
        rows.contacts.stiffness[:, None], (rows.contacts.stiffness.shape[0], 4)
    )
    return Edges(rows.limits.stiffness, contacts)


def _force(stiffness: Edges, residual: Values) -> Edges:
    """D min(J a - aref, 0) of every row: minus the constraint force."""
    return _each(lambda d, r: d * jnp.minimum(r, 0), stiffness, edges(residual))


def _twice_cost(stiffness: Edges, residual: Values) -> jax.Array:
    inside = lambda r: jnp.minimum(r, 0)
    return _total(_each(lambda d, r: d * inside(r) * inside(r), stiffness, edges(residual)))
