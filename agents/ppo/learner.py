"""Proximal policy optimisation on the device: play, judge, learn, all in one compiled program.

Samples are the last axis throughout: trajectories (T, features, worlds), batches (features,
samples).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from gpusim import sharding
from gpusim.agents import losses
from gpusim.agents.actor_critic import ActorCritic, Trajectory
from gpusim.agents.learner import TrainState
from gpusim.agents.returns import gae
from gpusim.agents.shuffle import shuffle
from gpusim.metrics import Metric


class Batch(NamedTuple):
    """Experience as the loss wants it: (features, *samples)."""

    obs: Any  # (features, *samples) of each part, normalised
    action: jax.Array  # (actions, *samples) raw
    log_prob: jax.Array  # (*samples)
    advantage: jax.Array  # (*samples) zero mean, unit variance over all devices
    target: jax.Array  # (*samples) of the value network


class PPO(ActorCritic):
    """The algorithm of arXiv:1707.06347."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        **ActorCritic.METRICS,
        "kl": Metric("KL divergence (nats)", "KL", ".4f"),
    }

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Play, judge, learn; then let the observations played be part of the statistics."""
        play_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.updates))
        state, seen, trajectory = self.experience(state, play_key)
        batch, metrics = self.judge(trajectory)
        params, optimizer, learn_metrics = self.learn(state, batch, learn_key)
        return self.learned(state, seen, params, optimizer), metrics | learn_metrics

    def judge(self, trajectory: Trajectory) -> tuple[Batch, dict[str, jax.Array]]:
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
            obs=jax.tree.map(_samples_last, trajectory.obs),
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

    def learn(self, state: TrainState, batch: Batch, key: jax.Array):
        """num_epochs passes over the batch in minibatches: params, optimizer state, metrics."""
        config = self.config
        slots, order = shuffle(
            key,
            length=config.unroll_length,
            num_envs=self.worlds.num_envs,
            num_minibatches=config.num_minibatches,
            num_epochs=config.num_epochs,
        )
        batch = jax.tree.map(lambda x: _row_major(x[..., slots]), batch)  # (features, slots, each)

        def minibatch(carry, chosen):
            samples = jax.tree.map(lambda x: _flat(x[..., chosen, :], 2), batch)
            *carry, metrics = self.gradient_step(*carry, self.loss, samples)
            return tuple(carry), metrics

        start = (state.params, state.optimizer)
        (params, optimizer), metrics = jax.lax.scan(minibatch, start, order)
        skipped = metrics.pop("skipped_updates").sum()
        metrics = {name: jnp.nanmean(values) for name, values in metrics.items()}
        metrics |= {"skipped_updates": skipped, **self.exploration(params)}
        return params, optimizer, metrics

    def loss(self, params: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Clipped surrogate + value_cost * value error - entropy_cost * entropy (eq. 7, 9)."""
        config = self.config
        found = self.policy_network.apply(params["policy"], batch.obs)
        log_ratio = self.distribution.log_prob(found, batch.action) - batch.log_prob
        policy_loss = losses.clipped_surrogate(log_ratio, batch.advantage, config.clip)
        value = self.value_network.apply(params["value"], batch.obs)
        value_loss = losses.value_error(value, batch.target)
        entropy = self.distribution.entropy(found, batch.action).mean()
        loss = policy_loss + config.value_cost * value_loss - config.entropy_cost * entropy
        return loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": losses.kl_estimate(log_ratio),
            "clip_fraction": losses.clip_fraction(log_ratio, config.clip),
        }


def _samples_last(x: jax.Array) -> jax.Array:
    """(T, features, worlds) -> (features, T * worlds)."""
    return _flat(jnp.moveaxis(x, 0, -2), 2)


def _row_major(x: jax.Array) -> jax.Array:
    """x laid out as written; XLA would put a gather's index axes last, and then transpose."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _flat(x: jax.Array, axes: int) -> jax.Array:
    """The last `axes` axes as one."""
    return x.reshape(*x.shape[:-axes], -1)
