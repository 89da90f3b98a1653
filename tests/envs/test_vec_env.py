"""Time limit and restarts: both flags, the last observation, independent starts, statistics."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs import Box, State, World, WorldError, autoreset

WORLDS, LIMIT = 32, 7


@pytest.fixture(scope="module")
def env():
    """Started this crooked some worlds fall at once; others live to reach the limit."""
    return gpusim.make("hopper", reset_noise_scale=0.15)


@pytest.fixture(scope="module")
def venv(env):
    return autoreset(env, WORLDS, episode_length=LIMIT)


@pytest.fixture(scope="module")
def start(venv):
    return jax.jit(venv.reset)(jax.random.key(0))


@pytest.fixture(scope="module")
def history(venv, start):
    """The start, the states after each of 40 control steps, and the random actions."""
    step: Any = jax.jit(venv.step)
    actions = jax.random.uniform(
        jax.random.key(1), (40, WORLDS, venv.world.action_size), minval=-1.0
    )
    states = [start]
    for action in actions:
        states.append(step(states[-1], action))
    assert step._cache_size() == 1
    return states, actions


def done(state):
    return np.asarray(state.terminated | state.truncated)


def test_both_kinds_of_end_happen(history):
    """The other tests would say nothing without."""
    states, _ = history
    assert sum(np.asarray(s.terminated).sum() for s in states) > 20
    assert sum(np.asarray(s.truncated).sum() for s in states) > 20


def test_a_step_is_the_environment_s_step(env, history):
    """Up to the restart, the worlds are stepped as `env.step` steps them."""
    states, actions = history
    step = jax.jit(jax.vmap(env.step))
    for before, after, action in zip(states[:10], states[1:], actions, strict=False):
        plain = step(before.world, action)
        np.testing.assert_allclose(after.final_obs, plain.obs, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(after.reward, plain.reward, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(after.terminated, plain.terminated)
        running = ~done(after)
        np.testing.assert_array_equal(after.world.obs[running], after.final_obs[running])


def test_truncation_is_the_time_limit_and_nothing_else(history):
    states, _ = history
    for before, after in itertools.pairwise(states):
        at_limit = np.asarray(before.steps) + 1 >= LIMIT
        np.testing.assert_array_equal(after.truncated, at_limit & ~np.asarray(after.terminated))
        np.testing.assert_array_equal(after.steps, np.where(done(after), 0, before.steps + 1))


def test_first_episodes_are_staggered(start):
    assert set(np.asarray(start.steps).tolist()) == set(range(LIMIT))
    assert not np.asarray(start.episode_length).any()


def test_restarts_are_starts(env, history):
    """After a restart a world is in the noise around the pose, and as `begin` has it."""
    states, _ = history
    begin = jax.jit(jax.vmap(partial(env.begin, jax.random.key(0))))
    for state in states[1:]:
        ended = done(state)
        physics = state.world.carry.physics
        start = jax.tree.map(lambda x, ended=ended: np.asarray(x)[ended], physics)
        assert (np.abs(start.qpos - env.init_qpos) <= env.reset_noise_scale + 1e-6).all()
        assert (np.abs(start.qvel) <= env.reset_noise_scale + 1e-6).all()
        assert not start.qacc_warmstart.any()
        fresh = begin(physics.qpos, physics.qvel)
        carried = (state.world.carry.memory, fresh.carry.memory)
        for ours, expected in ((state.world.obs, fresh.obs), carried):
            np.testing.assert_allclose(ours[ended], expected[ended], rtol=1e-5, atol=1e-6)
        assert (
            (np.asarray(state.final_obs)[ended] != np.asarray(state.world.obs)[ended]).any(1).all()
        )


def test_no_two_episodes_start_alike(history):
    states, _ = history
    starts = [np.asarray(states[0].world.carry.physics.qpos)]
    starts += [np.asarray(s.world.carry.physics.qpos)[done(s)] for s in states[1:]]
    starts = np.concatenate(starts)
    assert len(starts) > 3 * WORLDS
    assert len(np.unique(starts, axis=0)) == len(starts)
    # independent draws: the correlation of a world's consecutive starts is noise
    assert abs(np.corrcoef(starts[:-1, 2], starts[1:, 2])[0, 1]) < 4 / np.sqrt(len(starts))


def test_running_episode_and_statistics(history):
    """Counted again, world by world, in plain Python."""
    states, _ = history
    returns, lengths, late = np.zeros(WORLDS), np.zeros(WORLDS), np.asarray(states[0].steps) > 0
    totals = np.zeros(4)
    for state in states[1:]:
        returns += np.asarray(state.reward)
        lengths += 1
        ended = done(state)
        for world in np.flatnonzero(ended & ~late):
            totals += returns[world], lengths[world], 1, np.asarray(state.terminated)[world]
        late &= ~ended
        returns[ended], lengths[ended] = 0, 0
        np.testing.assert_allclose(state.episode_return, returns, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(state.episode_length, lengths)
    np.testing.assert_allclose(state.totals, totals, rtol=1e-5)
    assert totals[2] > WORLDS
    assert 0 < totals[3] < totals[2]


def test_clear_stats(venv, history):
    cleared = venv.clear_stats(history[0][-1])
    assert cleared.totals == (0, 0, 0, 0)
    np.testing.assert_array_equal(cleared.episode_return, history[0][-1].episode_return)


def test_broken_world_is_replaced(venv, history):
    state = history[0][5]
    carry = state.world.carry
    sick = carry.physics._replace(qpos=carry.physics.qpos.at[3].set(jnp.nan))
    sick = state.replace(world=state.world.replace(carry=carry._replace(physics=sick)))
    after = jax.jit(venv.step)(sick, history[1][5])
    assert after.terminated[3]
    assert not after.truncated[3]
    for leaf in jax.tree.leaves((after.world.carry, after.obs, after.final_obs, after.reward)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("x64", [False, True])
def test_shapes_and_dtypes_are_a_fixed_point(env, x64):
    with jax.enable_x64(x64):
        venv = autoreset(env, WORLDS)
        start = jax.eval_shape(venv.reset, jax.random.key(0))
        after = jax.eval_shape(venv.step, start, jnp.zeros((WORLDS, venv.world.action_size)))
    kind = lambda x: (x.shape, x.dtype, x.weak_type)
    assert jax.tree.map(kind, start) == jax.tree.map(kind, after)
    assert all(leaf.shape[0] == WORLDS for leaf in jax.tree.leaves(after))


def test_default_limit_and_errors(env):
    assert autoreset(env, 2).episode_length == env.max_episode_steps
    with pytest.raises(ValueError, match="must be positive"):
        autoreset(env, 0)
    with pytest.raises(ValueError, match="must be positive"):
        autoreset(env, 1, episode_length=0)


class Settling(World):
    """Comes to rest before it begins, which takes long; then it is nudged."""

    action_space = Box(1)
    max_episode_steps = 3
    prepared_starts = 5

    def start(self, key: jax.Array) -> State:
        first, later = jax.random.split(key)
        return self.begin_prepared(later, self.prepare(first))

    def prepare(self, key: jax.Array) -> dict[str, jax.Array]:
        place = jax.random.uniform(key, (4,))
        return {"place": jax.lax.fori_loop(0, 100, lambda _, x: 0.99 * x + 0.01, place)}

    def begin_prepared(self, key: jax.Array, prepared: dict[str, jax.Array]) -> State:
        nudge = jax.random.normal(key, ())
        return State.of((prepared["place"], nudge), prepared["place"])

    def transition(self, state: State, action: jax.Array) -> State:
        return State.of(state.carry, state.obs)


@pytest.mark.parametrize("x64", [False, True])
def test_costly_starts_are_prepared(x64):
    """A restart is from one of those that `prepare` gives, each of them is used, and what is random
    in an episode besides is drawn for it."""
    world = Settling()
    with jax.enable_x64(x64):
        keys = jax.random.split(jax.random.key(0), world.prepared_starts)
        prepared = np.asarray(jax.vmap(world.prepare)(keys)["place"])
        venv = autoreset(world, 16)
        state, step = jax.jit(venv.reset)(jax.random.key(3)), jax.jit(venv.step)
        seen, nudges = [], []
        for _ in range(9):
            place, nudge = state.world.carry
            apart = np.abs(np.asarray(place)[:, None] - prepared).max(-1)
            assert (apart.min(1) < 1e-6).all()
            seen.append(apart.argmin(1))
            nudges.append(np.asarray(nudge))
            before, state = state, step(state, jnp.zeros((16, 1)))
            same = np.asarray(state.world.carry[1] == before.world.carry[1])
            np.testing.assert_array_equal(same, ~done(state))
        assert set(np.unique(seen)) == set(range(world.prepared_starts))
        assert len(np.unique(nudges)) > 16 * 3


def test_starts_need_not_be_prepared():
    """Restarts are then `start`'s, with the keys that worlds draw for it; so is `reset` always."""
    world: Any = Settling()
    prepared = np.asarray(world.prepared["place"])
    key = jax.random.key(3)
    alone = np.asarray(world.reset(key).carry[0])
    np.testing.assert_allclose(alone, world.start(key).carry[0], rtol=1e-6)
    assert np.abs(alone - prepared).max(-1).min() > 1e-4
    world.prepared_starts = 0
    assert world.prepared is None
    started = np.asarray(autoreset(world, 16).reset(key).world.carry[0])
    assert (np.abs(started[:, None] - prepared).max(-1).min(1) > 1e-4).sum() > 12


class Tally(World):
    """Ends when it is told to; what survives is how often that was, and how often time ran out."""

    action_space = Box(1)
    max_episode_steps = 4

    def start(self, key: jax.Array) -> State:
        return State.of({"steps": 0, "ends": jnp.zeros(2)}, jnp.zeros(2))

    def start_after(self, key: jax.Array, ended: State) -> State:
        ends = ended.carry["ends"] + jnp.stack([ended.terminated, ended.truncated])
        return State.of({"steps": 0, "ends": ends}, ends)

    def transition(self, state: State, action: jax.Array) -> State:
        carry = state.carry | {"steps": state.carry["steps"] + 1}
        return State.of(carry, carry["ends"], terminated=action[0] > 0)


def test_a_world_may_learn_of_its_past():
    """One is ended in every third step, the other one by the time limit alone."""
    venv = autoreset(Tally(), 2)
    state = venv.reset(jax.random.key(0)).replace(steps=jnp.zeros(2, jnp.int32))
    for k in range(1, 13):
        state = venv.step(state, jnp.array([[float(k % 3 == 0)], [0.0]]))
        ends = [[k // 3, 0], [0, k // 4]]
        np.testing.assert_array_equal(state.world.carry["ends"], ends)
        np.testing.assert_array_equal(state.obs, ends)
        np.testing.assert_array_equal(state.world.carry["steps"], [k % 3, k % 4])
    np.testing.assert_array_equal(venv.reset(jax.random.key(1)).world.carry["ends"], 0)


def test_a_start_after_another_one_is_a_start_like_any():
    class Wrong(Tally):
        def start_after(self, key: jax.Array, ended: State) -> State:
            return State.of({"steps": 0, "ends": jnp.zeros(3)}, jnp.zeros(2))

    class Nothing(Tally):
        def start_after(self, key: jax.Array, ended: State) -> None:
            return None

    class Both(Tally):
        prepared_starts = 2

        def prepare(self, key: jax.Array) -> jax.Array:
            return jnp.zeros(())

    venv = autoreset(Wrong(), 2)
    with pytest.raises(WorldError, match=r"world Wrong: carry.ends is .* before a restart and"):
        venv.step(venv.reset(jax.random.key(0)), jnp.zeros((2, 1)))
    venv = autoreset(Nothing(), 2)
    with pytest.raises(WorldError, match="Nothing: start_after gives a NoneType, not a State"):
        venv.step(venv.reset(jax.random.key(0)), jnp.zeros((2, 1)))
    with pytest.raises(WorldError, match="Both: has prepared_starts, which know no start_after"):
        autoreset(Both(), 2).reset(jax.random.key(0))
