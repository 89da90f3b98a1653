"""Flow's worlds on a ring road: stop-and-go waves arise from nothing, and one car can remove them.

Wu, Kreidieh, Parvate, Vinitsky, Bayen 2017 (arXiv:1710.05465), after the experiment of Sugiyama et
al. 2008: 22 cars on 230 m.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.traffic.loop import (
    SPEED_LIMIT,
    Cars,
    ClosedRoad,
    Loop,
    desired_velocity,
    require_several,
    sight,
)
from gpusim.envs.traffic.options import TINY, within


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ring(ClosedRoad):
    """A ring whose length is drawn for every episode."""

    min_length: int = 220
    """Of the ring, m."""
    max_length: int = 270
    """The longest ring that is drawn, in whole metres; it has the same chance as the others."""
    bunching: float = 50.0
    """How much of the ring is left empty at the start, m."""

    def __post_init__(self):
        super().__post_init__()
        within(self, bunching=(0, math.inf), cars=(2, math.inf))
        if not self.cars * 5 + self.bunching < self.min_length <= self.max_length:
            raise ValueError(
                f"{self.name}: {self.cars} cars of 5 m and {self.bunching} m left empty do not fit "
                f"on a ring of {self.min_length} to {self.max_length} m"
            )

    def draw_length(self, key: jax.Array) -> jax.Array:
        """Whole metres."""
        return jax.random.randint(key, (), self.min_length, self.max_length + 1)

    def places(self, length: jax.Array) -> jax.Array:
        """Evenly, but for the part left empty, which is ahead of the last car."""
        return jnp.arange(self.cars) * (length - self.bunching) / self.cars

    def road(self) -> np.ndarray:
        """The longest ring; shorter ones are drawn as long."""
        turn = np.linspace(0, 2 * np.pi, 61)
        return self.max_length / (2 * np.pi) * np.stack([np.cos(turn), np.sin(turn)], axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WaveAttenuation(Ring):
    """Ring road, everything observed: speeds and places of 22 cars, of which one is controlled.

    Flow's `WaveAttenuationEnv`: 4 mean(v) / 20 - 4 mean |a|, with the accelerations commanded;
    nothing, and the end, on a crash.
    """

    max_episode_steps = 3000
    warmup: int = 750
    prepared_starts: int = 512

    def observation(self, loop: Loop) -> jax.Array:
        """Speeds over the speed limit, places over the length."""
        return jnp.concatenate([loop.cars.v / SPEED_LIMIT, loop.cars.x / loop.length])

    def reward(self, cars: Cars, commands: jax.Array) -> jax.Array:
        """High speeds, little acceleration."""
        return 4 * cars.v.mean() / 20 - 4 * jnp.abs(commands).mean()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WaveAttenuationPO(WaveAttenuation):
    """Ring road, seen by its one controlled car: own speed, speed difference, distance ahead.

    Flow's `WaveAttenuationPOEnv`: [v / 15, (v_lead - v) / 15, ((x_lead - x) mod L) / 270], the
    distance from front to front.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.controlled != 1:
            raise ValueError(f"{self.name}: controlled is {self.controlled}; it sees with one car")

    def observation(self, loop: Loop) -> jax.Array:
        """Of the controlled car."""
        i, see = self.cars - 1, sight(loop, self.dt)
        distance = see.gap[i] + 5.0
        seen = [see.v[i] / 15, (see.v_lead[i] - see.v[i]) / 15, distance / self.max_length]
        return jnp.stack(seen)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Accel(Ring):
    """Ring road, everything observed; the speed of all cars is to be `target_velocity`.

    Flow's `AccelEnv` with the defaults of its parameters, on Flow's default ring of 230 m with 22
    cars. The horizon is ours: Flow's examples have several.
    """

    max_episode_steps = 1500
    min_length: int = 230
    max_length: int = 230
    bunching: float = 0.0
    max_accel: float = 3.0
    target_velocity: float = 10.0
    """Wanted of every car, m/s."""

    def __post_init__(self):
        super().__post_init__()
        within(self, target_velocity=(TINY, math.inf))

    def observation(self, loop: Loop) -> jax.Array:
        """Speeds over the speed limit, places over the length."""
        return jnp.concatenate([loop.cars.v / SPEED_LIMIT, loop.cars.x / loop.length])

    def reward(self, cars: Cars, commands: jax.Array) -> jax.Array:
        """In [0, 1]."""
        return desired_velocity(cars.v, True, self.target_velocity)


class ControlledCars:
    """Of a ring: each controlled car is an agent. No dataclass, nor derived from one, whose
    defaults would stand in for those of the class that it is mixed into."""

    controlled: int

    def __post_init__(self):
        super().__post_init__()  # pyright: ignore[reportAttributeAccessIssue]
        require_several(self, "controlled", self.controlled)

    @property
    def agents(self) -> int:
        """The controlled cars, in the order of the cars."""
        return self.controlled


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MultiAgentWaveAttenuationPO(ControlledCars, WaveAttenuation):
    """Ring road, several controlled cars, each an agent: own speed, speed difference, gap ahead.

    Flow's `MultiAgentWaveAttenuationPOEnv`: [v / 15, (v_lead - v) / 15, gap / 270], the gap from
    bumper to bumper; the reward of `WaveAttenuation` is common to all.
    """

    controlled: int = 3

    def observation(self, loop: Loop) -> jax.Array:
        """Of each controlled car."""
        see = sight(loop, self.dt)
        seen = [see.v / 15, (see.v_lead - see.v) / 15, see.gap / self.max_length]
        return jnp.stack(seen, axis=1)[self.ours]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MultiAgentAccelPO(ControlledCars, Accel):
    """Ring road, several controlled cars, each an agent that sees its neighbours.

    Flow's `MultiAgentAccelPOEnv`: place over length, v / 30, (v_lead - v) / 30, gap over length,
    (v - v_behind) / 30, gap behind over length; the reward of `Accel` is common to all. Flow takes
    the gap ahead from places, which is negative where the road begins anew; ours never is.
    """

    controlled: int = 3
    max_accel: float = 1.0
    target_velocity: float = 20.0

    def observation(self, loop: Loop) -> jax.Array:
        """Of each controlled car."""
        see, length = sight(loop, self.dt), loop.length
        ahead = [loop.cars.x / length, see.v / SPEED_LIMIT, (see.v_lead - see.v) / SPEED_LIMIT]
        behind = [(see.v - see.v_behind) / SPEED_LIMIT, see.gap_behind / length]
        return jnp.stack([*ahead, see.gap / length, *behind], axis=1)[self.ours]
