"""The contract, by a world that is no robot at all: cars on a ring."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs import Box, Discrete, State, World, WorldError, autoreset, registry
from tests.envs.ring import Ring


@pytest.fixture(scope="module")
def ring():
    return Ring(cars=5)


def test_facts(ring):
    assert (ring.name, ring.dt, ring.max_episode_steps) == ("Ring", 0.1, 600)
    assert (ring.observation_size, ring.action_size) == (3, 1)
    assert ring.drawing() is None


def test_cars_come_to_one_speed(ring):
    """Human drivers alone, without noise: equal gaps, and the speed the model gives such a gap."""
    state = ring.reset(jax.random.key(0))
    step = jax.jit(ring.step)
    for _ in range(3000):
        state = step(state, jnp.zeros(1))
    place, speed = state.carry
    gaps = np.sort(np.asarray(place))
    gaps = np.diff([*gaps, gaps[0] + ring.length])
    np.testing.assert_allclose(speed, np.mean(speed), rtol=0.02)
    np.testing.assert_allclose(gaps, ring.length / 5, rtol=0.05)
    np.testing.assert_allclose(state.metrics["speed"], np.mean(speed), rtol=1e-5)


def test_worlds_restart_with_all_they_carry():
    ring = Ring(cars=3)
    venv = autoreset(ring, 8, episode_length=4)
    state = jax.jit(venv.reset)(jax.random.key(0))
    step = jax.jit(venv.step)
    starts = [np.asarray(state.world.carry.place)]
    for _ in range(12):
        before, state = state, step(state, jnp.zeros((8, 1)))
        plain = jax.vmap(ring.step)(before.world, jnp.zeros((8, 1)))
        ended = np.asarray(state.truncated)
        np.testing.assert_allclose(state.final_obs, plain.obs, rtol=1e-5)
        np.testing.assert_allclose(state.reward, plain.reward, rtol=1e-5)
        for now, on in zip(state.world.carry, plain.carry, strict=True):
            np.testing.assert_allclose(now[~ended], on[~ended], rtol=1e-5)
        starts.append(np.asarray(state.world.carry.place)[ended])
        assert not np.asarray(state.world.carry.speed)[ended].any()
    starts = np.concatenate(starts)
    assert len(np.unique(starts, axis=0)) == len(starts) > 24


class Counter(World):
    """Counts; cuts itself off at 3."""

    action_space = Discrete(2)

    def start(self, key: jax.Array) -> State:
        return State.of(jnp.int32(0), {"count": jnp.zeros(1)}, metrics={"count": 0})

    def transition(self, state: State, action: jax.Array) -> State:
        count = state.carry + action
        seen = {"count": count[None].astype(float)}
        return State.of(count, seen, reward=1, truncated=count == 3, metrics={"count": count})


def test_a_world_may_end_its_episode_itself():
    venv = autoreset(Counter(), 2)
    state = venv.reset(jax.random.key(0)).replace(steps=jnp.zeros(2, jnp.int32))
    for k in range(1, 4):
        state = venv.step(state, jnp.array([1, 0]))
        np.testing.assert_array_equal(state.final_obs["count"][:, 0], [k, 0])
    np.testing.assert_array_equal(state.truncated, [True, False])
    np.testing.assert_array_equal(state.obs["count"][:, 0], [0, 0])
    np.testing.assert_array_equal(state.totals, [3, 3, 1, 0])


@pytest.mark.parametrize("where", ["reward", "obs"])
def test_a_world_that_is_not_finite_ends_alone(where):
    """Where an action of 1 makes its number infinite; the neighbour does not notice."""

    class Fragile(Counter):
        def transition(self, state: State, action: jax.Array) -> State:
            after = super().transition(state, 2 * action)
            bad = jnp.where(action == 1, jnp.inf, 0.0)
            broken = jax.tree.map(lambda x: x + bad, getattr(after, where))
            return after.replace(**{where: broken})

    venv = autoreset(Fragile(), 2)
    state = venv.step(venv.reset(jax.random.key(0)), jnp.array([1, 0]))
    np.testing.assert_array_equal(state.terminated, [True, False])
    np.testing.assert_array_equal(state.reward, [0, 1])
    np.testing.assert_array_equal(state.final_obs["count"], [[0], [0]])
    np.testing.assert_array_equal(state.world.carry, [0, 0])
    assert {name: list(x) for name, x in state.sums.items()} == {
        "count": [0, 0],
        "diverged": [1, 0],
    }
    metrics = {name: list(x) for name, x in state.world.metrics.items()}
    assert metrics == {"count": [0, 0], "diverged": [1, 0]}
    np.testing.assert_array_equal(venv.clear_stats(state).sums["diverged"], [0, 0])
    alone = Fragile().step(Fragile().reset(jax.random.key(0)), jnp.int32(1))
    assert (alone.terminated, alone.reward, alone.metrics["diverged"]) == (True, 0, 1)


def test_plain_numbers_become_arrays():
    state = State.of(0, 1.5, reward=2, terminated=1, metrics={"a": True})
    assert (state.reward.dtype, state.terminated.dtype) == (jnp.float32, bool)
    assert state.metrics["a"] == 1.0
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"metrics": {}}, "metrics.count is float32[] before a transition and nothing after"),
        ({"carry": jnp.zeros(2)}, "carry is int32[] before a transition and float32[2] after"),
    ],
)
def test_states_that_are_not_alike_are_named(wrong, expected):
    class Wrong(Counter):
        def transition(self, state: State, action: jax.Array) -> State:
            return super().transition(state, action).replace(**wrong)

    venv = autoreset(Wrong(), 2)
    with pytest.raises(WorldError, match="world Wrong") as error:
        venv.step(venv.reset(jax.random.key(0)), jnp.array([1, 0]))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"obs": jnp.float32(1)}, "observation is float32[], not floating-point numbers (features"),
        ({"obs": jnp.zeros((2, 2))}, "observation is float32[2, 2], not"),
        ({"obs": [jnp.zeros(2)]}, "observation is a list, not"),
        ({"obs": {"a": jnp.zeros(2), "b": jnp.arange(3)}}, "observation 'b' is int32[3], not"),
        ({"obs": {"a": jnp.zeros(2), "b": jnp.zeros(0)}}, "features,), one feature at least"),
        ({"obs": {0: jnp.zeros(2)}}, "a part of the observation is called 0, not by a name"),
        ({"obs": {"": jnp.zeros(2)}}, "a part of the observation is called '', not by a name"),
        ({"obs": {"privileged": jnp.zeros(2)}}, "no part that the policy may see"),
        ({"reward": jnp.zeros(1)}, "reward is float32[1], not one float"),
        ({"reward": jnp.int32(0)}, "reward is int32[], not one float"),
        ({"terminated": 0.0}, "terminated is a float, not one bool"),
        ({"metrics": [1.0]}, "metrics are a list, not numbers by name"),
        ({"metrics": {"a": jnp.zeros(2)}}, "metric 'a' is float32[2], not one float"),
    ],
)
@pytest.mark.parametrize("start", [lambda w: w.reset, lambda w: autoreset(w, 2).reset])
def test_a_start_that_breaks_the_contract_is_refused(start, wrong, expected):
    class Wrong(Counter):
        def start(self, key: jax.Array) -> State:
            return super().start(key).replace(**wrong)

    with pytest.raises(WorldError, match="world Wrong: ") as error:
        start(Wrong())(jax.random.key(0))
    assert expected in str(error.value)


def test_a_start_is_a_state():
    class Wrong(Counter):
        def start(self, key: jax.Array):  # pyright: ignore[reportIncompatibleMethodOverride]
            return jnp.zeros(3)

    with pytest.raises(WorldError, match=r"world Wrong: start gives a .*, not a State"):
        Wrong().reset(jax.random.key(0))


def test_a_transition_gives_a_state():
    class Wrong(Counter):
        def transition(self, state: State, action: jax.Array):  # pyright: ignore
            return state.obs, 0.0, False

    with pytest.raises(WorldError, match="world Wrong: transition gives a tuple, not a State"):
        Wrong().step(Wrong().reset(jax.random.key(0)), jnp.int32(1))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (lambda: Box((2,)), "Box: size is (2,), not a whole number from 0 on"),  # pyright: ignore
        (lambda: Box(-1), "Box: size is -1, not a whole number from 0 on"),
        (lambda: Discrete(0), "Discrete: n is 0, not a whole number from 1 on"),
        (lambda: Discrete(3.0), "Discrete: n is 3.0, not a"),  # pyright: ignore
    ],
)
def test_what_no_action_can_be(space, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        space()


@pytest.mark.parametrize(
    ("action", "found"),
    [
        (jnp.ones(17, jnp.int32), "int32 of shape (17,)"),
        (jnp.float32(0.5), "float32 of shape ()"),
        (jnp.zeros((3, 17)), "float32 of shape (3, 17)"),
        (jnp.zeros(17, bool), "bool of shape (17,)"),
        (np.zeros(16), "shape (16,)"),
    ],
)
def test_an_action_that_is_none_is_refused(action, found):
    env = gpusim.make("humanoid")
    state = jax.eval_shape(env.start, jax.random.key(0))
    with pytest.raises(ValueError, match=r"shape \(17,\) with floating numbers") as error:
        env.step(state, action)
    assert found in str(error.value)
    assert "jax.vmap(env.step)(states, actions)" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_forgotten_vmap_is_told(ring):
    states = jax.vmap(ring.reset)(jax.random.split(jax.random.key(0), 4))
    with pytest.raises(ValueError, match=r"one world, not of \(4,\) worlds; write jax.vmap"):
        ring.step(states, jnp.zeros((4, 1)))
    venv = autoreset(ring, 4)
    state = venv.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"4 worlds take an action of shape \(4, 1\)"):
        venv.step(state, jnp.zeros(1))
    jax.vmap(ring.step)(states, jnp.zeros((4, 1)))


def test_a_discrete_action_is_an_integer():
    state = Counter().reset(jax.random.key(0))
    assert Counter().step(state, jnp.int32(1)).carry == 1
    with pytest.raises(ValueError, match=r"shape \(\) with integer numbers, not float32"):
        Counter().step(state, jnp.float32(1))


def test_float_actions_of_any_precision_are_the_same():
    env: Any = gpusim.make("hopper")
    state = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(env.step(state, np.ones(3)).obs, env.step(state, jnp.ones(3)).obs)
    assert env.action_space == Box(3)


def test_the_world_of_the_docs(monkeypatch):
    """docs/envs.md: its world and its task, as printed."""
    page = (Path(__file__).parents[2] / "docs" / "envs.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.setattr("gpusim.envs.registry._WORLDS", dict(registry._WORLDS))
    scope: dict[str, Any] = {"__name__": "docs"}
    for block in blocks:
        if "class " in block:
            exec(block, scope)
    follow = scope["Follow"]()
    venv = autoreset(follow, 4)
    state = jax.jit(venv.reset)(jax.random.key(0))
    after = jax.jit(venv.step)(state, jnp.ones((4, 1)))
    np.testing.assert_allclose(after.world.carry[1], 0.3, rtol=1e-6)
    assert scope["env"].name == "backward_ant"
