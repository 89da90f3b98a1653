"""Proximal policy optimisation on the device: play, judge, learn, all in one compiled program.

Samples are the last axis throughout: observations (features, worlds), trajectories (T, features,
worlds), batches (features, samples). Only the environments' border is (worlds, features).
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.experimental.layout import Layout, with_layout_constraint

from gpusim import sharding
from gpusim.agents import networks, normalize
from gpusim.agents.config import PPOConfig
from gpusim.agents.distributions import DISTRIBUTIONS, sample
from gpusim.agents.policy import Policy
from gpusim.agents.returns import gae
from gpusim.agents.shuffle import shuffle
from gpusim.envs.vec_env import autoreset
from gpusim.envs.world import World

__all__ = ["PPO", "PPOConfig", "Policy", "TrainState"]


@struct.dataclass
class TrainState:
    """Everything a run is. Stacked over devices; only `envs` differs between them."""

    params: Any  # {"policy": ..., "value": ...}
    optimizer: optax.OptState
    normalizer: normalize.Statistics | None  # of observations; None if they are used as they are
    envs: Any  # VecState of this device's worlds
    key: jax.Array  # never changes: every draw is derived from it and `updates`
    updates: jax.Array  # () int32, updates made; times steps_per_update is environment steps


class Trajectory(NamedTuple):
    """What `unroll_length` control steps of all worlds of a device brought, (T, ..., worlds)."""

    obs: jax.Array  # (T, features, worlds) normalised, before the step
    action: jax.Array  # (T, actions, worlds) raw: before clipping or squashing
    log_prob: jax.Array  # (T, worlds) of action, when it was drawn
    reward: jax.Array  # (T, worlds) unscaled
    terminated: jax.Array  # (T, worlds) bool
    truncated: jax.Array  # (T, worlds) bool
    value: jax.Array  # (T, worlds) of obs
    next_value: jax.Array  # (T, worlds) of where the step led, before any restart


class Batch(NamedTuple):
    """Experience as the loss wants it: (features, *samples)."""

    obs: jax.Array  # (features, *samples) normalised
    action: jax.Array  # (actions, *samples) raw
    log_prob: jax.Array  # (*samples)
    advantage: jax.Array  # (*samples) zero mean, unit variance over all devices
    target: jax.Array  # (*samples) for the value network


class PPO:
    """The algorithm for one configuration and one kind of world.

    episode_length: time limit in control steps, by default the world's own. Holds nothing that
    changes: all of a run is in the TrainState.
    """

    def __init__(
        self,
        config: PPOConfig,
        world: World,
        *,
        episode_length: int | None = None,
        devices: sharding.Devices | int | None = None,
        spmd: sharding.Mode = "pmap",
    ):
        self.devices = sharding.all_devices(devices)
        config.check(len(self.devices))
        self.config = config
        lengths = [episode_length or world.max_episode_steps, config.training_episode_length]
        worlds = partial(autoreset, world, episode_length=min(n for n in lengths if n))
        self.all_worlds = worlds(config.num_envs)
        self.venv = worlds(config.num_envs // len(self.devices))
        self.distribution = DISTRIBUTIONS[config.distribution]
        self.policy_network: Any = networks.Policy(
            config.policy_hidden, self.venv.world.action_size, config.activation, config.initial_std
        )
        self.value_network: Any = networks.Value(config.value_hidden, config.activation)
        self.optimizer = _optimizer(config)
        self._init_spmd = sharding.spmd(self._init, self.devices, mode=spmd)
        self.train_step = sharding.spmd(
            self._train_step, self.devices, mode=spmd, donate=(0,), out_axes=(0, None)
        )
        self.play = sharding.spmd(lambda s: self._play(s, s.key), self.devices, mode=spmd)

    # ---- what the host calls; train_step(state) -> (state, metrics) consumes its argument, ----
    # ---- play(state) -> (worlds, trajectory) is the rollout of one update by itself, to be timed

    def init(self, key: jax.Array) -> TrainState:
        """The state of a run that has not started."""
        return self._init_spmd(sharding.replicate(key, self.devices))

    def policy(self, state: TrainState) -> Policy:
        """The policy as it is now, on one device."""
        params, normalizer = sharding.first((state.params["policy"], state.normalizer))
        return Policy(params, normalizer, self.policy_network, self.config.distribution)

    def env_steps(self, state: TrainState) -> int:
        """Environment steps made so far by all worlds together; a Python int never overflows."""
        return int(state.updates[0]) * self.config.steps_per_update

    # ---- the algorithm, as one device runs it ----

    def _init(self, key: jax.Array) -> TrainState:
        policy_key, value_key, envs_key, run_key = jax.random.split(key, 4)
        num, mine = self.venv.num_envs, sharding.index() * self.venv.num_envs
        worlds = self.all_worlds.reset(envs_key)  # so that they do not depend on the devices
        obs = jnp.zeros(worlds.obs.shape[1:])
        params = {
            "policy": self.policy_network.init(policy_key, obs),
            "value": self.value_network.init(value_key, obs),
        }
        return TrainState(
            params=params,
            optimizer=self.optimizer.init(params),
            normalizer=normalize.init(obs.size) if self.config.normalize_observations else None,
            envs=jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, mine, num), worlds),
            key=run_key,
            updates=jnp.zeros((), jnp.int32),
        )

    def _train_step(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """`updates_per_call` updates, and what happened, averaged over them and the devices."""
        state = replace(state, envs=self.venv.clear_stats(state.envs))
        update = lambda state, _: self._update(state)
        state, metrics = jax.lax.scan(update, state, length=self.config.updates_per_call)
        metrics = {name: jnp.nanmean(values) for name, values in metrics.items()}
        return state, sharding.mean(metrics) | _episodes(state.envs)

    def _update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play, judge, learn; then let the observations played be part of the statistics."""
        play_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.updates))
        envs, seen, trajectory = self._play(state, play_key)
        batch, metrics = self._judge(trajectory)
        params, optimizer, learn_metrics = self._learn(state, batch, learn_key)
        normalizer = state.normalizer
        if normalizer is not None:
            normalizer = normalize.merge(normalizer, normalize.over_devices(seen))
        state = TrainState(params, optimizer, normalizer, envs, state.key, state.updates + 1)
        return state, metrics | learn_metrics

    def _play(self, state: TrainState, key: jax.Array) -> tuple[Any, Any, Trajectory]:
        """Let every world make unroll_length control steps: worlds, statistics, trajectory.

        What is seen of an observation (action, value, statistics) is computed while it is in cache.
        """
        shape = (self.config.unroll_length, self.venv.world.action_size, self.venv.num_envs)
        # one flat draw a world: XLA's code for a many-dimensional one is larger and slower
        draw = lambda key: jax.random.normal(key, (shape[0] * shape[1],))
        noise = jax.vmap(draw, out_axes=-1)(sharding.split(key, shape[2])).reshape(shape)
        normalized = lambda obs: normalize.normalize(state.normalizer, obs.T)  # features first
        value = lambda obs: self.value_network.apply(state.params["value"], obs)

        def step(carry, noise):
            envs, seen = carry
            if seen is not None:
                seen = normalize.merge(seen, normalize.measure(envs.obs.T))
            obs = normalized(envs.obs)
            normal = self.policy_network.apply(state.params["policy"], obs)
            action = sample(normal, noise)
            envs = self.venv.step(envs, self.distribution.to_action(action).T)
            return (envs, seen), Trajectory(
                obs=obs,
                action=action,
                log_prob=self.distribution.log_prob(normal, action),
                reward=envs.reward,
                terminated=envs.terminated,
                truncated=envs.truncated,
                value=value(obs),
                next_value=value(normalized(envs.final_obs)),
            )

        nothing = jax.tree.map(jnp.zeros_like, state.normalizer)
        (envs, seen), trajectory = jax.lax.scan(step, (state.envs, nothing), noise)
        return envs, seen, trajectory

    def _judge(self, trajectory: Trajectory) -> tuple[Batch, dict[str, jax.Array]]:
        """Advantages and value targets of what was played; samples are t * worlds + world."""
        advantage = gae(
            trajectory.reward * self.config.reward_scale,
            trajectory.value,
            trajectory.next_value,
            trajectory.terminated,
            trajectory.truncated,
            discount=self.config.discount,
            lambda_=self.config.gae_lambda,
        )
        target = advantage + trajectory.value
        mean, variance = sharding.moments(advantage)
        batch = Batch(
            obs=_samples_last(trajectory.obs),
            action=_samples_last(trajectory.action),
            log_prob=trajectory.log_prob.reshape(-1),
            advantage=((advantage - mean) * jax.lax.rsqrt(variance + 1e-8)).reshape(-1),
            target=target.reshape(-1),
        )
        return batch, {
            "reward": trajectory.reward.mean(),
            "value": trajectory.value.mean(),
            "explained_variance": 1 - variance / (sharding.moments(target)[1] + 1e-8),
        }

    def _learn(self, state: TrainState, batch: Batch, key: jax.Array):
        """num_epochs passes over the batch in minibatches: params, optimizer state, metrics."""
        config = self.config
        slots, order = shuffle(
            key,
            length=config.unroll_length,
            num_envs=self.venv.num_envs,
            num_minibatches=config.num_minibatches,
            num_epochs=config.num_epochs,
        )
        batch = jax.tree.map(lambda x: _row_major(x[..., slots]), batch)  # (features, slots, each)

        def minibatch(carry, chosen):
            params, optimizer = carry
            samples = jax.tree.map(lambda x: _flat(x[..., chosen, :], 2), batch)
            gradients, metrics = jax.grad(self._loss, has_aux=True)(params, samples)
            gradients = sharding.mean(gradients)
            norm = optax.tree.norm(gradients)
            updates, stepped = self.optimizer.update(gradients, optimizer, params)
            proposed = (optax.apply_updates(params, updates), stepped)
            finite = jnp.isfinite(norm)  # one bad sample must not end a run
            carry = jax.tree.map(lambda new, old: jnp.where(finite, new, old), proposed, carry)
            metrics = {name: jnp.where(finite, x, jnp.nan) for name, x in metrics.items()}
            return carry, metrics | {"gradient_norm": norm, "skipped_updates": 1.0 - finite}

        start = (state.params, state.optimizer)
        (params, optimizer), metrics = jax.lax.scan(minibatch, start, order)
        skipped = metrics.pop("skipped_updates").sum()
        metrics = {name: jnp.nanmean(values) for name, values in metrics.items()}
        std = jnp.exp(params["policy"]["params"]["log_std"]).mean()
        return params, optimizer, metrics | {"skipped_updates": skipped, "action_std": std}

    def _loss(self, params: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Clipped surrogate + value_cost * value error / 2 - entropy_cost * entropy (eq. 7, 9)."""
        config = self.config
        normal = self.policy_network.apply(params["policy"], batch.obs)
        log_ratio = self.distribution.log_prob(normal, batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        policy_loss = -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage).mean()
        value = self.value_network.apply(params["value"], batch.obs)
        value_loss = 0.5 * jnp.square(value - batch.target).mean()
        entropy = self.distribution.entropy(normal, batch.action).mean()
        loss = policy_loss + config.value_cost * value_loss - config.entropy_cost * entropy
        return loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": (ratio - 1 - log_ratio).mean(),  # k3 of joschu.net/blog/kl-approx.html
            "clip_fraction": (jnp.abs(ratio - 1) > config.clip).mean(),
        }


def _optimizer(config: PPOConfig) -> optax.GradientTransformation:
    """Adam on clipped gradients; its step count drives the annealing."""
    gradient_steps = config.num_updates * config.num_epochs * config.num_minibatches
    rate = optax.linear_schedule(config.learning_rate, 0.0, gradient_steps)
    adam = optax.adam(rate if config.anneal else config.learning_rate)
    # One long vector: a third of the time and half of the compile time of doing it leaf by leaf.
    return optax.flatten(optax.chain(optax.clip_by_global_norm(config.max_grad_norm), adam))


def _samples_last(x: jax.Array) -> jax.Array:
    """(T, features, worlds) -> (features, T * worlds)."""
    return _flat(jnp.moveaxis(x, 1, 0), 2)


def _row_major(x: jax.Array) -> jax.Array:
    """x laid out as written; XLA would put a gather's index axes last, and then transpose."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _flat(x: jax.Array, axes: int) -> jax.Array:
    """The last `axes` axes as one."""
    return x.reshape(*x.shape[:-axes], -1)


def _episodes(envs: Any) -> dict[str, jax.Array]:
    """Statistics of episodes finished since clear_stats, over all devices; nan if none."""
    totals = jax.tree.map(lambda x: x.astype(float), envs.totals)
    returns, lengths, count = sharding.total(totals)
    return {
        "episode_return": returns / count,
        "episode_length": lengths / count,
        "episodes": count,
    }
