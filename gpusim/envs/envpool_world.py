"""EnvPool's environments as worlds that step on the host, in threads; made by `registry.make`.

Seeds are given when a pool is made: each `reset` of all worlds makes one, so that an evaluation is
the same each time, and later episodes are drawn by EnvPool itself.
"""

from collections.abc import Callable
from typing import Any

import envpool  # pyright: ignore[reportMissingImports]
import numpy as np

from gpusim.envs.gymnasium_world import Actions, Observations
from gpusim.envs.host_world import HostWorld, Told
from gpusim.suggest import nearest

SEEDS = 2**31  # EnvPool's seeds are below


def make(name: str, **options: Any) -> HostWorld:
    """EnvPool's environment `name`; the options are those of `envpool.make`."""
    label = f"envpool:{name}"
    known = envpool.list_all_envs()
    if name not in known:
        hint = nearest(name, known)
        raise ValueError(f"unknown environment of envpool {name!r}; {hint}".rstrip("; "))
    try:
        spec = envpool.make_spec(name, **options)
    except TypeError as error:
        raise ValueError(f"{label} cannot be made: {error}") from error
    limit = spec.config.max_episode_steps
    endless = {"max_episode_steps": 2**31 - 1, **options}  # the time limit is ours

    def pool(seeds: np.ndarray) -> Any:
        its = [int(seed) for seed in seeds % SEEDS]
        return envpool.make(name, "gymnasium", num_envs=len(its), seed=its, **endless)

    seen = Observations(label, spec.gymnasium_observation_space)
    actions = Actions(label, spec.gymnasium_action_space)
    return HostWorld(
        label,
        seen.features,
        actions.space,
        lambda num: Pool(num, pool, seen, actions),
        picture=seen.picture,
        max_episode_steps=limit,
    )


class Pool:
    """Environments of one pool."""

    def __init__(
        self,
        num: int,
        make: Callable[[np.ndarray], Any],
        seen: Observations,
        actions: Actions,
    ):
        """make(seeds): a pool."""
        self.make, self.seen, self.actions = make, seen, actions
        self._pool: Any = None
        self._obs = np.zeros((num, seen.features), np.float32)
        self._ended = np.ones((num, 2), bool)  # terminated, truncated

    def restart(self, seeds: np.ndarray, chosen: np.ndarray) -> Told:
        """Begin episodes where `chosen` says so."""
        if chosen.all():
            self._pool = self.make(seeds)
        if chosen.any():
            obs, info = self._pool.reset(np.flatnonzero(chosen).astype(np.int32))
            self._see(info["env_id"], obs)
            self._ended[chosen] = False
        return self._told(np.zeros(len(chosen), np.float32))

    def step(self, actions: np.ndarray) -> Told:
        """One control step of those whose episode goes on."""
        reward = np.zeros(len(actions), np.float32)
        going = np.flatnonzero(~self._ended.any(1)).astype(np.int32)
        if len(going):
            theirs = self.actions.theirs(actions[going])
            obs, its, *ended, info = self._pool.step(theirs, going)
            which = info["env_id"]
            self._see(which, obs)
            reward[which], self._ended[which] = its, np.stack(ended, 1)
        return self._told(reward)

    def _see(self, which: np.ndarray, obs: Any) -> None:
        for i, one in zip(which.tolist(), obs, strict=True):
            self._obs[i] = self.seen.vector(one)

    def _told(self, reward: np.ndarray) -> Told:
        terminated, truncated = self._ended.T
        none = np.zeros((len(reward), 0), np.float32)
        return Told(self._obs.copy(), reward, terminated.copy(), truncated.copy(), none)
