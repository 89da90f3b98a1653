"""The replay that SAC, TD3 and DQN share: what it holds, and what is drawn from it."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from probes import CutShort, LateReward, Probe

from gpusim import sharding
from gpusim.agents.sac import Config, Sac

TINY = Config(
    num_envs=16, unroll_length=2, updates_per_call=1, num_gradient_steps=1, batch_size=4096,
    replay_size=16 * 6, learning_starts=10**9, discount=0.5, policy_hidden=(8,), value_hidden=(8,),
    normalize_observations=False,
)  # fmt: skip

COUNT = Probe(
    reward=lambda obs, action, steps: obs[0],
    observe=lambda steps, key: steps.astype(float)[None],
    length=4,
)
"""The reward of a step is how many came before it: 0, 1, 2, 3, and the episode is over."""


def played(env, calls: int, **changes):
    """A learner that has played, and learned nothing."""
    learner = Sac(replace(TINY, **changes), env, devices=1)
    state = learner.init(jax.random.key(0))
    for _ in range(calls):
        state, _ = learner.train_step(state)
    return learner, state


def drawn(learner, state):
    """A large batch: {(observation, reward, discount, where it led)}."""
    draw = sharding.spmd(lambda state: learner._drawn(state, jax.random.key(1)), learner.devices)
    batch = sharding.first(draw(state))
    columns = batch.obs[0], batch.reward, batch.discount, batch.next_obs[0]
    return {tuple(float(x) for x in row) for row in zip(*columns, strict=True)}


def test_the_replay_holds_the_newest_steps_in_a_ring():
    before = Sac(TINY, LateReward, devices=1).init(jax.random.key(0)).params
    for calls in range(1, 5):
        learner, state = played(LateReward, calls)
        assert state.extra.reward.shape == (1, 6, 16)
        rows = state.extra.obs[0, :, 0, :]  # 0 or 1: which step of an episode it is
        filled = min(2 * calls, 6)
        np.testing.assert_array_equal(state.extra.reward[0, :filled], rows[:filled] == 1)
        assert not np.asarray(state.extra.next_obs)[0, filled:].any()
    jax.tree.map(np.testing.assert_array_equal, state.params, before)
    assert len(drawn(learner, state)) == 2


def test_a_step_is_drawn_with_what_follows():
    """Episodes of four steps that end: s, r = s, γ = 0.5 and s + 1; nothing follows the last."""
    found = drawn(*played(COUNT, 4))
    assert found == {(0, 0, 0.5, 1), (1, 1, 0.5, 2), (2, 2, 0.5, 3), (3, 3, 0, 4)}


@pytest.mark.parametrize("calls", [2, 3, 4, 5])  # before the ring is full, and wherever it begins
def test_several_steps_are_drawn_as_one(calls):
    """r_t + γ r_{t+1} + γ² r_{t+2} as far as the episode goes; oldest and newest never meet."""
    found = drawn(*played(COUNT, calls, n_step=3))
    every = {
        (0, 0 + 0.5 * 1 + 0.25 * 2, 0.125, 3),
        (1, 1 + 0.5 * 2 + 0.25 * 3, 0, 4),
        (2, 2 + 0.5 * 3, 0, 4),
        (3, 3, 0, 4),
    }
    assert found <= every
    assert len(found) >= 2


def test_where_the_time_limit_cuts_the_value_counts():
    """Three steps of reward 1, cut: the sum of those that are left, and γ for each of them."""
    found = drawn(*played(CutShort, 5, n_step=2))
    assert {row[1:3] for row in found} == {(1.5, 0.25), (1.0, 0.5)}


def test_statistics_of_observations_are_applied_when_drawn():
    learner, state = played(COUNT, 4, normalize_observations=True)
    found = {row[0] for row in drawn(learner, state)}
    _, mean, variance = (np.asarray(x).ravel()[0] for x in jax.tree.leaves(state.normalizer))
    raw = np.array(sorted(found)) * np.sqrt(variance + 1e-6) + mean
    np.testing.assert_allclose(raw, [0, 1, 2, 3], atol=1e-4)


def test_a_replay_shorter_than_what_is_summed_is_refused():
    with pytest.raises(ValueError, match="replay_size is 32, needs to be at least 64"):
        replace(TINY, replay_size=32, n_step=3).check(1)
