"""Sensors of contacts, and of forces between bodies."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import lax

from gpusim.physics import rays, rolled
from gpusim.physics.constraint.wrenches import Contact
from gpusim.physics.linalg import Array, dot, pick
from gpusim.physics.sensors.world import ANY, BODY, GEOM, SITE, XBODY, World

# The fields of a contact sensor, in the order of its bits, and how many numbers each has.
_FIELDS = {"found": 1, "force": 3, "torque": 3, "dist": 1, "pos": 3, "normal": 3, "tangent": 3}
_REDUCTIONS = ("none", "mindist", "maxforce", "netforce")
_FLIPPED = np.array([1, 1, -1, 1, 1, -1])  # a wrench whose frame is turned about its third axis


def touch(world: World, site: int) -> jax.Array:
    """Normal forces on the site's body, of contacts whose normals run through the site."""
    m = world.model.mj
    zone, geom_body = world.solid(site), np.array(m.geom_bodyid, np.int32)
    body = int(m.site_bodyid[site])

    def add(contact: Contact, total: jax.Array) -> jax.Array:
        first, second = (pick(geom_body, contact.geom[k]) == body for k in (0, 1))
        push = contact.force[0]
        presses = contact.touches & (first | second) & ~(push <= 0)  # also where nobody knows it
        away = jnp.where(second, -1, 1) * contact.frame[0]
        gain = lambda total: (
            total + jnp.where(rays.distance(*zone, contact.pos, away) >= 0, push, 0)
        )
        return lax.cond(presses, gain, lambda total: total, total)

    return world.over_contacts(add, jnp.zeros((), world.d.qacc.dtype))


def reaction(world: World, site: int) -> tuple[jax.Array, jax.Array]:
    """Torque and force at a site between its body and the parent, in the site's axes."""
    at = world.frame(SITE, site)
    torque, force = jnp.split(world.reaction(at.body), 2)
    arm = at.pos - world.d.subtree_com[world.model.topology.root[at.body]]
    return dot(torque - jnp.cross(arm, force), at.mat), dot(force, at.mat)


class _Matches(NamedTuple):
    """Which of all contacts a sensor is of."""

    found: jax.Array  # (m,) bool
    flip: jax.Array  # (m,) bool: whether the normal points the wrong way


def unknown_contact(m: mujoco.MjModel, i: int) -> str:
    """What of a contact sensor is not known here; nothing of most."""
    spec, reduction = int(m.sensor_intprm[i, 0]), _REDUCTIONS[int(m.sensor_intprm[i, 1])]
    kinds = (ANY, BODY, XBODY, GEOM, SITE)
    if {int(m.sensor_objtype[i]), int(m.sensor_reftype[i])} - set(kinds):
        return "contact sensor of neither bodies, geoms nor sites"
    if spec >> len(_FIELDS):
        return "contact sensor of velocities"
    if reduction == "none" and spec != 1:
        return "contact sensor without reduction, whose order of contacts is C's own"
    return ""


def contact(world: World, i: int) -> jax.Array:
    """(slots · numbers of a slot,) of the contacts between two things."""
    m, all_ = world.model.mj, world.d.contact
    fields = [f for k, f in enumerate(_FIELDS) if int(m.sensor_intprm[i, 0]) >> k & 1]
    slots = int(m.sensor_dim[i]) // sum(_FIELDS[f] for f in fields)
    reduction = _REDUCTIONS[int(m.sensor_intprm[i, 1])]
    dtype = world.d.qacc.dtype
    if not all_.dist.shape[0]:
        return jnp.zeros(int(m.sensor_dim[i]), dtype)
    matches = _matches(world, i)
    count = matches.found.sum().astype(dtype)
    if reduction == "netforce":
        one = _net(all_, matches) | {"found": count[None]}
        none = jnp.zeros(int(m.sensor_dim[i]), dtype)
        whole = jnp.concatenate([one[f] for f in fields])
        return jnp.where(count > 0, none.at[: whole.shape[0]].set(whole), none)
    if reduction == "maxforce":
        criterion = -(all_.force[:, :3] ** 2).sum(1)
    else:
        criterion = all_.dist
    filled, left = [], matches.found
    for _ in range(slots):
        some = left.any()
        k = jnp.argmin(jnp.where(left, criterion, jnp.inf))
        left = left & (jnp.arange(left.shape[0]) != k)
        one = _of_one(Contact(*(rolled.at(x, k) for x in all_)), rolled.at(matches.flip, k))
        one["found"] = count[None]
        known = ~jnp.isnan(rolled.at(criterion, k))  # else which of them it is nobody knows
        row = jnp.where(known, jnp.concatenate([one[f] for f in fields]), jnp.nan)
        filled.append(jnp.where(some, row, 0))
    return jnp.concatenate(filled)


def _of_one(contact: Contact, flip: Array) -> dict[str, jax.Array]:
    """The fields of one contact, in its frame."""
    sign = jnp.where(flip, -1, 1).astype(contact.dist.dtype)
    wrench = contact.force * jnp.where(flip, _FLIPPED, 1).astype(contact.dist.dtype)
    return {
        "force": wrench[:3],
        "torque": wrench[3:],
        "dist": contact.dist[None],
        "pos": contact.pos,
        "normal": sign * contact.frame[0],
        "tangent": sign * contact.frame[1],
    }


def _net(all_: Contact, matches: _Matches) -> dict[str, jax.Array]:
    """The fields of one wrench that stands for all, in world axes, at the centroid of forces."""
    dtype = all_.dist.dtype
    sign = jnp.where(matches.found, jnp.where(matches.flip, -1, 1), 0).astype(dtype)
    turned = all_.frame * sign[:, None, None]
    force, torque = (jnp.einsum("mi,mij->mj", w, turned) for w in jnp.split(all_.force, 2, 1))
    weight = jnp.sqrt((all_.force[:, :3] ** 2).sum(1)) * jnp.abs(sign)
    point = dot(weight, all_.pos) / jnp.maximum(weight.sum(), 1e-15)
    torque = torque + jnp.cross(all_.pos - point, force)
    unit = np.eye(3, dtype=dtype)
    return {
        "force": force.sum(0),
        "torque": torque.sum(0),
        "dist": jnp.zeros(1, dtype),
        "pos": point,
        "normal": jnp.asarray(unit[0]),
        "tangent": jnp.asarray(unit[1]),
    }


def _matches(world: World, i: int) -> _Matches:
    """Contacts between a sensor's two things; either may be anything."""
    m, all_ = world.model.mj, world.d.contact
    kinds = [int(m.sensor_objtype[i]), int(m.sensor_reftype[i])]
    ids = [int(m.sensor_objid[i]), int(m.sensor_refid[i])]
    (m11, m12), (m21, m22) = (
        [_is(world, kind, k, all_.geom[:, side]) for side in (0, 1)]
        for kind, k in zip(kinds, ids, strict=True)
    )
    found = all_.touches
    if kinds[0] == SITE:
        zone = world.solid(ids[0])
        found = found & jax.vmap(lambda p: rays.inside(*zone, p))(all_.pos)
    if kinds == [ANY, ANY]:
        return _Matches(found, jnp.zeros_like(found))
    if ANY in kinds:
        first, second = (m22, m21) if kinds[0] == ANY else (m11, m12)
        return _Matches(found & (first | second), ~first)
    regular, reverse = m11 & m22, m12 & m21
    return _Matches(found & (regular | reverse), ~regular)


def _is(world: World, kind: int, i: int, geoms: jax.Array) -> jax.Array:
    """(m,) whether geoms are what a sensor names, or belong to it."""
    m = world.model.mj
    if kind in (ANY, SITE):
        return jnp.ones(geoms.shape, bool)
    bodies = {BODY: [i], XBODY: world.below(i) if kind == XBODY else [], GEOM: []}[kind]
    of = [g == i if kind == GEOM else int(m.geom_bodyid[g]) in bodies for g in range(m.ngeom)]
    return pick(np.array(of), geoms)
