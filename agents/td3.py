"""Twin delayed deep deterministic policy gradients (arXiv:1802.09477) on the device.

A deterministic policy climbs the lower of two critics, at every other gradient step; what follows a
step is judged at an action near the policy's, so that a critic's narrow peaks do not count. Worlds
explore by noise of different sizes (as in FastTD3, arXiv:2505.22642).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from gpusim.agents import networks
from gpusim.agents.off_policy import Batch, TwinCritics, TwinCriticsConfig
from gpusim.metrics import Metric


@dataclass(frozen=True)
class Config(TwinCriticsConfig):
    """Twin delayed deep deterministic policy gradients."""

    exploration_low: float = 0.05
    """Standard deviation of the noise on the actions of the first world."""
    exploration_high: float = 0.4
    """That of the last world; those between have values between."""
    exploration_memory: float = 0.0
    """How much of a step's noise is still there in the next: 0 is noise drawn anew, near 1 an
    Ornstein-Uhlenbeck process that lasts 1 / (1 - this) steps. Its size stays as said."""
    policy_delay: int = 2
    """Gradient steps of the critics for one of the policy."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the actions that judge what follows."""
    target_noise_clip: float = 0.5
    """That noise is cut here."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        for name in ("exploration_low", "exploration_high", "target_noise", "target_noise_clip"):
            self.require(0 <= getattr(self, name) < math.inf, name, "at least 0, and finite")
        self.require(0 <= self.exploration_memory < 1, "exploration_memory", "in [0, 1)")
        self.require(self.policy_delay >= 1, "policy_delay", "at least 1")


class Td3(TwinCritics):
    """The algorithm."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "policy_loss": Metric("Policy loss", "policy loss", ".4f"),
        "value_loss": Metric("Critics' loss", "critic loss"),
        "value": Metric("Critics' opinion of what was done", "value", ".3f"),
        "skipped_updates": Metric("Gradient steps left out, not being finite, of an update"),
    }

    def acting(self, config: Config) -> networks.Deterministic:
        """A network without chance."""
        return networks.Deterministic(config.policy_hidden, self.actions, config.activation)

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """Parameters of the policy, of the critics, and of those that chase them."""
        chased = {
            "policy": self.policy_network.init(keys[0], obs),
            "value": self.critics(keys[1], obs),
        }
        return {**chased, "target": chased}

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, the policy's at every policy_delay-th step alone."""
        config = self.config
        adam = lambda: optax.flatten(optax.adam(config.learning_rate))
        turn = lambda step, **_: step % config.policy_delay == config.policy_delay - 1
        delayed = optax.transforms.conditionally_mask(adam(), turn)
        each: Any = {"policy": delayed, "value": adam(), "target": optax.set_to_zero()}
        return optax.partition(each, {name: name for name in each})

    def nothing_remembered(self, actors: int) -> jax.Array:
        """No noise, (actions, actors)."""
        return jnp.zeros((self.actions, actors))

    def stirred(self, memory: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x <- ρ x + √(1 - ρ²) ε, the Ornstein-Uhlenbeck process at even steps, of variance 1 once
        it has run for a while; 0 where an episode begins."""
        kept = self.config.exploration_memory
        noise = kept * memory + math.sqrt(1 - kept**2) * noise
        return noise, noise

    def explore(self, params: Any, obs: Any, noise: Any, place: Any) -> jax.Array:
        """The policy's actions with noise, more of it the later the world."""
        low, high = self.config.exploration_low, self.config.exploration_high
        action = self._act(params["policy"], obs) + (low + place * (high - low)) * noise
        return jnp.clip(action, -1, 1)

    def loss(
        self, params: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The critics' error and the policy's loss; neither pulls at what the other is for."""
        fixed = jax.lax.stop_gradient(params)
        far = self.config.target_noise_clip
        noise = self.config.target_noise * jax.random.normal(key, batch.action.shape)
        action = self._act(fixed["target"]["policy"], batch.next_obs) + jnp.clip(noise, -far, far)
        action = jnp.clip(action, -1, 1)
        value_loss, value = self.critics_loss(params, batch, action)

        action = self._act(params["policy"], batch.obs)
        policy_loss = -self.judged(fixed["value"], batch.obs, action).mean()
        return value_loss + policy_loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "value": value.mean(),
        }

    def _act(self, params: Any, obs: Any) -> jax.Array:
        """The policy's actions (actions, samples)."""
        return jnp.tanh(self.policy_network.apply(params, obs).mean)


Learner = Td3
