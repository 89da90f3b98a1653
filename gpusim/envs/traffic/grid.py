"""Flow's grid of traffic lights: streets in both directions that cross, and the policy switches the
lights.

Vinitsky et al. 2018 (CoRL), `flow/benchmarks/grid*.py`. A street is one queue of cars from its entry
to its exit; nobody turns. The cars of Flow's grid are SUMO's; ours follow the IDM with the same
numbers. Cars of crossing streets do not collide here: three seconds of yellow clear a crossing.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic import drawing, queues
from gpusim.envs.traffic.following import FAR, LENGTH, Sight, wall
from gpusim.envs.traffic.loop import desired_velocity
from gpusim.envs.traffic.queues import SPEED, Car, Queue
from gpusim.envs.traffic.safety import collision_free
from gpusim.envs.world import Box, State, World

BLOCK, EXIT = 300.0, 100.0
"""From the entry to the first crossing, and from one to the next; behind the last one, m."""
SPEED_LIMIT = 35.0
"""What speeds in observations are divided by, m/s; the cars do not drive faster than 30."""
BRAKE = 7.5
"""What the drivers are ready to brake with, m/s^2."""
SEEN = 2
"""Cars that are seen before each crossing in each direction."""


class City(NamedTuple):
    """What the grid is between two steps.

    Streets in the order: eastbound by row from the south, westbound, northbound by column from the
    west, southbound. Crossings are counted as in Flow: from the south-west, first along a row.
    """

    streets: Queue  # leading axis over the streets
    due: jax.Array  # (streets,) cars that want to come in
    entered: jax.Array  # (streets,) int32: cars that have come in
    across: jax.Array  # (crossings,) bool: east and west have green or are to get it
    yellow: jax.Array  # (crossings,) bool: both directions have yellow or red
    since: jax.Array  # (crossings,) since when, s; it stays as it was when the yellow ended
    left: jax.Array  # () cars that left in the last step
    key: jax.Array  # of the noise to come


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrafficLightGrid(World):
    """Grid of traffic lights, of which each can be switched: Flow's `TrafficLightGridBenchmarkEnv`.

    An action above 0 switches a light that is not yellow: yellow for `switch_time`, then green for
    the other streets. Seen are, of each crossing and each of its four streets, the two cars nearest
    to it (speed / 35, distance / 300, number of the road), of every road the share of it that cars
    cover and their mean speed / 35, and of every light the time since its last yellow began, which
    way is green, and whether it is yellow. The reward is `desired_velocity`.
    """

    dt = 1.0
    max_episode_steps = 400
    gauges: ClassVar = {"mean_speed": "mean speed, m/s", "cars": "cars"}

    rows: int = 3
    """Streets from west to east."""
    columns: int = 3
    """Streets from south to north."""
    slots: int = 24
    """Most cars in one street and direction. More do not come in."""
    inflow: float = 300.0
    """Cars an hour in every street and direction; they enter at 30 m/s."""
    switch_time: float = 3.0
    """Of a yellow light, s."""
    target_velocity: float = 50.0
    """Wanted of every car, m/s."""
    noise: float = 0.2
    """Standard deviation of accelerations, m/s^2 per root of a second."""

    def __post_init__(self):
        if self.rows < 1 or self.columns < 1 or self.rows != self.columns:
            raise ValueError(
                f"{self.name}: {self.rows} rows and {self.columns} columns; the grid is square"
            )

    @property
    def action_space(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        """To switch (above 0) or not, for each crossing."""
        return Box(self.rows * self.columns)

    @property
    def end(self) -> float:
        """Length of every street, m."""
        return self.rows * BLOCK + EXIT

    @functools.cached_property
    def crossings(self) -> np.ndarray:
        """(streets, crossings of one) int: the crossings of every street, in its direction."""
        number = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        return np.concatenate([number, number[:, ::-1], number.T, number.T[:, ::-1]])

    @functools.cached_property
    def horizontal(self) -> np.ndarray:
        """(streets,) bool."""
        return np.arange(2 * (self.rows + self.columns)) < 2 * self.rows

    # ---- the world

    def start(self, key: jax.Array) -> State:
        """One car at rest in every street, 6 m from its entry; all lights green for north and
        south; when the next cars come is drawn."""
        key, use = jax.random.split(key)
        n, lights = len(self.crossings), self.rows * self.columns
        streets = jax.tree.map(lambda a: jnp.stack([a] * n), queues.empty(self.slots))
        first = jax.vmap(lambda q: queues.with_car(q, Car(6.0, 0.0, 0.0), jnp.asarray(True)))
        off = jnp.zeros(lights, bool)
        due = jax.random.uniform(use, (n,))
        entered = jnp.ones(n, jnp.int32)
        zero = jnp.zeros(())
        city = City(first(streets), due, entered, off, off, jnp.zeros(lights), zero, key)
        return State.of(city, self.observation(city), metrics=self._metrics(city))

    def transition(self, state: State, action: jax.Array) -> State:
        """The lights, then the cars."""
        city = self.drive(self.switched(state.carry, action > 0))
        here = jax.vmap(queues.here)(city.streets)
        return State.of(
            city,
            self.observation(city),
            reward=desired_velocity(city.streets.v, here, self.target_velocity),
            metrics=self._metrics(city),
        )

    def switched(self, city: City, wanted: jax.Array) -> City:
        """The lights a step later: yellow ones go on, the others obey."""
        since = jnp.where(city.yellow, city.since + self.dt, city.since)
        begins = ~city.yellow & wanted
        return city._replace(
            across=city.across ^ begins,
            yellow=jnp.where(city.yellow, since < self.switch_time, wanted),
            since=jnp.where(begins, 0.0, since),
        )

    def drive(self, city: City) -> City:
        """One step of all cars: who is due comes in, all move, and who is at the end leaves."""
        due = city.due + self.inflow * self.dt / 3600
        may = jax.vmap(lambda q: queues.may_enter(q, LENGTH, SPEED, self.dt))(city.streets)
        enters = (due >= 1) & may
        name = (city.entered % self.slots).astype(float)
        come = jax.vmap(lambda q, name, when: queues.with_car(q, Car(LENGTH, SPEED, name), when))
        q = come(city.streets, name, enters)
        key, use = jax.random.split(city.key)
        sights = self.look(q, city)
        a = queues.human(sights, use, self.noise, b=BRAKE)
        safe = functools.partial(collision_free, b=BRAKE)
        a = functools.reduce(lambda a, see: safe(a, see), sights, a)
        q = jax.vmap(lambda q, a: queues.moved(q, a, self.dt))(q, a)
        leaves = (q.count > 0) & (q.x[:, 0] > self.end)
        q = jax.vmap(queues.without_front)(q, leaves)
        return city._replace(
            streets=q,
            due=due - enters,
            entered=city.entered + enters,
            left=jnp.sum(leaves * 1.0),
            key=key,
        )

    def look(self, q: Queue, city: City) -> tuple[Sight, Sight]:
        """The car ahead, and the next light if it is not green and one can still stop there."""
        ahead = jax.vmap(lambda q: queues.sight(q, FAR, SPEED, self.dt))(q)
        see = ahead._replace(dt=self.dt)
        green = ~city.yellow & (city.across == self.horizontal[:, None].T if False else True)
        stops = ~self._green(city)
        distance = self._block(q) * BLOCK - q.x
        closed = jnp.zeros_like(q.x, bool)
        for i in range(self.rows):
            closed = closed | ((self._block(q) == i + 1) & stops[:, i, None])
        can = distance > q.v**2 / (2 * BRAKE)
        return see, wall(see, distance, closed & can)
