"""Running mean and variance of observations, the same on every device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim import sharding

CLIP = 10.0  # normalised observations are kept in [-CLIP, CLIP]
EPSILON = 1e-6  # added to the variance: a feature that never moves stays finite


class Statistics(NamedTuple):
    """What has been seen so far of each observation feature."""

    count: jax.Array  # () float32, samples seen; its rounding is far below one batch until 1e12
    mean: jax.Array  # (features,)
    variance: jax.Array  # (features,) population variance


def init(size: int) -> Statistics:
    """Statistics of nothing: `normalize` is then the identity up to EPSILON and CLIP."""
    return Statistics(jnp.zeros(()), jnp.zeros(size), jnp.ones(size))


def normalize(statistics: Statistics | None, obs: jax.Array) -> jax.Array:
    """(obs - mean) / standard deviation, clipped; obs itself without statistics.

    obs: (features, *batch).
    """
    if statistics is None:
        return obs
    ones = (1,) * (obs.ndim - 1)
    mean = statistics.mean.reshape(-1, *ones)
    scale = jax.lax.rsqrt(statistics.variance + EPSILON).reshape(-1, *ones)
    return jnp.clip((obs - mean) * scale, -CLIP, CLIP)


def measure(obs: jax.Array) -> Statistics:
    """Statistics of one batch, (features, samples)."""
    mean = obs.mean(1)
    return Statistics(jnp.float32(obs.shape[1]), mean, jnp.square(obs - mean[:, None]).mean(1))


def over_devices(batch: Statistics) -> Statistics:
    """Statistics of the batches of all devices, which are equally large; inside `spmd` only."""
    mean = sharding.mean(batch.mean)
    between = jnp.square(batch.mean - mean)
    variance = sharding.mean(batch.variance + between)
    return Statistics(sharding.total(batch.count), mean, variance)


def merge(old: Statistics, new: Statistics) -> Statistics:
    """Statistics of both sets of samples (Chan, Golub and LeVeque 1979): exact up to rounding.

    A feature whose new statistics are not finite keeps its old ones.
    """
    count = old.count + new.count
    share = new.count / count
    delta = new.mean - old.mean
    mean = old.mean + share * delta
    within = (1 - share) * old.variance + share * new.variance
    variance = within + share * (1 - share) * jnp.square(delta)
    finite = jnp.isfinite(mean) & jnp.isfinite(variance)
    return Statistics(
        count, jnp.where(finite, mean, old.mean), jnp.where(finite, variance, old.variance)
    )
