"""The same two tasks on rough ground, which is seen by a scan of its heights."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.envs.tasks.roboschool.flagrun import HumanoidFlagrun
from gpusim.envs.tasks.roboschool.harder import HumanoidFlagrunHarder
from gpusim.envs.tasks.roboschool.humanoid import APART, Body, angles
from gpusim.envs.tasks.roboschool.terrain import Terrain
from gpusim.physics.mirror import Signed, joined, rows

AHEAD = np.arange(-0.4, 1.7, 0.4)  # m before the torso, where the scan looks
ASIDE = np.arange(-0.8, 0.9, 0.4)  # m to its left


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidFlagrunRough(HumanoidFlagrun):
    """Run to flags over hills and around boxes.

    As `humanoid_flagrun`, with heights above the ground below the torso; starts are somewhere in
    the terrain, which is the same for all worlds. Observed besides: how much higher the ground, or
    what stands on it, is at 6 x 5 places around the robot than below it, m.
    """

    name: ClassVar[str] = "humanoid_flagrun_rough"
    reach: ClassVar[float] = 0.3
    """m, of a body that starts."""

    roughness: float = 0.3
    """Height between the lowest and the highest place of the ground, m."""
    obstacles: int = 40
    """Boxes that stand around."""
    terrain_seed: int = 0
    """Which terrain: for held-out ones, another number."""

    def __post_init__(self):
        super().__post_init__()
        self.require(0 <= self.roughness <= 2, "roughness", "a number from 0 to 2")
        self.require(0 <= self.obstacles <= 500, "obstacles", "a whole number from 0 to 500")
        self.require(self.terrain_seed >= 0, "terrain_seed", "a whole number from 0 on")

    @functools.cached_property
    def terrain(self) -> Terrain:
        """The ground. Raises ValueError if there is no room for the robots."""
        apart = APART if self.robots > 1 else 0.0
        size = self.roughness, self.obstacles
        found = Terrain.drawn(self.terrain_seed, *size, reach=self.reach, apart=apart)
        free = len(found.places)
        few = f"few enough to leave places to start at: {free} for {self.robots} robots"
        self.require(free >= self.robots, "obstacles", few)
        return found

    def furnish(self, spec: mujoco.MjSpec) -> None:
        """The terrain."""
        self.terrain.build(spec)

    def ground(self, place: jax.Array) -> jax.Array:
        """() m: how high the ground is at a place (2,)."""
        return self.terrain.ground(place)

    def places(self, key: jax.Array) -> jax.Array:
        """(3,) m for each robot: different ones of those where there is room."""
        places = self.terrain.places
        first = jax.random.randint(key, (), 0, len(places))
        which = (first + np.arange(self.robots)) % len(places)
        found = jnp.asarray(places, float)[which]
        return found[0] if self.robots == 1 else found

    def seen(self, memory: Any, body: Body) -> jax.Array:
        """As on flat ground, and (30,) the scan: row by row from behind to ahead, from right to
        left in each."""
        return jnp.concatenate([super().seen(memory, body), self.scan(body)])

    def image(self) -> Signed:
        """With the rows of the scan the other way round."""
        scan = np.arange(len(AHEAD) * len(ASIDE)).reshape(len(AHEAD), -1)[:, ::-1]
        return joined(super().image(), rows(scan.ravel(), [1]))

    def scan(self, body: Body) -> jax.Array:
        """(30,) m: heights around a robot, above the ground below it."""
        yaw = angles(body.qpos[3:7])[2]
        c, s = jnp.cos(yaw), jnp.sin(yaw)
        ahead, aside = (x.ravel() for x in np.meshgrid(AHEAD, ASIDE, indexing="ij"))
        around = jnp.stack([c * ahead - s * aside, s * ahead + c * aside], axis=1)
        places = body.qpos[:2] + around.astype(body.qpos.dtype)
        heights = jax.vmap(self.terrain.surface)(places) - body.ground
        return jnp.clip(heights, -5, 5)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidHarderRough(HumanoidFlagrunRough, HumanoidFlagrunHarder):
    """Get up on rough ground, run to flags around boxes, and be hit by cubes.

    As `humanoid_flagrun_harder`, with heights above the ground below the torso, and the scan of
    `humanoid_flagrun_rough`.
    """

    name: ClassVar[str] = "humanoid_flagrun_harder_rough"
    reach: ClassVar[float] = 1.4
