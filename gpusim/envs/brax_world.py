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

from gpusim.envs.world import Box, State, World
from gpusim.lanes.brax import LaneEnv
from gpusim.suggest import unknown

NAMES = {  # ours or Brax's name: Brax's
    **{name: name for name in ("ant", "halfcheetah", "hopper", "humanoid", "humanoidstandup")},
    **{name: name for name in ("inverted_pendulum", "inverted_double_pendulum", "pusher")},
    **{name: name for name in ("reacher", "swimmer", "walker2d")},
    "half_cheetah": "halfcheetah",
}

BACKENDS = ("spring", "positional", "generalized")


def make(name: str, backend: str, **options: Any) -> "BraxWorld":
    """Brax's environment `name` on one of its backends; the options are its constructor's."""
    if name not in NAMES:
        raise ValueError(unknown(f"environment of brax-{backend}", name, NAMES))
    if "a_min" not in inspect.signature(jnp.clip).parameters:
        # Brax 0.14 calls jnp.clip with names that JAX has given up
        fluid.jp = _OldNumpy()  # pyright: ignore[reportAttributeAccessIssue]
    env = brax_envs.get_environment(NAMES[name], backend=backend, **options)
    return BraxWorld(env, f"{name} (brax-{backend})")


def named(name: str, **options: Any) -> "BraxWorld":
    """The same by one name, NAME@BACKEND."""
    name, _, backend = name.partition("@")
    if backend not in BACKENDS:
        names = [f"{name}@{known}" for known in BACKENDS]
        raise ValueError(unknown("environment of brax", f"{name}@{backend}".rstrip("@"), names))
    return make(name, backend, **options)


spring = functools.partial(make, backend="spring")
positional = functools.partial(make, backend="positional")
generalized = functools.partial(make, backend="generalized")


class _OldNumpy:
    """jax.numpy with the former names of clip's arguments."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    def clip(self, x: jax.Array, a_min: Any = None, a_max: Any = None) -> jax.Array:
        return jnp.clip(x, a_min, a_max)


class BraxWorld(World):
    """One world of a Brax environment; it carries Brax's own State."""

    def __init__(self, env: Any, name: str):
        self.env = env
        self.name = name
        self.dt = float(env.dt)
        self.action_space = Box(env.action_size)

    def start(self, key: jax.Array) -> State:
        """Brax's reset."""
        return self._seen(self.env.reset(key))

    def transition(self, state: State, action: jax.Array) -> State:
        """Brax's step. A world that blew up (a joint position or velocity that is not finite)
        terminates with reward, observation and metrics 0, but for `diverged`.
        """
        return self._seen(self.env.step(state.carry, action))

    def _seen(self, state: Any) -> State:
        """Brax's state in gpusim's terms."""
        joints: Any = state.pipeline_state
        diverged = ~(jnp.isfinite(joints.q).all() & jnp.isfinite(joints.qd).all())
        obs, reward, metrics = jax.tree.map(
            lambda x: jnp.where(diverged, jnp.zeros_like(x), x),
            (state.obs, state.reward, state.metrics),
        )
        return State(
            carry=state.replace(obs=obs, reward=reward, metrics=metrics),
            obs=obs,
            reward=reward,
            terminated=(state.done > 0) | diverged,
            truncated=jnp.zeros((), bool),
            metrics={**metrics, "diverged": diverged.astype(reward.dtype)},
        )

    def drawing(self) -> Any:
        """Brax's robot, as MuJoCo reads it."""
        return self.env.sys.mj_model

    def pose(self, state: State) -> jax.Array:
        """Where it is."""
        return state.carry.pipeline_state.q

    @functools.cached_property
    def brax(self) -> LaneEnv:
        """The same as a `brax.envs.Env` whose reset and step are kernels, for Brax's learners."""
        return LaneEnv(self.env)
