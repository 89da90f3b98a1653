"""gpusim.adapters.brax: our worlds in Brax's learners."""

import importlib

import jax
import jax.numpy as jnp
import mujoco
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


LEARNERS = {
    "sac": {
        "num_timesteps": 2048,
        "num_envs": 16,
        "batch_size": 32,
        "min_replay_size": 64,
        "max_replay_size": 1024,
    },
    "es": {"num_timesteps": 2048, "population_size": 16},
    "apg": {"policy_updates": 4, "horizon_length": 8, "num_envs": 8},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_brax_s_other_learners_train_it(name):
    restore_device_put_replicated()
    progress = []
    importlib.import_module(f"brax.training.agents.{name}.train").train(
        environment=adapter.Env(Ring(cars=4)), episode_length=16, num_evals=2, num_eval_envs=8,
        max_devices_per_host=1, progress_fn=lambda steps, metrics: progress.append(metrics),
        **LEARNERS[name],
    )  # fmt: skip
    assert len(progress) >= 2
    assert all(np.isfinite(m["eval/episode_reward"]) for m in progress)


@pytest.mark.filterwarnings("ignore:Brax System")
@pytest.mark.parametrize("name", ["hopper", pytest.param("ant", marks=pytest.mark.slow)])
def test_brax_s_viewer_shows_a_trajectory(name):
    """Its links stand where MuJoCo puts the bodies."""
    world = gpusim.make(name)
    keys = jax.random.split(jax.random.key(0), 3)
    poses = jax.vmap(lambda key: world.pose(world.reset(key)))(keys)
    system, states = adapter.trajectory(world, poses)
    model: mujoco.MjModel = world.drawing()  # pyright: ignore[reportAttributeAccessIssue]
    data = mujoco.MjData(model)  # pyright: ignore[reportAttributeAccessIssue]
    bodies = [system.link_names.index(model.body(i).name) for i in range(1, model.nbody)]
    for pose, state in zip(poses, states, strict=True):
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)  # pyright: ignore[reportAttributeAccessIssue]
        np.testing.assert_allclose(state.x.pos[np.array(bodies)], data.xpos[1:], atol=1e-5)
    page = adapter.html(world, poses)
    assert "brax" in page
    assert len(adapter.html(world, jnp.tile(poses, (50, 1)))) > len(page)
    with pytest.raises(ValueError, match="offers no drawing"):
        adapter.html(Ring(), poses)
    with pytest.raises(ValueError, match=r"poses \(3, 4\) are not \(T, "):
        adapter.html(world, jnp.zeros((3, 4)))


def test_choices_are_refused():
    with pytest.raises(ValueError, match=r"Discrete\(n=2\); Brax needs a Box"):
        adapter.Env(gpusim.make("CartPole-v1"))
