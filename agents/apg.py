"""Analytic policy gradients: what an unroll earns, differentiated through the physics itself.

Each unroll is a short horizon. Where it or the time limit cuts an episode, the value network says
what the rest is worth, as in SHAC (arXiv:2204.07137); without it a policy would learn to live for
`unroll_length` steps. Gradients pass from step to step, but not through a restart.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from gpusim import sharding
from gpusim.agents import losses
from gpusim.agents.actor_critic import ActorCritic, Trajectory
from gpusim.agents.config import ActorCriticConfig
from gpusim.agents.learner import TrainState
from gpusim.agents.returns import gae
from gpusim.envs.vec_env import DifferentiableVecEnv, HostedVecEnv
from gpusim.envs.world import Box, World


@dataclass(frozen=True)
class Config(ActorCriticConfig):
    """Analytic policy gradients."""

    num_envs: int = 256
    """Worlds that are stepped in parallel, on all devices together."""
    unroll_length: int = 32
    """Control steps of each world in an update, through which gradients go."""
    learning_rate: float = 2e-3
    """Adam's step size (at the start, if annealed)."""
    gae_lambda: float = 0.95
    """How far the value's targets look at rewards: 0 a step, 1 to the unroll's end."""
    initial_std: float = 0.3
    """Standard deviation of the first policy's raw actions."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        self.require(0 <= self.gae_lambda <= 1, "gae_lambda", "in [0, 1]")


class APG(ActorCritic):
    """The algorithm."""

    sees_pictures = False

    def __init__(self, config: Config, world: World, **options: Any):
        if not isinstance(world.action_space, Box):
            raise ValueError(f"{world.name}: apg needs actions that are numbers, not choices")
        super().__init__(config, world, **options)
        if isinstance(self.worlds, HostedVecEnv):
            raise ValueError(f"{world.name} steps on the host, where apg finds no derivatives")
        self.worlds = DifferentiableVecEnv.of(self.worlds)

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play, and take one step up the gradient of what that earned."""
        state = self.annealed(state)
        find = jax.grad(self.loss, has_aux=True)
        gradients, (after, seen, metrics) = find(state.params, state)
        params, optimizer, metrics = self.descend(
            state.params, state.optimizer, sharding.mean(gradients), metrics
        )
        return self.learned(replace(after, params=state.params), seen, params, optimizer), metrics

    def loss(self, params: Any, state: TrainState) -> tuple[jax.Array, Any]:
        """-earned + value_cost * value error - entropy_cost * entropy; and the state after playing,
        the statistics of what was seen, and metrics."""
        config = self.config
        judge = jax.lax.stop_gradient(params["value"])  # the policy is not to please it, but to act
        key = jax.random.fold_in(state.key, state.updates)
        playing = replace(state, params=params | {"value": judge})
        after, seen, played = self.experience(playing, key)
        after, reward = self.scaled(after, played)
        earned = self.earned(played, reward)
        fixed = jax.lax.stop_gradient((played, reward, state.memory))
        value_loss = self.value_loss(params, *fixed)
        entropy = self.entropy(params, *fixed)
        loss = -earned + config.value_cost * value_loss - self.entropy_cost(state) * entropy
        metrics = {
            "policy_loss": -earned,
            "value_loss": value_loss,
            "entropy": entropy,
            "reward": played.reward.mean(),
        }
        return loss, jax.lax.stop_gradient((after, seen, metrics))

    def earned(self, played: Trajectory, reward: jax.Array) -> jax.Array:
        """() discounted rewards from the start of the unroll and of each episode in it, with what
        the value network expects after them, a control step of all worlds."""
        togo = self._target(played, reward, 1.0)  # (T, worlds)
        begins = self.begins(played).at[0].set(True)
        return jnp.where(begins, togo, 0.0).mean()

    def value_loss(
        self, params: Any, played: Trajectory, reward: jax.Array, memory: Any
    ) -> jax.Array:
        """() of the value network against TD(λ) targets."""
        value = self.said("value", params, memory, *self._seen(played))
        return losses.value_error(value, self._target(played, reward, self.config.gae_lambda))

    def entropy(self, params: Any, played: Trajectory, reward: jax.Array, memory: Any) -> jax.Array:
        """() of the policy where it played."""
        found = self.said("policy", params, memory, *self._seen(played))
        return self.distribution.entropy(found, jnp.moveaxis(played.action, -2, 0)).mean()

    def _target(self, played: Trajectory, reward: jax.Array, lambda_: float) -> jax.Array:
        ends = (played.terminated, played.truncated)
        rules = {"discount": self.config.discount, "lambda_": lambda_}
        return gae(reward, played.value, played.next_value, *ends, **rules) + played.value

    def _seen(self, played: Trajectory) -> tuple[Any, jax.Array]:
        obs = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), played.obs)  # (features, T, worlds)
        return obs, self.begins(played)


Learner = APG
