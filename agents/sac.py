"""Soft actor-critic (arXiv:1801.01290, 1812.05905) on the device.

Two critics judge actions, the lower of them counts; the policy is to please them and to stay as
random as a target entropy says, to which the temperature is tuned.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gpusim import sharding
from gpusim.agents import losses, networks
from gpusim.agents.distributions import DISTRIBUTIONS
from gpusim.agents.learner import TrainState
from gpusim.agents.off_policy import Batch, OffPolicy, OffPolicyConfig
from gpusim.agents.policy import NetworkPolicy
from gpusim.envs.world import Box, World
from gpusim.metrics import Metric

CRITICS = 2
INITIAL_STD = math.exp(-1.5)  # of the first policy's raw actions


@dataclass(frozen=True)
class Config(OffPolicyConfig):
    """Soft actor-critic."""

    FIXED: ClassVar[tuple[str, ...]] = (*OffPolicyConfig.FIXED, "policy_hidden")

    target_entropy: float | None = None
    """Entropy (nats) that the policy is kept at; None: minus the number of actions."""
    initial_temperature: float = 1.0
    """What a nat of entropy is worth at the start."""
    policy_hidden: tuple[int, ...] = (256, 256)
    """Widths of the policy's hidden layers."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        positive = 0 < self.initial_temperature < math.inf
        self.require(positive, "initial_temperature", "positive and finite")


class Sac(OffPolicy):
    """The algorithm."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "policy_loss": Metric("Policy loss", "policy loss", ".4f"),
        "value_loss": Metric("Critics' loss", "critic loss"),
        "entropy": Metric("Entropy (nats)", "entropy", ".3f"),
        "temperature": Metric("Temperature", "temperature", ".3g"),
        "skipped_updates": Metric("Gradient steps left out, not being finite, of an update"),
    }

    def __init__(self, config: Config, world: World, **options: Any):
        space = world.action_space
        if not isinstance(space, Box) or space.size < 1:
            raise ValueError(f"{world.name}: sac learns continuous actions, not {space}")
        self.actions = space.size
        entropy = config.target_entropy
        self.target_entropy = -float(space.size) if entropy is None else entropy
        self.policy_network: Any = networks.Policy(
            config.policy_hidden, space.size, config.activation, INITIAL_STD, state_std=True
        )
        self.critic_network: Any = networks.ActionValue(config.value_hidden, config.activation)
        self.distribution = DISTRIBUTIONS["tanh"]
        super().__init__(config, world, **options)

    def policy(self, state: TrainState) -> NetworkPolicy:
        """The policy as it is now, on one device."""
        params, normalizer = sharding.first((state.params["policy"], state.normalizer))
        return NetworkPolicy(params, normalizer, self.policy_network, "tanh")

    def action(self) -> jax.Array:
        """An action of one world: its shape and dtype."""
        return jnp.zeros(self.actions)

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """Parameters of the policy, of the critics and of those that chase them, and the logarithm
        of the temperature."""
        begin = lambda key: self.critic_network.init(key, obs, self.action())
        critics = jax.vmap(begin)(jax.random.split(keys[1], CRITICS))
        return {
            "policy": self.policy_network.init(keys[0], obs),
            "value": critics,
            "target": {"value": critics},
            "temperature": jnp.log(jnp.float32(self.config.initial_temperature)),
        }

    def draws(self, key: jax.Array, length: int) -> jax.Array:
        """Standard normal, (length, actions)."""
        return self.distribution.noise(key, (length * self.actions,)).reshape(length, -1)

    def explore(self, params: Any, obs: Any, noise: Any, place: Any) -> jax.Array:
        """Draws from the policy, alike in all worlds."""
        found = self.policy_network.apply(params["policy"], obs)
        return self.distribution.to_action(self.distribution.sample(found, noise))

    def loss(
        self, params: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The critics' error, the policy's and the temperature's losses; none of them pulls at what
        another one is there for."""
        fixed = jax.lax.stop_gradient(params)
        temperature = jnp.exp(fixed["temperature"])
        keys = jax.random.split(key)
        judge = jax.vmap(self.critic_network.apply, (0, None, None))

        action, log_prob = self._act(fixed, batch.next_obs, keys[0])
        later = judge(fixed["target"]["value"], batch.next_obs, action).min(0)
        later -= temperature * log_prob
        target = losses.td_target(batch.reward, batch.discount, later)
        value = judge(params["value"], batch.obs, batch.action)
        value_loss = CRITICS * losses.value_error(value, jnp.broadcast_to(target, value.shape))

        action, log_prob = self._act(params, batch.obs, keys[1])
        worth = judge(fixed["value"], batch.obs, action).min(0)
        policy_loss = losses.soft_policy(log_prob, worth, temperature)
        temperature_loss = losses.temperature(
            params["temperature"], jax.lax.stop_gradient(log_prob), self.target_entropy
        )
        return value_loss + policy_loss + temperature_loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "value": value.mean(),
            "entropy": -log_prob.mean(),
            "temperature": temperature,
        }

    def _act(self, params: Any, obs: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A drawn action (actions, samples), and the logarithm of its density (samples,)."""
        found = self.policy_network.apply(params["policy"], obs)
        raw = self.distribution.sample(found, self.distribution.noise(key, found.mean.shape))
        return self.distribution.to_action(raw), self.distribution.log_prob(found, raw)


Learner = Sac
