"""Rows of contacts: in each contact's frame the normal, two tangents, and three rotations.

A contact of dimension 1 has the normal alone, of 3 the tangents too, of 4 the rotation about the
normal, of 6 all. Jacobians are velocities of the second body relative to the first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.collision.collide import Contacts
from gpusim.physics.constraint.blocks import Slots, Written
from gpusim.physics.constraint.laws import Cone, Law, OneSided, Params
from gpusim.physics.constraint.levers import Levers, lever_of
from gpusim.physics.constraint.softness import Softness, reference, softness, stiffness
from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import Array, contract, cross, dot, halves, pick
from gpusim.physics.model import Model

_MIN_FRICTION = 1e-5


class _Rows(NamedTuple):
    """Constraints of m contacts."""

    scale: Array  # (m, k)
    aref: jax.Array  # (m, k) scaled
    params: Params  # of m contacts; stiffness is zero where dist exceeds the margin


def contact_blocks(
    model: Model, pose: Pose, found: Sequence[Contacts], qvel: Array
) -> list[Written | Slots]:
    """A block for each list of contacts."""
    if not found:
        return []
    settings = _Settings(model, qvel.dtype)
    blocks = []
    for contacts in found:
        form = _slots if contacts.count is not None else _rare if contacts.rare else _written
        blocks.append(form(settings, pose, contacts, qvel))
    return blocks


def _written(settings: "_Settings", pose: Pose, contacts: Contacts, qvel: Array) -> Written:
    jacobian = _jacobian(settings, pose, contacts)
    rows = _rows(settings, contacts, contract(jacobian, qvel, 2, 0))
    outer = rows.scale[:, :, None] * rows.scale[:, None, :]
    reach = settings.sign(contacts.pair) != 0
    law = settings.law(contacts.dim)
    return Written(law, rows.params, jacobian, reach, rows.scale, outer, rows.aref)


def _rare(settings: "_Settings", pose: Pose, contacts: Contacts, qvel: Array) -> Written:
    """The same, computed where one of them acts; else zeros."""
    acts = lanes.any_world((contacts.dist < pick(settings.margin, contacts.pair)).any())
    reach = settings.sign(contacts.pair) != 0

    def numbers() -> tuple:
        block = _written(settings, pose, contacts, qvel)
        return jax.tree.map(jnp.asarray, tuple(block._replace(law=None, reach=None)))

    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(numbers))
    block = Written(*lax.cond(acts, numbers, lambda: none))
    return block._replace(law=settings.law(contacts.dim), reach=reach, acts=acts)


def _slots(settings: "_Settings", pose: Pose, contacts: Contacts, qvel: Array) -> Slots:
    """The same, one contact after the other."""
    dim, count = contacts.dim, contacts.count
    levers = _levers(settings, pose, dim)

    def one(s: Array) -> _Rows:
        contact = entry(contacts, s)
        lever = lever_of(contact.pair[0], contact.point[0], contact.frame[0], dim)
        return _rows(settings, contact, levers.along(lever, qvel)[None])

    size = contacts.dist.shape[0]
    none = jax.tree.map(
        lambda x: lanes.empty((size, *x.shape[1:]), x.dtype),
        jax.eval_shape(lambda: one(jnp.int32(0))),
    )
    fill = lambda s, out: jax.tree.map(lambda o, x: rolled.put(o, s, x[0]), out, one(s))
    rows = rolled.loop_to(count, fill, none)
    law, where = settings.law(dim), (contacts.pair, contacts.point, contacts.frame)
    return Slots(law, rows.params, levers, *where, rows.scale, rows.aref, count)


def entry(contacts: Contacts, s: Array) -> Contacts:
    """One contact of a list."""
    dist, point, frame, pair = (rolled.at(x, s)[None] for x in contacts[1:5])
    return Contacts(contacts.dim, dist, point, frame, pair)


def mean_normal(model: Model, pose: Pose, found: Sequence[Contacts], body: int) -> jax.Array:
    """(nv,) the mean of the normals' Jacobians of all contacts of a body, also those in the gap."""
    total, count = jnp.zeros(model.nv, pose.cdof.dtype), jnp.zeros((), pose.cdof.dtype)
    if not found:
        return total
    settings = _Settings(model, pose.cdof.dtype)

    def touches(contacts: Contacts) -> jax.Array:
        pair = contacts.pair
        mine = (pick(settings.first, pair) == body) | (pick(settings.second, pair) == body)
        there = mine & (contacts.dist < pick(settings.reach, pair))
        return there.astype(total.dtype)

    for contacts in found:
        if contacts.count is None:
            there = touches(contacts)
            normals = _jacobian(settings, pose, contacts._replace(dim=1))[:, 0]
            total, count = total + dot(there, normals), count + there.sum()
            continue
        levers = _levers(settings, pose, contacts.dim)

        def add(s: Array, state: tuple, contacts=contacts, levers=levers) -> tuple:
            one, (total, count) = entry(contacts, s), state
            there = touches(one)
            lever = lever_of(one.pair[0], one.point[0], one.frame[0], 1)
            return levers.push(lever, there, total), count + there[0]

        total, count = rolled.loop_to(contacts.count, add, (total, count))
    return total / jnp.maximum(count, 1)


def _levers(settings: "_Settings", pose: Pose, dim: int) -> Levers:
    """Of the pairs whose contacts have so many rows."""
    groups = settings.model.topology.groups
    return Levers(settings.model, pose, [k for g in groups if g.dim == dim for k in g.pairs])


class _Settings:
    """How contacts are to be solved, by pair."""

    def __init__(self, model: Model, dtype) -> None:
        pairs = model.topology.pairs
        self.model, self.dtype = model, dtype
        geom_body = np.array(model.topology.geom_body)
        self.first = geom_body[[p.first for p in pairs]]
        self.second = geom_body[[p.second for p in pairs]]
        self.margin = np.array([p.margin for p in pairs], dtype)
        self.reach = self.margin + np.array([p.gap for p in pairs], dtype)
        options = model.options
        solref, solimp = (np.array([getattr(p, f) for p in pairs]) for f in ("solref", "solimp"))
        self.soft = softness(solref, solimp, options.timestep, options.refsafe, dtype)
        aside = np.array([p.solref_friction for p in pairs])
        aside = np.where(aside.any(axis=1, keepdims=True), aside, solref)
        _, damping = reference(aside, solimp, options.timestep, options.refsafe)
        self.damping_aside = damping.astype(dtype)  # of the tangents of elliptic cones
        self.friction_of = np.array([p.friction_of for p in pairs])

    def law(self, dim: int) -> Law:
        return Cone() if self.model.options.elliptic and dim > 1 else OneSided(dim)

    def sign(self, pair: np.ndarray) -> np.ndarray:
        """(m, nv): 1 where a degree of freedom moves the second body alone, -1 the first alone."""
        moved = self.model.topology.body_dofs.astype(self.dtype)
        return moved[self.second[pair]] - moved[self.first[pair]]

    def friction(self, pair: Array) -> Array:
        """(m, 5) coefficients: of two tangents, of torsion, of two directions of rolling."""
        geoms, explicit = self.model.geom_friction, self.model.pair_friction
        known = isinstance(geoms, np.ndarray) and isinstance(explicit, np.ndarray)
        table = (np if known else jnp).concatenate([geoms[:, (0, 0, 1, 2, 2)], explicit])
        both = pick(self.friction_of, pair)
        first, last = pick(table, both[:, 0]), pick(table, both[:, 1])
        xp = np if isinstance(first, np.ndarray) else jnp
        return xp.maximum(xp.maximum(first, last), np.array(_MIN_FRICTION, first.dtype))

    def weight(self, pair: Array) -> Array:
        """(m,) inverse inertia felt in a translation of one body relative to the other."""
        weights = self.model.body_invweight0[:, 0]
        return pick(weights, pick(self.first, pair)) + pick(weights, pick(self.second, pair))


def _rows(settings: _Settings, contacts: Contacts, velocity: Array) -> _Rows:
    """From the velocities (m, k) in the contacts' frames."""
    dim, pair, options = contacts.dim, contacts.pair, settings.model.options
    soft: Softness = settings.soft.take(pair)
    dist = contacts.dist - pick(settings.margin, pair)
    friction = settings.friction(pair)[:, : dim - 1]
    impedance = soft.impedance(dist)
    weight = settings.weight(pair)
    limit, damping = None, soft.damping[:, None]
    if dim == 1:
        scale = np.ones((1, 1), dist.dtype)
    elif options.elliptic:
        # Scaled so that the cone is round: μ of the regularised cone for the normal.
        limit = friction[:, 0] * float(options.impratio**-0.5)
        scale = _beside(limit[:, None], friction)
        weight = weight * (limit * limit)
        aside = pick(settings.damping_aside, pair)[:, None]
        damping = _beside(damping, aside * np.ones((1, dim - 1), dist.dtype))
    else:
        # diagApprox of an edge, and R the same for all edges: mj_diagApprox, mj_makeImpedance.
        scale = _beside(friction[:, :1] * 0 + 1, friction)
        mu2 = friction[:, 0] * friction[:, 0]
        weight = weight * (1 + mu2) * (2 * mu2 / options.impratio)
    normal = np.eye(1, dim, dtype=dist.dtype)
    spring = (soft.spring * impedance * dist)[:, None] * normal
    aref = -(damping * velocity + spring) * scale
    stiff = jnp.where(dist < 0, stiffness(impedance, weight), jnp.zeros((), dist.dtype))
    return _Rows(scale, aref, Params(stiff, limit))


def _beside(a: Array, b: Array) -> Array:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.concatenate([a, b], 1)
    return lax.concatenate([jnp.asarray(a), jnp.asarray(b)], 1)


def _jacobian(settings: _Settings, pose: Pose, contacts: Contacts) -> jax.Array:
    """(m, k, nv) world velocity of the second body's point less the first's, in the frame, of
    contacts whose pairs are known.

    Each joint's motion refers to its own tree's reference, which is not that of the contact point
    where the two bodies are of different trees.
    """
    top, pair, dtype = settings.model.topology, contacts.pair, pose.cdof.dtype
    sign = settings.sign(pair)[:, :, None]
    angular, linear = halves(pose.cdof)
    point = lax.expand_dims(contacts.point, (1,))
    second, root = settings.second[pair], np.array(top.root)
    dof_root = root[list(top.dof_body)]
    foreign = (root[second][:, None] != dof_root)[:, :, None]
    if (foreign & (sign != 0)).any():
        at = lax.expand_dims(pick(pose.reference, root[second]), (1,))
        away = at - pick(pose.reference, dof_root)
        point = point + away * foreign.astype(dtype) * sign**2
    arm = point * sign  # zero where nothing moves it
    moved = linear * sign + cross(jnp.broadcast_to(angular, arm.shape), arm)
    frame = lax.slice_in_dim(contacts.frame, 0, min(contacts.dim, 3), axis=1)
    jacobian = contract(frame, moved, 2, 2, batch=1)
    if contacts.dim > 3:
        turning = lax.slice_in_dim(contacts.frame, 0, contacts.dim - 3, axis=1)
        spin = contract(turning, angular * sign, 2, 2, batch=1)
        jacobian = lax.concatenate([jacobian, spin], 1)
    return jacobian
