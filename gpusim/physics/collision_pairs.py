"""Which geoms may touch: decided once at load, with MuJoCo's filters."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import NamedTuple

import mujoco
import numpy as np

from gpusim.physics.features import Unsupported

_PLANE, _SPHERE, _CAPSULE = (
    int(mujoco.mjtGeom.mjGEOM_PLANE),
    int(mujoco.mjtGeom.mjGEOM_SPHERE),
    int(mujoco.mjtGeom.mjGEOM_CAPSULE),
)


class ContactPoint(NamedTuple):
    """One point that may touch, and how it is to be solved (the two geoms' settings mixed)."""

    first: int  # geom id: a plane fixed in the world, a sphere or a capsule
    second: int  # geom id: a sphere or a capsule; normals point from the first to the second
    end: int  # of a capsule on a plane, which of its ends (+1, -1); otherwise 0
    on_plane: bool
    friction_of: tuple[int, ...]  # geoms whose largest friction counts
    margin: float  # m: distance at which the contact begins to act
    solref: tuple[float, ...]  # time constant (s), damping ratio
    solimp: tuple[float, ...]  # d0, dmax, width, midpoint, power


def contact_points(m: mujoco.MjModel, file: str) -> tuple[ContactPoint, ...]:
    """All points that may touch: those on planes first.

    Raises Unsupported for pairs of shapes that have no collision function here.
    """
    points = []
    for a in range(m.ngeom):
        for b in range(a + 1, m.ngeom):
            if _filtered(m, a, b):
                continue
            first, second = sorted((a, b), key=lambda g: int(m.geom_type[g]))
            _check(m, first, second, file)
            on_plane = int(m.geom_type[first]) == _PLANE
            ends = (1, -1) if on_plane and m.geom_type[second] == _CAPSULE else (0,)
            mixed = _mix(m, first, second)
            points += [ContactPoint(first, second, end, on_plane, *mixed) for end in ends]
    return tuple(sorted(points, key=lambda p: not p.on_plane))


def _filtered(m: mujoco.MjModel, a: int, b: int) -> bool:
    """Whether MuJoCo never tests these two geoms against each other."""
    if not (m.geom_contype[a] & m.geom_conaffinity[b] or m.geom_contype[b] & m.geom_conaffinity[a]):
        return True
    body_a, body_b = int(m.geom_bodyid[a]), int(m.geom_bodyid[b])
    weld_a, weld_b = int(m.body_weldid[body_a]), int(m.body_weldid[body_b])
    if weld_a == weld_b:
        return True
    above_a, above_b = (int(m.body_weldid[m.body_parentid[w]]) for w in (weld_a, weld_b))
    if weld_a and weld_b and (weld_a == above_b or weld_b == above_a):
        return True
    signature = (min(body_a, body_b) << 16) + max(body_a, body_b)
    return signature in m.exclude_signature


def _check(m: mujoco.MjModel, first: int, second: int, file: str) -> None:
    def refuse(what: str) -> None:
        names = " and ".join(f"'{m.geom(g).name or g}'" for g in (first, second))
        raise Unsupported(
            f"model {file}: contact of geoms {names}: {what} is not supported; see docs/physics.md"
        )

    kinds = [int(m.geom_type[g]) for g in (first, second)]
    if kinds[0] not in (_PLANE, _SPHERE, _CAPSULE) or kinds[1] not in (_SPHERE, _CAPSULE):
        words = [mujoco.mjtGeom(k).name.split("_")[1].lower() for k in kinds]
        refuse(f"{words[0]} against {words[1]}")
    if kinds[0] == _PLANE and m.geom_bodyid[first] != 0:
        refuse("a plane that is not attached to the world")
    if m.geom_gap[first] or m.geom_gap[second]:
        refuse("gap")
    if _winner(m, first, second, m.geom_condim) != 3:
        refuse(f"condim {_winner(m, first, second, m.geom_condim)}")
    if not (m.geom_solref[[first, second]] > 0).all():
        refuse("solref in direct (negative) form")


def _winner(m: mujoco.MjModel, a: int, b: int, field: np.ndarray) -> int:
    """The larger of two geoms' settings, or the one of the geom with priority."""
    return int(field[_priority(m, a, b)].max())


def _priority(m: mujoco.MjModel, a: int, b: int) -> list[int]:
    pa, pb = int(m.geom_priority[a]), int(m.geom_priority[b])
    return [a] if pa > pb else [b] if pb > pa else [a, b]


def _mix(m: mujoco.MjModel, a: int, b: int) -> tuple:
    """friction_of, margin, solref and solimp of a pair, after mj_contactParam."""
    geoms = _priority(m, a, b)
    weights = m.geom_solmix[geoms]
    if (weights < mujoco.mjMINVAL).all():
        weights = np.ones_like(weights)
    weights = np.where(weights < mujoco.mjMINVAL, 0.0, weights)
    weights = weights / weights.sum()
    margins = m.geom_margin[[a, b]]
    # MuJoCo 3.5 began to add the margins of a pair, where it used to take the larger.
    added = tuple(int(v) for v in mujoco.__version__.split(".")[:2]) >= (3, 5)
    return (
        tuple(geoms),
        float(margins.sum() if added else margins.max()),
        tuple(float(x) for x in weights @ m.geom_solref[geoms]),
        tuple(float(x) for x in weights @ m.geom_solimp[geoms]),
    )
