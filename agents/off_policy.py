"""What learners that remember share: worlds fill a replay on the device, and every update makes
some gradient steps on what is drawn from it. Samples are the last axis throughout, see `actor.py`.
"""

import abc
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gpusim import sharding
from gpusim.agents import actor, networks, normalize
from gpusim.agents.config import LearnerConfig
from gpusim.agents.critics import Categorical, Critic, Quantile, Scalar
from gpusim.agents.learner import Learner, TrainState, blank_but
from gpusim.agents.policy import NetworkPolicy
from gpusim.envs.world import Box, World


@dataclass(frozen=True)
class OffPolicyConfig(LearnerConfig):
    """Learners from a replay."""

    FIXED: ClassVar[tuple[str, ...]] = (
        *LearnerConfig.FIXED,
        *("replay_size", "value_hidden", "activation", "normalize_observations"),
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
    n_step: int = 1
    """Rewards that are summed before the target network says what follows."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    discount: float = 0.99
    """What a reward one control step later is worth."""
    target_rate: float = 0.005
    """How far the target networks follow in a gradient step."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before learning; reported returns are not."""
    normalize_observations: bool = True
    """Shift and scale observations to zero mean and unit variance as seen so far."""
    value_hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "relu"
    """Activation of hidden layers."""

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
        self.require(0 < self.learning_rate < math.inf, "learning_rate", "positive and finite")
        for name in ("num_gradient_steps", "n_step"):
            self.require(getattr(self, name) >= 1, name, "at least 1")
        self.require(self.learning_starts >= 0, "learning_starts", "at least 0")
        whole = self.batch_size >= 1 and self.batch_size % num_devices == 0
        self.require(whole, "batch_size", f"a multiple of the {num_devices} device(s)")
        least = self.num_envs * self.unroll_length * -(-self.n_step // self.unroll_length)
        self.require(self.replay_size >= least, "replay_size", f"at least {least}: n_step, unrolls")
        self.require(math.isfinite(self.reward_scale), "reward_scale", "finite")


@dataclass(frozen=True)
class TwinCriticsConfig(OffPolicyConfig):
    """Learners of a policy of continuous actions and two critics."""

    FIXED: ClassVar[tuple[str, ...]] = (
        *(*OffPolicyConfig.FIXED, "policy_hidden"),
        *("critic", "critic_outputs", "value_low", "value_high"),
    )

    policy_hidden: tuple[int, ...] = (256, 256)
    """Widths of the policy's hidden layers."""
    critic: Literal["scalar", "categorical", "quantile"] = "scalar"
    """What critics say of an action: the expected return, the probabilities of critic_outputs
    returns from value_low to value_high, or critic_outputs quantiles of the return."""
    critic_outputs: int = 51
    """How many."""
    value_low: float = -100.0
    """The least scaled return that a categorical critic knows."""
    value_high: float = 100.0
    """The largest."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        self.require(self.critic_outputs >= 2, "critic_outputs", "at least 2")
        between = -math.inf < self.value_low < self.value_high < math.inf
        self.require(between, "value_low", f"finite, and below value_high, {self.value_high}")


class Decision(NamedTuple):
    """What was done in all worlds."""

    action: jax.Array  # (actions, worlds) in [-1, 1], or the choice (worlds,)


class Steps(NamedTuple):
    """Steps that were made, (..., worlds); observations as they were seen."""

    obs: Any  # (features, ...) of each part, before the step
    action: jax.Array  # (actions, ...) in [-1, 1], or the choice (...)
    reward: jax.Array
    terminated: jax.Array  # bool
    truncated: jax.Array  # bool
    next_obs: Any  # (features, ...) of each part: where the step led, before any restart


class Batch(NamedTuple):
    """What a gradient step learns from, (..., samples); observations are normalised."""

    obs: Any  # (features, ...) of each part
    action: jax.Array  # (actions, ...) in [-1, 1], or the choice (...)
    reward: jax.Array  # scaled: the discounted sum of up to n_step of them
    next_obs: Any  # (features, ...) of each part: where they led
    discount: jax.Array  # what the value there is worth here; 0 where the episode ended for good


class OffPolicy(Learner):
    """`TrainState.extra` is the replay: Steps of (rows, ..., worlds), a ring. `params["target"]`
    holds what chases the networks of the same names.

    Subclasses say what is done (`draws`, `explore`) and what is learned (`loss`).
    """

    ACTS: ClassVar[str] = "policy"
    """The name of the parameters that act."""

    @abc.abstractmethod
    def draws(self, key: jax.Array, length: int) -> Any:
        """The random numbers of one world for so many steps, (length, ...)."""

    def stirred(self, memory: Any, noise: Any) -> tuple[Any, Any]:
        """What is remembered of the noise of a step, (..., worlds), and the noise to explore with,
        from what was remembered and what is drawn."""
        return memory, noise

    @abc.abstractmethod
    def explore(self, params: Any, obs: Any, noise: Any, place: Any) -> jax.Array:
        """Actions for normalised observations (features, worlds). noise: (..., worlds) of `draws`;
        place: (worlds,) from 0 to 1, of each among all worlds."""

    @abc.abstractmethod
    def loss(
        self, params: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What a gradient step goes down, and metrics."""

    @abc.abstractmethod
    def action(self) -> jax.Array:
        """An action of one world: its shape and dtype."""

    def essentials(self, state: TrainState) -> TrainState:
        """The policy's parameters and the observation statistics."""
        only = {self.ACTS: state.params[self.ACTS]}
        return blank_but(state, params=only, normalizer=state.normalizer)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.flatten(optax.adam(self.config.learning_rate))

    def storage(self, obs: Any, params: Any) -> Steps:
        """An empty replay."""
        rows, worlds = self.config.rows, self.worlds.actors
        room = lambda x: jnp.zeros((rows, *x.shape, worlds), x.dtype)
        seen, scalar = jax.tree.map(room, obs), jnp.zeros(())
        flags = room(scalar.astype(bool))
        return Steps(seen, room(self.action()), room(scalar), flags, flags, seen)

    def play(self, state: TrainState) -> Any:
        """Let every world make unroll_length control steps."""
        after, steps = self._experience(state, state.key)
        return after.envs, steps

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play, remember, and learn from what is remembered."""
        play_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.updates))
        state, steps = self._experience(state, play_key)
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
        state = replace(state, extra=extra, normalizer=normalizer, updates=updates)
        params, optimizer, metrics = self._learn(state, learn_key)
        metrics |= {"reward": steps.reward.mean()}
        return replace(state, params=params, optimizer=optimizer), metrics

    def _experience(self, state: TrainState, key: jax.Array) -> tuple[TrainState, Steps]:
        """Play, exploring: the state with the worlds where it led, and the steps."""
        mine, length = self.worlds.actors, self.config.unroll_length
        draw = lambda key: self.draws(key, length)
        noise = jax.vmap(draw, out_axes=-1)(sharding.split(key, mine))
        number = sharding.index() * mine + jnp.arange(mine)
        place = number / max(self.all_worlds.actors - 1, 1)

        def act(memory, obs, noise):
            seen = normalize.normalize(state.normalizer, obs)
            memory, noise = self.stirred(memory, noise)
            return memory, Decision(self.explore(state.params, seen, noise, place))

        def keep(obs, decision, envs, final_obs):
            flags = envs.terminated, envs.truncated
            return Steps(obs, decision.action, envs.reward, *flags, final_obs)

        envs, fault, memory, _, steps = actor.rollout(
            *(self.worlds, state.envs, state.fault, state.memory),
            *(None, noise, act, keep),
            forget=lambda: self.nothing_remembered(mine),
        )
        return replace(state, envs=envs, fault=fault, memory=memory), steps

    def _learn(self, state: TrainState, key: jax.Array):
        """Gradient steps, once there is enough to learn from: params, optimizer state, metrics."""
        config = self.config

        def step(carry, key):
            params, optimizer = carry
            sample_key, noise_key = jax.random.split(jax.random.fold_in(key, sharding.index()))
            batch = self._drawn(state, sample_key)
            params, optimizer, metrics = self.gradient_step(
                params, optimizer, self.loss, batch, noise_key
            )
            follow = lambda old, new: old + config.target_rate * (new - old)
            chased = {name: params[name] for name in params["target"]}
            target = jax.tree.map(follow, params["target"], chased)
            return (params | {"target": target}, optimizer), metrics

        def learn(carry):
            keys = jax.random.split(key, config.gradient_steps)
            carry, metrics = jax.lax.scan(step, carry, keys)
            skipped = metrics.pop("skipped_updates").sum()
            metrics = {name: jnp.nanmean(x) for name, x in metrics.items()}
            return carry, metrics | {"skipped_updates": skipped}

        def wait(carry):
            nothing = jax.eval_shape(learn, carry)[1]
            metrics = {name: jnp.full(x.shape, jnp.nan) for name, x in nothing.items()}
            return carry, metrics | {"skipped_updates": jnp.zeros(())}

        made = state.updates * config.steps_per_update
        begun = (made >= config.learning_starts) & (made >= config.n_step * config.num_envs)
        carry = state.params, state.optimizer
        (params, optimizer), metrics = jax.lax.cond(begun, learn, wait, carry)
        return params, optimizer, metrics

    def _drawn(self, state: TrainState, key: jax.Array) -> Batch:
        """This device's share of a batch, any step as likely that n_step - 1 others follow."""
        config, replay = self.config, state.extra
        size = (config.batch_size // len(self.devices),)
        row_key, world_key = jax.random.split(key)
        made = state.updates * config.unroll_length
        oldest = jnp.maximum(made - config.rows, 0)
        moment = jax.random.randint(row_key, size, oldest, made - config.n_step + 1)
        world = jax.random.randint(world_key, size, 0, self.worlds.actors)

        def at(x: jax.Array, moment: jax.Array) -> jax.Array:
            return jnp.moveaxis(x[moment % config.rows, ..., world], 0, -1)

        total, worth = jnp.zeros(size), jnp.ones(size)  # worth: of what is next; 0 after the end
        last, running = moment, jnp.ones(size, bool)
        for k in range(config.n_step):
            total += jnp.where(running, worth * at(replay.reward, moment + k), 0)
            last = jnp.where(running, moment + k, last)
            terminated = running & at(replay.terminated, moment + k)
            worth = jnp.where(terminated, 0, jnp.where(running, worth * config.discount, worth))
            running &= ~(terminated | at(replay.truncated, moment + k))
        part = lambda tree, moment: jax.tree.map(lambda x: at(x, moment), tree)
        seeing = lambda obs: normalize.normalize(state.normalizer, obs)
        return Batch(
            obs=seeing(part(replay.obs, moment)),
            action=at(replay.action, moment),
            reward=total * config.reward_scale,
            next_obs=seeing(part(replay.next_obs, last)),
            discount=worth,
        )


class TwinCritics(OffPolicy):
    """A policy of continuous actions, squashed by tanh, and two critics; the lower one counts."""

    CRITICS = 2

    def __init__(self, config: TwinCriticsConfig, world: World, **options: Any):
        space, name = world.action_space, type(self).__name__.lower()
        if not isinstance(space, Box) or space.size < 1:
            raise ValueError(f"{world.name}: {name} learns continuous actions, not {space}")
        self.actions = space.size
        self.policy_network = self.acting(config)
        self.critic: Critic = {
            "scalar": Scalar(),
            "categorical": Categorical(config.critic_outputs, config.value_low, config.value_high),
            "quantile": Quantile(config.critic_outputs),
        }[config.critic]
        self.critic_network: Any = networks.ActionValue(
            config.value_hidden, self.critic.outputs, config.activation
        )
        super().__init__(config, world, **options)

    @abc.abstractmethod
    def acting(self, config: Any) -> Any:
        """The policy's network."""

    def policy(self, state: TrainState) -> NetworkPolicy:
        """The policy as it is now, on one device."""
        params, normalizer = sharding.first((state.params["policy"], state.normalizer))
        return NetworkPolicy(params, normalizer, self.policy_network, "tanh")

    def action(self) -> jax.Array:
        """An action of one world: its shape and dtype."""
        return jnp.zeros(self.actions)

    def draws(self, key: jax.Array, length: int) -> jax.Array:
        """Standard normal, (length, actions)."""
        return jax.random.normal(key, (length * self.actions,)).reshape(length, -1)

    def critics(self, key: jax.Array, obs: Any) -> Any:
        """Parameters of both."""
        begin = lambda key: self.critic_network.init(key, obs, self.action())
        return jax.vmap(begin)(jax.random.split(key, self.CRITICS))

    def said(self, critics: Any, obs: Any, action: jax.Array) -> jax.Array:
        """What both say of actions, (2, outputs, samples)."""
        return jax.vmap(self.critic_network.apply, (0, None, None))(critics, obs, action)

    def judged(self, critics: Any, obs: Any, action: jax.Array) -> jax.Array:
        """The lower of the returns that they expect of actions, (samples,)."""
        return jax.vmap(self.critic.expected)(self.said(critics, obs, action)).min(0)

    def critics_loss(
        self, params: Any, batch: Batch, action: jax.Array, more: jax.Array | float = 0.0
    ) -> tuple[jax.Array, jax.Array]:
        """The sum of both errors, and the returns that they expect, (2, samples). What follows is
        said by the lower of the two that chase them, of this action (actions, samples); `more`:
        (samples,) what it is worth besides."""
        later = self.said(params["target"]["value"], batch.next_obs, action)
        lower = jnp.argmin(jax.vmap(self.critic.expected)(later), 0)
        later = jnp.take_along_axis(later, lower[None, None], 0)[0]
        target = self.critic.target(later, batch.reward, batch.discount, more)
        target = jax.lax.stop_gradient(target)
        now = self.said(params["value"], batch.obs, batch.action)
        error = jax.vmap(lambda said: self.critic.error(said, target))(now).sum()
        return error, jax.vmap(self.critic.expected)(now)
