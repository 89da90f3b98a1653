"""Running mean and variance of observations, the same on every device.

An observation is an array or a dict of arrays, (features, *batch) each; so are mean and variance.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpusim import sharding
from gpusim.envs.world import ALLOWED

CLIP = 10.0  # normalised observations are kept in [-CLIP, CLIP]
EPSILON = 1e-6  # added to the variance: a feature that never moves stays finite


class Statistics(NamedTuple):
    """What has been seen so far of each observation feature."""

    count: jax.Array  # () float32, samples seen; its rounding is far below one batch until 1e12
    mean: Any  # (features,) of each part
    variance: Any  # (features,) of each part: population variance


def init(obs: Any) -> Statistics:
    """Statistics of nothing, for observations like this one, (features,): `normalize` is then the
    identity up to EPSILON and CLIP."""
    ones = jax.tree.map(jnp.ones_like, obs)
    return Statistics(jnp.zeros(()), jax.tree.map(jnp.zeros_like, obs), ones)


def normalize(statistics: Statistics | None, obs: Any) -> Any:
    """(obs - mean) / standard deviation, clipped; obs itself without statistics. Which choices are
    allowed stays as it is.

    obs: (features, *batch).
    """
    if statistics is None:
        return obs

    def part(mean, variance, x):
        ones = (1,) * (x.ndim - mean.ndim)
        scale = jax.lax.rsqrt(variance + EPSILON).reshape(*mean.shape, *ones)
        return jnp.clip((x - mean.reshape(*mean.shape, *ones)) * scale, -CLIP, CLIP)

    normal = jax.tree.map(part, statistics.mean, statistics.variance, obs)
    if isinstance(obs, Mapping) and ALLOWED in obs:
        normal = {**normal, ALLOWED: obs[ALLOWED]}
    return normal


def measure(obs: Any) -> Statistics:
    """Statistics of one batch, (features, samples)."""
    count = jnp.float32(jax.tree.leaves(obs)[0].shape[-1])
    mean = jax.tree.map(lambda x: x.mean(-1), obs)
    variance = jax.tree.map(lambda x, m: jnp.square(x - m[..., None]).mean(-1), obs, mean)
    return Statistics(count, mean, variance)


def over_devices(batch: Statistics) -> Statistics:
    """Statistics of the batches of all devices, which are equally large; inside `spmd` only."""
    mean = sharding.mean(batch.mean)
    spread = lambda v, own, all_: v + jnp.square(own - all_)
    variance = sharding.mean(jax.tree.map(spread, batch.variance, batch.mean, mean))
    return Statistics(sharding.total(batch.count), mean, variance)


def merge(old: Statistics, new: Statistics) -> Statistics:
    """Statistics of both sets of samples (Chan, Golub and LeVeque 1979): exact up to rounding.

    A feature whose new statistics are not finite keeps its old ones.
    """
    count = old.count + new.count
    share = new.count / count

    def part(old_mean, old_variance, new_mean, new_variance):
        delta = new_mean - old_mean
        mean = old_mean + share * delta
        within = (1 - share) * old_variance + share * new_variance
        variance = within + share * (1 - share) * jnp.square(delta)
        finite = jnp.isfinite(mean) & jnp.isfinite(variance)
        return jnp.where(finite, mean, old_mean), jnp.where(finite, variance, old_variance)

    tree = jax.tree.structure(old.mean)
    parts = map(jax.tree.leaves, (old.mean, old.variance, new.mean, new.variance))
    merged = [part(*leaves) for leaves in zip(*parts, strict=True)]
    mean, variance = (jax.tree.unflatten(tree, [m[k] for m in merged]) for k in (0, 1))
    return Statistics(count, mean, variance)
