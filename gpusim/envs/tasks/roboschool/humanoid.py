"""Humanoids: the scene of one or several of them, and what each of them is after a step.

Formulas are written for one robot; `Humanoids.of_each` applies them to all, which are rows of what
MuJoCo lays out robot by robot. A single one has no such axis.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import Moment, MujocoTask

HIGHEST = 16  # robots that a scene may have
APART = 2.0  # m between robots that start side by side
SIDES = ("right", "left")
ANKLES = ("right_ankle_y", "right_ankle_x", "left_ankle_y", "left_ankle_x")
_OWN = 16  # the first bit of geoms' contypes that is not the file's


class Body(NamedTuple):
    """One robot after a step, or at a start; `ground` is how high the ground is below its torso."""

    qpos: jax.Array  # (7 + joints,) and the 7 of its cube, if it has one
    qvel: jax.Array  # (6 + joints,) and the 6 of its cube
    parts: jax.Array  # (13, 3) m, where its bodies are
    ctrl: jax.Array  # (joints,)
    ground: jax.Array  # () m
    feet: jax.Array  # (2,) whether they touch the ground, 0 or 1
    knocked: jax.Array  # () how many feet touch anything else

    @property
    def height(self) -> jax.Array:
        """() m: of the torso, above the ground."""
        return self.qpos[2] - self.ground

    @property
    def where(self) -> jax.Array:
        """(2,) m: the mean of the bodies' places."""
        return self.parts[:, :2].mean(0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Humanoids(MujocoTask):
    """What tasks of humanoids share."""

    cube: ClassVar[bool] = False
    """Whether each has one, to be thrown at it."""

    n_frames: int = 4
    """Physics steps in a control step of 0.0165 s."""
    ankles: bool = False
    """A body of 28 numbers instead of 24: four more motors in the ankles."""
    robots: int = 1
    """How many are in a scene, where they can collide. Each is an agent; the episode ends for all
    when it ends for one."""

    def __post_init__(self):
        super().__post_init__()
        known = isinstance(self.robots, int | np.integer) and 1 <= self.robots <= HIGHEST
        self.require(known, "robots", f"a whole number from 1 to {HIGHEST}")

    @property
    def agents(self) -> int:
        """The robots."""
        return self.robots

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model, with what the options ask for."""
        spec = self._robot(0)
        for number in range(1, self.robots):
            other = self._robot(number)
            for shared in (*other.worldbody.geoms, *other.worldbody.lights):
                other.delete(shared)
            frame = spec.worldbody.add_frame()
            spec.attach(other, prefix=prefix(number), frame=frame)
        self.furnish(spec)
        return self.engine.load(spec.compile())

    def furnish(self, spec: mujoco.MjSpec) -> None:
        """Put what else there is into the scene."""

    def _robot(self, number: int) -> mujoco.MjSpec:
        """One of them, with a floor. It touches all others, and itself no more than before."""
        spec = mujoco.MjSpec.from_file(str(Path(__file__).parent / "models" / "humanoid.xml"))
        for name in () if self.ankles else ANKLES:
            spec.delete(spec.actuator(name))
            spec.delete(spec.joint(name))
        if not self.cube:
            spec.delete(spec.body("cube"))
        all_others = (1 << self.robots) - 1 - (1 << number)
        for geom in spec.geoms if self.robots > 1 else ():
            if geom.name not in ("floor", "cube"):
                geom.contype |= _OWN << number
                geom.conaffinity |= _OWN * all_others
        return spec

    @functools.cached_property
    def mirror(self) -> physics.Mirror:
        """Of one robot: none of several is in the middle."""
        alone = self if self.robots == 1 else dataclasses.replace(self, robots=1)
        return MujocoTask.mirror.func(alone)

    @property
    def joints(self) -> int:
        """How many of a robot are driven."""
        return self.model.nu // self.robots

    # ---- of each robot

    def of_each(self, of_one: Callable[..., Any]) -> Callable[..., Any]:
        """The function for all robots, whose numbers are rows if there are several."""
        return of_one if self.robots == 1 else jax.vmap(of_one)

    def keys(self, key: jax.Array) -> jax.Array:
        """A key for each robot."""
        return key if self.robots == 1 else jax.random.split(key, self.robots)

    def split(self, x: jax.Array) -> jax.Array:
        """What the model has of all robots, one after the other, by robot."""
        return x if self.robots == 1 else x.reshape(self.robots, -1, *x.shape[1:])

    def joined(self, x: jax.Array) -> jax.Array:
        """The way back, of numbers."""
        return x.reshape(-1)

    def bodies(self, now: Moment) -> Body:
        """All robots."""
        qpos, dtype = self.split(now.state.qpos), now.state.qpos.dtype
        parts = self.split(now.derived.xpos[1:])
        return Body(
            qpos=qpos,
            qvel=self.split(now.state.qvel),
            parts=parts[..., : parts.shape[-2] - self.cube, :],
            ctrl=self.split(now.ctrl),
            ground=self.of_each(self.ground)(qpos[..., :2]),
            feet=self._feet(lambda foot: now.touching(foot, "floor")).astype(dtype),
            knocked=self._feet(lambda foot: self._knocked(now, foot)).astype(dtype).sum(-1),
        )

    def ground(self, place: jax.Array) -> jax.Array:
        """() m: how high the ground is at a place (2,)."""
        return jnp.zeros((), place.dtype)

    def _feet(self, found: Callable[[str], jax.Array]) -> jax.Array:
        """(2,) what is found of the right and the left foot of each robot."""
        of = lambda k: jnp.stack([found(f"{prefix(k)}{side}_foot") for side in SIDES])
        return of(0) if self.robots == 1 else jnp.stack([of(k) for k in range(self.robots)])

    def _knocked(self, now: Moment, foot: str) -> jax.Array:
        """() bool: does it touch something that is not the floor?"""
        floor, contact = self.model.mj.geom("floor").id, now.derived.contact
        off = contact.touches & (contact.geom != floor).all(1)
        return (off & (contact.geom == self.model.mj.geom(foot).id).any(1)).any()

    # ---- where episodes start

    def places(self, key: jax.Array) -> jax.Array:
        """(3,) m for each robot: a place to start at, and how high it is. Side by side."""
        middle = (self.robots - 1) / 2
        y = APART * (jnp.arange(self.robots) - middle).astype(float)
        found = jnp.stack([jnp.zeros_like(y), y, jnp.zeros_like(y)], 1)
        return found[0] if self.robots == 1 else found

    def laid(
        self, key: jax.Array, place: jax.Array, height: jax.Array, pitch: jax.Array
    ) -> jax.Array:
        """(7 + joints,) and its cube's: one robot at a place (3,) of `places`, so high above it,
        the joints and the direction not quite as they should be."""
        of_joints, of_yaw = jax.random.split(key)
        joints = jax.random.uniform(of_joints, (self.joints,), minval=-0.1, maxval=0.1)
        yaw = jax.random.uniform(of_yaw, (), minval=-math.pi / 16, maxval=math.pi / 16)
        (cy, sy), (cp, sp) = ((jnp.cos(a / 2), jnp.sin(a / 2)) for a in (yaw, pitch))
        turn = jnp.stack([cy * cp, -sy * sp, cy * sp, sy * cp])  # the pitch, then the yaw
        start = place + jnp.stack([jnp.zeros(()), jnp.zeros(()), height])
        rest = jnp.asarray(self.init_qpos, joints.dtype)[7 + self.joints :][: 7 * self.cube]
        rest = rest.at[:3].add(place) if self.cube else rest
        return jnp.concatenate([start, turn, joints, rest])


def prefix(number: int) -> str:
    """Of the names of what belongs to a robot: 2_torso is the second one's."""
    return f"{number + 1}_" if number else ""


def angles(quat: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Roll, pitch and yaw, rad, of a unit quaternion."""
    w, x, y, z = quat / jnp.sqrt(jnp.sum(jnp.square(quat)))
    roll = jnp.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = jnp.arcsin(jnp.clip(2 * (w * y - z * x), -1, 1))
    yaw = jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, pitch, yaw
