"""Rays and points against solids: how far along a ray the surface of a geom or a site is.

All solids but the plane are convex, so a ray is inside them on one interval: a hit is where it
enters, or where it leaves if it begins inside. As mju_rayGeom and mju_insideGeom.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import jax.numpy as jnp
import mujoco

from gpusim.physics.linalg import Array, dot

_TYPES = mujoco.mjtGeom
PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX = (
    int(getattr(_TYPES, f"mjGEOM_{name}"))
    for name in ("PLANE", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")
)
KNOWN = (PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX)
_FAR = 1e15  # beyond every solid
_LEAST = 1e-15  # mjMINVAL


def distance(kind: int, size: Array, pos: Array, mat: Array, point: Array, ray: Array) -> jax.Array:
    """How many lengths of `ray` (3,) from `point` (3,) its first hit is; -1 where it misses.

    kind: of KNOWN; size, pos (3,) and mat (3, 3): the solid's, by MuJoCo's conventions.
    """
    p, v = dot(point - pos, mat), dot(ray, mat)
    if kind == PLANE:
        return _plane(size, p, v)
    enter, leave = _interval(kind, size, p, v)
    hit = jnp.where(enter >= 0, enter, leave)
    return jnp.where((enter <= leave) & (hit >= 0), hit, -1.0)


def entry(kind: int, size: Array, p: Array, v: Array) -> jax.Array:
    """How many lengths of v (3,) from p (3,), both in the solid's own frame, a ray comes into it
    from outside; -1 where it does not, or begins inside."""
    if kind == PLANE:
        return _plane(size, p, v)
    enter, leave = _interval(kind, size, p, v)
    return jnp.where((enter <= leave) & (enter >= 0), enter, -1.0)


def normal(kind: int, size: Array, p: Array) -> jax.Array:
    """The unit normal (3,), outwards, at a point (3,) of a solid's surface, in its own frame."""
    if kind == PLANE:
        return jnp.zeros_like(p).at[2].set(1)
    if kind == BOX:
        beyond = jnp.abs(p) - size
        out = jnp.where(beyond == beyond.max(), p, 0)
    elif kind == ELLIPSOID:
        out = p / size**2
    elif kind == CYLINDER:
        cap = jnp.abs(p[2]) - size[1] > jnp.hypot(p[0], p[1]) - size[0]
        out = jnp.where(cap, jnp.zeros_like(p).at[2].set(p[2]), p.at[2].set(0))
    else:
        half = size[1] if kind == CAPSULE else 0.0
        out = p.at[2].add(-jnp.clip(p[2], -half, half))
    return out / jnp.sqrt(dot(out, out))


def visible(m: mujoco.MjModel, excluded: int = -1) -> list[int]:
    """Geoms that a ray may hit: those that are not of a body `excluded`, and not transparent."""

    def alpha(g: int) -> float:
        material = m.geom_matid[g]
        return float(m.geom_rgba[g, 3] if material < 0 else m.mat_rgba[material, 3])

    return [g for g in range(m.ngeom) if m.geom_bodyid[g] != excluded and alpha(g) != 0]


def inside(kind: int, size: Array, pos: Array, mat: Array, point: Array) -> jax.Array:
    """Whether a point (3,) is inside a solid, or below a plane."""
    p = dot(point - pos, mat)
    if kind == PLANE:
        return p[2] < 0
    if kind == BOX:
        return (jnp.abs(p) < size).all()
    if kind == ELLIPSOID:
        return ((p / size) ** 2).sum() < 1
    if kind == SPHERE:
        return dot(p, p) < size[0] ** 2
    around = p[0] ** 2 + p[1] ** 2
    if kind == CYLINDER:
        return (jnp.abs(p[2]) < size[1]) & (around < size[0] ** 2)
    beyond = p[2] - jnp.clip(p[2], -size[1], size[1])  # of a capsule's ends
    return around + beyond**2 < size[0] ** 2


def _plane(size: Array, p: jax.Array, v: jax.Array) -> jax.Array:
    """From above, and inside its rectangle where it has one."""
    down = v[2] <= -_LEAST
    hit = -p[2] / jnp.where(down, v[2], -1.0)
    at = jnp.abs(p[:2] + hit * v[:2])
    within = ((size[:2] <= 0) | (at <= size[:2])).all()
    return jnp.where(down & (hit >= 0) & within, hit, -1.0)


def _interval(kind: int, size: Array, p: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where a ray p + x v enters and leaves a solid in its own frame; enter > leave: nowhere."""
    if kind == SPHERE:
        return _ball(p, v, size[0])
    if kind == ELLIPSOID:
        return _ball(p / size, v / size, 1.0)
    if kind == BOX:
        slabs = [_slab(p[k], v[k], size[k]) for k in range(3)]
        return _both(_both(slabs[0], slabs[1]), slabs[2])
    tube = _both(_ball(p[:2], v[:2], size[0]), _slab(p[2], v[2], size[1]))
    if kind == CYLINDER:
        return tube
    end = jnp.zeros_like(p).at[2].set(size[1])
    return _either(tube, _either(_ball(p - end, v, size[0]), _ball(p + end, v, size[0])))


def _ball(p: jax.Array, v: jax.Array, radius: Array) -> tuple[jax.Array, jax.Array]:
    """|p + x v| ≤ radius, of two or three dimensions."""
    a, b, c = dot(v, v), dot(p, v), dot(p, p) - radius**2
    moving = a > _LEAST
    a = jnp.where(moving, a, 1)
    root = b * b - a * c
    crosses = root >= _LEAST
    half = jnp.sqrt(jnp.where(crosses, root, 0))
    always = ~moving & (c <= 0)
    enter = jnp.where(always, -_FAR, jnp.where(moving & crosses, (-b - half) / a, _FAR))
    leave = jnp.where(always, _FAR, jnp.where(moving & crosses, (-b + half) / a, -_FAR))
    return enter, leave


def _slab(p: jax.Array, v: jax.Array, half: Array) -> tuple[jax.Array, jax.Array]:
    """|p + x v| ≤ half, of one dimension."""
    moving = jnp.abs(v) > _LEAST
    v = jnp.where(moving, v, 1)
    one, other = (-half - p) / v, (half - p) / v
    always = ~moving & (jnp.abs(p) <= half)
    enter = jnp.where(always, -_FAR, jnp.where(moving, jnp.minimum(one, other), _FAR))
    leave = jnp.where(always, _FAR, jnp.where(moving, jnp.maximum(one, other), -_FAR))
    return enter, leave


def _both(a: tuple, b: tuple) -> tuple[jax.Array, jax.Array]:
    return jnp.maximum(a[0], b[0]), jnp.minimum(a[1], b[1])


def _either(a: tuple, b: tuple) -> tuple[jax.Array, jax.Array]:
    """Of two that overlap, or of one that is nowhere."""
    none_a, none_b = a[0] > a[1], b[0] > b[1]
    enter = jnp.where(none_a, b[0], jnp.where(none_b, a[0], jnp.minimum(a[0], b[0])))
    leave = jnp.where(none_a, b[1], jnp.where(none_b, a[1], jnp.maximum(a[1], b[1])))
    return enter, leave
