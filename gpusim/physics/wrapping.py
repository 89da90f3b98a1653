"""How a cord lies around a sphere or a cylinder: mju_wrap.

Both are circles in a plane: of a sphere that through its centre and both ends, of a cylinder that
across its axis. All functions are of n cords, in the geom's own axes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.shapes import unit
from gpusim.physics.linalg import Array, cross, rowdot
from gpusim.physics.versions import since

_LEAST = 1e-15


class Wrap(NamedTuple):
    """Where cords touch, and how long they lie on."""

    first: jax.Array  # (n, 3)
    last: jax.Array  # (n, 3)
    length: jax.Array  # (n,) negative: it does not touch


def wrap(p: Array, q: Array, radius: Array, side: Array | None, *, sphere: bool) -> Wrap:
    """From p to q (n, 3) around the geom; with a side (n, 3), along that side of it, and inside of
    it if the side is inside the geom.
    """
    x, y = _plane(p, q) if sphere else (np.eye(3)[[0]], np.eye(3)[[1]])
    x, y = (jnp.broadcast_to(jnp.asarray(v, p.dtype), p.shape) for v in (x, y))
    flat = lambda v: _pair(rowdot(v, x), rowdot(v, y))
    a, b = flat(p), flat(q)
    if side is None:
        first, last, length = _outside(a, b, radius, None)
    else:
        toward = _unit2(flat(side)) * radius[:, None]
        inside = rowdot(side, side) < radius * radius
        within, around = _inside(a, b, radius), _outside(a, b, radius, toward)
        choose = lambda u, v: jnp.where(inside[:, None] if u.ndim > 1 else inside, u, v)
        first, last, length = map(choose, within, around)
    near = (rowdot(p, p) < _LEAST**2) | (rowdot(q, q) < _LEAST**2)
    length = jnp.where(near, -1, length)
    back = lambda d: x * d[:, :1] + y * d[:, 1:]
    first3, last3 = back(first), back(last)
    if sphere:
        return Wrap(first3, last3, length)
    before, after = _length2(a - first), _length2(b - last)
    whole = before + length + after
    rise = (q - p)[:, 2] / jnp.where(whole > 0, whole, 1)
    up = np.array([[0, 0, 1]], p.dtype)
    z1, z2 = p[:, 2] + rise * before, p[:, 2] + rise * (before + length)
    height = z2 - z1
    longer = jnp.sqrt(length * length + height * height)
    length = jnp.where(length < 0, length, longer)
    return Wrap(first3 + up * z1[:, None], last3 + up * z2[:, None], length)


def _pair(x: Array, y: Array) -> jax.Array:
    return lax.concatenate([x[:, None], y[:, None]], 1)


def _length2(v: Array) -> jax.Array:
    return jnp.sqrt(jnp.maximum(rowdot(v, v), float(np.finfo(v.dtype).tiny)))


def _unit2(v: Array) -> jax.Array:
    length = _length2(v)[:, None]
    return jnp.where(length < _LEAST, np.array([1, 0], v.dtype), v / length)


def _det(a: Array, b: Array) -> jax.Array:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _plane(p: Array, q: Array) -> tuple[jax.Array, jax.Array]:
    """Axes of the plane through the origin, p and q, the first along p."""
    x, _ = unit(p)
    normal = cross(p, q)
    parallel = (rowdot(normal, normal) < _LEAST**2)[:, None]
    largest = jnp.argmax(jnp.abs(x), 1)[:, None] == np.arange(3)
    other = jnp.where(largest, 0, 1).astype(p.dtype)
    normal, _ = unit(jnp.where(parallel, cross(x, other), normal))
    return x, unit(cross(normal, x))[0]


def _crosses(p1: Array, p2: Array, p3: Array, p4: Array) -> jax.Array:
    """Whether the segments p1 p2 and p3 p4 meet."""
    det = _det(p2 - p1, p4 - p3)
    flat = jnp.abs(det) < _LEAST
    safe = jnp.where(flat, 1, det)
    a = _det(p4 - p3, p1 - p3) / safe
    b = _det(p2 - p1, p1 - p3) / safe
    return ~flat & (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)


def _nearest(a: Array, b: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The point of the segment a b nearest to the origin, its place on the line, |b - a|²."""
    way = b - a
    length2 = rowdot(way, way)
    at = -rowdot(way, a) / jnp.where(length2 < _LEAST, 1, length2)
    return a + way * jnp.clip(at, 0, 1)[:, None], at, length2


def _outside(a: Array, b: Array, radius: Array, side: Array | None):
    """Tangents from a and b to a circle: the shorter of two ways round.

    A side that lies opposite, between -a and -b, has the cord go round there, also where it is not
    in the way; any other side changes nothing. (Before MuJoCo 4 the way nearer to it was taken.)
    """
    square = radius * radius
    a2, b2 = rowdot(a, a), rowdot(b, b)
    nearest, _, way2 = _nearest(a, b)
    clear = rowdot(nearest, nearest) > square
    beyond = jnp.zeros_like(clear)
    if side is not None:
        turn = _det(a, b)
        beyond = (_det(side, b) * turn < 0) & (_det(a, side) * turn < 0)
        if not since(4):
            beyond = jnp.ones_like(clear)
        clear = clear & ~(beyond if since(4) else rowdot(side, nearest) < 0)
    none = (a2 < square) | (b2 < square) | (radius < _LEAST) | (way2 < _LEAST) | clear
    reach_a = jnp.sqrt(jnp.maximum(a2 - square, 0)) * radius
    reach_b = jnp.sqrt(jnp.maximum(b2 - square, 0)) * radius
    turned = lambda v: _pair(v[:, 1], -v[:, 0])
    safe = lambda x: jnp.where(none, 1, x)[:, None]
    ways, merits = [], []
    for sign in (1, -1):
        first = (a * square[:, None] + sign * turned(a) * reach_a[:, None]) / safe(a2)
        last = (b * square[:, None] - sign * turned(b) * reach_b[:, None]) / safe(b2)
        merit = -rowdot(first - last, first - last)
        if side is not None:
            merit = jnp.where(beyond, rowdot(_unit2(first + last), side), merit)
        ways.append((first, last))
        merits.append(jnp.where(_crosses(a, first, b, last), -10000, merit))
    one = merits[0] > merits[1]
    first, last = (jnp.where(one[:, None], u, v) for u, v in zip(*ways, strict=True))
    none = none | _crosses(a, first, b, last)
    return first, last, jnp.where(none, -1, _arc(first, last, one, radius))


def _arc(p: Array, q: Array, one: Array, radius: Array) -> jax.Array:
    """Length along the circle from p to q, in the direction of the solution."""
    cosine = rowdot(_unit2(p), _unit2(q))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    turn = -_det(p, q)
    flip = jnp.where(one, turn < 0, turn > 0)
    return radius * jnp.where(flip, 2 * np.pi - angle, angle)


def _inside(a: Array, b: Array, radius: Array):
    """Within a hollow: the point of the circle where a cord from a to b presses outwards.

    Newton's method on asin(A z) + asin(B z) - 2 asin(z) + G = 0, z = cos(u), from u = 0: concave
    and increasing there. Where both ends are in one direction, as in C, the point between them.
    """
    length_a, length_b = _length2(a), _length2(b)
    nearest, at, way2 = _nearest(a, b)
    through = (way2 > _LEAST) & (at > 0) & (at < 1) & (_length2(nearest) <= radius)
    none = (length_a <= radius) | (length_b <= radius) | (radius < _LEAST) | through
    middle = _unit2(0.5 * (a + b)) * radius[:, None]
    ratio_a, ratio_b = radius / length_a, radius / length_b
    cosine = (length_a**2 + length_b**2 - way2) / (2 * length_a * length_b)
    none = none | (cosine < -1 + _LEAST)
    fails = cosine > 1 - _LEAST
    gap = jnp.arccos(jnp.clip(cosine, -1, 1))
    asin = lambda x: jnp.arcsin(jnp.clip(x, -1, 1))
    excess = lambda u: asin(ratio_a * jnp.cos(u)) + asin(ratio_b * jnp.cos(u)) + 2 * u + gap - np.pi

    def slope(u: Array, k: Array) -> jax.Array:
        z = k * jnp.cos(u)
        return k * jnp.sin(u) / jnp.maximum(jnp.sqrt(jnp.maximum(1 - z * z, 0)), _LEAST)

    def newton(_, u: Array) -> jax.Array:
        return u - excess(u) / jnp.maximum(2 - slope(u, ratio_a) - slope(u, ratio_b), _LEAST)

    u = lax.fori_loop(0, 20, newton, jnp.zeros_like(radius))
    if not since(4):  # there the search begins at z = 1 - 1e-7
        fails = fails | (excess(jnp.full_like(radius, np.arccos(1 - 1e-7))) > 0)
    left = (_det(a, b) > 0)[:, None]
    start = _unit2(jnp.where(left, a, b))
    angle = 0.5 * np.pi - u - asin(jnp.where(left[:, 0], ratio_a, ratio_b) * jnp.cos(u))
    c, s = jnp.cos(angle), jnp.sin(angle)
    turned = _pair(c * start[:, 0] - s * start[:, 1], s * start[:, 0] + c * start[:, 1])
    point = jnp.where(fails[:, None], middle, turned * radius[:, None])
    return point, point, jnp.where(none, -1.0, 0.0) * jnp.ones_like(radius)
