"""REINFORCE with a baseline (Williams 1992) on the device: one gradient step an update.

What an action earned, less what the value network expected, weighs the gradient of its
probability. Returns bootstrap from the value network where the unroll or the time limit cuts them.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpusim import sharding
from gpusim.agents import losses
from gpusim.agents.actor_critic import ActorCritic, Trajectory
from gpusim.agents.config import ActorCriticConfig
from gpusim.agents.learner import TrainState
from gpusim.agents.returns import gae


@dataclass(frozen=True)
class Config(ActorCriticConfig):
    """REINFORCE with a learned baseline."""

    learning_rate: float = 3e-3
    """Adam's step size (at the start, if annealed); every batch is used once."""


class Reinforce(ActorCritic):
    """The algorithm."""

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play, and take one step along the policy gradient."""
        state = self.annealed(state)
        key = jax.random.fold_in(state.key, state.updates)
        memory = state.memory
        state, seen, trajectory = self.experience(state, key)
        state, reward = self.scaled(state, trajectory)
        advantage = gae(
            reward,
            trajectory.value,
            trajectory.next_value,
            trajectory.terminated,
            trajectory.truncated,
            discount=self.config.discount,
            lambda_=1.0,
        )
        params, optimizer, metrics = self.gradient_step(
            *(state.params, state.optimizer),
            *(self.loss, memory, trajectory, advantage, self.entropy_cost(state)),
        )
        metrics |= {"reward": trajectory.reward.mean()}
        return self.learned(state, seen, params, optimizer), metrics

    def loss(
        self,
        params: Any,
        memory: Any,
        trajectory: Trajectory,
        advantage: jax.Array,
        entropy_cost: Any,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Policy gradient + value_cost * value error - entropy_cost * entropy.

        Advantages are brought to mean 0 and variance 1 over all devices; they are (T, worlds).
        """
        config = self.config
        features_first = lambda x: jnp.moveaxis(x, -2, 0)  # (T, features, worlds)
        obs = self.look(params, jax.tree.map(features_first, trajectory.obs))
        action = features_first(trajectory.action)
        begins = self.begins(trajectory)
        found = self.said("policy", params, memory, obs, begins)
        mean, variance = sharding.moments(advantage)
        policy_loss = losses.policy_gradient(
            self.distribution.log_prob(found, action),
            (advantage - mean) * jax.lax.rsqrt(variance + 1e-8),
        )
        value = self.said("value", params, memory, obs, begins)
        value_loss = losses.value_error(value, advantage + trajectory.value)
        entropy = self.distribution.entropy(found, action).mean()
        loss = policy_loss + config.value_cost * value_loss - entropy_cost * entropy
        return loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            **self.exploration(found),
        }


Learner = Reinforce
