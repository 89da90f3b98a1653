"""Joint limits and contacts as soft constraints, after MuJoCo's "Computation" chapter.

Every row i asks for an acceleration J_i a ≥ aref_i with stiffness D_i; D is zero where it does not
act. A contact's four rows are the edges of a friction pyramid, normal ± μ tangent, and are kept as
what they are made of, three Jacobian rows, which is where their arithmetic is saved: see `edges`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim.physics.collision import Contacts
from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import Array, contract, cross, dot, halves, pick
from gpusim.physics.model import Model

_MIN_IMPEDANCE, _MAX_IMPEDANCE, _MIN_VALUE, _MIN_FRICTION = 1e-4, 0.9999, 1e-15, 1e-5


class Limits(NamedTuple):
    """One row for each limited joint, l of them: the nearer end of its range."""

    place: np.ndarray  # (l, nv) one-hot: the joint's velocity
    sign: jax.Array  # (l,) +1 at the lower end, -1 at the upper: J = sign · place
    aref: jax.Array  # (l,)
    stiffness: jax.Array  # (l,) D


class ContactRows(NamedTuple):
    """Three directions for each contact point, c of them: normal and the two tangents."""

    jacobian: jax.Array  # (c, 3, nv)
    aref: jax.Array  # (c, 3) tangential parts times the friction coefficient
    stiffness: jax.Array  # (c,) D of each of the four edges
    friction: Array  # (c,) μ


class Constraints(NamedTuple):
    limits: Limits
    contacts: ContactRows


def constraints(
    model: Model, pose: Pose, contacts: Contacts, qpos: Array, qvel: Array
) -> Constraints:
    return Constraints(limit_rows(model, qpos, qvel), contact_rows(model, pose, contacts, qvel))


def limit_rows(model: Model, qpos: Array, qvel: Array) -> Limits:
    """Rows of hinges and slides within their margin of an end of their range."""
    dtype = qpos.dtype
    index = list(model.topology.limited)
    joints = [model.topology.joints[j] for j in index]
    dofs = [joint.dof for joint in joints]
    place = np.zeros((len(index), model.nv), dtype)
    place[range(len(index)), dofs] = 1
    if not index:
        none = jnp.zeros(0, dtype)
        return Limits(place, none, none, none)
    position = pick(qpos, [joint.qpos for joint in joints])
    ends = pick(model.jnt_range, index)
    lower, upper = position - ends[:, 0], ends[:, 1] - position
    sign = jnp.where(lower < upper, np.ones((), dtype), -np.ones((), dtype))
    dist = jnp.minimum(lower, upper) - pick(model.jnt_margin, index)
    soft = _Softness(model.jnt_solref[index], model.jnt_solimp[index], model.timestep, dtype)
    impedance = soft.impedance(dist)
    aref = -soft.damping * (sign * pick(qvel, dofs)) - soft.spring * impedance * dist
    weight = pick(model.dof_invweight0, dofs)
    return Limits(place, sign, aref, _stiffness(impedance, weight, dist))


def contact_rows(model: Model, pose: Pose, contacts: Contacts, qvel: Array) -> ContactRows:
    """Rows of contact points. Jacobians: velocity of the second body relative to the first."""
    dtype = qvel.dtype
    top, points = model.topology, model.topology.contacts
    if not points:
        none = jnp.zeros(0, dtype)
        return ContactRows(jnp.zeros((0, 3, model.nv), dtype), none.reshape(0, 3), none, none)
    first = [top.geom_body[p.first] for p in points]
    second = [top.geom_body[p.second] for p in points]
    jacobian = contract(
        contacts.frame, _relative_motion(model, pose, contacts, first, second), 2, 2, batch=1
    )

    friction = _largest_friction(model)
    scale = _edge_scale(friction)
    dist = contacts.dist - np.array([p.margin for p in points], dtype)
    soft = _Softness(
        np.array([p.solref for p in points]), np.array([p.solimp for p in points]),
        model.timestep, dtype,
    )  # fmt: skip
    impedance = soft.impedance(dist)
    aref = -soft.damping[:, None] * (contract(jacobian, qvel, 2, 0) * scale)
    normal_only = np.array([1, 0, 0], dtype)
    aref = aref - (soft.spring * impedance * dist)[:, None] * normal_only
    # diagApprox of an edge, and R the same for all edges: mj_diagApprox, mj_makeImpedance.
    inverse = pick(model.body_invweight0, first)[:, 0] + pick(model.body_invweight0, second)[:, 0]
    mu2 = friction * friction
    weight = inverse * (1 + mu2) * (2 * mu2 / model.options.impratio)
    return ContactRows(jacobian, aref, _stiffness(impedance, weight, dist), friction)


def _relative_motion(
    model: Model, pose: Pose, contacts: Contacts, first: list[int], second: list[int]
) -> jax.Array:
    """(c, nv, 3) world velocity of the second body's point less the first's, by each joint.

    A joint that moves both moves them as one. Each joint's motion refers to its own tree's
    reference, which is not that of the contact point where the two bodies are of different trees.
    """
    top, dtype = model.topology, pose.cdof.dtype
    sign = (top.body_dofs[second] - top.body_dofs[first]).astype(dtype)[:, :, None]
    angular, linear = halves(pose.cdof)
    point = lax.expand_dims(contacts.point, (1,))
    root, dof_body = np.array(top.root), list(top.dof_body)
    foreign = (root[second][:, None] != root[dof_body]).astype(dtype)[:, :, None]
    if (foreign * sign).any():
        references = lax.expand_dims(pick(pose.reference, second), (1,))
        point = point + (references - pick(pose.reference, dof_body)) * (foreign * sign**2)
    at = point * sign  # zero where nothing moves it
    return linear * sign + cross(jnp.broadcast_to(angular, at.shape), at)


def _largest_friction(model: Model) -> Array:
    """μ of each contact point (c,): the larger of the two geoms', or that of the prior one."""
    points = model.topology.contacts
    first = pick(model.geom_friction, [p.friction_of[0] for p in points])[:, 0]
    last = pick(model.geom_friction, [p.friction_of[-1] for p in points])[:, 0]
    known = isinstance(first, np.ndarray) and isinstance(last, np.ndarray)
    maximum = np.maximum if known else jnp.maximum
    return maximum(maximum(first, last), np.array(_MIN_FRICTION, first.dtype))


def _edge_scale(friction: Array) -> jax.Array:
    """(c, 3): what the normal and the tangents are multiplied by in an edge, 1 μ μ."""
    one = np.ones_like(friction) if isinstance(friction, np.ndarray) else jnp.ones_like(friction)
    parts = [lax.expand_dims(jnp.asarray(p), (1,)) for p in (one, friction, friction)]
    return lax.concatenate(parts, 1)


def _stiffness(impedance: jax.Array, weight: Array, dist: jax.Array) -> jax.Array:
    """D = 1/R with R = weight (1 - imp) / imp, and zero where a row does not act."""
    stiffness = impedance / jnp.maximum((1 - impedance) * weight, _MIN_VALUE)
    return jnp.where(dist < 0, stiffness, jnp.zeros((), dist.dtype))


class _Softness:
    """MuJoCo's solref and solimp of n rows: constants, and the impedance at a distance."""

    def __init__(self, solref: np.ndarray, solimp: np.ndarray, timestep: float, dtype) -> None:
        timeconst = np.maximum(solref[:, 0], 2 * timestep)
        damping_ratio = solref[:, 1]
        clip = lambda x: np.clip(x, _MIN_IMPEDANCE, _MAX_IMPEDANCE)
        start, end, middle = clip(solimp[:, 0]), clip(solimp[:, 1]), clip(solimp[:, 3])
        width, self._power = solimp[:, 2], np.maximum(solimp[:, 4], 1.0)
        self.spring = (1 / (end * timeconst * damping_ratio) ** 2).astype(dtype)
        self.damping = (2 / (end * timeconst)).astype(dtype)
        flat = width <= _MIN_VALUE
        self._start = np.where(flat, 0.5 * (start + end), start).astype(dtype)
        self._rise = np.where(flat, 0.0, end - start).astype(dtype)
        self._per_width = (1 / np.where(flat, 1.0, width)).astype(dtype)
        self._middle = middle.astype(dtype)
        self._below = (1 / middle ** (self._power - 1)).astype(dtype)
        self._beyond = (1 / (1 - middle) ** (self._power - 1)).astype(dtype)

    def impedance(self, dist: jax.Array) -> jax.Array:
        """Between start and end, along a polynomial S from dist = 0 to |dist| = width."""
        if not self._rise.any():
            return jnp.broadcast_to(self._start, dist.shape)
        x = jnp.minimum(jnp.abs(dist) * self._per_width, 1)
        near = self._below * self._raise(x)
        far = 1 - self._beyond * self._raise(1 - x)
        return self._start + jnp.where(x <= self._middle, near, far) * self._rise

    def _raise(self, x: jax.Array) -> jax.Array:
        if (self._power == 2).all():
            return x * x
        return jnp.power(x, self._power.astype(x.dtype))


# ------------------------------------------------------- products with the rows, as the solver asks


class Values(NamedTuple):
    """A number per limit row and three per contact: what a Jacobian product gives."""

    limits: jax.Array  # (l,)
    contacts: jax.Array  # (c, 3), tangential ones times μ


class Edges(NamedTuple):
    """A number per row."""

    limits: jax.Array  # (l,)
    contacts: jax.Array  # (c, 4)


# Edges of a pyramid from normal and (scaled) tangents, and the directions of a sum over edges.
_EDGES = np.array([[1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1]], np.float64)


def along(rows: Constraints, x: Array) -> Values:
    """J x for an acceleration or velocity x (nv,)."""
    limits, contacts = rows
    on_contacts = contract(contacts.jacobian, x, 2, 0) * _edge_scale(contacts.friction)
    return Values(limits.sign * dot(limits.place, x), on_contacts)


def edges(values: Values) -> Edges:
    """The rows themselves: a limit's is its value, a contact's are normal ± tangents."""
    table = _EDGES.astype(values.contacts.dtype)
    return Edges(values.limits, contract(values.contacts, table, 1, 1))


def gather(rows: Constraints, weights: Edges) -> jax.Array:
    """Jᵀ weights (nv,)."""
    limits, contacts = rows
    on_contacts = dot(weights.contacts, _EDGES.astype(weights.contacts.dtype))
    on_contacts = on_contacts * _edge_scale(contacts.friction)
    nv = limits.place.shape[1]
    return dot(limits.sign * weights.limits, limits.place) + dot(
        on_contacts.reshape(-1), contacts.jacobian.reshape(-1, nv)
    )


def hessian(rows: Constraints, weights: Edges) -> jax.Array:
    """Jᵀ diag(weights) J (nv, nv): through a 3x3 matrix for each contact."""
    limits, contacts = rows
    nv = limits.place.shape[1]
    table = _EDGES.astype(weights.contacts.dtype)
    pairs = (table[:, :, None] * table[:, None, :]).reshape(4, 9)
    scale = _edge_scale(contacts.friction)
    inner = dot(weights.contacts, pairs).reshape(-1, 3, 3)
    inner = inner * (scale[:, :, None] * scale[:, None, :])
    weighted = contract(inner, contacts.jacobian, 2, 1, batch=1)
    on_contacts = contract(contacts.jacobian.reshape(-1, nv), weighted.reshape(-1, nv), 0, 0)
    return on_contacts + np.eye(nv, dtype=table.dtype) * dot(weights.limits, limits.place)
