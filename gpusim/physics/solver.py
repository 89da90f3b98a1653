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
from jax import lax

from gpusim.physics.constraint import Constraints, Edges, Values, along, edges, gather, hessian
from gpusim.physics.linalg import Array, dot, factorize, solve, symmetric_mul
from gpusim.physics.model import Options


class Solution(NamedTuple):
    qacc: jax.Array  # (nv,)
    force: jax.Array  # (nv,) of the constraints: -Jᵀ D min(J qacc - aref, 0)
    iterations: jax.Array  # () Newton steps taken


class _Iterate(NamedTuple):
    qacc: jax.Array  # (nv,)
    gradient: jax.Array  # (nv,)
    residual: Values  # J qacc - aref
    iteration: jax.Array  # ()
    active: jax.Array  # () bool: whether to go on


def solve_constraints(
    options: Options,
    scale: Array,
    matrix: jax.Array,
    qacc_smooth: jax.Array,
    rows: Constraints,
    warmstart: Array,
) -> Solution:
    """Minimise the cost from the better of the warm start and the unconstrained acceleration.

    scale: 1 / (mean inertia · nv), which makes options.tolerance a pure number; matrix: (nv, nv)
    mass matrix, lower triangle; qacc_smooth, warmstart: (nv,). A world in which
    no row acts stops where it starts, at qacc_smooth; one that is not finite stops at once too.
    """
    stiffness = _stiffness(rows)
    start = _start(options, scale, matrix, qacc_smooth, rows, stiffness, warmstart)

    def newton(at: _Iterate) -> _Iterate:
        value = edges(at.residual)
        factor = factorize(matrix + hessian(rows, _where_negative(value, stiffness)))
        step = -solve(factor, at.gradient)
        slope = dot(at.gradient, step)
        change = along(rows, step)
        piece = _piece(stiffness, value, edges(change))
        alpha = _line_search(options, slope, piece)
        beyond = piece.beyond(alpha)
        crossed = _each(lambda d, y: d * y, stiffness, _where_negative(beyond, beyond))
        gradient = (1 - alpha) * at.gradient + gather(rows, crossed)
        iteration = at.iteration + 1
        more = (iteration < options.iterations) & _steep(options, scale, gradient)
        # Half the slope is what the quadratic model promised of this step: MuJoCo's decrement.
        return _Iterate(
            qacc=at.qacc + alpha * step,
            gradient=gradient,
            residual=Values(*_each(lambda r, c: r + alpha * c, at.residual, change)),
            iteration=iteration,
            active=more & (-0.5 * scale * slope > options.tolerance),
        )

    end = lax.while_loop(lambda at: at.active, newton, start)
    return Solution(
        qacc=end.qacc,
        force=-gather(rows, _force(stiffness, end.residual)),
        iterations=end.iteration,
    )


def _start(
    options: Options,
    scale: Array,
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
        active=_steep(options, scale, gradient) & (options.iterations > 0),
    )


def _steep(options: Options, scale: Array, gradient: jax.Array) -> jax.Array:
    """Whether the scaled gradient exceeds the tolerance; false where it is not a number."""
    return dot(gradient, gradient) > (options.tolerance / scale) ** 2


# ------------------------------------------------------------------------------------ line search


class _Piece(NamedTuple):
    """The rows along a search direction, as seen from the piece of the cost it starts on.

    A row is `start` away from its boundary and moves `towards` it or away; beyond it, it adds
    slope · beyond(α) to the derivative of the cost, whichever side it started on.
    """

    start: Edges  # |J a - aref|
    towards: Edges  # d/dα of the distance that is left
    slope: Edges  # D d(J a)/dα

    def beyond(self, alpha: jax.Array) -> Edges:
        """The distance left at α: negative for rows that have crossed."""
        return _each(lambda u, v: u + alpha * v, self.start, self.towards)


def _piece(stiffness: Edges, value: Edges, change: Edges) -> _Piece:
    return _Piece(
        start=_each(jnp.abs, value),
        towards=_each(lambda r, c: jnp.where(r < 0, -c, c), value, change),
        slope=_each(lambda d, c: d * c, stiffness, change),
    )


def _line_search(options: Options, slope: jax.Array, piece: _Piece) -> jax.Array:
    """The minimum over α > 0, by Newton's method on the derivative, kept inside a bracket.

    The derivative is continuous, increasing and linear between crossings. α = 1 is the minimum of
    the first piece: if no row crosses on the way there it is the answer, after one evaluation.
    """
    eps = float(jnp.finfo(slope.dtype).eps)
    curvature = _each(lambda s, t: s * t, piece.slope, piece.towards)

    def body(carry):
        alpha, low, high, count, _ = carry
        beyond = piece.beyond(alpha)
        bend = _each(lambda s, y: s * y, piece.slope, _where_negative(beyond, beyond))
        first = (1 - alpha) * slope + _total(bend)
        second = _total(_where_negative(beyond, curvature)) - slope
        low = jnp.where(first < 0, alpha, low)
        high = jnp.where(first > 0, alpha, high)
        correction = first / second
        new = alpha - correction
        middle = jnp.where(jnp.isinf(high), 2 * alpha, 0.5 * (low + high))
        new = jnp.where((new > low) & (new < high), new, middle)
        go = (jnp.abs(correction) > 8 * eps * alpha) & (count < options.ls_iterations)
        return jnp.where(go, new, alpha), low, high, count + 1, go

    one = jnp.ones((), slope.dtype)
    start = (one, 0 * one, jnp.inf * one, jnp.int32(1), slope < 0)
    alpha, *_ = lax.while_loop(lambda c: c[-1], body, start)
    return alpha


# ------------------------------------------------------------------------------------ rows, summed


def _each(f, *args) -> Edges:
    return Edges(*(f(*parts) for parts in zip(*args, strict=True)))


def _where_negative(x: Edges, y: Edges) -> Edges:
    """y where x < 0, else zero."""
    return _each(lambda a, b: jnp.where(a < 0, b, jnp.zeros_like(b)), x, y)


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
