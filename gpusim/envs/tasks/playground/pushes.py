"""Pushes on Go1's trunk and on the hand's cube: when, how strong, in which direction.

After `_maybe_apply_perturbation` of Playground's tasks, from the same random numbers. A push swells
and fades like half a sine. Those of an episode are alike but for their direction.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpusim.envs.tasks.playground.robot import square

WAITS = (1.0, 3.0)  # s between two of Go1's
LASTS = (0.05, 0.2)  # s that one lasts
SPEEDS = (0.0, 3.0)  # m/s, of which it gives a free robot 1 / π
PERIODS = (60, 150)  # steps from the beginning of one of the cube's to the next one's, at most 149
LENGTHS = (1, 100)  # steps that one lasts, at most 99
FASTEST = (3.0, 0.5)  # m/s and rad/s, likewise
LONG_AGO = 100_000  # steps: there was none yet


class Kicks(NamedTuple):
    """Go1's, on the level."""

    wait: jax.Array  # () steps between two
    lasts: jax.Array  # () s
    speed: jax.Array  # () m/s
    since: jax.Array  # () steps since the last one
    made: jax.Array  # () steps of this one, or of the last
    way: jax.Array  # (3,) its direction

    @classmethod
    def drawn(cls, key: jax.Array, dt: float, dtype: Any) -> "Kicks":
        """Of an episode, before the first one; dt: a control step, s."""
        of_wait, of_length, of_speed = jax.random.split(key, 3)
        none = jnp.zeros((), jnp.int32)
        return cls(
            wait=in_steps(jax.random.uniform(of_wait, (), dtype, *WAITS), dt),
            lasts=jax.random.uniform(of_length, (), dtype, *LASTS),
            speed=jax.random.uniform(of_speed, (), dtype, *SPEEDS),
            since=none,
            made=none,
            way=jnp.zeros(3, dtype),
        )

    @property
    def now(self) -> jax.Array:
        """() bool: is it time for one?"""
        return self.since >= self.wait

    def step(self, key: jax.Array, mass: float, dt: float) -> "tuple[Kicks, jax.Array, jax.Array]":
        """After a control step: what remains of the key, and the force (3,) in that step, N, on a
        robot of this mass, kg."""
        size = 0.5 * jnp.sin(jnp.pi * self.made * dt / self.lasts) * mass * self.speed / self.lasts
        force = jnp.where(self.now, size * self.way, 0.0)
        over = self.made >= in_steps(self.lasts, dt)
        kicked = self._replace(since=jnp.where(over, 0, self.since), made=self.made + 1)
        # while it waits a direction is drawn in every step, and kept when the next step is a kick
        later, draw = jax.random.split(key)
        angle = jax.random.uniform(draw, (), self.way.dtype, 0.0, 2 * math.pi)
        way = jnp.stack([jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle)])
        waited = self._replace(since=self.since + 1)
        waited = waited._replace(
            made=jnp.where(waited.now, 0, self.made), way=jnp.where(waited.now, way, self.way)
        )
        after = jax.tree.map(lambda a, b: jnp.where(self.now, a, b), kicked, waited)
        return after, jnp.where(self.now, key, later), force


class Nudges(NamedTuple):
    """The cube's, which turn it too."""

    period: jax.Array  # () steps
    lasts: jax.Array  # () steps
    velocity: jax.Array  # (6,) m/s, rad/s
    steps: jax.Array  # () of the episode
    since: jax.Array  # () steps since one began
    way: jax.Array  # (6,) its direction
    force: jax.Array  # (6,) N, N m: in the last step

    @classmethod
    def drawn(cls, key: jax.Array, dtype: Any) -> "Nudges":
        """Of an episode, before the first one."""
        of_period, of_length, of_speed = jax.random.split(key, 3)
        share = jax.random.uniform(of_speed, (), dtype)
        return cls(
            period=jax.random.randint(of_period, (), *PERIODS),
            lasts=jax.random.randint(of_length, (), *LENGTHS),
            velocity=share * jnp.repeat(jnp.asarray(FASTEST, dtype), 3),
            steps=jnp.zeros((), jnp.int32),
            since=jnp.full((), LONG_AGO, jnp.int32),
            way=jnp.zeros(6, dtype),
            force=jnp.zeros(6, dtype),
        )

    def step(self, key: jax.Array, mass: float, dt: float) -> "Nudges":
        """After a control step, s, with the force in that step on a cube of this mass, kg; the key
        is used, and not used up."""
        begins = (self.steps % self.period == 0) & (self.steps > 0)
        since = jnp.where(begins, 0, self.since)
        drawn = jax.random.normal(key, (6,), self.way.dtype)
        way = jnp.where(begins, drawn / jnp.sqrt(square(drawn)), self.way)
        size = 0.5 * jnp.sin(jnp.pi * since / self.lasts) * mass / (self.lasts * dt)
        return self._replace(
            steps=self.steps + 1,
            since=jnp.minimum(since + 1, LONG_AGO),
            way=way,
            force=size * (since < self.lasts) * self.velocity * way,
        )


def in_steps(seconds: jax.Array, dt: float) -> jax.Array:
    """() int32"""
    return jnp.round(seconds / dt).astype(jnp.int32)
