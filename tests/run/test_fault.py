"""The step that led a world to what is not finite is kept and made again; its numbers are named."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import gpusim
from gpusim import play
from gpusim.envs import Box, State, World

TINY: dict[str, Any] = {
    "num_envs": 8,
    "unroll_length": 8,
    "num_minibatches": 2,
    "updates_per_call": 1,
    "total_steps": 128,
    "evaluations": 0,
    "policy_hidden": (4,),
    "value_hidden": (4,),
    "tensorboard": False,
}


class Breaks(World):
    """After five steps what it carries is a root of less than nothing, and is seen."""

    action_space = Box(2)

    def start(self, key: jax.Array) -> State:
        return State.of({"left": jnp.array([5.0, 9.0])}, jnp.ones(2))

    def transition(self, state: State, action: jax.Array) -> State:
        left = state.carry["left"] - 1
        root = jnp.sqrt(left - 0.5 + 0 * action)
        return State.of({"left": jnp.where(left < 0.5, root, left)}, root)


class Sound(Breaks):
    """The same, and nothing breaks."""

    def transition(self, state: State, action: jax.Array) -> State:
        return State.of(state.carry, jnp.ones(2))


class Other(Sound):
    """Another world of the same sizes, which carries something else."""

    def start(self, key: jax.Array) -> State:
        return State.of(jnp.zeros(7), jnp.ones(2))


class Draws(Breaks):
    """It carries a random key as well, which decides nothing."""

    def start(self, key: jax.Array) -> State:
        state = super().start(key)
        return state.replace(carry=state.carry | {"key": key})

    def transition(self, state: State, action: jax.Array) -> State:
        after = super().transition(state, action)
        return after.replace(carry=after.carry | {"key": jax.random.split(state.carry["key"])[0]})


@pytest.mark.parametrize(("world", "devices"), [("Breaks", 1), ("Draws", 2)])
def test_the_numbers_are_named(
    world: str, devices: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = gpusim.train(f"{__name__}:{world}", out=tmp_path / "run", devices=devices, **TINY)
    capsys.readouterr()
    assert play.main([str(run.folder), "--replay-nan"]) == 0
    said = capsys.readouterr().out
    assert "the last of 24 steps that led a world to what is not finite" in said  # 3 of each world
    assert "not finite after it: carry.left[0] = nan, obs[0] = nan\n" in said
    assert "before it" not in said
    step = play.load(run.folder).fault()
    assert step.before.carry["left"].tolist() == [1, 5]
    assert step.action.shape == (2,)
    assert jnp.isfinite(step.action).all()


def test_it_does_not_hinder_a_run_on_fewer_devices(tmp_path: Path):
    folder = tmp_path / "run"
    gpusim.train(f"{__name__}:Breaks", out=folder, devices=2, **TINY)
    run = gpusim.train(resume=folder, total_steps=256, devices=1)
    assert run.steps == 256
    assert play.load(folder).fault().count == 24 + 3 * 8  # 16 steps more, from the second on


def test_nor_what_another_world_learns_from_it(tmp_path: Path):
    gpusim.train(f"{__name__}:Breaks", out=tmp_path / "run", **TINY)
    run = gpusim.train(f"{__name__}:Other", out=tmp_path / "two", restore=tmp_path / "run", **TINY)
    with pytest.raises(ValueError, match="no world of this run"):
        play.load(run.folder).fault()


def test_there_may_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = gpusim.train(f"{__name__}:Sound", out=tmp_path / "run", **TINY)
    assert play.main([str(run.folder), "--replay-nan"]) == 2
    assert "no world of this run was ever not finite" in capsys.readouterr().err
