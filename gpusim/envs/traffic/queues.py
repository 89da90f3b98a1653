"""Lanes that cars enter and leave, as queues in a fixed number of slots.

Slot 0 is the car in front; the cars stand in the order in which they drive, so that who is ahead is
the neighbouring slot, and nobody ever searches. Leaving, entering and cutting in shift slots. Slots
from `count` on are empty: what they hold means nothing, and is never seen.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic.following import FAR, LENGTH, Numbers, Sight, idm
from gpusim.envs.traffic.safety import collision_free, noisy

SPEED = 30.0
"""What SUMO's drivers like best, m/s, and what who sees nobody takes for the next one's speed."""
MIN_GAP = 2.0
"""What who comes between others leaves to each of them, m."""


class Queue(NamedTuple):
    """A lane; under `jax.vmap` several."""

    x: jax.Array  # (slots,) place of the front bumper, m from the lane's beginning
    v: jax.Array  # (slots,) speed, m/s
    tag: jax.Array  # (slots,) the car's name, a whole number
    limit: jax.Array  # (slots,) the speed that it wants, or is told, m/s
    count: jax.Array  # () int32: cars here


class Car(NamedTuple):
    """One car that enters a queue, or leaves it."""

    x: Numbers
    v: Numbers
    tag: Numbers
    limit: Numbers = SPEED


def empty(slots: int) -> Queue:
    """A lane without cars."""
    zero = jnp.zeros(slots)
    return Queue(zero, zero, zero, zero + SPEED, jnp.zeros((), jnp.int32))


def here(queue: Queue) -> jax.Array:
    """(slots,) bool: is there a car?"""
    return jnp.asarray(_slots(queue)) < queue.count


def car(queue: Queue, slot: jax.Array | int) -> Car:
    """The car in a slot; meaningless if that is empty."""
    return Car(*(a[slot] for a in queue[:-1]))


def front(queue: Queue) -> Car:
    """The first car; meaningless if there is none."""
    return car(queue, 0)


def rear(queue: Queue) -> jax.Array:
    """() where the last car's rear bumper is, m; FAR if there is no car."""
    last = jnp.min(jnp.where(here(queue), queue.x, FAR + LENGTH))
    return last - LENGTH


def without(queue: Queue, slot: jax.Array | int, when: jax.Array) -> Queue:
    """The car of a slot has left, if `when`."""
    gone = when & (_slots(queue) >= slot)
    cars = (jnp.where(gone, jnp.roll(a, -1), a) for a in queue[:-1])
    return Queue(*cars, count=jnp.maximum(queue.count - when, 0))


def with_car(queue: Queue, car: Car, when: jax.Array) -> Queue:
    """A car has come in at its place in the order, if `when` and if there is a slot."""
    when = when & has_room(queue)
    ahead = (here(queue) & (queue.x >= car.x)).sum()
    slot = _slots(queue)

    def put(a: jax.Array, value: jax.Array | float) -> jax.Array:
        moved = jnp.where(slot < ahead, a, jnp.where(slot == ahead, value, jnp.roll(a, 1)))
        return jnp.where(when, moved, a)

    cars = (put(a, value) for a, value in zip(queue[:-1], car, strict=True))
    return Queue(*cars, count=queue.count + when)


def has_room(queue: Queue) -> jax.Array:
    """() bool: is a slot free?"""
    return queue.count < len(queue.x)


def sight(queue: Queue, ahead: jax.Array | float, v_ahead: jax.Array | float, dt: float) -> Sight:
    """What the drivers see; ahead: the place, m, of the bumper that the first one follows."""
    bumper = jnp.roll(queue.x - LENGTH, 1).at[0].set(ahead)
    v_lead = jnp.roll(queue.v, 1).at[0].set(v_ahead)
    gap = bumper - queue.x
    no_one = _slots(queue) >= queue.count - 1
    return Sight(
        v=queue.v,
        v_lead=v_lead,
        gap=gap,
        v_behind=jnp.where(no_one, 0.0, jnp.roll(queue.v, -1)),
        gap_behind=jnp.where(no_one, FAR, jnp.roll(gap, -1)),
        dt=dt,
    )


def moved(queue: Queue, a: jax.Array, dt: float) -> Queue:
    """Speeds change by the accelerations (slots,), and then places by the new speeds."""
    v = jnp.maximum(0.0, queue.v + dt * a)
    return queue._replace(x=queue.x + dt * v, v=v)


def human(
    sights: Sequence[Sight],
    key: jax.Array,
    noise: float,
    *,
    v0: Numbers = SPEED,
    b: float = 4.5,
) -> jax.Array:
    """How the human drivers of Flow's open roads follow: the IDM with SUMO's numbers, since Flow
    leaves them to SUMO. The noise is ours; SUMO's drivers differ in the speeds that they like."""
    accelerations = [idm(see, v0=v0, a=2.6, b=b, s0=2.5) for see in sights]
    return noisy(functools.reduce(jnp.minimum, accelerations), key, noise, sights[0].dt)


def ahead_of(queue: Queue, at: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rear bumper, m, and speed of the next car ahead of a place; FAR if there is none."""
    ahead = here(queue) & (queue.x >= at)
    which = ahead.sum() - 1
    x = jnp.min(jnp.where(ahead, queue.x, FAR + LENGTH))
    return x - LENGTH, jnp.where(which < 0, SPEED, queue.v[jnp.maximum(which, 0)])


def fits(queue: Queue, at: jax.Array, v: jax.Array, brake: float) -> jax.Array:
    """() bool: can a car of that speed come between the others, with its front bumper at a place?

    It needs MIN_GAP to the car ahead and to the one behind, which must be able to stop behind it by
    braking so hard, should it have to.
    """
    bumper, _ = ahead_of(queue, at)
    behind = here(queue) & (queue.x < at)
    x = jnp.max(jnp.where(behind, queue.x, -FAR))
    v_behind = jnp.max(jnp.where(behind & (queue.x >= x), queue.v, 0.0))
    room = at - LENGTH - x
    keeps_clear = v_behind**2 <= v**2 + 2 * brake * room
    return (bumper - at >= MIN_GAP) & (room >= MIN_GAP) & keeps_clear


def may_enter(queue: Queue, at: float, v: float, dt: float) -> jax.Array:
    """() bool: can a car come in at this place behind all others, m, with the speed v?"""
    last = jnp.argmin(jnp.where(here(queue), queue.x, FAR))
    v_last = jnp.where(queue.count > 0, queue.v[last], SPEED)
    gap = rear(queue) - at
    slowing = collision_free(jnp.zeros(()), Sight(v=v, v_lead=v_last, gap=gap, dt=dt)) < 0
    return (gap >= 2.5) & ~slowing & has_room(queue)


def _slots(queue: Queue) -> np.ndarray:
    return np.arange(len(queue.x))
