"""A trained policy by itself: what is left when the learner is gone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gpusim.agents import normalize
from gpusim.agents.distributions import DISTRIBUTIONS
from gpusim.agents.networks import WHO, Remembering, Several, joined, label

UNIT = ("reset", "keep", "new")  # the layers of networks.Gated
REMEMBER = (
    "both = memory and x in one; reset = logistic(reset_weight @ both + reset_bias), keep "
    "likewise; new = tanh(new_weight @ (reset * memory and x in one) + new_bias); memory = "
    "keep * memory + (1 - keep) * new, zeros before an episode; x = x and memory in one; "
)


@struct.dataclass
class NetworkPolicy:
    """Parameters, observation statistics, and how to use them. A pytree; see `learner.Policy`."""

    params: Any
    normalizer: normalize.Statistics | None
    network: Any = struct.field(pytree_node=False)  # networks.Policy or Chooser, or Several
    distribution: str = struct.field(pytree_node=False)
    eyes_params: Any = None
    eyes: Any = struct.field(pytree_node=False, default=None)  # networks.Eyes, if it sees pictures

    @property
    def _remembers(self) -> bool:
        return isinstance(self.network, Remembering)

    def initial(self, batch: tuple[int, ...]) -> Any:
        """Zeros (*batch, size); () for a policy that remembers nothing."""
        return jnp.zeros((*batch, self.network.size)) if self._remembers else ()

    def act(self, memory: Any, obs: Any, key: jax.Array | None = None) -> tuple[Any, jax.Array]:
        """What is remembered, and actions for obs (*batch, features) of each part: (*batch,
        actions) in [-1, 1], or choices (*batch,). Agents, if there are several, are the last of the
        batch's axes."""
        features_first = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), obs)
        seen = normalize.normalize(self.normalizer, features_first)
        if self.eyes is not None:
            seen = self.eyes.apply(self.eyes_params, seen)
        if isinstance(self.network, Several):
            parts = dict(seen) if isinstance(seen, Mapping) else {"": seen}
            ones = (1,) * (jax.tree.leaves(seen)[0].ndim - 2)
            who = label(self.network.policies)
            seen = parts | {WHO: who.reshape(len(who), *ones, -1)}
        found: Any
        if self._remembers:
            memory, found = self.network.apply(self.params, jnp.moveaxis(memory, -1, 0), seen)
            memory = jnp.moveaxis(memory, 0, -1)
        else:
            found = self.network.apply(self.params, seen)
        distribution = DISTRIBUTIONS[self.distribution]
        if key is None:
            raw = distribution.mode(found)
        else:
            raw = distribution.sample(found, distribution.noise(key, found[0].shape))
        action = distribution.to_action(raw)
        return memory, jnp.moveaxis(action, 0, -1) if action.ndim == raw.ndim else action

    def export(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays by name, and in words and numbers what a program needs to act with them.

        An observation in parts is one vector there: the parts that the policy sees, by name.
        Raises ValueError for several policies, and for one that sees pictures.
        """
        if self.eyes is not None:
            raise ValueError("its policy sees pictures, and a file holds nothing that draws them")
        if isinstance(self.network, Several):
            count = len(set(self.network.policies))
            if count > 1:
                raise ValueError(f"its agents follow {count} policies, and a file holds one")
            only = {"params": self.params["params"]["networks_0"]}
            return replace(self, params=only, network=self.network.network).export()
        params, network = self.params["params"], self.network
        unit = {}
        if self._remembers:
            unit = {name: params["unit"][f"Dense_{k}"] for k, name in enumerate(UNIT)}
            params, network = params["network"], network.network
        stack = params["MLP_0"]
        layers = [stack[name] for name in sorted(stack, key=lambda name: int(name.split("_")[1]))]
        layers = [{name: np.asarray(x) for name, x in layer.items()} for layer in layers]
        if getattr(network, "state_std", False):  # the second half of the numbers
            layers[-1] = {name: np.split(x, 2)[0] for name, x in layers[-1].items()}
        memory = self.network.size if self._remembers else 0
        size = layers[0]["weight"].shape[1] - memory
        arrays = {"mean": np.zeros(size, np.float32), "std": np.ones(size, np.float32)}
        if self.normalizer is not None:
            seen = lambda x: np.asarray(joined(x, privileged=False))
            std = np.sqrt(seen(self.normalizer.variance) + normalize.EPSILON)
            arrays = {"mean": seen(self.normalizer.mean), "std": std}
        for i, layer in enumerate(layers):
            arrays |= {f"weight{i}": layer["weight"], f"bias{i}": layer["bias"]}
        for name, layer in unit.items():
            arrays |= {f"{name}_{part}": np.asarray(x) for part, x in layer.items()}
        return arrays, {
            "observation_clip": None if self.normalizer is None else normalize.CLIP,
            "layers": len(layers),
            "memory": memory,
            "activation": network.activation,
            "output": self.distribution,
            "formula": "x = (observation - mean) / std, clipped to +-observation_clip; "
            + (REMEMBER if memory else "")
            + "for each layer x = weight @ x + bias, followed by the activation except after the "
            "last; action = x clipped to [-1, 1] if output is clip, tanh(x) if output is tanh, the "
            "index of the largest x if output is choice",
        }
