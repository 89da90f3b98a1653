"""What a replay shows of traffic: boxes on a grey road, made as a MuJoCo model that only poses."""

# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic.following import LENGTH

COLOURS = {False: ".85 .87 .9 1", True: ".85 .2 .15 1"}  # of human drivers and of controlled cars
ROAD_WIDTH = 4.0
VIEW, WIDER = (
    45.0,
    1.6,
)  # of a film: degrees from bottom to top, and how much more from side to side
UNDERGROUND = -20.0  # where cars are that are not on the road, m


def model(roads: Sequence[np.ndarray], cars: Sequence[bool]) -> Any:
    """A mujoco.MjModel of roads, polylines (points, 2) in m, and of cars, red where controlled.

    Four joints a car: `pose` gives their qpos. The camera of a replay follows the first body, which
    is fixed in the middle of the roads; films are taken from above, by the camera `overview`.
    """
    import mujoco

    points = np.concatenate(roads)
    x, y = (points.min(axis=0) + points.max(axis=0)) / 2
    width, height = np.ptp(points, axis=0) + 6 * ROAD_WIDTH
    above = max(height, width / WIDER) / (2 * np.tan(np.radians(VIEW) / 2))
    strips = "".join(
        _strip(a - (x, y), b - (x, y)) for r in roads for a, b in itertools.pairwise(r)
    )
    boxes = "".join(_car(controlled) for controlled in cars)
    return mujoco.MjModel.from_xml_string(f"""
      <mujoco>
        <visual><headlight ambient=".7 .7 .7" diffuse=".3 .3 .3" specular="0 0 0"/></visual>
        <default><geom contype="0" conaffinity="0"/></default>
        <worldbody>
          <camera name="overview" pos="{x} {y} {above}" fovy="{VIEW}"/>
          <geom type="plane" size="0 0 1" rgba=".45 .55 .42 1"/>
          <body pos="{x} {y} 0">{strips}</body>
          {boxes}
        </worldbody>
      </mujoco>""")


def pose(x: jax.Array, y: jax.Array, heading: jax.Array) -> jax.Array:
    """qpos of the model: the front of every car, m, and where it heads, rad."""
    return jnp.stack([x, y, jnp.zeros_like(x), heading], axis=-1).reshape(-1)


def named_pose(
    x: jax.Array, y: jax.Array, heading: jax.Array, here: jax.Array, name: jax.Array, names: int
) -> jax.Array:
    """`pose` of the bodies by number, where slots hold cars called so; a body that no car is called
    by is underground."""
    body = jnp.where(here, name.astype(jnp.int32), names)
    rows = jnp.stack([x, y, jnp.zeros_like(x), heading], axis=-1)
    gone = jnp.tile(jnp.asarray([0.0, 0.0, UNDERGROUND, 0.0], x.dtype), (names, 1))
    return gone.at[body].set(rows, mode="drop").reshape(-1)


def _strip(a: np.ndarray, b: np.ndarray) -> str:
    (x, y), (dx, dy) = (a + b) / 2, b - a
    half = np.hypot(dx, dy) / 2
    return (
        f'<geom type="box" size="{half} {ROAD_WIDTH / 2} .02" pos="{x} {y} .02" '
        f'euler="0 0 {np.degrees(np.arctan2(dy, dx))}" rgba=".25 .26 .28 1"/>'
    )


def _car(controlled: bool) -> str:
    joints = "".join(f'<joint type="slide" axis="{axis}"/>' for axis in ("1 0 0", "0 1 0", "0 0 1"))
    return (
        f'<body>{joints}<joint type="hinge" axis="0 0 1"/><geom type="box" mass="1" '
        f'size="{LENGTH / 2} 1 .7" pos="{-LENGTH / 2} 0 .8" rgba="{COLOURS[controlled]}"/></body>'
    )
