"""Worlds that a policy sees in pictures: convolutions, learning by sight, what is refused."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim import agents
from gpusim.agents import networks
from gpusim.agents.evaluate import Evaluation
from gpusim.agents.ppo.config import PPOConfig
from gpusim.agents.ppo.learner import PPO
from gpusim.envs import Box, Discrete, State, World
from gpusim.envs.world import WorldError


@dataclasses.dataclass(frozen=True, eq=False)
class Dot(World):
    """On which side of the picture is the dot? 1 for the right answer; an episode is one step."""

    blind: bool = False  # whether the picture is empty

    action_space = Discrete(2)

    def start(self, key: jax.Array) -> State:
        at = jnp.floor(jax.random.uniform(key, (2,), maxval=8.0))
        return State.of(at, at)

    def transition(self, state: State, action: jax.Array) -> State:
        right = state.carry[1] >= 4
        return State.of(state.carry, state.obs, reward=right == (action == 1), terminated=True)

    def picture(self, obs: jax.Array) -> jax.Array:
        row, column = obs
        place = jnp.arange(8)
        dot = (place == row)[:, None, None] & (place == column)[None, :, None]
        return jnp.where(dot & (not self.blind), 1.0, 0.0)


SMALL: dict[str, Any] = {
    "num_envs": 64, "unroll_length": 4, "num_minibatches": 4, "updates_per_call": 8,
    "total_steps": 8192, "learning_rate": 3e-3, "activation": "relu",
    "policy_hidden": (16,), "value_hidden": (16,),
    "conv_filters": (4, 8), "conv_kernels": (4, 3), "conv_strides": (2, 2),
}  # fmt: skip


@pytest.mark.parametrize(
    ("high", "wide", "channels", "filters", "kernel", "stride"),
    [
        *((16, 16, 4, 8, 8, 8), (20, 20, 3, 5, 8, 4), (9, 11, 2, 3, 3, 1)),
        *((10, 7, 1, 2, 3, 2), (7, 7, 2, 2, 5, 2), (11, 11, 1, 3, 1, 4)),
    ],
)
def test_a_convolution_is_xla_s(high, wide, channels, filters, kernel, stride):
    network: Any = networks.Convolution(filters, kernel, stride)
    x = jax.random.normal(jax.random.key(1), (2, high, wide, channels))
    params = network.init(jax.random.key(0), x)
    its = params["params"] | {"bias": jnp.arange(float(filters))}
    order = ("NHWC", "HWIO", "NHWC")
    said = lambda its, x: jax.lax.conv_general_dilated(
        x, its["weight"], (stride, stride), "SAME", dimension_numbers=order
    ) + its["bias"]  # fmt: skip
    ours = lambda its, x: network.apply({"params": its}, x)

    @jax.jit
    def both(its):
        loss = lambda its, fn: (jnp.square(fn(its, x)).sum(), fn(its, x))
        return [jax.grad(loss, has_aux=True)(its, fn) for fn in (ours, said)]

    (slope, found), (expected_slope, expected) = both(its)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for name, x in slope.items():
        np.testing.assert_allclose(x, expected_slope[name], rtol=1e-3, atol=1e-2)


def test_eyes_by_hand():
    """One filter that looks for a pixel and the one below it."""
    eyes: Any = networks.Eyes(lambda obs: obs.reshape(2, 2, 1), (1,), (2,), (1,), "relu")
    weight = jnp.array([[1.0, 0.0], [10.0, 0.0]]).reshape(2, 2, 1, 1)
    params = {"params": {"Convolution_0": {"weight": weight, "bias": jnp.array([-1.0])}}}
    found = eyes.apply(params, jnp.array([1.0, 2.0, 3.0, 0.0]))  # rows 1 2 and 3 0
    np.testing.assert_allclose(found, [1 + 30 - 1, 2 - 1, 3 - 1, 0])


def test_one_world_or_a_block_of_them():
    world = Dot()
    eyes: Any = networks.Eyes(world.picture, (3,), (4,), (2,), "tanh")
    obs = jnp.floor(jax.random.uniform(jax.random.key(0), (2, 3, 5), maxval=8.0))
    params = eyes.init(jax.random.key(1), obs[:, 0, 0])
    block = eyes.apply(params, obs)
    assert block.shape == (4 * 4 * 3, 3, 5)
    np.testing.assert_allclose(eyes.apply(params, obs[:, 1, 2]), block[:, 1, 2], atol=1e-6)


@pytest.mark.parametrize("memory", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_what_is_on_the_picture_is_learned(memory):
    learner = PPO(PPOConfig(**SMALL, memory=memory), Dot(), devices=1)
    state = learner.init(jax.random.key(0))
    assert state.normalizer is None
    for _ in range(4):
        state, _ = learner.train_step(state)
    evaluation = Evaluation(learner.world, 256, 1)
    assert evaluation(learner.policy(state), jax.random.key(1)).total.mean() > 0.95


def test_what_is_not_on_the_picture_is_not_seen():
    """The numbers that it is drawn of would tell all."""
    obs, key = jnp.array([[3.0, 1.0], [3.0, 6.0]]), jax.random.key(0)
    said = {}
    for blind in (False, True):
        learner = PPO(PPOConfig(**SMALL), Dot(blind=blind), devices=1)
        params = learner.parameters(jax.random.split(key), obs[0])
        params = jax.tree.map(lambda x: x + 0.1, params)
        seen = learner.look(params, obs.T)
        said[blind] = [learner.said(name, params, (), seen, ()) for name in ("policy", "value")]
    for left, right in (x.T for x in map(jnp.atleast_2d, jax.tree.leaves(said[True]))):
        np.testing.assert_array_equal(left, right)
    for left, right in (x.T for x in map(jnp.atleast_2d, jax.tree.leaves(said[False]))):
        assert (left != right).all()


@pytest.mark.slow
def test_reinforce_sees_too():
    module: Any = agents.find("reinforce")
    names = {field.name for field in dataclasses.fields(module.Config)}
    small = {name: value for name, value in SMALL.items() if name in names}
    small |= {"learning_rate": 1e-2, "total_steps": 32768}
    learner = module.Learner(module.Config(**small), Dot(), devices=1)
    state = learner.init(jax.random.key(0))
    for _ in range(16):
        state, report = learner.train_step(state)
    assert report.metrics["episode_return"] > 0.8


def test_pictures_are_not_stored():
    learner = PPO(PPOConfig(**SMALL), Dot(), devices=1)
    _, trajectory = jax.eval_shape(learner.rollout, learner.blank())
    assert trajectory.obs.shape == (1, 4, 2, 64)  # device, steps, numbers, worlds


class Pointed(Dot):
    action_space = Box(1)


@pytest.mark.parametrize("name", ["apg", "ars", "dqn", "es", "sac", "td3"])
def test_who_cannot_see_says_so(name):
    module, world = agents.find(name), Dot() if name == "dqn" else Pointed()
    with pytest.raises(ValueError, match=f"{world.name} is seen in pictures, .* not {name}"):
        module.Learner(module.Config(), world, devices=1)


def test_a_file_holds_no_pictures():
    learner = PPO(PPOConfig(**SMALL), Dot(), devices=1)
    with pytest.raises(ValueError, match="sees pictures"):
        learner.policy(learner.init(jax.random.key(0))).export()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"conv_kernels": (4,)}, "conv_kernels"),
        ({"conv_strides": (2, 0)}, "conv_strides"),
        ({"conv_filters": ()}, "conv_filters"),
    ],
)
def test_convolutions_that_are_none_are_refused(changes, what):
    with pytest.raises(ValueError, match=what):
        PPO(PPOConfig(**SMALL | changes), Dot(), devices=1)


class Numbers(Pointed):
    def picture(self, obs: jax.Array) -> None:
        return None


@pytest.mark.parametrize("name", ["ppo", "reinforce", "apg"])
def test_convolutions_where_nothing_is_seen_in_pictures_are_refused(name):
    """They had no effect, without a word."""
    module, world = agents.find(name), Numbers()
    module.Learner(module.Config(conv_kernels=(8, 4)), world, devices=1)  # as they are
    what = "conv_kernels is 8 2, but Numbers is seen in numbers.*leave it at 8 4"
    with pytest.raises(ValueError, match=what):
        module.Learner(module.Config(conv_kernels=(8, 2)), world, devices=1)


class Two(Dot):
    """Two agents, each with a picture of its own."""

    agents = 2

    def start(self, key: jax.Array) -> State:
        at = jnp.floor(jax.random.uniform(key, (2, 2), maxval=8.0))
        return State.of(at, at, reward=jnp.zeros(2))

    def transition(self, state: State, action: jax.Array) -> State:
        right = state.carry[:, 1] >= 4
        return State.of(state.carry, state.obs, reward=right == (action == 1), terminated=True)


@pytest.mark.slow
def test_agents_that_share_a_policy_see():
    learner = PPO(PPOConfig(**SMALL), Two(), devices=1)
    assert learner.world.picture_shape == (8, 8, 1)
    state = learner.init(jax.random.key(0))
    for _ in range(4):
        state, _ = learner.train_step(state)
    episodes = Evaluation(learner.world, 256, 1)(learner.policy(state), jax.random.key(1))
    assert episodes.total.mean() > 0.95


@pytest.mark.parametrize(
    "changes", [{"policies": (0, 1)}, {"opponents": 2}, {"central_critic": True}]
)
def test_other_teams_are_refused(changes):
    with pytest.raises(ValueError, match="not offered with pictures, in which Two is seen"):
        PPO(PPOConfig(**SMALL | changes), Two(), devices=1)


def test_a_picture_that_is_none_is_told():
    class Flat(Dot):
        def picture(self, obs):
            return super().picture(obs)[..., 0]

    class Parts(Dot):
        def start(self, key):
            return State.of((), {"a": jnp.zeros(2)})

        def picture(self, obs):
            return jnp.zeros((8, 8, 1))

    class Unpacked(Parts):
        def picture(self, obs):
            return jnp.zeros((8, 8, 1)) * obs[0]  # as if it were no dict

    class Empty(Dot):
        def picture(self, obs):
            return jnp.zeros((8, 8, 0))

    class Listed(Dot):
        def picture(self, obs):
            return [super().picture(obs)]

    class Bytes(Dot):
        def picture(self, obs):
            return (255 * super().picture(obs)).astype(jnp.uint8)

    for world, what in (
        (Flat(), "height, width, channels"),
        (Empty(), r"float32\[8, 8, 0\]"),
        (Listed(), "a list"),
        (Bytes(), r"uint8\[8, 8, 1\]"),
        (Parts(), "one array"),
        (Unpacked(), "one array"),
    ):
        with pytest.raises(WorldError, match=what):
            _ = world.picture_shape


def test_numbers_that_are_no_greys_are_told():
    class Bright(Dot):
        def picture(self, obs):
            return 255 * super().picture(obs)

    class Missing(Dot):
        def picture(self, obs):
            return super().picture(obs) / 0

    for world, what in ((Bright(), "from 0 to 255"), (Missing(), "from nan to nan")):
        with pytest.raises(WorldError, match=f"{world.name}: picture gives numbers {what}"):
            PPO(PPOConfig(**SMALL), world, devices=1).init(jax.random.key(0))


def test_what_another_run_saw_otherwise_is_refused(tmp_path):
    """Strides the other way around fit the same parameters."""
    small = {name: x for name, x in SMALL.items() if not name.startswith("conv")} | {
        "total_steps": 256, "updates_per_call": 1, "conv_filters": (2, 2), "conv_kernels": (4, 4),
        "devices": 1, "eval_envs": 2,
    }  # fmt: skip
    name = f"{__name__}:Dot"
    gpusim.train(name, out=tmp_path / "one", **small, conv_strides=(4, 2))
    with pytest.raises(gpusim.config.ConfigError, match="say --conv-strides 4 2"):
        gpusim.train(
            name, out=tmp_path / "two", restore=tmp_path / "one", **small, conv_strides=(2, 4)
        )
