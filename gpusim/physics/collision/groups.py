"""Which function finds the contacts of which two shapes, and the pairs of each."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import mujoco

from gpusim import lanes
from gpusim.physics.collision import box, capsule_box, convex, hfield, plane, round
from gpusim.physics.collision.pairs import Pair, refuse
from gpusim.physics.collision.shapes import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    MESH,
    PLANE,
    SPHERE,
    Shape,
    Touch,
)  # fmt: skip
from gpusim.physics.linalg import Array
from gpusim.physics.versions import since


class Kind(NamedTuple):
    """How two types of shapes touch."""

    function: Callable[[Shape, Shape], Touch]
    points: int  # how many at most
    few: bool  # whether its code is short enough to be written out for each pair
    rare: int = 0  # how many of its points, the last ones, are there in exceptional poses only


KINDS = {
    (PLANE, SPHERE): Kind(plane.plane_sphere, 1, True),
    (PLANE, CAPSULE): Kind(plane.plane_capsule, 2, True),
    (PLANE, ELLIPSOID): Kind(plane.plane_ellipsoid, 1, True),
    (PLANE, CYLINDER): Kind(plane.plane_cylinder, 4, True),
    (PLANE, BOX): Kind(plane.plane_box, 8, True),
    (PLANE, MESH): Kind(plane.plane_mesh, 4, False),
    (SPHERE, SPHERE): Kind(round.sphere_sphere, 1, True),
    (SPHERE, CAPSULE): Kind(round.sphere_capsule, 1, True),
    (SPHERE, CYLINDER): Kind(round.sphere_cylinder, 1, True),
    (SPHERE, BOX): Kind(box.sphere_box, 1, True),
    (CAPSULE, CAPSULE): Kind(round.capsule_capsule, round.MOST, True, round.MOST - 1),
    (CAPSULE, BOX): Kind(capsule_box.capsule_box, 2, False),
    (BOX, BOX): Kind(box.box_box, 12, False),
    **{kinds: Kind(convex.convex(kinds), 1, False) for kinds in convex.SINGLE},
    **{kinds: Kind(convex.convex(kinds), 4, False) for kinds in convex.SEVERAL},
}


class Group(NamedTuple):
    """Pairs of the same two types of shapes, to be solved in as many dimensions."""

    kind: tuple[int, int]
    dim: int
    pairs: tuple[int, ...]  # numbers of pairs
    first: tuple[int, ...]  # their geoms
    second: tuple[int, ...]

    @property
    def geoms(self) -> tuple[int, ...]:
        return self.first + self.second


def bounding_radius(kind: int, size: Array) -> Array:
    """Of a shape of size (3,)."""
    x, y, z = size
    return {
        PLANE: 0 * x,
        SPHERE: x,
        CAPSULE: x + y,
        ELLIPSOID: jnp.maximum(jnp.maximum(x, y), z),
        CYLINDER: jnp.sqrt(x * x + y * y),
    }.get(kind, jnp.sqrt(x * x + y * y + z * z))


FEW = 16  # contact points, but for rare ones, that are written out rather than kept in a list
SLOTS = (64, 32)  # contacts of one dimension that a world may have in the list: the first of these
PLACES = 1100  # with which the lists have no more places than so many, for memory's sake


def groups(m: mujoco.MjModel, pairs: Sequence[Pair], file: str) -> tuple[Group, ...]:
    """The pairs by shapes and dimension; raises Unsupported for shapes without a function."""
    found: dict[tuple, list[int]] = {}
    for k, pair in enumerate(pairs):
        kind = int(m.geom_type[pair.first]), int(m.geom_type[pair.second])
        if kind not in KINDS and kind not in hfield.KINDS:
            raise refuse(m, pair, file, _words(kind))
        for flag in ("nativeccd", "multiccd"):
            off = m.opt.disableflags & int(getattr(mujoco.mjtDisableBit, f"mjDSBL_{flag.upper()}"))
            one = kind in (*convex.SINGLE, *hfield.KINDS)
            if off and (kind in convex.SEVERAL or (one and flag == "nativeccd")):
                raise refuse(m, pair, file, f"{_words(kind)}: option flag {flag}=disable")
        if kind in convex.SEVERAL and not since(3, 17):
            raise refuse(m, pair, file, f"{_words(kind)} with MuJoCo before 3.17")
        for geom in (pair.first, pair.second):
            if m.geom_type[geom] == MESH and not m.mesh_polynum[m.geom_dataid[geom]]:
                raise refuse(m, pair, file, "a mesh without a convex hull")
        if MESH in kind and not since(3, 13):
            raise refuse(m, pair, file, "a mesh with MuJoCo before 3.13")
        found.setdefault((kind, pair.dim), []).append(k)
    return tuple(
        Group(
            kind, dim, tuple(index),
            tuple(pairs[k].first for k in index), tuple(pairs[k].second for k in index),
        )
        for (kind, dim), index in sorted(found.items())
    )  # fmt: skip


def _words(kind: tuple[int, int]) -> str:
    """'plane against mesh'."""
    return " against ".join(mujoco.mjtGeom(t).name.split("_")[1].lower() for t in kind)


def slots(found: Sequence[Group]) -> int | None:
    """How many contacts of a dimension a world may have in the list; None if all points are few
    enough to be written out.
    """
    few = all(g.kind in KINDS and KINDS[g.kind].few for g in found)
    if few and sum(_points(g) - KINDS[g.kind].rare * len(g.pairs) for g in found) <= FEW:
        return None
    lists = [[g for g in found if g.dim == dim] for dim in {g.dim for g in found}]
    fits = lambda most: sum(list_length(one, most) for one in lists) <= PLACES
    return next(filter(fits, SLOTS), SLOTS[-1])


def list_length(found: Sequence[Group], slots: int) -> int:
    """Places of a list that never overflows: of all the worlds computed side by side."""
    most = slots * lanes.side_by_side()
    if any(g.kind in hfield.KINDS for g in found):  # each world touches its own prisms
        return most
    return min(sum(map(_points, found)), most)


def _points(group: Group) -> int:
    each = hfield.POINTS if group.kind in hfield.KINDS else KINDS[group.kind].points
    return each * len(group.pairs)
