"""Several agents in a world: who is who, whose policy, what the critic sees, who is met."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim import agents
from gpusim.agents import dataset, networks, team
from gpusim.agents.evaluate import Evaluation, Match
from gpusim.agents.policy import NetworkPolicy
from gpusim.agents.ppo import PPO, PPOConfig
from gpusim.agents.team import Team
from gpusim.envs import Box, Discrete, State, World, autoreset, register
from gpusim.envs.world import PRIVILEGED, WorldError


class Signs(World):
    """Two agents see the same number, drawn anew in every step; the first earns the product of it
    and its action, the second what that lacks. Episodes have four steps."""

    action_space, agents, max_episode_steps = Box(1), 2, 4

    def start(self, key: jax.Array) -> State:
        return self.at(key, jnp.zeros(2))

    def transition(self, state: State, action: jax.Array) -> State:
        key, x = state.carry
        return self.at(key, x * action[:, 0] * jnp.array([1.0, -1.0]))

    def at(self, key: jax.Array, reward: jax.Array) -> State:
        key, use = jax.random.split(key)
        x = jnp.where(jax.random.bernoulli(use), 1.0, -1.0)
        return State.of((key, x), jnp.full((2, 1), x), reward=reward)


class Places(World):
    """Three agents see their number and what they did; who does more earns more."""

    action_space, agents, max_episode_steps = Box(2), 3, 3

    def start(self, key: jax.Array) -> State:
        return self.at(jax.random.uniform(key), jnp.zeros((3, 2)))

    def transition(self, state: State, action: jax.Array) -> State:
        return self.at(state.carry, action)

    def at(self, world: jax.Array, action: jax.Array) -> State:
        number = jnp.arange(3.0)[:, None]
        obs = jnp.concatenate([number, jnp.full((3, 1), world), action], axis=1)
        return State.of(world, obs, reward=action.sum(1) + number[:, 0])


CONFIG = PPOConfig(
    num_envs=64,
    unroll_length=8,
    total_steps=64 * 8 * 40,
    num_minibatches=4,
    policy_hidden=(8,),
    value_hidden=(8,),
    learning_rate=2e-2,
    discount=0.0,
)


def trained(config: PPOConfig, world: World, calls: int = 10) -> tuple[PPO, Any, Any]:
    learner = PPO(config, world, devices=1)
    state, report = learner.init(jax.random.key(0)), None
    for _ in range(calls):
        state, report = learner.train_step(state)
    return learner, state, report


# -- who is who ------------------------------------------------------------------------------------


def test_actors_are_agent_by_agent():
    worlds = autoreset(Places(), 4)
    state = worlds.reset(jax.random.key(0))
    actors = jnp.arange(24.0).reshape(12, 2) / 100
    state = worlds.step(state, worlds.of_worlds(actors))
    np.testing.assert_array_equal(state.obs[:, 0], np.repeat([0, 1, 2], 4))
    world = state.obs[:4, 1]
    assert len(set(world.tolist())) == 4
    np.testing.assert_array_equal(state.obs[:, 1], np.tile(world, 3))
    np.testing.assert_array_equal(state.of_actors(state.final_obs)[:, 2:], actors)
    np.testing.assert_allclose(state.reward, actors.sum(1) + np.repeat([0, 1, 2], 4), rtol=1e-6)
    assert state.terminated.shape == state.truncated.shape == (12,)
    for _ in range(5):  # every world ends an episode that began at its beginning
        state = worlds.step(state, worlds.of_worlds(jnp.zeros((12, 2))))
    totals = state.totals
    assert totals.count > 0
    np.testing.assert_allclose(totals.returns / totals.count, [0, 3, 6], atol=0.5)


def test_what_a_world_of_several_must_give():
    class Wrong(Places):
        def at(self, world: jax.Array, action: jax.Array) -> State:
            return super().at(world, action).replace(obs=jnp.zeros(4))

    class Common(Places):
        def at(self, world: jax.Array, action: jax.Array) -> State:
            return super().at(world, action).replace(reward=jnp.zeros(()))

    with pytest.raises(WorldError, match=r"float32\[4\], not floating-point numbers \(3, features"):
        Wrong().reset(jax.random.key(0))
    with pytest.raises(WorldError, match=r"reward is float32\[\], not float\[3\]"):
        Common().reset(jax.random.key(0))
    state = Places().reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"takes an action of shape \(3, 2\)"):
        Places().step(state, jnp.zeros(2))


def test_who_knows_one_agent_says_so():
    from gpusim.adapters import gymnasium as adapter

    for make in (adapter.Env, adapter.VectorEnv):
        with pytest.raises(ValueError, match="Places: 3 agents act in it, and Gymnasium knows of"):
            make(Places())


class Choices(Signs):
    """The same, of two choices."""

    action_space = Discrete(2)

    def transition(self, state: State, action: jax.Array) -> State:
        return super().transition(state, 2.0 * action[:, None] - 1.0)


FEW: dict[str, Any] = {"num_envs": 8, "unroll_length": 4, "total_steps": 64, "updates_per_call": 2}
REPLAY = {"batch_size": 8, "replay_size": 256, "learning_starts": 0}
LEARNERS: dict[str, dict[str, Any]] = {
    "apg": {"policies": (0, 1), "central_critic": True},
    "ars": {}, "dqn": REPLAY, "es": {},
    "reinforce": {"opponents": 2, "central_critic": True},
    "sac": REPLAY, "td3": REPLAY,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_takes_several_agents(name: str):
    module = agents.find(name)
    world = Choices() if name == "dqn" else Signs()
    learner = module.Learner(module.Config(**FEW | LEARNERS[name]), world, devices=2)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert not bool(report.diverged)
    obs = jax.random.normal(jax.random.key(1), (3, 2, 1))
    _, action = learner.policy(state).act((), obs)
    assert action.shape == (3, *world.action_shape)


# -- whose policy ----------------------------------------------------------------------------------


def test_one_policy_is_learned_from_all_and_two_from_their_own():
    """Agents that see the same and want the contrary of each other cannot share a policy."""
    *_, shared = trained(CONFIG, Signs())
    learner, state, own = trained(replace(CONFIG, policies=(0, 1)), Signs())
    assert abs(float(shared.metrics["episode_return"])) < 0.5
    assert float(own.metrics["episode_return"]) > 2.5  # of 4
    _, action = learner.policy(state).act((), jnp.array([[[1.0], [1.0]], [[-1.0], [-1.0]]]))
    np.testing.assert_array_equal(np.sign(action[..., 0]), [[1, -1], [-1, 1]])


def test_one_policy_is_exported_whatever_number_it_has():
    network = networks.Several(networks.Policy((8,), 2, "tanh", 0.6), (0, 0, 0))
    seen = {"": jnp.zeros((4, 3)), networks.WHO: networks.label((0, 0, 0))}
    params = network.init(jax.random.key(0), seen)
    policy = NetworkPolicy(params, None, network, "clip")
    obs = jax.random.normal(jax.random.key(1), (5, 3, 4))
    arrays, told = policy.export()
    x = np.asarray(obs)
    for layer in range(told["layers"]):
        x = x @ arrays[f"weight{layer}"].T + arrays[f"bias{layer}"]
        x = np.tanh(x) if layer + 1 < told["layers"] else x
    np.testing.assert_allclose(np.clip(x, -1, 1), policy.act((), obs)[1], atol=1e-6)
    two = networks.Several(network.network, (0, 1, 0))
    with pytest.raises(ValueError, match="its agents follow 2 policies, and a file holds one"):
        NetworkPolicy(params, None, two, "clip").export()


def test_a_network_of_its_own_learns_from_its_own_samples():
    one = networks.Value((4,), "tanh")
    several = networks.Several(one, (0, 1, 0))
    obs = jax.random.normal(jax.random.key(0), (3, 6))
    who = jnp.repeat(networks.label((0, 1, 0)), 2, axis=1)
    params = several.init(jax.random.key(1), {"": obs, networks.WHO: who})
    values: Any = several.apply
    said = values(params, {"": obs, networks.WHO: who})
    parts = [{"params": params["params"][f"networks_{i}"]} for i in (0, 1)]
    for actor, policy in enumerate([0, 0, 1, 1, 0, 0]):
        value: Any = one.apply(parts[policy], obs)
        np.testing.assert_allclose(said[actor], value[actor], rtol=1e-6)
    of_one = lambda p: values(p, {"": obs, networks.WHO: who})[2:4].sum()
    slopes = jax.grad(of_one)(params)["params"]
    assert all(np.all(x == 0) for x in jax.tree.leaves(slopes["networks_0"]))
    assert any(np.any(x != 0) for x in jax.tree.leaves(slopes["networks_1"]))


def test_a_central_critic_sees_what_all_agents_of_its_world_see():
    own = jnp.array([[1.0, 2, 3, 10, 20, 30]])  # two agents of three worlds
    seen = Team(2, (), True).seen(own)
    np.testing.assert_array_equal(seen[""], own)
    np.testing.assert_array_equal(seen[PRIVILEGED], np.tile([[1, 2, 3], [10, 20, 30]], 2))
    both = Team(2, (0, 1), True).seen({"a": own, PRIVILEGED: own + 100})
    np.testing.assert_array_equal(both[networks.WHO], [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    values = networks.joined(both, privileged=True)  # own, and of each agent both parts
    np.testing.assert_array_equal(values[:, 4], [20, 2, 20, 102, 120])
    np.testing.assert_array_equal(networks.joined(both, privileged=False), own)


class Others(Signs):
    """What the other one has seen decides what one earns, whatever one does."""

    def transition(self, state: State, action: jax.Array) -> State:
        key, x = state.carry
        return self.at(key, x[::-1])

    def at(self, key: jax.Array, reward: jax.Array) -> State:
        key, use = jax.random.split(key)
        x = jax.random.normal(use, (2,))
        return State.of((key, x), x[:, None], reward=reward)


def test_a_central_critic_knows_what_the_others_cause():
    explained = lambda report: float(report.metrics["explained_variance"])
    assert explained(trained(CONFIG, Others())[2]) < 0.2
    assert explained(trained(replace(CONFIG, central_critic=True), Others())[2]) > 0.8


# -- who is met ------------------------------------------------------------------------------------


def test_earlier_selves_make_way_from_the_oldest_on():
    selves = team.earlier({"w": jnp.array(0.0)}, 2)
    seen = []
    for updates in range(1, 10):
        now = {"w": jnp.array(float(updates))}
        selves = team.remembered(selves, now, jnp.array(updates), 3)
        seen.append(selves["w"].tolist())
    assert seen[1:3] == [[0, 0], [0, 3]]
    assert seen[5] == [6, 3]
    assert seen[8] == [6, 9]


def test_each_earlier_self_plays_in_its_share_of_the_worlds():
    config = replace(CONFIG, num_envs=8, opponents=4, distribution="clip")
    learner = PPO(config, Places(), devices=1)
    whole = learner.init(jax.random.key(0))
    state = jax.tree.map(lambda x: x[0], whole)
    scale = jnp.arange(1.0, 5.0)
    selves = jax.tree.map(
        lambda x: x * scale.reshape(-1, *(1,) * (x.ndim - 1)), state.extra["selves"]
    )
    state = replace(state, extra={"selves": selves})
    obs = jax.random.normal(jax.random.key(1), (4, 24))
    raw = learner._rivals(state, obs, jnp.zeros((2, 24)))
    assert raw.shape == (2, 16)
    for rival in range(2):
        for world in range(8):
            params = jax.tree.map(lambda x, which=world // 2: x[which], selves)
            mean = learner.policy_network.apply(params, obs[:, 8 * (1 + rival) + world])[0]
            np.testing.assert_allclose(raw[:, 8 * rival + world], mean, rtol=2e-5, atol=1e-6)
    _, trajectory = learner.rollout(whole)
    assert trajectory.reward.shape == (1, 8, 8)  # of the first agents alone
    assert np.all(trajectory.obs[:, :, 0] <= 0)  # their number, normalised: the least


def test_who_begins_as_another_run_left_off_meets_that_one():
    learner = PPO(replace(CONFIG, opponents=4), Places(), devices=2, num_seeds=2)
    state = learner.init(jax.random.split(jax.random.key(0), 2))
    its = jax.tree.map(lambda x: x + 1, state.params)
    state = learner.begun_with(replace(state, params=its))

    def are_it(selves: jax.Array, policy: jax.Array) -> None:  # (devices, seeds, opponents, ...)
        for which in range(4):
            np.testing.assert_array_equal(selves[:, :, which], policy)

    jax.tree.map(are_it, state.extra["selves"], its["policy"])


def test_the_return_against_earlier_selves_is_the_learner_s():
    """Who does more earns more: the learner soon does all it can, and earns 6; the others do what
    they did at first, and earn 3 and 6."""
    config = replace(CONFIG, opponents=2, opponent_updates=1000)
    _, state, report = trained(config, Places())
    finished = state.envs.finished
    each = np.asarray(finished.returns).sum((0, 1)) / np.asarray(finished.count).sum()
    np.testing.assert_allclose(report.metrics["episode_return"], each[0], rtol=1e-5)
    assert each[0] > 5.5
    np.testing.assert_allclose(each[1:], [3, 6], atol=0.3)


class Constant:
    """Acts always alike."""

    def __init__(self, action: float):
        self.action = action

    def initial(self, batch: tuple[int, ...]) -> Any:
        return jnp.zeros(batch)

    def act(self, memory: Any, obs: jax.Array, key: Any = None) -> tuple[Any, jax.Array]:
        return memory + 1, jnp.full((*obs.shape[:-1], 2), self.action)


def test_a_match_and_who_counts():
    key, match = jax.random.key(0), Match(Constant(1.0), Constant(0.25))
    _, action = match.act(match.initial((5, 3)), jnp.zeros((5, 3, 4)))
    np.testing.assert_array_equal(action[:, :, 0], np.tile([1, 0.25, 0.25], (5, 1)))
    by = lambda **of: Evaluation(Places(), 2, 3, **of)._play(match, key)[0]
    np.testing.assert_allclose(by(counted=slice(1)), [6, 6])  # 2 a step
    np.testing.assert_allclose(by(), [3 * (2 + 1.5 + 2.5) / 3] * 2)


def test_a_run_of_several_agents_from_end_to_end(tmp_path: Path):
    register(Places)
    register(Signs)
    sizes: dict[str, Any] = {"num_envs": 8, "unroll_length": 4, "num_minibatches": 2}
    sizes |= {"total_steps": 256}
    few: dict[str, Any] = {"evaluations": 1, "eval_envs": 4, "tensorboard": False, "devices": 1}
    more: dict[str, Any] = {"checkpoint_seconds": 0, "updates_per_call": 1, "opponents": 2}
    run = gpusim.train("Places", out=tmp_path / "run", **sizes, **few, **more)
    first = gpusim.play(run, episodes=4, against=run.folder)
    assert "against" in first.text()
    alike = gpusim.play(run, episodes=4)
    own = Evaluation(alike.player.env, 4, 3, counted=slice(1))(alike.player.policy, alike.key)
    np.testing.assert_allclose(first.episodes.total, own.total, rtol=1e-5)
    assert first.episodes.total.mean() < alike.episodes.total.mean() - 1.5
    with pytest.raises(ValueError, match="checkpoint"):
        gpusim.play(run, episodes=4, against=17)
    with pytest.raises(ValueError, match="is for Places, not Signs"):
        gpusim.play(run, episodes=4, env="Signs")
    other = shutil.copytree(run.folder, tmp_path / "other")  # as of another environment
    text = (other / "config.yaml").read_text()
    changes = {
        "env: Places": "env: Signs",
        "opponents: 2": "opponents: 0",
        "memory: 0": "memory: 4",
    }
    for old, new in changes.items():
        assert text.count(f"{old}\n") == 1
        text = text.replace(f"{old}\n", f"{new}\n")
    (other / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="other is for Signs, not Places"):
        gpusim.play(run, episodes=4, against=other)
    obs = jax.random.normal(jax.random.key(0), (5, 3, 4))
    exported = gpusim.export.of_run(run.folder)
    np.testing.assert_allclose(exported(obs), alike.player.policy.act((), obs)[1], atol=1e-5)
    kept = first.save(tmp_path / "episodes.npz")
    assert kept == 4
    told = dataset.read(tmp_path / "episodes.npz").returns  # the first one's, as in the table
    np.testing.assert_allclose(told, first.episodes.total, rtol=1e-5)
    cloned = {"learner": "bc", "dataset": str(tmp_path / "episodes.npz"), "total_steps": 2560}
    assert gpusim.train("Places", out=tmp_path / "clone", **cloned, **few).evaluation


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"policies": (0, 1)}, "policies is 0 1: 2 numbers for the 3 agent"),
        ({"policies": (0, 2, 2)}, "policies is .*, needs to be numbered 0, 1, ... without a gap"),
        ({"policies": (0, 1, 1), "memory": 4}, "needs to be 0 with policies"),
        ({"opponents": 3, "num_envs": 64}, "opponents is 3, needs to be a divisor of the 64"),
    ],
)
def test_what_cannot_be(flags: dict, expected: str):
    with pytest.raises(ValueError, match=expected):
        PPO(replace(CONFIG, **flags), Places(), devices=1)


def test_one_agent_has_no_others():
    world = gpusim.make("Pendulum-v1")
    for flags in ({"central_critic": True}, {"opponents": 2}):
        with pytest.raises(ValueError, match="is for several agents in a world; Pendulum-v1 has"):
            PPO(replace(CONFIG, **flags), world, devices=1)
