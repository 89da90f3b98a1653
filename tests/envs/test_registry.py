"""Names and options that do not exist are answered with those that do."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import gpusim
from gpusim import envs
from gpusim.envs import registry
from gpusim.envs.sizes import SIZES, Sizes
from gpusim.envs.tasks.brax.ant import Ant


def test_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(ValueError, match="unknown environment 'halfchetah'") as error:
        gpusim.make("halfchetah")
    assert "did you mean 'half_cheetah'?" in str(error.value)
    assert all(name in str(error.value) for name in envs.names())


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(ValueError, match="unknown environment 'zzz'") as error:
        gpusim.make("zzz")
    assert "did you mean" not in str(error.value)


def test_brax_s_spelling_is_understood():
    assert gpusim.make("halfcheetah").name == "half_cheetah"


def test_unknown_option_is_named():
    with pytest.raises(ValueError, match="did you mean 'reset_noise_scale'") as error:
        gpusim.make("ant", reset_noise=0.2)
    assert "'ant'" in str(error.value)
    assert "healthy_z_range" in str(error.value)


def test_options_reach_the_task():
    ant: Any = gpusim.make("ant", reset_noise_scale=0.2)
    assert ant.reset_noise_scale == 0.2
    assert gpusim.make("ant", n_frames=2).dt == pytest.approx(0.02)
    with pytest.raises(ValueError, match="'ant': n_frames is 0"):
        gpusim.make("ant", n_frames=0)


def test_a_world_registered_again_replaces_itself(monkeypatch):
    monkeypatch.setattr("gpusim.envs.registry._WORLDS", dict(registry._WORLDS))
    for speed in (1.0, 2.0):

        @envs.register
        @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
        class Crawler(Ant):
            name = "crawler"
            forward_reward_weight: float = speed

        assert type(gpusim.make("crawler")) is Crawler


FILES = {  # whose models come with other packages
    *registry.families()["robots (Gymnasium's tasks)"],
    *registry.families()["robots on command (Playground's tasks)"],
}


def test_all_have_sizes():
    ours = [name for family, names in registry.families().items() for name in names
            if family != "your own"]  # fmt: skip
    assert sorted(SIZES) == sorted(ours)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_worlds(name: str):
    if name in FILES and (missing := registry.missing(name)):
        pytest.skip(missing)
    world = gpusim.make(name)
    assert registry.sizes(name) == pytest.approx(Sizes.of(world))


def test_sizes_of_a_world_that_was_registered(monkeypatch):
    """One of ours that somebody replaced has its own."""
    monkeypatch.setattr("gpusim.envs.registry._WORLDS", dict(registry._WORLDS))

    @envs.register
    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
    class Larger(Ant):
        name = "ant"
        exclude_current_positions_from_observation: bool = False

    assert registry.sizes("ant").text() == "29 observations, 8 actions, control step 0.05 s"
    assert registry.sizes("CartPole-v1").text() == "4 observations, 2 choices, control step 0.02 s"


MINE = """
import dataclasses
from gpusim.envs.tasks.brax.ant import Ant
from neighbour import LEGS

@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Mine(Ant):
    legs: int = LEGS
"""


def test_a_world_of_a_file_or_of_a_module(tmp_path, monkeypatch):
    (tmp_path / "neighbour.py").write_text("LEGS = 6")
    file = tmp_path / "my_task.py"
    file.write_text(MINE)
    mine: Any = gpusim.make(f"{file}:Mine", reset_noise_scale=0.2)
    assert (mine.name, mine.legs, mine.reset_noise_scale) == ("Mine", 6, 0.2)
    assert type(gpusim.make(f"{file}:Mine")) is type(mine)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert gpusim.make("my_task:Mine").name == "Mine"
    ant = gpusim.make("gpusim.envs.tasks.brax.ant:Ant")
    assert isinstance(ant, Ant)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{}/nothing.py:Mine", "there is no file"),
        ("no.such.module:Mine", "there is no module 'no.such.module'"),
        ("{}/my_task.py:Mime", "did you mean 'Mine'?"),
        ("gpusim.envs.tasks.brax.ant:Aunt", "did you mean 'Ant'?"),
    ],
)
def test_a_world_that_is_not_there(tmp_path, name, expected):
    (tmp_path / "my_task.py").write_text("class Mine: ...")
    with pytest.raises(ValueError, match=r"no file|no module|did you mean") as error:
        gpusim.make(name.format(tmp_path))
    assert expected in str(error.value)


def test_what_a_file_of_the_user_lacks_is_python_s_to_tell(tmp_path):
    (tmp_path / "my_task.py").write_text("import not_installed_anywhere")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        gpusim.make(f"{tmp_path}/my_task.py:Mine")


def test_what_is_no_world_is_told(tmp_path):
    file = tmp_path / "none.py"
    file.write_text(
        "from gpusim.envs import MujocoTask\nclass Bare(MujocoTask): pass\nclass Thing: pass\n"
    )
    with pytest.raises(ValueError, match=r"Bare lacks observation, rewards"):
        gpusim.make(f"{file}:Bare")
    with pytest.raises(ValueError, match=r"Thing is no world; derive it from gpusim.envs.World"):
        gpusim.make(f"{file}:Thing")
    for name in (":", "module:", ":Class"):
        with pytest.raises(ValueError, match=f"'{name}': write path/to/file.py:Class"):
            gpusim.make(name)
    with pytest.raises(ValueError, match=r"there are: Bare, Thing$"):
        gpusim.make(f"{file}:Other")
    with pytest.raises(ValueError, match=r"option reset_noise_scale .*: 'big' is not a number"):
        gpusim.make("hopper", reset_noise_scale="big")
    for number in ("0", "2.0", "'2'", "None", "True"):
        file = tmp_path / f"several{ord(number[0])}.py"
        file.write_text(
            "from gpusim.envs import World\nclass Some(World):\n    start = transition = None\n"
            f"    agents = {number}\n"
        )
        with pytest.raises(ValueError, match=f"agents is {number}, not a whole number from 1 on"):
            gpusim.make(f"{file}:Some")


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("Pendulum-v1", {"g": math.nan}, "option g of environment 'Pendulum-v1': nan is not a num"),
        ("ant", {"healthy_z_range": (0.2, math.nan)}, "healthy_z_range .*: .* is not a number"),
        ("ant", {"healthy_z_range": 3}, "healthy_z_range .*: takes several values, not 3"),
        ("ant", {"healthy_z_range": "ab"}, "healthy_z_range .*: takes several values, not 'ab'"),
        ("ant", {"n_frames": True}, "n_frames .*: True is not a number"),
        ("ant", {"n_frames": 0}, "n_frames is 0, not a whole number from 1 on"),
        ("CartPole-v1", {"sutton_barto_reward": "maybe"}, "'maybe' is neither true nor false"),
        ("brax:ant", {}, "Write brax:ant@spring"),
        ("ANT", {}, "did you mean 'ant'"),
        ("Go1", {}, "did you mean 'Go1Getup'"),
        (3, {}, "an environment is made by its name, such as 'ant', not 3"),
    ],
)
def test_what_no_world_can_be_made_with(name, options, expected):
    with pytest.raises(ValueError, match=expected):
        gpusim.make(name, **options)


def test_what_a_package_needs_in_turn_is_named(monkeypatch):
    def find(place):
        raise ModuleNotFoundError("No module named 'tqdm'", name="tqdm")

    monkeypatch.setattr(registry, "find", find)
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="'playground' needs tqdm, too: pip install tqdm"):
        gpusim.make("playground:CartpoleBalance")


def test_arrays_are_the_world_s_to_take():
    """A gravity that JAX is tracing, for instance."""
    g = jnp.float32(3.0)
    world: Any = gpusim.make("Pendulum-v1", g=g)
    assert world.g is g


def test_a_body_that_the_ant_has_not():
    pytest.importorskip("gymnasium")
    world = gpusim.make("Ant-v5", main_body=99)
    with pytest.raises(ValueError, match=r"environment 'Ant-v5': main_body: .*99"):
        jax.eval_shape(
            lambda key: world.transition(world.start(key), jnp.zeros(8)), jax.random.key(0)
        )


def test_other_people_s_environments_by_their_own_names():
    pytest.importorskip("brax")
    world = gpusim.make("brax:ant@spring")
    assert (world.name, world.action_size) == ("ant (brax-spring)", 8)
    with pytest.raises(ValueError, match="did you mean 'brax-spring'"):
        gpusim.make("brax:ant@springs")
    with pytest.raises(ValueError, match="has physics of its own"):
        gpusim.make("brax:ant@spring", physics="mjx")
