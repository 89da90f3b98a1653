"""What air and water do to bodies: forces of MuJoCo's two fluid models (mj_fluid), and their
derivatives by velocity.

A body drags like the box that has its inertia, unless some of its geoms are to drag like ellipsoids
of their size ("Fluid forces" in MuJoCo's documentation).
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.shapes import CAPSULE, CYLINDER, SPHERE
from gpusim.physics.dynamics import Motion, joint_forces
from gpusim.physics.kinematics import Pose, motions_at, positions
from gpusim.physics.linalg import Array, contract, cross, dot, halves, join, matvec, pick, rowdot
from gpusim.physics.model import Model

_LEAST = 1e-15


class _Drags(NamedTuple):
    """n shapes of one fluid model."""

    bodies: list[int]  # that have them
    centre: Array  # (n, 3) relative to the bodies' references
    axes: Array  # (n, 3, 3) as columns
    force: Callable[[Array], jax.Array]  # torques and forces (n, 6) by velocities (n, 6)


def in_fluid(model: Model) -> bool:
    return bool(model.options.density or model.options.viscosity)


def fluid_force(model: Model, pose: Pose, motion: Motion) -> Array:
    """qfrc_fluid (nv,)."""
    on_body: dict[int, Array] = {}
    for drags in _all(model, pose):
        torque, force = halves(drags.force(_velocity(model, drags, motion)))
        torque, force = matvec(drags.axes, torque), matvec(drags.axes, force)
        applied = join(torque + cross(drags.centre, force), force)
        for k, b in enumerate(drags.bodies):
            on_body[b] = on_body[b] + applied[k] if b in on_body else applied[k]
    if not on_body:
        return np.zeros(model.nv, pose.cdof.dtype)
    return joint_forces(model, pose, list(on_body), jnp.stack(list(on_body.values())))


def fluid_slope(model: Model, pose: Pose, motion: Motion, flying: set[int]) -> Array:
    """(nv, nv) the derivative of qfrc_fluid by velocity.

    flying: bodies that are a tree of their own; implicitfast makes the slopes of others symmetric.
    """
    total = jnp.zeros((model.nv, model.nv), pose.cdof.dtype)
    for drags in _all(model, pose):
        velocity = _velocity(model, drags, motion)
        unit = lambda k, v=velocity: jnp.zeros_like(v).at[:, k].set(1)
        columns = [jax.jvp(drags.force, (velocity,), (unit(k),))[1] for k in range(6)]
        slope = jnp.stack(columns, 2)
        if model.options.integrator == "implicitfast":
            free = np.array([b in flying for b in drags.bodies])[:, None, None]
            slope = jnp.where(free, slope, 0.5 * (slope + slope.transpose(0, 2, 1)))
        linear, angular = motions_at(model, pose, drags.bodies, drags.centre)
        local = lambda v, axes=drags.axes: contract(v, axes, 2, 1, batch=1)
        jacobian = lax.concatenate([local(angular), local(linear)], 2)  # (n, nv, 6)
        for one, middle in zip(jacobian, slope, strict=True):
            total = total + dot(one, dot(middle, one.T))
    return total


def _velocity(model: Model, drags: _Drags, motion: Motion) -> jax.Array:
    """(n, 6) relative to the wind, in the shapes' axes."""
    angular, linear = halves(pick(motion.bodies, drags.bodies))
    wind = np.array(model.options.wind, drags.centre.dtype)
    local = lambda v: contract(drags.axes, v, 1, 1, batch=1)
    return join(local(angular), local(linear + cross(angular, drags.centre) - wind))


def _all(model: Model, pose: Pose) -> list[_Drags]:
    m = model.mj
    heavy = [b for b in range(1, model.nbody) if m.body_mass[b] > 0]
    of = [int(b) for b in m.geom_bodyid]
    geoms = [g for g in range(m.ngeom) if m.geom_fluid[g, 0] > 0 and of[g] in heavy]
    boxes = [b for b in heavy if b not in {of[g] for g in geoms}]
    found = []
    if boxes:
        found.append(_Drags(
            boxes,
            positions(model, pose, boxes, pick(model.body_ipos, boxes)),
            contract(pick(pose.xmat, boxes), pick(model.body_imat, boxes), 2, 1, batch=1),
            functools.partial(_box_force, model, boxes),
        ))  # fmt: skip
    if geoms:
        bodies = [of[g] for g in geoms]
        found.append(_Drags(
            bodies,
            positions(model, pose, bodies, model.geom_pos[geoms]),
            contract(pick(pose.xmat, bodies), model.geom_mat[geoms], 2, 1, batch=1),
            functools.partial(_ellipsoid_force, model, geoms),
        ))  # fmt: skip
    return found


def _box_force(model: Model, bodies: list[int], velocity: Array) -> jax.Array:
    """mj_inertiaBoxFluidModel: Stokes' force and torque of a ball of the box's mean size, and
    forces quadratic in the velocity of each face."""
    density, viscosity = model.options.density, model.options.viscosity
    spin, flow = halves(velocity)
    inertia, mass = pick(model.body_inertia, bodies), pick(model.body_mass, bodies)[:, None]
    spread = dot(inertia, np.ones((3, 3), inertia.dtype)) - 2 * inertia
    box = jnp.sqrt(6 * jnp.maximum(spread, _LEAST) / mass)
    size = dot(box, np.full((3, 1), 1 / 3, inertia.dtype))
    sides = np.ones((3, 3), inertia.dtype) - np.eye(3, dtype=inertia.dtype)
    area = box[:, (1, 2, 0)] * box[:, (2, 0, 1)]
    torque = -np.pi * viscosity * size**3 * spin
    torque = torque - density / 64 * box * dot(box**4, sides) * jnp.abs(spin) * spin
    force = -3 * np.pi * viscosity * size * flow - 0.5 * density * area * jnp.abs(flow) * flow
    return join(torque, force)


def _ellipsoid_force(model: Model, geoms: list[int], velocity: Array) -> jax.Array:
    """mj_ellipsoidFluidModel: added mass, Magnus and Kutta lift, blunt and slender drag."""
    density, viscosity = model.options.density, model.options.viscosity
    spin, flow = halves(velocity)
    coefficients = np.array(model.mj.geom_fluid)[geoms].astype(velocity.dtype)
    whole, blunt, slender, turning, kutta, magnus = (coefficients[:, k, None] for k in range(6))
    mass, inertia = density * coefficients[:, 6:9], density * coefficients[:, 9:12]
    size = _semiaxes(model, geoms)
    x, y, z = (size[:, k, None] for k in range(3))
    largest, least = size.max(1)[:, None], size.min(1)[:, None]
    middle = x + y + z - largest - least
    area = (size[:, (1, 2, 0)] * size[:, (2, 0, 1)]) ** 2  # of the shadow along each axis, squared

    momentum, spin_momentum = mass * flow, inertia * spin
    torque = cross(momentum, flow) + cross(spin_momentum, spin)
    force = cross(momentum, spin)
    force = force + magnus * density * (4 / 3 * np.pi) * x * y * z * cross(spin, flow)

    above = rowdot(area * area * flow, flow)[:, None]
    below = rowdot(area * flow, flow)[:, None]
    some = below > _LEAST
    shadow = np.pi * _root(jnp.where(some, above / jnp.where(some, below, 1), 0))
    speed = _root(rowdot(flow, flow)[:, None])
    lean = below / jnp.maximum(_LEAST, speed * above)
    circulation = kutta * density * lean * shadow * cross(area * flow, flow)
    force = force + cross(circulation, flow)

    ball = 2 / 3 * (x + y + z)
    widest = np.pi * largest * middle
    drag = 3 * np.pi * viscosity * ball
    drag = drag + density * speed * (shadow * blunt + slender * (widest - shadow))
    wide = jnp.maximum(size[:, (1, 2, 0)], size[:, (2, 0, 1)])
    moments = 8 / 15 * np.pi * size * wide**4
    largest_moment = 8 / 15 * np.pi * middle * largest**4
    twist = spin * (turning * moments + slender * (largest_moment - moments))
    turn = np.pi * viscosity * ball**3 + density * _root(rowdot(twist, twist)[:, None])
    return jnp.asarray(whole) * join(torque - turn * spin, force - drag * flow)


def _semiaxes(model: Model, geoms: list[int]) -> jax.Array:
    """(n, 3) of the ellipsoids that geoms are taken for: mju_geomSemiAxes."""
    rows = []
    for g in geoms:
        a, b, c = model.geom_size[g]
        kind = model.topology.geom_type[g]
        rows.append(
            {SPHERE: (a, a, a), CAPSULE: (a, a, a + b), CYLINDER: (a, a, b)}.get(kind, (a, b, c))
        )
    return jnp.stack([jnp.stack([jnp.asarray(v) for v in row]) for row in rows])


def _root(x: jax.Array) -> jax.Array:
    """√x, with the derivative zero at zero."""
    some = x > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1)), 0)
