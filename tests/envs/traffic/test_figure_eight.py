"""The figure eight: its lengths, who gives way, and that nobody crashes because of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs.traffic import figure_eight
from gpusim.envs.traffic.figure_eight import (
    CROSSING,
    FIRST,
    ROUND,
    SECOND,
    FigureEight0,
    approach,
    must_stop,
)
from gpusim.envs.traffic.loop import sight

from .test_ring import driven


def test_lengths_are_flows():
    """specify_edge_starts and specify_internal_edge_starts of Flow, for a radius of 30 m."""
    arc = 30 * np.pi / 2
    assert pytest.approx(30 + 0.28) == FIRST
    assert pytest.approx(1.5 * 60 + 3 * arc + 6.2 + 3 * 0.28) == SECOND
    assert pytest.approx(2 * 60 + 3 * arc + 2 * 6.2 + 4 * 0.28 + 3 * arc) == ROUND


def stops(first: tuple[float, float], second: tuple[float, float]) -> tuple[bool, bool]:
    """Must a car so far ahead (m; negative: past the line) and so fast stop, by either branch?"""
    x = jnp.asarray([FIRST - first[0], SECOND - second[0]])
    v = jnp.asarray([first[1], second[1]])
    branches = [approach(x, v, at, 0.1) for at in (FIRST, SECOND)]
    stop_first, stop_second = must_stop(v, *branches)
    return bool(stop_first), bool(stop_second[1])


def test_who_gives_way():
    # The second needs (20 + 11.2) / 5 + 1 = 7.24 s to be gone.
    assert stops((36, 5), (20, 5)) == (False, True)
    assert stops((37, 5), (20, 5)) == (False, False)
    assert stops((100, 5), (20, 5)) == (False, False)
    assert stops((100, 5), (1, 5)) == (True, False)  # it cannot stop any more
    assert stops((1, 5), (1, 5)) == (False, True)  # nor can either: the second has to
    assert stops((100, 5), (-3, 5))[0]  # it is on the crossing
    assert stops((-CROSSING - 4, 5), (30, 5)) == (False, True)  # the first's tail is on it still
    assert stops((-CROSSING - 6, 5), (30, 5)) == (False, False)


def test_human_drivers_do_not_crash_and_would_without_the_rule(monkeypatch: pytest.MonkeyPatch):
    _, seen = driven(gpusim.make("figureeight0", controller="human"), 3000, worlds=8)
    assert not seen["crash"].any()
    assert 2 < seen["mean_speed"][1000:].mean() < 12  # they wait for each other
    monkeypatch.setattr(FigureEight0, "look", lambda self, loop: (sight(loop, self.dt),))
    _, blind = driven(gpusim.make("figureeight0", controller="human"), 1500, worlds=8)
    assert blind["crash"].any()


@pytest.mark.parametrize("name", ["figureeight0", "figureeight2"])
def test_no_policy_can_crash(name: str):
    world: Any = gpusim.make(name)
    step = jax.vmap(world.step)

    def body(state, key):
        shape = (16, world.action_size)
        state = step(state, jnp.sign(jax.random.uniform(key, shape, minval=-0.3, maxval=1.0)))
        return state, state.terminated

    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 16))
    keys = jax.random.split(jax.random.key(1), 1500)
    _, crash = jax.jit(lambda state: jax.lax.scan(body, state, keys))(state)
    assert not crash.any()


def test_the_road_closes_and_crosses_itself_in_the_origin():
    road = gpusim.make("figureeight0").road()  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(road[0], road[-1], atol=1e-9)
    steps = np.hypot(*np.diff(road, axis=0).T)
    assert steps.max() <= 2 * figure_eight.RADIUS + 1e-9
    np.testing.assert_allclose(steps.sum(), 120 + 2 * 1.5 * np.pi * 30, rtol=1e-3)
