"""Losses on batches worked by hand, and that every knob of PPO turns what it says."""

from dataclasses import replace
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import ActionReward

from gpusim import sharding
from gpusim.agents import losses, rewards
from gpusim.agents.actor_critic import Trajectory
from gpusim.agents.ppo import PPO, PPOConfig
from gpusim.agents.ppo.learner import Batch, adapted

LOG_RATIO = jnp.log(jnp.array([2.0, 0.5, 2.0, 0.5]))
ADVANTAGE = jnp.array([1.0, 1.0, -1.0, -1.0])


def test_clipped_surrogate():
    """min(ρA, clip(ρ)A) = 1.3, 0.5, -2, -0.7 for a clip of 0.3: mean -0.225."""
    np.testing.assert_allclose(
        losses.clipped_surrogate(LOG_RATIO, ADVANTAGE, 0.3), 0.225, rtol=1e-6
    )
    wide = losses.clipped_surrogate(LOG_RATIO, ADVANTAGE, 10.0)
    np.testing.assert_allclose(wide, 0.0, atol=1e-6)  # (2 + 0.5 - 2 - 0.5) / 4


def test_clipped_surrogate_pulls_only_where_it_is_not_clipped():
    slope = jax.grad(lambda x: losses.clipped_surrogate(x, ADVANTAGE, 0.3))(LOG_RATIO)
    np.testing.assert_allclose(slope, [0, -0.5 / 4, 2 / 4, 0], atol=1e-6)  # -ρA/4 or nothing


def test_policy_gradient():
    log_prob, advantage = jnp.array([-1.0, -2.0]), jnp.array([3.0, 0.5])
    np.testing.assert_allclose(losses.policy_gradient(log_prob, advantage), 2.0)
    slope = jax.grad(losses.policy_gradient, (0, 1))(log_prob, advantage)
    np.testing.assert_allclose(slope, [[-1.5, -0.25], [0, 0]])


def test_value_error():
    np.testing.assert_allclose(losses.value_error(jnp.full(4, 3.0), jnp.arange(1.0, 5)), 0.75)


def test_clipped_value_error():
    """From 2.5 a value of 3 counts as 2.7 at most: the larger squares are 4, 1, 0.09 and 1.69."""
    value, target, old = jnp.full(4, 3.0), jnp.arange(1.0, 5), jnp.full(4, 2.5)
    found = losses.clipped_value_error(value, target, old, 0.2)
    np.testing.assert_allclose(found, 6.78 / 8, rtol=1e-6)
    np.testing.assert_allclose(losses.clipped_value_error(value, target, old, 9.0), 0.75)
    slope = jax.grad(losses.clipped_value_error)(value, target, old, 0.2)
    np.testing.assert_allclose(
        slope, [2 / 4, 1 / 4, 0, 0], atol=1e-6
    )  # nothing where it is clipped


def test_kl_estimate_and_clip_fraction():
    """ρ - 1 - log ρ = 2 - 1 - 0.6931 and 0.5 - 1 + 0.6931."""
    np.testing.assert_allclose(losses.kl_estimate(LOG_RATIO[:2]), 0.25, rtol=1e-6)
    np.testing.assert_allclose(losses.clip_fraction(LOG_RATIO, 0.6), 0.5)
    np.testing.assert_allclose(losses.clip_fraction(LOG_RATIO, 0.4), 1.0)


def test_td_target():
    found = losses.td_target(
        jnp.array([1.0, 2.0]), jnp.array([0.9, 0.0]), jnp.array([10.0, jnp.nan])
    )
    np.testing.assert_allclose(found, [10.0, 2.0])


def test_huber():
    """Errors of 0.5 and 3: 0.125 and 3 - 0.5."""
    found = losses.huber(jnp.array([0.5, 3.0]), jnp.zeros(2))
    np.testing.assert_allclose(found, (0.125 + 2.5) / 2)


def test_soft_policy_and_temperature():
    """0.1 · (-1, -3) - (2, 4) = -2.1, -4.3; -α (mean(-1, -3) + 1.5) = 0.5 α, and so is its slope in
    log α."""
    log_prob = jnp.array([-1.0, -3.0])
    found = losses.soft_policy(log_prob, jnp.array([2.0, 4.0]), jnp.array(0.1))
    np.testing.assert_allclose(found, -3.2, rtol=1e-6)
    both = jax.value_and_grad(losses.temperature)(jnp.log(0.2), log_prob, 1.5)
    np.testing.assert_allclose(both, [0.1, 0.1], rtol=1e-6)


def test_arrays_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError, match="shape"):
        losses.value_error(jnp.zeros((4, 1)), jnp.zeros(4))
    with pytest.raises(AssertionError, match="shape"):
        losses.clipped_surrogate(jnp.zeros((4, 1)), jnp.zeros(4), 0.1)


# ---- each knob

CONFIG = PPOConfig(
    num_envs=1, unroll_length=3, num_minibatches=1, policy_hidden=(), value_hidden=(), clip=0.3,
    value_cost=0.5, entropy_cost=0.1, gae_lambda=0.8, discount=0.9, reward_scale=0.1,
    max_grad_norm=1.0, learning_rate=0.01, anneal=False, initial_std=1.0,
)  # fmt: skip


def learner(**changes: Any) -> PPO:
    return PPO(replace(CONFIG, **changes), ActionReward, devices=1)


def loss_of(ppo: PPO) -> float:
    """Of four samples at a policy N(0, 1) and a value of 3: log π(0) = -0.9189, H = 1.4189."""
    keys = jax.random.split(jax.random.key(0))
    params = jax.tree.map(jnp.zeros_like, ppo.parameters(keys, jnp.zeros(1)))
    params["value"]["params"]["MLP_0"]["Dense_0"]["bias"] += 3.0
    log_prob = -0.5 * np.log(2 * np.pi)
    batch = Batch(
        jnp.ones((1, 4)), jnp.zeros((1, 4)), log_prob - LOG_RATIO,
        3 * ADVANTAGE + 1 if ppo.config.minibatch_advantages else ADVANTAGE,
        jnp.full(4, 2.5), jnp.arange(1.0, 5), (), (),
    )  # fmt: skip
    each = jax.tree.map(lambda x: x[None], (params, batch))
    loss_fn = lambda params, batch: ppo.loss(params, batch, ppo.config.entropy_cost)
    loss, metrics = sharding.first(sharding.spmd(loss_fn, ppo.devices)(*each))
    np.testing.assert_allclose(metrics["entropy"], 1.4189385, rtol=1e-6)
    return float(loss)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.225 + 0.5 * 0.75 - 0.1 * 1.4189385),
        ({"clip": 10.0}, 0.0 + 0.5 * 0.75 - 0.1 * 1.4189385),
        ({"value_cost": 2.0}, 0.225 + 2.0 * 0.75 - 0.1 * 1.4189385),
        ({"entropy_cost": 0.0}, 0.225 + 0.5 * 0.75),
        ({"value_clip": 0.2}, 0.225 + 0.5 * 6.78 / 8 - 0.1 * 1.4189385),
        ({"minibatch_advantages": True}, 0.225 + 0.5 * 0.75 - 0.1 * 1.4189385),
    ],
)
def test_loss(changes, expected):
    np.testing.assert_allclose(loss_of(learner(**changes)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "advantage"),
    [
        # δ = 0.1 r + 0.9 v' - v = 0.5, 0.55, 0.6; A_t = δ_t + 0.72 A_{t+1}
        ({}, [1.20704, 0.982, 0.6]),
        ({"gae_lambda": 0.0}, [0.5, 0.55, 0.6]),
        ({"gae_lambda": 1.0}, [1.481, 1.09, 0.6]),  # 0.5 + 0.9 * 1.09, 0.55 + 0.9 * 0.6
        ({"reward_scale": 1.0, "gae_lambda": 0.0}, [1.4, 2.35, 3.3]),
        ({"discount": 0.0}, [-0.4, -0.8, -1.2]),
    ],
)
def test_advantages_and_targets(changes, advantage):
    column = lambda *x: jnp.array(x)[:, None]
    value = column(0.5, 1.0, 1.5)
    no = jnp.zeros((3, 1), bool)
    trajectory = Trajectory(
        jnp.zeros((3, 1, 1)), jnp.zeros((3, 1, 1)), jnp.zeros((3, 1)), column(1.0, 2.0, 3.0), no,
        no, value, column(1.0, 1.5, 2.0),
    )  # fmt: skip
    ppo = learner(**changes)
    state = ppo.init(jax.random.key(0))
    judge = lambda state, trajectory: ppo.judge((), trajectory, ppo.scaled(state, trajectory)[1])
    judge = sharding.spmd(judge, ppo.devices)
    batch, _ = sharding.first(judge(state, jax.tree.map(lambda x: x[None], trajectory)))
    advantage = np.array(advantage)
    np.testing.assert_allclose(batch.target, advantage + np.array([0.5, 1.0, 1.5]), rtol=1e-5)
    unit = (advantage - advantage.mean()) / advantage.std()
    np.testing.assert_allclose(batch.advantage, unit, rtol=1e-4, atol=1e-5)


def test_rewards_are_divided_by_the_spread_of_returns():
    """World 0: 1, 1 + 0.5 * 1 = 1.5, which ends, 2. World 1: 3, 3 + 1.5 = 4.5, 2 + 2.25 = 4.25.
    Next 1 + 0.5 * 2 = 2 and 0 + 0.5 * 4.25 = 2.125."""
    reward = jnp.array([[1.0, 3.0], [1.0, 3.0], [2.0, 2.0]])
    done = jnp.array([[False, False], [True, False], [False, False]])
    watch = sharding.spmd(partial(rewards.watch, discount=0.5), sharding.all_devices(1))
    stacked = lambda *xs: jax.tree.map(lambda x: x[None], xs)
    scale = watch(*stacked(rewards.init(2), reward, done))
    seen = [1, 1.5, 2, 3, 4.5, 4.25]
    scale = sharding.first(scale)
    np.testing.assert_allclose(scale.returns, [2.0, 4.25])
    np.testing.assert_allclose(scale.statistics.variance, [np.var(seen)], rtol=1e-5)
    np.testing.assert_allclose(rewards.scaled(scale, reward), reward / np.std(seen), rtol=1e-5)
    scale = sharding.first(watch(*stacked(scale, jnp.array([[1.0, 0.0]]), done[:1])))
    np.testing.assert_allclose(scale.statistics.mean, [np.mean([*seen, 2, 2.125])], rtol=1e-5)


def test_steps_grow_and_shrink_with_what_they_move():
    found = [
        float(adapted(s, kl, 0.01))
        for s, kl in [
            (1.0, 0.021),
            (1.0, 0.019),
            (1.0, 0.0051),
            (1.0, 0.0049),
            (9.0, 0.0),
            (0.01, 1.0),
        ]
    ]
    np.testing.assert_allclose(found, [1 / 1.5, 1, 1, 1.5, 10, 0.01], rtol=1e-6)
    assert adapted(jnp.float32(2.0), jnp.float32(jnp.nan), 0.01) == 2.0  # nothing was learned


def test_an_entropy_bonus_that_falls():
    ppo = learner(anneal_entropy=True, total_steps=12)  # 4 updates
    state = ppo.init(jax.random.key(0))
    costs = [float(ppo.entropy_cost(replace(state, updates=jnp.int32(k)))) for k in (0, 1, 4, 9)]
    np.testing.assert_allclose(costs, [0.1, 0.075, 0, 0], atol=1e-7)


@pytest.mark.parametrize(("norm", "second"), [(1.0, 0.932178), (100.0, 0.740810)])
def test_gradients_are_shortened(norm, second):
    """Gradients (3, 4), then (0.3, 0.4), as Adam steps. Cut to length 1 the first is (0.6, 0.8):
    m = 0.084, v = 4.4964e-4, (m / 0.19) / √(v / 0.001999) = 0.932178; uncut it is 0.740810."""
    optimizer = learner(max_grad_norm=norm).optimizer()
    params: Any = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    updates: Any
    state = optimizer.init(params)
    for length, expected in ((1.0, 1.0), (0.1, second)):
        gradient = {"a": jnp.array([3.0 * length]), "b": jnp.array([4.0 * length])}
        updates, state = optimizer.update(gradient, state, params)
        np.testing.assert_allclose(updates["a"], -0.01 * expected, rtol=1e-4)


def test_the_learning_rate_falls_with_the_gradient_steps():
    optimizer = learner(anneal=True, total_steps=6, num_epochs=2).optimizer()  # 2 updates of 3
    params = jnp.zeros(1)
    update: Any
    state, steps = optimizer.init(params), []
    for _ in range(4):
        update, state = optimizer.update(jnp.ones(1), state, params)
        steps.append(float(update[0]))
    np.testing.assert_allclose(steps, [-0.01, -0.0075, -0.005, -0.0025], rtol=1e-4)


def test_an_update_is_traced_once():
    ppo = learner(updates_per_call=2)
    counted = chex.assert_max_traces(ppo.update, n=1)
    ppo.update = counted  # type: ignore[method-assign]
    state = ppo.init(jax.random.key(0))
    for _ in range(3):
        state, report = ppo.train_step(state)
    chex.assert_tree_all_finite(state.params)
    assert not report.diverged
