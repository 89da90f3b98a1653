"""Pictures a second through cameras of robots: `python -m bench.pictures`.

The same single pictures of the same poses, colours, drawn by us as a kernel and through XLA, and by
MuJoCo's own renderer (OpenGL, with textures, shadows and reflections) one after the other. Images
stay where they are made: ours on the device, MuJoCo's on the host.
"""

# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import gpusim
from bench import common

CAMERAS = ("inverted_pendulum:side", "hopper:track", "ant:track", "humanoid:track")


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    cameras: tuple[str, ...] = CAMERAS
    """Environments and their cameras."""
    size: tuple[int, int] = (64, 64)
    """Height and width, pixels."""
    num: int = 256
    """Pictures drawn at once."""
    repeats: int = 5
    """Timed repeats; the median is kept."""
    contenders: tuple[str, ...] = ("kernel", "xla", "mujoco")
    """Who draws."""
    out: Path = common.RESULTS / "pictures.json"
    """JSON file."""


def main(args: Args) -> None:
    """Measure and report."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    results, rows = [], []
    for name in args.cameras:
        env, _, camera = name.partition(":")
        options = {"camera": camera, "camera_size": args.size, "camera_frames": 1}
        found: dict[str, Any] = {"camera": name}
        for contender in args.contenders:
            world: Any = gpusim.make(env, **options)  # a new one, which nothing is compiled for yet
            draw = DRAW[contender](world, _poses(world, args.num))
            spread = common.rate(args.num, common.time_repeats(draw, args.repeats))
            found[contender] = dataclasses.asdict(spread)
        geoms = len(world._camera.geoms)
        results.append(found | {"geoms": geoms})
        rates = [common.amount(found[contender]["median"]) for contender in args.contenders]
        rows.append([name, str(geoms), *rates])
    title = f"pictures a second, {args.size[0]} x {args.size[1]} pixels"
    common.show(title, ("camera", "geoms", *args.contenders), rows)
    setting = {"size": args.size, "num": args.num, "backend": jax.default_backend()}
    common.write(args.out, setting | {"pictures_per_s": results})


def _poses(world: Any, num: int) -> np.ndarray:
    """(num, numbers) of starts."""
    return np.asarray(jax.vmap(world.reset)(jax.random.split(jax.random.key(0), num)).obs)


def _ours(mode: str) -> Callable[[Any, np.ndarray], Callable[[], Any]]:
    def begin(world: Any, obs: np.ndarray) -> Callable[[], Any]:
        draw = jax.jit(jax.vmap(world.picture))
        at = jax.device_put(obs)
        before = os.environ.get("GPUSIM_LANES", "auto")
        os.environ["GPUSIM_LANES"] = mode
        jax.block_until_ready(draw(at))  # what is traced stays as it was traced
        os.environ["GPUSIM_LANES"] = before
        return lambda: jax.block_until_ready(draw(at))

    return begin


def _mujoco(world: Any, obs: np.ndarray) -> Callable[[], Any]:
    import mujoco

    m = world.model.mj
    data, renderer = mujoco.MjData(m), mujoco.Renderer(m, *world.camera_size)

    def draw() -> None:
        for qpos in obs:
            data.qpos[:] = qpos
            mujoco.mj_kinematics(m, data)
            mujoco.mj_comPos(m, data)
            mujoco.mj_camlight(m, data)
            renderer.update_scene(data, world.camera)
            renderer.render()

    return draw


DRAW = {"kernel": _ours("auto"), "xla": _ours("xla"), "mujoco": _mujoco}


if __name__ == "__main__":
    main(tyro.cli(Args))
