"""Flow's merge: a highway that a ramp joins, whose cars make waves; a share of the cars is
controlled.

Kreidieh, Wu, Bayen 2018, and `flow/benchmarks/merge*.py`. The cars of Flow's merge are SUMO's; ours
follow the IDM with the same numbers, and how a car joins is our own (`may_join`). Roads have no
junctions between them: the highway has 600 m before the ramp and 100 m behind it, the ramp 200 m.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic import drawing, queues
from gpusim.envs.traffic.following import FAR, LENGTH, TOUCH, Sight, wall
from gpusim.envs.traffic.loop import desired_velocity, require_several
from gpusim.envs.traffic.options import TINY, within
from gpusim.envs.traffic.queues import SPEED, Car, Queue
from gpusim.envs.traffic.safety import collision_free, slower
from gpusim.envs.traffic.vehicles import Vehicles
from gpusim.envs.world import Box, State, World

JOIN, END, RAMP = 600.0, 700.0, 200.0
"""Where the ramp joins the highway and where that ends, and the ramp's length, m."""
ALL_ROADS = END + RAMP
"""What gaps in observations are divided by, m; Flow adds 23 m of junctions."""
SLOTS, RAMP_SLOTS = 90, 26
"""Most cars on the highway and on the ramp. More do not come in."""
HUMANS, CONTROLLED = SLOTS + RAMP_SLOTS, SLOTS
"""Names that cars have: a human driver's is below HUMANS, then come those of controlled cars."""
BRAKE = 4.5
"""What drivers can brake with, m/s^2."""
PATIENCE = 5.0
"""Who has waited so long, s, is let in by the first car that can stop."""


class Roads(NamedTuple):
    """What the merge is between two steps."""

    highway: Queue
    ramp: Queue
    due: jax.Array  # (3,) cars that want to come in: human, controlled; by the ramp
    entered: jax.Array  # (2,) int32: cars that have come in so far: human, controlled
    waited: jax.Array  # () since when the ramp's first car stands at its end, s
    left: jax.Array  # () cars that left at the end in the last control step
    key: jax.Array  # of the noise to come


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MergePO(World):
    """Merge: each of the first `num_rl` controlled cars sees itself and its neighbours.

    Flow's `MergePOEnv`: [v / 30, (v_lead - v) / 30, gap / 900, (v - v_behind) / 30, gap_behind /
    900] of each, in the order of coming in; zeros for who is not there; who has nobody ahead sees
    30 m/s at 900 m, who has nobody behind 0 m/s at 900 m. The reward is `desired_velocity` less a
    tenth of what the time headways of the controlled cars lack to 1 s, at least 0. A crash ends the
    episode with 0.
    """

    dt = 1.0
    max_episode_steps = 750
    gauges: ClassVar = {"mean_speed": "mean speed, m/s", "cars": "cars"}

    num_rl: int = 5
    """How many cars the policy drives at most; further ones drive like humans until one leaves."""
    penetration: float = 0.1
    """The share of the cars on the highway that can be controlled."""
    inflow: float = 2000.0
    """Cars an hour on the highway; they enter at 10 m/s."""
    ramp_inflow: float = 100.0
    """Cars an hour by the ramp; they enter at 7.5 m/s."""
    controller: Literal["policy", "human"] = "policy"
    """Who drives the controlled cars; humans ignore the actions."""
    noise: float = 0.2
    """Standard deviation of human accelerations, m/s^2 per root of a second."""
    max_accel: float = 1.5
    """What an action of 1 means, m/s^2."""
    target_velocity: float = 20.0
    """Wanted of every car, m/s."""
    substeps: int = 2
    """Steps of the cars in a control step."""

    def __post_init__(self):
        if not 0 < self.num_rl <= SLOTS:
            raise ValueError(f"{self.name}: num_rl is {self.num_rl}, not 1 to {SLOTS}")
        most = math.inf
        within(self, penetration=(0, 1), substeps=(1, most), target_velocity=(TINY, most))
        within(self, inflow=(0, most), ramp_inflow=(0, most), noise=(0, most), max_accel=(0, most))

    @property
    def action_space(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        """An acceleration for each car that the policy drives, in the order of coming in; an agent
        has one."""
        return Box(self.num_rl // self.agents)

    # ---- the world

    def start(self, key: jax.Array) -> State:
        """Five human drivers at rest on the highway; when the next ones come is drawn."""
        key, use = jax.random.split(key)
        highway, n = queues.empty(SLOTS), 5
        x = jnp.zeros(SLOTS).at[:n].set(540.0 - 120 * jnp.arange(n))
        tag = jnp.zeros(SLOTS).at[:n].set(jnp.arange(n))
        highway = highway._replace(x=x, tag=tag, count=jnp.asarray(n, jnp.int32))
        roads = Roads(
            highway,
            queues.empty(RAMP_SLOTS),
            due=jax.random.uniform(use, (3,)),
            entered=jnp.asarray([n, 0], jnp.int32),
            waited=jnp.zeros(()),
            left=jnp.zeros(()),
            key=key,
        )
        seen, metrics = self.observation(roads), self._metrics(roads)
        return State.of(roads, seen, reward=jnp.zeros(self.each), metrics=metrics)

    def transition(self, state: State, action: jax.Array) -> State:
        """`substeps` steps of all cars."""
        action = action.reshape(-1)  # of all agents
        roads = state.carry._replace(left=jnp.zeros(()))
        roads = jax.lax.fori_loop(0, self.substeps, lambda _, r: self.drive(r, action), roads)
        crash = (self._see(roads).gap < -TOUCH) & queues.here(roads.highway)
        reward = jnp.where(crash.any(), 0.0, self.reward(roads))
        return State.of(
            roads,
            self.observation(roads),
            reward=jnp.broadcast_to(reward, self.each),
            terminated=crash.any(),
            metrics=self._metrics(roads),
        )

    def observation(self, roads: Roads) -> jax.Array:
        """(5 num_rl,); see the class."""
        q, see = roads.highway, self._see(roads)
        first, last = _slots(q) == 0, _slots(q) == q.count - 1
        v_lead = jnp.where(first, SPEED, see.v_lead)
        gap = jnp.where(first, ALL_ROADS, see.gap)
        gap_behind = jnp.where(last, ALL_ROADS, see.gap_behind)
        each = [see.v / SPEED, (v_lead - see.v) / SPEED, gap / ALL_ROADS]
        each += [(see.v - see.v_behind) / SPEED, gap_behind / ALL_ROADS]
        rank = controlled_rank(q)
        chosen = [
            jnp.where(rank == i, jnp.stack(each), 0.0).sum(axis=1) for i in range(self.num_rl)
        ]
        return jnp.concatenate(chosen)

    def reward(self, roads: Roads) -> jax.Array:
        """() without a crash; see the class."""
        q, see = roads.highway, self._see(roads)
        v = jnp.concatenate([q.v, roads.ramp.v])
        here = jnp.concatenate([queues.here(q), queues.here(roads.ramp)])
        follows = (controlled_rank(q) < self.num_rl) & (_slots(q) > 0) & (q.v > 0)
        headway = jnp.maximum(see.gap, 0.0) / jnp.where(follows, q.v, 1.0)
        lack = jnp.where(follows, jnp.minimum(headway - 1.0, 0.0), 0.0).sum()
        return jnp.maximum(desired_velocity(v, here, self.target_velocity) + 0.1 * lack, 0.0)

    # ---- one step of the cars

    def drive(self, roads: Roads, action: jax.Array) -> Roads:
        """Cars come in, choose accelerations, move, join, and leave at the end."""
        dt = self.dt / self.substeps
        roads = self._come_in(roads, dt)
        key, *uses = jax.random.split(roads.key, 3)
        q, ramp = roads.highway, roads.ramp
        sights = self._see(roads), self._let_in(roads)
        sights_ramp = self._see_ramp(roads)
        a = queues.human(sights, uses[0], self.noise)
        if self.controller == "policy":
            rank = controlled_rank(q)
            ours = rank < self.num_rl
            a = jnp.where(ours, self.max_accel * action[jnp.where(ours, rank, 0)], a)
        a = functools.reduce(collision_free, sights, slower(a, sights[0], SPEED))
        a_ramp = queues.human(sights_ramp, uses[1], self.noise)
        a_ramp = functools.reduce(collision_free, sights_ramp, a_ramp)
        stands = (ramp.count > 0) & (ramp.v[0] < 1.0) & (ramp.x[0] > RAMP - 10.0)
        joins = may_join(roads) & (ramp.count > 0) & _must_decide(ramp, BRAKE, dt)
        q, ramp = queues.moved(q, a, dt), queues.moved(ramp, a_ramp, dt)
        front = queues.front(ramp)
        q = queues.with_car(q, front._replace(x=front.x + JOIN - RAMP), joins)
        ramp = queues.without(ramp, 0, joins)
        leaves = (q.count > 0) & (q.x[0] > END)
        q = queues.without(q, 0, leaves)
        waited = jnp.where(stands & ~joins, roads.waited + dt, 0.0)
        left = roads.left + leaves
        return roads._replace(highway=q, ramp=ramp, waited=waited, left=left, key=key)

    def _come_in(self, roads: Roads, dt: float) -> Roads:
        """Who is due and finds room; on the highway, of both kinds, who is due for longer."""
        shares = jnp.asarray([1 - self.penetration, self.penetration])
        due = roads.due + jnp.append(self.inflow * shares, self.ramp_inflow) * dt / 3600
        waited = (due[:2] - 1) / jnp.maximum(shares, 1e-6)  # up to a factor: since when
        kind = jnp.where(waited[1] > waited[0], 1, 0)
        enters = (waited.max() >= 0) & queues.may_enter(roads.highway, LENGTH, 10.0, dt)
        by_ramp = (due[2] >= 1) & queues.may_enter(roads.ramp, LENGTH, 7.5, dt)
        humans, controlled = roads.entered
        name = jnp.where(kind == 1, HUMANS + controlled % CONTROLLED, humans % HUMANS)
        highway = queues.with_car(roads.highway, Car(LENGTH, 10.0, name), enters)
        humans = humans + (enters & (kind == 0))
        ramp = queues.with_car(roads.ramp, Car(LENGTH, 7.5, humans % HUMANS), by_ramp)
        entered = jnp.stack([humans + by_ramp, controlled + (enters & (kind == 1))])
        gone = jnp.stack([enters & (kind == 0), enters & (kind == 1), by_ramp])
        return roads._replace(highway=highway, ramp=ramp, due=due - gone, entered=entered)

    def _see(self, roads: Roads) -> Sight:
        """What the drivers on the highway see."""
        return queues.sight(roads.highway, FAR, SPEED, self.dt / self.substeps)

    def _let_in(self, roads: Roads) -> Sight:
        """Who can stop before the ramp does so for a car that has waited there long enough."""
        q, see = roads.highway, self._see(roads)
        distance = JOIN - LENGTH - queues.MIN_GAP - q.x
        can = distance > q.v**2 / (2 * BRAKE) + q.v * see.dt
        return wall(see, distance, can & (roads.waited >= PATIENCE))

    def _see_ramp(self, roads: Roads) -> tuple[Sight, Sight]:
        """The first one sees the car that it will follow on the highway, or where it waits."""
        q, ramp = roads.highway, roads.ramp
        bumper, v = queues.ahead_of(q, ramp.x[0] + JOIN - RAMP)
        see = queues.sight(ramp, bumper - JOIN + RAMP, v, self.dt / self.substeps)
        waits = ~may_join(roads) & _must_decide(ramp, 3.5, 1.0) & (_slots(ramp) == 0)
        return see, wall(see, RAMP - ramp.x, waits)

    def _metrics(self, roads: Roads) -> dict[str, jax.Array]:
        q, ramp = roads.highway, roads.ramp
        speeds = jnp.where(queues.here(q), q.v, 0.0).sum()
        speeds = speeds + jnp.where(queues.here(ramp), ramp.v, 0.0).sum()
        cars = q.count + ramp.count
        return {"mean_speed": speeds / jnp.maximum(cars, 1), "cars": cars, "outflow": roads.left}

    # ---- what is drawn

    def vehicles(self, state: State) -> Vehicles:
        """The cars of the highway (road 0), and of the ramp."""
        of = lambda q, road: Vehicles.of(
            queues.here(q), q.tag, q.x, q.v, road=jnp.asarray(road), controlled=q.tag >= HUMANS
        )
        roads = state.carry
        return Vehicles.together(of(roads.highway, 0), of(roads.ramp, 1))

    def drawing(self) -> Any:
        """Two roads; cars that can be controlled are red."""
        ramp = np.array([[0.0, 0.0], RAMP * np.array([-(0.5**0.5), -(0.5**0.5)])])[::-1]
        highway = np.array([[-JOIN, 0.0], [END - JOIN, 0.0]])
        return drawing.model([highway, ramp], [False] * HUMANS + [True] * CONTROLLED)

    def pose(self, state: State) -> jax.Array:
        """Of every name that a car can have."""
        q, ramp = state.carry.highway, state.carry.ramp
        back = (ramp.x - RAMP) * 0.5**0.5
        x = jnp.concatenate([q.x - JOIN, back])
        y = jnp.concatenate([jnp.zeros(SLOTS), back])
        heading = jnp.concatenate([jnp.zeros(SLOTS), jnp.full(RAMP_SLOTS, np.pi / 4)])
        here = jnp.concatenate([queues.here(q), queues.here(ramp)])
        return drawing.named_pose(
            x, y, heading, here, jnp.concatenate([q.tag, ramp.tag]), HUMANS + CONTROLLED
        )


def controlled_rank(q: Queue) -> jax.Array:
    """(slots,) int32: which of the controlled cars a car is, counted from the front, which is the
    order of coming in; SLOTS for human drivers and empty slots."""
    ours = queues.here(q) & (q.tag >= HUMANS)
    return jnp.where(ours, jnp.cumsum(ours) - 1, SLOTS)


def may_join(roads: Roads) -> jax.Array:
    """() bool: may the first car of the ramp drive on to the highway?"""
    at, v = roads.ramp.x[0] + JOIN - RAMP, roads.ramp.v[0]
    return queues.fits(roads.highway, at, v, BRAKE) & queues.has_room(roads.highway)


def _must_decide(ramp: Queue, brake: float, time: float) -> jax.Array:
    """() bool: is the ramp's first car so near to its end that braking so hard, after so many
    seconds, it would only just stop?"""
    v = ramp.v[0]
    return RAMP - ramp.x[0] < v**2 / (2 * brake) + v * time + 3.0


def _slots(queue: Queue) -> np.ndarray:
    return np.arange(len(queue.x))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Merge0(MergePO):
    """Merge, a tenth of the cars controlled: Flow's benchmark merge0."""

    name = "merge0"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Merge1(MergePO):
    """Merge, a quarter of the cars controlled: Flow's benchmark merge1."""

    name = "merge1"
    num_rl: int = 13
    penetration: float = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Merge2(MergePO):
    """Merge, a third of the cars controlled: Flow's benchmark merge2."""

    name = "merge2"
    num_rl: int = 17
    penetration: float = 0.333


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MultiAgentMergePO(MergePO):
    """Merge, each controlled car an agent: Flow's `MultiAgentMergePOEnv`.

    What it sees is its part of what `MergePO` sees, zeros while its place is empty; the reward is
    common to all. Flow's agents come and go; ours are places in the order of coming in.
    """

    name = "MultiAgentMergePO"
    max_accel: float = 3.0
    target_velocity: float = 25.0

    def __post_init__(self):
        super().__post_init__()
        require_several(self, "num_rl", self.num_rl)

    @property
    def agents(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The cars that the policy drives."""
        return self.num_rl

    def observation(self, roads: Roads) -> jax.Array:
        """Of each of them."""
        return super().observation(roads).reshape(self.agents, -1)
