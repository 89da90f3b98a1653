"""Friction that does not creep: after the solver, forces along surfaces are found anew as if they
were not softened, with all other forces kept (mj_solNoSlip).

A few sweeps of Gauss and Seidel's method, constraint by constraint. Instead of the dual matrix
J M⁻¹ Jᵀ the acceleration is kept up to date, a = a₀ + M⁻¹ Jᵀ f.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from gpusim.physics import rolled
from gpusim.physics.constraint.blocks import Block
from gpusim.physics.constraint.laws import Params
from gpusim.physics.constraint.solver import Solution
from gpusim.physics.linalg import Array, Factor, contract, dot, factorize, solve, symmetric_mul
from gpusim.physics.model import Options


def without_slip(
    options: Options,
    scale: Array,
    matrix: jax.Array,
    qacc_smooth: jax.Array,
    blocks: Sequence[Block],
    solution: Solution,
) -> Solution:
    """The solution of the constraints' solver, with friction that holds fast.

    scale, matrix: as of `solve_constraints`, whose result `solution` is.
    """
    factor = factorize(matrix)
    rubbing = [k for k, block in enumerate(blocks) if block.law.slips]
    start = {k: _forces(blocks[k], solution.residuals[k]) for k in rubbing}
    qacc = qacc_smooth + solve(factor, solution.force)
    softened = sum(
        (
            block.total(lambda p, r, law=block.law: (_softening(law.forces(p, r), p),), r)[0]
            for block, r in zip(blocks, solution.residuals, strict=True)
        ),
        jnp.zeros_like(qacc[0]),
    )

    def sweep(state: tuple) -> tuple:
        iteration, _, qacc, forces = state
        gained = jnp.where(iteration == 0, softened, 0)
        for k in rubbing:
            qacc, forces[k], more = _sweep(blocks[k], factor, forces[k], qacc)
            gained = gained + more
        more = (scale * gained >= options.noslip_tolerance) & (
            iteration + 1 < options.noslip_iterations
        )
        return iteration + 1, more, qacc, forces

    begin = (jnp.int32(0), jnp.asarray(True), qacc, start)
    _, _, end, _ = lax.while_loop(lambda state: state[1], sweep, begin)
    changed = symmetric_mul(matrix, end - qacc)
    return solution._replace(qacc=end, force=solution.force + changed)


def _softening(force: Array, p: Params) -> jax.Array:
    """(n,) ½ R f²: what the softness of constraints has stored, which the first sweep sets free."""
    stiffness = p.stiffness if p.stiffness.ndim == 2 else p.stiffness[:, None]
    acts = stiffness > 0
    return (0.5 * jnp.where(acts, force * force / jnp.where(acts, stiffness, 1), 0)).sum(1)


def _forces(block: Block, residual: Array) -> jax.Array:
    """(n, e) of rows, or of the edges of pyramids."""
    one = lambda s: block.law.forces(_params(block, s), rolled.at(residual, s)[None])[0]
    shape = jax.eval_shape(lambda: one(jnp.int32(0)))
    none = jnp.zeros((residual.shape[0], *shape.shape), shape.dtype)
    return rolled.loop_to(block.count, lambda s, out: rolled.put(out, s, one(s)), none)


def _params(block: Block, s: Array) -> Params:
    return Params(*(None if x is None else rolled.at(x, s)[None] for x in block.params))


def _sweep(block: Block, factor: Factor, forces: Array, qacc: Array) -> tuple:
    """One pass over a block: the acceleration, its forces, and how much lower the cost is."""

    def visit(s: Array, state: tuple) -> tuple:
        qacc, forces, gained = state
        jacobian = block.row(s)
        moved = jnp.stack([solve(factor, row) for row in jacobian])  # by unit forces
        coupling = contract(jacobian, moved, 1, 1)
        residual = dot(jacobian, qacc) - rolled.at(block.aref, s)
        old = rolled.at(forces, s)
        force, change = block.law.slip(_params(block, s), old, residual, coupling)
        gain = -dot(change, residual + 0.5 * dot(coupling, change))
        worse = gain < -1e-10  # as in C: what an approximate minimum has made worse is undone
        force, change = jnp.where(worse, old, force), jnp.where(worse, 0, change)
        gain = jnp.where(worse, 0, gain)
        qacc = qacc + dot(change, moved)
        return qacc, rolled.put(forces, s, force), gained + gain

    return rolled.loop_to(block.count, visit, (qacc, forces, jnp.zeros_like(qacc[0])))
