"""Rewards brought to a scale of their own making: divided by the spread of discounted returns.

As Gymnasium's NormalizeReward does it, over all worlds. The mean stays: rewards keep their sign.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim.agents import normalize


class Scale(NamedTuple):
    """What is known of the rewards so far."""

    returns: jax.Array  # (worlds,) discounted sum of the rewards of the running episode
    statistics: normalize.Statistics  # of all such sums, one feature


def init(worlds: int) -> Scale:
    """Nothing is known: rewards stay as they are."""
    return Scale(jnp.zeros(worlds), normalize.init(jnp.zeros(1)))


def watch(scale: Scale, reward: jax.Array, done: jax.Array, discount: float) -> Scale:
    """The scale after rewards (T, worlds); done (T, worlds): the step ended the episode.

    G_t = r_t + γ G_{t-1}, which begins anew with every episode.
    """

    def step(before, now):
        reward, done = now
        after = reward + discount * before
        return jnp.where(done, 0, after), after

    running, returns = jax.lax.scan(step, scale.returns, (reward, done))
    running = jnp.where(jnp.isfinite(running), running, 0)
    seen = normalize.over_devices(normalize.measure(returns.reshape(1, -1)))
    return Scale(running, normalize.merge(scale.statistics, seen))


def scaled(scale: Scale, reward: jax.Array) -> jax.Array:
    """Rewards in units of the standard deviation of returns."""
    return reward * jax.lax.rsqrt(scale.statistics.variance[0] + normalize.EPSILON)
