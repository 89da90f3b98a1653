"""A configuration that cannot run says so, and says what would."""

import re
from dataclasses import fields, replace

import pytest

from gpusim.agents.ppo import PPOConfig
from gpusim.usage import docs

SMALL = PPOConfig(num_envs=8, unroll_length=6, num_minibatches=4)


def test_defaults_run_on_any_small_number_of_devices():
    for devices in (1, 2, 4, 8):
        PPOConfig().check(devices)


def test_numbers_suggested_for_minibatches_work():
    with pytest.raises(ValueError, match="not divisible by num_minibatches=5") as error:
        replace(SMALL, num_minibatches=5).check(1)
    minibatches = re.search(r"try num_minibatches=(\d+) or (\d+)", str(error.value))
    envs = re.search(r"num_envs=(\d+) or (\d+)", str(error.value))
    assert minibatches is not None
    assert envs is not None
    for number in minibatches.groups():
        replace(SMALL, num_minibatches=int(number)).check(1)
    for number in envs.groups():
        replace(SMALL, num_minibatches=5, num_envs=int(number)).check(1)


def test_worlds_must_spread_evenly_over_devices():
    with pytest.raises(ValueError, match="num_envs=8 cannot be shared by 3 devices; try 6 or 9"):
        SMALL.check(3)


def test_small_runs_stay_on_few_cores():
    config = PPOConfig(num_envs=384, unroll_length=8, num_minibatches=8)
    assert [n for n in range(1, 9) if config.fits(n)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_envs", 0), ("num_epochs", 0), ("updates_per_call", 0), ("discount", 1.5)],
)
def test_nonsense_names_the_field(name, value):
    with pytest.raises(ValueError, match=f"PPOConfig: {name}"):
        replace(SMALL, **{name: value}).check(1)


def test_counts():
    config = replace(SMALL, total_steps=100, updates_per_call=3)
    assert (config.steps_per_update, config.steps_per_call, config.num_updates) == (48, 144, 3)


def test_every_field_has_its_line_of_help():
    assert set(docs(PPOConfig)) == {field.name for field in fields(PPOConfig)}
    assert all(docs(PPOConfig).values())
