"""Soft actor-critic (arXiv:1801.01290, 1812.05905) on the device: worlds fill a replay there, and
every update makes some gradient steps on what is drawn from it.

Two critics judge actions, the lower of them counts; the policy is to please them and to stay as
random as a target entropy says, to which the temperature is tuned. Samples are the last axis
throughout.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gpusim import sharding
from gpusim.agents import actor, losses, networks, normalize
from gpusim.agents import learner as learners
from gpusim.agents.config import LearnerConfig
from gpusim.agents.distributions import DISTRIBUTIONS
from gpusim.agents.learner import TrainState
from gpusim.agents.policy import NetworkPolicy
from gpusim.envs.world import Box, World
from gpusim.metrics import Metric

CRITICS = 2


@dataclass(frozen=True)
class Config(LearnerConfig):
    """Soft actor-critic."""

    FIXED: ClassVar[tuple[str, ...]] = (
        *LearnerConfig.FIXED,
        *("replay_size", "policy_hidden", "value_hidden", "activation", "normalize_observations"),
    )

    total_steps: int = 1_000_000
    """Environment steps of the whole run, all worlds together."""
    num_envs: int = 128
    """Worlds simulated at once, all devices together."""
    unroll_length: int = 1
    """Control steps each world makes between two updates."""
    updates_per_call: int = 64
    """Updates made by one call of the compiled program: more means less talk with the host."""
    num_gradient_steps: int = 8
    """Gradient steps of an update."""
    batch_size: int = 256
    """Samples of a gradient step, all devices together."""
    replay_size: int = 500_000
    """Steps that are remembered, all worlds together; the oldest make way."""
    learning_starts: int = 10_000
    """Environment steps before the first gradient step."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    discount: float = 0.99
    """What a reward one control step later is worth."""
    target_rate: float = 0.005
    """How far the target critics follow in a gradient step."""
    target_entropy: float | None = None
    """Entropy (nats) that the policy is kept at; None: minus the number of actions."""
    initial_temperature: float = 1.0
    """What a nat of entropy is worth at the start."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before learning; reported returns are not."""
    normalize_observations: bool = True
    """Shift and scale observations to zero mean and unit variance as seen so far."""
    policy_hidden: tuple[int, ...] = (256, 256)
    """Widths of the policy's hidden layers."""
    value_hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    activation: str = "relu"
    """Activation of hidden layers: tanh, relu, silu, elu."""

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of an update."""
        return self.num_gradient_steps

    @property
    def rows(self) -> int:
        """Control steps of every world that the replay holds: whole unrolls."""
        return self.replay_size // self.num_envs // self.unroll_length * self.unroll_length

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        self.require(0 <= self.discount <= 1, "discount", "in [0, 1]")
        self.require(0 < self.target_rate <= 1, "target_rate", "in (0, 1]")
        for name in ("learning_rate", "initial_temperature"):
            self.require(0 < getattr(self, name) < math.inf, name, "positive and finite")
        self.require(self.num_gradient_steps >= 1, "num_gradient_steps", "at least 1")
        self.require(self.learning_starts >= 0, "learning_starts", "at least 0")
        whole = self.batch_size >= 1 and self.batch_size % num_devices == 0
        self.require(whole, "batch_size", f"a multiple of the {num_devices} device(s)")
        least = self.num_envs * self.unroll_length
        self.require(self.replay_size >= least, "replay_size", f"at least one unroll: {least}")
        self.require(math.isfinite(self.reward_scale), "reward_scale", "finite")
        known = self.activation in ("tanh", "relu", "silu", "elu")
        self.require(known, "activation", "tanh, relu, silu or elu")


class Decision(NamedTuple):
    """What the policy did in all worlds."""

    action: jax.Array  # (actions, worlds) in [-1, 1]


class Steps(NamedTuple):
    """Steps that were made, (..., worlds) or (..., samples); observations as they were seen."""

    obs: Any  # (features, ...) of each part, before the step
    action: jax.Array  # (actions, ...) in [-1, 1]
    reward: jax.Array
    terminated: jax.Array  # bool
    next_obs: Any  # (features, ...) of each part: where the step led, before any restart


class Sac(learners.Learner):
    """The algorithm. `TrainState.extra` is the replay: Steps of (rows, ..., worlds)."""

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
        self.policy_network: Any = networks.Squashed(
            config.policy_hidden, space.size, config.activation
        )
        self.critic_network: Any = networks.ActionValue(config.value_hidden, config.activation)
        self.distribution = DISTRIBUTIONS["squash"]
        super().__init__(config, world, **options)

    def policy(self, state: TrainState) -> NetworkPolicy:
        """The policy as it is now, on one device."""
        params, normalizer = sharding.first((state.params["policy"], state.normalizer))
        return NetworkPolicy(params, normalizer, self.policy_network, "squash")

    def essentials(self, state: TrainState) -> TrainState:
        """The policy's parameters and the observation statistics."""
        nothing = dict.fromkeys(("optimizer", "envs", "memory", "key", "updates", "extra"))
        return replace(state, params={"policy": state.params["policy"]}, **nothing)

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """Parameters of the policy, of the critics and of those they chase, and the logarithm of
        the temperature."""
        action = jnp.zeros(self.actions)
        begin = lambda key: self.critic_network.init(key, obs, action)
        critics = jax.vmap(begin)(jax.random.split(keys[1], CRITICS))
        return {
            "policy": self.policy_network.init(keys[0], obs),
            "value": critics,
            "target": critics,
            "temperature": jnp.log(jnp.float32(self.config.initial_temperature)),
        }

    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.flatten(optax.adam(self.config.learning_rate))

    def storage(self, obs: Any) -> Steps:
        """An empty replay."""
        shape = lambda *size: jnp.zeros((self.config.rows, *size, self.worlds.num_envs))
        seen = jax.tree.map(lambda x: shape(*x.shape), obs)
        flags = jnp.zeros(shape().shape, bool)
        return Steps(seen, shape(self.actions), shape(), flags, seen)

    def play(self, state: TrainState) -> Any:
        """Let every world make unroll_length control steps."""
        return self._experience(state, state.key)

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play, remember, and learn from what is remembered."""
        play_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.updates))
        envs, steps = self._experience(state, play_key)
        length, rows = self.config.unroll_length, self.config.rows
        at = state.updates * length % rows
        put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, at, 0)
        extra = jax.tree.map(put, state.extra, steps)
        normalizer = state.normalizer
        if normalizer is not None:
            features_first = lambda x: jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
            seen = normalize.measure(jax.tree.map(features_first, steps.obs))
            normalizer = normalize.merge(normalizer, normalize.over_devices(seen))
        updates = state.updates + 1
        state = replace(state, envs=envs, extra=extra, normalizer=normalizer, updates=updates)
        params, optimizer, metrics = self._learn(state, learn_key)
        metrics |= {"reward": steps.reward.mean()}
        return replace(state, params=params, optimizer=optimizer), metrics

    def _experience(self, state: TrainState, key: jax.Array) -> tuple[Any, Steps]:
        """Play with actions drawn from the policy: the worlds where it led, and the steps."""
        shape = (self.config.unroll_length, self.actions, self.worlds.num_envs)
        draw = lambda key: self.distribution.noise(key, (shape[0] * shape[1],))
        noise = jax.vmap(draw, out_axes=-1)(sharding.split(key, shape[2])).reshape(shape)

        def act(memory, obs, noise):
            found = self.policy_network.apply(
                state.params["policy"], normalize.normalize(state.normalizer, obs)
            )
            raw = self.distribution.sample(found, noise)
            return memory, Decision(self.distribution.to_action(raw))

        def keep(obs, decision, envs, final_obs):
            return Steps(obs, decision.action, envs.reward, envs.terminated, final_obs)

        envs, _, _, steps = actor.rollout(self.worlds, state.envs, (), None, noise, act, keep)
        return envs, steps

    def _learn(self, state: TrainState, key: jax.Array):
        """Gradient steps, once there is enough to learn from: params, optimizer state, metrics."""
        filled = jnp.minimum(state.updates * self.config.unroll_length, self.config.rows)

        def step(carry, key):
            params, optimizer = carry
            sample_key, noise_key = jax.random.split(jax.random.fold_in(key, sharding.index()))
            steps = self._drawn(state.extra, state.normalizer, sample_key, filled)
            target = params["target"]
            params, optimizer, metrics = self.gradient_step(
                params, optimizer, self.loss, steps, noise_key
            )
            follow = lambda old, value: old + self.config.target_rate * (value - old)
            target = jax.tree.map(follow, target, params["value"])
            return (params | {"target": target}, optimizer), metrics

        def learn(carry):
            keys = jax.random.split(key, self.config.gradient_steps)
            carry, metrics = jax.lax.scan(step, carry, keys)
            skipped = metrics.pop("skipped_updates").sum()
            return carry, {k: jnp.nanmean(x) for k, x in metrics.items()} | {
                "skipped_updates": skipped
            }

        def wait(carry):
            nothing = jax.eval_shape(learn, carry)[1]
            metrics = {name: jnp.full(x.shape, jnp.nan) for name, x in nothing.items()}
            return carry, metrics | {"skipped_updates": jnp.zeros(())}

        begun = state.updates * self.config.steps_per_update >= self.config.learning_starts
        carry = state.params, state.optimizer
        (params, optimizer), metrics = jax.lax.cond(begun, learn, wait, carry)
        return params, optimizer, metrics | {"temperature": jnp.exp(params["temperature"])}

    def _drawn(
        self, replay: Steps, normalizer: normalize.Statistics | None, key: jax.Array, filled: Any
    ) -> Steps:
        """This device's share of a batch (..., samples), any step as likely; normalised."""
        size = (self.config.batch_size // len(self.devices),)
        row_key, world_key = jax.random.split(key)
        row = jax.random.randint(row_key, size, 0, filled)
        world = jax.random.randint(world_key, size, 0, self.worlds.num_envs)
        found = jax.tree.map(lambda x: jnp.moveaxis(x[row, ..., world], 0, -1), replay)
        seeing = lambda obs: normalize.normalize(normalizer, obs)
        return found._replace(obs=seeing(found.obs), next_obs=seeing(found.next_obs))

    def loss(
        self, params: Any, steps: Steps, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The critics' error, the policy's and the temperature's losses; none of them pulls at what
        another one is there for."""
        fixed = jax.lax.stop_gradient(params)
        temperature = jnp.exp(fixed["temperature"])
        keys = jax.random.split(key)
        judge = jax.vmap(self.critic_network.apply, (0, None, None))

        action, log_prob = self._act(fixed, steps.next_obs, keys[0])
        later = judge(fixed["target"], steps.next_obs, action).min(0) - temperature * log_prob
        reward = steps.reward * self.config.reward_scale
        target = losses.td_target(reward, steps.terminated, later, self.config.discount)
        value = judge(params["value"], steps.obs, steps.action)
        value_loss = CRITICS * losses.value_error(value, jnp.broadcast_to(target, value.shape))

        action, log_prob = self._act(params, steps.obs, keys[1])
        worth = judge(fixed["value"], steps.obs, action).min(0)
        policy_loss = losses.soft_policy(log_prob, worth, temperature)
        temperature_loss = losses.temperature(
            params["temperature"], jax.lax.stop_gradient(log_prob), self.target_entropy
        )
        return value_loss + policy_loss + temperature_loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "value": value.mean(),
            "entropy": -log_prob.mean(),
        }

    def _act(self, params: Any, obs: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A drawn action (actions, samples), and the logarithm of its density (samples,)."""
        found = self.policy_network.apply(params["policy"], obs)
        raw = self.distribution.sample(found, self.distribution.noise(key, found.mean.shape))
        return self.distribution.to_action(raw), self.distribution.log_prob(found, raw)


Learner = Sac
