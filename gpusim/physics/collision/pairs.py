"""Which geoms may touch, and how their contacts are to be solved: decided once at load, with
MuJoCo's filters (mj_collision) and its mixing of two geoms' settings (mj_contactParam).
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import NamedTuple

import mujoco
import numpy as np

from gpusim.physics.features import Unsupported
from gpusim.physics.versions import since

_MIN_FRICTION = 1e-5


class Pair(NamedTuple):
    """Two geoms that may touch. The first is the one of the lesser type: normals point from it."""

    first: int  # geom id
    second: int
    dim: int  # condim: 1, 3, 4 or 6
    friction_of: tuple[int, int]  # rows of `Model.friction`: the larger number counts
    margin: float  # m: distance at which the contact begins to act
    gap: float  # m: how much sooner it is found
    solref: tuple[float, ...]  # time constant (s), damping ratio; or stiffness and damping, negated
    solref_friction: tuple[float, ...]  # of the tangents of elliptic cones; zeros: as solref
    solimp: tuple[float, ...]  # d0, dmax, width, midpoint, power


def pairs(m: mujoco.MjModel) -> list[Pair]:
    """All pairs that MuJoCo would test: explicit ones, and those that its filters leave."""
    flags = m.opt.disableflags
    off = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    if flags & int(off):
        return []
    explicit = [_explicit(m, k) for k in range(m.npair)]
    known = {frozenset((p.first, p.second)) for p in explicit}
    mixed = [_mixed(m, *g) for g in _candidates(m) if frozenset(g) not in known]
    found = explicit + mixed
    return [_overridden(m, p) for p in found] if is_overridden(m) else found


def friction_table(m: mujoco.MjModel) -> np.ndarray:
    """(npair, 5) frictions of explicit pairs, or (1, 5) those that override all."""
    if is_overridden(m):
        return np.maximum(np.array(m.opt.o_friction, float)[None], _MIN_FRICTION)
    return np.array(m.pair_friction, float).reshape(-1, 5)


def is_overridden(m: mujoco.MjModel) -> bool:
    """Whether the options of the model say how all contacts are solved."""
    return bool(m.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_OVERRIDE))


def _overridden(m: mujoco.MjModel, pair: Pair) -> Pair:
    return pair._replace(
        friction_of=(m.ngeom, m.ngeom),
        margin=float(m.opt.o_margin),
        solref=tuple(m.opt.o_solref),
        solref_friction=tuple(m.opt.o_solref) if any(pair.solref_friction) else (0.0, 0.0),
        solimp=tuple(m.opt.o_solimp),
    )


def _candidates(m: mujoco.MjModel) -> list[tuple[int, int]]:
    """Geoms of bodies that may collide, by bit masks, kinship and exclusion."""
    types, affinities = np.array(m.geom_contype), np.array(m.geom_conaffinity)
    meet = (types[:, None] & affinities) | (affinities[:, None] & types)
    bodies = np.array(m.geom_bodyid)
    weld, parent = np.array(m.body_weldid), np.array(m.body_parentid)
    welds, above = weld[bodies], weld[parent[weld[bodies]]]
    moves = np.array(m.body_dofnum)[welds] > 0
    apart = (welds[:, None] != welds) & (moves[:, None] | moves)
    if not m.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_FILTERPARENT):
        both = (welds[:, None] > 0) & (welds > 0)
        apart &= ~(both & ((welds[:, None] == above) | (above[:, None] == welds)))
    low, high = np.minimum(bodies[:, None], bodies), np.maximum(bodies[:, None], bodies)
    apart &= ~np.isin((low << 16) + high, np.array(m.exclude_signature))
    return [
        (int(a), int(b)) for a, b in zip(*np.nonzero(np.triu((meet != 0) & apart)), strict=True)
    ]


def _explicit(m: mujoco.MjModel, k: int) -> Pair:
    geoms = int(m.pair_geom1[k]), int(m.pair_geom2[k])
    first, second = sorted(geoms, key=lambda g: int(m.geom_type[g]))
    return Pair(
        first, second, int(m.pair_dim[k]), (m.ngeom + k, m.ngeom + k), float(m.pair_margin[k]),
        float(m.pair_gap[k]),
        tuple(m.pair_solref[k]), tuple(m.pair_solreffriction[k]), tuple(m.pair_solimp[k]),
    )  # fmt: skip


def _mixed(m: mujoco.MjModel, a: int, b: int) -> Pair:
    first, second = sorted((a, b), key=lambda g: int(m.geom_type[g]))
    prior = m.geom_priority[first] - m.geom_priority[second]
    geoms = [first] if prior > 0 else [second] if prior < 0 else [first, second]
    weights = m.geom_solmix[geoms]
    if (weights < mujoco.mjMINVAL).all():
        weights = np.ones_like(weights)
    weights = np.where(weights < mujoco.mjMINVAL, 0.0, weights)
    weights = weights / weights.sum()
    solref = m.geom_solref[geoms]
    standard = (solref[:, 0] > 0).all()  # the direct form is not mixed
    margins = m.geom_margin[[first, second]]
    return Pair(
        first, second, int(m.geom_condim[geoms].max()), (geoms[0], geoms[-1]),
        float(margins.sum() if since(3, 5) else margins.max()),
        float(m.geom_gap[[first, second]].sum()),
        tuple(weights @ solref if standard else solref.min(0)), (0.0, 0.0),
        tuple(weights @ m.geom_solimp[geoms]),
    )  # fmt: skip


def refuse(m: mujoco.MjModel, pair: Pair, file: str, what: str) -> Unsupported:
    """The error for a pair whose contact is not simulated."""
    names = " and ".join(f"'{m.geom(g).name or g}'" for g in (pair.first, pair.second))
    return Unsupported(
        f"model {file}: contact of geoms {names}: {what} is not supported; see docs/physics.md"
    )
