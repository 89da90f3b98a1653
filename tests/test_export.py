"""Policies as files: what is loaded, by NumPy or by an ONNX runtime, acts as the policy did."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import gpusim
from gpusim import export, play
from gpusim.agents import distributions, networks
from gpusim.envs.world import Box, Discrete, State, World

SMALL: dict[str, Any] = {
    "num_envs": 8,
    "unroll_length": 4,
    "updates_per_call": 1,
    "total_steps": 32,
    "evaluations": 0,
    "tensorboard": False,
}
HIDDEN: dict[str, Any] = {"policy_hidden": (8, 6), "value_hidden": (8,)}
PPO: dict[str, Any] = {**HIDDEN, "num_minibatches": 2, "num_epochs": 1, "learning_rate": 0.1}
REPLAY: dict[str, Any] = {"learning_starts": 0, "batch_size": 8, "learning_rate": 0.1}


class Parts(World):
    """Observations in parts, one of which the policy does not see; three choices."""

    action_space = Discrete(3)

    def start(self, key: jax.Array) -> State:
        x = jax.random.normal(key, (3,))
        return State.of(x, {"b": x[:1], "a": 5 + 3 * x, "privileged": x[:2]})

    def transition(self, state: State, action: jax.Array) -> State:
        x = state.carry + 0.1 * (action - 1)
        return State.of(x, {"b": x[:1], "a": 5 + 3 * x, "privileged": x[:2]}, reward=x[0])


class Smooth(Parts):
    """The same with continuous actions and an observation that is one array."""

    action_space = Box(2)

    def start(self, key: jax.Array) -> State:
        state = super().start(key)
        return state.replace(obs=state.obs["a"])

    def transition(self, state: State, action: jax.Array) -> State:
        after = super().transition(state, action[0])
        return after.replace(obs=after.obs["a"])


CASES = {
    "clip tanh": (Smooth, {**PPO, "activation": "tanh"}),
    "tanh elu": (Smooth, {**PPO, "activation": "elu", "distribution": "tanh"}),
    "no statistics": (Smooth, {**PPO, "activation": "silu", "normalize_observations": False}),
    "spread by state": (Smooth, {**PPO, "state_std": True, "distribution": "tanh"}),
    "sac relu": (Smooth, {"learner": "sac", **HIDDEN, **REPLAY}),
    "td3": (Smooth, {"learner": "td3", **HIDDEN, **REPLAY}),
    "dqn": (Parts, {"learner": "dqn", **REPLAY, "value_hidden": (8, 6)}),
    "linear": (Smooth, {"learner": "ars", "noise_std": 0.5, "learning_rate": 0.5}),
    "choice silu": (Parts, {**PPO, "activation": "silu", "learning_rate": 1e-3}),
}


@pytest.fixture(scope="module", params=CASES)
def trained(request, tmp_path_factory):
    """(player, policy as it is exported, observations, the policy's actions)."""
    world, flags = CASES[request.param]
    folder = tmp_path_factory.mktemp("runs") / "run"
    gpusim.train(f"{__name__}:{world.__name__}", out=folder, **SMALL, **flags)
    player = play.load(folder)
    made = jax.vmap(player.env.reset)(jax.random.split(jax.random.key(1), 64)).obs
    noise = lambda x: 4 * np.random.default_rng(0).normal(size=x.shape)
    obs = jax.tree.map(lambda x: np.asarray(x + noise(x), np.float32), made)
    return player, export.of_run(folder), obs, np.asarray(player.policy.act((), obs)[1])


def test_numpy_acts_as_the_policy(trained, tmp_path):
    player, policy, obs, actions = trained
    loaded = export.load(policy.save(tmp_path / "policy.npz"))
    assert loaded.description == policy.description
    np.testing.assert_allclose(loaded(obs), actions, atol=1e-5)
    assert len(np.unique(actions.round(5))) > 1, "a policy that is no constant says something"
    one = jax.tree.map(lambda x: x[3], obs)
    np.testing.assert_allclose(loaded(one), actions[3], atol=1e-5)
    assert json.loads(json.dumps(loaded.description))["env"] == player.config.env


def test_onnx_acts_as_the_policy(trained, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    _, policy, obs, actions = trained
    session = runtime.InferenceSession(policy.save(tmp_path / "policy.onnx"))
    names = {x.name for x in session.get_inputs()}
    given = obs if isinstance(obs, dict) else {"observation": obs}
    (found,) = session.run(None, {name: x for name, x in given.items() if name in names})
    assert "privileged" not in names
    np.testing.assert_allclose(found, actions, atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map["description"]
    assert json.loads(told) == policy.description


def test_a_policy_that_remembers(tmp_path):
    """Along episodes, from a memory that is not zero on: NumPy and ONNX act as the policy."""
    folder = tmp_path / "run"
    world = f"{__name__}:Smooth"
    gpusim.train(world, out=folder, **{**SMALL, **PPO, "unroll_length": 8}, memory=5)
    player, policy = play.load(folder), export.of_run(folder)
    loaded = export.load(policy.save(tmp_path / "policy.npz"))
    obs = np.random.default_rng(0).normal(size=(6, 64, 3)).astype(np.float32)
    theirs, ours, seen = player.policy.initial((64,)), loaded.initial((64,)), []
    for now in obs:
        theirs, action = player.policy.act(theirs, now)
        ours, found = loaded.step(ours, now)
        np.testing.assert_allclose(found, action, atol=1e-5)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        seen.append((found, ours))
    assert np.abs(ours).max() > 0.05
    with pytest.raises(ValueError, match=r"remembers: memory, action = policy.step"):
        loaded(obs[0])
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(policy.save(tmp_path / "policy.onnx"))
    memory = loaded.initial((64,))
    for now, (action, after) in zip(obs, seen, strict=True):
        given = {"observation": now, "memory": memory}
        found, memory = session.run(["action", "memory_next"], given)
        np.testing.assert_allclose(found, action, atol=1e-5)
        np.testing.assert_allclose(memory, after, atol=1e-5)


def test_every_policy_can_be_exported():
    assert networks.ACTIVATIONS.keys() == export._ACTIVATIONS.keys()
    assert distributions.DISTRIBUTIONS.keys() == export._OUTPUTS.keys()


def test_the_file_needs_no_code_and_no_jax(trained, tmp_path):
    _, policy, obs, actions = trained
    policy.save(tmp_path / "policy.npz")
    np.savez(tmp_path / "obs.npz", **(obs if isinstance(obs, dict) else {"one": obs}))
    code = """if True:
        import sys
        import gpusim, numpy
        act = gpusim.export.load(sys.argv[1] + "/policy.npz")
        obs = dict(numpy.load(sys.argv[1] + "/obs.npz"))
        numpy.save(sys.argv[1] + "/actions.npy", act(obs.get("one", obs)))
        assert not {"jax", "flax", "mujoco"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), actions, atol=1e-5)


def test_mistakes_are_told(trained, tmp_path, capsys):
    player, policy, obs, _ = trained
    one = obs["a"] if isinstance(obs, dict) else obs
    with pytest.raises(ValueError, match=r"has shape .*, not \(\.\.\., \d+\)"):
        policy({"a": one[:, :1], "b": one[:, :1]} if isinstance(obs, dict) else one[:, :2])
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is no policy that"):
        export.load(tmp_path / "x.npz")
    old = dataclasses.replace(policy, description={**policy.description, "format": "gpusim 9"})
    with pytest.raises(ValueError, match="format 'gpusim 9'"):
        export.load(old.save(tmp_path / "old.npz"))
    with pytest.raises(ValueError, match=r"as \.npz or \.onnx"):
        policy.save(tmp_path / "policy.pt")
    run = str(player.run)
    for argv, says in (
        ([run], "say where to"),
        ([run, "--onnx", "x.npz"], "is to end in .onnx"),
        ([str(tmp_path), "--npz", "x.npz"], "is not a run folder"),
    ):
        assert export.main(argv) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
    assert export.main([run, "--npz", str(tmp_path / "new" / "y.npz")]) == 0
    assert export.load(tmp_path / "new" / "y.npz").description == policy.description
