"""The bottleneck: what is seen, told and earned by hand; lanes that join, and cars that change."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs.traffic import bottleneck, queues
from gpusim.envs.traffic.bottleneck import NAMES, SLOTS, STAGES, zippered
from gpusim.envs.traffic.queues import Car, Queue


def lanes(slots: int, *lists: list[Car]) -> Queue:
    """One queue a list of cars."""
    made = []
    for cars in lists:
        queue = queues.empty(slots)
        for car in cars:
            queue = queues.with_car(queue, car, jnp.asarray(True))
        made.append(queue)
    return jax.tree.map(lambda *a: jnp.stack(a), *made)


def road(world: Any, first: Queue, second: Queue | None = None) -> Any:
    empty = [lanes(n, *[[]] * k) for n, k in zip(SLOTS[1:], world.lanes[1:], strict=True)]
    start = bottleneck.Road(
        (),
        jnp.array(2500.0),
        jnp.zeros(2),
        jnp.zeros((), jnp.int32),
        jnp.zeros(20),
        jax.random.key(0),
    )
    return start._replace(stages=(first, second or empty[0], empty[1]))


def test_what_is_seen_and_earned_by_hand():
    world: Any = gpusim.make("bottleneck0")
    with jax.enable_x64():
        # Lane 1: on edge 2 a human in the second third, two controlled cars in the first; on
        # edge 3 nobody; lane 3: a human on edge 1.
        cars = [Car(250.0, 20.0, 1.0), Car(160.0, 10.0, NAMES + 1.0), Car(120.0, 5.0, NAMES + 2.0)]
        first = lanes(SLOTS[0], [], cars, [], [Car(50.0, 8.0, 2.0)])
        second = lanes(SLOTS[1], [Car(270.0, 6.0, 3.0)], [])
        left = jnp.zeros(20).at[3].set(1.0).at[15].set(2.0)
        now = road(world, first, second)._replace(left=left)
        obs = np.asarray(world.observation(now))
        humans, ours, speeds, our_speeds = obs[:140].reshape(4, 35)
        expected = np.zeros((4, 35))
        expected[0, [3, 4 + 4 + 1, 28 + 4]] = 1 / 20
        expected[1, 4 + 1] = 2 / 20
        expected[2, [3, 4 + 4 + 1, 28 + 4]] = [8 / 50, 20 / 50, 6 / 50]
        expected[3, 4 + 1] = 7.5 / 50
        for block, wanted in zip((humans, ours, speeds, our_speeds), expected, strict=True):
            np.testing.assert_allclose(block, wanted, rtol=1e-12)
        np.testing.assert_allclose(obs[140], 3 * 3600 / 10 / 2000)
        np.testing.assert_allclose(world.outflow(now, 10), 720.0)  # one in 5 s


def test_whom_the_policy_tells_what():
    world: Any = gpusim.make("bottleneck0")
    names = [NAMES + i for i in range(4)]
    car = lambda x, name: Car(x, 20.0, float(name), 20.0)
    cars = [car(500.0, names[0]), car(300.0, names[1]), car(200.0, 7), car(150.0, names[2])]
    cars.append(car(90.0, names[3]))
    first = lanes(SLOTS[0], [], cars, [], [])
    action = jnp.zeros(20)
    action = action.at[1].set(1.0)  # edge 2, first half, lane 1
    action = action.at[4 + 1].set(-1.0)  # its second half
    action = action.at[8 + 4 + 1].set(-0.5)  # edge 3, second half
    action = action.at[8].set(-1.0)  # edge 3, first half, another lane
    after = jax.jit(world.drive)(road(world, first), action)
    q = jax.tree.map(lambda a: a[1], after.stages[0])
    told = dict(zip(np.asarray(q.tag).tolist(), np.asarray(q.limit).tolist(), strict=True))
    assert [told[n] for n in names] == pytest.approx([19.25, 18.5, 21.5, 23.0])
    assert told[7.0] == pytest.approx(23.0)


def test_lanes_join_like_a_zipper():
    car = lambda x, v: [Car(x, v, 0.0)]
    q = lanes(4, car(540.0, 8.0), car(520.0, 9.0), car(510.0, 4.0), [])
    gap, v = zippered(q, 550.0)
    assert gap[1] == 23.0  # to 7 m before the end; where the other is would be 15 m
    assert v[1] == 8.0
    assert min(gap[0], gap[2]) > 1e5  # these go first
    gap, _ = zippered(lanes(4, car(540.0, 8.0), car(540.0, 9.0)), 550.0)
    assert gap[0] > 1e5
    assert gap[1] == 3.0


@pytest.mark.slow
def test_no_car_is_lost_and_none_runs_into_another():
    world: Any = gpusim.make("bottleneck1", warmup=0)  # which would be compiled once more
    n, filling, steps = 2, 40, 440

    def gaps(road):
        each = [
            jax.vmap(lambda q: jnp.where(queues.here(q), queues.sight(q, 1e6, 0.0, 0.5).gap, 1e6))(
                q
            )
            for q in road.stages
        ]
        return jnp.stack([gap.min() for gap in each]).min()

    def body(state, key):
        action = jax.random.uniform(key, (n, world.action_size), minval=-1)
        state = jax.vmap(world.step)(state, action)
        return state, (jax.vmap(gaps)(state.carry), state.metrics, state.carry.left[:, 0])

    first = jax.jit(jax.vmap(world.reset))(jax.random.split(jax.random.key(0), n))
    keys = jax.random.split(jax.random.key(1), steps)
    last, (gap, seen, left) = jax.jit(lambda s: jax.lax.scan(body, s, keys))(first)
    assert gap.min() > -0.01
    before = first.metrics["entered"] - first.metrics["cars"]
    np.testing.assert_array_equal(seen["entered"] - seen["cars"], before + np.cumsum(left, axis=0))
    names = [
        [tag for q in last.carry.stages for lane in range(q.x.shape[1])
         for tag in q.tag[w, lane, : int(q.count[w, lane])].tolist()]
        for w in range(n)
    ]  # fmt: skip
    assert all(len(set(found)) == len(found) for found in names)  # nobody is there twice
    flow = left[filling:].sum(0) * 3600 / ((steps - filling) * world.dt)
    assert (flow > 600).all()  # a single lane takes cars in turn
    assert (flow < 2000).all()


@pytest.mark.slow
def test_the_bottleneck_is_one():
    """As much leaves as comes, unless too much does: then the queue grows upstream of where lanes
    join."""
    options: Any = {"controller": "human", "warmup": 0, "inflow_range": (400.0, 3000.0)}
    world: Any = gpusim.make("bottleneck0", **options)
    idle = jnp.zeros((12, 20))
    body = lambda state, _: (state := jax.vmap(world.step)(state, idle), state.metrics["outflow"])
    first = jax.jit(jax.vmap(world.reset))(jax.random.split(jax.random.key(0), 12))
    last, outflow = jax.jit(lambda s: jax.lax.scan(body, s, length=840))(first)
    inflow, outflow = last.metrics["inflow"], outflow[420:].mean(0)
    few, many = inflow < 1600, inflow > 2400
    assert few.sum() > 2
    assert many.sum() > 2
    np.testing.assert_allclose(outflow[few], inflow[few], rtol=0.05)
    assert (outflow[many] < 2000).all()
    assert (last.carry.stages[0].count.sum(1)[many] > 20).all()


def test_a_car_changes_to_the_emptier_lane_and_only_a_human_does():
    behind = [Car(100.0, 10.0, 1.0), Car(80.0, 10.0, 2.0)]
    q = lanes(SLOTS[0], behind, [], [], [])
    keys = jax.random.split(jax.random.key(0), 400)
    many = jax.jit(jax.vmap(lambda key: bottleneck.changed(q, key)))(keys)
    moved = np.asarray(many.count[:, 1] > 0)
    # A lane in four, a side in two, and of two cars the second one, which has somebody ahead.
    assert 0.02 < moved.mean() < 0.12
    assert (many.tag[moved][:, 1, 0] == 2.0).all()
    assert (many.count.sum(1) == 2).all()
    ours = lanes(SLOTS[0], [car._replace(tag=NAMES + 1.0) for car in behind], [], [], [])
    many = jax.jit(jax.vmap(lambda key: bottleneck.changed(ours, key)))(keys)
    assert (many.count[:, 1] == 0).all()
    # Nobody cuts in before a car that could not stop.
    fast = lanes(SLOTS[0], behind, [Car(70.0, 30.0, 3.0)], [], [])
    many = jax.jit(jax.vmap(lambda key: bottleneck.changed(fast, key)))(keys)
    assert (many.count[:, 1] == 1).all()


def test_stages_are_as_long_as_flows_edges():
    assert STAGES == (550.0, 280.0, 155.0)
    with pytest.raises(ValueError, match="scaling is 3, not 1 or 2"):
        gpusim.make("bottleneck0", scaling=3)
    with pytest.raises(ValueError, match="inflow is from 900 to 800 cars an hour"):
        gpusim.make("bottleneck0", inflow_range=(900.0, 800.0))
