"""Proximal policy optimisation on the device: play, judge, learn, all in one compiled program.

Samples are the last axis throughout: trajectories (T, features, worlds), batches (features,
samples).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from gpusim import sharding
from gpusim.agents import losses
from gpusim.agents.actor_critic import ActorCritic, Trajectory
from gpusim.agents.learner import TrainState
from gpusim.agents.ppo.config import PPOConfig
from gpusim.agents.returns import gae
from gpusim.agents.shuffle import shuffle, shuffle_worlds
from gpusim.agents.symmetry import Mirror
from gpusim.envs.world import World
from gpusim.metrics import Metric


class Batch(NamedTuple):
    """Experience as the loss wants it: (features, *samples), which are (T, worlds) if the networks
    remember."""

    obs: Any  # (features, *samples) of each part, normalised
    action: jax.Array  # (actions, *samples) raw
    log_prob: jax.Array  # (*samples)
    advantage: jax.Array  # (*samples) zero mean, unit variance over all devices
    value: jax.Array  # (*samples) of the value network, when it was played
    target: jax.Array  # (*samples) of the value network
    begins: Any  # (T, worlds) bool: is it an episode's first step? () if they do not remember
    memory: Any  # (size, worlds) of each network before the first step; likewise


class PPO(ActorCritic):
    """The algorithm of arXiv:1707.06347."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        **ActorCritic.METRICS,
        "kl": Metric("KL divergence (nats)", "KL", ".4f"),
        "stride": Metric("Length of steps, as a multiple of the learning rate's"),
        "gradient_steps": Metric("Gradient steps of an update that were made"),
    }

    def __init__(self, config: PPOConfig, world: World, **options: Any):
        self.mirror = Mirror.of(world) if config.mirror else None
        super().__init__(config, world, **options)

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play, judge, learn; then let the observations played be part of the statistics."""
        state = self.annealed(state)
        play_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.updates))
        memory = state.memory
        state, seen, trajectory = self.experience(state, play_key)
        state, reward = self.scaled(state, trajectory)
        batch, metrics = self.judge(memory, trajectory, reward)
        metrics |= {"reward": trajectory.reward.mean()}
        state, params, optimizer, learn_metrics = self.learn(state, batch, learn_key)
        if self.mirror is not None and seen is not None:
            seen = self.mirror.balanced(seen)
        return self.learned(state, seen, params, optimizer), metrics | learn_metrics

    def storage(self, obs: Any, params: Any) -> dict[str, Any]:
        """By name: what is known of the rewards, earlier selves, the factor of steps' lengths."""
        adapts = self.config.desired_kl is not None
        return super().storage(obs, params) | ({"stride": jnp.ones(())} if adapts else {})

    def judge(
        self, memory: Any, trajectory: Trajectory, reward: jax.Array
    ) -> tuple[Batch, dict[str, jax.Array]]:
        """Advantages and value targets of what was played; samples are t * worlds + world.
        memory: before it; reward: (T, worlds), scaled."""
        advantage = gae(
            reward,
            trajectory.value,
            trajectory.next_value,
            trajectory.terminated,
            trajectory.truncated,
            discount=self.config.discount,
            lambda_=self.config.gae_lambda,
        )
        target = advantage + trajectory.value
        mean, variance = sharding.moments(advantage)
        features_first = lambda x: jnp.moveaxis(x, 0, -2)
        batch = Batch(
            obs=jax.tree.map(features_first, trajectory.obs),
            action=features_first(trajectory.action),
            log_prob=trajectory.log_prob,
            advantage=(advantage - mean) * jax.lax.rsqrt(variance + 1e-8),
            value=trajectory.value,
            target=target,
            begins=self.begins(trajectory) if self.config.memory else (),
            memory=memory,
        )
        if not self.config.memory:  # then time and world of a sample do not matter
            batch = jax.tree.map(lambda x: _flat(x, 2), batch)
        return batch, {
            "value": trajectory.value.mean(),
            "explained_variance": 1 - variance / (sharding.moments(target)[1] + 1e-8),
        }

    def learn(self, state: TrainState, batch: Batch, key: jax.Array):
        """num_epochs passes over the batch in minibatches: state, params, optimizer state and
        metrics."""
        config = self.config
        stride = state.extra.get("stride", 1.0)
        cost = self.entropy_cost(state)
        sizes: Any = {name: getattr(config, name) for name in ("num_minibatches", "num_epochs")}
        if config.memory:
            order = shuffle_worlds(key, num_envs=self.num_learning, **sizes)
            take = lambda x, worlds: x[..., worlds]
        else:
            length = config.unroll_length
            slots, order = shuffle(key, length=length, num_envs=self.num_learning, **sizes)
            batch = jax.tree.map(lambda x: _row_major(x[..., slots]), batch)  # (..., slots, each)
            take = lambda x, slots: _flat(x[..., slots, :], 2)

        def step(params, optimizer, chosen):
            samples = self.with_images(jax.tree.map(lambda x: take(x, chosen), batch))
            return self.gradient_step(params, optimizer, self.loss, samples, cost, stride=stride)

        def rest(params, optimizer, chosen):
            nothing = jax.eval_shape(step, params, optimizer, chosen)[2]
            nothing = {name: jnp.full_like(x, jnp.nan) for name, x in nothing.items()}
            return params, optimizer, nothing | {"skipped_updates": jnp.zeros(())}

        def minibatch(carry, chosen):
            *carry, goes_on = carry
            if config.max_kl is None:
                *carry, metrics = step(*carry, chosen)
            else:
                *carry, metrics = jax.lax.cond(goes_on, step, rest, *carry, chosen)
                goes_on &= ~(sharding.mean(metrics["kl"]) > config.max_kl)
            return (*carry, goes_on), metrics

        start = (state.params, state.optimizer, jnp.bool(True))
        (params, optimizer, _), metrics = jax.lax.scan(minibatch, start, order)
        if config.desired_kl is not None:
            moved = sharding.mean(jnp.nanmean(metrics["kl"][-config.num_minibatches :]))
            stride = adapted(stride, moved, config.desired_kl)
            state = replace(state, extra=state.extra | {"stride": stride})
            metrics |= {"stride": stride[None]}
        made = {"gradient_steps": jnp.isfinite(metrics["gradient_norm"]).sum().astype(float)}
        skipped = metrics.pop("skipped_updates").sum()
        metrics = {name: jnp.nanmean(values) for name, values in metrics.items()}
        metrics |= {"skipped_updates": skipped} | (made if config.max_kl is not None else {})
        return state, params, optimizer, metrics

    def with_images(self, batch: Batch) -> Batch:
        """Each sample, and its mirror image, which is as good and was as probable; the batch itself
        unless that is wanted."""
        if self.mirror is None:
            return batch
        obs, action = self.mirror.image(batch.obs, batch.action)
        images = batch._replace(obs=obs, action=action)
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y], -1), batch, images)

    def played(self, x: jax.Array) -> jax.Array:
        """Of numbers of samples `with_images` those of what was played: how unlike the policy is
        its own image is no move that it made."""
        return x if self.mirror is None else x[..., : x.shape[-1] // 2]

    def loss(
        self, params: Any, batch: Batch, entropy_cost: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Clipped surrogate + value_cost * value error - entropy_cost * entropy (eq. 7, 9)."""
        config = self.config
        seen = batch.memory, self.look(params, batch.obs), batch.begins
        found = self.said("policy", params, *seen)
        log_ratio = self.distribution.log_prob(found, batch.action) - batch.log_prob
        advantage = batch.advantage
        if config.minibatch_advantages:
            mean, variance = sharding.moments(advantage)
            advantage = (advantage - mean) * jax.lax.rsqrt(variance + 1e-8)
        policy_loss = losses.clipped_surrogate(log_ratio, advantage, config.clip)
        value = self.said("value", params, *seen)
        if config.value_clip is None:
            value_loss = losses.value_error(value, batch.target)
        else:
            value_loss = losses.clipped_value_error(
                value, batch.target, batch.value, config.value_clip
            )
        entropy = self.distribution.entropy(found, batch.action).mean()
        loss = policy_loss + config.value_cost * value_loss - entropy_cost * entropy
        return loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": losses.kl_estimate(self.played(log_ratio)),
            "clip_fraction": losses.clip_fraction(self.played(log_ratio), config.clip),
            **self.exploration(found),
        }


def adapted(stride: Any, kl: Any, desired: float) -> jax.Array:
    """The factor of the length of steps after an update that moved the policy so far, between 0.01
    and 10 (as RSL-RL's adaptive schedule, once an update)."""
    change = jnp.where(kl > 2 * desired, 1 / 1.5, jnp.where(kl < desired / 2, 1.5, 1.0))
    return jnp.clip(stride * change, 0.01, 10.0)


def _row_major(x: jax.Array) -> jax.Array:
    """x laid out as written; XLA would put a gather's index axes last, and then transpose."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _flat(x: jax.Array, axes: int) -> jax.Array:
    """The last `axes` axes as one."""
    return x.reshape(*x.shape[:-axes], -1)
