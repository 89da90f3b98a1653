"""Blocks of constraints: how rows act on the degrees of freedom, whatever law answers them.

A block holds n constraints of one law and gives the solver products with their Jacobian J. It has
one of three forms, by what J looks like; the solver knows none of them:

- `Coordinates`: each row acts on one degree of freedom.
- `Written`: few constraints, every number of J written out, so that its zeros cost nothing.
- `Slots`: many contacts of which few act: a list, filled anew in every step, and loops that end at
  its last entry.

The functions `f` given to a block are of constraints side by side: f(params, *values), with values
(m, k) for m constraints; they are called once for all, or once in a loop that has m = 1.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.constraint.laws import Law, Params
from gpusim.physics.constraint.levers import Lever, Levers, lever_of
from gpusim.physics.linalg import Array, contract, dot, pick


class Coordinates(NamedTuple):
    """Rows that act on one degree of freedom each."""

    law: Law
    params: Params
    dofs: list[int]  # (n,)
    sign: Array  # (n, 1) their Jacobian
    aref: Array  # (n, 1)
    nv: int

    @property
    def count(self) -> int:
        """How many constraints there are."""
        return len(self.dofs)

    def among(self, active: Array) -> "Coordinates":
        """For worlds where `active` is true."""
        return self

    def row(self, s: Array) -> jax.Array:
        """The Jacobian (1, nv) of constraint s."""
        return rolled.at(self.sign[:, :, None] * self._place()[:, None], s)

    def along(self, x: Array) -> jax.Array:
        """J x (n, 1)."""
        return self.sign * pick(x, self.dofs)[:, None]

    def residual(self, x: Array) -> jax.Array:
        """J x - aref (n, 1)."""
        return self.along(x) - self.aref

    def map(self, f: Callable, *values: Array) -> jax.Array:
        """f of every constraint (n, k)."""
        return f(self.params, *values)

    update = map

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
    # () of constraints that hardly ever act, whether one does, here or in a world beside this one:
    # the solver leaves them out where none does; None: they are always counted
    acts: Array | None = None

    @property
    def count(self) -> int:
        """How many constraints there are."""
        return len(self.reach)

    def among(self, active: Array) -> "Written":
        """For worlds where `active` is true."""
        return self

    def row(self, s: Array) -> jax.Array:
        """The Jacobian (k, nv) of constraint s, scaled."""
        return rolled.at(self.jacobian * self.scale[:, :, None], s)

    def along(self, x: Array) -> jax.Array:
        """J x (n, k)."""
        return contract(self.jacobian, x, 2, 0) * self.scale

    def residual(self, x: Array) -> jax.Array:
        """J x - aref (n, k)."""
        return self.along(x) - self.aref

    def map(self, f: Callable, *values: Array) -> jax.Array:
        """f of every constraint (n, k)."""
        return f(self.params, *values)

    update = map

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
    """A list of contacts of k rows, of which the first `count` act, here or in a world beside this
    one; in a world where one does not act its stiffness is zero, and so is all that it gives.
    """

    law: Law
    params: Params
    levers: Levers
    pair: Array  # (n,)
    point: Array  # (n, 3)
    frame: Array  # (n, 3, 3)
    scale: Array  # (n, k) what rows are multiplied by
    aref: Array  # (n, k) scaled
    count: Array  # ()
    active: Array | None = None  # () whether this world wants anything; None: it wants all

    def among(self, active: Array) -> "Slots":
        """For worlds where `active` is true: what acts in none of them is jumped over, and what it
        would have given is unknown.
        """
        return self._replace(active=active)

    def row(self, s: Array) -> jax.Array:
        """The Jacobian (k, nv) of constraint s, scaled."""
        return self.levers.dense(self._lever(s))

    def along(self, x: Array) -> jax.Array:
        """J x (n, k)."""
        return self._fill(lambda s: self.levers.along(self._lever(s), x))

    def residual(self, x: Array) -> jax.Array:
        """J x - aref (n, k)."""
        return self._fill(lambda s: self.levers.along(self._lever(s), x) - rolled.at(self.aref, s))

    def map(self, f: Callable, *values: Array) -> jax.Array:
        """f of every constraint (n, k)."""
        return self._fill(lambda s: self._one(f, s, values)[0])

    def update(self, f: Callable, *values: Array) -> jax.Array:
        """The same, in the place of the first of the values."""
        one = lambda s, out: self._one(f, s, (out, *values[1:]))[0]
        return self._loop(lambda s, out: rolled.put(out, s, one(s, out)), values[0])

    def total(self, f: Callable, *values: Array) -> tuple[jax.Array, ...]:
        """The sum over all constraints of what f gives, a tuple of arrays (n,)."""
        shapes = jax.eval_shape(lambda: self._one(f, jnp.int32(0), values))
        none = tuple(jnp.zeros((), x.dtype) for x in shapes)

        def add(s: Array, sums: tuple) -> tuple:
            more = self._one(f, s, values)
            return tuple(a + x[0] for a, x in zip(sums, more, strict=True))

        return self._loop(add, none)

    def push(self, f: Callable, *values: Array) -> jax.Array:
        """Jᵀ f (nv,)."""
        add = lambda s, out: self.levers.push(self._lever(s), self._one(f, s, values)[0], out)
        return self._loop(add, jnp.zeros(self.levers.nv, self.aref.dtype))

    def stiffen(self, matrix: Array, f: Callable, *values: Array) -> jax.Array:
        """The lower triangle of matrix (nv, nv) + Jᵀ f J, with f (n, k, k)."""
        levers = self.levers
        rows, columns = levers.rows, levers.columns_of

        def add(s: Array, out: jax.Array) -> jax.Array:
            middle = self._one(f, s, values)[0]
            some = lanes.any_world(self._wanted & (middle != 0).any())
            grow = lambda out: levers.stiffen(self._lever(s), middle, out)
            return lax.cond(some, grow, lambda out: out, out)

        numbers = jnp.append(matrix[rows, columns], jnp.zeros((), matrix.dtype))
        return matrix.at[rows, columns].set(self._loop(add, numbers)[:-1])

    @property
    def _wanted(self) -> Array:
        return np.True_ if self.active is None else self.active

    def _lever(self, s: Array) -> Lever:
        """How constraint s acts."""
        pair, point, frame = (rolled.at(x, s) for x in (self.pair, self.point, self.frame))
        lever = lever_of(pair, point, frame, self.aref.shape[1])
        return lever._replace(axes=lever.axes * rolled.at(self.scale, s)[:, None])

    def _fill(self, one: Callable) -> jax.Array:
        """one(s) (k,) of every constraint."""
        put = lambda s, out: rolled.put(out, s, one(s))
        return self._loop(put, lanes.empty(self.aref.shape, self.aref.dtype))

    def _one(self, f: Callable, s: Array, values: tuple) -> jax.Array:
        row = lambda x: None if x is None else rolled.at(x, s)[None]
        return f(Params(*map(row, self.params)), *map(row, values))

    def _loop(self, body: Callable, init):
        def trip(s: Array, carry):
            acts = rolled.at(self.params.stiffness, s) > 0
            some = lanes.any_world(self._wanted & acts)
            return lax.cond(some, body, lambda s, carry: carry, s, carry)

        return rolled.loop_to(self.count, body if self.active is None else trip, init)


Block: TypeAlias = Coordinates | Written | Slots
