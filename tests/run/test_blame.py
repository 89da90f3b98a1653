"""Mistakes in a user's own environment are told with the user's lines, and no others."""

from pathlib import Path

import pytest

from gpusim import train
from gpusim.run import blame

TASK = """
import dataclasses
import jax.numpy as jnp
from gpusim.envs import MujocoTask


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Base(MujocoTask):
    mjcf = '''<mujoco><worldbody><body><joint/><geom size=".1"/></body></worldbody>
              <actuator><motor joint="" /></actuator></mujoco>'''.replace('""', '"j"').replace(
        "<joint/>", "<joint name='j'/>")

    def observation(self, memory, now):
        return now.state.qpos

    def rewards(self, past, memory, now):
        return {"a": now.state.qpos[0]}


class Raises(Base):
    def rewards(self, past, memory, now):
        return {"a": self.deeper(now)}

    def deeper(self, now):
        return 1 / len([])


class Branches(Base):
    def terminal(self, memory, now):
        return True if now.state.qpos[0] > 1 else False


class Float(Base):
    def terminal(self, memory, now):
        return now.state.qpos[0]


class Start(Base):
    def initial(self, key):
        return jnp.zeros(1)


class Sizes(Base):
    def initial(self, key):
        return jnp.zeros(2), jnp.zeros(1)


class Varies(Base):
    def vary(self, key):
        return None


class Pushes(Base):
    def disturb(self, before):
        return before.state.qvel + 1


class Idle(Base):
    mjcf = Base.mjcf.replace('<motor joint="j" />', "")


class Steady(Base):
    def rewards(self, past, memory, now):
        return {"a": 1 + now.state.qpos[0], "b": [1.0]}
"""
SMALL = (
    "--num-envs 4 --unroll-length 4 --num-minibatches 2 --num-epochs 1 --updates-per-call 1"
    " --devices 1 --steps 16 --evaluations 1 --eval-envs 2 --policy-hidden 4 --value-hidden 4"
).split()


@pytest.mark.parametrize(
    ("task", "status", "expected"),
    [
        ("Raises", 4, ["line 22, in rewards", "line 25, in deeper", "ZeroDivisionError: "]),
        ("Branches", 4, ["line 30, in terminal", "TracerBoolConversionError"]),
        ("Float", 4, ["terminal gives float32[], not one flag"]),
        ("Start", 4, ["initial gives float32[1], not (qpos (1,), qvel (1,))"]),
        ("Varies", 4, ["vary gives a NoneType, not a dict of numbers"]),
        ("Pushes", 4, ["disturb gives float32[1], not before.state with changes"]),
        ("Steady", 4, ["rewards gives 'b' of shape (1,), not one number"]),
        ("Idle", 2, ["Idle has no actuators: there is nothing to learn"]),
        ("Sizes", 4, ["initial gives float32[2] and float32[1], not (qpos (1,), qvel (1,))"]),
    ],
)
def test_a_mistake_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, status: int, expected: list[str]
):
    (tmp_path / "mine.py").write_text(TASK)
    where = ["--env", f"{tmp_path / 'mine.py'}:{task}", "--out", str(tmp_path / "run")]
    assert train.main([*where, *SMALL]) == status
    error = capsys.readouterr().err
    for words in expected:
        assert words in error
    assert error.startswith("gpusim.train: ")
    assert "site-packages" not in error
    assert "gpusim/" not in error.replace("gpusim/envs/vec_env.py", "")  # JAX names what it traced
    assert len(error.splitlines()) < 14


def test_two_files_have_each_its_own_neighbours(tmp_path: Path):
    from gpusim.envs import registry

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helpers.py").write_text(f"NAME = {name!r}")
        (tmp_path / name / "task.py").write_text("import helpers\nclass Task: name = helpers.NAME")
    found = [registry.world_class(f"{tmp_path / name / 'task.py'}:Task").name for name in "ab"]
    assert found == ["a", "b"]


def test_packages_of_the_python_below_an_environment_are_no_environments(tmp_path: Path):
    """As with --system-site-packages: they lie in no folder that this Python calls its own."""
    for folder, told in ((tmp_path / "lib" / "site-packages", False), (tmp_path / "mine", True)):
        folder.mkdir(parents=True)
        (folder / "module.py").write_text("def fail():\n    raise ValueError('no')\n")
        place: dict = {}
        exec(compile((folder / "module.py").read_text(), folder / "module.py", "exec"), place)
        try:
            place["fail"]()
        except ValueError as error:
            caught = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
            assert (blame.environment(caught) is not None) == told
