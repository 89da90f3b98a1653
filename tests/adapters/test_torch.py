"""gpusim.adapters.torch, used by PyTorch and by rsl_rl."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gpusim  # noqa: E402
from gpusim.adapters import torch as adapter  # noqa: E402
from gpusim.envs import autoreset  # noqa: E402
from tests.envs.ring import Ring  # noqa: E402
from tests.envs.test_world import Counter  # noqa: E402


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "bool", "bfloat16"])
def test_arrays_go_both_ways(dtype):
    tree = {"a": jnp.arange(6).reshape(2, 3).astype(dtype), "b": [jnp.zeros((), dtype)]}
    there = adapter.to_torch(tree)
    assert there["a"].shape == (2, 3)
    assert there["a"].tolist() == tree["a"].tolist()
    back = adapter.to_jax(there)
    assert back["a"].dtype == tree["a"].dtype
    np.testing.assert_array_equal(back["a"], tree["a"])
    np.testing.assert_array_equal(adapter.to_jax(there["a"].T), tree["a"].T)


def test_no_copy_is_made():
    x = jnp.arange(1024.0)
    assert adapter.to_torch(x).data_ptr() == x.unsafe_buffer_pointer()


def test_a_step_is_the_worlds():
    pytest.importorskip("tensordict")
    world = gpusim.make("hopper")
    env = adapter.VecEnv(world, 3, max_episode_steps=4, seed=5)
    worlds = autoreset(world, 3, episode_length=4)
    state = worlds.reset(jax.random.key(5)).replace(steps=jnp.zeros(3, jnp.int32))
    step = jax.jit(worlds.step)
    actions = torch.linspace(-3, 3, 9).reshape(3, 3).requires_grad_()
    for k in range(1, 10):
        obs, reward, done, extras = env.step(actions)
        state = step(state, jnp.clip(jnp.asarray(actions.detach().numpy()), -1, 1))
        np.testing.assert_allclose(obs["policy"], state.obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reward, state.reward, rtol=1e-5, atol=1e-6)
        assert done.tolist() == (state.terminated | state.truncated).tolist()
        assert extras["time_outs"].tolist() == state.truncated.tolist()
        assert done.dtype == torch.bool
        told = float(extras["log"]["/world/reward_forward"])
        assert told == pytest.approx(float(state.world.metrics["reward_forward"].mean()), abs=1e-5)
        assert env.episode_length_buf.tolist() == [k % 4] * 3
        obs["policy"].zero_()  # the caller's own
        reward.zero_()
    np.testing.assert_allclose(env.get_observations()["policy"], state.obs, rtol=1e-5, atol=1e-6)
    env.episode_length_buf = torch.tensor([0, 1, 3])
    assert env.step(actions)[3]["time_outs"].tolist() == [False, False, True]
    lengths = torch.tensor([0, 1, 2], dtype=torch.int32)
    env.episode_length_buf = lengths
    lengths.zero_()  # still the caller's own
    assert env.episode_length_buf.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"episode_length_buf: \(2,\), not one number a world"):
        env.episode_length_buf = torch.tensor([0, 1])


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_are_none(seed):
    with pytest.raises(ValueError, match=r"seed is .*, not a whole number from 0 to 4294967295"):
        adapter.VecEnv(Ring(cars=4), 2, seed=seed)


def test_choices_are_refused():
    with pytest.raises(ValueError, match="rsl_rl needs a Box"):
        adapter.VecEnv(Counter(), 2)


def configuration(**algorithm):
    """Of rsl_rl's PPO on small networks."""
    network = {"class_name": "MLPModel", "hidden_dims": [16], "activation": "elu"}
    noise = {"class_name": "GaussianDistribution", "init_std": 0.5, "std_type": "scalar"}
    return {
        "num_steps_per_env": 16,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**network, "distribution_cfg": noise, "obs_normalization": True},
        "critic": {**network, "obs_normalization": True},
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 4,
            "num_mini_batches": 4,
            "learning_rate": 1e-2,
            **algorithm,
        },
    }


class Told:
    """The worlds, and the mean reward of every step."""

    def __init__(self, env: adapter.VecEnv):
        self.env, self.rewards = env, []

    def __getattr__(self, name):
        return getattr(self.env, name)

    def step(self, actions):
        found = self.env.step(actions)
        self.rewards.append(float(found[1].mean()))
        return found


@pytest.mark.slow
def test_rsl_rl_learns():
    """A controlled car among four learns to drive faster than it does by chance."""
    runners = pytest.importorskip("rsl_rl.runners")

    def reached(learning_rate):
        torch.manual_seed(0)
        env = Told(adapter.VecEnv(Ring(cars=4), 64, max_episode_steps=50))
        settings = configuration(learning_rate=learning_rate, schedule="fixed")
        runners.OnPolicyRunner(env, settings, device="cpu").learn(25)
        return np.mean(env.rewards[-100:])

    assert reached(1e-2) > 1.05 * reached(0.0)
