"""Augmented random search (arXiv:1803.07055) on the device: random search in the parameters of a
linear policy of normalised observations, along the best of many directions.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from gpusim.agents import es


@dataclass(frozen=True)
class Config(es.Config):
    """Augmented random search, version V2-t."""

    num_envs: int = 512
    """Worlds simulated at once, all devices together: two for each direction, times episodes."""
    elite: float = 0.25
    """Share of the directions, the best, that count."""
    noise_std: float = 0.03
    """Standard deviation of the noise on the parameters."""
    learning_rate: float = 0.02
    """Length of a step along the mean of the directions, each weighed by its gain in standard
    deviations of the returns."""
    weight_decay: float = 0.0
    """Share of the parameters by which the gradient pulls them to zero."""
    policy_hidden: tuple[int, ...] = ()
    """Widths of the policy's hidden layers; () is a linear policy."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        self.require(0 < self.elite <= 1, "elite", "in (0, 1]")


class Ars(es.Es):
    """The algorithm."""

    def optimizer(self) -> optax.GradientTransformation:
        """Plain steps."""
        return optax.sgd(self.config.learning_rate)

    def weights(self, plus: jax.Array, minus: jax.Array) -> jax.Array:
        """What the noise of each pair is worth, (pairs,): the gain in standard deviations, for the
        pairs with the best members; they are averaged."""
        count = max(1, round(self.config.elite * plus.size))
        best = jnp.maximum(plus, minus)
        counts = best >= jnp.sort(best)[-count]
        returns = jnp.stack([plus, minus])
        mean = jnp.where(counts, returns, 0).sum() / (2 * counts.sum())
        variance = jnp.where(counts, jnp.square(returns - mean), 0).sum() / (2 * counts.sum())
        gain = (plus - minus) * jax.lax.rsqrt(variance + 1e-8)
        return jnp.where(counts, gain, 0) / counts.sum()


Learner = Ars
