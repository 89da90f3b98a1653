"""What contacts, and points that hold bodies together, do to bodies: mjData.contact and cfrc_ext.

The solver knows forces by degree of freedom only. Here those in the contacts' frames are worked out
(mj_contactForce) and added up by body, after mj_rnePostConstraint. Nobody pays for them who does
not read them.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics import rolled
from gpusim.physics.collision.collide import Contacts
from gpusim.physics.constraint.blocks import Block, Coordinates
from gpusim.physics.constraint.contacts import entry
from gpusim.physics.constraint.equality import active, anchors
from gpusim.physics.kinematics import Pose, positions
from gpusim.physics.linalg import Array, contract, cross, join, pick
from gpusim.physics.model import Model

_WELD, _JOINT = int(mujoco.mjtEq.mjEQ_WELD), int(mujoco.mjtWrap.mjWRAP_JOINT)


class Contact(NamedTuple):
    """m points where geoms may touch, as mjData.contact; in a robot that keeps a list of those that
    do, its places.
    """

    touches: Array  # (m,) bool: whether they do; what follows says nothing where not
    geom: Array  # (m, 2)
    dist: Array  # (m,) m, negative where they press
    pos: Array  # (m, 3) world
    frame: Array  # (m, 3, 3) rows: normal from the first geom to the second, two tangents
    force: Array  # (m, 6) N, N m on the second geom, in the frame: mj_contactForce


def contact_forces(
    model: Model, contacts: Sequence[Contacts], blocks: Sequence[Block], residuals: Sequence
) -> list[jax.Array]:
    """Of each list of contacts (m, dim), in their frames; NaN after noslip, whose forces are
    others.

    blocks and residuals: all of the solver's; the last ones are the contacts', one for each list.
    """
    if not blocks:  # constraints are off
        return [jnp.zeros((c.dist.shape[0], c.dim), c.dist.dtype) for c in contacts]
    forces = []
    first = len(blocks) - len(contacts)
    for block, r in zip(blocks[first:], residuals[first:], strict=True):
        assert not isinstance(block, Coordinates)
        push = lambda p, r, scale, law=block.law: -law.gradient(p, r) * scale
        force = block.map(push, r, block.scale)
        forces.append(force + np.nan if model.options.noslip_iterations else force)
    return forces


def contact_points(
    model: Model, pose: Pose, contacts: Sequence[Contacts], forces: Sequence[jax.Array]
) -> Contact:
    """The lists of contacts, and the forces in them, as one."""
    pairs, dtype = model.topology.pairs, pose.offset.dtype
    geoms = np.array([(p.first, p.second) for p in pairs], np.int32).reshape(-1, 2)
    reach = np.array([p.margin + p.gap for p in pairs], dtype)
    body = np.array(model.topology.geom_body, np.int32)
    none = np.zeros(0, dtype)
    parts = [
        Contact(np.zeros(0, bool), geoms[:0], none, none.reshape(0, 3), none.reshape(0, 3, 3),
                none.reshape(0, 6))
    ]  # fmt: skip
    for found, force in zip(contacts, forces, strict=True):
        if found.count is not None:
            found, force = _own(model, found, force, reach)
        geom = pick(geoms, found.pair)
        touches = found.dist < pick(reach, found.pair)
        if found.count is not None:
            touches = touches & (np.arange(force.shape[0]) < found.count)
        parts.append(
            Contact(
                touches=touches,
                geom=geom,
                dist=found.dist,
                pos=found.point + pick(pose.reference, pick(body, geom[:, 1])),
                frame=found.frame,
                force=jnp.pad(force, ((0, 0), (0, 6 - found.dim))),
            )
        )
    return jax.tree.map(lambda *x: jnp.concatenate([jnp.asarray(v) for v in x]), *parts)


def _own(
    model: Model, found: Contacts, force: jax.Array, reach: np.ndarray
) -> tuple[Contacts, jax.Array]:
    """The contacts of this world alone, without those that touch beside it, and their forces."""
    assert model.topology.slots is not None
    most = min(model.topology.slots, len(force) - 1)
    numbers = (*found[1:5], force)
    none = tuple(jnp.zeros((most, *x.shape[1:]), x.dtype) for x in numbers)

    def take(s: Array, state: tuple) -> tuple:
        out, own = state
        one = [rolled.at(x, s) for x in numbers]
        touches = one[0] < rolled.at(reach, one[3])
        place = jnp.where(touches, own, most)
        put = lambda o, x: o.at[place].set(x, mode="drop")
        return tuple(map(put, out, one)), own + touches

    (*numbers, force), own = rolled.loop_to(found.count, take, (none, jnp.int32(0)))
    return Contacts(found.dim, *numbers, count=own), force


def knows_wrenches(model: Model) -> bool:
    """Whether all forces on bodies are known here: not those of welds and of spatial tendons, which
    act on bodies in C too.
    """
    welds = any(model.mj.eq_type[i] == _WELD for i in active(model))
    spatial = (np.asarray(model.mj.wrap_type) != _JOINT).any()
    return not (model.options.noslip_iterations or welds or spatial)


def external_wrenches(
    model: Model,
    pose: Pose,
    centre: Array,
    contacts: Sequence[Contacts],
    forces: Sequence[jax.Array],
    blocks: Sequence[Block],
    residuals: Sequence[jax.Array],
) -> jax.Array:
    """cfrc_ext (nbody, 6): torque about the tree's centre of mass and force, world axes, N m and N.

    centre: (nbody, 3) of each body's tree, relative to its reference; forces: of the contacts;
    blocks and residuals: all of the solver's, equality constraints first. The world's own entry is
    zero, as in C. Everything is NaN where not all is known.
    """
    total = jnp.zeros((model.nbody, 6), centre.dtype)
    if not knows_wrenches(model):
        return total + np.nan
    if not blocks:  # constraints are off, or there are none
        return total
    act = _Action(model, pose, centre)
    for i, block, r in zip(active(model), blocks, residuals, strict=False):
        if anchors(model, i) is not None:
            total = total + act.of_equality(i, -block.map(block.law.gradient, r)[0])
    for found, force in zip(contacts, forces, strict=True):
        if found.count is None:
            total = total + act.of_contacts(found, force)
            continue
        add = lambda s, out, found=found, force=force: (
            out + act.of_contacts(entry(found, s), rolled.at(force, s)[None])
        )
        total = rolled.loop_to(found.count, add, total)
    return total


class _Action:
    """Adds up forces by body."""

    def __init__(self, model: Model, pose: Pose, centre: Array) -> None:
        self.model, self.pose, self.centre = model, pose, centre
        geom_body, pairs = np.array(model.topology.geom_body, np.int32), model.topology.pairs
        self.first = geom_body[[p.first for p in pairs]]
        self.second = geom_body[[p.second for p in pairs]]
        self.moved = np.diag((np.arange(model.nbody) > 0).astype(centre.dtype))

    def of_contacts(self, contacts: Contacts, force: jax.Array) -> jax.Array:
        """(nbody, 6) from forces (m, dim) in the contacts' frames, on their second bodies."""
        first, second = pick(self.first, contacts.pair), pick(self.second, contacts.pair)
        straight, spin = min(contacts.dim, 3), contacts.dim - 3
        linear = contract(force[:, :straight], contacts.frame[:, :straight], 1, 1, batch=1)
        angular = jnp.zeros_like(linear)
        if spin > 0:
            angular = contract(force[:, 3:], contacts.frame[:, :spin], 1, 1, batch=1)
        away = pick(self.pose.reference, second) - pick(self.pose.reference, first)
        there = self._on(second, contacts.point, angular, linear)
        return there - self._on(first, contacts.point + away, angular, linear)

    def of_equality(self, i: int, force: jax.Array) -> jax.Array:
        """(nbody, 6) from the force (3,) of a connect on its first body."""
        ends = anchors(self.model, i)
        assert ends is not None
        points = positions(self.model, self.pose, *ends)
        linear = force[None]
        turn = jnp.zeros_like(linear)
        on = lambda k: self._on(ends[0][k : k + 1], points[k : k + 1], turn, linear)
        return on(0) - on(1)

    def _on(self, body: Array, point: Array, angular: Array, linear: Array) -> jax.Array:
        """Forces at points (m, 3), relative to the references of the bodies they act on."""
        torque = angular + cross(point - pick(self.centre, body), linear)
        return contract(pick(self.moved, body), join(torque, linear), 0, 0)
