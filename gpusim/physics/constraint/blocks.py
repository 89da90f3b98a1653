"""Blocks of constraints: how rows act on the degrees of freedom, whatever law answers them.

A block holds n constraints of one law and gives the solver products with their Jacobian J. It has
one of three forms, by what J looks like; the solver knows none of them:

- `Coordinates`: each row acts on one degree of freedom.
- `Written`: few constraints, every number of J written out, so that its zeros cost nothing.
- `Slots`: many constraints of which few act: a list of bounded length, filled anew in every step,
  and loops that end at its last entry.

The functions `f` given to a block are of constraints side by side: f(params, *values), with values
(m, k) for m constraints; they are called once for all, or once in a loop that has m = 1.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics import rolled
from gpusim.physics.constraint.laws import Law, Params
from gpusim.physics.linalg import Array, contract, dot, pick

_STRIP = 8  # rows


class Coordinates(NamedTuple):
    """Rows that act on one degree of freedom each."""

    law: Law
    params: Params
    dofs: list[int]  # (n,)
    sign: Array  # (n, 1) their Jacobian
    aref: Array  # (n, 1)
    nv: int

    def rows(self) -> tuple[jax.Array, Array]:
        """The Jacobian (n, 1, nv), and how many constraints there are."""
        return self.sign[:, :, None] * self._place()[:, None], len(self.dofs)

    def along(self, x: Array) -> jax.Array:
        """J x (n, 1)."""
        return self.sign * pick(x, self.dofs)[:, None]

    def map(self, f: Callable, *values: Array) -> jax.Array:
        """f of every constraint (n, k)."""
        return f(self.params, *values)

    def total(self, f: Callable, *values: Array) -> tuple[jax.Array, ...]:
        """The sum over all constraints of what f gives, a tuple of arrays (n,)."""
        return tuple(x.sum() for x in f(self.params, *values))

    def push(self, f: Callable, *values: Array) -> jax.Array:
        """Jᵀ f (nv,)."""
        return dot((self.sign * f(self.params, *values))[:, 0], self._place())

    def stiffen(self, matrix: Array, f: Callable, *values: Array) -> jax.Array:
        """matrix (nv, nv) + Jᵀ f J, with f (n, 1, 1); the sign squared is 1."""
        diagonal = dot(f(self.params, *values)[:, 0, 0], self._place())
        return matrix + np.eye(self.nv, dtype=diagonal.dtype) * diagonal

    def _place(self) -> np.ndarray:
        place = np.zeros((len(self.dofs), self.nv), self.aref.dtype)
        place[range(len(self.dofs)), self.dofs] = 1
        return place


class Written(NamedTuple):
    """Constraints of k rows whose Jacobians are written out."""

    law: Law
    params: Params
    jacobian: Array  # (n, k, nv)
    reach: np.ndarray  # (n, nv) whether a column of a constraint's Jacobian may be other than zero
    scale: Array  # (n, k) what rows are multiplied by
    square: Array  # (n, k, k) and products of two; 1 for signs
    aref: Array  # (n, k) scaled

    def rows(self) -> tuple[jax.Array, Array]:
        """The Jacobian (n, k, nv) with its scale, and how many constraints there are."""
        return self.jacobian * self.scale[:, :, None], len(self.reach)

    def along(self, x: Array) -> jax.Array:
        """J x (n, k)."""
        return contract(self.jacobian, x, 2, 0) * self.scale

    def map(self, f: Callable, *values: Array) -> jax.Array:
        """f of every constraint (n, k)."""
        return f(self.params, *values)

    def total(self, f: Callable, *values: Array) -> tuple[jax.Array, ...]:
        """The sum over all constraints of what f gives, a tuple of arrays (n,)."""
        return tuple(x.sum() for x in f(self.params, *values))

    def push(self, f: Callable, *values: Array) -> jax.Array:
        """Jᵀ f (nv,)."""
        pushed = f(self.params, *values) * self.scale
        return dot(pushed.reshape(-1), self.jacobian.reshape(-1, self.jacobian.shape[2]))

    def stiffen(self, matrix: Array, f: Callable, *values: Array) -> jax.Array:
        """matrix (nv, nv) + Jᵀ f J, with f (n, k, k)."""
        inner = f(self.params, *values) * self.square
        for jacobian, middle, reach in zip(self.jacobian, inner, self.reach, strict=True):
            columns = np.flatnonzero(reach)
            part = pick(jacobian.T, columns)
            added = contract(part, dot(part, middle), 1, 1)
            matrix = matrix.at[np.ix_(columns, columns)].add(added)
        return matrix


class Slots(NamedTuple):
    """A list of constraints of k rows, of which the first `count` act."""

    law: Law
    params: Params
    jacobian: Array  # (slots, k, nv) scaled
    scale: Array  # (slots, k) what its rows were multiplied by
    aref: Array  # (slots, k) scaled
    count: Array  # ()

    def rows(self) -> tuple[jax.Array, Array]:
        """The Jacobian (slots, k, nv), and how many constraints act."""
        return self.jacobian, self.count

    def along(self, x: Array) -> jax.Array:
        """J x (slots, k)."""
        product = lambda s, out: rolled.put(out, s, dot(rolled.at(self.jacobian, s), x))
        return self._loop(product, jnp.zeros_like(self.aref))

    def map(self, f: Callable, *values: Array) -> jax.Array:
        """f of every constraint (slots, k)."""
        return self._loop(
            lambda s, out: rolled.put(out, s, self._one(f, s, values)[0]),
            jnp.zeros_like(self.aref),
        )

    def total(self, f: Callable, *values: Array) -> tuple[jax.Array, ...]:
        """The sum over all constraints of what f gives, a tuple of arrays (n,)."""
        shapes = jax.eval_shape(lambda: self._one(f, jnp.int32(0), values))
        none = tuple(jnp.zeros(self.aref.shape[0], x.dtype) for x in shapes)
        each = self._loop(
            lambda s, out: tuple(
                rolled.put(o, s, x[0]) for o, x in zip(out, self._one(f, s, values), strict=True)
            ),
            none,
        )
        return tuple(x.sum() for x in each)

    def push(self, f: Callable, *values: Array) -> jax.Array:
        """Jᵀ f (nv,)."""
        return self._loop(
            lambda s, out: out + dot(self._one(f, s, values)[0], rolled.at(self.jacobian, s)),
            jnp.zeros(self.jacobian.shape[2], self.aref.dtype),
        )

    def stiffen(self, matrix: Array, f: Callable, *values: Array) -> jax.Array:
        """The lower triangle of matrix (nv, nv) + Jᵀ f J, with f (n, k, k).

        Row by row, in strips whose rows are as wide as the last of them is in the triangle.
        """
        nv = matrix.shape[0]

        def add(s: Array, out: jax.Array) -> jax.Array:
            jacobian = rolled.at(self.jacobian, s)
            weighted = contract(jacobian, self._one(f, s, values)[0], 0, 0)  # (nv, k)
            for first in range(0, nv, _STRIP):
                end = min(first + _STRIP, nv)
                columns = lax.slice_in_dim(jacobian, 0, end, axis=1)

                def row(i: Array, out: jax.Array, first=first, columns=columns) -> jax.Array:
                    i = first + i
                    old = lax.slice_in_dim(rolled.at(out, i), 0, columns.shape[1])
                    return rolled.put(out, i, old + dot(rolled.at(weighted, i), columns))

                out = rolled.loop(end - first, row, out)
            return out

        return self._loop(add, matrix)

    def _one(self, f: Callable, s: Array, values: tuple) -> jax.Array:
        row = lambda x: None if x is None else rolled.at(x, s)[None]
        return f(Params(*map(row, self.params)), *map(row, values))

    def _loop(self, body: Callable, init):
        return rolled.loop_while(self.aref.shape[0], self.count, body, init)


Block: TypeAlias = Coordinates | Written | Slots
