"""gpusim.adapters.gymnasium, used by Gymnasium: its checker, its vector environment, its make."""

import subprocess
import sys

import jax
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402
from gymnasium.wrappers.vector import RecordEpisodeStatistics  # noqa: E402

import gpusim  # noqa: E402
from gpusim.adapters import gymnasium as adapter  # noqa: E402
from tests.envs.ring import Ring  # noqa: E402
from tests.envs.test_vec_env import Tally  # noqa: E402
from tests.envs.test_world import Counter  # noqa: E402

MODES = list(AutoresetMode)


@pytest.fixture(scope="module")
def hopper():
    return gpusim.make("hopper")


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def equal(a, b, what):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6, err_msg=what)


@pytest.mark.filterwarnings("ignore:.*infinity")
@pytest.mark.parametrize("world", [Ring(cars=4), Counter()], ids=["Box", "Dict and Discrete"])
def test_gymnasium_s_checker_is_content(world):
    check_env(adapter.Env(world, max_episode_steps=9), skip_render_check=True)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_a_world_learns_of_its_past(mode):
    """It is ended in its second step, then by the time limit, and so on; a seed begins anew."""
    worlds = adapter.VectorEnv(Tally(), 1, autoreset_mode=mode)
    worlds.reset(seed=0)
    ends = np.zeros(2)
    for k in range(6):
        for step in range(4 if k % 2 else 2):
            end = step == 1 and k % 2 == 0
            obs, _, terminated, truncated, _ = worlds.step(np.array([[float(end)]], np.float32))
        assert (terminated[0], truncated[0]) == (k % 2 == 0, k % 2 == 1)
        ends += [k % 2 == 0, k % 2 == 1]
        if mode is AutoresetMode.NEXT_STEP:
            obs, *_ = worlds.step(np.zeros((1, 1), np.float32))
        if mode is AutoresetMode.DISABLED:
            obs, _ = worlds.reset(options={"reset_mask": np.array([True])})
        np.testing.assert_array_equal(obs[0], ends)
    np.testing.assert_array_equal(worlds.reset(seed=0)[0][0], [0, 0])


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("world", [Ring(cars=4, length=24.0), Counter()], ids=["Ring", "Counter"])
def test_many_worlds_are_gymnasium_s_own_of_single_ones(world, mode):
    """Gymnasium's SyncVectorEnv of our `Env` says what each mode means."""
    make = lambda: adapter.Env(world, max_episode_steps=7)
    theirs = SyncVectorEnv([make for _ in range(3)], autoreset_mode=mode)
    ours = adapter.VectorEnv(world, 3, max_episode_steps=7, autoreset_mode=mode)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.action_space
    equal(ours.reset(seed=4)[0], theirs.reset(seed=4)[0], "reset")
    theirs.action_space.seed(0)
    ended = 0
    for t in range(20):
        actions = theirs.action_space.sample()
        mine, yours = ours.step(actions), theirs.step(actions)
        for name, a, b in zip(("obs", "reward", "terminated", "truncated"), mine, yours):  # noqa: B905
            equal(a, b, f"{name} of step {t}")
        over = mine[2] | mine[3]
        ended += over.sum()
        if over.any() and mode is AutoresetMode.SAME_STEP:
            assert list(mine[4]["_final_obs"]) == list(yours[4]["_final_obs"]) == list(over)
            for i in np.flatnonzero(over):
                equal(mine[4]["final_obs"][i], yours[4]["final_obs"][i], f"final obs of step {t}")
        if over.any() and mode is AutoresetMode.DISABLED:
            with pytest.raises(gymnasium.error.ResetNeeded, match="have ended"):
                ours.step(actions)
            a = ours.reset(options={"reset_mask": over})[0]
            b = theirs.reset(options={"reset_mask": over})[0]
            equal(a, b, f"masked reset after step {t}")
    assert ended > 3


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_gymnasium_s_wrapper_tells_of_episodes(hopper, mode):
    envs = adapter.VectorEnv(hopper, 4, max_episode_steps=5, autoreset_mode=mode)
    envs = RecordEpisodeStatistics(envs)
    envs.reset(seed=0)
    total = np.zeros(4)
    for t in range(5):
        obs, reward, _, truncated, infos = envs.step(np.zeros((4, 3), np.float32))
        total += reward
        assert ("episode" in infos) == (t == 4)
        obs[:] = 0  # the caller's own
    assert truncated.all()
    np.testing.assert_allclose(infos["episode"]["r"], total, rtol=1e-5)
    assert infos["episode"]["l"].tolist() == [5] * 4
    assert infos["_reward_forward"].all()
    if mode is AutoresetMode.SAME_STEP:
        assert np.isfinite(infos["final_info"]["reward_forward"]).all()


def test_seeds(hopper):
    envs = adapter.VectorEnv(hopper, 3)
    a = envs.reset(seed=[5, 6, 5])[0]
    np.testing.assert_array_equal(a[0], a[2])
    assert (a[0] != a[1]).any()
    on = envs.reset()[0]
    assert (on != a).any(axis=1).all()
    np.testing.assert_array_equal(envs.reset(seed=[5, 6, 5])[0], a)
    np.testing.assert_array_equal(envs.reset()[0], on)  # its own stream, again
    part = envs.reset(seed=[None, 9, None], options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(part[0][[0, 2]], on[[0, 2]])
    alone, _ = adapter.Env(hopper).reset(seed=9)
    np.testing.assert_array_equal(part[0][1], alone)
    assert (
        adapter.VectorEnv(hopper, 3).reset()[0] != adapter.VectorEnv(hopper, 3).reset()[0]
    ).any()


def test_starts_are_staggered_if_asked(hopper):
    envs = adapter.VectorEnv(hopper, 64, max_episode_steps=8, staggered=True)
    envs.reset(seed=0)
    ended = [envs.step(np.zeros((64, 3), np.float32))[3].sum() for _ in range(8)]
    assert sum(ended) == 64
    assert max(ended) < 30
    envs.reset(seed=0)
    assert [envs.step(np.zeros((64, 3), np.float32))[3].sum() for _ in range(8)] == ended


def test_mistakes_are_named(hopper):
    envs = adapter.VectorEnv(hopper, 2)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        envs.step(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="3 seeds for 2 worlds"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match=r"reset_mask is int64\[2\], not bool\[2\]"):
        envs.reset(options={"reset_mask": np.array([0, 1])})
    envs.reset()
    with pytest.raises(ValueError, match=r"hopper: 2 worlds take an action of shape \(2, 3\)"):
        envs.step(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="render_mode 'human'"):
        adapter.Env(hopper, render_mode="human")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0, not a whole number from 1"),
        ({"num_envs": 2.5}, "num_envs is 2.5"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"max_episode_steps": "9"}, "max_episode_steps is '9'"),
    ],
)
def test_numbers_that_are_none(hopper, options, message):
    with pytest.raises(ValueError, match=message):
        adapter.VectorEnv(hopper, **options)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**32 - 1, 1.5, [0, 1.5], [0, -1], "a"], ids=str)
def test_seeds_that_are_none(seed):
    with pytest.raises(ValueError, match=r"seed is .*, not a whole number from 0 to 4294967295"):
        adapter.VectorEnv(Counter(), 2).reset(seed=seed)


def test_a_world_on_the_host_is_refused():
    with pytest.raises(ValueError, match="gym:CartPole-v1 steps on the host"):
        adapter.make("gym:CartPole-v1")


def test_nothing_is_drawn_before_a_reset(hopper):
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset before render"):
        adapter.Env(hopper, render_mode="rgb_array").render()


def test_a_name_is_not_a_world():
    with pytest.raises(TypeError, match=r"not a world: 'ant'; gpusim.make\(NAME\) makes one"):
        adapter.VectorEnv("ant", 2)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("choice", [2, -1, np.int64(2**40)])
def test_a_choice_that_is_not_there(choice):
    env = adapter.make("CartPole-v1")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"CartPole-v1: action {choice}; choices are 0 to 1"):
        env.step(choice)


def test_the_shape_of_one_action_is_told(hopper):
    env = adapter.Env(hopper)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"one world takes an action of shape \(3,\).*\(4,\)"):
        env.step(np.zeros(4, np.float32))


@pytest.mark.parametrize("limit", [None, 300, 9])
def test_gymnasium_has_the_time_limit(limit):
    env = gymnasium.make("gpusim/Pendulum-v1", max_episode_steps=limit)
    envs = gymnasium.make_vec("gpusim/Pendulum-v1", 1, max_episode_steps=limit)
    assert gymnasium.spec("gpusim/Pendulum-v1").max_episode_steps == 200
    for one, action in [(env, np.zeros(1, np.float32)), (envs, np.zeros((1, 1), np.float32))]:
        one.reset(seed=0)
        assert next(t for t in range(1, 400) if one.step(action)[3]) == (limit or 200)


def test_names():
    envs = gymnasium.make_vec("gpusim/hopper", num_envs=2, reset_noise_scale=0.0)
    assert isinstance(envs, adapter.VectorEnv)
    assert getattr(envs.world, "reset_noise_scale") == 0.0  # noqa: B009
    env = gymnasium.make("gpusim/hopper", max_episode_steps=3)
    env.reset(seed=0)
    flags = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert flags[-1] == (False, True)


def test_the_name_alone_is_enough():
    """In a process that has not imported the adapter."""
    code = """if True:
        import gymnasium
        assert "gpusim/ant" not in gymnasium.registry
        env = gymnasium.make_vec("gpusim.adapters.gymnasium:gpusim/hopper", num_envs=2)
        assert "gpusim/ant" in gymnasium.registry
        print(env.reset(seed=0)[0].shape)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["(2, 11)"], done.stderr


@pytest.mark.slow
def test_stable_baselines_3_learns():
    """Its PPO learns to keep a pole up: episodes become longer."""
    sb3 = pytest.importorskip("stable_baselines3")
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    make = lambda: gymnasium.make("gpusim/inverted_pendulum", max_episode_steps=200)
    envs = vec_env.VecMonitor(vec_env.DummyVecEnv([make] * 4))
    ppo = sb3.PPO("MlpPolicy", envs, n_steps=256, batch_size=64, learning_rate=1e-3, seed=0)
    ppo.learn(1024)
    early = np.mean([episode["l"] for episode in ppo.ep_info_buffer])
    ppo.learn(5120, reset_num_timesteps=False)
    late = np.mean([episode["l"] for episode in ppo.ep_info_buffer])
    assert late > 2 * early
