"""Laws of soft constraints: what force answers how much violation.

A constraint of k rows has the residual r = J a - aref (k,), scaled as its block says. Its law gives
the cost s(r) ≥ 0, convex; the gradient ds/dr (k,), which is minus the force; and the stiffness, the
second derivative (k, k). MuJoCo's "Computation" chapter, section "Constraint model".

Most costs are piecewise quadratic. A Newton step that stays on the piece on which it began lands on
that piece's minimum exactly. So what happens along a line, r + α c, is told as what `bend` adds to
the quadratic model at r: exactly zero while no row leaves its piece, in float32 too.

All functions are of n constraints: parameters (n,), residuals (n, k).
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.linalg import Array, contract, dot, factorize, rowdot, solve

_LEAST = 1e-15  # mjMINVAL
_SINGULAR = 1e-10  # the tolerance of mju_QCQP


class Params(NamedTuple):
    """What distinguishes constraints of one law."""

    stiffness: Array  # (n,) or (n, k), zero where a constraint does not act: D of each row
    limit: Array = None  # (n,) Friction: the largest force; Cone: the regularised μ


class Law(Protocol):
    """One kind of answer."""

    slips: bool  # whether some of it is friction, which a noslip solver stiffens

    def cost(self, p: Params, r: Array) -> jax.Array:
        """s (n,)."""
        ...

    def gradient(self, p: Params, r: Array) -> jax.Array:
        """ds/dr (n, k)."""
        ...

    def stiffness(self, p: Params, r: Array) -> jax.Array:
        """d²s/dr² (n, k, k), positive semidefinite."""
        ...

    def bend(self, p: Params, r: Array, c: Array, alpha: Array) -> jax.Array:
        """(n, k) gradient(r + α c) less gradient(r) + α stiffness(r) c."""
        ...

    def curve(self, p: Params, r: Array, c: Array, alpha: Array) -> tuple[jax.Array, jax.Array]:
        """What bend adds to the first and second derivatives of s(r + α c) by α: (n,), (n,)."""
        ...

    def forces(self, p: Params, r: Array) -> jax.Array:
        """(n, e) of each row, or of each edge of a pyramid."""
        ...

    def slip(self, p: Params, force: Array, r: Array, a: Array) -> tuple[jax.Array, jax.Array]:
        """Of one constraint that slips, its forces (e,) with friction that stops it as far as it
        can, and how much that changes the forces of its rows (k,).

        r: (k,) what is left to stop, which changes by a (k, k) times the change.
        """
        ...


class Equality:
    """½ D r²: pulls both ways, always the same piece."""

    slips = False

    def slip(self, p: Params, force: Array, r: Array, a: Array) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(force), jnp.zeros_like(r)

    def cost(self, p: Params, r: Array) -> jax.Array:
        return 0.5 * rowdot(p.stiffness * r, r)

    def gradient(self, p: Params, r: Array) -> jax.Array:
        return p.stiffness * r

    def forces(self, p: Params, r: Array) -> jax.Array:
        return -self.gradient(p, r)

    def stiffness(self, p: Params, r: Array) -> jax.Array:
        return p.stiffness[:, :, None] * np.eye(r.shape[1], dtype=r.dtype)

    def bend(self, p: Params, r: Array, c: Array, alpha: Array) -> jax.Array:
        return jnp.zeros_like(r)

    def curve(self, p: Params, r: Array, c: Array, alpha: Array) -> tuple[jax.Array, jax.Array]:
        none = jnp.zeros(r.shape[0], r.dtype)
        return none, none


class OneSided:
    """½ D min(e, 0)² for each edge e = T r: pushes one way. T is (edges, k).

    A limit and a frictionless contact have one edge, r itself. A pyramid of friction has two for
    each tangent, normal ± tangent.
    """

    def __init__(self, k: int):
        self.slips = k > 1
        table = [[1, *(s * np.eye(k - 1)[t])] for t in range(k - 1) for s in (1, -1)]
        self.edges = np.array(table or [[1]], np.float64)
        pairs = self.edges[:, :, None] * self.edges[:, None, :]
        self._pairs = pairs.reshape(len(self.edges), -1)

    def _of(self, r: Array) -> Array:
        return contract(r, self.edges.astype(r.dtype), 1, 1)

    def cost(self, p: Params, r: Array) -> jax.Array:
        inside = jnp.minimum(self._of(r), 0)
        return 0.5 * rowdot(p.stiffness[:, None] * inside, inside)

    def gradient(self, p: Params, r: Array) -> jax.Array:
        return dot(self._inside(p, r), self.edges.astype(r.dtype))

    def forces(self, p: Params, r: Array) -> jax.Array:
        return -self._inside(p, r)

    def _inside(self, p: Params, r: Array) -> jax.Array:
        return p.stiffness[:, None] * jnp.minimum(self._of(r), 0)

    def slip(self, p: Params, force: Array, r: Array, a: Array) -> tuple[jax.Array, jax.Array]:
        """Two opposite edges keep their sum, which is at most what one of them can have."""
        pairs, changes = [], [jnp.zeros_like(r[0])]
        for t in range(1, r.shape[0]):
            both, along = force[2 * t - 2] + force[2 * t - 1], force[2 * t - 2] - force[2 * t - 1]
            some = a[t, t] > _LEAST
            best = along - r[t] / jnp.where(some, a[t, t], 1)
            now = jnp.where(some, jnp.clip(best, -both, both), 0)
            changes.append(now - along)
            r = r + a[:, t] * changes[-1]
            pairs += [0.5 * (both + now), 0.5 * (both - now)]
        return jnp.stack(pairs), jnp.stack(changes)

    def stiffness(self, p: Params, r: Array) -> jax.Array:
        e, (n, k) = self._of(r), r.shape
        acting = jnp.where(e < 0, p.stiffness[:, None], jnp.zeros((), r.dtype))
        return dot(acting, self._pairs.astype(r.dtype)).reshape(n, k, k)

    def bend(self, p: Params, r: Array, c: Array, alpha: Array) -> jax.Array:
        beyond = self._beyond(self._of(r), self._of(c), alpha)
        return dot(p.stiffness[:, None] * jnp.minimum(beyond, 0), self.edges.astype(r.dtype))

    def curve(self, p: Params, r: Array, c: Array, alpha: Array) -> tuple[jax.Array, jax.Array]:
        e, f = self._of(r), self._of(c)
        beyond = self._beyond(e, f, alpha)
        crossed = beyond < 0
        none = jnp.zeros((), r.dtype)
        slope = p.stiffness[:, None] * f
        first = slope * jnp.where(crossed, beyond, none)
        second = jnp.where(crossed, slope * _towards(e, f), none)
        return first.sum(1), second.sum(1)

    def _beyond(self, e: Array, f: Array, alpha: Array) -> jax.Array:
        """How far edges at e are from their boundary after moving by α f: negative for those that
        have crossed it, whichever side they started on."""
        return jnp.abs(e) + alpha * _towards(e, f)


def _towards(e: Array, f: Array) -> jax.Array:
    """d/dα of the distance to the boundary."""
    return jnp.where(e < 0, -f, f)


class Friction:
    """Dry friction: ½ D r² up to a force of f, beyond it f |r| and a constant (Huber's law)."""

    slips = True

    def _split(self, p: Params, r: Array) -> tuple[jax.Array, jax.Array]:
        """Forces that the spring would have, and how far they are beyond what friction can give."""
        force, most = p.stiffness * r, p.limit[:, None]
        return force, force - jnp.minimum(jnp.maximum(force, -most), most)

    def cost(self, p: Params, r: Array) -> jax.Array:
        force, excess = self._split(p, r)
        inside = force - excess
        return rowdot(inside, r) - 0.5 * rowdot(inside, inside / p.stiffness)

    def gradient(self, p: Params, r: Array) -> jax.Array:
        force, excess = self._split(p, r)
        return force - excess

    def forces(self, p: Params, r: Array) -> jax.Array:
        return -self.gradient(p, r)

    def slip(self, p: Params, force: Array, r: Array, a: Array) -> tuple[jax.Array, jax.Array]:
        now = jnp.clip(force - r / a[0], -p.limit, p.limit)
        return now, now - force

    def stiffness(self, p: Params, r: Array) -> jax.Array:
        _, excess = self._split(p, r)
        return jnp.where(excess == 0, p.stiffness, jnp.zeros((), r.dtype))[:, :, None]

    def bend(self, p: Params, r: Array, c: Array, alpha: Array) -> jax.Array:
        force, excess = self._split(p, r)
        force_then, excess_then = self._split(p, r + alpha * c)
        slid = (force_then - excess_then) - (force - excess)
        return jnp.where(excess == 0, -excess_then, slid)

    def curve(self, p: Params, r: Array, c: Array, alpha: Array) -> tuple[jax.Array, jax.Array]:
        sticks, stuck = self._split(p, r + alpha * c)[1] == 0, self._split(p, r)[1] == 0
        none = jnp.zeros((), r.dtype)
        gain = jnp.where(sticks, p.stiffness, none) - jnp.where(stuck, p.stiffness, none)
        return rowdot(self.bend(p, r, c, alpha), c), rowdot(gain * c, c)


class Cone:
    """½ D (distance of r to the cone's dual)²: an elliptic friction cone, scaled to a round one.

    With N = r₁ and T the length of the rest: no force where N ≥ μ T, a spring in every direction
    where μ N + T ≤ 0, and in between s = ½ D (N - μ T)² / (1 + μ²).
    """

    slips = True

    def _zones(self, p: Params, r: Array):
        """N, T (n, 1), and where the middle and the bottom zone are."""
        n, t = r[:, :1], r[:, 1:]
        length2, mu = rowdot(t, t)[:, None], p.limit[:, None]
        none = length2 <= 0
        length = jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, length2)))
        top = (n >= mu * length) | (none & (n >= 0))
        bottom = ~top & ((mu * n + length <= 0) | none)
        return n, length, ~top & ~bottom, bottom

    def cost(self, p: Params, r: Array) -> jax.Array:
        n, t, middle, bottom = self._zones(p, r)
        mu = p.limit[:, None]
        gap = n - mu * t
        between = jnp.where(middle, gap * gap / (1 + mu * mu), 0)[:, 0]
        return 0.5 * p.stiffness * (between + jnp.where(bottom[:, 0], rowdot(r, r), 0))

    def gradient(self, p: Params, r: Array) -> jax.Array:
        n, t, middle, bottom = self._zones(p, r)
        mu, stiff = p.limit[:, None], p.stiffness[:, None]
        gap = (n - mu * t) / (1 + mu * mu)
        aside = -mu / jnp.where(middle, t, 1) * r[:, 1:]
        between = gap * lax.concatenate([jnp.ones_like(n), aside], 1)
        return stiff * jnp.where(middle, between, jnp.where(bottom, r, 0))

    def forces(self, p: Params, r: Array) -> jax.Array:
        return -self.gradient(p, r)

    def slip(self, p: Params, force: Array, r: Array, a: Array) -> tuple[jax.Array, jax.Array]:
        """The least of ½ x A x + b x in a ball as large as the normal force (mju_QCQP)."""
        side, radius = a[1:, 1:], p.limit[0] * force[0]
        b = r[1:] - dot(side, force[1:])
        now = jnp.where(radius < _LEAST, 0, in_ball(side, b, radius))
        return (
            lax.concatenate([force[:1], now], 0),
            lax.concatenate([jnp.zeros_like(r[:1]), now - force[1:]], 0),
        )

    def stiffness(self, p: Params, r: Array) -> jax.Array:
        n, t, middle, bottom = self._zones(p, r)
        mu, stiff = p.limit[:, None], p.stiffness[:, None]
        safe = jnp.where(middle, t, 1)
        along = r[:, 1:] / safe
        eye = np.eye(r.shape[1], dtype=r.dtype)
        tangents = np.ones(r.shape[1], r.dtype) - eye[0]
        g = lax.concatenate([jnp.ones_like(n), -mu * along], 1)  # d(N - μ T)/dr
        e = lax.concatenate([jnp.zeros_like(n), along], 1)
        outer = lambda u, v: u[:, :, None] * v[:, None, :]
        bow = (mu * (n - mu * t) / safe)[:, :, None] * (np.diag(tangents) - outer(e, e))
        between = (outer(g, g) - bow) / (1 + mu * mu)[:, :, None]
        rest = jnp.where(bottom[:, :, None], eye, jnp.zeros((), r.dtype))
        return stiff[:, :, None] * jnp.where(middle[:, :, None], between, rest)

    def bend(self, p: Params, r: Array, c: Array, alpha: Array) -> jax.Array:
        model = self.gradient(p, r) + alpha * contract(self.stiffness(p, r), c, 2, 1, batch=1)
        return self.gradient(p, r + alpha * c) - model

    def curve(self, p: Params, r: Array, c: Array, alpha: Array) -> tuple[jax.Array, jax.Array]:
        bent = self.stiffness(p, r + alpha * c) - self.stiffness(p, r)
        return rowdot(self.bend(p, r, c, alpha), c), rowdot(contract(bent, c, 2, 1, batch=1), c)


def in_ball(a: jax.Array, b: jax.Array, radius: Array) -> jax.Array:
    """The x (n,) that minimises ½ x A x + b x where |x| ≤ radius, by Newton's method on the
    multiplier as mju_QCQP has it; zero for a matrix that is singular in C's eyes.
    """
    n = b.shape[0]
    eye = np.eye(n, dtype=b.dtype)

    def solved(la: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        factor = factorize(a + la * eye)
        pivots = 1 / jnp.concatenate(factor.inverse)
        regular = (pivots.prod() if n < 4 else pivots.min()) >= _SINGULAR
        x = -solve(factor, b)
        value = dot(x, x) - radius * radius
        step = value / (2 * dot(x, solve(factor, x)))
        return x, jnp.where(value < _SINGULAR, 0, step), regular

    def newton(state: tuple) -> tuple:
        la, _, step, _, count = state
        la = la + step
        x, step, regular = solved(la)
        return la, x, step, regular, count + 1

    more = lambda s: s[3] & (s[2] >= _SINGULAR) & (s[4] < 20)
    zero = jnp.zeros_like(radius)
    la, x, _, regular, _ = lax.while_loop(more, newton, (zero, *solved(zero), jnp.int32(1)))
    length2 = jnp.maximum(dot(x, x), _LEAST)
    on = x * (radius * lax.rsqrt(length2))
    return jnp.where(regular, jnp.where(la > 0, on, x), 0)
