"""A trajectory as a video file, drawn by MuJoCo's own renderer without a display.

What draws (EGL on a GPU or Mesa, or OSMesa on any CPU) has to be chosen before mujoco is imported,
and may take its process with it: so a child does it, and another one tries the other way.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from gpusim.report.replay import Track, visible

WAYS = ("egl", "osmesa")
PIXEL = 5  # pixels of a film, both ways, for one of what a policy saw
PICTURES, VIDEOS = (".gif", ".webp"), (".mp4", ".webm", ".mov")
NEEDED = "pip install pillow imageio-ffmpeg"


class FilmError(RuntimeError):
    """A film that cannot be made here; the message is one line."""


def write(
    path: str | Path,
    model: Any,
    track: Track,
    dt: float,
    *,
    size: tuple[int, int] = (640, 400),
    seconds: float | None = None,
) -> Path:
    """Draw a trajectory into an .mp4, .webm, .mov, .gif or .webp file; returns its path.

    model: a `physics.Model` or a `mujoco.MjModel`. dt: seconds between frames. size: pixels.
    seconds: how much of it, from the start; None: all. Raises FilmError where something is missing.
    """
    path = Path(path)
    check(path)
    rate = 25 if path.suffix in PICTURES else 50
    last = (len(np.asarray(track.qpos)) - 1) * dt
    times = np.arange(0, min(last, seconds or last) + 1e-9, 1 / rate)
    qpos = np.asarray(track.qpos, np.float64)[np.round(times / dt).astype(int)]
    with tempfile.TemporaryDirectory(prefix="gpusim-film-") as folder:
        mujoco.mj_saveModel(getattr(model, "mj", model), f"{folder}/model.mjb")
        np.save(f"{folder}/qpos.npy", qpos)
        made = Path(folder) / f"film{path.suffix}"
        _in_a_child(json.dumps({"folder": folder, "path": str(made), "rate": rate, "size": size}))
        try:
            shutil.copyfile(made, path)
        except OSError as error:
            raise FilmError(f"{path} cannot be written: {error.strerror}") from error
    return path


def write_pictures(path: str | Path, pictures: np.ndarray, dt: float) -> Path:
    """A film of pictures (T, height, width, 1 or 3), from 0 to 1, dt seconds apart, each pixel as
    PIXEL x PIXEL; returns its path. Raises FilmError where something is missing."""
    path = Path(path)
    check(path)
    large = np.asarray(pictures).repeat(PIXEL, axis=1).repeat(PIXEL, axis=2)
    greys = np.round(255 * np.clip(large, 0, 1)).astype(np.uint8)
    frames = np.broadcast_to(greys, (*large.shape[:3], 3))
    store = _picture if path.suffix in PICTURES else _video
    size = (frames.shape[2], frames.shape[1])
    try:
        with warnings.catch_warnings():  # JAX warns of a fork, after which ffmpeg runs at once
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            store(path, iter(frames), max(round(1 / dt), 1), size)
    except ModuleNotFoundError as error:
        raise FilmError(f"No module named {error.name!r}: {NEEDED}") from error
    except OSError as error:
        raise FilmError(f"{path} cannot be written: {error.strerror}") from error
    return path


def check(path: Path) -> None:
    """Raise FilmError for a path that is no film's, before anybody waits for it."""
    if path.suffix not in PICTURES + VIDEOS:
        raise FilmError(f"{path}: films are {', '.join(PICTURES + VIDEOS)}")
    if not path.parent.is_dir():
        raise FilmError(f"{path}: there is no folder {path.parent}")


def _in_a_child(job: str) -> None:
    """Try each way to draw, or the one that MUJOCO_GL names."""
    asked = os.environ.get("MUJOCO_GL")
    complaints = []
    for way in (asked,) if asked else WAYS:
        done = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import film; film()"],
            input=job, capture_output=True, text=True, env={**os.environ, "MUJOCO_GL": str(way)},
        )  # fmt: skip
        if done.returncode == 0:
            return
        said = [line for line in done.stderr.splitlines() if line.strip()]
        missing = [line for line in said if line.startswith("ModuleNotFoundError")]
        if missing:
            said = missing[-1].partition(": ")[2]
            raise FilmError(f"{said}: {NEEDED}")
        complaints.append(f"{way}: {said[-1] if said else f'exit {done.returncode}'}")
    raise FilmError(
        f"nothing here can draw ({'; '.join(complaints)}); on Debian: apt-get install libosmesa6"
    )


def film() -> None:
    """The child: reads its job from the standard input."""
    job = json.loads(sys.stdin.read())
    model = mujoco.MjModel.from_binary_path(f"{job['folder']}/model.mjb")
    frames = _frames(model, np.load(f"{job['folder']}/qpos.npy"), *job["size"])
    store = _picture if Path(job["path"]).suffix in PICTURES else _video
    store(Path(job["path"]), frames, job["rate"], tuple(job["size"]))


def _frames(model: Any, qpos: np.ndarray, width: int, height: int) -> Iterator[np.ndarray]:
    """(height, width, 3) uint8 of each position, from a camera that goes along; from the model's
    camera `overview`, if it has one."""
    model.geom_group[visible(model)] = 0  # which the renderer draws
    view = model.vis.global_
    view.offwidth, view.offheight = max(view.offwidth, width), max(view.offheight, height)
    data = mujoco.MjData(model)
    body = min(1, model.nbody - 1)
    places = np.empty((len(qpos), 3))
    reach = 0.01
    for t, frame in enumerate(qpos):
        data.qpos[:] = frame
        mujoco.mj_kinematics(model, data)
        places[t] = data.xpos[body]
        moving = model.geom_bodyid > 0
        away = np.linalg.norm(data.geom_xpos[moving] - places[t], axis=1)
        reach = max(reach, *(away + model.geom_rbound[moving]).tolist()) if len(away) else 1.0
    camera = mujoco.MjvCamera()
    camera.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "overview")
    stands = camera.fixedcamid >= 0
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED if stands else mujoco.mjtCamera.mjCAMERA_FREE
    camera.azimuth, camera.elevation, camera.distance = 115, -14, 2.6 * reach
    with mujoco.Renderer(model, height, width) as renderer:
        for frame, place in zip(qpos, _smooth(places), strict=True):
            data.qpos[:] = frame
            mujoco.mj_forward(model, data)
            camera.lookat[:] = place
            renderer.update_scene(data, camera)
            _light(renderer.scene, place, reach)
            yield renderer.render()


def _light(scene: Any, place: np.ndarray, reach: float) -> None:
    """Let suns go along: MuJoCo draws shadows near a light's place only."""
    for i in range(scene.nlight):
        light = scene.lights[i]
        if light.type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL and not light.headlight:
            light.pos[:] = place - 3 * reach * np.asarray(light.dir)


def _smooth(path: np.ndarray, radius: int = 8) -> np.ndarray:
    """Means over the neighbours of each point, as many on either side: the ends stay put."""
    out = np.empty_like(path)
    for i in range(len(path)):
        r = min(radius, i, len(path) - 1 - i)
        out[i] = path[i - r : i + r + 1].mean(axis=0)
    return out


def _picture(path: Path, frames: Iterator[np.ndarray], rate: int, size: tuple[int, int]) -> None:
    from PIL import Image

    some, images = [], []
    for frame in frames:
        some.append(frame[::PIXEL, ::PIXEL].copy())
        images.append(Image.fromarray(frame))
    first, *rest = images
    options: dict[str, Any] = {"quality": 60, "method": 4, "minimize_size": False}
    if path.suffix == ".gif":  # one palette for all: what does not change is not stored again
        sample = Image.fromarray(np.concatenate(some))
        palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
        first, *rest = (
            image.quantize(palette=palette, dither=Image.Dither.NONE) for image in (first, *rest)
        )
        options = {"optimize": True}
    duration = round(1000 / rate)
    first.save(path, save_all=True, append_images=rest, duration=duration, loop=0, **options)


def _video(path: Path, frames: Iterator[np.ndarray], rate: int, size: tuple[int, int]) -> None:
    import imageio_ffmpeg  # pyright: ignore[reportMissingImports]

    writer = imageio_ffmpeg.write_frames(
        str(path), size, fps=rate, quality=8, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
