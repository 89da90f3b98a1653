"""Losses: functions of arrays, of any shape, whose mean is taken. nats, unscaled."""

import chex
import jax
import jax.numpy as jnp
import optax


def clipped_surrogate(log_ratio: jax.Array, advantage: jax.Array, clip: float) -> jax.Array:
    """PPO's loss of the policy (arXiv:1707.06347, eq. 7), ρ = exp(log_ratio):

    -mean min(ρ A, clip(ρ, 1 - ε, 1 + ε) A)
    """
    chex.assert_equal_shape([log_ratio, advantage])
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean()


def policy_gradient(log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """REINFORCE's loss (Williams 1992): -mean A log π, whose gradient is the policy gradient."""
    chex.assert_equal_shape([log_prob, advantage])
    return -(log_prob * jax.lax.stop_gradient(advantage)).mean()


def value_error(value: jax.Array, target: jax.Array) -> jax.Array:
    """Half the mean squared error."""
    chex.assert_equal_shape([value, target])
    return 0.5 * jnp.square(value - target).mean()


def clipped_value_error(
    value: jax.Array, target: jax.Array, old: jax.Array, clip: float
) -> jax.Array:
    """`value_error`, or what it would be with the value no further than `clip` from the old one,
    sample by sample whichever is larger (OpenAI's baselines, ppo2)."""
    chex.assert_equal_shape([value, target, old])
    near = old + jnp.clip(value - old, -clip, clip)
    return 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(near - target)).mean()


def kl_estimate(log_ratio: jax.Array) -> jax.Array:
    """KL divergence of the old policy from the new: mean ρ - 1 - log ρ over samples of the old one
    (k3 of joschu.net/blog/kl-approx.html): never negative, without bias."""
    return (jnp.exp(log_ratio) - 1 - log_ratio).mean()


def clip_fraction(log_ratio: jax.Array, clip: float) -> jax.Array:
    """Share of samples whose ratio has left [1 - clip, 1 + clip]."""
    return (jnp.abs(jnp.exp(log_ratio) - 1) > clip).mean()


def td_target(reward: jax.Array, discount: jax.Array, next_value: jax.Array) -> jax.Array:
    """r + γ V(s'), and r alone where γ = 0, since the episode ended for good."""
    chex.assert_equal_shape([reward, discount, next_value])
    return reward + jnp.where(discount == 0, 0, discount * next_value)


def huber(value: jax.Array, target: jax.Array) -> jax.Array:
    """Half the mean squared error, and its slope at 1 for errors beyond."""
    chex.assert_equal_shape([value, target])
    return optax.losses.huber_loss(value, target).mean()


def soft_policy(log_prob: jax.Array, value: jax.Array, temperature: jax.Array) -> jax.Array:
    """SAC's loss of the policy (arXiv:1812.05905, eq. 9): mean α log π(a) - Q(a), a drawn anew."""
    chex.assert_equal_shape([log_prob, value])
    return (temperature * log_prob - value).mean()


def temperature(log_alpha: jax.Array, log_prob: jax.Array, target: float) -> jax.Array:
    """SAC's loss of the temperature (eq. 18): -α mean(log π + H), which lowers α where the entropy
    exceeds its target H."""
    return -jnp.exp(log_alpha) * (log_prob + target).mean()
