"""Geoms as triangles, for viewers that know nothing of capsules."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

_SIDES, _RINGS = 24, 8  # of round shapes: around the axis, from the equator to a pole

Triangles = tuple[np.ndarray, np.ndarray]  # points (n, 3) m, corners of faces (m, 3) int


def triangles(mj: mujoco.MjModel, geom: Mapping[str, Any]) -> Triangles:
    """The surface of a geom of `replay.geoms`, seen from outside, in the geom's own frame; a plane
    has none of its own, and raises ValueError."""
    size = np.asarray(geom["size"], float)
    match geom["type"]:
        case "sphere":
            return _turned(*_arc(size[0], 0.0))
        case "ellipsoid":
            points, faces = _turned(*_arc(1.0, 0.0))
            return points * size, faces
        case "capsule":
            return _turned(*_arc(size[0], size[1]))
        case "cylinder":
            radius, half = size[:2]
            radii, heights = np.array([0, radius, radius, 0]), np.array([-half, -half, half, half])
            return _turned(radii, heights)
        case "box":
            corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            return corners * size, _BOX
        case "mesh":
            return surface(mj, geom["mesh"])
    raise ValueError(f"a {geom['type']} has no surface of triangles")


def surface(mj: mujoco.MjModel, i: int) -> Triangles:
    """Of the model's meshes, and after them its height fields, one."""
    if i >= mj.nmesh:
        return _field(mj, i - mj.nmesh)
    points = mj.mesh_vertadr[i] + np.arange(mj.mesh_vertnum[i])
    faces = mj.mesh_faceadr[i] + np.arange(mj.mesh_facenum[i])
    return mj.mesh_vert[points], mj.mesh_face[faces]


def _field(mj: mujoco.MjModel, i: int) -> Triangles:
    """The upper side of a height field, each square of which is two triangles as it is for
    contacts: they meet in the diagonal from the corner of least x and y."""
    rows, columns = mj.hfield_nrow[i], mj.hfield_ncol[i]
    half_x, half_y, height, _ = mj.hfield_size[i]
    x, y = np.meshgrid(np.linspace(-half_x, half_x, columns), np.linspace(-half_y, half_y, rows))
    data = mj.hfield_data[mj.hfield_adr[i] :][: rows * columns]
    points = np.stack([x.ravel(), y.ravel(), height * data], 1)
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    first = (row * columns + column).ravel()
    right, up, across = first + 1, first + columns, first + columns + 1
    faces = [np.stack([first, right, across], 1), np.stack([first, across, up], 1)]
    return points, np.stack(faces, 1).reshape(-1, 3)


_BOX = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)


def _arc(radius: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Radii and heights from pole to pole of a sphere whose halves are 2 * half apart."""
    angle = np.linspace(-np.pi / 2, 0, _RINGS + 1)
    radii, heights = radius * np.cos(angle), radius * np.sin(angle) - half
    return np.concatenate([radii, radii[::-1]]), np.concatenate([heights, -heights[::-1]])


def _turned(radii: np.ndarray, heights: np.ndarray) -> Triangles:
    """What a line of points makes that turns about z; it goes from the lower to the upper pole."""
    angle = np.arange(_SIDES) * 2 * np.pi / _SIDES
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    points = np.concatenate(
        [
            radii[:, None, None] * circle,
            np.broadcast_to(heights[:, None, None], (len(radii), _SIDES, 1)),
        ],
        axis=-1,
    )
    ring, side = np.meshgrid(np.arange(len(radii) - 1), np.arange(_SIDES), indexing="ij")
    a, b = ring * _SIDES + side, ring * _SIDES + (side + 1) % _SIDES
    c, d = a + _SIDES, b + _SIDES
    faces = np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], 2).reshape(-1, 3)
    return points.reshape(-1, 3), faces
