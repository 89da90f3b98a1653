"""The grid: lights by hand, cars that mind them, and an observation in Flow's order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs.traffic import queues
from gpusim.envs.traffic.grid import BLOCK


def test_crossings_and_streets_are_counted_from_the_south_west():
    world: Any = gpusim.make("grid0")
    expected = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [2, 1, 0], [5, 4, 3], [8, 7, 6]]
    expected += [[0, 3, 6], [1, 4, 7], [2, 5, 8], [6, 3, 0], [7, 4, 1], [8, 5, 2]]
    assert world.crossings.tolist() == expected
    street, index = world.approaches
    assert street[5].tolist() == [1, 8, 4, 11]  # from the west, south, east and north
    assert index[5].tolist() == [2, 1, 0, 1]
    for light, (streets, indices) in enumerate(zip(street, index, strict=True)):
        assert (world.crossings[streets, indices] == light).all()


def test_lights_by_hand():
    """Flow's _apply_rl_actions: three seconds of yellow; a light that is yellow does not listen."""
    world: Any = gpusim.make("grid0")
    city = world.start(jax.random.key(0)).carry
    wanted = jnp.zeros(9, bool).at[4].set(True)
    seen = []
    for want in (wanted, ~wanted, wanted, wanted, wanted, ~wanted):
        city = world.switched(city, want & wanted)
        seen.append((bool(city.across[4]), bool(city.yellow[4]), float(city.since[4])))
        assert not city.across[0]
    expected = [(True, True, 0.0), (True, True, 1.0), (True, True, 2.0), (True, False, 3.0)]
    assert seen == [*expected, (False, True, 0.0), (False, True, 1.0)]


def test_a_red_light_holds_cars_and_a_green_one_does_not():
    world: Any = gpusim.make("grid0")
    step = jax.jit(jax.vmap(world.step))
    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 4))
    for _ in range(120):
        state = step(state, -jnp.ones((4, 9)))  # green for north and south
    q = state.carry.streets
    here = np.asarray(jax.vmap(jax.vmap(queues.here))(q))
    x, v = np.where(here, q.x, 0.0), np.asarray(q.v)
    assert (x[:, :6] < BLOCK).all()
    np.testing.assert_allclose(x[:, :6, 0], BLOCK - 2.5, atol=1.5)  # at the line, s0 before it
    assert v[:, :6, 0].max() < 0.3
    assert (x[:, 6:].max(axis=2) > 600).all()
    assert (v[:, 6:][here[:, 6:]] > 5).all()


def test_no_car_runs_into_another_or_is_lost():
    world: Any = gpusim.make("grid0")

    def body(state, key):
        state = jax.vmap(world.step)(state, jax.random.uniform(key, (4, 9), minval=-1, maxval=0.1))
        see = jax.vmap(jax.vmap(lambda q: queues.sight(q, 1e6, 30.0, 1.0)))(state.carry.streets)
        here = jax.vmap(jax.vmap(queues.here))(state.carry.streets)
        gap = jnp.where(here, see.gap, 1e6).min()
        return state, (gap, state.carry.entered.sum(1), state.metrics)

    first = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 4))
    keys = jax.random.split(jax.random.key(1), 400)
    _, (gap, entered, seen) = jax.jit(lambda s: jax.lax.scan(body, s, keys))(first)
    assert gap.min() > 0
    np.testing.assert_array_equal(entered - seen["cars"], np.cumsum(seen["outflow"], axis=0))
    assert seen["outflow"].sum() > 100


def test_what_is_seen_by_hand():
    world: Any = gpusim.make("grid0")
    with jax.enable_x64():
        city = world.start(jax.random.key(0)).carry
        q = city.streets
        # Eastbound on row 1: one on the way out, three before crossing 5 (the last), one before 3.
        x = q.x.at[1, :5].set(jnp.asarray([950.0, 880.0, 850.0, 700.0, 30.0]))
        v = q.v.at[1, :5].set(jnp.asarray([20.0, 7.0, 14.0, 28.0, 3.5]))
        city = city._replace(
            streets=q._replace(x=x, v=v, count=q.count.at[1].set(5)),
            since=city.since.at[2].set(2.0),
            yellow=city.yellow.at[2].set(True),
            across=city.across.at[8].set(True),
        )
        obs = np.asarray(world.observation(city))
        speeds, distances, roads = obs[:216].reshape(3, 9, 4, 2)
        np.testing.assert_allclose(speeds[5, 0], [0.2, 0.4])
        np.testing.assert_allclose(distances[5, 0], [20 / 300, 50 / 300])
        np.testing.assert_allclose(roads[5, 0], [6 / 47, 6 / 47])
        np.testing.assert_allclose(speeds[3, 0], [0.1, 0.0])
        np.testing.assert_allclose(distances[3, 0], [270 / 300, 0.0])
        np.testing.assert_allclose(distances[3, 1], [0.0, 0.0])
        np.testing.assert_allclose(distances[0, 0], [294 / 300, 0.0])
        density, speed = obs[216:312].reshape(2, 12, 4)
        np.testing.assert_allclose(density[1], [5 / 300, 0, 15 / 300, 5 / 100])
        np.testing.assert_allclose(speed[1], [0.1, 0, 49 / 3 / 35, 20 / 35])
        since, across, yellow = obs[312:].reshape(3, 9)
        assert since.tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0]
        assert across.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]
        assert yellow.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_only_square_grids():
    with pytest.raises(ValueError, match="the grid is square"):
        gpusim.make("grid0", rows=2)


def test_each_light_sees_its_own_crossing():
    """The same numbers as the whole grid's observation, in the place of the light that sees them;
    what is not there is 1, 1 and 0, and a light that is not there is yellow."""
    world: Any = gpusim.make("MultiTrafficLightGridPO")
    whole: Any = gpusim.make("grid0")
    assert world.neighbours[4].tolist() == [4, 7, 1, 3, 5]
    assert world.neighbours[0].tolist() == [0, 3, 9, 9, 1]
    step = jax.jit(jax.vmap(world.step))
    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 2))
    for k in range(30):
        state = step(
            state,
            jnp.where(jnp.arange(9) % 4 == k % 4, 1.0, -1.0)[None, :, None] * jnp.ones((2, 9, 1)),
        )
    city = jax.tree.map(lambda x: x[0], state.carry)
    seen = np.asarray(whole.observation(city))
    cars = seen[:216].reshape(3, 9, 8)  # speeds, distances, numbers of roads, by crossing
    density, speed = seen[216:264].reshape(12, 4), seen[264:312].reshape(12, 4)
    across, yellow = np.append(seen[321:330], 0), np.append(seen[330:339], 1)
    street, index = whole.approaches
    for light in range(9):
        own = np.asarray(state.obs[0, light])
        v, d, n = own[:8], own[8:16], own[16:24]
        np.testing.assert_allclose(n, cars[2, light])
        there = n > 0  # road 0 looks like none: the first street has no car before light 0 here
        np.testing.assert_allclose(v[there], cars[0, light][there])
        np.testing.assert_allclose(d[there], cars[1, light][there])
        roads = street[light], index[light]
        np.testing.assert_allclose(own[24:28], density[roads], rtol=1e-6)
        np.testing.assert_allclose(own[28:32], speed[roads], rtol=1e-6)
        np.testing.assert_array_equal(own[32:37], across[world.neighbours[light]])
        np.testing.assert_array_equal(own[37:42], yellow[world.neighbours[light]])


def test_the_lights_share_what_standing_cars_cost():
    world: Any = gpusim.make("MultiTrafficLightGridPO")
    state = world.start(jax.random.key(0))
    streets = state.carry.streets
    here = np.asarray(jax.vmap(queues.here)(streets))
    v = np.where(here, np.where(np.arange(12)[:, None] < 3, 0.0, 14.0), 0.0)
    city = state.carry._replace(streets=streets._replace(v=jnp.asarray(v)))
    delay = np.mean((35 - v[here]) / 35)
    np.testing.assert_allclose(world.reward(city), -(delay + 0.2 * 3) / 9, rtol=1e-6)
    assert here.sum() == 12


def test_a_fixed_cycle_switches_all_lights_together():
    world: Any = gpusim.make("grid0", controller="fixed")
    body = lambda state, action: (state := world.step(state, action), state.carry)
    start = world.reset(jax.random.key(0))
    actions = jax.random.normal(jax.random.key(1), (80, 9))  # which nobody obeys
    _, city = jax.jit(lambda s: jax.lax.scan(body, s, actions))(start)
    yellow, across = np.asarray(city.yellow), np.asarray(city.across)
    after = np.arange(1, 81)
    expected = ((after >= 34) & (after < 37)) | ((after >= 68) & (after < 71))
    np.testing.assert_array_equal(yellow, expected[:, None].repeat(9, 1))
    np.testing.assert_array_equal(across, ((after >= 34) & (after < 68))[:, None].repeat(9, 1))
