"""The learner on environments whose answer is known, and what a run must not depend on."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from probes import (
    ActionReward,
    ChoiceReward,
    ConstantReward,
    CutShort,
    LateReward,
    ObsActionReward,
    ObsReward,
    PointMass,
    Probe,
)

from gpusim import sharding
from gpusim.agents import normalize
from gpusim.agents.evaluate import Evaluation
from gpusim.agents.ppo import PPO, PPOConfig

TINY = PPOConfig(
    total_steps=200_000,
    num_envs=32,
    unroll_length=8,
    num_minibatches=4,
    num_epochs=4,
    updates_per_call=50,
    learning_rate=3e-3,
    anneal=False,
    discount=0.5,
    policy_hidden=(16,),
    value_hidden=(16,),
)


@cache
def make(env, config=TINY, devices=1, spmd: sharding.Mode = "pmap"):
    """One learner for all tests that want the same: it holds no state, and compiles once."""
    return PPO(config, env, devices=devices, spmd=spmd)


def trained(env, config=TINY, calls=2):
    learner = make(env, config)
    state = learner.init(jax.random.key(0))
    for _ in range(calls):
        state, report = learner.train_step(state)
    return learner, state, report.metrics


def values(learner, state, *observations):
    """The value network's opinion of some observations."""
    params, statistics = jax.tree.map(lambda x: x[0], (state.params["value"], state.normalizer))
    obs = normalize.normalize(statistics, jnp.array(observations).T)
    return np.asarray(learner.value_network.apply(params, obs))


def actions(learner, state, *observations):
    return np.asarray(learner.policy(state).act((), jnp.array(observations))[1])[:, 0]


def equal(a, b):
    """Are all leaves equal, bit for bit?"""
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    a, b = (np.concatenate([np.ravel(raw(x)) for x in jax.tree.leaves(tree)]) for tree in (a, b))
    return np.array_equal(a, b, equal_nan=True)


# ---- probes: the answer is known ----


def test_value_of_constant_reward():
    np.testing.assert_allclose(values(*trained(ConstantReward)[:2], [0.0]), [1], atol=0.05)


def test_value_follows_the_observation():
    learner, state, _ = trained(ObsReward)
    np.testing.assert_allclose(values(learner, state, [-1.0], [1.0]), [-1, 1], atol=0.05)


def test_value_is_discounted():
    learner, state, _ = trained(LateReward)
    np.testing.assert_allclose(values(learner, state, [0.0], [1.0]), [0.5, 1], atol=0.05)


def test_value_is_bootstrapped_at_truncation_only():
    learner, state, _ = trained(CutShort)
    np.testing.assert_allclose(values(learner, state, [0.0]), [2], atol=0.1)


@pytest.mark.parametrize("distribution", ["clip", pytest.param("tanh", marks=pytest.mark.slow)])
def test_policy_finds_the_best_action(distribution):
    config = replace(TINY, distribution=distribution)
    learner, state, metrics = trained(ActionReward, config)
    np.testing.assert_allclose(actions(learner, state, [0.0]), [0.5], atol=0.1)
    assert metrics["action_std"] < TINY.initial_std


@pytest.mark.slow
def test_the_spread_may_depend_on_what_is_seen():
    """Where it matters what is done the policy becomes sure, elsewhere it stays unsure."""
    matters = Probe(
        reward=lambda obs, action, steps: -jnp.square(action[0] - 0.5) * (obs[0] > 0),
        observe=ObsReward.observe,
    )
    config = replace(TINY, state_std=True, entropy_cost=1e-3)
    learner, state, _ = trained(matters, config)
    policy = learner.policy(state)
    drawn = [
        policy.act((), jnp.full((500, 1), obs), jax.random.key(0))[1].std() for obs in (-1.0, 1.0)
    ]
    assert drawn[1] < 0.6 * drawn[0]
    np.testing.assert_allclose(actions(learner, state, [1.0]), [0.5], atol=0.1)


@pytest.mark.slow
def test_scaled_rewards_teach_the_same():
    """Rewards a thousand times as large: values are of the order of one, the policy is the same."""
    large = Probe(reward=lambda *x: 1000 * ObsActionReward.reward(*x), observe=ObsReward.observe)
    learner, state, metrics = trained(large, replace(TINY, normalize_rewards=True))
    np.testing.assert_allclose(actions(learner, state, [-1.0], [1.0]), [-0.5, 0.5], atol=0.1)
    assert metrics["reward"] < -1  # as they came
    assert np.abs(values(learner, state, [-1.0], [1.0])).max() < 2


def test_an_update_ends_early_once_it_has_moved_far():
    _, _, free = trained(ActionReward, calls=1)
    _, _, held = trained(ActionReward, replace(TINY, max_kl=1e-4), calls=1)
    assert 1 <= held["gradient_steps"] < 16
    assert "gradient_steps" not in free
    assert held["kl"] < free["kl"]
    assert held["skipped_updates"] == 0


def test_steps_adapt_to_how_far_the_policy_moves():
    runs = {}
    for desired in (1e-4, 1e-2):
        _, state, metrics = trained(ActionReward, replace(TINY, desired_kl=desired), calls=1)
        runs[desired] = metrics["kl"], state.extra["stride"][0]
    assert runs[1e-4][1] < runs[1e-2][1]
    assert runs[1e-4][0] < runs[1e-2][0]


def test_policy_follows_the_observation():
    learner, state, _ = trained(ObsActionReward)
    np.testing.assert_allclose(actions(learner, state, [-1.0], [1.0]), [-0.5, 0.5], atol=0.1)


def test_choices_are_learned():
    learner, state, metrics = trained(ChoiceReward)
    policy = learner.policy(state)
    obs = jnp.array([[-1.0], [1.0]])
    assert policy.act((), obs)[1].tolist() == [2, 0]
    assert metrics["entropy"] < 0.5 < np.log(3)
    drawn = policy.act((), jnp.ones((1000, 1)), jax.random.key(0))[1]
    assert drawn.shape == (1000,)
    assert (drawn == 0).mean() > 0.8


@pytest.mark.slow
def test_a_shared_time_group_learns_too():
    """3 minibatches of 8 steps: times are shared by groups of 3 worlds."""
    config = replace(TINY, num_envs=33, num_minibatches=3)
    learner, state, _ = trained(ObsActionReward, config)
    np.testing.assert_allclose(actions(learner, state, [-1.0], [1.0]), [-0.5, 0.5], atol=0.1)


# ---- one program ----

SHORT = replace(TINY, updates_per_call=3, discount=0.95, anneal=True)
MASS = PointMass()


def test_second_call_compiles_nothing_and_changes_no_shape():
    learner = make(MASS, SHORT)
    state = learner.init(jax.random.key(0))
    before = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    state, _ = learner.train_step(state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == before
    with jax.log_compiles(), jax.no_tracing():
        state, _ = learner.train_step(state)


def test_arguments_are_donated():
    learner = make(MASS, SHORT)
    old = learner.init(jax.random.key(0))
    weights = jax.tree.leaves(old.params)
    learner.train_step(old)
    assert all(leaf.is_deleted() for leaf in weights)


def test_env_steps_are_exact_beyond_32_bits():
    learner = make(MASS, SHORT)
    state = learner.init(jax.random.key(0))
    assert learner.env_steps(state) == 0
    state, _ = learner.train_step(state)
    assert learner.env_steps(state) == 3 * 32 * 8
    late = replace(state, updates=jnp.array([2**30], jnp.int32))
    assert learner.env_steps(late) == 2**30 * 32 * 8


def test_metrics_are_finite_scalars_with_exact_episode_counts():
    learner = make(MASS, replace(SHORT, updates_per_call=10))
    _, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    metrics = report.metrics
    assert all(np.shape(value) == () for value in metrics.values())
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["episodes"] == 2 * 32  # 80 steps, cut after every 25; the first began late
    assert metrics["episode_length"] == 25
    assert metrics["skipped_updates"] == 0


# ---- a run is its state ----


def test_same_seed_same_bits_and_another_seed_others():
    runs = []
    for seed in (0, 0, 1):
        learner = make(MASS, SHORT)
        runs.append(learner.train_step(learner.init(jax.random.key(seed)))[0])
    assert equal(runs[0], runs[1])
    assert not equal(runs[0].params, runs[2].params)


def test_a_copy_of_the_state_in_a_new_learner_goes_on_bit_for_bit():
    learner = make(MASS, SHORT)
    state, _ = learner.train_step(learner.init(jax.random.key(0)))
    saved = jax.tree.map(jnp.copy, state)
    uninterrupted, _ = learner.train_step(state)
    resumed, _ = PPO(SHORT, MASS, devices=1).train_step(saved)
    assert equal(uninterrupted, resumed)


def test_learning_rate_falls_to_nothing_if_annealed():
    config = replace(SHORT, total_steps=3 * SHORT.steps_per_update)
    learner = make(MASS, config)
    done, _ = learner.train_step(learner.init(jax.random.key(0)))
    before = np.asarray(ravel_pytree(done.params)[0])
    later, report = learner.train_step(done)
    assert report.metrics["gradient_norm"] > 0.1
    np.testing.assert_allclose(ravel_pytree(later.params)[0], before, atol=1e-7)


def test_the_learning_rate_follows_the_updates_whatever_gradient_steps_they_made():
    """A run of which two thirds are made goes on with a tenth of the epochs."""
    config = replace(SHORT, total_steps=6 * SHORT.steps_per_update, updates_per_call=4)
    first = make(MASS, replace(config, num_epochs=10))
    state, _ = first.train_step(first.init(jax.random.key(0)))
    before = np.asarray(ravel_pytree(state.params)[0])
    learner = make(MASS, replace(config, num_epochs=1, updates_per_call=1))
    later, report = learner.train_step(state)
    assert report.metrics["gradient_norm"] > 0
    assert np.abs(ravel_pytree(later.params)[0] - before).max() > 1e-5


def test_a_gradient_that_is_not_finite_is_skipped_and_counted():
    """One reward in 25 has a square that overflows: updates whose batch has it change nothing."""
    config = replace(SHORT, updates_per_call=1, unroll_length=4, num_minibatches=2)
    learner = make(PointMass(poison=3e38), config)
    start = learner.init(jax.random.key(0))
    weights = jax.tree.map(jnp.copy, start.params)
    state, report = learner.train_step(start)  # steps 1 to 4: the fourth is bad
    assert report.metrics["skipped_updates"] == config.num_epochs * config.num_minibatches
    assert report.diverged
    assert equal(weights, state.params)
    state, report = learner.train_step(state)
    assert report.metrics["skipped_updates"] == 0
    assert not report.diverged
    assert not equal(weights, state.params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_a_reward_that_is_not_a_number_ends_its_world_and_voids_nothing():
    config = replace(SHORT, updates_per_call=1, unroll_length=8, num_minibatches=2)
    learner = make(PointMass(poison=jnp.nan), config)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert report.metrics["skipped_updates"] == 0
    assert report.metrics["diverged_worlds"] == 2 * 32  # after 4 and 8 of 8 steps
    assert report.metrics["episode_length"] == 4
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((state.params, state.envs.world.obs)))


# ---- devices ----


def test_two_devices_agree_with_one():
    states = []
    for devices in (1, 2):
        learner = make(MASS, SHORT, devices)
        state, report = learner.train_step(learner.init(jax.random.key(0)))
        states.append((jax.tree.map(lambda x: x[0], state.params), report.metrics))
    for one, two in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-4)


def test_parameters_are_the_same_bits_on_both_devices():
    learner = make(MASS, SHORT, 2)
    state, _ = learner.train_step(learner.init(jax.random.key(0)))
    shared = (state.params, state.optimizer, state.normalizer)
    assert equal(*(jax.tree.map(lambda x: x[device], shared) for device in range(2)))  # noqa: B023
    assert not equal(*(state.envs.obs[device] for device in range(2)))


def test_pmap_and_shard_map_give_the_same_bits():
    results = []
    modes: list[sharding.Mode] = ["pmap", "shard_map"]
    for mode in modes:
        learner = make(MASS, SHORT, 2, spmd=mode)
        results.append(learner.train_step(learner.init(jax.random.key(0))))
    assert equal(*results)


# ---- the trained policy ----


@pytest.mark.slow
def test_training_improves_the_evaluated_return():
    config = replace(TINY, discount=0.95, updates_per_call=100)
    learner = make(MASS, config)
    state = learner.init(jax.random.key(0))
    evaluation = Evaluation(MASS, 4, 25)
    score = lambda state: evaluation(learner.policy(state), jax.random.key(1)).summary()
    before = score(state)["return_mean"]
    state, _ = learner.train_step(state)
    after = score(state)
    assert before < -40
    assert after["return_mean"] > -20
    assert (after["alive"], after["length_mean"], after["return_std"]) == (1, 25, 0)


class Zero:
    """A policy that does nothing."""

    def initial(self, batch):
        return jnp.zeros(batch, jnp.int32)

    def act(self, memory, obs, key=None):
        return memory + 1, jnp.zeros((obs.shape[0], 1))


jax.tree_util.register_static(Zero)


def test_evaluation_counts_until_termination():
    fall = LateReward  # ends at its second step, whose reward is 1; later rewards do not count
    result = Evaluation(fall, 3, 10)(Zero(), jax.random.key(0)).summary()
    assert {k: float(v) for k, v in result.items()} == {
        "return_mean": 1,
        "return_std": 0,
        "return_min": 1,
        "length_mean": 2,
        "alive": 0,
    }


def test_evaluation_starts_what_training_would_start():
    evaluation = Evaluation(ObsReward, 6, 1, watch=lambda state: state.obs)
    found = evaluation(Zero(), jax.random.key(3))
    assert found.watched.shape == (2, 6, 1)
    keys = jax.random.split(jax.random.key(3), 6)
    started = [ObsReward.start(jax.random.split(key)[1]).obs for key in keys]
    np.testing.assert_array_equal(found.watched[0], jnp.stack(started))


def test_policy_draws_with_a_key_and_is_sure_without():
    learner = make(MASS, SHORT)
    policy = learner.policy(learner.init(jax.random.key(0)))
    assert policy.initial((5,)) == ()
    act = lambda obs, key=None: policy.act((), obs, key)[1]
    obs = jnp.ones((5, 4))
    np.testing.assert_array_equal(act(obs), act(obs))
    drawn = act(obs, jax.random.key(1))
    assert drawn.shape == (5, 2)
    assert not np.array_equal(drawn, act(obs))
    np.testing.assert_allclose(act(obs[0]), act(obs)[0], rtol=1e-5, atol=1e-7)
