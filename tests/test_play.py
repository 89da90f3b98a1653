"""Playing a trained policy: what is loaded, played, shown and exported is what was trained."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from gpusim import envs, play
from gpusim.agents.evaluate import Episodes, Evaluation
from gpusim.agents.ppo import PPOConfig
from gpusim.config import ConfigError, TrainConfig
from gpusim.envs import Discrete, Moment, MujocoTask, State, World, registry
from gpusim.envs.world import episode_keys
from gpusim.played import Played, record
from gpusim.player import Player, load
from gpusim.report import replay
from gpusim.run import archive, training
from gpusim.run.showing import Frame, tracks

CART = """
<mujoco>
  <option timestep="0.02" iterations="2"/>
  <worldbody>
    <geom type="plane" size="0 0 1" contype="0" conaffinity="0"/>
    <body pos="0 0 .2">
      <joint name="x" type="slide" axis="1 0 0" damping="1"/>
      <geom type="box" size=".2 .1 .1" mass="1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><motor joint="x" gear="5" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>"""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cart(MujocoTask):
    """A cart that is to move along +x and falls off the table half a metre away."""

    name: ClassVar[str] = "cart"
    mjcf: ClassVar[str] = CART
    gauges: ClassVar[dict[str, str]] = {"reward_speed": "speed, m/s"}
    n_frames: int = 2

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.random.uniform(key, (1,), minval=-0.3, maxval=0.3), jnp.zeros(1)

    def observation(self, memory: Any, now: Moment) -> jax.Array:
        return jnp.concatenate([now.state.qpos, now.state.qvel])

    def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        return {"alive": jnp.ones(()), "speed": now.state.qvel[0]}

    def terminal(self, memory: Any, now: Moment) -> jax.Array:
        return jnp.abs(now.state.qpos[0]) > 0.5


class Walker(World):
    """A dot that walks along the diagonal of its picture for four steps."""

    name = "walker"
    action_space = Discrete(2)

    def start(self, key: jax.Array) -> State:
        return State.of(jnp.zeros(1), jnp.zeros(1))

    def transition(self, state: State, action: jax.Array) -> State:
        at = state.carry + 1
        return State.of(at, at, reward=1.0, terminated=at[0] >= 4)

    def picture(self, obs: jax.Array) -> jax.Array:
        here = jnp.arange(6) == obs
        return (here[:, None] & here)[..., None].astype(float)


class Pair(Walker):
    """Two that walk towards each other, each in its picture."""

    name = "pair"
    agents = 2

    def start(self, key: jax.Array) -> State:
        return self._both(jnp.zeros(1), reward=jnp.zeros(2))

    def transition(self, state: State, action: jax.Array) -> State:
        at = state.carry + 1
        return self._both(at, reward=jnp.ones(2), terminated=at[0] >= 4)

    @staticmethod
    def _both(at: jax.Array, **rest: Any) -> State:
        return State.of(at, jnp.stack([at, 5 - at]), **rest)


class Broken(Walker):
    name = "broken"

    def picture(self, obs: jax.Array) -> jax.Array:
        row, column = obs
        return jnp.zeros((6, 6, 1)).at[row, column].set(1)


@pytest.fixture(scope="module", autouse=True)
def known():
    """The worlds have names while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpusim.envs.registry._WORLDS", dict(registry._WORLDS))
        envs.register(Cart)
        envs.register(Walker)
        envs.register(Pair)
        envs.register(Broken)
        yield


class Silent:
    """A display that shows nothing."""

    def stage(self, text: str) -> None: ...
    def message(self, text: str) -> None: ...
    def write(self, row: Any) -> None: ...
    def close(self) -> None: ...


PPO = PPOConfig(
    total_steps=256,
    num_envs=8,
    unroll_length=4,
    num_minibatches=2,
    num_epochs=1,
    updates_per_call=2,
    learning_rate=1e-2,
    policy_hidden=(8, 6),
    value_hidden=(8,),
    initial_std=1.0,
)
CONFIG = TrainConfig(
    env="cart", episode_length=25, evaluations=1, eval_envs=6, tensorboard=False, learner=PPO
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run folder, what training said)."""
    folder = tmp_path_factory.mktemp("runs") / "cart-0-today"
    return folder, training.train(CONFIG, folder, display=Silent())


def episodes_of(player: Player, count: int = 6) -> Episodes:
    return record(player, player.evaluation_key, count)


def test_plays_what_training_evaluated(trained):
    folder, run = trained
    episodes = episodes_of(load(folder))
    told = run.evaluation
    np.testing.assert_allclose(episodes.total.mean(), told["evaluation_return"], rtol=1e-4)
    np.testing.assert_allclose(episodes.total.std(), told["evaluation_std"], rtol=1e-3)
    np.testing.assert_allclose(episodes.length.mean(), told["evaluation_length"])


def test_record_watches_what_is_evaluated(trained):
    """With a constant push that moves the cart 0.5 m: off the table from half of the starts."""
    player = load(trained[0])
    trained_policy: Any = player.policy
    params = jax.tree.map(jnp.zeros_like, trained_policy.params)
    params["params"]["MLP_0"]["Dense_2"]["bias"] += 0.27
    policy = dataclasses.replace(trained_policy, params=params)
    key = jax.random.key(3)
    episodes = record(player._replace(policy=policy), key, 16)
    told = Evaluation(player.env, 16, 25)(policy, key).summary()
    assert len(set(np.asarray(episodes.length).tolist())) > 1
    np.testing.assert_allclose(episodes.total.mean(), told["return_mean"], rtol=1e-4)
    np.testing.assert_allclose(episodes.total.std(), told["return_std"], rtol=1e-3)
    np.testing.assert_allclose(episodes.length.mean(), told["length_mean"])


def test_recorded_positions_are_those_of_one_world_stepped_alone(trained):
    player = load(trained[0])
    episodes = episodes_of(player)
    state = player.env.reset(episode_keys(jax.random.split(player.evaluation_key, 6)[2])[1])
    step, act = jax.jit(player.env.step), jax.jit(player.policy.act)
    frames = episodes.watched
    for t in range(10):
        np.testing.assert_allclose(frames.pose[t, 2], state.carry.physics.qpos, atol=1e-5)
        np.testing.assert_allclose(frames.reward[t, 2], state.reward, rtol=1e-4)
        state = step(state, act((), state.obs)[1])


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--min-return", "nan"], "--min-return is nan, which no episode earns"),
        (["--min-return", "5"], "--min-return says which episodes --save FILE keeps: say both"),
    ],
)
def test_which_episodes_are_kept_is_said_with_where(capsys, more, expected):
    """Before anything is read or played."""
    assert play.main(["nowhere", *more]) == 2
    assert expected in capsys.readouterr().err


def made_up(totals, lengths, steps=4):
    """Episodes whose position is 10 * episode + time."""
    count = len(totals)
    qpos = np.arange(steps + 1)[:, None, None] + 10 * np.arange(count)[None, :, None]
    reward = np.ones((steps + 1, count))
    reward[0] = 0
    watched: Any = (qpos.astype(float), reward, {"v": 2 * reward})
    return Episodes(np.array(totals), np.array(lengths), np.ones(count), Frame(*watched))


def test_tracks_are_median_best_and_worst_cut_at_their_ends():
    shown = tracks(made_up([5.0, 1.0, 9.0, 4.0, 7.0], [4, 1, 3, 2, 4]))
    assert [t.label for t in shown] == ["median (5)", "best (9)", "worst (1)"]
    assert [np.asarray(t.qpos)[:, 0].tolist() for t in shown] == [
        [0, 1, 2, 3, 4],
        [20, 21, 22, 23],
        [10, 11],
    ]
    np.testing.assert_array_equal(shown[1].extras["return"], [0, 1, 2, 3])
    np.testing.assert_array_equal(shown[1].extras["v"], [2, 2, 2, 2])
    assert len(tracks(made_up([5.0], [4]))) == 1


def test_track_ends_where_the_world_blew_up():
    episodes = made_up([3.0], [4])
    episodes.watched.pose[3] = np.nan
    (track,) = tracks(episodes)
    assert np.asarray(track.qpos)[:, 0].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(track.extras["return"], [0, 1, 2])


def test_the_command(trained, capsys):
    folder, run = trained
    assert play.main([str(folder), "--episodes", "6"]) == 0
    said = capsys.readouterr().out
    numbers = said.splitlines()[2].split()
    assert numbers[0] == "return"
    assert float(numbers[1]) == pytest.approx(run.evaluation["evaluation_return"], abs=0.06)
    assert "median (" in said
    payload = replay.read((folder / "replay.html").read_text(encoding="utf-8"))
    assert payload["dt"] == pytest.approx(0.04)
    assert [t["label"].split()[0] for t in payload["tracks"]] == ["median", "best", "worst"]
    assert {"reward", "return", "speed, m/s"} == set(payload["tracks"][0]["extras"])
    assert replay.read((folder / "report.html").read_text(encoding="utf-8"))["dt"] == payload["dt"]


def test_seeds_are_fixed_and_can_be_chosen(trained, capsys):
    tables = []
    for arguments in ([], [], ["--seed", "1"]):
        assert play.main([str(trained[0]), "--episodes", "6", *arguments]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] != tables[2]


def test_errors_are_one_line(trained, tmp_path, capsys):
    folder, _ = trained

    def complaint(*arguments: str) -> str:
        assert play.main([str(a) for a in arguments]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        return told.err

    assert "is not a run folder" in complaint(tmp_path / "nothing")
    # before anybody waits
    assert "a table is written as" in complaint(tmp_path / "nothing", "--emission", "cars.txt")
    assert "is a .png" in complaint(tmp_path / "nothing", "--capacity", "a.gif")
    near = complaint(folder.parent / "cart-0-tody")
    assert "did you mean 'cart-0-today'?" in near
    assert "needs at least 1" in complaint(folder, "--episodes", "0").replace("to be ", "")
    assert "--epsodes" in complaint(folder, "--epsodes", "3")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text((folder / "config.yaml").read_text())
    assert "holds no checkpoint" in complaint(empty)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(archive.newest(folder / "checkpoints")[0].read_bytes()[:500])
    assert "cannot be read" in complaint(folder, "--checkpoint", broken)


def test_a_checkpoint_of_another_network_is_refused(trained, tmp_path):
    folder, _ = trained
    text = (folder / "config.yaml").read_text()
    assert "[8, 6]" in text
    (tmp_path / "config.yaml").write_text(text.replace("[8, 6]", "[8, 7]"))
    (tmp_path / "checkpoints").mkdir()
    source = archive.newest(folder / "checkpoints")[0]
    (tmp_path / "checkpoints" / source.name).write_bytes(source.read_bytes())
    with pytest.raises(
        archive.CheckpointError, match=r"is float32\[1, 6\] in it, .* float32\[1, 7\]"
    ):
        load(tmp_path)
    with pytest.raises(ConfigError, match="is not a run folder"):
        load(tmp_path / "nothing")


def test_an_environment_in_which_the_policy_cannot_act_is_refused(trained):
    why = "cannot act there: policies is 0 1: 2 numbers for the 1 agent.s. of cart"
    with pytest.raises(ConfigError, match=why):
        load(trained[0], said=[("policies", (0, 1))])


@struct.dataclass
class Feedback:
    """Acts in proportion to what is seen; of two choices, by the sign."""

    gains: Any  # (features, actions), or (features,) for choices

    def initial(self, batch: tuple[int, ...]) -> tuple[()]:
        return ()

    def act(self, memory: Any, obs: jax.Array, key: Any = None) -> tuple[Any, jax.Array]:
        found = obs @ self.gains
        choices = (found > 0).astype(jnp.int32)
        return memory, choices if found.ndim < obs.ndim else jnp.clip(found, -1, 1)


def played(name: str, gains: Any, **options: Any) -> Played:
    """64 episodes of at most 100 steps."""
    config = TrainConfig(env=name, episode_length=100, learner=PPO)
    none: Any = None
    policy: Any = Feedback(jnp.asarray(gains))
    world = envs.make(name, **options)
    player = Player(config, world, policy, Path("none"), Path("none"), none, none)
    key = jax.random.key(5)
    return Played(player, key, record(player, key, 64))


@pytest.mark.parametrize(
    ("name", "gains", "options"),
    [
        ("CartPole-v1", [0.1, 0.0, 1.0, 0.0], {}),  # forgets how fast the pole turns: falls
        ("MountainCarContinuous-v0", [[0.5], [5.0]], {}),
        ("InvertedPendulum-v5", [[0.0], [0.64], [0.0], [0.16]], {"n_frames": 3}),  # just too weak
        ("Reacher-v5", [[0.1, 0.3]] * 10, {}),
    ],
)
def test_gymnasium_s_own_environment_earns_the_same(name, gains, options):
    """Its starts are others: means are compared, within four of their standard errors."""
    pytest.importorskip("tests.envs.gymnasium_oracle")
    here = played(name, gains, **options)
    there = here.in_gymnasium()
    assert there.player.env.name == f"gym:{name}"
    for part in ("total", "length"):
        ours, theirs = (np.asarray(getattr(x.episodes, part)) for x in (here, there))
        error = np.sqrt((ours.var() + theirs.var()) / len(ours))
        assert abs(ours.mean() - theirs.mean()) <= 4 * error, (part, ours.mean(), theirs.mean())
        assert 0.5 < (ours.std() + 1e-9) / (theirs.std() + 1e-9) < 2, (part, ours, theirs)


def test_the_command_plays_in_gymnasium(tmp_path, capsys):
    pytest.importorskip("gymnasium")
    training.train(dataclasses.replace(CONFIG, env="CartPole-v1"), tmp_path, display=Silent())
    assert play.main([str(tmp_path), "--episodes", "3", "--in", "gymnasium"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[4] == "the same policy in Gymnasium's own environment, from its starts:"
    assert [line.split()[0] for line in said[2:4] + said[7:9]] == ["return", "length"] * 2


def test_what_is_not_elsewhere_is_told_before_anything_is_played(trained, monkeypatch, capsys):
    def complaint(folder: Path, place: str) -> str:
        assert play.main([str(folder), "--in", place]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        return told.err

    assert "--in gymnasium: cart is no task of Gymnasium's" in complaint(trained[0], "gymnasium")
    none: Any = None
    cart_pole = Player(CONFIG, envs.make("CartPole-v1"), *[none] * 5)
    with pytest.raises(ConfigError, match="--in mujoco: CartPole-v1 is no task on a MuJoCo model"):
        Played(cart_pole, none, none).in_mujoco()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--in gymnasium: .*pip install gymnasium"):
        Played(cart_pole, none, none).in_gymnasium()


def test_pictures_are_what_the_policy_saw(trained, tmp_path: Path, capsys):
    image = pytest.importorskip("PIL.Image")
    small = {"conv_filters": (2,), "conv_kernels": (3,), "conv_strides": (3,)}
    learner = dataclasses.replace(PPO, activation="relu", **small)
    config = dataclasses.replace(CONFIG, env="walker", learner=learner)
    training.train(config, tmp_path / "run", display=Silent())
    played = play.play(tmp_path / "run", episodes=3)
    assert played.replay() is None  # there is nothing to draw in 3D
    for path in (played.pictures(tmp_path / "seen.webp"), tmp_path / "short.gif"):
        if path.suffix == ".gif":
            played.pictures(path, seconds=2.0)
        film = image.open(path)
        assert film.n_frames == (4 if path.suffix == ".webp" else 2)
        for at in range(film.n_frames):
            film.seek(at)
            seen = np.asarray(film.convert("L")).reshape(6, 5, 6, 5).mean((1, 3))
            assert np.unravel_index(seen.argmax(), seen.shape) == (at, at)
            assert seen.sum() == pytest.approx(255, abs=30)
    with pytest.raises(ConfigError, match="cart is not seen in pictures"):
        play.play(trained[0], episodes=1).pictures(tmp_path / "a.gif")
    with pytest.raises(ConfigError, match=r"a\.avi: films are"):
        played.pictures(tmp_path / "a.avi")
    with pytest.raises(ConfigError, match=r"--seconds is -1\.0, needs to be positive"):
        played.pictures(tmp_path / "a.gif", seconds=-1.0)
    file = tmp_path / "kept.npz"
    assert play.main([str(tmp_path / "run"), "--episodes", "3", "--save", str(file)]) == 0
    told = capsys.readouterr().out
    assert "holds 3, as numbers that pictures are drawn of, which bc does not see" in told
    assert file.exists()


def test_what_pictures_are_not_for_is_told_before_anything_is_played(trained, capsys):
    for more, why in (([], "cart is not seen in"), (["--seconds", "0"], "--seconds is 0.0, needs")):
        assert play.main([str(trained[0]), "--pictures", "a.webp", *more]) == 2
        told = capsys.readouterr()
        assert why in told.err
        assert told.out == ""


def test_pictures_of_several_agents_are_side_by_side(tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    small = {"conv_filters": (2,), "conv_kernels": (3,), "conv_strides": (3,)}
    learner = dataclasses.replace(PPO, activation="relu", **small)
    config = dataclasses.replace(CONFIG, env="pair", learner=learner)
    training.train(config, tmp_path / "run", display=Silent())
    film = image.open(play.play(tmp_path / "run", episodes=3).pictures(tmp_path / "seen.webp"))
    assert (film.n_frames, film.size) == (4, (60, 30))
    for at in range(film.n_frames):
        film.seek(at)
        seen = np.asarray(film.convert("L")).reshape(6, 5, 12, 5).mean((1, 3))
        np.testing.assert_array_equal(
            np.argwhere(seen > 100), sorted([(at, at), (5 - at, 11 - at)])
        )


def test_a_picture_that_cannot_be_drawn_keeps_its_author_s_lines(tmp_path: Path):
    config = dataclasses.replace(CONFIG, env="broken")
    with pytest.raises(ValueError, match="not enough values to unpack") as caught:
        training.train(config, tmp_path / "run", display=Silent())
    assert not isinstance(caught.value, ConfigError)
