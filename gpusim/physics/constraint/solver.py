"""The constrained acceleration: Newton's method on MuJoCo's convex cost.

    cost(a) = ½ (a - a₀)ᵀ M (a - a₀) + Σ s(J a - aref)

with one law s for each block of constraints. Along a Newton step the quadratic model's gradient
shrinks by 1 - α; what differs from it is what the laws add, exactly zero where no row leaves its
piece of a piecewise quadratic cost. Apart from costing less, this lets a world whose rows have
settled reach a gradient of exactly zero, in float32 as well, and stop.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics.constraint.blocks import Block, Written
from gpusim.physics.linalg import Array, dot, factorize, solve, symmetric_mul
from gpusim.physics.model import Options


class Solution(NamedTuple):
    qacc: jax.Array  # (nv,)
    force: jax.Array  # (nv,) of the constraints: -Jᵀ ds/dr
    iterations: jax.Array  # () Newton steps taken
    residuals: list[jax.Array]  # J qacc - aref of each block


class _Iterate(NamedTuple):
    qacc: jax.Array  # (nv,)
    gradient: jax.Array  # (nv,)
    residual: list[jax.Array]  # J qacc - aref of each block
    iteration: jax.Array  # ()
    active: jax.Array  # () bool: whether to go on


class _Problem(NamedTuple):
    """What `solve_constraints` is given."""

    options: Options
    scale: Array
    matrix: jax.Array
    qacc_smooth: jax.Array
    blocks: list[Block]
    warmstart: Array


def solve_constraints(
    options: Options,
    scale: Array,
    matrix: jax.Array,
    qacc_smooth: jax.Array,
    every: Sequence[Block],
    warmstart: Array,
) -> Solution:
    """Minimise the cost from the better of the warm start and the unconstrained acceleration.

    scale: 1 / (mean inertia · nv), which makes options.tolerance a pure number; matrix: (nv, nv)
    mass matrix, lower triangle; qacc_smooth, warmstart: (nv,); every: all blocks. A world in which
    no row acts stops where it starts, at qacc_smooth; one that is not finite stops at once too.

    Its derivatives are those of the minimum, whatever steps led there: where options.iterations
    ends them early, as if it had been reached.
    """
    problem = _Problem(options, scale, matrix, qacc_smooth, list(every), warmstart)
    parts, tree = jax.tree.flatten(problem)
    variable = [k for k, part in enumerate(parts) if isinstance(part, jax.Array)]

    def of(numbers: Sequence[jax.Array]) -> _Problem:
        given = dict(zip(variable, numbers, strict=True))
        return jax.tree.unflatten(tree, [given.get(k, part) for k, part in enumerate(parts)])

    minimum = jax.custom_jvp(lambda *numbers: _minimum(of(numbers)))

    @minimum.defjvp
    def derivative(numbers, tangents) -> tuple[Solution, Solution]:
        end = minimum(*numbers)
        at = lambda qacc, *numbers: _at(of(numbers), qacc)
        # The gradient stays zero: what the numbers change of it, the acceleration takes back.
        pull = jax.jvp(lambda *numbers: at(end.qacc, *numbers)[0], numbers, tangents)[1]
        step = -solve(factorize(_hessian(of(numbers), end.residuals)), pull)
        _, force, residuals = jax.jvp(at, (end.qacc, *numbers), (step, *tangents))[1]
        none: Any = np.zeros((), jax.dtypes.float0)  # of a whole number
        return end, Solution(step, force, none, residuals)

    return minimum(*(parts[k] for k in variable))


def _at(problem: _Problem, qacc: Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """The gradient of the cost and the constraints' force (nv,), and each block's residual."""
    residuals = [block.residual(qacc) for block in problem.blocks]
    force = _force(problem.blocks, residuals, qacc)
    return symmetric_mul(problem.matrix, qacc - problem.qacc_smooth) - force, force, residuals


def _force(blocks: Sequence[Block], residuals: list[jax.Array], like: Array) -> jax.Array:
    pushed = (b.push(b.law.gradient, r) for b, r in zip(blocks, residuals, strict=True))
    return -sum(pushed, jnp.zeros_like(like))


def _hessian(problem: _Problem, residuals: list[jax.Array]) -> jax.Array:
    """(nv, nv), lower triangle."""
    hessian = problem.matrix
    for block, r in zip(problem.blocks, residuals, strict=True):
        hessian = block.stiffen(hessian, block.law.stiffness, r)
    return hessian


def _minimum(problem: _Problem) -> Solution:
    """Without the blocks that hardly ever act, where they do not."""
    acts = [block.acts if isinstance(block, Written) else None for block in problem.blocks]
    rare = [x for x in acts if x is not None]
    if not rare:
        return _descent(problem)

    def usual() -> Solution:
        pairs = list(zip(problem.blocks, acts, strict=True))
        found = _descent(problem._replace(blocks=[b for b, x in pairs if x is None]))
        given = iter(found.residuals)
        every = [
            next(given) if x is None else jnp.zeros(b.aref.shape, b.aref.dtype) for b, x in pairs
        ]
        return found._replace(residuals=every)

    some = lanes.any_world(functools.reduce(jnp.logical_or, rare))
    return lax.cond(some, lambda: _descent(problem), usual)


def _descent(problem: _Problem) -> Solution:
    options, scale, start = problem.options, problem.scale, _start(problem)

    def newton(at: _Iterate) -> _Iterate:
        blocks = [block.among(at.active) for block in problem.blocks]
        hessian = _hessian(problem._replace(blocks=blocks), at.residual)
        step = -solve(factorize(hessian), at.gradient)
        slope = dot(at.gradient, step)
        change = [block.along(step) for block in blocks]
        alpha = _line_search(options, slope, blocks, at.residual, change)
        bend = lambda law: lambda p, r, c: law.bend(p, r, c, alpha)
        gradient = (1 - alpha) * at.gradient
        for block, r, c in zip(blocks, at.residual, change, strict=True):
            gradient = gradient + block.push(bend(block.law), r, c)
        iteration = at.iteration + 1
        more = (iteration < options.iterations) & _steep(options, scale, gradient)
        # Half the slope is what the quadratic model promised of this step: MuJoCo's decrement.
        return _Iterate(
            qacc=at.qacc + alpha * step,
            gradient=gradient,
            residual=_each(blocks, lambda p, r, c: r + alpha * c, at.residual, change),
            iteration=iteration,
            active=more & (-0.5 * scale * slope > options.tolerance),
        )

    end = lax.while_loop(lambda at: at.active, newton, start)
    force = _force(problem.blocks, end.residual, problem.qacc_smooth)
    return Solution(end.qacc, force, end.iteration, end.residual)


def _start(problem: _Problem) -> _Iterate:
    """MuJoCo's choice: the warm start if it costs less than the unconstrained acceleration."""
    options, scale, matrix, qacc_smooth, blocks, warmstart = problem
    warm, smooth = ([b.residual(a) for b in blocks] for a in (warmstart, qacc_smooth))
    distance = warmstart - qacc_smooth
    pull = symmetric_mul(matrix, distance)
    better = 0.5 * dot(distance, pull) + _cost(blocks, warm) < _cost(blocks, smooth)
    choose = lambda a, b: jnp.where(better, a, b)
    residual = _each(blocks, lambda p, a, b: choose(a, b), warm, smooth)
    gradient = choose(pull, jnp.zeros_like(pull))
    for block, r in zip(blocks, residual, strict=True):
        gradient = gradient + block.push(block.law.gradient, r)
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


def _each(blocks: Sequence[Block], f: Callable, *values: list) -> list[jax.Array]:
    return [block.update(f, *v) for block, *v in zip(blocks, *values, strict=True)]


def _cost(blocks: Sequence[Block], residual: list[jax.Array]) -> jax.Array:
    costs = [
        block.total(lambda p, r, law=block.law: (law.cost(p, r),), r)[0]
        for block, r in zip(blocks, residual, strict=True)
    ]
    return sum(costs, jnp.zeros(()))


def _line_search(
    options: Options,
    slope: jax.Array,
    blocks: Sequence[Block],
    residual: list[jax.Array],
    change: list[jax.Array],
) -> jax.Array:
    """The minimum over α > 0, by Newton's method on the derivative, kept inside a bracket.

    The derivative is continuous and increasing. α = 1 is the minimum of the quadratic model: if the
    laws add nothing to it there it is the answer, after one evaluation.
    """
    eps = float(np.finfo(slope.dtype).eps)

    def bent(alpha: Array) -> tuple[jax.Array, jax.Array]:
        first, second = (1 - alpha) * slope, -slope
        for block, r, c in zip(blocks, residual, change, strict=True):
            curve = lambda p, r, c, law=block.law: law.curve(p, r, c, alpha)
            more = block.total(curve, r, c)
            first, second = first + more[0], second + more[1]
        return first, second

    def body(carry):
        alpha, low, high, count, _ = carry
        first, second = bent(alpha)
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
