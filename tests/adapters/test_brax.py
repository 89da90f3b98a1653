"""gpusim.adapters.brax: our worlds in Brax's learners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")

from brax.envs.wrappers import training
from brax.training.agents.ppo import train as ppo

import gpusim
from bench.brax_ppo import restore_device_put_replicated
from gpusim.adapters import brax as adapter
from tests.envs.ring import Ring


def test_a_step_is_the_world_s():
    world = gpusim.make("hopper")
    env = adapter.Env(world)
    assert (env.observation_size, env.action_size, env.backend) == (11, 3, "gpusim")
    state, ours = env.reset(jax.random.PRNGKey(0)), world.reset(jax.random.key(0))
    for k in range(3):
        action = jnp.full(3, 0.3 * k)
        state, ours = env.step(state, action), world.step(ours, action)
    np.testing.assert_array_equal(state.obs, ours.obs)
    assert (state.reward, state.done) == (ours.reward, 0)
    assert state.metrics["reward_forward"] == ours.metrics["reward_forward"]


def test_brax_s_wrappers_restart_it():
    env = training.wrap(adapter.Env(Ring(cars=4)), episode_length=5)
    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 3))
    step, start = jax.jit(env.step), state.obs
    for _ in range(5):
        state = step(state, jnp.zeros((3, 1)))
    assert state.done.all()
    assert state.info["truncation"].all()
    np.testing.assert_array_equal(state.obs, start)  # Brax restarts worlds where they began


def test_brax_s_ppo_trains_it():
    restore_device_put_replicated()
    progress = []
    ppo.train(
        environment=adapter.Env(Ring(cars=4)),
        num_timesteps=4096, num_envs=32, episode_length=16, unroll_length=8, batch_size=16,
        num_minibatches=2, num_updates_per_batch=1, num_evals=2, num_eval_envs=8,
        max_devices_per_host=1, progress_fn=lambda steps, metrics: progress.append(metrics),
    )  # fmt: skip
    assert len(progress) == 2
    assert all(np.isfinite(m["eval/episode_reward"]) for m in progress)
