"""Worlds that step on the host, outside of JAX: somebody's Gymnasium environments, EnvPool's.

A compiled program calls back for every control step of all worlds together, which is slow: the
program waits for the host, and the host for the program. What the host keeps is not in the state,
which holds only the number of the step that it belongs to: a state that was stepped already, or
that another process left, is refused.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from gpusim.envs.world import Batch, Box, Discrete, State, World, sound

# It logs, with a traceback, every error that it raises as well.
logging.getLogger("jax._src.callback").disabled = True


BYTE = np.float32(255)
"""The brightest that a byte of a picture can be."""


class Told(NamedTuple):
    """What the host tells of N worlds after a step, or at their starts: NumPy's arrays there, and
    JAX's in the program."""

    obs: Any  # (N, features) float32
    reward: Any  # (N,) float32
    terminated: Any  # (N,) bool
    truncated: Any  # (N,) bool
    pose: Any  # (N, nq) float32 of the drawing; nq is 0 without one


class Copies(Protocol):
    """N environments on the host."""

    def restart(self, seeds: np.ndarray, chosen: np.ndarray) -> Told:
        """Begin an episode where `chosen` (N,) bool says so, drawn with the seed, (N,) uint32; what
        is told of the others does not matter."""
        ...

    def step(self, actions: np.ndarray) -> Told:
        """One control step of all; those that have ended rest, and their reward is 0."""
        ...


class Carried(NamedTuple):
    """What the state of a world knows of the host."""

    clock: jax.Array  # () int32: how often its batch was called
    pose: jax.Array  # (nq,) of the drawing


class HostWorld(World):
    """One of them. The time limit is `autoreset`'s, as everywhere."""

    hosted = True

    def __init__(
        self,
        name: str,
        features: int,
        action_space: Box | Discrete,
        copies: Callable[[int], Copies],
        *,
        dt: float = 1.0,
        max_episode_steps: int = 1000,
        drawing: Any = None,
        picture: tuple[int, int, int] | None = None,
    ):
        """copies(N): N environments of the kind, not begun. picture: (height, width, channels) if
        the features are a picture's numbers, from 0 to 1, row by row."""
        self.name, self.features, self.action_space = name, features, action_space
        self.copies, self.dt, self.max_episode_steps = copies, dt, max_episode_steps
        self._drawing, self._picture = drawing, picture

    def batch(self, num: int) -> Batch:
        """`num` environments of their own, made when they first start."""
        hosted = _Hosted(self, num)
        return Batch(hosted.reset, hosted.step, hosted.restart)

    def start(self, key: jax.Array) -> State:
        """The first state of an episode of one environment; an earlier one's can go no further."""
        return _first(self._alone.reset(key[None]))

    def transition(self, state: State, action: jax.Array) -> State:
        """The state one control step later."""
        return _first(self._alone.step(jax.tree.map(lambda x: x[None], state), action[None]))

    reset, step = start, transition  # nothing to compile

    def picture(self, obs: Any) -> jax.Array | None:
        """The picture that an observation is, if it is one."""
        return None if self._picture is None else obs.reshape(self._picture)

    def drawing(self) -> Any:
        """The robot, where MuJoCo computes it and its model can be had."""
        return self._drawing

    def pose(self, state: State) -> jax.Array:
        """Where it is."""
        return state.carry.pose

    @functools.cached_property
    def _alone(self) -> Batch:
        return self.batch(1)


class _Hosted:
    """A batch: functions that JAX may trace, and what they call on the host."""

    def __init__(self, world: HostWorld, num: int):
        self.world, self.num, self.clock = world, num, 0
        self.copies: Copies | None = None

    def reset(self, keys: jax.Array) -> State:
        """All at new starts."""
        state = self._state(*self._call(self._reset, _seeds(keys)))
        return state.replace(metrics={"diverged": jnp.zeros_like(state.reward)})

    def step(self, state: State, actions: jax.Array) -> State:
        """All one control step later."""
        after = self._state(*self._call(self._step, state.carry.clock, actions))
        after = after.replace(metrics={"diverged": jnp.zeros_like(after.reward)})
        return jax.vmap(sound)(after)

    def restart(self, state: State, keys: jax.Array, chosen: jax.Array) -> State:
        """Those that are chosen at new starts; reward, flags and metrics of all stay."""
        told = self._call(self._restart, state.carry.clock, _seeds(keys), chosen)
        new = self._state(*told)
        return state.restarted(new)

    def _state(self, clock: jax.Array, told: Told) -> State:
        carry = Carried(clock, told.pose)
        return State(carry, told.obs, told.reward, told.terminated, told.truncated, {})

    def _call(self, function: Callable, *arguments: Any) -> tuple[jax.Array, Told]:
        """The order of calls is that of the clocks which each gets from the one before."""
        array = lambda dtype, *shape: jax.ShapeDtypeStruct((self.num, *shape), dtype)
        nq = 0 if self.world.drawing() is None else self.world.drawing().nq
        told = Told(
            *(array(jnp.float32, self.world.features), array(jnp.float32)),
            *(array(bool), array(bool), array(jnp.float32, nq)),
        )
        return io_callback(function, (array(jnp.int32), told), *arguments)

    # ---- on the host

    def _reset(self, seeds: Any) -> tuple[np.ndarray, Told]:
        if self.copies is None:
            self.copies = self.world.copies(self.num)
        return self._told(self.copies.restart(np.asarray(seeds), np.ones(self.num, bool)))

    def _step(self, clock: Any, actions: Any) -> tuple[np.ndarray, Told]:
        return self._told(self._at(clock).step(np.asarray(actions)))

    def _restart(self, clock: Any, seeds: Any, chosen: Any) -> tuple[np.ndarray, Told]:
        copies, chosen = self._at(clock), np.asarray(chosen)
        return self._told(copies.restart(np.asarray(seeds), chosen))

    def _told(self, told: Told) -> tuple[np.ndarray, Told]:
        self.clock += 1
        return np.full(self.num, self.clock, np.int32), told

    def _at(self, clock: Any) -> Copies:
        if self.copies is None or (np.asarray(clock) != self.clock).any():
            raise RuntimeError(
                f"{self.world.name} steps on the host, which cannot go back to an earlier state, "
                "nor to another process's"
            )
        return self.copies


def _seeds(keys: jax.Array) -> jax.Array:
    """(N,) uint32 from keys (N,)."""
    return jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint32))(keys)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)
