"""What a camera of a model sees: a ray through the middle of every pixel, to the nearest geom.

A camera looks along its -z axis, x to the right and y upwards. Geoms of groups 0 to 2 are drawn,
as by MuJoCo's viewer, but for one that the camera is inside of, whose surface has its back to it.
There are no shadows and no textures, and nothing shines through: the light is at the camera, and a
surface the brighter the more it faces it.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import lanes
from gpusim.physics import rays
from gpusim.physics.derived import subtree_com
from gpusim.physics.features import Unsupported
from gpusim.physics.inertia import body_inertias
from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import Array, dot
from gpusim.physics.model import Model
from gpusim.suggest import unknown

GROUPS = (0, 1, 2)
"""The groups of geoms that MuJoCo's viewer draws unless it is told otherwise."""
LAST_GROUP = mujoco.mjNGROUP - 1
"""A geom of a group beyond it counts as of it."""
AMBIENT = 0.3
"""How bright a surface is that is seen from the side; one that faces the camera is 1."""
_LEAST = 1e-15  # mjMINVAL
_MODES = mujoco.mjtCamLight


class Image(NamedTuple):
    """What a camera sees; the first row is the uppermost, the first column the leftmost."""

    depth: jax.Array  # (height, width) m, along the camera's axis; `far` where nothing is nearer
    rgb: jax.Array  # (height, width, 3) from 0 to 1; black where nothing is nearer than `far`


class Camera(NamedTuple):
    """A camera of a model, and what it draws: see `find`."""

    index: int  # in the model
    geoms: tuple[int, ...]  # that are drawn
    colours: np.ndarray  # (len(geoms), 3) from 0 to 1


def find(model: Model, name: str, groups: Sequence[int] = GROUPS) -> Camera:
    """The camera of this name, which draws geoms of these groups, from 0 to 5.

    Raises ValueError for a name or a group that there is not, and where nothing is to be drawn;
    Unsupported for a camera that is not like a pinhole, or for a geom that rays do not know.
    """
    m, said = model.mj, ", ".join(map(str, groups))
    if any(group not in range(LAST_GROUP + 1) for group in groups):
        raise ValueError(f"groups {said}: those of geoms are 0 to {LAST_GROUP}")
    index = mujoco.mj_name2id(m, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if index < 0:
        names = [m.camera(i).name for i in range(m.ncam)]
        problem = unknown("camera", name, filter(None, names))
        if not any(names):
            problem += '; write <camera name="..."/> into a body of it'
        raise ValueError(f"model {model.name}: {problem}")
    strange = _strange(m, index)
    of_group = np.clip(m.geom_group, 0, LAST_GROUP)
    drawn = [g for g in range(m.ngeom) if of_group[g] in groups and _rgba(m, g)[3] > 0]
    for g in drawn:
        if int(m.geom_type[g]) not in rays.KNOWN:
            kind = mujoco.mjtGeom(int(m.geom_type[g])).name[7:].lower()
            geom = f"geom '{m.geom(g).name}'" if m.geom(g).name else f"geom {g}"
            what = f"{geom}, a {kind} of group {of_group[g]}"
            strange = f"{what}, before a camera (groups {said} are drawn)"
    if strange:
        raise Unsupported(f"model {model.name}: {strange} is not supported; see docs/pixels.md")
    if not drawn:
        there = ", ".join(map(str, sorted({*of_group.tolist()}))) or "none"
        raise ValueError(
            f"model {model.name}: camera '{name}' has nothing to draw: no geom of groups "
            f"{said or 'none'} is visible; geoms are of groups {there}"
        )
    colours = np.array([_rgba(m, g)[:3] for g in drawn], float).reshape(-1, 3)
    return Camera(index, tuple(drawn), np.clip(colours, 0, 1))


class Placed(NamedTuple):
    """Where a camera is."""

    reference: jax.Array  # (3,) of the tree that it is on or tracks
    offset: jax.Array  # (3,) from there: the sum of both is cam_xpos
    axes: jax.Array  # (3, 3) cam_xmat: its x, y and z are the columns


def placed(model: Model, pose: Pose, index: int) -> Placed:
    """Where a camera is and looks (mj_camlight), in all five modes.

    What the compiler derives for a camera that tracks (its place relative to what it tracks, its
    axes) is the file's, also in a world with numbers of its own.
    """
    m, dtype = model.mj, pose.xmat.dtype
    body, target = int(m.cam_bodyid[index]), int(m.cam_targetbodyid[index])
    mode = _MODES(int(m.cam_mode[index]))
    fixed = lambda field: np.asarray(getattr(m, field)[index], dtype)
    centre = lambda b: subtree_com(model, pose, body_inertias(model, pose))[b]
    if mode in (_MODES.mjCAMLIGHT_TRACK, _MODES.mjCAMLIGHT_TRACKCOM):
        whole = mode == _MODES.mjCAMLIGHT_TRACKCOM
        at = centre(body) + fixed("cam_poscom0") if whole else pose.offset[body] + fixed("cam_pos0")
        return Placed(pose.reference[body], at, jnp.asarray(fixed("cam_mat0").reshape(3, 3)))
    at = pose.offset[body] + dot(pose.xmat[body], fixed("cam_pos"))
    if mode == _MODES.mjCAMLIGHT_FIXED or target < 0:
        own = np.zeros(9)
        mujoco.mju_quat2Mat(own, m.cam_quat[index])
        axes = dot(pose.xmat[body], own.reshape(3, 3).astype(dtype))
        return Placed(pose.reference[body], at, axes)
    whole = mode == _MODES.mjCAMLIGHT_TARGETBODYCOM
    away = at - (centre(target) if whole else pose.offset[target])
    back = _unit(pose.reference[body] - pose.reference[target] + away)
    right = _unit(jnp.cross(np.array([0, 0, 1], dtype), back))
    axes = jnp.stack([right, _unit(jnp.cross(back, right)), back], axis=1)
    return Placed(pose.reference[body], at, axes)


def image(
    model: Model,
    pose: Pose,
    of: Camera,
    *,
    height: int,
    width: int,
    far: float,
    first: Array = 0,
    rows: int | None = None,
) -> Image:
    """What a camera sees of bodies that lie as `pose` says, up to `far` m away.

    Depth is what MuJoCo's renderer and its rangefinder of a camera call so. Of all rows of pixels
    so many `rows` from the `first` (), an integer, on are drawn, by default all; in one loop, which
    is for a lanes kernel. A geom whose place is no number is not to be seen: images are finite.
    """
    model, dtype = model.astype(pose.xmat.dtype), pose.xmat.dtype
    eye, rows = placed(model, pose, of.index), height if rows is None else rows
    solids = [_before(model, pose, g, eye) for g in of.geoms]
    view, down = pixel_rays(model, of.index, height, width, rows)
    uppermost, start = jnp.asarray(view, dtype), jnp.asarray(first, dtype) * down.astype(dtype)

    def pixel(i: jax.Array, drawn: Image) -> Image:
        depth, rgb = jnp.full((), far, dtype), jnp.zeros(3, dtype)
        for solid, colour in zip(solids, np.array(of.colours, dtype), strict=True):
            at, facing = solid.seen(uppermost[i] + start)
            nearer = (at >= 0) & (at < depth)
            depth = jnp.where(nearer, at, depth)
            rgb = jnp.where(nearer, colour * (AMBIENT + (1 - AMBIENT) * facing), rgb)
        return Image(drawn.depth.at[i].set(depth), drawn.rgb.at[i].set(rgb))

    count = rows * width
    empty = Image(lanes.empty((count,), dtype), lanes.empty((count, 3), dtype))
    drawn = lanes.fori_loop(0, count, pixel, empty)
    return Image(drawn.depth.reshape(rows, width), drawn.rgb.reshape(rows, width, 3))


def pixel_rays(
    model: Model, index: int, height: int, width: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rows * width, 3) through the middles of the pixels of the uppermost rows, row by row, in the
    camera's frame, 1 m long along its axis; and (3,) from a row to the next."""
    up = np.tan(np.radians(model.mj.cam_fovy[index]) / 2)
    middles = lambda n, first: (2 * np.arange(first) + 1) / n - 1
    across = up * width / height * middles(width, width)
    y, x = np.meshgrid(-up * middles(height, rows), across, indexing="ij")
    rays = np.stack([x.ravel(), y.ravel(), np.full(x.size, -1.0)], axis=1)
    return rays, np.array([0, -2 * up / height, 0])


class _Solid(NamedTuple):
    """A geom before the camera."""

    kind: int  # of rays.KNOWN
    size: Array  # (3,)
    eye: jax.Array  # (3,) where the camera is, in the geom's frame
    axes: jax.Array  # (3, 3) from the camera's frame to the geom's

    def seen(self, ray: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How many lengths of a ray (3,) of the camera's frame it is away, -1 where it is missed;
        and there the cosine between the ray and the surface's normal."""
        ray = dot(self.axes, ray)
        at = rays.entry(self.kind, self.size, self.eye, ray)
        across = dot(rays.normal(self.kind, self.size, self.eye + at * ray), ray)
        return at, jnp.abs(across) / jnp.sqrt(dot(ray, ray))


def _before(model: Model, pose: Pose, g: int, eye: Placed) -> _Solid:
    """A geom as a camera has it before it."""
    body = model.topology.geom_body[g]
    mat = dot(pose.xmat[body], model.geom_mat[g])
    # Differences of places in the same tree keep their digits however far away it is.
    local = pose.offset[body] + dot(pose.xmat[body], model.geom_pos[g])
    p = dot(eye.reference - pose.reference[body] + (eye.offset - local), mat)
    return _Solid(model.topology.geom_type[g], model.geom_size[g], p, dot(mat.T, eye.axes))


def _unit(v: jax.Array) -> jax.Array:
    """mju_normalize3: v / |v|, and x of what is no longer than nothing."""
    length = jnp.sqrt(dot(v, v))
    none = length < _LEAST
    return jnp.where(none, np.array([1, 0, 0], v.dtype), v / jnp.where(none, 1, length))


def _rgba(m: mujoco.MjModel, g: int) -> np.ndarray:
    """(4,) as mjv_updateScene: a geom's own colour, unless it is the usual grey and there is a
    material."""
    own, material = m.geom_rgba[g], int(m.geom_matid[g])
    usual = material >= 0 and np.array_equal(own, np.array([0.5, 0.5, 0.5, 1], own.dtype))
    return m.mat_rgba[material] if usual else own


def _strange(m: mujoco.MjModel, index: int) -> str:
    """What of a camera is not known here; nothing of most."""
    name = f"camera '{m.camera(index).name}'"
    older = getattr(m, "cam_orthographic", None)  # until MuJoCo 3.4
    if (m.cam_projection if older is None else older)[index]:
        return f"{name}: orthographic projection"
    if m.cam_sensorsize[index].any():
        return f"{name}: sensorsize (fovy is what there is)"
    return ""
