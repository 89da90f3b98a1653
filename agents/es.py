"""Evolution strategies (arXiv:1703.03864) on the device: a generation is one rollout.

Every member of a population acts with parameters of its own, those of the policy with noise added
or, for the other one of its pair, taken away. What their episodes returned weighs the noise, and
the sum is the way to go. No gradient of a policy is computed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gpusim import sharding
from gpusim.agents import actor, networks, normalize
from gpusim.agents.config import LearnerConfig
from gpusim.agents.learner import Learner as BaseLearner
from gpusim.agents.learner import TrainState, blank_but
from gpusim.agents.policy import NetworkPolicy
from gpusim.envs.world import Box, Discrete, World
from gpusim.metrics import Metric


@dataclass(frozen=True)
class Config(LearnerConfig):
    """Evolution strategies."""

    FIXED: ClassVar[tuple[str, ...]] = (
        *LearnerConfig.FIXED,
        *("episodes", "policy_hidden", "activation", "normalize_observations"),
    )

    total_steps: int = 200_000_000
    """Environment steps of the whole run, all worlds together."""
    num_envs: int = 1024
    """Worlds simulated at once, all devices together: the population, times episodes."""
    unroll_length: int = 1000
    """Control steps of a generation; longer episodes count as far as they got."""
    updates_per_call: int = 1
    """Generations made by one call of the compiled program."""
    episodes: int = 1
    """Episodes that each member of the population plays, at once."""
    noise_std: float = 0.05
    """Standard deviation of the noise on the parameters."""
    learning_rate: float = 0.02
    """Adam's step size."""
    weight_decay: float = 0.005
    """Share of the parameters by which the gradient pulls them to zero."""
    normalize_observations: bool = True
    """Shift and scale observations to zero mean and unit variance as seen so far."""
    policy_hidden: tuple[int, ...] = (32, 32)
    """Widths of the policy's hidden layers; () is a linear policy."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"
    """Activation of hidden layers."""

    @property
    def population(self) -> int:
        """Members of a generation."""
        return self.num_envs // self.episodes

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        self.require(self.episodes >= 1, "episodes", "at least 1")
        pairs = 2 * self.episodes * num_devices
        self.require(
            self.num_envs % pairs == 0, "num_envs", f"a multiple of {pairs}: pairs on every device"
        )
        for name in ("noise_std", "learning_rate"):
            self.require(0 < getattr(self, name) < math.inf, name, "positive and finite")
        self.require(0 <= self.weight_decay < 1, "weight_decay", "in [0, 1)")


class Decision(NamedTuple):
    """What was done in all worlds."""

    action: jax.Array  # (actions, worlds) in [-1, 1], or the choice (worlds,)


class Step(NamedTuple):
    """What is kept of a control step, (worlds,)."""

    reward: jax.Array
    done: jax.Array  # bool: the episode ended


class Es(BaseLearner):
    """The algorithm. Worlds are numbered pair by pair, member by member, episode by episode; the
    first member of a pair adds the noise that the second takes away."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "fitness": Metric("Return of the population, mean", "population", ",.0f"),
        "fitness_best": Metric("Return of the population, best", "best", ",.0f"),
        "skipped_updates": Metric("Gradient steps left out, not being finite, of an update"),
    }

    def __init__(self, config: Config, world: World, **options: Any):
        space = world.action_space
        if isinstance(space, Box) and space.size:
            self.network: Any = networks.Deterministic(
                config.policy_hidden, space.size, config.activation
            )
            self.kind = "clip"
        elif isinstance(space, Discrete):
            self.network = networks.Chooser(config.policy_hidden, space.n, config.activation)
            self.kind = "choice"
        else:
            raise ValueError(f"{world.name}: actions are {space}: there is nothing to learn")
        super().__init__(config, world, **options)

    def policy(self, state: TrainState) -> NetworkPolicy:
        """The policy as it is now, on one device."""
        params, normalizer = sharding.first((state.params["policy"], state.normalizer))
        return NetworkPolicy(params, normalizer, self.network, self.kind)

    def essentials(self, state: TrainState) -> TrainState:
        """The policy's parameters and the observation statistics."""
        return blank_but(state, params=state.params, normalizer=state.normalizer)

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """The policy's."""
        return {"policy": self.network.init(keys[0], obs)}

    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.flatten(optax.adam(self.config.learning_rate))

    def weights(self, plus: jax.Array, minus: jax.Array) -> jax.Array:
        """What the noise of each pair is worth, (pairs,), by what its members returned: ranks among
        all, from -1/2 to 1/2, so that outliers do not count."""
        shaped = centered_ranks(jnp.concatenate([plus, minus]))
        plus, minus = jnp.split(shaped, 2)
        return (plus - minus) / (shaped.size * self.config.noise_std)

    def play(self, state: TrainState) -> Any:
        """Let every world play a generation."""
        return self._generation(state, self._noise(state, state.key), state.key)

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play a generation, and go where its better half went."""
        noise_key, play_key = jax.random.split(jax.random.fold_in(state.key, state.updates))
        noise = self._noise(state, noise_key)
        envs, fault, seen, returns = self._generation(state, noise, play_key)
        fitness = sharding.gather(returns)
        pairs = noise.shape[0]
        weights = self.weights(*fitness.T)
        mine = jax.lax.dynamic_slice_in_dim(weights, sharding.index() * pairs, pairs)
        uphill = sharding.total(mine @ noise)
        theta, unravel = ravel_pytree(state.params)
        downhill = unravel(self.config.weight_decay * theta - uphill)
        metrics = {"fitness": fitness.mean(), "fitness_best": fitness.max()}
        params, optimizer, metrics = self.descend(state.params, state.optimizer, downhill, metrics)
        normalizer = state.normalizer
        if normalizer is not None and seen is not None:
            normalizer = normalize.merge(normalizer, normalize.over_devices(seen))
        updates = state.updates + 1
        state = replace(
            state, params=params, optimizer=optimizer, normalizer=normalizer, envs=envs,
            fault=fault, updates=updates,
        )  # fmt: skip
        return state, metrics

    def _noise(self, state: TrainState, key: jax.Array) -> jax.Array:
        """Standard normal, (pairs of this device, parameters)."""
        pairs = self.config.population // 2 // len(self.devices)
        size = sum(x.size for x in jax.tree.leaves(state.params))
        return jax.vmap(lambda key: jax.random.normal(key, (size,)))(sharding.split(key, pairs))

    def _generation(self, state: TrainState, noise: jax.Array, key: jax.Array):
        """Whole episodes of all members: the worlds, their faults, statistics of what was seen, and
        returns (pairs, 2), averaged over the episodes of a member."""
        config, mine = self.config, self.worlds.num_envs
        everywhere = self.all_worlds.reset(key)  # so that they do not depend on the devices
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, sharding.index() * mine, mine)
        envs = jax.tree.map(part, everywhere)
        old = state.envs
        envs = envs.replace(steps=jnp.zeros_like(old.steps), finished=old.finished, sums=old.sums)
        theta, unravel = ravel_pytree(state.params)
        both = jnp.stack([noise, -noise], 1).reshape(-1, theta.size)
        members = jax.vmap(unravel)(theta + config.noise_std * both)["policy"]
        apply = jax.vmap(self.network.apply, (0, 2), 2)  # over members

        def act(memory, obs, _):
            apart = (self.world.agents, len(both), config.episodes)
            found = apply(members, jax.tree.map(lambda x: x.reshape(-1, *apart), obs))[0]
            raw = found.reshape(found.shape[0], -1)
            if self.kind == "choice":
                return memory, Decision(jnp.argmax(raw, 0).astype(jnp.int32))
            return memory, Decision(jnp.clip(raw, -1, 1))

        def keep(obs, decision, envs, final_obs):
            return Step(envs.reward, envs.terminated | envs.truncated)

        rows = jnp.zeros((config.unroll_length, 0))
        envs, fault, _, seen, steps = actor.rollout(
            self.worlds, envs, state.fault, (), state.normalizer, rows, act, keep
        )
        ended = jnp.cumsum(steps.done, 0) - steps.done > 0  # before this step
        returns = jnp.where(ended, 0, steps.reward).sum(0).reshape(self.world.agents, mine).mean(0)
        return envs, fault, seen, returns.reshape(-1, 2, config.episodes).mean(-1)


def centered_ranks(x: jax.Array) -> jax.Array:
    """Ranks of the numbers (n,), from -1/2 for the least to 1/2 for the largest."""
    ranks = jnp.zeros(x.size).at[jnp.argsort(x)].set(jnp.arange(x.size, dtype=float))
    return ranks / (x.size - 1) - 0.5


Learner = Es
