"""Cars on a ring, the first one controlled: a world that is no robot."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim.envs import Box, State, World


class Cars(NamedTuple):
    place: jax.Array  # (cars,) m along the ring, in the order of driving
    speed: jax.Array  # (cars,) m/s


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ring(World):
    """Intelligent drivers (Treiber et al. 2000) that follow each other; a crash ends it."""

    action_space = Box(1)
    dt = 0.1
    max_episode_steps = 600

    cars: int = 6
    """How many."""
    length: float = 60.0
    """Of the ring, m."""

    def start(self, key: jax.Array) -> State:
        shift = jax.random.uniform(key, (self.cars,), minval=-1.0)
        place = self.length * jnp.arange(self.cars) / self.cars + shift
        cars = Cars(place, jnp.zeros(self.cars))
        return State.of(cars, self._seen(cars), metrics={"speed": 0.0})

    def transition(self, state: State, action: jax.Array) -> State:
        place, speed = state.carry
        gap = self._gaps(place)
        closing = speed - jnp.roll(speed, -1)
        wanted = 2.0 + jnp.maximum(0.0, speed + speed * closing / 2.45)
        push = 1 - (speed / 30) ** 4 - (wanted / jnp.maximum(gap, 0.1)) ** 2
        push = push.at[0].add(action[0])
        speed = jnp.maximum(0.0, speed + self.dt * push)
        cars = Cars(place + self.dt * speed, speed)
        mean = speed.mean()
        crash = (self._gaps(cars.place) < 0).any()
        return State.of(
            cars, self._seen(cars), reward=mean, terminated=crash, metrics={"speed": mean}
        )

    def _gaps(self, place: jax.Array) -> jax.Array:
        ahead = jnp.roll(place, -1).at[-1].add(self.length)
        return ahead - place - 5.0

    def _seen(self, cars: Cars) -> jax.Array:
        return jnp.stack([cars.speed[0], cars.speed[1], self._gaps(cars.place)[0]]) / 10
