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

from gpusim.agents import losses, networks
from gpusim.agents.distributions import DISTRIBUTIONS
from gpusim.agents.off_policy import Batch, TwinCritics, TwinCriticsConfig
from gpusim.envs.world import World
from gpusim.metrics import Metric

INITIAL_STD = math.exp(-1.5)  # of the first policy's raw actions


@dataclass(frozen=True)
class Config(TwinCriticsConfig):
    """Soft actor-critic."""

    target_entropy: float | None = None
    """Entropy (nats) that the policy is kept at; None: minus the number of actions."""
    initial_temperature: float = 1.0
    """What a nat of entropy is worth at the start."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        positive = 0 < self.initial_temperature < math.inf
        self.require(positive, "initial_temperature", "positive and finite")


class Sac(TwinCritics):
    """The algorithm."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "policy_loss": Metric("Policy loss", "policy loss", ".4f"),
        "value_loss": Metric("Critics' loss", "critic loss"),
        "entropy": Metric("Entropy (nats)", "entropy", ".3f"),
        "temperature": Metric("Temperature", "temperature", ".3g"),
        "skipped_updates": Metric("Gradient steps left out, not being finite, of an update"),
    }

    def __init__(self, config: Config, world: World, **options: Any):
        self.distribution = DISTRIBUTIONS["tanh"]
        super().__init__(config, world, **options)
        entropy = config.target_entropy
        self.target_entropy = -float(self.actions) if entropy is None else entropy

    def acting(self, config: Config) -> networks.Policy:
        """A Gaussian whose spread depends on what is seen."""
        return networks.Policy(
            config.policy_hidden, self.actions, config.activation, INITIAL_STD, state_std=True
        )

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """Parameters of the policy, of the critics and of those that chase them, and the logarithm
        of the temperature."""
        critics = self.critics(keys[1], obs)
        return {
            "policy": self.policy_network.init(keys[0], obs),
            "value": critics,
            "target": {"value": critics},
            "temperature": jnp.log(jnp.float32(self.config.initial_temperature)),
        }

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

        action, log_prob = self._act(fixed, batch.next_obs, keys[0])
        value_loss, value = self.critics_loss(params, batch, action, -temperature * log_prob)

        action, log_prob = self._act(params, batch.obs, keys[1])
        worth = self.judged(fixed["value"], batch.obs, action)
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
