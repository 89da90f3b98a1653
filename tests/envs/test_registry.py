"""Names and options that do not exist are answered with those that do."""

from typing import Any

import pytest

import gpusim
from gpusim import envs
from gpusim.envs import registry


def test_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(ValueError, match="unknown environment 'halfcheetah'") as error:
        gpusim.make("halfcheetah")
    assert "did you mean 'half_cheetah'?" in str(error.value)
    assert all(name in str(error.value) for name in envs.names())


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(ValueError, match="unknown environment 'zzz'") as error:
        gpusim.make("zzz")
    assert "did you mean" not in str(error.value)


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


def test_register(monkeypatch):
    monkeypatch.setattr("gpusim.envs.registry._TASKS", dict(registry._TASKS))

    @envs.register
    class Crawler(registry.Ant):
        name = "crawler"

    assert isinstance(gpusim.make("crawler"), Crawler)
    with pytest.raises(ValueError, match="'crawler' is registered already"):
        envs.register(type("Other", (Crawler,), {}))
