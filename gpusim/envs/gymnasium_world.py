"""Gymnasium's environments as worlds that step on the host; made by `registry.make`.

What an environment sees is brought into one vector (a choice becomes a one among zeros), a picture
into numbers from 0 to 1, and actions in [-1, 1] into the bounds of its own.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from gpusim.envs.host_world import BYTE, HostWorld, Told
from gpusim.envs.world import Box, Discrete

PICTURE = 32  # rows and columns of bytes that convolutions look at; fewer are numbers
NO_LIMIT = -1  # what gymnasium.make takes for it: the time limit is ours


def make(name: str, **options: Any) -> HostWorld:
    """Gymnasium's environment `name`; the options are its constructor's."""
    label = f"gym:{name}"
    endless = options | {"max_episode_steps": NO_LIMIT, "disable_env_checker": True}
    try:
        env = gymnasium.make(name, **options)
    except ModuleNotFoundError as error:
        raise ValueError(f"{label} needs {error.name}, which is not installed") from error
    except (gymnasium.error.Error, ImportError, TypeError, AssertionError) as error:
        raise ValueError(f"{label} cannot be made: {' '.join(str(error).split())}") from error
    limit = env.spec.max_episode_steps if env.spec else None
    seen, actions = Observations(label, env.observation_space), Actions(label, env.action_space)
    return HostWorld(
        label,
        seen.features,
        actions.space,
        lambda num: Environments(
            [gymnasium.make(name, **endless) for _ in range(num)], seen, actions
        ),
        picture=seen.picture,
        dt=_seconds(env),
        max_episode_steps=limit or HostWorld.max_episode_steps,
        drawing=_model(env),
    )


class Environments:
    """Gymnasium's, one after the other."""

    def __init__(self, envs: list[gymnasium.Env], seen: "Observations", actions: "Actions"):
        self.envs, self.seen, self.actions, num = envs, seen, actions, len(envs)
        model = _model(envs[0])
        self._obs = np.zeros((num, seen.features), np.float32)
        self._pose = np.zeros((num, 0 if model is None else model.nq), np.float32)
        self._ended = np.ones((num, 2), bool)  # terminated, truncated

    def restart(self, seeds: np.ndarray, chosen: np.ndarray) -> Told:
        """Begin episodes where `chosen` says so."""
        for i in np.flatnonzero(chosen).tolist():
            obs, _ = self.envs[i].reset(seed=int(seeds[i]))
            self._see(i, obs)
            self._ended[i] = False
        return self._told(np.zeros(len(self.envs), np.float32))

    def step(self, actions: np.ndarray) -> Told:
        """One control step of those whose episode goes on."""
        reward = np.zeros(len(self.envs), np.float32)
        for i in np.flatnonzero(~self._ended.any(1)).tolist():
            action = self.actions.theirs(actions[i])
            obs, reward[i], *ended, _ = self.envs[i].step(action)
            self._see(i, obs)
            self._ended[i] = ended
        return self._told(reward)

    def _see(self, i: int, obs: Any) -> None:
        self._obs[i] = self.seen.vector(obs)
        if self._pose.shape[1]:
            env: Any = self.envs[i].unwrapped
            self._pose[i] = env.data.qpos

    def _told(self, reward: np.ndarray) -> Told:
        terminated, truncated = self._ended.T
        return Told(
            *(self._obs.copy(), reward, terminated.copy(), truncated.copy(), self._pose.copy())
        )


class Observations:
    """What stands between the observations of a Gymnasium space and our vectors."""

    def __init__(self, label: str, space: spaces.Space):
        """Raises ValueError for a space of which no vector of one length can be made."""
        if not space.is_np_flattenable:
            raise ValueError(f"{label}: observations are {space}, which is no vector of one length")
        self.label, self.space, self.features = label, space, spaces.flatdim(space)
        self._channels = -1  # the axis of a picture that counts its channels
        self._brightest = BYTE  # of a picture's numbers
        self.picture = self._layout()

    def _layout(self) -> tuple[int, int, int] | None:
        """(height, width, channels) if this is a picture: bytes, the channels first or last."""
        space = self.space
        if not (isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) > 1):
            return None
        self._brightest = np.float32(max(space.high.max(), 1))
        shape = space.shape if len(space.shape) > 2 else (*space.shape, 1)
        if len(space.shape) == 3 and shape[0] < min(shape[1:]):
            self._channels = 0
            shape = (*shape[1:], shape[0])
        return shape if len(shape) == 3 and min(shape[:2]) >= PICTURE else None

    def vector(self, obs: Any) -> np.ndarray:
        """(features,) float32 of one observation; a picture's are its rows, from 0 to 1. Stacks of
        grey ones have the newest last in Gymnasium and EnvPool, and first here."""
        flat: Any = spaces.flatten(self.space, obs)
        if np.shape(flat) != (self.features,):  # one number would be taken for all of them
            raise ValueError(
                f"{self.label}: an observation of shape {np.shape(obs)} is not in its "
                f"observation_space {self.space}; reset gives (obs, info)"
            )
        if self.picture is None:
            return flat.astype(np.float32)
        rows = np.moveaxis(flat.reshape(self.space.shape), self._channels, -1).reshape(self.picture)
        return (rows if self.picture[2] == 3 else rows[..., ::-1]).ravel() / self._brightest


class Actions:
    """What stands between our actions and those of a Gymnasium space, of one world or many."""

    def __init__(self, label: str, space: spaces.Space):
        """Raises ValueError for a space that our learners do not have."""
        self.theirs: Callable[[np.ndarray], Any]
        if isinstance(space, spaces.Discrete):
            self.space = Discrete(int(space.n))
            self.theirs = lambda choice: choice + space.start
        elif isinstance(space, spaces.Box) and space.is_bounded():
            self.space = Box(int(np.prod(space.shape)))
            # In 64 bits: the sum of two bounds need not be a number of the space's own type.
            low, high = space.low.astype(float), space.high.astype(float)
            middle, half = low / 2 + high / 2, high / 2 - low / 2
            shape = lambda x: x.reshape((*x.shape[:-1], *space.shape))
            whole = np.rint if np.issubdtype(space.dtype, np.integer) else np.asarray
            self.theirs = lambda x: whole(middle + half * shape(x)).astype(space.dtype)
        else:
            raise ValueError(
                f"{label}: actions are {space}; learners here choose (Discrete) or give numbers "
                "within bounds (a bounded Box)"
            )


def _model(env: gymnasium.Env) -> Any:
    """The mujoco.MjModel of a MuJoCo environment, None of others."""
    model = getattr(env.unwrapped, "model", None)
    is_mujoco = isinstance(model, mujoco.MjModel)  # pyright: ignore[reportAttributeAccessIssue]
    return model if is_mujoco and hasattr(env.unwrapped, "data") else None


def _seconds(env: gymnasium.Env) -> float:
    """Of a control step: MuJoCo environments say so, others how often they would be drawn."""
    dt = getattr(env.unwrapped, "dt", None)
    fps = env.metadata.get("render_fps")
    return float(dt) if isinstance(dt, int | float) else 1 / fps if fps else HostWorld.dt
