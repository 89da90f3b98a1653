"""Worlds as Brax's environments, for Brax's learners; each step is one kernel.

    train(environment=adapters.brax.Env(gpusim.make("hopper")), num_timesteps=..., ...)
    page = adapters.brax.html(env, gpusim.play(run).tracks()[0].qpos)  # Brax's viewer

The other way, Brax's environments here, is `gpusim.make(name, physics="brax-spring")`, and
`lanes.vectorize` makes kernels of them for Brax's own learners.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax import base, envs, kinematics
from brax.io import html as viewer
from brax.io import mjcf
from numpy.typing import ArrayLike

from gpusim.adapters import checked_world
from gpusim.envs.world import Box, State, World


class Env(envs.Env):
    """One world; what it carries is Brax's `pipeline_state`. The time limit is the wrappers'.

    Raises ValueError for a world whose actions are choices, which Brax does not have.
    """

    def __init__(self, world: World):
        checked_world(world, "Brax")
        if not isinstance(world.action_space, Box):
            raise ValueError(f"{world.name}: actions are {world.action_space}; Brax needs a Box")
        self.world = world
        self._metrics = jax.eval_shape(world.reset, jax.random.key(0)).metrics

    def reset(self, rng: jax.Array) -> envs.State:
        """A start. rng: a key, typed or of uint32 (2,)."""
        typed = jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key)
        key = rng if typed else jax.random.wrap_key_data(rng)
        nothing: Any = None
        return self._theirs(envs.State(*[nothing] * 4), self.world.reset(key))

    def step(self, state: envs.State, action: jax.Array) -> envs.State:
        """One control step."""
        no, metrics = jnp.zeros((), bool), {name: state.metrics[name] for name in self._metrics}
        ours = State(state.pipeline_state, state.obs, state.reward, no, no, metrics)
        return self._theirs(state, self.world.step(ours, action))

    def _theirs(self, before: Any, state: State) -> envs.State:
        """Brax's state, which keeps what its wrappers have added."""
        return before.replace(
            pipeline_state=state.carry,
            obs=state.obs,
            reward=state.reward,
            done=(state.terminated | state.truncated).astype(state.reward.dtype),
            metrics=before.metrics | dict(state.metrics),
        )

    @property
    def observation_size(self) -> Any:
        """Numbers in an observation; of a dict of observations, their shapes."""
        obs = jax.eval_shape(self.world.reset, jax.random.key(0)).obs
        return obs.shape[-1] if hasattr(obs, "shape") else jax.tree.map(lambda x: x.shape, obs)

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return self.world.action_size

    @property
    def backend(self) -> str:
        """What computes it."""
        return "gpusim"

    @property
    def dt(self) -> float:
        """Length of a control step, s."""
        return self.world.dt


def html(world: World, poses: ArrayLike, height: int | str = 480) -> str:
    """Positions (T, nq) as the page of Brax's viewer, which fetches its scripts from the network.

    Raises ValueError for a world that has no drawing; Brax refuses models it does not know.
    """
    system, states = trajectory(world, poses)
    return viewer.render(system, states, height=height)


def trajectory(world: World, poses: ArrayLike) -> tuple[base.System, list[base.State]]:
    """The world's drawing and positions (T, nq) of it in Brax's terms; velocities are 0."""
    drawing = world.drawing()
    if drawing is None:
        raise ValueError(f"{world.name} offers no drawing (docs/envs.md says how it could)")
    if np.ndim(poses) != 2 or np.shape(poses)[1] != drawing.nq:
        raise ValueError(f"{world.name}: poses {np.shape(poses)} are not (T, {drawing.nq})")
    system = mjcf.load_model(drawing)
    still = jnp.zeros(system.qd_size())

    @jax.jit
    @jax.vmap
    def placed(q: jax.Array) -> base.State:
        x, xd = kinematics.forward(system, q, still)
        return base.State(q=q, qd=still, x=x, xd=xd, contact=None)

    states = placed(jnp.asarray(poses))
    return system, [jax.tree.map(lambda x, t=t: x[t], states) for t in range(len(states.q))]
