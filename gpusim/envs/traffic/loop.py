"""Cars on one closed lane: what the ring and the figure eight have in common.

The order of the cars never changes: car i follows car i + 1, the last one car 0. A step is SUMO's:
drivers choose accelerations from what they see, speeds change, then places by the new speeds.
"""

import abc
import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic import drawing
from gpusim.envs.traffic.controllers import (
    follower_stopper,
    pi_memory,
    pi_saturation,
)
from gpusim.envs.traffic.following import LENGTH, MODELS, TOUCH, Sight, equilibrium_speed
from gpusim.envs.traffic.options import within
from gpusim.envs.traffic.safety import FAIL_SAFES, noisy
from gpusim.envs.traffic.vehicles import Vehicles
from gpusim.envs.world import Box, State, World

SPEED_LIMIT = 30.0
"""Of every road, m/s; observations are divided by it."""


class Cars(NamedTuple):
    """All cars of a loop; car i follows car i + 1."""

    x: jax.Array  # (cars,) place of the front bumper along the road, m, in [0, length)
    v: jax.Array  # (cars,) speed, m/s, never negative
    a: jax.Array  # (cars,) acceleration in the step that led here, as the driver wanted it


class Loop(NamedTuple):
    """What a closed road is between two steps."""

    cars: Cars
    length: jax.Array  # () of this episode's road, m
    pi: Any  # PIMemory of each controlled car, leading axis; () unless that drives them
    key: jax.Array  # of the noise to come
    late: Any = ()  # (steps, cars) accelerations decided on, the oldest first; () if none is late


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClosedRoad(World):
    """Cars on one closed lane, some of them controlled."""

    dt = 0.1
    gauges: ClassVar = {"mean_speed": "mean speed, m/s", "speed_spread": "spread of speeds, m/s"}

    cars: int = 22
    """How many cars."""
    controlled: int = 1
    """How many of them the policy drives: the last one, and others evenly before it."""
    controller: Literal["policy", "human", "follower_stopper", "pi_saturation"] = "policy"
    """Who drives the controlled cars; all but the policy ignore its actions."""
    desired_speed: float | None = None
    """What FollowerStopper aims at, m/s; None: 0.95 times the speed of uniform flow, since who aims
    at that itself has no gap to spare for a wave."""
    human: Literal[
        "idm", "ovm", "linear_ovm", "cfm", "bcm", "lac", "gipps", "bando_ftl"
    ] = "idm"  # fmt: skip
    """How human drivers follow."""
    noise: float = 0.2
    """Standard deviation of their accelerations, m/s^2 per root of a second."""
    reaction_time: float = 0.0
    """Of human drivers, s, whole steps: what they do is what they decided on so long ago."""
    fail_safe: Literal["none", "instantaneous", "safe_velocity", "collision_free"] = (
        "collision_free"
    )
    """What keeps every car from the one ahead; SUMO does so in Flow's worlds."""
    warmup: int = 0
    """Steps with human drivers only before an episode begins."""
    prepared_starts: int = 0
    """How many roads warm up before training; episodes begin with one of them. 0: each begins with
    another, and its neighbours wait for that."""
    max_accel: float = 1.0
    """What an action of 1 means, m/s^2."""

    def __post_init__(self):
        steps = self.reaction_time / self.dt
        if not (0 <= self.reaction_time < 10 and abs(steps - round(steps)) < 1e-6):
            raise ValueError(
                f"{self.name}: reaction_time is {self.reaction_time} s, not whole steps of "
                f"{self.dt} s below 10 s"
            )
        within(self, noise=(0, math.inf), warmup=(0, math.inf), max_accel=(0, math.inf))
        if self.desired_speed is not None:
            within(self, desired_speed=(0, math.inf))
        if not 0 < self.controlled <= self.cars:
            raise ValueError(
                f"{self.name}: controlled is {self.controlled}, not 1 to {self.cars} (cars)"
            )

    @property
    def action_space(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        """An acceleration for each controlled car, in the order of the cars; an agent has one."""
        return Box(self.controlled // self.agents)

    # ---- what a road says

    @abc.abstractmethod
    def draw_length(self, key: jax.Array) -> jax.Array:
        """() of an episode's road, m."""

    @abc.abstractmethod
    def places(self, length: jax.Array) -> jax.Array:
        """(cars,) where they start, m, in ascending order."""

    @abc.abstractmethod
    def observation(self, loop: Loop) -> jax.Array:
        """What the policy sees."""

    @abc.abstractmethod
    def reward(self, cars: Cars, commands: jax.Array) -> jax.Array:
        """() of a step without a crash; commands: (controlled,) accelerations."""

    def look(self, loop: Loop) -> tuple[Sight, ...]:
        """All that every driver reacts to: the car ahead first."""
        return (sight(loop, self.dt),)

    def crashed(self, loop: Loop) -> jax.Array:
        """() bool: do two cars overlap?"""
        return (sight(loop, self.dt).gap < -TOUCH).any()

    def road(self) -> np.ndarray:
        """(points, 2) of the middle of the road in order, m; the last is the first again."""
        raise NotImplementedError

    # ---- the world

    def start(self, key: jax.Array) -> State:
        """Cars at rest, and then as many steps of human driving as `warmup` says."""
        later, key = jax.random.split(key)
        return self.begin_prepared(later, self.prepare(key))

    def prepare(self, key: jax.Array) -> Loop:
        """A loop after `warmup`."""
        length_key, key = jax.random.split(key)
        length = jnp.asarray(self.draw_length(length_key), float)
        zero = jnp.zeros(self.cars)
        pi: Any = ()
        if self.controller == "pi_saturation":
            each = lambda x: jnp.broadcast_to(x, (self.controlled, *x.shape))
            pi = jax.tree.map(each, pi_memory(self.dt))
        steps = round(self.reaction_time / self.dt)
        late = jnp.zeros((steps, self.cars)) if steps else ()
        loop = Loop(Cars(self.places(length), zero, zero), length, pi, key, late)
        human = lambda _, loop: self.drive(loop, None)
        return jax.lax.fori_loop(0, self.warmup, human, loop)

    def begin_prepared(self, key: jax.Array, prepared: Loop) -> State:
        """This loop; `key` is of the noise to come."""
        loop = prepared._replace(key=key)
        nothing = jnp.zeros(self.each)
        return State.of(loop, self.observation(loop), reward=nothing, metrics=self._metrics(loop))

    def transition(self, state: State, action: jax.Array) -> State:
        """One step: reward 0 and the end if two cars meet.

        What is not the policy's does not count as commanded, as in Flow.
        """
        action = action.reshape(-1)  # of all agents
        loop = self.drive(state.carry, action)
        commands = self.max_accel * action * (self.controller == "policy")
        crash = self.crashed(loop)
        reward = jnp.where(crash, 0.0, self.reward(loop.cars, commands))
        return State.of(
            loop,
            self.observation(loop),
            reward=jnp.broadcast_to(reward, self.each),
            terminated=crash,
            metrics=self._metrics(loop),
        )

    def drive(self, loop: Loop, action: jax.Array | None) -> Loop:
        """One step of all cars; without an action human drivers drive the controlled ones too."""
        key, use = jax.random.split(loop.key)
        sights = self.look(loop)
        wish = functools.reduce(jnp.minimum, map(MODELS[self.human], sights))
        wish = noisy(wish, use, self.noise, self.dt)
        pi, late = loop.pi, loop.late
        if isinstance(late, jax.Array):
            late, wish = jnp.concatenate([late[1:], wish[None]]), late[0]
        if action is not None and self.controller != "human":
            pi, commands = self._commands(loop, sights[0], action)
            wish = wish.at[self.ours].set(commands)
        a = functools.reduce(FAIL_SAFES[self.fail_safe], sights, wish)
        v = jnp.maximum(0.0, loop.cars.v + self.dt * a)
        x = (loop.cars.x + self.dt * v) % loop.length
        return Loop(Cars(x, v, wish), loop.length, pi, key, late)

    @property
    def ours(self) -> np.ndarray:
        """(controlled,) which cars are controlled: the last, and others evenly before it."""
        back = np.arange(self.controlled) * self.cars // self.controlled
        return np.sort(self.cars - 1 - back)

    def _commands(self, loop: Loop, see: Sight, action: jax.Array) -> Any:
        """What the controllers remember, and their accelerations (controlled,)."""
        here = jax.tree.map(lambda x: x[self.ours] if jnp.ndim(x) else x, see)
        if self.controller == "follower_stopper":
            desired = self.desired_speed
            if desired is None:
                desired = 0.95 * equilibrium_speed(loop.length / self.cars - LENGTH)
            return loop.pi, follower_stopper(here, desired)
        if self.controller == "pi_saturation":
            axes = jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, here)
            return jax.vmap(pi_saturation, in_axes=(0, axes))(loop.pi, here)
        return loop.pi, self.max_accel * action

    def _metrics(self, loop: Loop) -> dict[str, jax.Array]:
        return {"mean_speed": loop.cars.v.mean(), "speed_spread": loop.cars.v.std()}

    # ---- what is drawn

    def vehicles(self, state: State) -> Vehicles:
        """The cars, in their order."""
        cars, number = state.carry.cars, np.arange(self.cars)
        ours = jnp.asarray(np.isin(number, self.ours))
        return Vehicles.of(jnp.ones(self.cars, bool), number, cars.x, cars.v, controlled=ours)

    def drawing(self) -> Any:
        """Boxes on the road, the controlled cars red."""
        return drawing.model([self.road()], [i in self.ours for i in range(self.cars)])

    def pose(self, state: State) -> jax.Array:
        """Every car on the drawn road, as far along it as it is along its own."""
        points = self.road()
        steps = np.diff(points, axis=0)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*steps.T))])
        cars, length = state.carry.cars, state.carry.length
        s = cars.x / length * along[-1]
        x, y = (jnp.interp(s, along, points[:, i]) for i in (0, 1))
        piece = jnp.clip(
            jnp.searchsorted(jnp.asarray(along), s, side="right") - 1, 0, len(steps) - 1
        )
        heading = jnp.asarray(np.arctan2(steps[:, 1], steps[:, 0]))[piece]
        return drawing.pose(x, y, heading)


def sight(loop: Loop, dt: float) -> Sight:
    """What every driver sees of the cars before and behind."""
    cars = loop.cars
    # Where cars overlap the gap is negative, not a whole round.
    gap = (jnp.roll(cars.x, -1) - cars.x) % loop.length - LENGTH
    return Sight(
        v=cars.v,
        v_lead=jnp.roll(cars.v, -1),
        gap=gap,
        v_behind=jnp.roll(cars.v, 1),
        gap_behind=jnp.roll(gap, 1),
        a=cars.a,
        dt=dt,
    )


def desired_velocity(v: jax.Array, here: jax.Array | bool, target: float) -> jax.Array:
    """Flow's reward of that name: 1 - |v - target| / |target|, of the vectors of all cars' speeds
    (Euclidean norms), at least 0; 0 where no car is here."""
    count = jnp.sum(jnp.ones_like(v) * here)
    most = target * jnp.sqrt(count)
    cost = jnp.sqrt(jnp.sum(jnp.where(here, (v - target) ** 2, 0.0)))
    return jnp.maximum(most - cost, 0.0) / (most + np.finfo(np.float32).eps)


def require_several(world: Any, option: str, agents: int) -> None:
    """Raise ValueError unless a world whose agents are so many has several."""
    if agents < 2:
        raise ValueError(f"{world.name}: {option} is {agents}; it is for two agents or more")
