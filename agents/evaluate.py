"""How good is a policy: whole episodes from fresh starts, without autoreset."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@partial(jax.jit, static_argnames=("env", "policy_apply", "num_envs", "episode_length"))
def evaluate(
    env: Any,
    policy_apply: Callable[[Any, jax.Array], jax.Array],
    policy: Any,
    key: jax.Array,
    num_envs: int,
    episode_length: int,
) -> dict[str, jax.Array]:
    """Return of `num_envs` episodes of at most `episode_length` control steps.

    env: one world (reset and step). policy_apply(policy, obs): actions for obs (worlds, features).
    Rewards count up to and including the step that terminates. Gives return_mean and return_std
    over worlds, length_mean in control steps, and alive, the share of worlds never terminated.
    """

    def step(carry, _):
        state, alive, total, length = carry
        state = jax.vmap(env.step)(state, policy_apply(policy, state.obs))
        total = total + jnp.where(alive, state.reward, 0.0)
        length = length + alive
        return (state, alive & ~state.terminated, total, length), None

    state = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    alive, zero = jnp.ones(num_envs, bool), jnp.zeros(num_envs)
    start = (state, alive, zero, zero)
    (_, alive, total, length), _ = jax.lax.scan(step, start, length=episode_length)
    return {
        "return_mean": total.mean(),
        "return_std": total.std(),
        "length_mean": length.mean(),
        "alive": alive.mean(),
    }
