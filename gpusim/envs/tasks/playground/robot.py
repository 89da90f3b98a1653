"""What Playground's robots share: where their models are, what their sensors tell, and noise.

Playground judges a step by sums of weighted terms times the length of the step; the terms here
are those products, and their weights are options: TERM_weight.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import Before, Moment, MujocoTask
from gpusim.envs.tasks.playground import files
from gpusim.envs.world import WorldError

Terms = Mapping[str, Callable[[], jax.Array]]
"""Rewards and costs by name, unweighted; those whose weight is 0 are not worked out."""


class Noisy(NamedTuple):
    """A reading with uniform noise of up to `scale` times the noise's level either way."""

    reading: jax.Array
    scale: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Robot(MujocoTask):
    """A robot on a free body, whose joints are driven to positions.

    An action moves the joints' targets away from the pose of a keyframe.
    """

    timestep: ClassVar[float]
    """Of the physics, s; the file's own is not used."""
    derive_constants: ClassVar[bool] = False
    home: ClassVar[str]
    """The keyframe whose pose episodes start around."""
    sites: ClassVar[tuple[str, ...]]
    """Sites of the scene that the task reads."""

    xml_file: str
    """The scene: a file of Playground's, or a path that begins with `.`, `/` or `~`."""
    action_scale: float = 0.5
    """How far an action of 1 moves a joint's target, rad."""
    noise_level: float = 1.0
    """Scale of all noise in what is seen; 0: none."""

    def __post_init__(self):
        super().__post_init__()
        files.scene(self.name, self.xml_file)  # a file that is not there is told at once
        self.require(self.noise_level >= 0, "noise_level", "a number from 0 on")

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model. Raises WorldError for a scene that is of no such robot."""
        path = files.scene(self.name, self.xml_file)
        mj = files.read(self.name, path)
        try:
            mj.keyframe(self.home)
            for site in self.sites:
                mj.site(site)
        except KeyError as error:
            raise WorldError(f"environment {self.name!r}: {path}: {error.args[0]}") from error
        if mj.nq != 7 + mj.nu or not mj.njnt or mj.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE:
            raise WorldError(
                f"environment {self.name!r}: {path} is not of one free body with a motor for each "
                f"of its joints: {mj.nq} coordinates, {mj.nu} actuators"
            )
        mj.opt.timestep = self.timestep
        self.adapt(mj)
        return self.engine.load(mj)

    def adapt(self, mj: mujoco.MjModel) -> None:
        """Change what the task wants otherwise than the file has it."""

    @functools.cached_property
    def init_qpos(self) -> np.ndarray:
        """(nq,) the keyframe's pose."""
        return np.array(self.model.mj.keyframe(self.home).qpos)

    @functools.cached_property
    def pose_of_joints(self) -> np.ndarray:
        """(nu,) rad: of the driven joints."""
        return self.init_qpos[7:]

    def rest(self, qpos: jax.Array) -> jax.Array:
        """The joints' targets at a start are where they are."""
        return qpos[7:]

    def control(self, before: Before, action: jax.Array) -> jax.Array:
        """The joints' targets, rad."""
        return jnp.asarray(self.pose_of_joints, action.dtype) + action * self.action_scale

    def middle_of_ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """(nu,) rad: between which joints are in the middle 0.95 of their ranges."""
        low, high = self.model.mj.jnt_range[1:].T
        middle, half = (low + high) / 2, 0.95 * (high - low) / 2
        return middle - half, middle + half

    # ---- what is seen

    def gravity(self, now: Moment, site: str) -> jax.Array:
        """(3,) the direction of gravity in a site's axes."""
        i = int(self.model.mj.site(site).id)
        axes = now.derived.xmat[self.model.mj.site_bodyid[i]]
        return -(axes[2] @ jnp.asarray(now.model.site_mat[i], axes.dtype))

    def blurred(self, key: jax.Array, readings: Mapping[str, Noisy]) -> dict[str, jax.Array]:
        """The readings with noise, drawn in their order."""
        found = {}
        for name, (reading, scale) in readings.items():
            key, own = jax.random.split(key)
            noise = 2 * jax.random.uniform(own, reading.shape, reading.dtype) - 1
            found[name] = reading + noise * (self.noise_level * scale)
        return found


def weighted(task: MujocoTask, terms: Terms, dtype: Any) -> dict[str, jax.Array]:
    """The terms times their weights, which are options of the task, and the length of a step."""
    found = {}
    for name, term in terms.items():
        weight = getattr(task, f"{name}_weight")
        value = jnp.asarray(term(), dtype) if weight else jnp.zeros((), dtype)
        found[name] = value * weight * task.dt
    return found


def above_zero(terms: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The terms, and what lifts their sum to zero where it is below."""
    total = sum(terms.values())
    return {**terms, "floor": jnp.clip(total, 0.0, 10_000.0) - total}


def beyond(q: jax.Array, low: np.ndarray, high: np.ndarray) -> jax.Array:
    """() rad: by how much joints are outside of their limits, in all."""
    low, high = low.astype(q.dtype), high.astype(q.dtype)
    return jnp.sum(jnp.maximum(low - q, 0.0) + jnp.maximum(q - high, 0.0))


def square(x: jax.Array) -> jax.Array:
    """() the sum of squares."""
    return jnp.sum(jnp.square(x))


def advanced(key: jax.Array, times: int) -> jax.Array:
    """The key after so many have been split off."""
    for _ in range(times):
        key = jax.random.split(key)[0]
    return key


def turned_about_z(quat: np.ndarray, angle: jax.Array) -> jax.Array:
    """(4,) a rotation about the vertical, and then one that is given."""
    w, x, y, z = quat
    c, s = jnp.cos(0.5 * angle), jnp.sin(0.5 * angle)
    return jnp.stack([w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s])
