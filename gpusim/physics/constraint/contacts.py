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

from gpusim.physics import rolled
from gpusim.physics.collision.collide import Contacts
from gpusim.physics.constraint.blocks import Slots, Written
from gpusim.physics.constraint.laws import Cone, Law, OneSided, Params
from gpusim.physics.constraint.softness import Softness, reference, softness, stiffness
from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import Array, contract, cross, dot, halves, pick
from gpusim.physics.model import Model

_MIN_FRICTION = 1e-5


class _Rows(NamedTuple):
    """Constraints of m contacts."""

    jacobian: jax.Array  # (m, k, nv) not scaled
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
    return [
        _written(settings, pose, contacts, qvel)
        if contacts.count is None
        else _slots(settings, pose, contacts, qvel)
        for contacts in found
    ]


def _written(settings: "_Settings", pose: Pose, contacts: Contacts, qvel: Array) -> Written:
    rows = _rows(settings, pose, contacts, qvel)
    outer = rows.scale[:, :, None] * rows.scale[:, None, :]
    reach = settings.sign(contacts.pair) != 0
    law = settings.law(contacts.dim)
    return Written(law, rows.params, rows.jacobian, reach, rows.scale, outer, rows.aref)


def _slots(settings: "_Settings", pose: Pose, contacts: Contacts, qvel: Array) -> Slots:
    """The same, one contact after the other."""
    one = lambda s: _rows(settings, pose, entry(contacts, s), qvel)
    size = contacts.dist.shape[0]
    none = jax.tree.map(
        lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype),
        jax.eval_shape(lambda: one(jnp.int32(0))),
    )

    def fill(s: Array, out: _Rows) -> _Rows:
        rows = one(s)
        rows = rows._replace(jacobian=rows.jacobian * rows.scale[:, :, None])
        return jax.tree.map(lambda o, x: rolled.put(o, s, x[0]), out, rows)

    rows = rolled.loop_while(size, contacts.count, fill, none)
    law = settings.law(contacts.dim)
    return Slots(law, rows.params, rows.jacobian, rows.scale, rows.aref, contacts.count)


def entry(contacts: Contacts, s: Array) -> Contacts:
    """One contact of a list."""
    return Contacts(contacts.dim, *(rolled.at(x, s)[None] for x in contacts[1:5]), count=None)


def mean_normal(model: Model, pose: Pose, found: Sequence[Contacts], body: int) -> jax.Array:
    """(nv,) the mean of the normals' Jacobians of all contacts of a body, also those in the gap."""
    total, count = jnp.zeros(model.nv, pose.cdof.dtype), jnp.zeros((), pose.cdof.dtype)
    if not found:
        return total
    settings = _Settings(model, pose.cdof.dtype)

    def add(contacts: Contacts, total: Array, count: Array) -> tuple[jax.Array, jax.Array]:
        pair = contacts.pair
        mine = (pick(settings.first, pair) == body) | (pick(settings.second, pair) == body)
        there = jnp.where(mine & (contacts.dist < pick(settings.reach, pair)), 1, 0)
        there = there.astype(total.dtype)
        normal = _jacobian(settings, pose, contacts._replace(dim=1))[:, 0]
        return total + dot(there, normal), count + there.sum()

    for contacts in found:
        if contacts.count is None:
            total, count = add(contacts, total, count)
            continue
        one = lambda s, state, c=contacts: add(entry(c, s), *state)
        size = contacts.dist.shape[0]
        total, count = rolled.loop_while(size, contacts.count, one, (total, count))
    return total / jnp.maximum(count, 1)


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

    def sign(self, pair: Array) -> Array:
        """(m, nv): 1 where a degree of freedom moves the second body alone, -1 the first alone."""
        moved = self.model.topology.body_dofs.astype(self.dtype)
        return pick(moved[self.second] - moved[self.first], pair)  # one table: half the gathers

    def friction(self, pair: Array) -> Array:
        """(m, 5) coefficients: of two tangents, of torsion, of two directions of rolling."""
        geoms = self.model.geom_friction
        xp = np if isinstance(geoms, np.ndarray) else jnp
        table = xp.concatenate([geoms[:, (0, 0, 1, 2, 2)], self.model.pair_friction])
        both = pick(self.friction_of, pair)
        first, last = pick(table, both[:, 0]), pick(table, both[:, 1])
        xp = np if isinstance(first, np.ndarray) else jnp
        return xp.maximum(xp.maximum(first, last), np.array(_MIN_FRICTION, first.dtype))

    def weight(self, pair: Array) -> Array:
        """(m,) inverse inertia felt in a translation of one body relative to the other."""
        weights = self.model.body_invweight0[:, 0]
        return pick(weights, pick(self.first, pair)) + pick(weights, pick(self.second, pair))


def _rows(settings: _Settings, pose: Pose, contacts: Contacts, qvel: Array) -> _Rows:
    dim, pair, options = contacts.dim, contacts.pair, settings.model.options
    soft: Softness = settings.soft.take(pair)
    dist = contacts.dist - pick(settings.margin, pair)
    jacobian = _jacobian(settings, pose, contacts)
    friction = settings.friction(pair)[:, : dim - 1]
    impedance = soft.impedance(dist)
    weight = settings.weight(pair)
    velocity = contract(jacobian, qvel, 2, 0)
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
    return _Rows(jacobian, scale, aref, Params(stiff, limit))


def _beside(a: Array, b: Array) -> Array:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.concatenate([a, b], 1)
    return lax.concatenate([jnp.asarray(a), jnp.asarray(b)], 1)


def _jacobian(settings: _Settings, pose: Pose, contacts: Contacts) -> jax.Array:
    """(m, k, nv) world velocity of the second body's point less the first's, in the frame.

    Each joint's motion refers to its own tree's reference, which is not that of the contact point
    where the two bodies are of different trees.
    """
    top, pair, dtype = settings.model.topology, contacts.pair, pose.cdof.dtype
    sign = lax.expand_dims(jnp.asarray(settings.sign(pair)), (2,))
    angular, linear = halves(pose.cdof)
    point = lax.expand_dims(contacts.point, (1,))
    second, root = pick(settings.second, pair), np.array(top.root)
    dof_root = root[list(top.dof_body)]
    known = isinstance(second, np.ndarray)
    foreign = (root[second][:, None] != dof_root) if known else np.ones((1, len(dof_root)), bool)
    if len(set(dof_root)) > 1 or (known and (foreign * np.asarray(settings.sign(pair))).any()):
        at = lax.expand_dims(pick(pose.reference, pick(root, second)), (1,))
        away = at - pick(pose.reference, dof_root)
        point = point + away * foreign[:, :, None].astype(dtype) * sign**2
    elif not known:  # one tree: the second body may be the world
        at = lax.expand_dims(pick(pose.reference, pick(root, second)), (1,))
        point = point + (at - pick(pose.reference, dof_root[:1]))
    arm = point * sign  # zero where nothing moves it
    moved = linear * sign + cross(jnp.broadcast_to(angular, arm.shape), arm)
    frame = lax.slice_in_dim(contacts.frame, 0, min(contacts.dim, 3), axis=1)
    jacobian = contract(frame, moved, 2, 2, batch=1)
    if contacts.dim > 3:
        turning = lax.slice_in_dim(contacts.frame, 0, contacts.dim - 3, axis=1)
        spin = contract(turning, angular * sign, 2, 2, batch=1)
        jacobian = lax.concatenate([jacobian, spin], 1)
    return jacobian
