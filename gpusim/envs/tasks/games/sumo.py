"""Sumo: two robots in a ring, and who leaves it has lost.

Each is a ball that drives forwards or backwards and turns, on a floor that holds it back by its
speed: balls touch at one point, in C MuJoCo as here. What it sees and earns is the same for both,
so that one policy plays both.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gpusim.envs.mujoco_task import Moment, MujocoTask

RADIUS = 2.0  # m, of the ring
APART = 0.8  # m from the middle, where both start
PRIZE = 10.0  # of who wins, and what losing costs

_ROBOT = """
    <body name="{name}" pos="0 0 0.25">
      <joint name="{name}_x" type="slide" axis="1 0 0" damping="20"/>
      <joint name="{name}_y" type="slide" axis="0 1 0" damping="20"/>
      <joint name="{name}_turn" type="hinge" axis="0 0 1" damping="1"/>
      <geom name="{name}" type="sphere" size="0.25" mass="10" rgba="{rgba}"/>
      <geom type="sphere" pos="0.22 0 0.08" size="0.08" mass="0" contype="0" conaffinity="0"
        rgba="1 1 1 1"/>
      <site name="{name}"/>
    </body>"""
_MOTORS = """
    <motor site="{name}" gear="60 0 0 0 0 0" ctrlrange="-1 1"/>
    <motor joint="{name}_turn" gear="4" ctrlrange="-1 1"/>"""
_BOTH = [
    {"name": "red", "rgba": "0.8 0.25 0.2 1"},
    {"name": "blue", "rgba": "0.2 0.4 0.8 1"},
]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sumo(MujocoTask):
    """Two robots that push each other out of a ring of 4 m.

    Each sees, as it faces: the middle of the ring (2 numbers), its velocity (2) and turn rate, the
    other one (2), its velocity (2), heading (cosine, sine) and turn rate; lengths over 2 m, speeds
    over 3 m/s, rates over 5 rad/s. It earns 10 for winning and -10 for losing, and in every step
    `centre` times how much nearer than the other one it is to the middle, m. What one wins the
    other loses, so that the mean of both returns says nothing.
    """

    name = "sumo"
    agents = 2
    max_episode_steps = 300
    gauges: ClassVar[Mapping[str, str]] = {"apart": "apart, m"}
    mjcf = f"""
<mujoco model="sumo">
  <option timestep="0.01" integrator="implicitfast"/>
  <worldbody>
    <light pos="0 0 6" dir="0 0 -1"/>
    <geom name="floor" type="plane" size="4 4 0.1" contype="0" conaffinity="0" rgba=".9 .9 .9 1"/>
    <geom name="ring" type="cylinder" size="{RADIUS} 0.01" contype="0" conaffinity="0"
      rgba="0.85 0.75 0.55 1"/>{"".join(_ROBOT.format(**robot) for robot in _BOTH)}
  </worldbody>
  <actuator>{"".join(_MOTORS.format(**robot) for robot in _BOTH)}
  </actuator>
</mujoco>"""

    n_frames: int = 5
    """Physics steps in a control step of 0.05 s."""
    centre: float = 0.02
    """Earned in a step for every metre nearer to the middle than the other robot."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Opposite each other, at any angle, facing anywhere; at rest."""
        around, *facing = jax.random.uniform(key, (3,), minval=-jnp.pi, maxval=jnp.pi)
        at = APART * jnp.stack([jnp.cos(around), jnp.sin(around)])
        qpos = jnp.stack([*at, facing[0], *-at, facing[1]])
        return qpos, jnp.zeros(self.model.nv)

    def observation(self, memory: Any, now: Moment) -> jax.Array:
        """(2, 12) of red and of blue."""
        qpos, qvel = now.state.qpos.reshape(2, 3), now.state.qvel.reshape(2, 3)

        def of(mine: int) -> jax.Array:
            other = 1 - mine
            c, s = jnp.cos(qpos[mine, 2]), jnp.sin(qpos[mine, 2])
            facing = lambda xy: jnp.stack([c * xy[0] + s * xy[1], c * xy[1] - s * xy[0]])
            turned = qpos[other, 2] - qpos[mine, 2]
            parts = [
                facing(-qpos[mine, :2]) / RADIUS,
                facing(qvel[mine, :2]) / 3,
                qvel[mine, 2:] / 5,
                facing(qpos[other, :2] - qpos[mine, :2]) / RADIUS,
                facing(qvel[other, :2]) / 3,
                jnp.stack([jnp.cos(turned), jnp.sin(turned)]),
                qvel[other, 2:] / 5,
            ]
            return jnp.concatenate(parts)

        return jnp.stack([of(0), of(1)])

    def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        """Of red and of blue."""
        out = self._from_centre(now)
        left = (out > RADIUS).astype(out.dtype)
        return {"win": PRIZE * (left[::-1] - left), "centre": self.centre * (out[::-1] - out)}

    def measure(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        """How far apart they are, m."""
        between = now.state.qpos[:2] - now.state.qpos[3:5]
        return {"apart": jnp.sqrt(jnp.square(between).sum())}

    def terminal(self, memory: Any, now: Moment) -> jax.Array:
        """One has left the ring, or both."""
        return (self._from_centre(now) > RADIUS).any()

    def _from_centre(self, now: Moment) -> jax.Array:
        """(2,) m."""
        return jnp.sqrt(jnp.square(now.state.qpos.reshape(2, 3)[:, :2]).sum(1))
