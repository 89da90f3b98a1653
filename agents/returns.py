"""Returns and advantages of batched trajectories."""

import chex
import jax
import jax.numpy as jnp


def gae(
    reward_t: jax.Array,
    value_t: jax.Array,
    value_tp1: jax.Array,
    terminated_t: jax.Array,
    truncated_t: jax.Array,
    *,
    discount: float,
    lambda_: float,
) -> jax.Array:
    """Generalised advantage estimates where episodes end in two ways (arXiv:1506.02438, eq. 16).

        δ_t = r_t + γ V_{t+1} - V_t,            V_{t+1} := 0 where terminated
        A_t = δ_t + γλ A_{t+1},                 A_{t+1} := 0 where terminated or truncated

    value_tp1 is the value of the observation the step led to, *before* any reset. So a truncated
    episode still bootstraps from where it was cut, and a terminated one from nothing, even if its
    last observation is not finite. All arguments are (T, worlds); A_t + V_t is the value's target.
    """
    chex.assert_equal_shape([reward_t, value_t, value_tp1, terminated_t, truncated_t])
    delta_t = reward_t + discount * jnp.where(terminated_t, 0.0, value_tp1) - value_t
    decay_t = jnp.where(terminated_t | truncated_t, 0.0, discount * lambda_)

    def backwards(advantage_tp1, step):
        delta, decay = step
        advantage = delta + decay * advantage_tp1
        return advantage, advantage

    last = jnp.zeros_like(delta_t[0])
    return jax.lax.scan(backwards, last, (delta_t, decay_t), reverse=True)[1]
