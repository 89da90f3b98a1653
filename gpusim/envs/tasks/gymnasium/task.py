"""What Gymnasium's MuJoCo environments share: where their files are, and how an episode starts."""

import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import MujocoTask


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GymnasiumTask(MujocoTask):
    """A task of Gymnasium's, with its options; its `frame_skip` is `n_frames`.

    Actions are in [-1, 1] and mapped onto the original's control range. What the original's `info`
    names are metrics.
    """

    normal_velocities: ClassVar[bool] = False
    """Whether the noise on starting velocities is normal rather than uniform."""

    xml_file: str
    """The model: a file of Gymnasium's, or a path that begins with `.`, `/` or `~`."""

    def __post_init__(self):
        super().__post_init__()
        file_of(self.name, self.xml_file)  # a file that is not there is told at once

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model, with the numbers of the file."""
        return self.engine.load(file_of(self.name, self.xml_file))

    @functools.cached_property
    def init_qpos(self) -> np.ndarray:
        """(nq,) the model's reference pose: Gymnasium heeds no custom numeric."""
        return np.array(self.model.mj.qpos0)

    def noisy_start(self, key: jax.Array, scale: float) -> tuple[jax.Array, jax.Array]:
        """The model's pose with uniform noise, and a noisy velocity.

        As in the original, a quaternion with noise is not made of length 1; the physics reads it as
        if it were.
        """
        key_qpos, key_qvel = jax.random.split(key)
        noise = jax.random.uniform(key_qpos, (self.model.nq,), minval=-scale, maxval=scale)
        qpos = jnp.asarray(self.init_qpos, noise.dtype) + noise
        if self.normal_velocities:
            return qpos, scale * jax.random.normal(key_qvel, (self.model.nv,))
        return qpos, jax.random.uniform(key_qvel, (self.model.nv,), minval=-scale, maxval=scale)

    def body(self, name: str) -> int:
        """The number of a body."""
        return int(self.model.mj.body(name).id)


def file_of(name: str, xml_file: str) -> Path:
    """Where the model of a task is.

    Raises ValueError if it is nowhere, with what to install if it is Gymnasium's.
    """
    if xml_file.startswith((".", "/", "~")):
        path, remedy = Path(xml_file).expanduser(), ""
    else:
        remedy = "; its models come with Gymnasium 1.1 or later: pip install -U gymnasium"
        spec = importlib.util.find_spec("gymnasium")
        if spec is None or spec.origin is None:
            raise ValueError(f"environment {name!r}: gymnasium is not installed{remedy}")
        path = Path(spec.origin).parent / "envs" / "mujoco" / "assets" / xml_file
    if not path.is_file():
        raise ValueError(f"environment {name!r}: there is no file {path}{remedy}")
    return path.resolve()


def within(value: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """() bool: lie all of `value` strictly between the bounds?"""
    return ((bounds[0] < value) & (value < bounds[1])).all()


def effort(ctrl: jax.Array) -> jax.Array:
    """() the sum of squared controls, in the original's units."""
    return jnp.sum(jnp.square(ctrl))
