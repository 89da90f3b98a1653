"""Brax environments whose `reset` and `step` are lane kernels; made by `lanes.vectorize`.

The only file of lanes that imports Brax, and imported by nobody before it is needed.
"""

import functools
from typing import Any

import jax
from brax.envs.base import Env, State, Wrapper

from gpusim.lanes.kernel import kernel


class LaneEnv(Wrapper):
    """A Brax environment of one world, stepped by one kernel under `jax.vmap`.

    Brax's wrappers go on top as always, `VmapWrapper` among them. Brax's domain randomisation works
    too: it sets `unwrapped.sys`, which then is an argument of the kernel. Its numbers are read from
    memory then rather than folded into the code, so that kernel is larger.
    """

    def __init__(self, env: Any):
        if not isinstance(env, Env):
            raise TypeError(
                "lanes.vectorize takes a Brax environment (a brax.envs.Env), not a "
                f"{type(env).__name__}; compile functions of your own with lanes.kernel"
            )
        super().__init__(env)
        self._reset, self._step = kernel(env.reset), kernel(env.step)
        self._reset_with = kernel(self._with_sys(env.reset))
        self._step_with = kernel(self._with_sys(env.step))

    def reset(self, rng: jax.Array) -> State:
        """A start, drawn with the key `rng`."""
        if self._randomised():
            return self._reset_with(self.sys, rng)
        return self._reset(rng)

    def step(self, state: State, action: jax.Array) -> State:
        """One control step."""
        if self._randomised():
            return self._step_with(self.sys, state, action)
        return self._step(state, action)

    @functools.cached_property
    def observation_size(self):
        """Numbers in an observation; of a dict of observations, their shapes."""
        obs = jax.eval_shape(self.env.reset, jax.random.PRNGKey(0)).obs
        return obs.shape[-1] if hasattr(obs, "shape") else jax.tree.map(lambda x: x.shape, obs)

    @property
    def unwrapped(self) -> Env:
        """Itself: whoever unwraps it to step it still wants the kernel."""
        return self

    @property
    def backend(self) -> str:
        """Brax's name of the physics."""
        return self.env.backend

    def _randomised(self) -> bool:
        """Whether somebody has put another system in the place of the environment's own."""
        return "sys" in vars(self) and self.sys is not getattr(self.env.unwrapped, "sys", None)

    def _with_sys(self, method):
        """The method of one world as a function of the system too."""

        def run(sys, *args):
            inner: Any = self.env.unwrapped
            own, inner.sys = inner.sys, sys
            try:
                return method(*args)
            finally:
                inner.sys = own

        return run
