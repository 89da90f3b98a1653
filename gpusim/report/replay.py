"""A 3D replay of a trajectory as one HTML page that opens offline, anywhere.

C MuJoCo turns each qpos into body poses here; the page only interpolates and draws them (WebGL2, in
`viewer/`). Poses are stored per body, geoms hang on their bodies by a constant offset:

    x_geom = x_body + R(q_body) p_geom,     q_geom = q_body * r_geom    (mj_kinematics)
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import base64
import dataclasses
import html as markup
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from gpusim.report.embed import Embedded, write_page
from gpusim.report.triangles import surface

_VIEWER = pathlib.Path(__file__).parent / "viewer"
_SCRIPTS = ("scene.js", "shaders.js", "camera.js", "viewer.js", "controls.js")
_DRAWN = ("plane", "sphere", "capsule", "ellipsoid", "cylinder", "box", "mesh")
_PAYLOAD = '<script type="application/json" id="replay">'
_HIDDEN_GROUP = 3  # MuJoCo's viewers, too, leave geom groups 3 and up undrawn at first
_QUAT_SCALE = 32767  # a quaternion component in [-1, 1] as int16: a quarter of a milliradian


@dataclasses.dataclass(frozen=True)
class Track:
    """One trajectory of a replay."""

    qpos: ArrayLike  # (T, nq) one generalised position a frame
    label: str = ""  # what the page calls it, e.g. "median episode"
    extras: Mapping[str, ArrayLike] = dataclasses.field(default_factory=dict)  # name -> (T,)
    tint: tuple[float, float, float] | None = None  # red, green, blue in [0, 1]; None: as it is


def write(
    path: str | pathlib.Path,
    model: Any,
    qpos: ArrayLike | Sequence[Track],
    dt: float,
    *,
    title: str = "Replay",
    extras: Mapping[str, ArrayLike] | None = None,
) -> pathlib.Path:
    """Write the page that `html` makes; returns its path."""
    return write_page(pathlib.Path(path), html(model, qpos, dt, title=title, extras=extras))


def show(
    model: Any,
    qpos: ArrayLike | Sequence[Track],
    dt: float,
    *,
    title: str = "",
    extras: Mapping[str, ArrayLike] | None = None,
    height: int = 480,
) -> Embedded:
    """The page that `html` makes, as a notebook's cell result, `height` pixels high."""
    return Embedded(html(model, qpos, dt, title=title, extras=extras), height)


def html(
    model: Any,
    qpos: ArrayLike | Sequence[Track],
    dt: float,
    *,
    title: str = "Replay",
    extras: Mapping[str, ArrayLike] | None = None,
) -> str:
    """The whole page as text: no other file and no network is needed to show it.

    Args:
      model: a `physics.Model` or a `mujoco.MjModel`.
      qpos: (T, nq) one trajectory, or several `Track`s, which stand side by side.
      dt: seconds between frames.
      title: heading of the page.
      extras: name -> (T,) numbers shown as they pass (the first one is also drawn as a curve).

    Raises:
      ValueError: a shape does not fit, a position is not finite, or a geom cannot be drawn.
    """
    if not dt > 0:
        raise ValueError(f"dt = {dt}: the time between frames must be positive")
    mj = getattr(model, "mj", model)
    tracks = _tracks(qpos, extras)
    payload = {
        "title": title,
        "dt": float(dt),
        "geoms": geoms(mj),
        "meshes": _meshes(mj),
        "follow": min(1, mj.nbody - 1),  # the first body below the world: the torso
        "nbody": int(mj.nbody),
        "tracks": [_encode(mj, track) for track in tracks],
    }
    # In a script element only "<" can end the element or start a comment.
    data = json.dumps(payload, allow_nan=False).replace("<", "\\u003c")
    return filled(_text("page.html"), TITLE=markup.escape(title), STYLE=style(), STAGE=stage(data))


def style() -> str:
    """The style sheet of `stage`."""
    return _text("style.css")


def stage(data: str) -> str:
    """The replay as part of a page: an element that wants a height, and its scripts. A page has
    room for one, and needs `style()`.

    data: see `data_of`.
    """
    scripts = "\n".join(f"<script>\n{_text(name)}</script>" for name in _SCRIPTS)
    return filled(_text("stage.html"), PAYLOAD=data, SCRIPTS=scripts)


def data_of(page: str) -> str:
    """What a page that `html` made shows: JSON as it stands in the page; "" if it is not whole."""
    data, end, _ = page.partition(_PAYLOAD)[2].partition("</script>")
    return data if end else ""


def read(page: str) -> dict[str, Any]:
    """The payload of a page, decoded: what `html` embedded, arrays as numpy.

    Each of payload["tracks"] has label, xpos (T, nbody, 3) m, xquat (T, nbody, 4) w first, and
    extras: name -> (T,). Each of payload["meshes"] has points and faces, three numbers each.
    """
    payload = json.loads(data_of(page))
    for mesh in payload["meshes"]:
        mesh["points"], mesh["faces"] = (
            _unpack(mesh["points"], "<f4"),
            _unpack(mesh["faces"], "<u4"),
        )
    for track in payload["tracks"]:
        nbody = payload["nbody"]
        track["xpos"] = _unpack(track["xpos"], "<f4").reshape(-1, nbody, 3)
        track["xquat"] = _unpack(track["xquat"], "<i2").reshape(-1, nbody, 4) / _QUAT_SCALE
        track["extras"] = {k: _unpack(v, "<f4") for k, v in track["extras"].items()}
    return payload


def _tracks(qpos: Any, extras: Mapping[str, ArrayLike] | None) -> list[Track]:
    """One trajectory or several, as a list of tracks."""
    if isinstance(qpos, Sequence) and qpos and all(isinstance(t, Track) for t in qpos):
        if extras:
            raise ValueError("extras belong into each Track when several tracks are given")
        return list(qpos)
    return [Track(qpos, "", extras or {})]


def visible(mj: mujoco.MjModel) -> np.ndarray:
    """(ngeom,) bool: which geoms are to be seen. Those of groups below 3; and all of a robot or a
    thing that would not be seen otherwise, since its file has only the shapes it collides with."""
    shown = mj.geom_group < _HIDDEN_GROUP
    tree, moves = mj.body_rootid[mj.geom_bodyid], mj.body_weldid[mj.geom_bodyid] > 0
    return shown | (moves & ~np.isin(tree, tree[shown & moves]))


def geoms(mj: mujoco.MjModel) -> list[dict[str, Any]]:
    """What is drawn: type, size (3,), rgba; body, its depth in the tree, pos and quat in it."""
    found, shades, depths, seen = [], _shades(mj), _depths(mj), visible(mj)
    for i in range(mj.ngeom):
        shade = shades[mj.geom_bodyid[i]]
        rgba = np.minimum(_rgba(mj, i) * (shade, shade, shade, 1), 1)
        if not seen[i] or rgba[3] == 0:
            continue
        kind = mujoco.mjtGeom(mj.geom_type[i]).name.removeprefix("mjGEOM_").lower()
        kind = "mesh" if kind == "hfield" else kind
        if kind not in _DRAWN:
            name = mj.geom(i).name or f"number {i}"
            raise ValueError(f"geom '{name}' (type {kind}) cannot be drawn; put it in group 3")
        found.append(
            {
                "type": kind,
                "size": mj.geom_size[i].tolist(),
                "rgba": np.round(rgba, 4).tolist(),
                "body": int(mj.geom_bodyid[i]),
                "depth": int(depths[mj.geom_bodyid[i]]),
                "pos": mj.geom_pos[i].tolist(),
                "quat": mj.geom_quat[i].tolist(),
                "bound": float(mj.geom_rbound[i]),  # radius of a ball that holds it; 0: a plane
                **({"mesh": _meshed(mj)[i].item()} if kind == "mesh" else {}),
            }
        )
    return found


def _meshed(mj: mujoco.MjModel) -> np.ndarray:
    """(ngeom,) which of the model's meshes, and after them its height fields; -1: none."""
    mesh = mj.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    field = mj.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD
    return np.where(mesh, mj.geom_dataid, np.where(field, mj.geom_dataid + mj.nmesh, -1))


def _meshes(mj: mujoco.MjModel) -> list[dict[str, str]]:
    """Points (n, 3) m and faces (m, 3) of each mesh, as base64; empty for what is not drawn."""
    shown = {*_meshed(mj)[visible(mj)].tolist()}
    none = np.zeros((0, 3)), np.zeros((0, 3))
    found = [surface(mj, i) if i in shown else none for i in range(max(shown, default=-1) + 1)]
    return [{"points": _pack(p, "<f4"), "faces": _pack(f, "<u4")} for p, f in found]


def _rgba(mj: mujoco.MjModel, geom: int) -> np.ndarray:
    """(4,) colour. A geom's own colour wins over its material's unless it is MuJoCo's default."""
    own, material = mj.geom_rgba[geom], mj.geom_matid[geom]
    is_default = np.allclose(own, (0.5, 0.5, 0.5, 1.0))
    return mj.mat_rgba[material] if material >= 0 and is_default else own


def _depths(mj: mujoco.MjModel) -> np.ndarray:
    """(nbody,) links between a body and the world."""
    depth = np.zeros(mj.nbody, int)
    for body in range(1, mj.nbody):
        depth[body] = depth[mj.body_parentid[body]] + 1
    return depth


def _shades(mj: mujoco.MjModel) -> np.ndarray:
    """(nbody,) brightness: a robot of one colour gets lighter at the torso, darker at the tips."""
    colours = {tuple(_rgba(mj, i)) for i in range(mj.ngeom) if mj.geom_bodyid[i] > 0}
    return 1.6 * 0.86 ** np.maximum(_depths(mj) - 1, 0) if len(colours) == 1 else np.ones(mj.nbody)


def _encode(mj: mujoco.MjModel, track: Track) -> dict[str, Any]:
    """A track as the page reads it: poses of all bodies, base64 of little-endian numbers."""
    qpos = np.asarray(track.qpos, np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != mj.nq or not len(qpos):
        raise ValueError(f"qpos has shape {qpos.shape}; expected (T, {mj.nq}) with T >= 1")
    broken = np.flatnonzero(~np.isfinite(qpos).all(axis=1))
    if broken.size:
        raise ValueError(f"qpos is not finite from frame {broken[0]} on; pass qpos[:{broken[0]}]")
    xpos, xquat = _body_poses(mj, qpos)
    extras = {name: np.asarray(values, np.float32) for name, values in track.extras.items()}
    for name, values in extras.items():
        if values.shape != (len(qpos),):
            raise ValueError(f"extras '{name}' has shape {values.shape}, expected ({len(qpos)},)")
    return {
        "label": track.label,
        "tint": track.tint,
        "frames": len(qpos),
        "xpos": _pack(xpos, "<f4"),
        "xquat": _pack(np.round(xquat * _QUAT_SCALE), "<i2"),
        "extras": {name: _pack(values, "<f4") for name, values in extras.items()},
    }


def _body_poses(mj: mujoco.MjModel, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """qpos (T, nq) -> xpos (T, nbody, 3) m, xquat (T, nbody, 4) w first, in the world frame."""
    data = mujoco.MjData(mj)
    xpos = np.empty((len(qpos), mj.nbody, 3))
    xquat = np.empty((len(qpos), mj.nbody, 4))
    for t, frame in enumerate(qpos):
        data.qpos[:] = frame
        mujoco.mj_kinematics(mj, data)
        xpos[t], xquat[t] = data.xpos, data.xquat
    return xpos, xquat


def _pack(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode("ascii")


def _unpack(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def filled(template: str, **parts: str) -> str:
    """A template with parts in place of {{NAME}}: one pass, so that nothing put in is searched."""
    before, *rest = template.split("{{")
    return before + "".join(parts[name] + tail for name, tail in (r.split("}}", 1) for r in rest))


def _text(file: str) -> str:
    return (_VIEWER / file).read_text(encoding="utf-8")
