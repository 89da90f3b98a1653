"""Brax's own environments on Brax's own physics, compiled to lanes; made by `registry.make`.

Such an environment has two faces. It is a `brax.envs.Env`, for Brax's wrappers and learners; and it
has what `autoreset`, our learner and `gpusim.train` ask of an environment, by the same names.
Nobody imports this file before it is needed, since importing Brax takes a second.
"""

import collections
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
from brax import envs as brax_envs
from brax import fluid
from flax import struct

from gpusim import physics
from gpusim.envs.env import Env, State
from gpusim.envs.registry import unknown
from gpusim.lanes.brax import LaneEnv

BACKENDS = {f"brax-{name}": name for name in ("spring", "positional", "generalized")}
NAMES = {  # ours or Brax's name: Brax's
    **{name: name for name in ("ant", "halfcheetah", "hopper", "humanoid", "humanoidstandup")},
    **{name: name for name in ("inverted_pendulum", "inverted_double_pendulum", "pusher")},
    **{name: name for name in ("reacher", "swimmer", "walker2d")},
    "half_cheetah": "halfcheetah",
}


def make(name: str, physics: str, **options: Any) -> "BraxEnv":
    """Brax's environment `name` with physics "brax-spring", "brax-positional" or
    "brax-generalized"; the options are those of its constructor in Brax.
    """
    if physics not in BACKENDS:
        raise ValueError(unknown("physics", physics, ["mujoco", *BACKENDS]))
    if name not in NAMES:
        raise ValueError(unknown(f"environment of {physics}", name, NAMES))
    if "a_min" not in inspect.signature(jnp.clip).parameters:
        # Brax 0.14 calls jnp.clip with names that JAX has given up
        fluid.jp = _OldNumpy()  # pyright: ignore[reportAttributeAccessIssue]
    env = brax_envs.get_environment(NAMES[name], backend=BACKENDS[physics], **options)
    return BraxEnv(env, f"{name} ({physics})")


class _OldNumpy:
    """jax.numpy with the former names of clip's arguments."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    def clip(self, x: jax.Array, a_min: Any = None, a_max: Any = None) -> jax.Array:
        return jnp.clip(x, a_min, a_max)


@struct.dataclass
class BraxState(brax_envs.State):
    """Brax's State of one world, with gpusim's names for how an episode ended."""

    @property
    def terminated(self) -> jax.Array:
        """() bool: the step just made ended the episode."""
        return self.done > 0

    @property
    def truncated(self) -> jax.Array:
        """() bool: never here; time limits are the wrappers'."""
        return jnp.zeros_like(self.done, bool)


@functools.cache
def _metrics_type(*names: str):
    """One type for the same names: JAX takes states of equal but different types for unlike."""
    return collections.namedtuple("Metrics", names)


class BraxEnv(LaneEnv):
    """One world of a Brax environment."""

    env: Any  # Brax's own
    max_episode_steps = 1000  # Brax's default, for all of its environments

    def __init__(self, env: Any, name: str):
        super().__init__(env)
        self.name = name

    # ---- as Brax knows it

    def reset(self, rng: jax.Array) -> BraxState:
        """Start one world. Pure; `jax.vmap` it over keys for many."""
        return BraxState(**vars(super().reset(rng)))

    # ---- as `autoreset` knows it: pure, one world, not yet compiled

    def start(self, key: jax.Array) -> State:
        """A world at a start of its own, with a random stream of its own."""
        stream, start = jax.random.split(key)
        return self._seen(self.env.reset(start)).replace(key=stream)

    def transition(self, start: Any, memory: Any, action: jax.Array) -> State:
        """One control step. A world that blew up (a joint position or velocity that is not finite)
        terminates with reward, observation and metrics 0, but for `diverged`.
        """
        return self._seen(self.env.step(memory.replace(pipeline_state=start), action))

    def _seen(self, state: Any) -> State:
        """Brax's state in gpusim's terms; what Brax keeps besides the physics is `memory`."""
        joints: Any = state.pipeline_state
        diverged = ~(jnp.isfinite(joints.q).all() & jnp.isfinite(joints.qd).all())
        obs, reward, metrics = jax.tree.map(
            lambda x: jnp.where(diverged, jnp.zeros_like(x), x),
            (state.obs, state.reward, state.metrics),
        )
        names = _metrics_type(*sorted(metrics), "diverged")
        return State(
            physics=joints,
            memory=state.replace(pipeline_state=None, obs=obs, reward=reward, metrics=metrics),
            obs=obs,
            reward=reward,
            terminated=(state.done > 0) | diverged,
            truncated=jnp.zeros((), bool),
            metrics=names(**metrics, diverged=diverged.astype(reward.dtype)),
            key=None,
        )

    # ---- facts

    @functools.cached_property
    def model(self) -> physics.Model:
        """The robot for MuJoCo, to render it."""
        return physics.load(self.env.sys.mj_model)

    @property
    def dt(self) -> float:
        """Length of a control step, in seconds."""
        return float(self.env.dt)

    action_low, action_high = Env.action_low, Env.action_high  # -1 and 1
