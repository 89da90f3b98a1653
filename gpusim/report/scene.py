"""A few worlds of one drawing side by side in viser, whose page a browser shows."""
# mujoco's compiled modules come without type stubs, viser is an extra:
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from typing import Any

import mujoco
import numpy as np

from gpusim.report import replay
from gpusim.report.triangles import triangles


class Scene:
    """Bodies are frames that `place` moves; geoms hang on them and are sent once."""

    def __init__(self, server: Any, mj: mujoco.MjModel, poses: np.ndarray):
        """server: a viser.ViserServer; poses: (worlds, nq) to begin with. Raises ValueError for a
        geom that cannot be drawn."""
        self.mj, self.num = mj, len(poses)
        self.torso = min(1, mj.nbody - 1)  # the first body below the world
        self._server, self._data = server, mujoco.MjData(mj)
        self._planes: list[Any] = []
        server.scene.set_up_direction("+z")
        geoms = replay.geoms(mj)
        used = sorted({geom["body"] for geom in geoms} | {self.torso})
        frame = lambda world, body: server.scene.add_frame(
            f"/world{world}/body{body}", show_axes=False
        )
        self._bodies = [{body: frame(world, body) for body in used} for world in range(self.num)]
        for i, geom in enumerate(geoms):
            self._draw(i, geom)
        self.size = self._reach(poses[0], geoms)
        self.positions = np.zeros((self.num, 3))  # of the torsos, as they stand in the scene
        self.place(poses)

    def _draw(self, i: int, geom: dict[str, Any]) -> None:
        pose = {"wxyz": np.array(geom["quat"]), "position": np.array(geom["pos"])}
        *colour, opacity = geom["rgba"]
        rgb = tuple(round(255 * c) for c in colour)
        if geom["type"] == "plane":  # the same for all worlds, and endless
            grid = self._server.scene.add_grid(
                f"/plane{i}", plane_color=rgb, plane_opacity=0.6, infinite_grid=True,
                cell_size=1.0, section_size=10.0, **pose,
            )  # fmt: skip
            self._planes.append((grid, pose["position"]))
            return
        points, faces = triangles(self.mj, geom)
        for world in range(self.num):
            self._server.scene.add_mesh_simple(
                f"/world{world}/body{geom['body']}/geom{i}",
                points.astype(np.float32), faces.astype(np.uint32), color=rgb,
                opacity=None if opacity >= 1 else opacity,
                flat_shading=geom["type"] in ("box", "mesh", "cylinder"), **pose,
            )  # fmt: skip

    def _reach(self, pose: np.ndarray, geoms: list[dict[str, Any]]) -> float:
        """How far what moves reaches from the torso, m."""
        xpos, _ = self._bodies_at(pose)
        away = lambda geom: np.linalg.norm(xpos[geom["body"]] - xpos[self.torso])
        reach = [away(g) + np.linalg.norm(g["pos"]) + g["bound"] for g in geoms if g["body"]]
        return float(max([0.5, *reach]))

    def place(self, poses: np.ndarray, *, follow: bool = False) -> None:
        """Move everything to where positions (worlds, nq) have it; one that is not finite stays.

        follow: the worlds stay in the middle, and the floor moves below them.
        """
        found = [self._bodies_at(pose) if np.isfinite(pose).all() else None for pose in poses]
        seen = [at[0][self.torso] for at in found if at is not None]
        middle = np.mean(seen, 0) * (1, 1, 0) if follow and seen else np.zeros(3)
        with self._server.atomic():
            for grid, position in self._planes:
                grid.position = position - middle
            for world, at in enumerate(found):
                if at is None:
                    continue
                aside = np.array([0.0, (world - (self.num - 1) / 2) * 2.2 * self.size, 0.0])
                for body, frame in self._bodies[world].items():
                    frame.position = at[0][body] + aside - middle
                    frame.wxyz = at[1][body]
                self.positions[world] = at[0][self.torso] + aside - middle

    def _bodies_at(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """xpos (nbody, 3) and xquat (nbody, 4)."""
        self._data.qpos[:] = pose
        mujoco.mj_kinematics(self.mj, self._data)
        return self._data.xpos.copy(), self._data.xquat.copy()


def kick(mj: mujoco.MjModel, pose: np.ndarray, body: int, impulse: np.ndarray) -> np.ndarray:
    """The change of velocities (nv,) that an impulse (3,) N s on a body's centre makes at once,
    joints holding together as they do: M^-1 J^T impulse."""
    data = mujoco.MjData(mj)
    data.qpos[:] = pose
    mujoco.mj_forward(mj, data)
    force, change = np.zeros(mj.nv), np.zeros((1, mj.nv))
    mujoco.mj_applyFT(mj, data, impulse, np.zeros(3), data.xipos[body], body, force)
    mujoco.mj_solveM(mj, data, change, force[None])
    return change[0]
