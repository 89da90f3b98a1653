"""Queues in slots against Python lists that do the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim.envs.traffic import queues
from gpusim.envs.traffic.following import FAR, LENGTH
from gpusim.envs.traffic.queues import Car


def listed(queue: queues.Queue) -> list[tuple[float, ...]]:
    n = int(queue.count)
    return [tuple(map(float, car)) for car in zip(*(a[:n] for a in queue[:-1]), strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_random_comings_and_goings(seed: int):
    rng = np.random.default_rng(seed)
    queue, cars = queues.empty(6), []
    put, pop = jax.jit(queues.with_car), jax.jit(queues.without)
    for _ in range(100):
        when = bool(rng.random() < 0.7)
        if rng.random() < 0.6:
            car = tuple(float(x) for x in rng.integers(0, 1000, 4))
            queue = put(queue, Car(*car), when)
            if when and len(cars) < 6:
                ahead = sum(other[0] >= car[0] for other in cars)
                cars.insert(ahead, car)
        else:
            slot = int(rng.integers(0, max(len(cars), 1)))
            queue = pop(queue, slot, when)
            cars = cars[:slot] + cars[slot + 1 :] if when else cars
        assert listed(queue) == cars
        assert bool(queues.has_room(queue)) == (len(cars) < 6)
        assert queues.here(queue).tolist() == [i < len(cars) for i in range(6)]
        last = cars[-1][0] - LENGTH if cars else FAR
        assert float(queues.rear(queue)) == last


def test_what_drivers_see():
    queue = queues.empty(4)
    for car in (Car(50.0, 3.0, 0.0), Car(30.0, 2.0, 1.0), Car(10.0, 1.0, 2.0)):
        queue = queues.with_car(queue, car, jnp.asarray(True))
    see = queues.sight(queue, 100.0, 9.0, 0.5)
    assert see.gap[:3].tolist() == [50.0, 15.0, 15.0]
    assert see.v_lead[:3].tolist() == [9.0, 3.0, 2.0]
    assert see.gap_behind[:3].tolist() == [15.0, 15.0, FAR]
    assert see.v_behind[:3].tolist() == [2.0, 1.0, 0.0]
    # 2.5 m and the speed from which one can stop: 10 m/s needs (10 + 2.25)^2 - 2.25^2 = 9 gap.
    for v_last, gap, enters in [
        (0.0, 16.2, True),
        (0.0, 16.0, False),
        (9.0, 7.2, True),
        (9.0, 7.0, False),
    ]:
        one = queues.with_car(queues.empty(4), Car(10.0 + gap, v_last, 0.0), jnp.asarray(True))
        assert bool(queues.may_enter(one, 5.0, 10.0, 0.5)) == enters
    assert queues.may_enter(queues.empty(4), 5.0, 10.0, 0.5)
