"""Classic control against Gymnasium's own: same state, same action, same numbers, in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs import registry
from gpusim.envs.world import Discrete

gymnasium: Any = pytest.importorskip("gymnasium")

# Where states are compared: the least and largest of each number.
ANYWHERE = {
    "Acrobot-v1": [(-3.2, 3.2), (-3.2, 3.2), (-12, 12), (-28, 28)],
    "CartPole-v1": [(-2.5, 2.5), (-3, 3), (-0.25, 0.25), (-3, 3)],
    "MountainCar-v0": [(-1.2, 0.6), (-0.07, 0.07)],
    "MountainCarContinuous-v0": [(-1.2, 0.6), (-0.07, 0.07)],
    "Pendulum-v1": [(-9, 9), (-8, 8)],
}
OPTIONS = {"CartPole-v1": {"sutton_barto_reward": True}, "Pendulum-v1": {"g": 5.0}} | {
    name: {"goal_velocity": 0.03} for name in ANYWHERE if name.startswith("MountainCar")
}
STARTS = {
    "Acrobot-v1": [(-0.1, 0.1)] * 4,
    "CartPole-v1": [(-0.05, 0.05)] * 4,
    "MountainCar-v0": [(-0.6, -0.4), (0, 0)],
    "MountainCarContinuous-v0": [(-0.6, -0.4), (0, 0)],
    "Pendulum-v1": [(-np.pi, np.pi), (-1, 1)],
}


def test_all_are_compared():
    classic = registry.families()["classic control (Gymnasium's tasks)"]
    assert set(classic) == set(ANYWHERE)


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["", "options"])
@pytest.mark.parametrize("name", ANYWHERE)
def test_every_step_is_theirs(name, options):
    options = options.get(name, {})
    theirs, rng = gymnasium.make(name, **options), np.random.default_rng(0)
    exact = 1e-7 if name == "MountainCarContinuous-v0" else 1e-12  # the former keeps float32
    theirs.reset(seed=0)
    with jax.enable_x64(True):
        env = gpusim.make(name, **options)
        low, high = np.array(ANYWHERE[name]).T
        states = rng.uniform(low, high, (1000, len(low)))
        if name == "MountainCarContinuous-v0":
            states = states.astype(np.float32).astype(float)  # what theirs keeps
        discrete = isinstance(env.action_space, Discrete)
        actions = (
            rng.integers(env.action_space.n, size=1000)
            if isinstance(env.action_space, Discrete)
            else rng.uniform(-1.2, 1.2, (1000, 1))
        )
        start = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 1000))
        after = jax.vmap(env.step)(start.replace(carry=jnp.array(states)), jnp.array(actions))
        ends = set()
        for k, (state, action) in enumerate(zip(states, actions, strict=True)):
            theirs.unwrapped.state = state
            theirs.unwrapped.steps_beyond_terminated = None
            scale = 2 if name == "Pendulum-v1" else 1
            obs, reward, terminated, _, _ = theirs.unwrapped.step(
                action if discrete else scale * action
            )
            np.testing.assert_allclose(after.carry[k], theirs.unwrapped.state, atol=exact)
            np.testing.assert_allclose(after.obs[k], obs, atol=3e-6)
            np.testing.assert_allclose(after.reward[k], reward, rtol=1e-12)
            assert after.terminated[k] == terminated
            assert not after.truncated[k]
            ends.add(bool(terminated))
    assert ends == ({False} if name == "Pendulum-v1" else {False, True})


@pytest.mark.parametrize("name", ANYWHERE)
def test_episodes_start_and_end_where_theirs_do(name):
    env, theirs = gpusim.make(name), gymnasium.make(name)
    assert env.max_episode_steps == theirs.spec.max_episode_steps
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 4096))
    low, high = np.array(STARTS[name]).T
    np.testing.assert_allclose(starts.carry.min(0), low, atol=0.01 * max(high - low))
    np.testing.assert_allclose(starts.carry.max(0), high, atol=0.01 * max(high - low))
    np.testing.assert_allclose(starts.carry.mean(0), (low + high) / 2, atol=0.1)
    assert starts.obs.shape == (4096, *theirs.observation_space.shape)
    for seed in range(20):
        theirs.reset(seed=seed)
        assert (low <= theirs.unwrapped.state).all()
        assert (theirs.unwrapped.state <= high).all()


@pytest.mark.parametrize("name", ANYWHERE)
def test_drawings_take_their_poses(name):
    env = gpusim.make(name)
    state = env.reset(jax.random.key(0))
    assert env.pose(state).shape == (env.drawing().nq,)
