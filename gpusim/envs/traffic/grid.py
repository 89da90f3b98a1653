"""Flow's grid of traffic lights: streets in both directions that cross, and the policy switches the
lights.

Vinitsky et al. 2018 (CoRL), `flow/benchmarks/grid*.py`. A street is one queue of cars from its
entry to its exit; nobody turns. The cars of Flow's grid are SUMO's; ours follow the IDM with the
same numbers. Cars of crossing streets do not collide here: the yellow clears a crossing.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic import drawing, queues
from gpusim.envs.traffic.following import FAR, LENGTH, Sight, wall
from gpusim.envs.traffic.loop import desired_velocity, require_several
from gpusim.envs.traffic.options import TINY, within
from gpusim.envs.traffic.queues import SPEED, Car, Queue
from gpusim.envs.traffic.safety import collision_free
from gpusim.envs.traffic.vehicles import Vehicles
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
    time: jax.Array  # () of the episode, s
    left: jax.Array  # () cars that left in the last step
    key: jax.Array  # of the noise to come


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrafficLightGrid(World):
    """Grid of traffic lights, of which each can be switched: Flow's `TrafficLightGridBenchmarkEnv`.

    An action above 0 switches a light that is not yellow: yellow for `switch_time`, then green for
    the other streets. Seen are, of each crossing and each of its four streets, the two cars nearest
    to it (speed / 35, distance / 300, number of the road), of every road the share of it that cars
    cover and their mean speed / 35, and of every light the time since its last yellow began, which
    way is green, and whether it is yellow. The reward is `desired_velocity`. Crossings are in the
    order of their numbers; Flow sorts them by name, so that its grid1 has 10 behind 1.
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
    controller: Literal["policy", "fixed"] = "policy"
    """Who switches the lights; fixed: all together, `green` after they became green."""
    green: float = 31.0
    """Of a light that is switched by a fixed cycle, s."""
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
        most = math.inf
        within(self, slots=(1, most), inflow=(0, most), noise=(0, most), switch_time=(0, most))
        within(self, green=(TINY, most), target_velocity=(TINY, most))

    @property
    def action_space(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        """To switch (above 0) or not, for each crossing; an agent has one."""
        return Box(self.rows * self.columns // self.agents)

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
        city = City(first(streets), due, entered, off, off, jnp.zeros(lights), zero, zero, key)
        nothing = jnp.zeros(self.each)
        return State.of(city, self.observation(city), reward=nothing, metrics=self._metrics(city))

    def transition(self, state: State, action: jax.Array) -> State:
        """The lights, then the cars."""
        city, wanted = state.carry, action.reshape(-1) > 0
        if self.controller == "fixed":
            cycles = (city.time + np.array([0.0, self.dt])) // (self.green + self.switch_time)
            wanted = jnp.broadcast_to(cycles[1] > cycles[0], wanted.shape)
        city = self.drive(self.switched(city._replace(time=city.time + self.dt), wanted))
        return State.of(
            city,
            self.observation(city),
            reward=jnp.broadcast_to(self.reward(city), self.each),
            metrics=self._metrics(city),
        )

    def reward(self, city: City) -> jax.Array:
        """() of a step."""
        here = jax.vmap(queues.here)(city.streets)
        return desired_velocity(city.streets.v, here, self.target_velocity)

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
        """One step of all cars."""
        key, use = jax.random.split(city.key)
        green = ~city.yellow[self.crossings] & (
            city.across[self.crossings] == self.horizontal[:, None]
        )
        keys = jax.random.split(use, len(green))
        # A loop over the streets, not all of them at once: the kernel holds the code of one.
        step = lambda street: self.street(*street)
        given = city.streets, city.due, city.entered, green, keys
        streets, due, entered, left = jax.lax.map(step, given)
        return city._replace(streets=streets, due=due, entered=entered, left=left.sum(), key=key)

    def street(
        self, q: Queue, due: jax.Array, entered: jax.Array, green: jax.Array, key: jax.Array
    ) -> tuple[Queue, jax.Array, jax.Array, jax.Array]:
        """One step of a street: who is due comes in, all move, who is at the end leaves. The queue,
        what is due, who has entered, and 1.0 if a car has left."""
        due = due + self.inflow * self.dt / 3600
        enters = (due >= 1) & queues.may_enter(q, LENGTH, SPEED, self.dt)
        name = (entered % self.slots).astype(float)
        q = queues.with_car(q, Car(LENGTH, SPEED, name), enters)
        sights = self.look(q, green)
        a = queues.human(sights, key, self.noise, b=BRAKE)
        a = functools.reduce(functools.partial(collision_free, b=BRAKE), sights, a)
        q = queues.moved(q, a, self.dt)
        leaves = (q.count > 0) & (q.x[0] > self.end)
        return queues.without(q, 0, leaves), due - enters, entered + enters, leaves * 1.0

    def look(self, q: Queue, green: jax.Array) -> tuple[Sight, Sight]:
        """The car ahead; and the next light, if it is not green and one can still stop there."""
        see, road, closed = queues.sight(q, FAR, SPEED, self.dt), self.road(q), False
        for i in range(len(green)):
            closed = closed | ((road == i) & ~green[i])
        distance = (road + 1) * BLOCK - q.x
        return see, wall(see, distance, closed & (distance > q.v**2 / (2 * BRAKE)))

    def road(self, q: Queue) -> jax.Array:
        """(slots,) int32: on which of its street's roads a car is; the last one leads out."""
        return jnp.clip(jnp.ceil(q.x / BLOCK) - 1, 0, self.crossings.shape[1]).astype(jnp.int32)

    # ---- what is seen

    def observation(self, city: City) -> jax.Array:
        """In Flow's order: speeds, distances and roads of the cars seen, crossing by crossing and
        there from the west, south, east and north; densities and mean speeds of the roads; lights.
        """
        v, distance, count, speed = jax.lax.map(self.summary, city.streets)
        street, index = self.approaches
        number = self.road_number[street, index] / (self.road_number.size - 1)
        there = count[street, index][..., None] > np.arange(SEEN)
        cars = [v[street, index] / SPEED_LIMIT, distance[street, index] / BLOCK]
        cars.append(there * number[..., None])
        lengths = np.full(self.road_number.shape[1], BLOCK)
        lengths[-1] = EXIT
        roads = [LENGTH * count / lengths, speed / SPEED_LIMIT]
        lights = [city.since, city.across * 1.0, city.yellow * 1.0]
        return jnp.concatenate([a.ravel() for a in (*cars, *roads, *lights)])

    def summary(self, q: Queue) -> tuple[jax.Array, ...]:
        """Of a street's roads: the speeds of the cars nearest to their ends and how far these are
        (roads, SEEN), 0 where there is none; how many cars there are, and their mean speed."""
        here, road, roads = queues.here(q), self.road(q), self.road_number.shape[1]
        there = [here & (road == i) for i in range(roads)]
        count = jnp.stack([t.sum() for t in there])
        total = jnp.stack([jnp.where(t, q.v, 0.0).sum() for t in there])
        ahead = jnp.cumsum(count[::-1])[::-1] - count  # cars on later roads: slots before these
        slot = ahead[:, None] + np.arange(SEEN)
        seen = count[:, None] > np.arange(SEEN)
        x, v = (a[jnp.minimum(slot, self.slots - 1)] for a in (q.x, q.v))
        distance = BLOCK * (1 + np.arange(roads)[:, None]) - x
        speed = total / jnp.maximum(count, 1)
        return jnp.where(seen, v, 0.0), jnp.where(seen, distance, 0.0), count, speed

    @functools.cached_property
    def approaches(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every crossing, from the west, south, east and north: the street, and which of its
        crossings this is; (crossings, 4) each."""
        ways = [range(self.rows), range(2 * self.rows, 2 * self.rows + self.columns)]
        ways += [range(self.rows, 2 * self.rows)]
        ways += [range(2 * self.rows + self.columns, 2 * (self.rows + self.columns))]
        found = [
            [next((s, int(i)) for s in way for i in np.nonzero(self.crossings[s] == light)[0])
             for way in ways]
            for light in range(self.rows * self.columns)
        ]  # fmt: skip
        table = np.array(found)
        return table[..., 0], table[..., 1]

    @functools.cached_property
    def road_number(self) -> np.ndarray:
        """(streets, roads of one) int: which road that is, from 0 on. The order is ours."""
        streets, crossings = self.crossings.shape
        return np.arange(streets * (crossings + 1)).reshape(streets, crossings + 1)

    def _metrics(self, city: City) -> dict[str, jax.Array]:
        here = jax.vmap(queues.here)(city.streets)
        cars = here.sum()
        speed = jnp.where(here, city.streets.v, 0.0).sum() / jnp.maximum(cars, 1)
        return {"mean_speed": speed, "cars": cars, "outflow": city.left}

    # ---- what is drawn

    @functools.cached_property
    def _lines(self) -> tuple[np.ndarray, np.ndarray]:
        """(streets, 2) each: where a street enters, and which way it goes. South-west crossing in
        the origin; streets keep to the right."""
        far, aside = (self.rows - 1) * BLOCK, 3.0
        entry, way = [], []
        for i in range(self.rows):
            entry.append((-BLOCK, i * BLOCK - aside))
            way.append((1, 0))
        for i in range(self.rows):
            entry.append((far + BLOCK, i * BLOCK + aside))
            way.append((-1, 0))
        for i in range(self.columns):
            entry.append((i * BLOCK + aside, -BLOCK))
            way.append((0, 1))
        for i in range(self.columns):
            entry.append((i * BLOCK - aside, far + BLOCK))
            way.append((0, -1))
        return np.array(entry), np.array(way)

    def vehicles(self, state: State) -> Vehicles:
        """The cars of all streets; road 0 is the southernmost street to the east."""
        q, street = state.carry.streets, np.arange(len(self.crossings))[:, None]
        here = jax.vmap(queues.here)(q)
        return Vehicles.of(here, q.tag + self.slots * street, q.x, q.v, road=jnp.asarray(street))

    def drawing(self) -> Any:
        """The streets and all cars that can be there; the lights are not drawn."""
        entry, way = self._lines
        roads = [np.array([a, a + self.end * w]) for a, w in zip(entry, way, strict=True)]
        return drawing.model(roads, [False] * (len(entry) * self.slots))

    def pose(self, state: State) -> jax.Array:
        """Of every name that a car can have."""
        q = state.carry.streets
        entry, way = (jnp.asarray(a, q.x.dtype) for a in self._lines)
        x, y = (entry[:, i, None] + way[:, i, None] * q.x for i in (0, 1))
        heading = jnp.broadcast_to(jnp.arctan2(way[:, 1], way[:, 0])[:, None], q.x.shape)
        name = q.tag + self.slots * jnp.arange(len(entry))[:, None]
        here = jax.vmap(queues.here)(q)
        flat = (a.ravel() for a in (x, y, heading, here, name))
        return drawing.named_pose(*flat, names=len(entry) * self.slots)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Grid0(TrafficLightGrid):
    """Grid of 3 x 3 traffic lights: Flow's benchmark grid0."""

    name = "grid0"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Grid1(TrafficLightGrid):
    """Grid of 5 x 5 traffic lights: Flow's benchmark grid1."""

    name = "grid1"
    rows: int = 5
    columns: int = 5
    slots: int = 32


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MultiTrafficLightGridPO(TrafficLightGrid):
    """Grid of 3 x 3 traffic lights, each an agent that sees its own crossing.

    Flow's `MultiTrafficLightGridPOEnv`: the two cars nearest to the light on each of its four
    streets (speed / 35, distance / 300, number of the road; 1, 1 and 0 where there is none), of
    these roads the share that cars cover and their mean speed / 35, and which way is green, and
    whether it is yellow, at this light and those above, below, left and right (0 and 1 where there
    is none). The reward is common to all: the mean of (v - 35) / 35, and less by 0.2 for every car
    that stands, over the number of lights.
    """

    name = "MultiTrafficLightGridPO"
    standstill: float = 0.2
    """What a standing car costs."""

    def __post_init__(self):
        super().__post_init__()
        require_several(self, "rows", self.rows)

    @property
    def agents(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The lights, in the order of the crossings."""
        return self.rows * self.columns

    def observation(self, city: City) -> jax.Array:
        """Of each light."""
        v, distance, count, speed = jax.lax.map(self.summary, city.streets)
        street, index = self.approaches
        number = self.road_number[street, index] / (self.road_number.size - 1)
        there = count[street, index][..., None] > np.arange(SEEN)
        cars = [
            jnp.where(there, v[street, index] / SPEED_LIMIT, 1.0),
            jnp.where(there, distance[street, index] / BLOCK, 1.0),
            there * number[..., None],
        ]
        roads = [LENGTH * count[street, index] / BLOCK, speed[street, index] / SPEED_LIMIT]
        lights = [jnp.append(city.across, False) * 1.0, jnp.append(city.yellow, True) * 1.0]
        near = [light[self.neighbours] for light in lights]
        flat = [x.reshape(self.agents, -1) for x in (*cars, *roads, *near)]
        return jnp.concatenate(flat, axis=1)

    @functools.cached_property
    def neighbours(self) -> np.ndarray:
        """(crossings, 5) int: each itself, and the ones above, below, left and right; the number of
        crossings where there is none."""
        number = np.full((self.rows + 2, self.columns + 2), self.agents)
        number[1:-1, 1:-1] = np.arange(self.agents).reshape(self.rows, self.columns)
        above, below = number[2:, 1:-1], number[:-2, 1:-1]
        left, right = number[1:-1, :-2], number[1:-1, 2:]
        return np.stack([number[1:-1, 1:-1], above, below, left, right], -1).reshape(-1, 5)

    def reward(self, city: City) -> jax.Array:
        """() of a step."""
        here, v = jax.vmap(queues.here)(city.streets), city.streets.v
        delay = jnp.where(here, (SPEED_LIMIT - v) / SPEED_LIMIT, 0.0).sum()
        stand = (here & (v == 0)).sum()
        cost = self.dt * delay / jnp.maximum(here.sum(), 1) + self.standstill * stand
        return -cost / self.agents
