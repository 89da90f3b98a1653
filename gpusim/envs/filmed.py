"""A world that may be seen through a camera of its MuJoCo model: `--env.camera NAME`.

Its observation is then the film, which is short: where the robot was in the last few steps. The
pictures are drawn of it where they are looked at.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gpusim import lanes, physics
from gpusim.envs.world import World, WorldError
from gpusim.physics.camera import GROUPS, Camera, find, image
from gpusim.physics.kinematics import kinematics

STRIP = 512  # pixels of a picture that one lane draws, one after the other: a row at least
_CHANNELS = {"rgb": 3, "depth": 1, "rgbd": 4}
# Numbers of a model, if a world has its own, on which it depends where geoms and cameras are.
_NUMBERS = ("geom_size", "qpos0", "body_mass", "body_ipos")


class Film(NamedTuple):
    """What pictures are drawn of; the newest is the first."""

    qpos: jax.Array  # (frames, nq)
    mocap: physics.Mocap | None  # (frames, ...) each
    numbers: Mapping[str, jax.Array | physics.Some]  # of this world's model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Filmed(World):
    """How a task is seen. The dataclass fields are its options."""

    camera: str = ""
    """The camera of the model through which the policy sees; by default it sees numbers."""
    camera_image: Literal["rgb", "depth", "rgbd"] = "rgb"
    """What the camera gives: colours, depths, or both."""
    camera_size: tuple[int, int] = (64, 64)
    """Height and width of a picture, pixels."""
    camera_frames: int = 3
    """How many pictures the policy sees at once, the newest first."""
    camera_far: float = 10.0
    """How far the camera sees, m; a depth of 1 is there."""
    camera_groups: tuple[int, ...] = GROUPS
    """Groups of geoms that are drawn."""

    model: ClassVar[Any]
    """The physics.Model of the world, a property."""

    def __post_init__(self):
        if not self.camera:
            for field in dataclasses.fields(self):
                usual = getattr(self, field.name) == field.default
                idle = field.name.startswith("camera_") and not usual
                self.require(not idle, field.name, "of effect without a camera")
            return
        count = lambda x: isinstance(x, int | np.integer) and bool(x >= 1)
        sizes = len(self.camera_size) == 2 and min(map(count, self.camera_size))
        self.require(sizes, "camera_size", "a height and a width from 1 on")
        self.require(count(self.camera_frames), "camera_frames", "a whole number from 1 on")
        single = np.finfo(np.float32)
        distance = single.tiny <= self.camera_far <= single.max
        self.require(bool(distance), "camera_far", "a distance, m, that 32 bits hold")
        kinds = ", ".join(_CHANNELS)
        self.require(self.camera_image in _CHANNELS, "camera_image", f"one of {kinds}")
        self.require(self.agents == 1, "camera", "offered where several agents act")
        _ = self._camera  # one that there is not is told at once

    def require(self, condition: bool, option: str, needs: str) -> None:
        """Raise ValueError, saying what the option needs to be, unless `condition`."""
        if not condition:
            value = getattr(self, option)
            raise ValueError(f"environment {self.name!r}: {option} is {value}, not {needs}")

    # ---- what the film is, of one world

    def first_film(self, at: physics.State, numbers: Mapping[str, jax.Array | physics.Some]) -> Any:
        """At a start, having stood still; of a world with these numbers of its own."""
        if not self.camera:
            return ()
        still = lambda x: jnp.repeat(x[None], self.camera_frames, axis=0)
        seen = {name: x for name, x in numbers.items() if name in _NUMBERS}
        return Film(still(at.qpos), jax.tree.map(still, at.mocap), seen)

    def next_film(self, film: Any, at: physics.State) -> Any:
        """After a step: the oldest frame is lost."""
        if not self.camera:
            return ()
        moved = lambda old, x: jnp.concatenate([x[None], old[:-1]])
        mocap = jax.tree.map(moved, film.mocap, at.mocap)
        return film._replace(qpos=moved(film.qpos, at.qpos), mocap=mocap)

    @staticmethod
    def of_film(film: Film) -> jax.Array:
        """All its numbers, (features,)."""
        return ravel_pytree(film)[0]

    # ---- what is drawn of it

    def picture(self, obs: Any) -> jax.Array | None:
        """(height, width, frames * channels): the newest frame first; None without a camera."""
        if not self.camera:
            return None
        if np.shape(obs) != (self.observation_size,):
            raise ValueError(
                f"{self.name}: a picture is drawn of one observation ({self.observation_size},), "
                f"not of {np.shape(obs)}; many are drawn by jax.vmap(env.picture)(obs)"
            )
        film: Film = self._film_of(obs)
        strips = jnp.arange(0, self.camera_size[0], self._rows)
        strip = lambda at, first: self._strip_kernel(at, film.numbers, first)
        frame = lambda at: jax.vmap(lambda first: strip(at, first))(strips)
        drawn = jax.vmap(frame)(film[:2])  # (frames, strips, rows, width, channels)
        return jnp.moveaxis(drawn, 0, 3).reshape(*self.camera_size, -1)

    @functools.cached_property
    def picture_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels) of what the policy sees; None: it sees numbers."""
        if type(self).picture is not Filmed.picture:
            return super().picture_shape
        channels = self.camera_frames * _CHANNELS[self.camera_image]
        return (*self.camera_size, channels) if self.camera else None

    @property
    def picture_colours(self) -> int:
        """How many of the first channels are to be shown: 3 of colours, 1 of depths."""
        if type(self).picture is not Filmed.picture:
            return super().picture_colours
        return min(_CHANNELS[self.camera_image], 3)

    @functools.cached_property
    def _camera(self) -> Camera:
        try:
            return find(self.model, self.camera, self.camera_groups)
        except ValueError as error:
            raise WorldError(f"environment {self.name!r}: {error}") from error

    @functools.cached_property
    def _film_of(self) -> Callable[[jax.Array], Any]:
        """The inverse of `of_film`."""
        film = jax.eval_shape(self.start, jax.random.key(0)).carry.film
        return ravel_pytree(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), film))[1]

    @functools.cached_property
    def _rows(self) -> int:
        """Of a strip, as many as divide a picture and are small."""
        height, width = self.camera_size
        fits = lambda n: height % n == 0 and n * width <= STRIP
        return max(filter(fits, range(1, height + 1)), default=1)

    @functools.cached_property
    def _strip_kernel(self):
        return lanes.kernel(self._strip)

    def _strip(self, at: tuple, numbers: Mapping[str, jax.Array], first: jax.Array) -> jax.Array:
        """(rows, width, channels), from row `first` on, of where one world was."""
        qpos, mocap = at
        model = self.model.replace(**numbers).astype(qpos.dtype)
        pose, (height, width) = kinematics(model, qpos, mocap), self.camera_size
        options: Any = {"height": height, "width": width, "far": self.camera_far}
        seen = image(model, pose, self._camera, **options, first=first, rows=self._rows)
        depth = seen.depth[..., None] / self.camera_far
        if self.camera_image == "rgbd":
            return jnp.concatenate([seen.rgb, depth], axis=-1)
        return depth if self.camera_image == "depth" else seen.rgb
