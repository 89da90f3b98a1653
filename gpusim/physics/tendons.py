"""Tendons: strings over joints (fixed) or through the world (spatial), their lengths and moments.

A spatial tendon runs straight from site to site and, where a sphere or cylinder lies between two of
them, around it if it is in the way (mj_tendon, mju_wrap). Pulleys divide what follows them.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics.kinematics import (
    Pose,
    integrate_pos,
    kinematics,
    motions_at,
    positions,
    to_world,
)
from gpusim.physics.linalg import Array, contract, dot, matvec, pick, rowdot
from gpusim.physics.model import Model
from gpusim.physics.wrapping import wrap

_WRAP = mujoco.mjtWrap
_JOINT, _PULLEY = int(_WRAP.mjWRAP_JOINT), int(_WRAP.mjWRAP_PULLEY)
_SPHERE, _CYLINDER = int(_WRAP.mjWRAP_SPHERE), int(_WRAP.mjWRAP_CYLINDER)


class Tendons(NamedTuple):
    """All tendons in one pose."""

    length: jax.Array  # (ntendon,) m, or rad and m mixed by the coefficients of a fixed one
    moment: jax.Array  # (ntendon, nv) d length / d q, free joints and balls in world axes


class _Span(NamedTuple):
    """From one site to the next, possibly around a geom."""

    tendon: int
    start: int  # site
    end: int  # site
    divisor: float
    geom: int  # -1: straight
    sphere: bool  # or a cylinder
    side: int  # site on whose side a cord is to pass, -1: the shorter way


def tendons(model: Model, pose: Pose, qpos: Array) -> Tendons:
    """Lengths and moments."""
    m, dtype = model.mj, pose.offset.dtype
    if not m.ntendon:
        return Tendons(jnp.zeros(0, dtype), jnp.zeros((0, model.nv), dtype))
    over_joints = _fixed(model)
    coordinates = [joint.qpos for joint in model.topology.joints]
    dofs = [joint.dof for joint in model.topology.joints]
    length = dot(jnp.asarray(over_joints.astype(dtype)), pick(qpos, coordinates))
    place = np.zeros((m.njnt, model.nv))
    place[range(m.njnt), dofs] = 1
    moment = jnp.asarray((over_joints @ place).astype(dtype))
    spans = _spans(m)
    straight = [s for s in spans if s.geom < 0]
    if straight:
        length, moment = _add(model, straight, length, moment, _straight(model, pose, straight))
    for sphere in (True, False):
        for sided in (True, False):
            around = [
                s for s in spans
                if s.geom >= 0 and s.sphere == sphere and (s.side >= 0) == sided
            ]  # fmt: skip
            if around:
                found = _around(model, pose, around)
                length, moment = _add(model, around, length, moment, found)
    return Tendons(length, moment)


def armature(model: Model, cords: Tendons) -> Array:
    """(nv, nv) what the inertia of tendons adds to the mass matrix: its lower triangle."""
    moment = jnp.asarray(cords.moment)
    heavy = contract(moment * model.tendon_armature[:, None], moment, 0, 0)
    return heavy * model.topology.dof_ancestors.astype(heavy.dtype)


def armature_bias(model: Model, cords: Tendons, qpos: Array, qvel: Array) -> jax.Array:
    """(nv,) the force that tendons with inertia ask for as their moments turn (mj_tendonBias).

    qvel: with free joints and balls in their bodies' axes.
    """
    per_second = qvel / model.timestep

    def rates(s: Array) -> jax.Array:
        there = integrate_pos(model, qpos, s * per_second)
        pose = kinematics(model, there)
        return dot(jnp.asarray(tendons(model, pose, there).moment), to_world(model, pose, qvel))

    zero, one = jnp.zeros((), qvel.dtype), jnp.ones((), qvel.dtype)
    turning = jax.jvp(rates, (zero,), (one,))[1]
    return dot(model.tendon_armature * turning, jnp.asarray(cords.moment))


def _fixed(model: Model) -> np.ndarray:
    """(ntendon, njnt) coefficients of joints."""
    m = model.mj
    out = np.zeros((m.ntendon, m.njnt))
    for t in range(m.ntendon):
        for k in range(m.tendon_adr[t], m.tendon_adr[t] + m.tendon_num[t]):
            if m.wrap_type[k] == _JOINT:
                out[t, m.wrap_objid[k]] += m.wrap_prm[k]
    return out


def _spans(m: mujoco.MjModel) -> list[_Span]:
    spans = []
    for t in range(m.ntendon):
        k, end, divisor = int(m.tendon_adr[t]), int(m.tendon_adr[t] + m.tendon_num[t]), 1.0
        while k < end - 1:
            kind, following = int(m.wrap_type[k]), int(m.wrap_type[k + 1])
            if kind == _JOINT:
                break
            if kind == _PULLEY or following == _PULLEY:
                divisor = float(m.wrap_prm[k]) if kind == _PULLEY else divisor
                k += 1
            elif following in (_SPHERE, _CYLINDER):
                side = round(float(m.wrap_prm[k + 1]))
                sites = int(m.wrap_objid[k]), int(m.wrap_objid[k + 2])
                geom = int(m.wrap_objid[k + 1])
                spans.append(_Span(t, *sites, divisor, geom, following == _SPHERE, side))
                k += 2
            else:
                sites = int(m.wrap_objid[k]), int(m.wrap_objid[k + 1])
                spans.append(_Span(t, *sites, divisor, -1, False, -1))
                k += 1
    return spans


def _add(
    model: Model, spans: list[_Span], length: Array, moment: Array, found: tuple
) -> tuple[jax.Array, jax.Array]:
    """Lengths (n,) and moments (n, nv) of spans, added to their tendons'."""
    place = np.zeros((model.mj.ntendon, len(spans)))
    place[[s.tendon for s in spans], range(len(spans))] = [1 / s.divisor for s in spans]
    place = place.astype(length.dtype)
    more, turned = found
    for row, column in zip(*np.nonzero(place), strict=True):
        weight = place[row, column]
        length = length.at[row].add(weight * more[column])
        moment = moment.at[row].add(weight * turned[column])
    return length, moment


def _sites(model: Model, pose: Pose, sites: list[int]) -> tuple[list[int], jax.Array]:
    bodies = [model.topology.site_body[s] for s in sites]
    return bodies, positions(model, pose, bodies, model.site_pos[sites])


def _straight(model: Model, pose: Pose, spans: list[_Span]) -> tuple[jax.Array, jax.Array]:
    start = _sites(model, pose, [s.start for s in spans])
    end = _sites(model, pose, [s.end for s in spans])
    return _line(model, pose, start, end)


def _line(
    model: Model, pose: Pose, start: tuple[list[int], Array], end: tuple[list[int], Array]
) -> tuple[jax.Array, jax.Array]:
    """Distances (n,) of points fixed in bodies, and their moments (n, nv)."""
    (a, p), (b, q) = start, end
    away = q - p + _shift(model, pose, b, a)
    length2 = rowdot(away, away)
    short = length2 < 1e-30
    length = jnp.where(short, 0, jnp.sqrt(jnp.where(short, 1, length2)))
    along = away / jnp.where(short, 1, length)[:, None]
    along = jnp.where(short[:, None], np.array([1, 0, 0], along.dtype), along)
    moves = model.topology.body_dofs
    apart = (moves[b] != moves[a]).astype(along.dtype)[:, :, None]  # what moves both moves nothing
    velocity = (motions_at(model, pose, b, q)[0] - motions_at(model, pose, a, p)[0]) * apart
    return length, contract(velocity, along, 2, 1, batch=1)


def _shift(model: Model, pose: Pose, to: list[int], of: list[int]) -> Array:
    """(n, 3) where the references of bodies' trees are, relative to those of others."""
    root = np.array(model.topology.root)
    apart = (root[to] != root[of]).astype(pose.offset.dtype)[:, None]
    return (pick(pose.reference, to) - pick(pose.reference, of)) * apart


def _around(model: Model, pose: Pose, spans: list[_Span]) -> tuple[jax.Array, jax.Array]:
    """Around geoms where they are in the way, straight where they are not."""
    geoms = [s.geom for s in spans]
    bodies = [model.topology.geom_body[g] for g in geoms]
    centre = positions(model, pose, bodies, model.geom_pos[geoms])
    mat = contract(pick(pose.xmat, bodies), model.geom_mat[geoms], 2, 1, batch=1)
    start = _sites(model, pose, [s.start for s in spans])
    end = _sites(model, pose, [s.end for s in spans])

    def local(point: tuple[list[int], Array]) -> jax.Array:
        away = point[1] - centre + _shift(model, pose, point[0], bodies)
        return contract(mat, away, 1, 1, batch=1)

    side = None
    if spans[0].side >= 0:
        side = local(_sites(model, pose, [s.side for s in spans]))
    radius = pick(model.geom_size, geoms)[:, 0]
    found = wrap(local(start), local(end), jnp.asarray(radius), side, sphere=spans[0].sphere)
    first = bodies, centre + matvec(mat, found.first)
    last = bodies, centre + matvec(mat, found.last)
    direct, direct_moment = _line(model, pose, start, end)
    on, on_moment = _line(model, pose, start, first)
    off, off_moment = _line(model, pose, last, end)
    wraps = found.length >= 0
    length = jnp.where(wraps, on + found.length + off, direct)
    return length, jnp.where(wraps[:, None], on_moment + off_moment, direct_moment)
