"""Policies and value networks that remember: what they can learn, and when they forget."""

import dataclasses
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import play, sharding, train
from gpusim.agents import networks, normalize, reinforce
from gpusim.agents.ppo import PPO, PPOConfig
from gpusim.agents.shuffle import shuffle_worlds
from gpusim.envs import Box, State, World

TINY = PPOConfig(
    num_envs=64, unroll_length=8, num_minibatches=4, num_epochs=4, updates_per_call=150,
    learning_rate=3e-3, anneal=False, discount=0.5, policy_hidden=(16,), value_hidden=(16,),
    memory=8,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Cue(World):
    """-1 or 1 is seen at the first of three steps, nothing after it; what is paid is that the last
    action is half of it."""

    action_space = Box(1)

    def start(self, key: jax.Array) -> State:
        coin = jax.random.rademacher(key, (), float)
        return State.of((coin, jnp.zeros((), jnp.int32)), coin[None])

    def transition(self, state: State, action: jax.Array) -> State:
        coin, steps = state.carry
        over = steps == 2
        reward = jnp.where(over, -jnp.square(action[0] - 0.5 * coin), 0)
        return State.of((coin, steps + 1), jnp.zeros(1), reward=reward, terminated=over)


@cache
def trained(kind, config):
    learner = kind(config, Cue(), devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not report.diverged
    return learner, state, report.metrics


def last_actions(learner, state) -> list[float]:
    """Of the third step, after cues of -1 and 1."""
    policy = learner.policy(state)
    memory = policy.initial((2,))
    for obs in ([[-1.0], [1.0]], np.zeros((2, 1)), np.zeros((2, 1))):
        memory, action = policy.act(memory, jnp.asarray(obs, jnp.float32))
    return np.asarray(action)[:, 0].tolist()


def test_a_gated_unit():
    """Its equations, number by number."""
    unit, rng = networks.Gated(3), np.random.default_rng(0)
    memory, x = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    params = unit.init(jax.random.key(0), jnp.asarray(memory), jnp.asarray(x))
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
    found = unit.apply(params, memory, x)
    at = {k: params["params"][f"Dense_{k}"] for k in range(3)}
    linear = lambda k, h, x: at[k]["weight"] @ np.concatenate([h, x]) + at[k]["bias"]
    logistic = lambda y: 1 / (1 + np.exp(-y))
    for h, seen, after in zip(memory.T, x.T, np.asarray(found).T, strict=True):
        reset, keep = (logistic(linear(k, h, seen)) for k in (0, 1))
        new = np.tanh(linear(2, reset * h, seen))
        np.testing.assert_allclose(after, keep * h + (1 - keep) * new, rtol=1e-5, atol=1e-6)


def test_what_was_seen_is_remembered():
    learner, state, _ = trained(PPO, TINY)
    np.testing.assert_allclose(last_actions(learner, state), [-0.5, 0.5], atol=0.1)


def test_without_memory_it_cannot_be_known():
    learner, state, _ = trained(PPO, replace(TINY, memory=0))
    np.testing.assert_allclose(last_actions(learner, state), [0, 0], atol=0.2)


@pytest.mark.slow
def test_the_policy_gradient_remembers_too():
    config = reinforce.Config(
        num_envs=64, unroll_length=9, updates_per_call=800, learning_rate=1e-2, anneal=False,
        discount=0.9, policy_hidden=(16,), value_hidden=(16,), memory=8,
    )  # fmt: skip
    learner, state, _ = trained(reinforce.Reinforce, config)
    np.testing.assert_allclose(last_actions(learner, state), [-0.5, 0.5], atol=0.15)


@pytest.mark.parametrize("devices", [1, 2])
def test_learning_sees_what_playing_saw(devices):
    """At the parameters that played, networks over time say what they said step by step: episodes
    of three steps begin and end within the eight, and go on in the next unroll."""
    learner = PPO(replace(TINY, normalize_observations=False), Cue(), devices=devices)

    def both(state, key):
        memory = state.memory
        after, _, trajectory = learner.experience(state, key)
        obs = jnp.moveaxis(trajectory.obs, 0, -2)
        seen = memory, obs, learner.begins(trajectory)
        found = learner.said("policy", state.params, *seen)
        action = jnp.moveaxis(trajectory.action, 0, -2)
        log_prob = learner.distribution.log_prob(found, action)
        value = learner.said("value", state.params, *seen)
        return after, (trajectory.log_prob, trajectory.value), (log_prob, value)

    run = sharding.spmd(both, learner.devices)
    state = learner.init(jax.random.key(0))
    scale = lambda path, x: 3 * x if "weight" in str(path) else x  # memories that matter
    state = replace(state, params=jax.tree_util.tree_map_with_path(scale, state.params))
    for step in range(3):
        key = sharding.replicate(jax.random.key(step), learner.devices)
        state, played, learned = run(state, key)
        for a, b in zip(played, learned, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert len(np.unique(np.asarray(played[1]).round(4))) == 6  # two cues, three steps


def test_what_follows_a_step_is_judged_with_what_was_remembered():
    """Within an episode the value after a step is that of the next step."""
    learner, state, _ = trained(PPO, TINY)
    run = sharding.spmd(learner.play, learner.devices)
    _, trajectory = run(state)
    goes_on = ~np.asarray(trajectory.terminated[0, :-1])
    after, then = trajectory.next_value[0, :-1][goes_on], trajectory.value[0, 1:][goes_on]
    np.testing.assert_allclose(after, then, rtol=1e-5, atol=1e-5)


def test_an_episode_begins_with_nothing():
    _, state, _ = trained(PPO, replace(TINY, updates_per_call=1))  # episodes are of three steps
    ended = np.asarray(state.envs.episode_length) == 0
    for memory in state.memory.values():
        assert not np.asarray(memory).swapaxes(1, 2)[ended].any()
        assert np.asarray(memory).swapaxes(1, 2)[~ended].any()


def test_every_world_is_in_one_minibatch_an_epoch():
    draw = lambda key, num: shuffle_worlds(key, num_envs=num, num_minibatches=4, num_epochs=3)
    found = {}
    for devices in (1, 2):
        here = sharding.all_devices(devices)
        run = sharding.spmd(lambda key, n=12 // devices * 4: draw(key, n), here)
        order = np.asarray(run(sharding.replicate(jax.random.key(0), here)))
        whole = np.concatenate([order[d] + d * 48 // devices for d in range(devices)], -1)
        found[devices] = whole
        for epoch in whole.reshape(3, -1):
            assert sorted(epoch) == list(range(48))
    np.testing.assert_array_equal(found[1], found[2])
    assert (found[1][:4] != found[1][4:8]).any()


def test_minibatches_are_of_whole_worlds():
    with pytest.raises(ValueError, match="try num_envs=8 or 16"):
        replace(TINY, num_envs=12, num_minibatches=8).check(1)
    replace(TINY, num_envs=12, num_minibatches=8, memory=0).check(1)


def test_statistics_are_of_what_is_seen():
    _, state, _ = trained(PPO, TINY)
    statistics = jax.tree.map(lambda x: x[0], state.normalizer)
    assert isinstance(statistics, normalize.Statistics)
    np.testing.assert_allclose(statistics.variance, [1 / 3], atol=0.02)  # one step of three is ±1


@pytest.mark.slow
def test_it_trains_resumes_and_plays(tmp_path: Path):
    folder = tmp_path / "run"
    flags = (
        "--env hopper --memory 8 --num-envs 8 --unroll-length 4 --num-minibatches 2"
        " --updates-per-call 2 --policy-hidden 8 --value-hidden 8 --eval-envs 4"
        " --evaluations 1 --episode-length 20"
    ).split()
    assert train.main([*flags, "--total-steps", "128", "--out", str(folder)]) == 0
    assert train.main(["--resume", str(folder), "--total-steps", "256"]) == 0
    assert play.main([str(folder), "--episodes", "2"]) == 0
