"""A task on a MuJoCo model: a World made of a few pure functions, and the physics around them.

A task says how a world starts (`initial`, `mocap`, `vary`, `rest`), what it remembers from step to
step (`first_memory`, `remember`), what drives it (`control`, `disturb`), what is seen
(`observation`), what is rewarded (`rewards`) and when it ends (`terminal`). Everything here is one
world; the whole transition becomes one lanes kernel.

Randomness within an episode is memory like any other: a task keeps a key there and splits it in
`remember`. A task without any carries none.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import abc
import dataclasses
import difflib
import functools
import inspect
import operator
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import physics
from gpusim.envs.filmed import Filmed
from gpusim.envs.world import Box, State, WorldError, kind_of
from gpusim.physics import Some
from gpusim.suggest import unknown

# A joint this fast (m/s or rad/s) is a world that has blown up: healthy ones stay under 1e2.
# Terminating it before it overflows keeps one absurd reward out of the learner's statistics.
SPEED_LIMIT = 1e4

# `initial` draws from the key of an episode itself, as Brax's `reset` does. The keys of the others
# are folded off far from the small numbers that jax.random.split counts with.
_VARY, _MEMORY, _MOCAP = (np.uint32(2**32 - k) for k in (1, 2, 3))


class Carry(NamedTuple):
    """What a world on a MuJoCo model is made of between two steps."""

    physics: physics.State  # qpos (nq,), qvel (nv,), qacc_warmstart (nv,)
    memory: Any  # what the task remembers; a pytree of small arrays
    numbers: Mapping[str, jax.Array | Some]  # of the model, this world's own: see `vary`
    film: Any = ()  # what pictures are drawn of: see `filmed.py`


class Before(NamedTuple):
    """What a task may look at before a control step."""

    model: physics.Model  # with this world's own numbers
    state: physics.State
    memory: Any


class Moment(NamedTuple):
    """What a task may look at after a control step, or at a start.

    `derived` is what `mjData` holds after `mj_step`: computed from the positions before the last
    physics step was integrated, hence one physics step older than `state` (with Runge and Kutta's
    integrator: those of its last stage, near `state`). Gymnasium's and Brax's tasks read the same
    numbers.
    """

    model: physics.Model  # with this world's own numbers
    state: physics.State  # after the last physics step
    derived: physics.Derived  # of the last forward pass: xpos, cvel, subtree_com, ...
    ctrl: jax.Array  # (nu,) what drove the actuators
    action: jax.Array  # (action_size,), of each agent, what was done; zeros at a start

    def sensor(self, name: str) -> jax.Array:
        """(its dimension,) what a sensor of the model measures: of mjData.sensordata."""
        try:
            return physics.sensor(self.model, self.derived, name)
        except ValueError as error:
            raise WorldError(str(error)) from error

    def touching(self, geom: str, other: str | None = None) -> jax.Array:
        """() bool: does a geom touch another one, or anything?"""
        contact = self.derived.contact
        mine, its = (self._is(name) for name in (geom, other))
        both = (mine[:, 0] & its[:, 1]) | (mine[:, 1] & its[:, 0])
        return (contact.touches & both).any()

    def _is(self, geom: str | None) -> jax.Array:
        """(m, 2) which of the geoms of the contacts is this one."""
        found = self.derived.contact.geom
        if geom is None:
            return jnp.ones(found.shape, bool)
        i = mujoco.mj_name2id(self.model.mj, mujoco.mjtObj.mjOBJ_GEOM, geom)
        if i < 0:
            names = (self.model.mj.geom(k).name for k in range(self.model.mj.ngeom))
            what = unknown("geom", geom, filter(None, names))
            raise WorldError(f"model {self.model.name}: {what}")
        return found == i


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MujocoTask(Filmed):
    """A task on a MuJoCo model. The dataclass fields are its options."""

    mjcf: ClassVar[Any]
    """The model: an XML string, a path (relative to the file of the class), or a mujoco.MjModel."""
    engine: ClassVar[Any] = physics
    """What computes it: `load`, `init`, `forward` and `steps` as `gpusim.physics` has them."""
    derive_constants: ClassVar[bool] = True
    """Whether what MuJoCo's compiler derives from a model's numbers follows what `vary` draws."""

    n_frames: int = 1
    """Physics steps in a control step."""

    def __post_init__(self):
        whole = isinstance(self.n_frames, int | np.integer) and self.n_frames >= 1
        self.require(whole, "n_frames", "a whole number from 1 on")
        _check_class(type(self))
        super().__post_init__()

    # ---- the task: pure functions of one world

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draw a start: qpos (nq,), qvel (nv,). By default the model's pose, at rest."""
        return jnp.asarray(self.init_qpos, float), jnp.zeros(self.model.nv)

    def mocap(self, key: jax.Array) -> physics.Mocap | None:
        """Draw where mocap bodies are at a start, for `disturb` to move them; None: where the model
        has them, for good."""
        return None

    def vary(self, key: jax.Array) -> Mapping[str, jax.Array | Some]:
        """Draw this world's own numbers of the model, by their names in mjModel
        (`physics.model.NUMBERS`), or some of a field (`physics.Some`), anew in every episode. What
        MuJoCo's compiler derives from them follows, unless `derive_constants` is False."""
        return {}

    def first_memory(self, key: jax.Array, now: Moment) -> Any:
        """What is remembered at a start; `key` is for whatever is random in it, or later."""
        return ()

    def remember(self, memory: Any, now: Moment) -> Any:
        """What is remembered after a step, from what was before it and what has happened."""
        return memory

    def control(self, before: Before, action: jax.Array) -> jax.Array:
        """Actuator inputs (nu,): [-1, 1] mapped onto each actuator's control range. Several agents
        have an equal number of actuators each, in the order of the model."""
        return onto_control_range(before.model, action.reshape(-1))

    def rest(self, qpos: jax.Array) -> jax.Array:
        """Actuator inputs (nu,) at a start, for what is measured there: zeros."""
        return jnp.zeros(self.model.nu, qpos.dtype)

    def disturb(self, before: Before) -> physics.State:
        """The state a step begins with: a push changes its velocities, or pushes for as long as the
        step lasts (`before.state._replace(xfrc_applied=...)`)."""
        return before.state

    @abc.abstractmethod
    def observation(self, memory: Any, now: Moment) -> Any:
        """What is seen: (features,), or a dict of such; "privileged" is for the critic alone."""

    @abc.abstractmethod
    def rewards(self, past: Any, memory: Any, now: Moment) -> Mapping[str, jax.Array]:
        """The terms () of the step's reward, by name; it is their sum, and `reward_NAME` is a
        metric. `past` was remembered before the step, `memory` after it. Of several agents a term
        may be (agents,), and the metric is the mean."""

    def measure(self, past: Any, memory: Any, now: Moment) -> Mapping[str, jax.Array]:
        """Further metrics () of the step, by name."""
        return {}

    def terminal(self, memory: Any, now: Moment) -> jax.Array:
        """() bool: has the episode ended, whatever the time?"""
        return jnp.zeros((), bool)

    def image(self) -> Any:
        """What a mirror that swaps left and right shows of `observation`: a `Signed`, or a dict of
        such (see `physics/mirror.py`), made with `self.mirror`. Learners ask for it (`--mirror`);
        a task that is not the same in a mirror has none."""
        raise NotImplementedError(f"environment {self.name!r} does not say what a mirror shows")

    # ---- the world

    def start(self, key: jax.Array) -> State:
        """A world at a start drawn with `key`."""
        return self.begin_prepared(key, self.prepare(key))

    def prepare(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`initial`, which must give a pose and velocities."""
        found: Any = self.initial(key)
        sizes = ((self.model.nq,), (self.model.nv,))
        if not isinstance(found, tuple) or tuple(map(jnp.shape, found)) != sizes:
            raise self._wrong("initial", found, "(qpos {}, qvel {})".format(*sizes))
        return found

    def begin_prepared(self, key: jax.Array, prepared: tuple[jax.Array, jax.Array]) -> State:
        """`begin` with this pose and these velocities."""
        return self.begin(key, *prepared)

    def begin(self, key: jax.Array, qpos: jax.Array, qvel: jax.Array) -> State:
        """A world that starts here; `key` draws its numbers and its memory."""
        drawn: Any = self.vary(jax.random.fold_in(key, _VARY))
        if not isinstance(drawn, Mapping):
            raise self._wrong("vary", drawn, "a dict of numbers of the model by name")
        try:
            numbers = dict(drawn)
            if self.derive_constants:
                numbers = physics.with_constants(self.model, numbers)
            model = self.model.replace(**numbers)
        except (ValueError, TypeError) as error:
            raise WorldError(f"environment {self.name!r}: vary: {error}") from error
        at = self.engine.init(model, qpos, qvel)
        at = at._replace(mocap=self._placed(key, at.qpos.dtype))
        ctrl = self.rest(at.qpos)
        derived = self._forward(numbers, at, ctrl)
        now = Moment(model, at, derived, ctrl, jnp.zeros(self.action_shape, at.qpos.dtype))
        memory = self.first_memory(jax.random.fold_in(key, _MEMORY), now)
        reward, metrics = jax.tree.map(jnp.zeros_like, self._judge(memory, memory, now))
        film = self.first_film(at, numbers)
        return State(
            carry=Carry(at, memory, numbers, film),
            obs=self.of_film(film) if self.camera else self.observation(memory, now),
            reward=reward,
            terminated=jnp.zeros((), bool),
            truncated=jnp.zeros((), bool),
            metrics=metrics,
        )

    def transition(self, state: State, action: jax.Array) -> State:
        """One control step: physics, memory, reward, termination, observation.

        A world that blew up (a number that is not finite, or a joint faster than SPEED_LIMIT)
        terminates here with reward 0, observation 0 and metrics 0 but for `diverged`, which is 1;
        what it carries is left as it is, to be seen and to be replaced.
        """
        start, past, numbers, film = state.carry
        model = self.model.replace(**numbers)
        before = Before(model, start, past)
        ctrl: Any = self.control(before, action)
        if np.shape(ctrl) != (model.nu,):
            raise self._wrong("control", ctrl, f"({model.nu},), a number for each actuator")
        begins: Any = self.disturb(before)
        if not isinstance(begins, type(start)):
            raise self._wrong("disturb", begins, "before.state with changes")
        after, derived = self.engine.steps(model, begins, ctrl, self.n_frames)
        after = after._replace(xfrc_applied=start.xfrc_applied)
        now = Moment(model, after, derived, ctrl, action)
        memory = self.remember(past, now)
        diverged = _diverged(after)
        film = self.next_film(film, after)
        seen = self.of_film(film) if self.camera else self.observation(memory, now)
        obs, (reward, metrics) = jax.tree.map(
            lambda x: jnp.where(diverged, jnp.zeros_like(x), x),
            (seen, self._judge(past, memory, now)),
        )
        return State(
            carry=Carry(after, memory, numbers, film),
            obs=obs,
            reward=reward,
            terminated=self._ended(memory, now) | diverged,
            truncated=jnp.zeros((), bool),
            metrics=metrics | {"diverged": diverged.astype(reward.dtype)},
        )

    def _placed(self, key: jax.Array, dtype: Any) -> physics.Mocap | None:
        """`mocap`, which must be of the model's mocap bodies."""
        found: Any = self.mocap(jax.random.fold_in(key, _MOCAP))
        if found is None:
            return None
        count = self.model.mj.nmocap
        sizes = ((count, 3), (count, 4))
        if not isinstance(found, physics.Mocap) or tuple(map(jnp.shape, found)) != sizes:
            raise self._wrong("mocap", found, "physics.Mocap(pos {}, quat {})".format(*sizes))
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), found)

    def _ended(self, memory: Any, now: Moment) -> jax.Array:
        """`terminal`, which must give one flag."""
        found: Any = self.terminal(memory, now)
        if np.shape(found) or not jnp.issubdtype(jnp.result_type(found), jnp.bool_):
            raise self._wrong("terminal", found, "one flag, () bool")
        return jnp.asarray(found)

    def _wrong(self, hook: str, found: Any, wanted: str) -> WorldError:
        """What to say of a hook that gives something else."""
        kinds = map(kind_of, found) if isinstance(found, tuple) else [kind_of(found)]
        return WorldError(
            f"environment {self.name!r}: {hook} gives {' and '.join(kinds)}, not {wanted}"
        )

    def _judge(self, past: Any, memory: Any, now: Moment) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The reward, and the metrics: its terms, and what else is measured."""
        dtype = now.state.qpos.dtype
        terms = _numbers(self, "rewards", self.rewards(past, memory, now), dtype, self.each)
        reward = functools.reduce(operator.add, terms.values(), jnp.zeros(self.each, dtype))
        metrics = {f"reward_{name}": term.mean() for name, term in terms.items()}
        metrics["diverged"] = jnp.zeros((), dtype)
        measured = _numbers(self, "measure", self.measure(past, memory, now), dtype)
        taken = sorted(metrics.keys() & measured.keys())
        if taken:
            raise WorldError(
                f"environment {self.name!r}: measure gives {taken[0]!r}, which is taken"
            )
        metrics |= measured
        if self.model.topology.slots is not None:  # too many contacts for the list: never silent
            metrics["contacts_dropped"] = now.derived.contacts_dropped.astype(reward.dtype)
        return reward, metrics

    def mirrored(self, obs: Any, action: Any) -> tuple[Any, Any]:
        """`image` of an observation, and the motors' of an action."""
        if self.camera:
            raise WorldError(f"environment {self.name!r} is seen through a camera: it has no image")
        image: Any = self.image()
        kinds = type(self).__mro__
        says = lambda hook: next(i for i, kind in enumerate(kinds) if hook in vars(kind))
        for hook in ("observation", "control"):
            if says(hook) < says("image"):
                raise WorldError(
                    f"environment {self.name!r} has {hook} of its own, and image of "
                    f"{kinds[says('image')].__name__}: write one of its own too"
                )
        if type(self).control is MujocoTask.control:
            self._check_ranges()
        if isinstance(obs, Mapping):
            return {name: image[name](x) for name, x in obs.items()}, self.mirror.ctrl(action)
        return image(obs), self.mirror.ctrl(action)

    def _check_ranges(self) -> None:
        """Raises WorldError unless an action's image is that of the controls made of it."""
        model, order = self.model, self.mirror.ctrl
        controls: Any = onto_control_range
        ends = [controls(model, np.full(model.nu, x)) for x in (-1.0, 1.0)]
        ends = [end[: len(order.index)] for end in ends]  # of several agents the first
        middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
        off = np.abs([order(middle) - middle, half[order.index] - half]).max(0) > 0.01 * half
        for i in np.flatnonzero(off):
            names = [model.mj.actuator(k).name or str(k) for k in (i, int(order.index[i]))]
            raise WorldError(
                f"environment {self.name!r}: actuator {names[0]!r} and its mirror image "
                f"{names[1]!r} have control ranges that are no mirror images: an action has none"
            )

    # ---- facts

    @functools.cached_property
    def mirror(self) -> physics.Mirror:
        """What becomes of the model's numbers where left is right. Raises WorldError for a model
        that is not its own mirror image."""
        try:
            return physics.mirror(self.model.mj)
        except ValueError as error:
            raise WorldError(f"environment {self.name!r}: {error}") from None

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model, with the numbers of the file."""
        try:
            return self.engine.load(_source(self.mjcf, type(self)))
        except physics.Unsupported:
            raise
        except ValueError as error:
            text = " ".join(str(error).split())
            raise WorldError(f"environment {self.name!r}: its mjcf: {text}") from error

    @functools.cached_property
    def init_qpos(self) -> np.ndarray:
        """(nq,) the pose where episodes start: the MJCF's custom numeric of this name, or qpos0."""
        mj = self.model.mj
        index = mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_NUMERIC, "init_qpos")
        return np.array(mj.qpos0 if index < 0 else mj.numeric("init_qpos").data)

    @property
    def action_space(self) -> Box:
        """A number in [-1, 1] for each actuator, of which several agents have equally many. A
        `control` of another kind may want another."""
        if self.model.nu % self.agents:
            raise WorldError(
                f"environment {self.name!r}: {self.model.nu} actuators are not shared equally by "
                f"{self.agents} agents"
            )
        return Box(self.model.nu // self.agents)

    @property
    def dt(self) -> float:
        """Length of a control step, s."""
        return self.n_frames * float(self.model.mj.opt.timestep)

    def drawing(self) -> mujoco.MjModel:
        """The robot."""
        return self.model.mj

    def pose(self, state: State) -> jax.Array:
        """Where it is."""
        return state.carry.physics.qpos

    def pushed(self, state: State, change: jax.Array) -> State:
        """The state with other velocities."""
        at = state.carry.physics
        moved = at._replace(qvel=at.qvel + change.astype(at.qvel.dtype))
        return state.replace(carry=state.carry._replace(physics=moved))

    # jit for its cache alone: the physics is traced once, however often a start is.
    @functools.cached_property
    def _forward(self):
        return jax.jit(
            lambda numbers, state, ctrl: self.engine.forward(
                self.model.replace(**numbers), state, ctrl
            )
        )


def onto_control_range(model: physics.Model, action: jax.Array) -> jax.Array:
    """Actuator inputs (nu,): [-1, 1] mapped onto each limited actuator's control range."""
    limited = model.mj.actuator_ctrllimited.astype(bool)
    low, high = model.actuator_ctrlrange[:, 0], model.actuator_ctrlrange[:, 1]
    if isinstance(low, np.ndarray):
        middle, half = np.zeros_like(low), np.ones_like(low)
        low, high = low[limited], high[limited]
        middle[limited], half[limited] = (low + high) / 2, (high - low) / 2
    else:
        middle = jnp.where(limited, (low + high) / 2, 0.0)
        half = jnp.where(limited, (high - low) / 2, 1.0)
    return action * half.astype(action.dtype) + middle.astype(action.dtype)


def _numbers(
    task: MujocoTask, hook: str, found: Any, dtype: Any, each: tuple[int, ...] = ()
) -> dict[str, jax.Array]:
    """What a hook of the task gives by name: one floating-point number each, or `each`.

    Raises WorldError, naming the task and the hook, for anything else.
    """
    where = f"environment {task.name!r}: {hook}"
    if not isinstance(found, Mapping):
        raise WorldError(f"{where} gives a {type(found).__name__}, not a dict of numbers by name")
    for name, x in found.items():
        if np.shape(x) not in ((), each):
            raise WorldError(f"{where} gives {name!r} of shape {np.shape(x)}, not one number")
    return {name: jnp.asarray(x).astype(dtype) for name, x in found.items()}


def _check_class(task: type) -> None:
    """Refuses options that a class says and dataclasses do not see, as it is none itself; warns of
    methods that are nearly named like a hook."""
    options = {f.name for f in dataclasses.fields(task)}
    hooks = {name for name, x in vars(MujocoTask).items() if inspect.isfunction(x)}
    for kind in task.__mro__[: task.__mro__.index(MujocoTask)]:
        if "__dataclass_fields__" not in vars(kind):
            hints = inspect.get_annotations(kind)
            said = {name for name, hint in hints.items() if "ClassVar" not in str(hint)} - {"name"}
            said |= options & vars(kind).keys()
            if said:
                raise WorldError(
                    f"class {kind.__name__} says {', '.join(sorted(said))}, and is no dataclass: "
                    "write @dataclasses.dataclass(frozen=True, kw_only=True, eq=False) above it"
                )
        for name, x in vars(kind).items():
            near = difflib.get_close_matches(name, hooks, 1, 0.85)
            if inspect.isfunction(x) and near and name not in hooks:
                text = f"class {kind.__name__} has a method {name}: did you mean {near[0]}?"
                warnings.warn(text, UserWarning, stacklevel=4)


def _diverged(state: physics.State) -> jax.Array:
    """() bool: is a position or velocity not finite, or a joint absurdly fast?"""
    finite = jnp.isfinite(state.qpos).all() & jnp.isfinite(state.qvel).all()
    return ~(finite & (jnp.abs(state.qvel) < SPEED_LIMIT).all())


def _source(mjcf: Any, task: type) -> Any:
    """What `physics.load` takes; a relative path is looked for beside the file of the class that
    says it, which may be a base of the task's."""
    text = isinstance(mjcf, str) and mjcf.lstrip().startswith("<")
    if text or isinstance(mjcf, mujoco.MjModel) or os.path.isabs(mjcf):
        return mjcf
    says = next((kind for kind in task.__mro__ if "mjcf" in vars(kind)), task)
    try:
        return Path(inspect.getfile(says)).parent / mjcf
    except (TypeError, OSError):  # a class of a notebook
        return mjcf
