"""How contacts of a list act on the degrees of freedom: along the paths between their bodies.

What a contact feels is the motion of the second body's point less that of the first's, so only
degrees of freedom count that move one of the two bodies and not the other: a dozen, where a robot
has several dozens. Loops go over them; which they are is a table by pair, and a pair is the same
number in all worlds that are computed side by side.
"""

import copy
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import Array, contract, cross, dot
from gpusim.physics.model import Model

_SHIFT = 2
_FEW = 1 << _SHIFT  # numbers of a matrix that a trip of the innermost loop changes
# where row i of a lower triangle begins whose rows are filled up to so many
_STARTS = np.cumsum([0, *(-(-(i + 1) // _FEW) * _FEW for i in range(4096))], dtype=np.int32)


class Lever(NamedTuple):
    """Where one contact acts, and along what."""

    pair: Array  # ()
    point: jax.Array  # (3,) relative to the second body's reference
    axes: jax.Array  # (k, 3) of its rows: at most three for forces, the others for torques


def lever_of(pair: Array, point: jax.Array, frame: jax.Array, dim: int) -> Lever:
    """Of a contact with a frame (3, 3): its normal and tangents, and rotations about these."""
    axes = frame[: min(dim, 3)]
    return Lever(pair, point, axes if dim <= 3 else lax.concatenate([axes, frame[: dim - 3]], 0))


@jax.tree_util.register_pytree_node_class  # of what depends on the pose
class Levers:
    """Products with the Jacobian of a contact, of a model in a pose; `pairs`: those that occur."""

    def __init__(self, model: Model, pose: Pose, pairs: Sequence[int]) -> None:
        top = model.topology
        self.nv = model.nv
        self.angular, self.linear = pose.cdof[:, :3], pose.cdof[:, 3:]
        self.dtype = pose.cdof.dtype
        self.reference = pose.reference
        geom_body, root = np.array(top.geom_body, np.int32), np.array(top.root, np.int32)
        bodies = geom_body[np.array([(p.first, p.second) for p in top.pairs], np.int32)]
        # from which tree to which, by pair, if not all stay in one
        self.root = root[bodies] if np.diff(root[bodies][list(pairs)]).any() else None
        paths = _Paths(np.asarray(top.body_dofs, bool), bodies, pairs)
        self.path, self.dofs, self.places = paths.of_pair, paths.dofs, paths.places
        self.second, self.length = paths.second, paths.length
        self.rows, self.columns_of = paths.rows, paths.columns
        self.apart = bool((self.second < self.length).any())  # some first bodies move

    def tree_flatten(self) -> tuple[tuple, "Levers"]:
        return (self.angular, self.linear, self.reference), self

    @classmethod
    def tree_unflatten(cls, like: "Levers", arrays: tuple) -> "Levers":
        new = copy.copy(like)
        new.angular, new.linear, new.reference = arrays
        return new

    def along(self, at: Lever, x: Array) -> jax.Array:
        """J x (k,)."""
        path = self._path(at)
        middle, end = rolled.at(self.second, path), rolled.at(self.length, path)

        def add(l: Array, motion: jax.Array) -> jax.Array:
            d = self._dof(at, l)
            return motion + rolled.at(x, d) * self._motion(d)

        none = jnp.zeros(6, self.dtype)
        second = rolled.loop_to(middle, add, none)
        moved, turned = self._point(second, at.point), second[:3]
        if self.apart:
            first = rolled.loop_to(end, add, none, middle)
            moved = moved - self._point(first, self._first_point(at))
            turned = turned - first[:3]
        straight = dot(at.axes[:3], moved)
        if at.axes.shape[0] <= 3:
            return straight
        return lax.concatenate([straight, dot(at.axes[3:], turned)], 0)

    def push(self, at: Lever, f: Array, out: jax.Array) -> jax.Array:
        """out (nv,) + Jᵀ f."""
        force = dot(f[:3], at.axes[:3])
        torque = dot(f[3:], at.axes[3:]) if at.axes.shape[0] > 3 else jnp.zeros_like(force)
        path = self._path(at)
        middle, end = rolled.at(self.second, path), rolled.at(self.length, path)
        add = lambda wrench: lambda l, out: self._add(at, l, wrench, out)
        out = rolled.loop_to(middle, add(self._wrench(force, torque, at.point)), out)
        if not self.apart:
            return out
        first = -self._wrench(force, torque, self._first_point(at))
        return rolled.loop_to(end, add(first), out, middle)

    def columns(self, at: Lever) -> jax.Array:
        """(L, k) the Jacobian's columns that belong to the pair's path, the first ones."""
        out = lanes.empty((self.dofs.shape[1], at.axes.shape[0]), self.dtype)

        def fill(point: Array, sign: int):
            def trip(l: Array, out: jax.Array) -> jax.Array:
                d = self._dof(at, l)
                motion = sign * self._motion(d)
                column = dot(at.axes[:3], self._point(motion, point))
                if at.axes.shape[0] > 3:
                    column = lax.concatenate([column, dot(at.axes[3:], motion[:3])], 0)
                return rolled.put(out, l, column)

            return trip

        path = self._path(at)
        middle, end = rolled.at(self.second, path), rolled.at(self.length, path)
        out = rolled.loop_to(middle, fill(at.point, 1), out)
        if not self.apart:
            return out
        return rolled.loop_to(end, fill(self._first_point(at), -1), out, middle)

    def dense(self, at: Lever) -> jax.Array:
        """J (k, nv)."""
        columns = self.columns(at)
        put = lambda l, out: rolled.put(out, self._dof(at, l), rolled.at(columns, l))
        out = jnp.zeros((self.nv, columns.shape[1]), self.dtype)
        return rolled.loop_to(rolled.at(self.length, self._path(at)), put, out).T

    def stiffen(self, at: Lever, middle: Array, out: jax.Array) -> jax.Array:
        """out + Jᵀ middle J, where out are the numbers of `rows` and `columns_of` of a matrix, and
        one more for what belongs to none of them.
        """
        columns, path = self.columns(at), self._path(at)
        width, k = self.places.shape[1], columns.shape[1]
        places = jnp.asarray(self.places.reshape(-1))
        part = functools.partial(lax.dynamic_slice, allow_negative_indices=False)

        def row(l: Array, out: jax.Array) -> jax.Array:
            weighted = dot(middle, rolled.at(columns, l))
            start = path * width + rolled.at(_STARTS[: self.dofs.shape[1]], l)

            def few(c: Array, out: jax.Array) -> jax.Array:
                where = part(places, (start + _FEW * c,), (_FEW,))
                more = contract(part(columns, (_FEW * c, 0 * c), (_FEW, k)), weighted, 1, 0)
                for j in range(_FEW):
                    out = rolled.put(out, where[j], rolled.at(out, where[j]) + more[j])
                return out

            return rolled.loop_to((l >> _SHIFT) + 1, few, out)

        return rolled.loop_to(rolled.at(self.length, path), row, out)

    # ---- parts

    def _dof(self, at: Lever, l: Array) -> jax.Array:
        return _number(self.dofs, self._path(at), l)

    def _path(self, at: Lever) -> jax.Array:
        return rolled.at(self.path, at.pair)

    def _motion(self, d: Array) -> jax.Array:
        return lax.concatenate([rolled.at(self.angular, d), rolled.at(self.linear, d)], 0)

    def _point(self, motion: Array, point: Array) -> jax.Array:
        """Velocity (3,) of a point."""
        return motion[3:] + cross(motion[:3][None], point[None])[0]

    def _wrench(self, force: Array, torque: Array, point: Array) -> jax.Array:
        """(6,) torque about the reference, and force."""
        return lax.concatenate([torque + cross(point[None], force[None])[0], force], 0)

    def _first_point(self, at: Lever) -> jax.Array:
        """The point relative to the first body's reference."""
        if self.root is None:
            return at.point
        first, second = (_number(self.root, at.pair, k) for k in (0, 1))
        away = rolled.at(self.reference, second) - rolled.at(self.reference, first)
        return at.point + away

    def _add(self, at: Lever, l: Array, wrench: Array, out: jax.Array) -> jax.Array:
        d = self._dof(at, l)
        return rolled.put(out, d, rolled.at(out, d) + dot(self._motion(d), wrench))


class _Paths:
    """The degrees of freedom between two bodies, for all pairs of geoms, each path there once."""

    def __init__(self, moved: np.ndarray, bodies: np.ndarray, pairs: Sequence[int]) -> None:
        """moved: (nbody, nv) bool, what moves a body; bodies: (pairs, 2); pairs: those in use."""
        known: dict[tuple, int] = {}
        self.of_pair = np.zeros(len(bodies), np.int32)
        for k in pairs:
            a, b = moved[bodies[k]]
            path = tuple(np.flatnonzero(b & ~a)), tuple(np.flatnonzero(a & ~b))
            self.of_pair[k] = known.setdefault(path, len(known))
        whole = [first + second for first, second in known]
        self.second = np.array([len(first) for first, _ in known], np.int32)
        self.length = np.array([len(p) for p in whole], np.int32)
        most = -(-int(self.length.max()) // _FEW) * _FEW
        self.dofs = np.zeros((len(whole), most), np.int32)
        touched = np.zeros((moved.shape[1],) * 2, bool)
        for row, path in zip(self.dofs, whole, strict=True):
            row[: len(path)] = path
            touched[np.ix_(path, path)] = True
        self.rows, self.columns = np.nonzero(np.tril(touched))
        where = np.zeros(touched.shape, np.int32)
        where[self.rows, self.columns] = where[self.columns, self.rows] = np.arange(len(self.rows))
        # of the numbers of a path's lower triangle, a few at a time; those beyond it: one for none
        self.places = np.full((len(whole), _STARTS[most]), len(self.rows), np.int32)
        for row, path in zip(self.places, whole, strict=True):
            for i, d in enumerate(path):
                row[_STARTS[i] : _STARTS[i] + i + 1] = where[d, list(path[: i + 1])]


def _number(table: np.ndarray, row: Array, column: Array) -> jax.Array:
    """table[row, column]: one number, not a row of which one is chosen."""
    return rolled.at(table.reshape(-1), row * table.shape[1] + column)
