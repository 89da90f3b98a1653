"""The Env contract: a task is a few pure functions of one world; batches are the compiler's.

A task says how a world starts (`initial`), what is seen (`observation`), what is rewarded
(`reward`), when it ends (`terminal`) and what has to be remembered for the next step (`remember`).
`Env` adds the physics, and compiles the whole transition into one lanes kernel, so that
`jax.jit(jax.vmap(env.step))` is a single pass over the worlds.

The time limit and the restart of finished worlds are not here: see `autoreset.py`.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import abc
import dataclasses
import functools
import importlib.util
import warnings
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import lanes, physics

# A joint this fast (m/s or rad/s) is a world that has blown up: healthy ones stay under 1e2.
# Terminating it before it overflows keeps one absurd reward out of the learner's statistics.
SPEED_LIMIT = 1e4

M = TypeVar("M")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State(Generic[M]):
    """One world between two control steps; under `jax.vmap`, a batch of them."""

    physics: physics.State  # qpos (nq,), qvel (nv,), qacc_warmstart (nv,)
    memory: Any  # what the task remembers of this step for the next one; a pytree
    obs: jax.Array  # (observation_size,)
    reward: jax.Array  # () of the step just made
    terminated: jax.Array  # () bool: the step just made ended the episode for good
    truncated: jax.Array  # () bool: cut off by a time limit; never set by Env itself
    metrics: M  # NamedTuple of float scalars, fixed by the task
    key: Any  # the world's own random stream; None where it has not been given one yet

    def replace(self, **changes: Any) -> "State[M]":
        """A copy with the given fields changed."""
        return dataclasses.replace(self, **changes)


class World(NamedTuple):
    """What a task may look at: one world after the physics of a control step.

    `derived` is what `mjData` holds after `mj_step`: computed from the positions before the last
    physics step was integrated, hence one physics step older than `state`. Gymnasium's and Brax's
    tasks read the same numbers.
    """

    state: physics.State  # after the last physics step
    derived: physics.Derived  # of the last forward pass: xpos, cvel, subtree_com, ...
    ctrl: jax.Array  # (nu,) what drove the actuators


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Env(abc.ABC, Generic[M]):
    """A task on a MuJoCo model. The dataclass fields are the options of `gpusim.make`."""

    name: ClassVar[str]
    """What `gpusim.make` calls it."""
    asset: ClassVar[str]
    """MJCF file among Brax's assets."""
    max_episode_steps: ClassVar[int] = 1000
    """The usual time limit, in control steps; `autoreset` applies it."""

    n_frames: int
    """Physics steps in a control step."""

    def __post_init__(self):
        if self.n_frames < 1:
            raise ValueError(
                f"environment {self.name!r}: n_frames is {self.n_frames}, not positive"
            )

    # ---- the task: pure functions of one world
    # -------------------------------------------------------------------

    @abc.abstractmethod
    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draw a start: qpos (nq,), qvel (nv,)."""

    @abc.abstractmethod
    def observation(self, world: World) -> jax.Array:
        """What the policy sees: (observation_size,)."""

    @abc.abstractmethod
    def remember(self, world: World) -> Any:
        """What `reward` needs to know of this step at the next one: a pytree of small arrays."""

    @abc.abstractmethod
    def reward(self, memory: Any, world: World) -> tuple[jax.Array, M]:
        """Reward () of the step from the remembered past to `world`, and the metrics.

        The metrics are a NamedTuple of float scalars, one of them called `diverged`: Env fills that
        one in.
        """

    @abc.abstractmethod
    def terminal(self, world: World) -> jax.Array:
        """() bool: has the episode ended, whatever the time?"""

    def control(self, action: jax.Array) -> jax.Array:
        """Actuator inputs (nu,): [-1, 1] mapped onto each actuator's control range."""
        mj = self.model.mj
        low, high = mj.actuator_ctrlrange.T
        limited = mj.actuator_ctrllimited.astype(bool)
        middle = np.where(limited, (low + high) / 2, 0.0).astype(action.dtype)
        half = np.where(limited, (high - low) / 2, 1.0).astype(action.dtype)
        return action * half + middle

    # ---- the machinery: pure, one world, not yet compiled
    # --------------------------------------------------------

    def begin(self, qpos: jax.Array, qvel: jax.Array) -> State[M]:
        """The state of a world that starts here, with nothing rewarded yet and no key."""
        ctrl = jnp.zeros(self.action_size, qpos.dtype)
        start = physics.init(self.model, qpos, qvel)
        world = World(start, self._physics_forward(start, ctrl), ctrl)
        memory = self.remember(world)
        reward, metrics = jax.tree.map(jnp.zeros_like, self.reward(memory, world))
        return State(
            physics=start,
            memory=memory,
            obs=self.observation(world),
            reward=reward,
            terminated=jnp.zeros((), bool),
            truncated=jnp.zeros((), bool),
            metrics=metrics,
            key=None,
        )

    def start(self, key: jax.Array) -> State[M]:
        """A world at a start of its own, with a random stream of its own."""
        stream, start = jax.random.split(key)
        return self.begin(*self.initial(start)).replace(key=stream)

    def transition(self, start: physics.State, memory: Any, action: jax.Array) -> State[M]:
        """One control step: physics, reward, termination, observation. The result has no key.

        A world that blew up (a number that is not finite, or a joint faster than SPEED_LIMIT)
        terminates here with reward 0, observation 0 and metrics 0 but for `diverged`, which is 1;
        its physics state is left as it is, to be seen and to be reset.
        """
        world = self._advance(start, self.control(action))
        terminated = self.terminal(world)
        reward, metrics = self.reward(memory, world)
        diverged = _diverged(world.state)
        seen = (self.remember(world), self.observation(world), reward, metrics)
        memory, obs, reward, metrics = jax.tree.map(
            lambda x: jnp.where(diverged, jnp.zeros_like(x), x), seen
        )
        metrics = metrics._replace(diverged=diverged.astype(reward.dtype))
        return State(
            physics=world.state,
            memory=memory,
            obs=obs,
            reward=reward,
            terminated=terminated | diverged,
            truncated=jnp.zeros((), bool),
            metrics=metrics,
            key=None,
        )

    def _advance(self, start: physics.State, ctrl: jax.Array) -> World:
        """`n_frames` physics steps."""
        return World(*physics.steps(self.model, start, ctrl, self.n_frames), ctrl)

    # ---- what users call
    # -----------------------------------------------------------------------------------------

    def reset(self, key: jax.Array) -> State[M]:
        """Start one world. Pure; `jax.vmap` it over keys for many."""
        return self._start_kernel(key)

    def step(self, state: State[M], action: jax.Array) -> State[M]:
        """One control step of one world with action (action_size,) in [-1, 1]; pure, to be vmapped.

        A terminated world keeps on stepping if asked to: restarting is `autoreset`'s affair.
        """
        return self._step_kernel(state.physics, state.memory, action).replace(key=state.key)

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model."""
        return physics.load(load_asset(self.asset))

    @functools.cached_property
    def init_qpos(self) -> np.ndarray:
        """(nq,) the pose where episodes start: the MJCF's custom numeric of this name, or qpos0."""
        mj = self.model.mj
        index = mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_NUMERIC, "init_qpos")
        return np.array(mj.qpos0 if index < 0 else mj.numeric("init_qpos").data)

    @property
    def dt(self) -> float:
        """Length of a control step, in seconds."""
        return self.n_frames * float(self.model.mj.opt.timestep)

    @functools.cached_property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return jax.eval_shape(self.reset, jax.random.key(0)).obs.shape[-1]

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return self.model.nu

    @property
    def action_low(self) -> np.ndarray:
        """(action_size,) lower bounds of the action."""
        return np.full(self.action_size, -1.0, np.float32)

    @property
    def action_high(self) -> np.ndarray:
        """(action_size,) upper bounds of the action."""
        return np.full(self.action_size, 1.0, np.float32)

    # Each is made once for an environment: two calls of `step` must be the same kernel.
    # jit for its cache alone: the physics is traced once, however often it is used.
    @functools.cached_property
    def _physics_forward(self):
        return jax.jit(functools.partial(physics.forward, self.model))

    @functools.cached_property
    def _start_kernel(self):
        return lanes.kernel(self.start)

    @functools.cached_property
    def _step_kernel(self):
        return lanes.kernel(self.transition)


def _diverged(state: physics.State) -> jax.Array:
    """() bool: is a position or velocity not finite, or a joint absurdly fast?"""
    finite = jnp.isfinite(state.qpos).all() & jnp.isfinite(state.qvel).all()
    return ~(finite & (jnp.abs(state.qvel) < SPEED_LIMIT).all())


def load_asset(name: str) -> mujoco.MjModel:
    """Compile one of Brax's models, with bodies that have no joint fused into their parents.

    Brax fuses them on loading, and its humanoid observes 11 links where the file has 13 bodies.
    Importing Brax itself costs a second and prints warnings, so its files are only looked up.
    """
    spec = importlib.util.find_spec("brax")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"{name}: the models come with brax, which is not installed; pip install brax"
        )
    tree = mujoco.MjSpec.from_file(str(Path(spec.origin).parent / "envs" / "assets" / name))
    tree.compiler.fusestatic = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brax's files use deprecated attributes
        return tree.compile()
