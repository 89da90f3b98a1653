"""Options that would change traffic without a word are told in a line."""

import math

import pytest

import gpusim


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("bottleneck0", {"penetration": 1.5}, "penetration is 1.5, not at least 0, at most 1"),
        ("bottleneck0", {"warmup": -3}, "warmup is -3, not at least 0"),
        ("grid0", {"inflow": -5.0}, "inflow is -5, not at least 0"),
        ("grid0", {"inflow": math.inf}, "inflow is inf, not at least 0, and finite"),
        ("grid0", {"slots": 0}, "slots is 0, not at least 1"),
        ("grid0", {"green": 0.0, "controller": "fixed"}, "green is 0, not more than 0"),
        ("grid0", {"switch_time": -1.0}, "switch_time is -1"),
        ("merge0", {"ramp_inflow": -100.0}, "ramp_inflow is -100"),
        ("merge0", {"substeps": 0}, "substeps is 0, not at least 1"),
        ("merge0", {"penetration": -0.1}, "penetration is -0.1"),
        ("WaveAttenuationPO", {"cars": 1}, "cars is 1, not at least 2"),
        ("WaveAttenuationPO", {"noise": -1.0}, "noise is -1"),
        ("WaveAttenuationPO", {"bunching": -100.0}, "bunching is -100"),
        ("WaveAttenuationPO", {"desired_speed": -5.0}, "desired_speed is -5"),
        ("Accel", {"target_velocity": 0.0}, "target_velocity is 0, not more than 0"),
        ("figureeight0", {"min_length": 100}, "min_length is a ring's; this road is 416 m"),
    ],
)
def test_what_no_traffic_can_be_is_told(name, options, told):
    with pytest.raises(ValueError, match=f"{name}: {told}"):
        gpusim.make(name, **options)
