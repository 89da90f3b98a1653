"""Worlds that step on the host: what the learner is told is what Gymnasium's own counting says."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium import spaces  # noqa: E402

import gpusim  # noqa: E402
from gpusim import config, train  # noqa: E402
from gpusim.agents.evaluate import Evaluation  # noqa: E402
from gpusim.agents.ppo import PPO, PPOConfig  # noqa: E402
from gpusim.envs import registry  # noqa: E402
from gpusim.envs.gymnasium_world import Actions, Observations  # noqa: E402
from gpusim.envs.vec_env import autoreset  # noqa: E402
from gpusim.run import archive, clock, job, opening, sinks  # noqa: E402
from gpusim.run.summary import Run  # noqa: E402
from tests.envs import gymnasium_oracle  # noqa: E402, F401  (its MuJoCo tasks without imageio)

made: list[Any] = []


class Diary(gymnasium.Wrapper):
    """Writes down what is done to an environment: seeds of resets, actions, and what came back."""

    def __init__(self, env: Any):
        super().__init__(env)
        self.lines: list[Any] = []
        made.append(self)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.lines.append(seed)
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        result = super().step(action)
        self.lines.append((action, *result[:4]))
        return result


def counted(id: str) -> Any:
    """With Gymnasium's own statistics of episodes."""
    return Diary(gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(id)))


for id, limit in (("CartPole-v1", 500), ("Pendulum-v1", 200)):
    gymnasium.register(
        f"Counted{id}", lambda id=id: counted(id), max_episode_steps=limit, nondeterministic=True
    )


class Small(gymnasium.Env):
    """A choice of three, of which it says what was done; sees a dict."""

    observation_space = spaces.Dict({"place": spaces.Discrete(4), "at": spaces.Box(-1, 1, (2, 1))})
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self._obs(), {}

    def step(self, action):
        if not 5 <= action < 8:
            raise ZeroDivisionError(f"no such action: {action}")
        self.place += 1
        return self._obs(), float(action), self.place == 3, False, {}

    def _obs(self):
        return {"place": self.place, "at": np.full((2, 1), self.place / 4, np.float32)}


gymnasium.register("Small-v0", Small)

SIZES: dict[str, Any] = {
    "num_envs": 3,
    "unroll_length": 64,
    "num_minibatches": 2,
    "updates_per_call": 2,
}
TINY = {**SIZES, "total_steps": 768, "evaluations": 1, "eval_envs": 2, "tensorboard": False}


def test_returns_are_those_that_gymnasium_counts():
    """Two calls of the program; Gymnasium's wrapper sits in every environment."""
    made.clear()
    learner = PPO(PPOConfig(**SIZES), gpusim.make("gym:CountedCartPole-v1"), devices=1)
    state, ours, lengths, episodes = learner.init(jax.random.key(0)), 0.0, 0.0, 0.0
    for _ in range(2):
        state, report = learner.train_step(state)
        count = float(report.metrics["episodes"])
        episodes += count
        ours += float(report.metrics["episode_return"]) * count
        lengths += float(report.metrics["episode_length"]) * count
    queues = [diary.env.return_queue for diary in made[1:]]  # the first was only looked at
    assert len(queues) == 3
    assert episodes == sum(map(len, queues)) > 20
    assert ours == pytest.approx(sum(map(sum, queues)), rel=1e-6)
    assert lengths == pytest.approx(sum(sum(diary.env.length_queue) for diary in made[1:]))
    assert len([line for diary in made[1:] for line in diary.lines if isinstance(line, tuple)]) == (
        2 * SIZES["updates_per_call"] * SIZES["unroll_length"] * 3
    )


class OfOldGym(Small):
    """Its reset gives no info."""

    observation_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32)


gymnasium.register("OfOldGym-v0", OfOldGym)


def test_one_number_is_not_taken_for_all_of_an_observation(capfd):
    worlds = autoreset(gpusim.make("gym:OfOldGym-v0"), 2)
    with pytest.raises(Exception, match=r"gym:OfOldGym-v0: an observation of shape \(\) is not in"):
        jax.block_until_ready(jax.jit(worlds.reset)(jax.random.key(0)))
    assert "Traceback" not in capfd.readouterr().err  # the error says it once


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_every_step_is_gymnasium_s(id: str):
    """The same seeds and actions in an environment of Gymnasium's, made by `gymnasium.make`."""
    made.clear()
    world = gpusim.make(f"gym:Counted{id}")
    worlds = autoreset(world, 2, episode_length=25)
    state = jax.jit(worlds.reset)(jax.random.key(3))
    np.testing.assert_array_equal(state.steps, 0)
    step, seen = jax.jit(worlds.step), [jax.device_get(state)]
    for key in jax.random.split(jax.random.key(4), 60):
        choices = id == "CartPole-v1"
        random = jax.random.uniform(key, (2, 1), minval=-1.0)
        state = step(state, (random[:, 0] > 0).astype(int) if choices else random)
        seen.append(jax.device_get(state))
    ends = 0
    for i, diary in enumerate(made[1:]):
        env, lines = gymnasium.make(id), iter(diary.lines)
        obs = env.reset(seed=next(lines))[0]
        total, length = 0.0, 0
        for now, after in itertools.pairwise(seen):
            np.testing.assert_allclose(now.obs[i], obs, rtol=1e-6)
            action, *told = next(lines)
            obs, reward, terminated, *_ = env.step(action)
            np.testing.assert_array_equal(obs, told[0])
            total, length = total + float(reward), length + 1
            assert after.reward[i] == pytest.approx(reward, rel=1e-6)
            assert after.terminated[i] == terminated
            assert after.truncated[i] == (not terminated and length == 25)
            np.testing.assert_allclose(after.final_obs[i], obs, rtol=1e-6)
            if terminated or length == 25:
                ends += 1
                obs = env.reset(seed=next(lines))[0]
                total, length = 0.0, 0
            else:
                assert after.episode_return[i] == pytest.approx(total, rel=1e-5)
        seeds = [line for line in diary.lines if isinstance(line, int)]
        assert len({*seeds}) == len(seeds)
    assert ends >= 4


def test_actions_fill_the_bounds_of_the_environment():
    made.clear()
    world = gpusim.make("gym:CountedPendulum-v1")
    state = world.reset(jax.random.key(0))
    for ours, theirs in ((-1.0, -2.0), (0.5, 1.0), (1.0, 2.0)):
        state = world.step(state, jnp.array([ours]))
        assert made[-1].lines[-1][0] == pytest.approx([theirs])
        assert made[-1].lines[-1][0].dtype == np.float32


@pytest.mark.parametrize(
    ("space", "actions"),  # of -1, -0.6, 0.2 and 1 among the bounds, by hand
    [
        (spaces.Box(1, 255, (2,), np.uint8), [1, 52, 153, 255]),  # whose sum is no byte
        (spaces.Box(-100, 127, (2,), np.int8), [-100, -55, 36, 127]),
        (spaces.Box(-1, 1, (2,), np.int8), [-1, -1, 0, 1]),  # the nearest whole number
        (
            spaces.Box(-(2**31), 2**31 - 1, (1,), np.int32),
            [-(2**31), -1288490189, 429496729, 2**31 - 1],
        ),
        (spaces.Box(-3e38, 3e38, (1,), np.float32), [-3e38, -1.8e38, 6e37, 3e38]),
        (spaces.Box(0, 10, (), np.float32), [0, 2, 6, 10]),  # one number without an axis
    ],
)
def test_actions_of_any_type_fill_the_bounds(space, actions):
    ours = Actions("gym:X", space)
    for share, expected in zip((-1.0, -0.6, 0.2, 1.0), actions, strict=True):
        found = ours.theirs(np.full(ours.space.shape, share, np.float32))
        assert found.shape == space.shape
        assert found.dtype == space.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_other_spaces():
    world = gpusim.make("gym:Small-v0")
    state = jax.device_get(world.reset(jax.random.key(0)))
    np.testing.assert_array_equal(state.obs, [0, 0, 1, 0, 0, 0])  # "at", then one of four
    state = world.step(state, jnp.array(2))
    assert float(state.reward) == 7
    np.testing.assert_array_equal(state.obs, [0.25, 0.25, 0, 1, 0, 0])
    with pytest.raises(ValueError, match="within bounds"):
        Actions("gym:X", spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(ValueError, match="gym:X: actions are MultiDiscrete"):
        Actions("gym:X", spaces.MultiDiscrete([2, 3]))
    with pytest.raises(ValueError, match="no vector of one length"):
        Observations("gym:X", spaces.Sequence(spaces.Discrete(2)))


class Seen(gymnasium.Env):
    """Which half of a picture is lit says what to choose."""

    observation_space = spaces.Box(0, 255, (32, 32), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 20
        return self._obs(), {}

    def step(self, action):
        self.left -= 1
        reward = float(action == self.right)
        return self._obs(), reward, self.left == 0, False, {}

    def _obs(self):
        self.right = int(self.np_random.integers(2))
        obs = np.zeros((32, 32), np.uint8)
        at = self.np_random.integers(8) + 16 * self.right
        obs[:, at : at + 8] = 255
        return obs


gymnasium.register("Seen-v0", Seen)


@pytest.mark.slow
def test_pictures_of_the_hosts_are_looked_at(tmp_path):
    flags = ["--num-envs", "8", "--unroll-length", "64", "--total-steps", "16000"]
    flags += ["--evaluations", "1", "--learning-rate", "1e-3", "--policy-hidden", "32"]
    train.main(["--env", "gym:Seen-v0", *flags, "--out", str(tmp_path / "run")])
    found = Run.read(tmp_path / "run").evaluation
    assert found["evaluation_return"] > 19  # by chance 10, at best 20


@jax.tree_util.register_static
class Left:
    """A policy that always goes left."""

    def initial(self, batch):
        return ()

    def act(self, memory, obs, key=None):
        return memory, jnp.zeros(len(obs), int)


def test_an_evaluation_is_the_same_each_time_and_rests_when_it_is_over():
    made.clear()
    evaluation = Evaluation(gpusim.make("gym:CountedCartPole-v1"), 3, 40)

    first = jax.device_get(evaluation(Left(), jax.random.key(0)))
    again = jax.device_get(evaluation(Left(), jax.random.key(0)))
    np.testing.assert_array_equal(first.total, again.total)
    assert len(set(first.total.tolist())) > 1
    assert not first.alive.any()
    stepped = sum(isinstance(line, tuple) for diary in made[1:] for line in diary.lines)
    assert stepped == first.total.sum() * 2


def test_no_state_is_stepped_twice():
    worlds = autoreset(gpusim.make("gym:CartPole-v1"), 2)
    state = worlds.reset(jax.random.key(0))
    worlds.step(state, jnp.zeros(2, int))
    with pytest.raises(Exception, match="cannot go back to an earlier state"):
        jax.block_until_ready(worlds.step(state, jnp.zeros(2, int)))


def test_a_run_plays_and_goes_on(tmp_path):
    run = gpusim.train("gym:Small-v0", out=tmp_path / "run", **TINY)
    assert run.steps == 768
    assert run.evaluation["evaluation_length"] == 3
    played = gpusim.play(run, episodes=2)
    assert 15 <= float(played.episodes.total[0]) <= 21
    with pytest.raises(config.ConfigError, match="offers no drawing"):
        played.film(tmp_path / "film.webp")
    run = gpusim.train(resume=run, total_steps=1536)
    assert run.steps == 1536
    assert run.evaluation["evaluation_length"] == 3


@pytest.mark.slow
def test_what_was_remembered_is_lost_with_the_episodes(tmp_path):
    """Three steps an episode, and 64 a call: memories are not empty when the run is saved."""
    folder = tmp_path / "run"
    remembers: dict[str, Any] = {"memory": 4, "num_minibatches": 1}
    gpusim.train("gym:Small-v0", out=folder, **(TINY | remembers))
    saved = archive.newest(folder / "checkpoints")[1].members
    assert any(x.any() for name, x in saved.items() if name.startswith("state/memory"))
    again = config.parse(["--resume", str(folder), "--total-steps", "1536"]).train
    here = job.prepare(again, folder, True, clock.Phases())
    begun = opening.position(here, True, sinks.Nowhere())
    assert begun.steps == 768
    assert not any(x.any() for x in jax.tree.leaves(begun.state.memory))


def test_mujoco_s_are_drawn():
    world = gpusim.make("gym:Hopper-v5")
    state = world.reset(jax.random.key(0))
    assert world.drawing().nq == 6
    np.testing.assert_allclose(world.pose(state)[1:], state.obs[:5], rtol=1e-5)
    assert world.dt == pytest.approx(0.008)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--env gym:CartPol-v1", "Did you mean: `CartPole`?"),
        ("--env gym:CartPole-v1 --env.wings 2", "unexpected keyword argument 'wings'"),
        ("--env gym:CartPole-v1 --num-seeds 2", "leave out --num-seeds"),
        ("--env gym:CartPole-v1 --profile", "leave out --profile"),
        ("--env gym:CartPole-v1 --devices 2", "leave out --devices"),
        ("--env CartPole-v1 --physics gym", "is called gym:CartPole-v1"),
        ("--env gym:CartPole-v1 --learner sac", "sac learns continuous actions"),
    ],
)
def test_mistakes_are_one_line(flags: str, told: str, tmp_path, capsys):
    assert train.main([*flags.split(), "--out", str(tmp_path / "run")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    gymnasium.register("Nowhere-v0", "no_such_package.envs:Nowhere")
    with pytest.raises(ValueError, match="gym:Nowhere-v0 needs no_such_package, which is not inst"):
        registry.make("gym:Nowhere-v0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs envpool: pip install envpool"):
        registry.make("envpool:Pong-v5")


def test_presets_are_small():
    cartpole = config.parse(["--env", "gym:CartPole-v1"]).train
    assert (cartpole.learner.num_envs, cartpole.eval_envs) == (8, 16)
    assert config.TrainConfig(env="gym:CartPole-v1") == cartpole
    assert config.parse(["--env", "gym:X", "--eval-envs", "3"]).train.eval_envs == 3
    for learner in ("ppo", "sac", "reinforce"):
        for suite in ("gym", "envpool"):
            found = config.parse(["--env", f"{suite}:X", "--learner", learner]).train.learner
            found.check(1)
            assert found.num_envs == 8


@pytest.mark.parametrize("id", ["CartPole-v1", "HalfCheetah-v4"])
def test_envpool(id: str):
    """EnvPool's rules: those of an end are its own, seeds those that it is given."""
    envpool = pytest.importorskip("envpool")
    world: Any = gpusim.make(f"envpool:{id}")
    worlds = autoreset(world, 3, episode_length=30)
    state = jax.jit(worlds.reset)(jax.random.key(0))
    seeds = [int(s) % 2**31 for s in _seeds(jax.random.key(0), 3)]
    theirs = envpool.make(id, "gymnasium", num_envs=3, seed=seeds)
    obs = theirs.reset()[0]
    step, running = jax.jit(worlds.step), np.ones(3, bool)
    for key in jax.random.split(jax.random.key(1), 29):
        np.testing.assert_allclose(state.obs[running], obs[running], rtol=1e-6)
        if id == "CartPole-v1":
            action = jax.random.randint(key, (3,), 0, 2)
        else:
            action = jax.random.uniform(key, (3, 6), minval=-1.0)
        state = step(state, action)
        obs, reward, terminated, _, _ = theirs.step(np.asarray(action))
        np.testing.assert_allclose(state.reward[running], reward[running], rtol=1e-5)
        np.testing.assert_array_equal(state.terminated[running], terminated[running])
        np.testing.assert_allclose(state.final_obs[running], obs[running], rtol=1e-5)
        running &= ~terminated
    assert running.all() or id == "CartPole-v1"
    state = step(state, action)
    assert state.truncated[running].all()
    assert (state.steps[running] == 0).all()


def _seeds(key: jax.Array, num: int) -> list[int]:
    """What `HostedVecEnv.reset` draws."""
    worlds = jax.random.split(key, num)
    starts = [jax.random.split(k)[1] for k in worlds]
    return [int(jax.random.bits(k, dtype=jnp.uint32)) for k in starts]


@pytest.mark.slow
def test_cartpole_is_learned(tmp_path):
    run = gpusim.train("gym:CartPole-v1", total_steps=60_000, out=tmp_path / "run", evaluations=2)
    assert run.evaluation["evaluation_return"] >= 475


@pytest.mark.parametrize(
    ("shape", "turned"),
    [
        ((40, 50, 3), lambda obs: obs),  # colours
        ((40, 50), lambda obs: obs[..., None]),
        ((40, 50, 4), lambda obs: obs[..., ::-1]),  # stacked, the newest first
        ((4, 40, 50), lambda obs: np.stack(list(obs[::-1]), -1)),
        ((7, 7, 3), None),  # too small for convolutions
        ((400,), None),
    ],
)
def test_bytes_in_rows_and_columns_are_a_picture(shape, turned):
    seen = Observations("gym:X", spaces.Box(0, 255, shape, np.uint8))
    obs = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if turned is None:
        assert seen.picture is None
        np.testing.assert_array_equal(seen.vector(obs), obs.ravel())
    else:
        expected = turned(obs) / 255
        assert seen.picture == expected.shape
        np.testing.assert_allclose(seen.vector(obs).reshape(seen.picture), expected, rtol=1e-6)


def test_pictures_of_few_shades_are_as_bright():
    seen = Observations("gym:X", spaces.Box(0, 1, (40, 50), np.uint8))
    obs = np.random.default_rng(0).integers(0, 2, (40, 50), np.uint8)
    np.testing.assert_array_equal(seen.vector(obs), obs.ravel())
