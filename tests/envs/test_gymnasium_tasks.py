"""Gymnasium's tasks against Gymnasium's own: same state, same action, same numbers."""

from typing import Any

import jax
import numpy as np
import pytest

import gpusim
from gpusim.envs import registry
from gpusim.envs.tasks.gymnasium.task import file_of

gymnasium: Any = pytest.importorskip("gymnasium")

from tests.envs.gymnasium_oracle import Beside, error  # noqa: E402

NAMES = [name for name in registry.names() if name.endswith("-v5")]
# How far joints are moved from the pose where a comparison begins, and options of a second one.
FAR = {"Ant-v5": 0.3, "Humanoid-v5": 0.2, "HumanoidStandup-v5": 0.3, "Pusher-v5": 0.3}
SHOW_ALL = {"exclude_current_positions_from_observation": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "Ant-v5": SHOW_ALL
    | {"include_cfrc_ext_in_observation": False, "terminate_when_unhealthy": False,
       "contact_force_range": (-30.0, 50.0), "main_body": "torso", "healthy_z_range": (0.5, 0.8)},
    "HalfCheetah-v5": SHOW_ALL | {"forward_reward_weight": 2.0},
    "Hopper-v5": SHOW_ALL | {"terminate_when_unhealthy": False, "healthy_state_range": (-3.0, 3.0)},
    "Humanoid-v5": SHOW_ALL
    | {"include_cinert_in_observation": False, "include_qfrc_actuator_in_observation": False,
       "contact_cost_weight": 1e-5, "contact_cost_range": (-1.0, 2.0), "n_frames": 3},
    "HumanoidStandup-v5": SHOW_ALL
    | {"include_cvel_in_observation": False, "include_cfrc_ext_in_observation": False,
       "uph_cost_weight": 3.0, "impact_cost_weight": 1e-5, "impact_cost_range": (-1.0, 2.0)},
    "InvertedDoublePendulum-v5": {"healthy_reward": 3.0},
    "Pusher-v5": {"reward_near_weight": 2.0, "reward_control_weight": 0.3},
    "Reacher-v5": {"reward_dist_weight": 2.0, "reward_control_weight": 0.3},
    "Swimmer-v5": SHOW_ALL | {"ctrl_cost_weight": 0.1},
    "Walker2d-v5": SHOW_ALL | {"healthy_angle_range": (-0.1, 0.2)},
}  # fmt: skip


@pytest.fixture(autouse=True)
def x64():
    """Double precision: two engines then agree far beyond what a wrong formula could hide in."""
    with jax.enable_x64(True):
        yield


def compare(both: Beside, steps: int, far: float) -> set[bool]:
    """Steps from starts of theirs and from states anywhere; how they ended."""
    ends, age, episode = set(), 0, 0
    for _ in range(steps):
        if not age:
            ours, theirs = both.start()
            assert error(ours, theirs) < 1e-9
            episode += 1
            if episode % 2 == 0:
                both.start_anywhere(far)
        ours, theirs = both.step()
        assert error(ours.obs, theirs.obs) < 1e-6
        assert error(ours.reward, theirs.reward) < 1e-6
        assert ours.info.keys() == theirs.info.keys()
        for name, value in theirs.info.items():
            assert error(ours.info[name], value) < 1e-6, name
        assert ours.terminated == theirs.terminated
        ends.add(theirs.terminated)
        age = 0 if theirs.terminated or age == 60 else age + 1
    return ends


ENDING = {"Ant-v5", "Hopper-v5", "Humanoid-v5", "InvertedPendulum-v5",
          "InvertedDoublePendulum-v5", "Walker2d-v5"}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n.startswith("Humanoid") else []) for n in NAMES],
)
def test_agrees_with_gymnasium(name):
    compare(Beside(name), 30, FAR.get(name, 0.1))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_steps_agree(name):
    ends = compare(Beside(name, seed=100), 1000, FAR.get(name, 0.1))
    assert ends == ({True, False} if name in ENDING else {False})


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_options_agree(name):
    compare(Beside(name, seed=200, **OPTIONS[name]), 100, FAR.get(name, 0.1))


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_limits_are_gymnasiums(name):
    spec = gymnasium.spec(name)
    env: Any = Beside(name).env
    world = gpusim.make(name)
    assert world.name == name
    assert world.max_episode_steps == spec.max_episode_steps
    assert world.action_space.shape == env.action_space.shape
    assert (world.observation_size,) == env.observation_space.shape
    assert world.dt == pytest.approx(env.dt)


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_distributed_as_gymnasiums(name):
    """Range, mean and spread of every coordinate and velocity, of 2,000 starts each."""
    both = Beside(name)
    theirs = []
    for _ in range(2000):
        both.env.reset_model()
        theirs.append(np.concatenate([both.env.data.qpos, both.env.data.qvel]))
    starts = jax.jit(jax.vmap(both.world.initial))(jax.random.split(jax.random.key(1), 2000))
    ours, expected = np.concatenate([np.asarray(x) for x in starts], 1), np.array(theirs)
    spread = expected.std(0)
    assert np.allclose(ours.std(0), spread, rtol=0.1, atol=1e-12)
    assert np.all(np.abs(ours.mean(0) - expected.mean(0)) <= 5 * spread / np.sqrt(1000) + 1e-12)
    assert np.all(
        np.abs(np.ptp(ours, axis=0) - np.ptp(expected, axis=0)) <= 3 * spread + 1e-12
    )  # normals have no ends
    if name == "Reacher-v5":
        assert np.linalg.norm(ours[:, 2:4], axis=1).max() < 0.2
    if name == "Pusher-v5":
        assert np.linalg.norm(ours[:, 7:9], axis=1).min() > 0.17


def test_what_is_missing_is_told(monkeypatch):
    with pytest.raises(ValueError, match=r"'Ant-v5': there is no file .*no\.xml.*pip install"):
        gpusim.make("Ant-v5", xml_file="no.xml")
    with pytest.raises(ValueError, match=r"'Ant-v5': there is no file no\.xml$"):
        gpusim.make("Ant-v5", xml_file="./no.xml")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'Hopper-v5': gymnasium is not installed.*pip install"):
        gpusim.make("Hopper-v5")


def test_a_model_of_the_users_own(tmp_path):
    file = tmp_path / "mine.xml"
    text = file_of("Hopper-v5", "hopper.xml").read_text()
    file.write_text(text.replace('timestep="0.002"', 'timestep="0.001"'))
    assert gpusim.make("Hopper-v5", xml_file=str(file)).dt == pytest.approx(0.004)
