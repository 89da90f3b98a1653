"""Action distributions: a Gaussian with two ways to bring its samples into [-1, 1], and a choice.

A policy's network gives the parameters of one, from which a raw sample u is drawn; `to_action(u)`
is what the environment gets. Trajectories keep u: no density is ever evaluated at a clipped or
squashed value. Arrays: (actions, *batch).
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Normal(NamedTuple):
    """Independent Gaussians."""

    mean: jax.Array  # (actions, *batch)
    log_std: jax.Array  # broadcasts against mean


class Choice(NamedTuple):
    """One of several, with probabilities softmax(logits)."""

    logits: jax.Array  # (choices, *batch)


class Distribution(Protocol):
    """What learners need of `d`, a Normal or a Choice; `u` is always the raw sample."""

    @staticmethod
    def noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array: ...
    @staticmethod
    def sample(d: Any, noise: jax.Array, /) -> jax.Array: ...
    @staticmethod
    def mode(d: Any, /) -> jax.Array: ...
    @staticmethod
    def to_action(u: jax.Array) -> jax.Array: ...
    @staticmethod
    def log_prob(d: Any, u: jax.Array, /) -> jax.Array: ...
    @staticmethod
    def entropy(d: Any, u: jax.Array, /) -> jax.Array: ...


class Clipped:
    """Gaussian whose actions are clipped; log_prob is the density of u itself, in nats."""

    @staticmethod
    def noise(key, shape):
        """Standard normal."""
        return jax.random.normal(key, shape)

    @staticmethod
    def sample(normal, noise):
        """u = mean + std * noise, noise of the mean's shape."""
        return normal.mean + jnp.exp(normal.log_std) * noise

    @staticmethod
    def mode(normal):
        """The mean."""
        return normal.mean

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


class Tanh(Clipped):
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
        return Clipped.entropy(normal, u) + _log_slope(Clipped.sample(normal, z)).sum(0)


class Categorical:
    """A choice; u is which, (1, *batch) int32."""

    @staticmethod
    def noise(key, shape):
        """Gumbel: what is added to logits so that the largest is a draw."""
        return jax.random.gumbel(key, shape)

    @staticmethod
    def sample(choice, noise):
        """A draw; noise of the logits' shape."""
        return jnp.argmax(choice.logits + noise, axis=0, keepdims=True).astype(jnp.int32)

    @staticmethod
    def mode(choice):
        """The likeliest."""
        return jnp.argmax(choice.logits, axis=0, keepdims=True).astype(jnp.int32)

    @staticmethod
    def to_action(u):
        return u[0]

    @staticmethod
    def log_prob(choice, u):
        return jnp.take_along_axis(jax.nn.log_softmax(choice.logits, 0), u, 0)[0]

    @staticmethod
    def entropy(choice, u):
        """-Σ p log p."""
        log_p = jax.nn.log_softmax(choice.logits, 0)
        return -(jnp.exp(log_p) * log_p).sum(0)


def _log_slope(u):
    """log tanh'(u) = log(1 - tanh²u), without the cancellation at large |u|."""
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))


DISTRIBUTIONS: dict[str, type[Distribution]] = {
    "clip": Clipped,
    "tanh": Tanh,
    "choice": Categorical,
}
