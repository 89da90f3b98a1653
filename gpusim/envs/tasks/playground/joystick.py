"""Robots that are told by a joystick how to move: forwards, sideways, turning.

As in the original, what is seen and what is rewarded is of the command and of the last action as
they were before a step's bookkeeping.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.mujoco_task import Carry, Moment
from gpusim.envs.tasks.playground.robot import Noisy, Robot, square, turned_about_z
from gpusim.envs.world import State

SIGMA = 0.25  # (m/s)² or (rad/s)²: squared errors of the speeds by which their rewards fall to 1/e
STILL = 0.01  # a command below this length is one to stand


class Feet(NamedTuple):
    """Of each foot."""

    air_time: jax.Array  # s: since it last touched the ground
    contact: jax.Array  # bool: does it touch the ground?
    peak: jax.Array  # m: the highest place since then


class Steps(NamedTuple):
    """What feet did in a step."""

    air_time: jax.Array  # s
    contact: jax.Array  # bool
    first: jax.Array  # bool: has a foot come down?
    peak: jax.Array  # m
    height: jax.Array  # m, of their sites
    speed: jax.Array  # (feet, 3) m/s, in the world

    def after(self) -> Feet:
        """What is remembered."""
        up = (~self.contact).astype(self.peak.dtype)
        return Feet(self.air_time * up, self.contact, self.peak * up)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Joystick(Robot):
    """What Go1 and G1 share."""

    feet: ClassVar[tuple[str, ...]]
    """Sites; the geoms of these names touch the ground."""
    imu: ClassVar[str]
    """The site whose motion is measured."""
    suffix: ClassVar[str] = ""
    """Of the names of its sensors."""

    max_foot_height: float
    """How high feet are to be lifted, m."""

    # ---- where episodes start

    def spread(self, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The keyframe at another place and turned about the vertical, moving; and a key."""
        key, own = jax.random.split(key)
        shift = jax.random.uniform(own, (2,), minval=-0.5, maxval=0.5)
        key, own = jax.random.split(key)
        angle = jax.random.uniform(own, minval=-3.14, maxval=3.14)
        key, own = jax.random.split(key)
        qpos = jnp.asarray(self.init_qpos, shift.dtype)
        qpos = qpos.at[:2].add(shift).at[3:7].set(turned_about_z(self.init_qpos[3:7], angle))
        speed = jax.random.uniform(own, (6,), minval=-0.5, maxval=0.5)
        return qpos, jnp.zeros(self.model.nv).at[:6].set(speed), key

    # ---- what happens in a step

    def reading(self, now: Moment, name: str) -> jax.Array:
        """What a sensor at the robot's own unit measures."""
        return now.sensor(name + self.suffix)

    def on_ground(self, now: Moment) -> jax.Array:
        """(feet,) bool: which touch the ground?"""
        return jnp.stack([now.sensor(f"{name}_floor_found")[0] > 0 for name in self.feet])

    def steps(self, feet: Feet, now: Moment) -> Steps:
        """What the feet did since what is remembered of them."""
        sites = np.array([self.model.mj.site(name).id for name in self.feet])
        height = now.derived.site_xpos[sites, 2]
        contact = self.on_ground(now)
        return Steps(
            air_time=feet.air_time + self.dt,
            contact=contact,
            first=(feet.air_time > 0) & (contact | feet.contact),
            peak=jnp.maximum(feet.peak, height),
            height=height,
            speed=jnp.stack([now.sensor(f"{name}_global_linvel") for name in self.feet]),
        )

    def no_steps(self, now: Moment) -> Feet:
        """What is remembered of feet at a start."""
        none = jnp.zeros(len(self.feet), now.state.qpos.dtype)
        return Feet(none, none > 0, none)

    # ---- what is seen

    def readings(self, now: Moment) -> Mapping[str, Noisy]:
        """What the policy sees of the body, with noise."""
        return {
            "gyro": Noisy(self.reading(now, "gyro"), 0.2),
            "gravity": Noisy(self.gravity(now, self.imu), 0.05),
            "joints": Noisy(now.state.qpos[7:], 0.03),
            "speeds": Noisy(now.state.qvel[6:], 1.5),
            "linvel": Noisy(self.reading(now, "local_linvel"), 0.1),
        }

    @property
    def image_of_feet(self) -> list[int]:
        """(feet,) which becomes the i-th in a mirror."""
        mj = self.model.mj
        bodies = [int(mj.site_bodyid[mj.site(name).id]) for name in self.feet]
        return [bodies.index(self.mirror.bodies[body]) for body in bodies]

    # ---- terms that both have

    def tracking_of(self, command: jax.Array, now: Moment) -> tuple[jax.Array, jax.Array]:
        """() between 0 and 1: how well the velocity on the ground and the turning are obeyed."""
        linear = square(command[:2] - self.reading(now, "local_linvel")[:2])
        angular = jnp.square(command[2] - self.reading(now, "gyro")[2])
        return jnp.exp(-linear / SIGMA), jnp.exp(-angular / SIGMA)

    def away(self, now: Moment) -> jax.Array:
        """(nu,) rad: of the joints from their pose."""
        return now.state.qpos[7:] - jnp.asarray(self.pose_of_joints, now.state.qpos.dtype)

    def clearance(self, steps: Steps) -> jax.Array:
        """() of feet that move, how far from their height they are."""
        speed = jnp.sqrt(_norms(steps.speed[:, :2]))
        return jnp.sum(jnp.abs(steps.height - self.max_foot_height) * speed)

    def lifted(self, steps: Steps) -> jax.Array:
        """() by how much feet that come down have missed their height, squared."""
        return jnp.sum(jnp.square(steps.peak / self.max_foot_height - 1) * steps.first)

    def measure(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        """How high feet in the air have been, m."""
        return {"swing_peak": memory.feet.peak.mean()}

    # ---- commands

    def command(self, state: State, asked: Mapping[str, jax.Array]) -> State:
        """A command that stays."""
        carry: Carry = state.carry
        told = jnp.stack([asked[name] for name in self.commands])
        memory = self.obeying(carry.memory, told.astype(carry.memory.command.dtype))
        return state.replace(carry=carry._replace(memory=memory))

    @abc.abstractmethod
    def obeying(self, memory: Any, command: jax.Array) -> Any:
        """The memory with a command that no other one follows soon."""


def moving(command: jax.Array) -> jax.Array:
    """() bool: is it a command to move?"""
    return _norms(command) > STILL


def _norms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1))
