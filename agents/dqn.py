"""Deep Q-learning (doi:10.1038/nature14236) on the device, for choices.

The network chooses what follows, its slow copy judges the choice (double Q-learning,
arXiv:1509.06461). Worlds explore by random choices, some more often than others (as in Ape-X,
arXiv:1803.00933), or by how much better one choice looks than another (Boltzmann).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from gpusim import sharding
from gpusim.agents import losses, networks
from gpusim.agents.learner import TrainState
from gpusim.agents.off_policy import Batch, OffPolicy, OffPolicyConfig
from gpusim.agents.policy import NetworkPolicy
from gpusim.envs.world import Discrete, World
from gpusim.metrics import Metric


@dataclass(frozen=True)
class Config(OffPolicyConfig):
    """Deep Q-learning."""

    exploration: Literal["greedy", "boltzmann"] = "greedy"
    """Random choices now and then (epsilon-greedy), or draws from softmax(value / temperature)."""
    exploration_low: float = 0.01
    """Share of random choices of the first world, or its temperature."""
    exploration_high: float = 0.4
    """That of the last world; those between have values between, evenly by their logarithms."""
    value_hidden: tuple[int, ...] = (128, 128)
    """Widths of the network's hidden layers."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        most = 1 if self.exploration == "greedy" else math.inf
        for name in ("exploration_low", "exploration_high"):
            self.require(0 < getattr(self, name) <= most, name, f"in (0, {most}]")


class Dqn(OffPolicy):
    """The algorithm."""

    ACTS: ClassVar[str] = "value"
    METRICS: ClassVar[Mapping[str, Metric]] = {
        "value_loss": Metric("Loss of the values", "loss"),
        "value": Metric("Value of what was chosen", "value", ".3f"),
        "skipped_updates": Metric("Gradient steps left out, not being finite, of an update"),
    }

    def __init__(self, config: Config, world: World, **options: Any):
        space = world.action_space
        if not isinstance(space, Discrete):
            raise ValueError(f"{world.name}: dqn learns choices (Discrete actions), not {space}")
        self.choices = space.n
        self.network: Any = networks.Chooser(config.value_hidden, space.n, config.activation)
        super().__init__(config, world, **options)

    def policy(self, state: TrainState) -> NetworkPolicy:
        """The policy as it is now, on one device: the best choice, by the values as logits."""
        params, normalizer = sharding.first((state.params["value"], state.normalizer))
        return NetworkPolicy(params, normalizer, self.network, "choice")

    def action(self) -> jax.Array:
        """A choice of one world."""
        return jnp.zeros((), jnp.int32)

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """Parameters of the network and of the one that chases it."""
        value = self.network.init(keys[0], obs)
        return {"value": value, "target": {"value": value}}

    def draws(self, key: jax.Array, length: int) -> dict[str, jax.Array]:
        """Whether to choose at random, (length,), and what: Gumbel's (length, choices)."""
        keys = jax.random.split(key)
        gumbel = jax.random.gumbel(keys[1], (length * self.choices,)).reshape(length, -1)
        return {"chance": jax.random.uniform(keys[0], (length,)), "gumbel": gumbel}

    def explore(self, params: Any, obs: Any, noise: Any, place: Any) -> jax.Array:
        """The best choice, or one at random."""
        config, value = self.config, self._values(params["value"], obs)
        low, high = math.log(config.exploration_low), math.log(config.exploration_high)
        level = jnp.exp(low + place * (high - low))
        if config.exploration == "boltzmann":
            return jnp.argmax(value / level + noise["gumbel"], 0).astype(jnp.int32)
        random = noise["chance"] < level
        any_allowed = jnp.where(value > networks.NEVER, noise["gumbel"], value)
        return jnp.argmax(jnp.where(random, any_allowed, value), 0).astype(jnp.int32)

    def loss(
        self, params: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Huber's, of the values of what was chosen."""
        fixed = jax.lax.stop_gradient(params)
        best = jnp.argmax(self._values(fixed["value"], batch.next_obs), 0)
        later = _of(self._values(fixed["target"]["value"], batch.next_obs), best)
        value = _of(self._values(params["value"], batch.obs), batch.action)
        loss = losses.huber(value, losses.td_target(batch.reward, batch.discount, later))
        return loss, {"value_loss": loss, "value": value.mean()}

    def _values(self, params: Any, obs: Any) -> jax.Array:
        """(choices, samples): what each choice is worth."""
        return self.network.apply(params, obs).logits


def _of(values: jax.Array, choice: jax.Array) -> jax.Array:
    """The value of a choice (samples,) among (choices, samples)."""
    return jnp.take_along_axis(values, choice[None], 0)[0]


Learner = Dqn
