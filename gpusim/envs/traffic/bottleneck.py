"""Flow's bottleneck: 4N lanes become 2N and then N, where more cars come than can pass; the policy
sets the speed limit of controlled cars, place by place.

Vinitsky, Parvate, Kreidieh, Wu, Bayen 2018 (ITSC), `flow/benchmarks/bottleneck*.py`, after the toll
plaza of the Bay Bridge without its tolls and meters. The cars of Flow's bottleneck are SUMO's; ours
follow the IDM with the same numbers, two lanes join like a zipper (`zipper`), and lanes are changed
by a rule of our own (`changed`).
"""

import dataclasses
import functools
import itertools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic import drawing, queues
from gpusim.envs.traffic.following import FAR, LENGTH, wall
from gpusim.envs.traffic.options import within
from gpusim.envs.traffic.queues import SPEED, Car, Queue
from gpusim.envs.traffic.safety import collision_free, feasible, slower
from gpusim.envs.traffic.vehicles import Vehicles
from gpusim.envs.world import Box, State, World

STAGES = (100.0 + 310.0 + 140.0, 280.0, 155.0)
"""Lengths of the lanes of the three stages, of 4N, 2N and N lanes, m; the first is three of Flow's
edges."""
SLOTS = (40, 32, 20)
"""Most cars in a lane of each stage. Who finds none free in the next one waits; on the first stage
no more cars come in."""
SPEED_LIMIT = 23.0
"""Of all roads, m/s."""
NAMES, DRAWN = 1000, 250
"""A human driver's name is below NAMES, a controlled car's is not; DRAWN of each are drawn."""
OBSERVED = ((0, 0.0, 100.0, 1), (0, 100.0, 410.0, 3), (0, 410.0, 550.0, 3), (1, 0.0, 280.0, 3),
            (2, 0.0, 155.0, 1))  # fmt: skip
"""What is seen: stage, from where to where there, m, in how many segments; Flow's edges 1 to 5."""
STEERED = ((0, 100.0, 410.0, 2), (0, 410.0, 550.0, 2), (1, 0.0, 280.0, 2))
"""Where the policy changes the speeds that controlled cars want, likewise."""
WINDOW = 20
"""Steps in which the outflow that is seen is counted; for the reward it is half of them."""
BRAKE = 4.5
"""What drivers can brake with, m/s^2."""


class Road(NamedTuple):
    """What the bottleneck is between two steps."""

    stages: tuple[Queue, ...]  # three; leading axis over the lanes of each
    inflow: jax.Array  # () cars an hour that want to come in, in this episode
    due: jax.Array  # (2,) how many of them are due: human, controlled
    entered: jax.Array  # () int32: cars that have come in
    left: jax.Array  # (WINDOW,) cars that left in the last steps, the newest first
    key: jax.Array  # of the noise and the lanes to come


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bottleneck(World):
    """Bottleneck of 4N, 2N and N lanes: Flow's `BottleneckDesiredVelocityEnv`.

    An action of 1 raises the speed that a controlled car wants by 1.5 m/s a step, within 0.01 and
    23 m/s, if it is in the action's lane and segment; elsewhere it wants 23 m/s. Seen are, for each
    lane of each segment, how many human drivers there are / 20, controlled cars / 20, the mean
    speeds of both / 50, and the outflow of the last 20 steps / 2,000 an hour. The reward is the
    outflow of the last 10 steps / (2,000 N) an hour. Nothing ends an episode.
    """

    dt = 0.5
    max_episode_steps = 1500
    gauges: ClassVar = {"mean_speed": "mean speed, m/s", "outflow": "outflow, cars/h"}

    scaling: int = 1
    """N."""
    inflow: float = 2500.0
    """Cars an hour for N = 1; they enter at 10 m/s in lanes drawn at random."""
    inflow_range: tuple[float, float] | None = None
    """From where to where each episode draws an inflow of its own, instead of that."""
    penetration: float = 0.1
    """The share of cars that are controlled."""
    lane_changing: bool = False
    """May human drivers change lanes?"""
    controller: Literal["policy", "human"] = "policy"
    """Who says how fast controlled cars want to drive; for humans it is the speed limit."""
    noise: float = 0.2
    """Standard deviation of accelerations, m/s^2 per root of a second."""
    warmup: int = 40
    """Steps without control before an episode begins; the road is empty before them."""
    prepared_starts: int = 256
    """How many roads warm up before training; episodes begin with one of them. 0: each begins with
    another, and its neighbours wait for that."""

    def __post_init__(self):
        if self.scaling not in (1, 2):
            raise ValueError(f"{self.name}: scaling is {self.scaling}, not 1 or 2")
        within(self, penetration=(0, 1), noise=(0, math.inf), warmup=(0, math.inf))
        low, high = self.inflows
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"{self.name}: inflow is from {low:g} to {high:g} cars an hour")

    @property
    def inflows(self) -> tuple[float, float]:
        """Between which an episode's inflow is, cars an hour for N = 1."""
        return self.inflow_range or (self.inflow, self.inflow)

    @property
    def lanes(self) -> tuple[int, int, int]:
        """Of each stage."""
        return 4 * self.scaling, 2 * self.scaling, self.scaling

    @property
    def action_space(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A change of speed for each lane of each steered segment, along the road."""
        return Box(sum(n * self.lanes[stage] for stage, _, _, n in STEERED))

    # ---- the world

    def start(self, key: jax.Array) -> State:
        """An empty road, and then `warmup` steps."""
        later, key = jax.random.split(key)
        return self.begin_prepared(later, self.prepare(key))

    def prepare(self, key: jax.Array) -> Road:
        """A road after `warmup`."""
        key, use = jax.random.split(key)
        lane = [queues.empty(slots) for slots in SLOTS]
        stages = tuple(
            jax.tree.map(lambda a, n=n: jnp.stack([a] * n), q)
            for q, n in zip(lane, self.lanes, strict=True)
        )
        due, (low, high) = jax.random.uniform(use, (2,)), self.inflows
        drawn = jax.random.uniform(jax.random.fold_in(use, 1), minval=low, maxval=high)
        road = Road(
            stages, self.scaling * drawn, due, jnp.zeros((), jnp.int32), jnp.zeros(WINDOW), key
        )
        still = jnp.zeros(self.action_space.shape)
        return jax.lax.fori_loop(0, self.warmup, lambda _, road: self.drive(road, still), road)

    def begin_prepared(self, key: jax.Array, prepared: Road) -> State:
        """This road; `key` is of the noise and the lanes to come."""
        road = prepared._replace(key=key)
        return State.of(road, self.observation(road), metrics=self._metrics(road))

    def transition(self, state: State, action: jax.Array) -> State:
        """One step of all cars."""
        road = self.drive(state.carry, action)
        return State.of(
            road,
            self.observation(road),
            reward=self.outflow(road, WINDOW // 2) / (2000.0 * self.scaling),
            metrics=self._metrics(road),
        )

    def outflow(self, road: Road, steps: int) -> jax.Array:
        """() cars an hour that left in the last so many steps."""
        return 3600 * road.left[:steps].sum() / (steps * self.dt)

    def observation(self, road: Road) -> jax.Array:
        """Four blocks (see the class), each by edges, segments and lanes, and the outflow."""
        stages = [
            jax.lax.map(functools.partial(summary, stage=s), road.stages[s]) for s in range(3)
        ]
        blocks = [[], [], [], []]
        for stage, found in enumerate(stages):
            begin = 0
            for n in [n for s, _, _, n in OBSERVED if s == stage]:
                for block, numbers in zip(blocks, jnp.moveaxis(found, 1, 0), strict=True):
                    block.append(numbers[:, begin : begin + n].T.ravel())  # segments, then lanes
                begin += n
        outflow = self.outflow(road, WINDOW)[None] / 2000.0
        return jnp.concatenate([*(part for block in blocks for part in block), outflow])

    # ---- one step of the cars

    def drive(self, road: Road, action: jax.Array) -> Road:
        """Cars come in, are told how fast to go, choose accelerations, move, and go on to the next
        stage or leave; then some change lanes."""
        key, *uses = jax.random.split(road.key, 6)
        road = self._come_in(road, uses[0])
        stages, actions = list(road.stages), self._by_lane(action)
        for s in (2, 1, 0):
            told, wants = stages[s], actions[s]
            if wants is None:
                told = told._replace(limit=jnp.full_like(told.limit, SPEED_LIMIT))
            elif self.controller == "policy":
                told = jax.lax.map(lambda lane, s=s: self._told(*lane, stage=s), (told, wants))
            beyond = stages[s + 1] if s < 2 else None
            stages[s] = self._moved(told, s, beyond, uses[1 + s])
        left = jnp.zeros(())
        for s in (2, 1, 0):
            into = stages[s + 1] if s < 2 else None
            stages[s], into, gone = self._gone_on(stages[s], into, STAGES[s])
            if into is None:
                left = gone
            else:
                stages[s + 1] = into
        if self.lane_changing:
            for s, use in zip((0, 1), jax.random.split(uses[4]), strict=True):
                stages[s] = changed(stages[s], use)
        left = jnp.roll(road.left, 1).at[0].set(left)
        return road._replace(stages=tuple(stages), left=left, key=key)

    def _come_in(self, road: Road, key: jax.Array) -> Road:
        """The car that has been due for longest, into a lane drawn at random, if that has room."""
        shares = jnp.asarray([1 - self.penetration, self.penetration])
        due = road.due + road.inflow * shares * self.dt / 3600
        waited = (due - 1) / jnp.maximum(shares, 1e-6)  # up to a factor: since when
        kind = jnp.where(waited[1] > waited[0], 1, 0)
        q, lanes = road.stages[0], self.lanes[0]
        lane = jax.random.randint(key, (), 0, lanes)
        room = jax.vmap(lambda q: queues.may_enter(q, LENGTH, 10.0, self.dt))(q)
        enters = (waited.max() >= 0) & (room & (lane == np.arange(lanes)))
        car = Car(LENGTH, 10.0, kind * NAMES + road.entered % NAMES, SPEED_LIMIT)
        q = jax.vmap(lambda q, when: queues.with_car(q, car, when))(q, enters)
        came = enters.any()
        due = due - came * (kind == np.arange(2))
        stages = (q, *road.stages[1:])
        return road._replace(stages=stages, due=due, entered=road.entered + came)

    def _by_lane(self, action: jax.Array) -> list[Any]:
        """The actions of every stage: (lanes, segments); None where the policy does not steer."""
        parts: list[list[jax.Array]] = [[], [], []]
        begin = 0
        for stage, _, _, n in STEERED:
            size = n * self.lanes[stage]
            parts[stage].append(action[begin : begin + size].reshape(n, -1).T)
            begin += size
        return [jnp.concatenate(p, axis=1) if p else None for p in parts]

    def _told(self, q: Queue, action: jax.Array, *, stage: int) -> Queue:
        """A lane whose controlled cars have heard what the policy says; action: (segments,)."""
        change, steered = jnp.zeros_like(q.x), jnp.zeros_like(q.x, bool)
        for i, (start, end) in enumerate(segments(STEERED, stage)):
            there = (q.x > start) & (q.x <= end)
            change, steered = jnp.where(there, action[i], change), steered | there
        wants = jnp.clip(q.limit + 3.0 * self.dt * change, 0.01, SPEED_LIMIT)
        ours = steered & (q.tag >= NAMES)
        return q._replace(limit=jnp.where(ours, wants, SPEED_LIMIT))

    def _moved(self, q: Queue, stage: int, beyond: Queue | None, key: jax.Array) -> Queue:
        """All lanes of a stage a step later, still in their order."""
        lanes = self.lanes[stage]
        if beyond is None:
            ahead, v_ahead = jnp.full(lanes, FAR), jnp.full(lanes, SPEED)
            zipper = jnp.full(lanes, FAR), jnp.zeros(lanes)
        else:
            into = np.arange(lanes) // 2
            last = jax.vmap(lambda q: queues.ahead_of(q, jnp.asarray(-FAR)))(beyond)
            ahead, v_ahead = last[0][into] + STAGES[stage], last[1][into]
            full = ~jax.vmap(queues.has_room)(beyond)[into]
            ahead = jnp.where(full, jnp.minimum(ahead, STAGES[stage]), ahead)
            v_ahead = jnp.where(full, 0.0, v_ahead)
            zipper = zippered(q, STAGES[stage])
        keys = jax.random.split(key, lanes)
        move = lambda lane: self._lane(*lane)
        return jax.lax.map(move, (q, ahead, v_ahead, *zipper, keys))

    def _lane(
        self,
        q: Queue,
        ahead: jax.Array,
        v_ahead: jax.Array,
        gap: jax.Array,
        v: jax.Array,
        key: jax.Array,
    ) -> Queue:
        """A lane a step later; its first car follows who is ahead and minds a gap to the car that
        goes before it at the end, and that one's speed."""
        see = queues.sight(q, ahead, v_ahead, self.dt)
        first = np.arange(len(q.x)) == 0
        other = wall(see, jnp.maximum(gap, 0.0), first)._replace(v_lead=jnp.where(first, v, 0.0))
        a = queues.human((see, other), key, self.noise, v0=q.limit)
        a = slower(feasible(a, 2.6, BRAKE), see, SPEED_LIMIT)
        return queues.moved(q, functools.reduce(collision_free, (see, other), a), self.dt)

    def _gone_on(self, q: Queue, into: Queue | None, end: float) -> Any:
        """Who is past the end of his lane is in the next one, or has left: the lanes, the next
        ones, and how many left."""
        passed = (q.count > 0) & (q.x[:, 0] > end)
        if into is not None:
            pairs = jax.tree.map(lambda a: a.reshape(-1, 2, *a.shape[1:]), q)
            wants = passed.reshape(-1, 2)
            for side in (0, 1):
                lane = jax.tree.map(lambda a, side=side: a[:, side], pairs)
                cars = jax.vmap(queues.front)(lane)
                cars = cars._replace(x=cars.x - end)
                when = wants[:, side] & jax.vmap(queues.has_room)(into)
                into = jax.vmap(queues.with_car)(into, cars, when)
                wants = wants.at[:, side].set(when)
            passed = wants.ravel()
        q = jax.vmap(lambda q, when: queues.without(q, 0, when))(q, passed)
        return q, into, passed.sum() * 1.0

    def _metrics(self, road: Road) -> dict[str, jax.Array]:
        here = [jax.vmap(queues.here)(q) for q in road.stages]
        cars = jnp.stack([h.sum() for h in here]).sum()
        speeds = [jnp.where(h, q.v, 0.0).sum() for h, q in zip(here, road.stages, strict=True)]
        speed = jnp.stack(speeds).sum()
        return {
            "mean_speed": speed / jnp.maximum(cars, 1),
            "cars": cars,
            "inflow": road.inflow,
            "outflow": self.outflow(road, WINDOW),
            "entered": road.entered,
        }

    # ---- what is drawn

    def _lines(self) -> list[np.ndarray]:
        """(lanes, 2) of each stage: where its lanes begin; all go along x."""
        begins = np.cumsum([0.0, *STAGES])
        across = [4.0 * (np.arange(n) - (n - 1) / 2) for n in self.lanes]
        return [np.stack([np.full(len(y), x), y], axis=1) for x, y in zip(begins, across)]  # noqa: B905

    def vehicles(self, state: State) -> Vehicles:
        """The cars of all stages, which are one road."""
        begins = np.cumsum([0.0, *STAGES])
        parts = []
        for q, begin, lanes in zip(state.carry.stages, begins, self.lanes, strict=False):
            here, lane = jax.vmap(queues.here)(q), jnp.arange(lanes)[:, None]
            ours = q.tag >= NAMES
            parts.append(Vehicles.of(here, q.tag, q.x + begin, q.v, lane=lane, controlled=ours))
        return Vehicles.together(*parts)

    def drawing(self) -> Any:
        """Lanes and cars; those that can be controlled are red."""
        roads = [
            np.array([start, start + np.array([length, 0.0])])
            for starts, length in zip(self._lines(), STAGES, strict=True)
            for start in starts
        ]
        return drawing.model(roads, [False] * DRAWN + [True] * DRAWN)

    def pose(self, state: State) -> jax.Array:
        """Of DRAWN human drivers and as many controlled cars, by name."""
        x, y, here, name = [], [], [], []
        for q, starts in zip(state.carry.stages, self._lines(), strict=True):
            x.append((q.x + starts[:, 0, None]).ravel())
            y.append(jnp.broadcast_to(starts[:, 1, None], q.x.shape).ravel())
            here.append(jax.vmap(queues.here)(q).ravel())
            name.append((q.tag % DRAWN + jnp.where(q.tag >= NAMES, DRAWN, 0)).ravel())
        x, y, here, name = (jnp.concatenate(a) for a in (x, y, here, name))
        return drawing.named_pose(x, y, jnp.zeros_like(x), here, name, names=2 * DRAWN)


def segments(table: Any, stage: int) -> list[tuple[float, float]]:
    """From where to where, m, the segments of a stage reach."""
    cuts = [np.linspace(a, b, n + 1) for s, a, b, n in table if s == stage]
    return [(float(a), float(b)) for cut in cuts for a, b in itertools.pairwise(cut)]


def summary(q: Queue, stage: int) -> jax.Array:
    """(4, segments) of a lane: human drivers / 20, controlled cars / 20, mean speeds of both / 50;
    0 where nobody is."""
    here, ours = queues.here(q), q.tag >= NAMES
    counts, speeds = [], []
    for kind in (here & ~ours, here & ours):
        there = [kind & (q.x > a) & (q.x <= b) for a, b in segments(OBSERVED, stage)]
        count = jnp.stack([t.sum() for t in there])
        total = jnp.stack([jnp.where(t, q.v, 0.0).sum() for t in there])
        counts.append(count / 20.0)
        speeds.append(total / jnp.maximum(count, 1) / 50.0)
    return jnp.stack(counts + speeds)


def zippered(q: Queue, end: float) -> tuple[jax.Array, jax.Array]:
    """(lanes,) gap, m, and speed: what the first car of each lane minds of the first one of the
    lane that joins it.

    Who is nearer to the end goes first. The other has to come to the end after it: it minds it as
    if it drove 7 m before the end, or where it is if that is farther on.
    """
    x = jnp.where(q.count > 0, q.x[:, 0], -FAR)
    other = np.arange(len(x)) ^ 1
    goes_first = (x[other] > x) | ((x[other] == x) & (np.arange(len(x)) % 2 == 1))
    gap = jnp.maximum(x[other] - LENGTH - x, end - LENGTH - queues.MIN_GAP - x)
    return jnp.where(goes_first, gap, FAR), jnp.where(goes_first, q.v[other, 0], 0.0)


def changed(q: Queue, key: jax.Array) -> Queue:
    """The lanes of a stage after one car, drawn at random, has changed to a neighbouring one, if it
    is a human driver, finds 5 m more room ahead there, and fits in (`queues.fits`).

    One car a step is ours, and little; SUMO asks all of them.
    """
    lane_key, side_key, car_key = jax.random.split(key, 3)
    lane = jax.random.randint(lane_key, (), 0, q.x.shape[0])
    to = lane + jnp.where(jax.random.bernoulli(side_key), 1, -1)
    inside = (to >= 0) & (to < q.x.shape[0])
    to = jnp.clip(to, 0, q.x.shape[0] - 1)
    mine, theirs = (jax.tree.map(lambda a, i=i: a[i], q) for i in (lane, to))
    slot = jax.random.randint(car_key, (), 0, jnp.maximum(mine.count, 1))
    one = queues.car(mine, slot)
    gap = jnp.where(slot > 0, mine.x[jnp.maximum(slot - 1, 0)] - LENGTH - one.x, FAR)
    bumper, _ = queues.ahead_of(theirs, one.x)
    likes = (mine.count > 0) & (one.tag < NAMES) & (bumper - one.x > gap + 5.0)
    goes = inside & likes & queues.fits(theirs, one.x, one.v, BRAKE) & queues.has_room(theirs)
    mine, theirs = queues.without(mine, slot, goes), queues.with_car(theirs, one, goes)
    put = lambda a, new, i: jnp.where(goes, a.at[i].set(new), a)
    q = jax.tree.map(lambda a, new: put(a, new, lane), q, mine)
    return jax.tree.map(lambda a, new: put(a, new, to), q, theirs)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bottleneck0(Bottleneck):
    """Bottleneck of 4, 2 and 1 lanes, a tenth of the cars controlled: Flow's benchmark bottleneck0.

    1,500 steps, as its code has it; the paper and a comment there say 1,000.
    """

    name = "bottleneck0"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bottleneck1(Bottleneck):
    """Bottleneck where human drivers change lanes: Flow's benchmark bottleneck1.

    A quarter of the cars controlled and 1,500 steps, as its code has it; the paper says a tenth and
    1,000.
    """

    name = "bottleneck1"
    lane_changing: bool = True
    penetration: float = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bottleneck2(Bottleneck):
    """Bottleneck of 8, 4 and 2 lanes, a tenth of the cars controlled: Flow's benchmark bottleneck2.

    1,500 steps, as its code has it; the paper and a comment there say 1,000.
    """

    name = "bottleneck2"
    scaling: int = 2
