"""Several agents in a world: which policy each follows, what their critic sees, and who they meet.

Actors are the agents of all worlds, agent by agent (envs/vec_env.py); samples are the last axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpusim.agents.config import ActorCriticConfig
from gpusim.agents.networks import WHO, joined, label
from gpusim.envs.world import PRIVILEGED, World


@dataclass(frozen=True)
class Team:
    """The agents of a world, as a learner is told to treat them."""

    agents: int
    policies: tuple[int, ...]  # which policy an agent follows; (): all share one
    central: bool  # does the critic see what all agents see?

    @classmethod
    def of(cls, config: ActorCriticConfig, world: World) -> "Team":
        """Raises ValueError for what this world's agents cannot do."""
        policies, agents = config.policies, world.agents
        if policies and len(policies) != agents:
            raise ValueError(
                f"policies is {' '.join(map(str, policies))}: {len(policies)} numbers for the "
                f"{agents} agent(s) of {world.name}"
            )
        for name in ("central_critic", "opponents"):
            if getattr(config, name) and agents == 1:
                raise ValueError(f"{name} is for several agents in a world; {world.name} has one")
        return cls(agents, policies, config.central_critic)

    def seen(self, obs: Any) -> Any:
        """What networks get of observations (features, actors) of each part: whose it is, where
        policies differ, and for a central critic what all agents of the world see."""
        if not self.policies and not self.central:
            return obs
        parts = dict(obs) if isinstance(obs, Mapping) else {"": obs}
        if self.central:
            every = joined(obs, privileged=True)
            together = every.reshape(self.agents * len(every), -1)  # agents are next to features
            parts[PRIVILEGED] = jnp.tile(together, self.agents)
        if self.policies:
            worlds = jax.tree.leaves(obs)[0].shape[-1] // self.agents
            parts[WHO] = jnp.repeat(label(self.policies), worlds, axis=1)
        return parts

    def seen_by_one(self, obs: Any) -> Any:
        """`seen` of an observation (features,) of each part, for its shape."""
        alike = jax.tree.map(lambda x: jnp.stack([x] * self.agents, -1), obs)
        return jax.tree.map(lambda x: x[..., 0], self.seen(alike))


def earlier(policy: Any, num: int) -> Any:
    """As many earlier selves of a policy, which are all what it begins as."""
    return jax.tree.map(lambda x: jnp.stack([x] * num), policy)


def remembered(selves: Any, policy: Any, updates: jax.Array, every: int) -> Any:
    """The earlier selves after update number `updates`; after each `every` of them the policy as it
    is takes the place of the oldest."""
    num = jax.tree.leaves(selves)[0].shape[0]
    due, slot = updates % every == 0, updates // every % num
    put = lambda old, new: old.at[slot].set(jnp.where(due, new, old[slot]))
    return jax.tree.map(put, selves, policy)


def met(network: Any, selves: Any, obs: Any, rivals: int) -> Any:
    """What earlier selves say of observations (features, rivals * worlds): each plays in the worlds
    of its share. The distribution's parameters are (..., rivals, selves, worlds of each)."""
    num = jax.tree.leaves(selves)[0].shape[0]
    shares = jax.tree.map(lambda x: x.reshape(x.shape[0], rivals, num, -1), obs)
    return jax.vmap(network.apply, (0, 2), 2)(selves, shares)
