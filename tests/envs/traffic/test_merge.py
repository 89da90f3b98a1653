"""The merge: what is seen and rewarded by hand; cars come in, join and leave, and none is lost."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs.traffic import merge, queues
from gpusim.envs.traffic.merge import HUMANS, JOIN, RAMP, Roads
from gpusim.envs.traffic.queues import Car, Queue


def queue(slots: int, *cars: tuple[float, float, float]) -> Queue:
    made = queues.empty(slots)
    for car in cars:
        made = queues.with_car(made, Car(*car), jnp.asarray(True))
    return made


def roads(highway: Queue, ramp: Queue) -> Roads:
    state = gpusim.make("merge0").start(jax.random.key(0))
    return state.carry._replace(highway=highway, ramp=ramp)


def test_what_is_seen_and_earned_by_hand():
    world: Any = gpusim.make("merge0")
    with jax.enable_x64():
        highway = queue(
            90, (650.0, 12.0, HUMANS + 3.0), (600.0, 10.0, 1.0), (585.0, 20.0, HUMANS + 4.0)
        )
        now = roads(highway, queue(26, (100.0, 20.0, 7.0)))
        obs = world.observation(now)
        np.testing.assert_allclose(obs[:5], [0.4, 18 / 30, 1, 2 / 30, 45 / 900], rtol=1e-12)
        np.testing.assert_allclose(obs[5:10], [2 / 3, -1 / 3, 10 / 900, 2 / 3, 1], rtol=1e-12)
        assert not obs[10:].any()
        # Speeds 12, 10, 20, 20 of 20: 1 - sqrt(64 + 100) / 40; headway 10 / 20 lacks half a second.
        expected = 1 - np.sqrt(164) / 40 - 0.1 * 0.5
        np.testing.assert_allclose(world.reward(now), expected, rtol=1e-6)


def test_the_policy_drives_the_first_controlled_cars_only():
    world: Any = gpusim.make("merge0", num_rl=2, noise=0.0)
    cars = [(680.0 - 60 * i, 10.0, HUMANS + i) for i in range(4)]
    now = roads(queue(90, *cars), queue(26))
    drive = jax.jit(world.drive)
    free, pushed = drive(now, jnp.zeros(2)), drive(now, jnp.asarray([-1.0, 1.0]))
    by = np.asarray(pushed.highway.v[:4] - free.highway.v[:4])
    np.testing.assert_allclose(by, [-0.75, 0.75, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("behind", "ahead", "joins"),
    [
        (None, None, True),
        ((560.0, 20.0), None, False),  # 33 m do not stop 20 m/s at 4.5 m/s^2: it takes 44
        ((560.0, 17.0), None, True),
        ((594.0, 1.0), None, False),  # beside it
        (None, (604.0, 20.0), False),
        (None, (605.1, 20.0), True),
    ],
)
def test_who_joins(behind, ahead, joins: bool):
    cars = [(*car, 0.0) for car in (ahead, behind) if car]
    now = roads(queue(90, *cars), queue(26, (RAMP - 2.0, 0.0, 9.0)))
    assert bool(merge.may_join(now)) == joins


def test_nobody_joins_where_no_slot_is_free():
    behind, ahead = 500.0 - 6 * np.arange(80), 694.0 - 6 * np.arange(9)
    x = jnp.asarray([*ahead, *behind, 20.0])
    slots = jnp.zeros(90)
    highway = Queue(x, slots, slots, slots + 30, jnp.asarray(90, jnp.int32))
    now = roads(highway, queue(26, (RAMP - 2.0, 0.0, 9.0)))
    assert not merge.may_join(now)
    assert merge.may_join(now._replace(highway=queues.without(highway, 89, jnp.asarray(True))))


def test_a_waiting_car_is_let_in():
    world: Any = gpusim.make("merge0", noise=0.0, inflow=0.0, ramp_inflow=0.0)
    cars = [(JOIN - 20 - 35.0 * i, 18.0, float(i)) for i in range(14)]
    now = roads(queue(90, *cars), queue(26, (RAMP - 2.6, 0.0, 50.0)))
    drive = jax.jit(world.drive)
    for _ in range(60):
        if now.ramp.count == 0:
            break
        now = drive(now, jnp.zeros(5))
    names = now.highway.tag[: int(now.highway.count)].tolist()
    assert 0 < names.index(50.0) < len(names) - 1  # between others


@pytest.mark.slow
@pytest.mark.parametrize("name", ["merge0", "merge2"])
def test_no_car_is_lost_and_none_crashes(name: str):
    world: Any = gpusim.make(name)
    step = jax.vmap(world.step)
    n = 8

    def body(state, key):
        action = jax.random.uniform(key, (n, world.action_size), minval=-1)
        state = step(state, action)
        seen = state.carry.entered.sum(1), state.metrics["cars"], state.metrics["outflow"]
        return state, (*seen, state.terminated)

    first = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), n))
    keys = jax.random.split(jax.random.key(1), 400)
    last, (entered, cars, left, crash) = jax.jit(lambda s: jax.lax.scan(body, s, keys))(first)
    np.testing.assert_array_equal(entered - cars, np.cumsum(left, axis=0))
    assert not crash.any()
    q = last.carry.highway
    x = np.asarray(q.x)
    ordered = x[:, 1:] <= x[:, :-1]
    assert (ordered | ~np.asarray(jax.vmap(queues.here)(q))[:, 1:]).all()
    assert left.sum(0).min() > 20
    share = last.carry.entered[:, 1] / last.carry.entered.sum(1)
    # Some came by the ramp, and five were there.
    np.testing.assert_allclose(share, 0.85 * world.penetration, rtol=0.2)
