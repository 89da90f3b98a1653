"""Worlds that are environments of somebody else's, with the `reset` and `step` of Brax's kind."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

from gpusim.envs.world import Box, State, World


class ForeignWorld(World):
    """One world of such an environment; it carries that one's own State."""

    def __init__(self, env: Any, name: str):
        self.env = env
        self.name = name
        self.dt = float(env.dt)
        self.action_space = Box(env.action_size)

    @abc.abstractmethod
    def joints(self, carry: Any) -> tuple[jax.Array, jax.Array]:
        """Positions (nq,) and velocities (nv,) in the environment's State."""

    def seen(self, obs: Any) -> Any:
        """The environment's observation as it is called here."""
        return obs

    def start(self, key: jax.Array) -> State:
        """The environment's reset."""
        return self._told(self.env.reset(key))

    def transition(self, state: State, action: jax.Array) -> State:
        """The environment's step. A world that blew up (a joint position or velocity that is not
        finite) terminates with reward, observation and metrics 0, but for `diverged`.
        """
        return self._told(self.env.step(state.carry, action))

    def pose(self, state: State) -> jax.Array:
        """Where it is."""
        return self.joints(state.carry)[0]

    def _told(self, carry: Any) -> State:
        """The environment's State in gpusim's terms."""
        q, qd = self.joints(carry)
        diverged = ~(jnp.isfinite(q).all() & jnp.isfinite(qd).all())
        obs, reward, metrics = jax.tree.map(
            lambda x: jnp.where(diverged, jnp.zeros_like(x), x),
            (self.seen(carry.obs), carry.reward, dict(carry.metrics)),
        )
        return State(
            carry=jax.tree.map(jnp.asarray, carry),  # a reward may come as Python's
            obs=obs,
            reward=reward,
            terminated=(carry.done > 0) | diverged,
            truncated=jnp.zeros((), bool),
            metrics={**metrics, "diverged": diverged.astype(reward.dtype)},
        )
