"""Behaviour cloning: a policy that does what the episodes of a file show (Pomerleau 1991).

No world is stepped while it learns; what counts as environment steps are samples it learned from.
Evaluations play, as those of every learner.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gpusim import sharding
from gpusim.agents import dataset, networks, normalize
from gpusim.agents.config import LearnerConfig
from gpusim.agents.distributions import Categorical, Choice
from gpusim.agents.learner import Learner as BaseLearner
from gpusim.agents.learner import TrainState, blank_but
from gpusim.agents.policy import NetworkPolicy
from gpusim.envs.world import Discrete, World
from gpusim.metrics import Metric


@dataclass(frozen=True)
class Config(LearnerConfig):
    """Behaviour cloning: learning from recorded episodes."""

    FIXED: ClassVar[tuple[str, ...]] = (
        *LearnerConfig.FIXED,
        *("min_return", "policy_hidden", "activation", "normalize_observations"),
    )

    dataset: str = ""
    """The file of episodes: what gpusim.play RUN --save FILE.npz writes."""
    min_return: float = -math.inf
    """Learn from episodes that earned so much at least."""
    total_steps: int = 5_000_000
    """Samples to learn from in the whole run."""
    num_envs: int = 256
    """Samples of a gradient step, times unroll_length, all devices together."""
    unroll_length: int = 1
    """See num_envs."""
    updates_per_call: int = 256
    """Gradient steps made by one call of the compiled program."""
    learning_rate: float = 1e-3
    """Adam's step size at the start; it falls linearly to zero over total_steps."""
    normalize_observations: bool = True
    """Shift and scale observations to zero mean and unit variance over the file."""
    policy_hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"
    """Activation of hidden layers."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        self.require(0 < self.learning_rate < math.inf, "learning_rate", "positive and finite")
        if not self.dataset:
            raise ValueError("bc learns from episodes in a file: say which, --dataset FILE.npz")
        self.require(not math.isnan(self.min_return), "min_return", "a number")


class Cloning(BaseLearner):
    """The algorithm: the mean squared error of actions, or the cross entropy of choices."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "error": Metric("Error of the actions", "error", ".4f"),
        "skipped_updates": Metric("Gradient steps left out, not being finite, of an update"),
    }

    def __init__(self, config: Config, world: World, **options: Any):
        space = world.action_space
        self.chooses = isinstance(space, Discrete)
        kind = networks.Chooser if self.chooses else networks.Deterministic
        size = space.n if isinstance(space, Discrete) else space.size
        self.network: Any = kind(config.policy_hidden, size, config.activation)
        super().__init__(config, world, **options)

    @functools.cached_property
    def data(self) -> dataset.Dataset:
        """What is learned from: read when it is, since a policy acts without it."""
        return _read(self.config, self.world)

    def check_data(self) -> None:
        """Raise ValueError unless the file holds episodes of this world."""
        _ = self.data

    def init(self, key: jax.Array) -> TrainState:
        """The state of a run that has not started, which has seen all observations of the file."""
        state = super().init(key)
        if state.normalizer is None:
            return state
        seen = normalize.measure(jax.tree.map(lambda x: jnp.asarray(x).T, self.data.obs))
        place = lambda x, like: jax.device_put(jnp.broadcast_to(x, like.shape), like.sharding)
        return replace(state, normalizer=jax.tree.map(place, seen, state.normalizer))

    def policy(self, state: TrainState) -> NetworkPolicy:
        """The policy as it is now, on one device."""
        params, normalizer = sharding.first((state.params["policy"], state.normalizer))
        return NetworkPolicy(params, normalizer, self.network, "choice" if self.chooses else "clip")

    def essentials(self, state: TrainState) -> TrainState:
        """The policy's parameters and the observation statistics."""
        return blank_but(state, params=state.params, normalizer=state.normalizer)

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """The policy's."""
        return {"policy": self.network.init(keys[0], obs)}

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, annealed."""
        rate = optax.linear_schedule(self.config.learning_rate, 0.0, self.config.num_updates)
        return optax.flatten(optax.adam(rate))

    def play(self, state: TrainState) -> Any:
        """What an update learns from: (features, samples) of each part, and actions."""
        own = jax.random.fold_in(state.key, state.updates)
        count = self.worlds.num_envs * self.config.unroll_length
        of_all = jax.random.randint(own, (count * len(self.devices),), 0, len(self.data.action))
        rows = jax.lax.dynamic_slice_in_dim(of_all, sharding.index() * count, count)
        take = lambda x: jnp.asarray(x)[rows].T
        return jax.tree.map(take, self.data.obs), take(self.data.action)

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """One gradient step."""
        obs, action = self.play(state)
        seen = normalize.normalize(state.normalizer, obs)
        params, optimizer, metrics = self.gradient_step(
            state.params, state.optimizer, self.loss, seen, action
        )
        updates = state.updates + 1
        return replace(state, params=params, optimizer=optimizer, updates=updates), metrics

    def loss(self, params: Any, obs: Any, action: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        """How far the policy is from what was done."""
        found = self.network.apply(params["policy"], obs)
        if isinstance(found, Choice):
            error = -Categorical.log_prob(found, action[None]).mean()
        else:
            error = jnp.square(found.mean - action).mean()
        return error, {"error": error}


def _read(config: Config, world: World) -> dataset.Dataset:
    """The file's episodes, which must be of this world. Raises ValueError where they are not."""
    path = Path(config.dataset).expanduser()
    data = dataset.read(path).better_than(config.min_return)
    if not len(data.length):
        raise ValueError(f"{path}: no episode of it earned {config.min_return:g}")
    seen = jax.eval_shape(world.start, jax.random.key(0)).obs
    shapes = lambda obs: jax.tree.map(lambda x: tuple(x.shape), obs)
    kept = jax.tree.map(lambda x: tuple(np.shape(x)[1:]), data.obs)
    if kept != shapes(seen) or data.action.shape[1:] != world.action_shape:
        raise ValueError(
            f"{path}: observations {kept} and actions {data.action.shape[1:]} are not those of "
            f"{world.name}, {shapes(seen)} and {world.action_shape}"
        )
    space, action = world.action_space, data.action
    chooses = isinstance(space, Discrete)
    low, high = (0, space.n - 1) if isinstance(space, Discrete) else (-1, 1)
    if action.min() < low or action.max() > high or (chooses and (action % 1).any()):
        meant = f"whole numbers from 0 to {high}" if chooses else "in [-1, 1]"
        raise ValueError(
            f"{path}: actions are from {action.min():g} to {action.max():g}, and those of "
            f"{world.name} are {meant}"
        )
    kind = np.int32 if chooses else np.float32
    every = lambda x: x.reshape(-1, *x.shape[1 + len(world.each) :])  # of several agents
    obs = jax.tree.map(lambda x: every(np.asarray(x, np.float32)), data.obs)
    return data._replace(obs=obs, action=every(data.action.astype(kind)))


Learner = Cloning
