"""What a world is doing, in MuJoCo's conventions: for observations, rewards and rendering.

Inside the engine spatial vectors refer to the position of a tree's root body, mjData's to the
centre of mass of the tree (subtree_com of the root); and free joints turn in world axes inside,
in the body's axes in mjData. What nobody reads costs nothing: the compiler drops it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision.collide import Contacts
from gpusim.physics.constraint.wrenches import (
    Contact,
    contact_forces,
    contact_points,
    external_wrenches,
)
from gpusim.physics.kinematics import Pose, orientations, positions, to_body
from gpusim.physics.linalg import (
    cross,
    dot,
    halves,
    join,
    outer6,
    pick,
    rowdot,
    rows,
    stack,
)
from gpusim.physics.model import Model
from gpusim.physics.passive import applied_wrenches
from gpusim.physics.stages import Dynamics, State


class Derived(NamedTuple):
    """mjData by its own names, world frame, SI units."""

    state: State  # that all this is of
    xpos: jax.Array  # (nbody, 3)
    xquat: jax.Array  # (nbody, 4)
    xmat: jax.Array  # (nbody, 3, 3)
    xipos: jax.Array  # (nbody, 3) centres of mass
    site_xpos: jax.Array  # (nsite, 3)
    subtree_com: jax.Array  # (nbody, 3)
    cinert: jax.Array  # (nbody, 10) about subtree_com of the root
    cvel: jax.Array  # (nbody, 6) angular, linear, at subtree_com of the root
    cdof: jax.Array  # (nv, 6) likewise
    cfrc_ext: jax.Array  # (nbody, 6) torque and force of contacts and pushes: see wrenches.py
    mass_matrix: jax.Array  # (nv, nv) lower triangle: MuJoCo's M
    contact: Contact  # points that may touch
    ten_length: jax.Array  # (ntendon,)
    ten_velocity: jax.Array  # (ntendon,)
    actuator_length: jax.Array  # (nu,)
    actuator_velocity: jax.Array  # (nu,)
    act_dot: jax.Array  # (na,)
    contacts_dropped: jax.Array  # () that found no place in the list of contacts: see docs
    qfrc_bias: jax.Array  # (nv,)
    qfrc_passive: jax.Array  # (nv,)
    qfrc_actuator: jax.Array  # (nv,)
    qfrc_smooth: jax.Array  # (nv,) all forces but those of constraints
    qfrc_constraint: jax.Array  # (nv,)
    qacc_smooth: jax.Array  # (nv,) acceleration without constraints
    qacc: jax.Array  # (nv,)
    actuator_force: jax.Array  # (nu,)
    solver_niter: jax.Array  # () Newton steps


def derive(model: Model, state: State, now: Dynamics) -> Derived:
    """Turn what the engine keeps into what mjData holds."""
    top, pose = model.topology, now.pose
    every, sites = range(model.nbody), list(top.site_body)
    com = subtree_com(model, pose, now.mass.bodies)
    shift = pick(com, top.root)
    body = lambda x: to_body(model, pose, x)
    solved = now.blocks, now.solution.residuals
    forces = contact_forces(model, now.contacts, *solved)
    external = external_wrenches(model, pose, shift, now.contacts, forces, *solved)
    if state.xfrc_applied is not None:
        external = external + applied_wrenches(model, pose, state.xfrc_applied, shift)
    return Derived(
        state=jax.tree.map(lambda x: jnp.asarray(x, com.dtype), state),
        xpos=pose.reference + pose.offset,
        xquat=orientations(model, state.qpos, state.mocap),
        xmat=pose.xmat,
        xipos=pose.reference + positions(model, pose, every, model.body_ipos),
        site_xpos=pick(pose.reference, sites) + positions(model, pose, sites, model.site_pos),
        subtree_com=pose.reference + com,
        cinert=_inertia_about(now.mass.bodies, shift),
        cvel=_motion_at(now.motion.bodies, shift),
        cdof=_motion_at(body(pose.cdof), pick(shift, top.dof_body)),
        cfrc_ext=external,
        mass_matrix=_lower(body(body(_both(now.mass.matrix)).T)),
        contact=contact_points(model, pose, now.contacts, forces),
        contacts_dropped=_dropped(now.contacts),
        ten_length=now.tendons.length,
        ten_velocity=dot(now.tendons.moment, now.qvel),
        actuator_length=now.transmission.length,
        actuator_velocity=now.transmission.velocity,
        act_dot=now.action.act_dot,
        qfrc_bias=body(now.bias),
        qfrc_passive=body(now.passive),
        qfrc_actuator=body(now.actuator),
        qfrc_smooth=body(now.smooth_force),
        qfrc_constraint=body(now.solution.force),
        qacc_smooth=body(now.smooth),
        qacc=body(now.solution.qacc),
        actuator_force=now.action.force,
        solver_niter=now.solution.iterations,
    )


def _dropped(contacts: list[Contacts]) -> jax.Array:
    return sum((jnp.asarray(c.dropped) for c in contacts), jnp.zeros((), jnp.int32))


def _lower(a: jax.Array) -> jax.Array:
    return a * np.tri(a.shape[0], dtype=a.dtype)


def _both(lower: jax.Array) -> jax.Array:
    """A symmetric matrix from its lower triangle."""
    return lower + (lower * np.tri(lower.shape[0], k=-1, dtype=lower.dtype)).T


def subtree_com(model: Model, pose: Pose, inertias: jax.Array) -> jax.Array:
    """(nbody, 3) relative to the reference; a massless subtree's is its body's own."""
    top = model.topology
    moments = rows(lax.slice_in_dim(inertias, 6, 10, axis=1))
    for b in reversed(range(1, model.nbody)):
        parent = top.parent[b]
        if parent:
            moments[parent] = moments[parent] + moments[b]
        else:  # a whole tree, for the world: its moment about the world's origin
            moment, mass = jnp.split(moments[b], [3])
            whole = lax.concatenate([moment + mass * pose.reference[b], mass], 0)
            moments[0] = moments[0] + whole
    moment, mass = jnp.split(stack(moments), [3], axis=1)
    massless = mass <= 0
    own = positions(model, pose, range(model.nbody), model.body_ipos)
    return jnp.where(massless, own, moment / jnp.where(massless, 1, mass))


def _motion_at(motion: jax.Array, point: jax.Array) -> jax.Array:
    """Motions (n, 6) of the reference, at points (n, 3) relative to it: v + ω × r."""
    angular, linear = halves(motion)
    return join(angular, linear + cross(angular, point))


def _inertia_about(inertia: jax.Array, point: jax.Array) -> jax.Array:
    """Spatial inertias (n, 10) about the reference, moved to points (n, 3) relative to it.

    I' = I + 2 (h·p) 1 - h pᵀ - p hᵀ - m (p·p 1 - p pᵀ) with h = m r; written with h' = h - m p as
    I - (h·p + h'·p) 1 + ... it needs only symmetric products.
    """
    tensor, h, mass = (lax.slice_in_dim(inertia, *s, axis=1) for s in [(0, 6), (6, 9), (9, 10)])
    identity = np.array([1, 1, 1, 0, 0, 0], inertia.dtype)
    moved = h - mass * point
    # About the centre of mass r: I = Ic + m (r·r 1 - r rᵀ); likewise at r - p.
    spread = rowdot(h + moved, point)[:, None] * identity
    mixed = outer6(h, point) + outer6(point, moved)
    mixed_t = outer6(point, h) + outer6(moved, point)
    return lax.concatenate([tensor - spread + 0.5 * (mixed + mixed_t), moved, mass], 1)
