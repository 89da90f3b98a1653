"""A trained policy by itself: what is left when the learner is gone."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from gpusim.agents.distributions import DISTRIBUTIONS, sample
from gpusim.agents.normalize import Statistics, normalize


@struct.dataclass
class Policy:
    """Parameters, observation statistics, and how to use them. A pytree."""

    params: Any
    normalizer: Statistics | None
    network: Any = struct.field(pytree_node=False)  # networks.Policy
    distribution: str = struct.field(pytree_node=False)

    def initial(self, batch: tuple[int, ...]) -> Any:
        """What the policy remembers when episodes begin; this one remembers nothing."""
        return ()

    def act(self, memory: Any, obs: Any, key: jax.Array | None = None) -> tuple[Any, jax.Array]:
        """Memory and actions in [-1, 1], (*batch, actions), for obs (*batch, features).

        Without a key the most likely action, with one a random draw.
        """
        features_first = jnp.moveaxis(obs, -1, 0)
        normal = self.network.apply(self.params, normalize(self.normalizer, features_first))
        raw = normal.mean
        if key is not None:
            raw = sample(normal, jax.random.normal(key, raw.shape))
        return memory, jnp.moveaxis(DISTRIBUTIONS[self.distribution].to_action(raw), 0, -1)
