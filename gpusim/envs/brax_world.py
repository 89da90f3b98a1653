"""Brax's own environments on Brax's own physics as worlds; made by `registry.make`.

Nobody imports this file before it is needed, since importing Brax takes a second.
"""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
from brax import envs as brax_envs
from brax import fluid

from gpusim.envs.foreign_world import ForeignWorld
from gpusim.lanes.brax import LaneEnv
from gpusim.suggest import unknown

NAMES = {  # ours or Brax's name: Brax's
    **{name: name for name in ("ant", "halfcheetah", "hopper", "humanoid", "humanoidstandup")},
    **{name: name for name in ("inverted_pendulum", "inverted_double_pendulum", "pusher")},
    **{name: name for name in ("reacher", "swimmer", "walker2d")},
    "half_cheetah": "halfcheetah",
}


def make(name: str, backend: str, **options: Any) -> "BraxWorld":
    """Brax's environment `name` on one of its backends; the options are its constructor's."""
    if name not in NAMES:
        raise ValueError(unknown(f"environment of brax-{backend}", name, NAMES))
    if "a_min" not in inspect.signature(jnp.clip).parameters:
        # Brax 0.14 calls jnp.clip with names that JAX has given up
        fluid.jp = _OldNumpy()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        env = brax_envs.get_environment(NAMES[name], backend=backend, **options)
    except TypeError as error:
        wrong = str(error).partition("unexpected keyword argument ")[2]
        if not wrong:
            raise
        raise ValueError(
            f"Brax's own {name} (brax-{backend}) has no option {wrong}; its options are its "
            "constructor's, not those of gpusim's task of that name"
        ) from error
    return BraxWorld(env, f"{name} (brax-{backend})")


spring = functools.partial(make, backend="spring")
positional = functools.partial(make, backend="positional")
generalized = functools.partial(make, backend="generalized")


class _OldNumpy:
    """jax.numpy with the former names of clip's arguments."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    def clip(self, x: jax.Array, a_min: Any = None, a_max: Any = None) -> jax.Array:
        return jnp.clip(x, a_min, a_max)


class BraxWorld(ForeignWorld):
    """One world of a Brax environment."""

    def joints(self, carry: Any) -> tuple[jax.Array, jax.Array]:
        """Of the pipeline's state."""
        return carry.pipeline_state.q, carry.pipeline_state.qd

    def drawing(self) -> Any:
        """Brax's robot, as MuJoCo reads it."""
        return self.env.sys.mj_model

    @functools.cached_property
    def brax(self) -> LaneEnv:
        """The same as a `brax.envs.Env` whose reset and step are kernels, for Brax's learners."""
        return LaneEnv(self.env)
