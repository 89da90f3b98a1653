"""The contacts of a pose: every point of few candidates, or a bounded list of those that touch.

The list is one for all worlds that are computed side by side (`lanes.any_world`): whatever touches
in one of them has a place in it, the same one in all. So its pairs, and what belongs to them, are
the same numbers for all lanes. A world's own contacts stand there in the order of the candidates,
between others which do nothing in it: what it computes is the same whoever is beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes
from gpusim.physics import rolled
from gpusim.physics.collision import hfield
from gpusim.physics.collision.groups import KINDS, Group, bounding_radius, list_length
from gpusim.physics.collision.hulls import hulls
from gpusim.physics.collision.shapes import HFIELD, MESH, PLANE, Shape, Touch, sides
from gpusim.physics.kinematics import Pose, positions
from gpusim.physics.linalg import Array, contract, dot, pick
from gpusim.physics.model import Model


class Contacts(NamedTuple):
    """m contact points of one dimension; those with dist beyond the margin do not act."""

    dim: int  # condim
    dist: jax.Array  # (m,) m, negative inside
    point: jax.Array  # (m, 3) between the surfaces, relative to the second body's reference
    frame: jax.Array  # (m, 3, 3) rows: normal from the first geom to the second, two tangents
    pair: Array  # (m,) which of the model's pairs
    # () how many are listed, the first ones, though they may touch in another world only that is
    # computed beside this one; None: all candidates are
    count: Array | None = None
    dropped: Array | int = 0  # () how many touch and found no place in the list
    rare: bool = False  # whether hardly ever one of them touches


def collide(model: Model, pose: Pose) -> list[Contacts]:
    """Contacts, one or two lists for each dimension that occurs."""
    groups = model.topology.groups
    dims = sorted({g.dim for g in groups})
    of = lambda dim: [g for g in groups if g.dim == dim]
    if model.topology.slots is None:
        return [found for dim in dims for found in _all(model, pose, dim, of(dim))]
    world = _World(model, pose)
    return [_touching(world, dim, of(dim), model.topology.slots) for dim in dims]


# ---------------------------------------------------------------------------- every candidate point


def _all(model: Model, pose: Pose, dim: int, groups: Sequence[Group]) -> list[Contacts]:
    """The usual ones, and the rare ones if there are any."""
    usual, rare = [], []
    for group in groups:
        first, second = list(group.first), list(group.second)
        a, b = _shapes(model, pose, first), _shapes(model, pose, second)
        roots = [np.array(model.topology.root)[_bodies(model, g)] for g in (first, second)]
        apart = (roots[0] != roots[1]).astype(pose.offset.dtype)[:, None]
        shift = (pick(pose.reference, roots[0]) - pick(pose.reference, roots[1])) * apart
        touch = KINDS[group.kind].function(a._replace(pos=a.pos + shift), b)
        frame = sides(touch.normal, touch.tangent)
        points = KINDS[group.kind].points
        split = points - KINDS[group.kind].rare
        for parts, some in ((usual, slice(split)), (rare, slice(split, points))):
            dist = touch.dist[:, some]
            pair = np.repeat(group.pairs, dist.shape[1])
            point, axes = touch.point[:, some].reshape(-1, 3), frame[:, some].reshape(-1, 3, 3)
            parts.append((dist.reshape(-1), point, axes, pair))
    join = lambda x: lax.concatenate([jnp.asarray(v) for v in x], 0)

    def joined(parts: list[tuple], rare: bool) -> Contacts:
        dist, point, frame, pair = zip(*parts, strict=True)
        pair = np.concatenate(pair)
        return Contacts(dim, join(dist), join(point), join(frame), pair, rare=rare)

    both = joined(usual, False), joined(rare, True)
    return [found for found in both if len(found.pair)]


def _bodies(model: Model, geoms: Sequence[int]) -> list[int]:
    return [model.topology.geom_body[g] for g in geoms]


def _shapes(model: Model, pose: Pose, geoms: Sequence[int]) -> Shape:
    """Geoms where they are, relative to their bodies' references."""
    bodies, geoms = _bodies(model, geoms), list(geoms)
    return Shape(
        pos=positions(model, pose, bodies, model.geom_pos[geoms]),
        mat=contract(pick(pose.xmat, bodies), model.geom_mat[geoms], 2, 1, batch=1),
        size=pick(model.geom_size, geoms),
    )


# -------------------------------------------------------------------- a list of those that touch


class _World:
    """All geoms that may touch, in arrays that loops read."""

    def __init__(self, model: Model, pose: Pose) -> None:
        self.geoms = sorted({g for group in model.topology.groups for g in group.geoms})
        shapes = _shapes(model, pose, self.geoms)
        self.pos, self.mat = shapes.pos, shapes.mat.reshape(-1, 9)
        self.size = jnp.asarray(shapes.size)
        self.reference = pick(pose.reference, _bodies(model, self.geoms))
        self.bound = jnp.asarray(_bounds(model, self.geoms, shapes.size))
        dtype = shapes.pos.dtype
        self.boxes = None  # (n, 6) middle and half extents in the geom's axes, if known
        if isinstance(shapes.size, np.ndarray):
            self.boxes = np.asarray(model.mj.geom_aabb)[self.geoms].astype(dtype)
        self.margin = np.array([p.margin + p.gap for p in model.topology.pairs], dtype)
        meshes, place = self._assets(model, MESH)
        if meshes:
            self.hull, *_ = found = hulls(model.mj, meshes, dtype)
            own = [(h.start, h.stop, h.cell, h.fineness) for h in found]
            self.places = np.array(own, np.int32)[place]
        used, place = self._assets(model, HFIELD)
        if used:
            tables = hfield.fields(model.mj, used, dtype)
            self.fields = hfield.Field(tables.heights, *(x[place] for x in tables[1:]))

    def _assets(self, model: Model, kind: int) -> tuple[list[int], np.ndarray]:
        """Meshes or height fields that are used, and which of them each geom has."""
        types = np.array(model.topology.geom_type)[self.geoms]
        assets = np.where(types == kind, np.array(model.mj.geom_dataid)[self.geoms], -1)
        used = sorted(set(assets[types == kind].tolist()))
        return used, np.searchsorted(used, assets) * (types == kind)

    def field(self, geom: Array) -> hfield.Field:
        heights, *each = self.fields
        return hfield.Field(heights, *(rolled.at(x, geom) for x in each))

    def shape(self, geom: Array, kind: int, margin: Array) -> Shape:
        hull = None
        if kind == MESH:
            start, stop, cell, fineness = rolled.at(self.places, geom)
            hull = self.hull._replace(start=start, stop=stop, cell=cell, fineness=fineness)
        return Shape(
            rolled.at(self.pos, geom)[None],
            rolled.at(self.mat, geom).reshape(1, 3, 3),
            rolled.at(self.size, geom)[None],
            hull,
            margin,
        )


def _apart(a: Shape, b: Shape, first: Array, second: Array, margin: Array) -> jax.Array:
    """() whether a face of one's bounding box (6,) has all of the other's before it."""
    turn = dot(a.mat[0].T, b.mat[0])
    across = dot(a.mat[0].T, b.pos[0] - a.pos[0]) + dot(turn, second[:3]) - first[:3]
    size = jnp.abs(turn)
    # rounding must not part what touches
    room = margin + 1e-5 * (first[3:].sum() + second[3:].sum())
    of_first = jnp.abs(across) - first[3:] - dot(size, second[3:])
    of_second = jnp.abs(dot(across, turn)) - second[3:] - dot(first[3:], size)
    return (of_first > room).any() | (of_second > room).any()


def _bounds(model: Model, geoms: Sequence[int], size: Array) -> Array:
    """Radii of bounding spheres (n,): the compiler's, unless a world has sizes of its own."""
    if isinstance(size, np.ndarray):
        return model.geom_rbound[list(geoms)]
    kinds = [model.topology.geom_type[g] for g in geoms]
    own = model.geom_rbound[list(geoms)]
    return jnp.stack(
        [own[k] if t == MESH else bounding_radius(t, size[k]) for k, t in enumerate(kinds)]
    )


class _List(NamedTuple):
    """Contacts found so far, in this world and in those computed beside it; as in Contacts."""

    dist: jax.Array  # (length + 1,) the last place is for none
    point: jax.Array
    frame: jax.Array
    pair: jax.Array
    count: jax.Array
    own: jax.Array  # () how many are this world's
    dropped: jax.Array  # () how many of its own found no place


def _touching(world: _World, dim: int, groups: Sequence[Group], slots: int) -> Contacts:
    dtype, places = world.pos.dtype, list_length(groups, slots) + 1
    found = _List(
        lanes.empty((places,), dtype),
        lanes.empty((places, 3), dtype),
        lanes.empty((places, 3, 3), dtype),
        lanes.empty((places,), jnp.int32),
        jnp.int32(0),
        jnp.int32(0),
        jnp.int32(0),
    )
    for group in groups:
        found = _search(world, group, found, slots)
    count = jnp.minimum(found.count, places - 1)  # as it is: the compiler should know
    return Contacts(dim, *found[:4], count, found.dropped)


def _search(world: _World, group: Group, found: _List, slots: int) -> _List:
    """Adds the contacts of a group of pairs of the same two shapes."""
    place = {g: k for k, g in enumerate(world.geoms)}
    first = np.array([place[g] for g in group.first], np.int32)
    second = np.array([place[g] for g in group.second], np.int32)
    pairs, margins = np.array(group.pairs, np.int32), world.margin[list(group.pairs)]
    first_kind, second_kind = group.kind

    def trip(k: Array, found: _List) -> _List:
        g, h = rolled.at(first, k), rolled.at(second, k)
        margin = rolled.at(margins, k)
        a, b = (world.shape(x, t, margin) for x, t in zip((g, h), group.kind, strict=True))
        shift = rolled.at(world.reference, g) - rolled.at(world.reference, h)
        a = a._replace(pos=a.pos + shift)
        between = b.pos - a.pos
        if first_kind == PLANE:
            near = (between * a.axis).sum() < rolled.at(world.bound, h) + margin
        else:
            reach = rolled.at(world.bound, g) + rolled.at(world.bound, h) + margin
            near = (between * between).sum() < reach * reach
            if world.boxes is not None and group.kind in KINDS and not KINDS[group.kind].few:
                near &= ~_apart(a, b, rolled.at(world.boxes, g), rolled.at(world.boxes, h), margin)
        put = lambda found, touch, near: _append(
            found, touch, near, margin, rolled.at(pairs, k), slots
        )
        if first_kind == HFIELD:
            add = lambda found: hfield.search(world.field(g), second_kind, a, b, near, put, found)
        else:
            add = lambda found: put(found, KINDS[group.kind].function(a, b), near)
        return lax.cond(lanes.any_world(near), add, lambda found: found, found)

    return rolled.loop(len(pairs), trip, found)


def _append(
    found: _List, touch: Touch, near: Array, margin: Array, pair: Array, slots: int
) -> _List:
    """With the points that touch in this world or beside it; where they do not, their distance is
    out of reach and their other numbers are zero.
    """

    def add(found: _List, dist: Array, point: Array, frame: Array, touches: Array) -> _List:
        # There is always room, but in a process that has a GPU and uses its CPU.
        room = found.count < found.pair.shape[0] - 1
        there = touches & (found.own < slots) & room
        put = lambda x, value: rolled.put(x, found.count, value)
        # Written in any case: what is not counted, the next one overwrites.
        return _List(
            put(found.dist, jnp.where(there, dist, margin + 1)),
            put(found.point, jnp.where(there, point, 0)),
            put(found.frame, jnp.where(there, frame, 0)),
            put(found.pair, pair),
            found.count + lanes.any_world(there),
            found.own + there,
            found.dropped + (touches & ~there),
        )

    frames = sides(touch.normal, touch.tangent)
    for p in range(touch.dist.shape[1]):
        dist, point, frame = touch.dist[0, p], touch.point[0, p], frames[0, p]
        touches = near & (dist < margin)
        keep = lambda found, *_: found
        some = lanes.any_world(touches)
        found = lax.cond(some, add, keep, found, dist, point, frame, touches)
    return found
