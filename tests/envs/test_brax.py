"""Brax's environments compiled to lanes: under Brax's wrappers and learner, and under ours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs as brax_envs

import gpusim
from gpusim import lanes
from gpusim.envs import autoreset

pytestmark = pytest.mark.filterwarnings("ignore")

WORLDS = 6
ACTIONS = jax.random.uniform(jax.random.key(1), (9, WORLDS, 1), minval=-1.0)


@pytest.fixture(scope="module")
def original() -> Any:
    return brax_envs.get_environment("inverted_pendulum", backend="spring")


def rollout(env, randomization_fn=None, episode_length=4):
    """Nine steps under the wrappers of Brax's training, over two ends of episodes; and how many
    kernels a step is.
    """
    env = brax_envs.training.wrap(env, episode_length, randomization_fn=randomization_fn)
    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), WORLDS))
    run = jax.jit(
        lambda s: jax.lax.scan(lambda s, a: (env.step(s, a), (s.obs, s.done)), s, ACTIONS)
    )
    return run(state), run.lower(state).as_text().count("@gpusim_lanes_")


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), a, b)


@pytest.mark.slow
def test_vectorized_under_brax_wrappers(original):
    (expected, none), (actual, one) = rollout(original), rollout(lanes.vectorize(original))
    assert (none, one) == (0, 1)
    assert_close(actual, expected)


@pytest.mark.slow
def test_domain_randomisation(original):
    def vary(sys):
        gear = jnp.linspace(50.0, 200.0, WORLDS)[:, None]
        axes = jax.tree.map(lambda _: None, sys).tree_replace({"actuator.gear": 0})
        return sys.tree_replace({"actuator.gear": gear}), axes

    vectorized = lanes.vectorize(original)
    (expected, _), (actual, one) = rollout(original, vary), rollout(vectorized, vary)
    assert one == 1
    assert_close(actual, expected)
    assert_close(rollout(vectorized)[0], rollout(original)[0])  # and back


def test_facts_of_a_vectorized_environment(original):
    env: Any = lanes.vectorize(original)
    assert env.dt == original.dt  # what it does not have is the environment's own
    assert (env.observation_size, env.action_size, env.backend) == (4, 1, "spring")
    assert isinstance(env, brax_envs.Env)


def test_made_worlds_have_a_face_of_brax(original):
    env: Any = gpusim.make("inverted_pendulum", physics="brax-spring")
    assert isinstance(env.brax, brax_envs.Env)
    (expected, _), (actual, one) = rollout(original), rollout(env.brax)
    assert one == 1
    assert_close(jax.tree.leaves(actual), jax.tree.leaves(expected))


def test_made_environments_fit_autoreset(original):
    """The first episode is Brax's; then a fresh start, drawn by each world's own key."""
    env = gpusim.make("inverted_pendulum", physics="brax-spring")
    venv = autoreset(env, WORLDS, episode_length=4)
    state = jax.jit(venv.reset)(jax.random.key(0))
    step, original_step = jax.jit(venv.step), jax.jit(jax.vmap(original.step))
    for action in ACTIONS:
        before, state = state, step(state, action)
        expected = original_step(before.world.carry, action)
        np.testing.assert_allclose(state.final_obs, expected.obs, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(state.reward, expected.reward, rtol=1e-3)
        np.testing.assert_array_equal(state.terminated, expected.done > 0)
        over = state.terminated | state.truncated
        np.testing.assert_array_equal(over, state.steps == 0)
    assert state.totals.count > 0
    assert len(np.unique(state.obs[:, 0])) == WORLDS


def test_a_diverged_world_ends(original):
    env: Any = gpusim.make("inverted_pendulum", physics="brax-spring")
    state = env.start(jax.random.key(0))
    joints = state.carry.pipeline_state
    joints = joints.replace(
        qd=joints.qd * jnp.nan, xd=jax.tree.map(lambda x: x * jnp.nan, joints.xd)
    )
    sick = state.replace(carry=state.carry.replace(pipeline_state=joints))
    state = jax.jit(env.transition)(sick, jnp.zeros(1))
    assert state.terminated
    assert state.metrics["diverged"] == 1
    assert state.reward == 0
    assert not state.obs.any()


def test_unknown_physics_and_names():
    with pytest.raises(ValueError, match=r"own hopper \(brax-spring\) has no option 'camera'"):
        gpusim.make("hopper", physics="brax-spring", camera="track")
    with pytest.raises(ValueError, match="did you mean 'brax-spring'"):
        gpusim.make("ant", physics="brax-sprong")
    with pytest.raises(ValueError, match="did you mean 'half_cheetah'"):
        gpusim.make("half_cheetach", physics="brax-spring")
    with pytest.raises(ValueError, match="Unsupported backend"):
        gpusim.make("swimmer", physics="brax-spring")


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_brax_ppo(original, compiled):
    """Brax's own learner, unmodified."""
    from brax.training.agents.ppo import train as ppo

    from bench.brax_ppo import restore_device_put_replicated

    restore_device_put_replicated()
    seen = []
    ppo.train(
        environment=lanes.vectorize(original) if compiled else original,
        num_timesteps=2_000, num_envs=64, batch_size=32, num_minibatches=2, unroll_length=5,
        num_updates_per_batch=1, episode_length=20, num_evals=2, num_eval_envs=16, seed=1,
        max_devices_per_host=1,
        progress_fn=lambda steps, metrics: seen.append(metrics["eval/episode_reward"]),
    )  # fmt: skip
    assert len(seen) == 2
    assert np.isfinite(seen).all()
