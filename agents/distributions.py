"""Action distributions: a Gaussian, and two ways to bring its samples into [-1, 1].

A policy draws a raw sample u from Normal and hands `to_action(u)` to the environment. Trajectories
keep u: no density is ever evaluated at a clipped or squashed value. Arrays: (actions, *batch).
"""

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Normal(NamedTuple):
    """Independent Gaussians."""

    mean: jax.Array  # (actions, *batch)
    log_std: jax.Array  # broadcasts against mean


class Distribution(Protocol):
    """What PPO needs; `u` is always the raw sample."""

    @staticmethod
    def to_action(u: jax.Array) -> jax.Array: ...
    @staticmethod
    def log_prob(normal: Normal, u: jax.Array) -> jax.Array: ...
    @staticmethod
    def entropy(normal: Normal, u: jax.Array) -> jax.Array: ...


def sample(normal: Normal, noise: jax.Array) -> jax.Array:
    """Raw samples u = mean + std * noise, noise standard normal of the mean's shape."""
    return normal.mean + jnp.exp(normal.log_std) * noise


class Clipped:
    """Gaussian whose actions are clipped; log_prob is the density of u itself, in nats."""

    @staticmethod
    def to_action(u):
        return jnp.clip(u, -1.0, 1.0)

    @staticmethod
    def log_prob(normal, u):
        """-z²/2 - log std - log(2π)/2, summed over actions, z = (u - mean) / std."""
        z = (u - normal.mean) * jnp.exp(-normal.log_std)
        constant = 0.5 * math.log(2 * math.pi)
        return -(0.5 * jnp.square(z) + normal.log_std + constant).sum(0)

    @staticmethod
    def entropy(normal, u):
        """log std + (1 + log 2π) / 2, summed over actions."""
        constant = 0.5 * (1 + math.log(2 * math.pi))
        return (jnp.broadcast_to(normal.log_std, normal.mean.shape) + constant).sum(0)


class Tanh:
    """Gaussian squashed by tanh (arXiv:1801.01290, appendix C); log_prob is that of tanh(u)."""

    @staticmethod
    def to_action(u):
        return jnp.tanh(u)

    @staticmethod
    def log_prob(normal, u):
        return Clipped.log_prob(normal, u) - _log_slope(u).sum(0)

    @staticmethod
    def entropy(normal, u):
        """One-sample estimate H[u] + log tanh'(u), with the gradient of a fresh sample at u."""
        z = jax.lax.stop_gradient((u - normal.mean) * jnp.exp(-normal.log_std))
        return Clipped.entropy(normal, u) + _log_slope(sample(normal, z)).sum(0)


def _log_slope(u):
    """log tanh'(u) = log(1 - tanh²u), without the cancellation at large |u|."""
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))


DISTRIBUTIONS: dict[str, type[Distribution]] = {"clip": Clipped, "tanh": Tanh}
