"""The contract: a world is two pure functions of ONE world, `start` and `transition`.

Learners, evaluation, play, benchmarks and adapters use nothing else of it. A world may be a robot
(`mujoco_task.py`), somebody else's environment (`brax_world.py`) or a ring of cars of fifty lines:
whatever JAX computes. Batches are the compiler's business: `step` is `transition` as a lanes
kernel, and `jax.vmap(world.step)` is one pass over the worlds. The time limit and the restart of
finished worlds are `vec_env.py`'s.
"""

import abc
import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim import lanes

PRIVILEGED = "privileged"
"""The part of a dict of observations that is for the critic alone."""
ALLOWED = "allowed"
"""The part of a dict of observations that is no feature: (choices,), 0 for every choice that may
not be made now. Learners and policies then make another one."""
_ROUNDING = 0.01  # by which pictures, perhaps of 16 bits, may be off


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """One world between two control steps; under `jax.vmap`, a batch of them.

    `carry` is all that the next step depends on, and is replaced whole on a restart: nothing of an
    old episode can survive in a field that somebody forgot (`World.start_after` says what is to).
    The rest is what was seen.
    """

    carry: Any  # physics, memory, numbers and random key of the world, if it has them: a pytree
    obs: Any  # (features,), or a dict of such; what is under "privileged" only the critic sees
    reward: jax.Array  # () of the step just made; (agents,), as (agents, features), for several
    terminated: jax.Array  # () bool: the step just made ended the episode for good
    truncated: jax.Array  # () bool: the step just made ended it for a reason outside the task
    metrics: Mapping[str, jax.Array]  # () each, of the step just made

    @classmethod
    def of(
        cls,
        carry: Any,
        obs: Any,
        *,
        reward: Any = 0.0,
        terminated: Any = False,
        truncated: Any = False,
        metrics: Mapping[str, Any] | None = None,
    ) -> "State":
        """A state from arrays or plain numbers; `start` and `transition` need the same metrics."""
        number = lambda x: jnp.asarray(x, float)
        flag = lambda x: jnp.asarray(x, bool)
        return cls(
            carry=jax.tree.map(jnp.asarray, carry),
            obs=jax.tree.map(jnp.asarray, obs),
            reward=number(reward),
            terminated=flag(terminated),
            truncated=flag(truncated),
            metrics={name: number(x) for name, x in (metrics or {}).items()},
        )

    def replace(self, **changes: Any) -> "State":
        """A copy with the given fields changed."""
        return dataclasses.replace(self, **changes)

    def restarted(self, new: "State") -> "State":
        """This world at a new start: what is carried and seen is the start's, and what the step
        just made brought (reward, flags, metrics) stays."""
        return self.replace(carry=new.carry, obs=new.obs)


@dataclasses.dataclass(frozen=True)
class Box:
    """Continuous actions: `size` floating-point numbers in [-1, 1]."""

    size: int

    def __post_init__(self):
        _require_whole("Box", "size", self.size, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one action."""
        return (self.size,)

    kind: ClassVar = jnp.floating


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One of `n` choices: an integer from 0 to n - 1."""

    n: int

    def __post_init__(self):
        _require_whole("Discrete", "n", self.n, 1)

    shape: ClassVar[tuple[int, ...]] = ()
    kind: ClassVar = jnp.integer


def _require_whole(kind: str, name: str, value: Any, least: int) -> None:
    """Raise ValueError unless the value is a whole number from `least` on."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{kind}: {name} is {value!r}, not a whole number from {least} on")


class Batch(NamedTuple):
    """What steps `num` worlds together; every array has a leading axis over them."""

    reset: Callable[[jax.Array], State]  # starts, from keys (num,)
    step: Callable[[State, jax.Array], State]  # from states and actions (num, ...)
    restart: Callable[[State, jax.Array, jax.Array], State] | None = None
    """New starts, from keys (num,), where a flag (num,) says so; None where `start` does it."""


class World(abc.ABC):
    """One world. Subclasses write `start`, `transition` and the facts; the rest is given.

    Options of a world are the fields of a frozen dataclass (`eq=False`) or the arguments of its
    constructor; they become flags of `gpusim.train`.
    """

    name: str
    """What messages call it; by default the name of the class."""
    action_space: Box | Discrete
    """What an action is, that of one agent."""
    agents: int = 1
    """How many act in a world at once. Of several each part of an observation is (agents,
    features), an action (agents, ...) and the reward (agents,); the episode is common."""
    dt: float = 1.0
    """Length of a control step, s."""
    max_episode_steps: int = 1000
    """The usual time limit, in control steps; `autoreset` applies it."""
    gauges: Mapping[str, str] = {}
    """Metrics that a replay shows, and what it calls them."""
    hosted: bool = False
    """Does it step outside of JAX? Such worlds are stepped together, by `batch`."""
    prepared_starts: int = 0
    """For how many starts `prepare` is done before worlds step, for restarts to choose from; 0: it
    is done at every restart, while the other worlds of a group of lanes wait."""
    commands: Mapping[str, tuple[float, float]] = {}
    """What may be asked of a world while it steps, and between which numbers: see `command`."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    # ---- what a world is: pure functions of one world, not yet compiled

    @abc.abstractmethod
    def start(self, key: jax.Array) -> State:
        """The first state of an episode. All that is random in the episode comes from this key."""

    @abc.abstractmethod
    def transition(self, state: State, action: jax.Array) -> State:
        """The state one control step later. It depends on `state.carry` and the action only."""

    def start_after(self, key: jax.Array, ended: State) -> State:
        """The first state of the episode that follows another one, which ended (or was cut off, as
        its flags say) in this state: `start`, unless a world learns of its own past, such as which
        of its starts are mastered. What is to survive goes from one `carry` to the other here."""
        return self.start(key)

    # ---- a world whose starts are costly also writes these, and `start` is one after the other

    def prepare(self, key: jax.Array) -> Any:
        """The costly part of a start: a robot that comes to rest, traffic that warms up."""
        raise NotImplementedError(f"world {self.name}: has prepared_starts and no prepare")

    def begin_prepared(self, key: jax.Array, prepared: Any) -> State:
        """`start` from what `prepare` has given, perhaps to another episode before this one."""
        raise NotImplementedError(f"world {self.name}: has prepared_starts and no begin_prepared")

    # ---- what a policy sees in pictures

    def picture(self, obs: Any) -> jax.Array | None:
        """The picture (height, width, channels), from 0 to 1, that the policy sees instead of the
        numbers of an observation (features,), of which it is drawn; None: it sees the numbers.

        Learners keep the numbers and draw where they look, so that what is played stays small.
        """
        return None

    @functools.cached_property
    def picture_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels) of what the policy sees; None: it sees numbers. Raises
        WorldError for a picture that is none."""
        if type(self).picture is World.picture:
            return None  # without tracing a start
        obs = jax.eval_shape(self.start, jax.random.key(0)).obs
        if isinstance(obs, Mapping):
            raise WorldError(f"world {self.name}: a picture is drawn of one array, not of a dict")
        found: Any = jax.eval_shape(self.picture, jax.ShapeDtypeStruct(obs.shape[-1:], obs.dtype))
        if found is None:
            return None
        numbers = hasattr(found, "dtype") and jnp.issubdtype(found.dtype, jnp.floating)
        if not numbers or len(found.shape) != 3 or 0 in found.shape:
            raise WorldError(
                f"world {self.name}: picture gives {kind_of(found)}, not floating-point numbers "
                "(height, width, channels), one at least of each"
            )
        return found.shape

    @property
    def picture_colours(self) -> int:
        """How many of the first channels are one picture, the newest, as it is to be shown: 3, red,
        green and blue, or 1, grey."""
        return 3 if self.picture_shape and self.picture_shape[2] == 3 else 1

    def check_pictures(self, obs: jax.Array) -> None:
        """Raise WorldError unless what is drawn of observations (n, features) is from 0 to 1; so
        much is not known from shapes and dtypes."""
        drawn = jax.jit(jax.vmap(self.picture))(obs)
        low, high = float(drawn.min()), float(drawn.max())  # nan if one of them is
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise WorldError(
                f"world {self.name}: picture gives numbers from {low:g} to {high:g}, not from 0 to "
                "1, of an observation that an episode begins with"
            )

    # ---- what a learner may ask

    def mirrored(self, obs: Any, action: Any) -> tuple[Any, Any]:
        """An agent's observation (features,), or a dict of such, and action in a mirror in which
        the task is the same: what left and right limbs have changes places, what points to the side
        changes its sign. No other number changes, and the image's image is what it was."""
        raise NotImplementedError(f"world {self.name} does not say what a mirror shows of it")

    # ---- what can be drawn

    def drawing(self) -> Any:
        """A mujoco.MjModel that `pose` places, for replays; None where there is nothing to draw."""
        return None

    def pose(self, state: State) -> jax.Array:
        """qpos (nq,) of the drawing in this state."""
        raise NotImplementedError(f"world {self.name}: offers a drawing and no pose")

    # ---- what a live view may do, between two steps

    def command(self, state: State, asked: Mapping[str, jax.Array]) -> State:
        """The state in which it has been asked for this: a number () for each of `commands`."""
        raise NotImplementedError(f"world {self.name}: takes commands and offers no command")

    def pushed(self, state: State, change: jax.Array) -> State | None:
        """The state with the velocities (nv,) of the drawing changed by so much; None where that
        cannot be done."""
        return None

    # ---- given

    def reset(self, key: jax.Array) -> State:
        """`start` as a kernel; `jax.vmap` it over keys for many worlds. Raises WorldError for a
        world that breaks the contract, ValueError for what is no random key."""
        kind = getattr(key, "dtype", type(key))
        words = kind in (np.uint32, jnp.uint32) and np.shape(key) != ()
        if not (words or jnp.issubdtype(kind, jax.dtypes.prng_key)):
            raise ValueError(
                f"{self.name}: reset takes a random key, such as jax.random.key(0), not {key!r}"
            )
        if np.shape(key)[: np.ndim(key) - words]:
            raise ValueError(
                f"{self.name}: reset takes one key, not {np.shape(key)[0]}; many worlds start by "
                "jax.vmap(env.reset)(keys)"
            )
        return self._start_kernel(key)

    def step(self, state: State, action: jax.Array) -> State:
        """`transition` as a kernel; `jax.vmap` it over states and actions for many worlds.

        A world whose episode is over keeps on stepping if asked to: restarting is `autoreset`'s
        affair. Raises ValueError for an action that is not one world's.
        """
        if len(np.shape(state.reward)) > len(self.each):
            raise ValueError(
                f"{self.name}: step takes the state of one world, not of {np.shape(state.reward)} "
                f"worlds; write jax.vmap(env.step)(states, actions)"
            )
        return self._step_kernel(state, self.checked(action))

    def checked(self, action: Any, worlds: tuple[int, ...] = ()) -> jax.Array:
        """The action (of so many worlds) as an array; ValueError if it is not what the world takes.

        A cast would hide a mistake: integers meant as numbers in [-1, 1] were once no control.
        """
        action, space = jnp.asarray(action), self.action_space
        shape = (*worlds, *self.action_shape)
        if action.shape == shape and jnp.issubdtype(action.dtype, space.kind):
            return action
        whose = f"{worlds[0]} worlds take" if worlds else "one world takes"
        hint = "" if worlds else "; many worlds are stepped by jax.vmap(env.step)(states, actions)"
        raise ValueError(
            f"{self.name}: {whose} an action of shape {shape} with {space.kind.__name__} numbers, "
            f"not {action.dtype} of shape {action.shape}{hint}"
        )

    def batch(self, num: int) -> Batch:
        """`num` worlds that step together, none of which restarts by itself."""
        return Batch(jax.vmap(self.reset), jax.vmap(self.step))

    @property
    def each(self) -> tuple[int, ...]:
        """The axis over the agents of what each has: (agents,), or () where there is only one."""
        return () if self.agents == 1 else (self.agents,)

    @functools.cached_property
    def observation_size(self) -> int:
        """Numbers in an agent's observation, all parts of it together."""
        obs = jax.eval_shape(self.start, jax.random.key(0)).obs
        return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(obs)) // self.agents

    @property
    def action_size(self) -> int:
        """Numbers in an agent's action."""
        return int(np.prod(self.action_space.shape))

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of an action of all agents together."""
        return (*self.each, *self.action_space.shape)

    @property
    def prepared(self) -> Any:
        """What `prepare` gives for `prepared_starts` keys, which are always the same: arrays with a
        leading axis over them. None without any."""
        if not self.prepared_starts:
            return None
        if self.prepared_starts < 0:
            raise ValueError(
                f"{self.name}: prepared_starts is {self.prepared_starts}, not a number from 0 on"
            )
        precision = jax.dtypes.canonicalize_dtype(float)
        if precision not in self._prepared:
            with jax.ensure_compile_time_eval():  # also where a step is being traced
                keys = jax.random.split(jax.random.key(0), self.prepared_starts)
                found = jax.jit(jax.vmap(self._prepare_kernel))(keys)
                self._prepared[precision] = jax.device_get(found)
        return self._prepared[precision]

    @functools.cached_property
    def _prepared(self) -> dict[Any, Any]:
        return {}

    # Each is made once for a world: two calls of `step` must be the same kernel.
    @functools.cached_property
    def _prepare_kernel(self):
        return lanes.kernel(self.prepare)

    @functools.cached_property
    def _start_kernel(self):
        return lanes.kernel(functools.partial(begun, self))

    @functools.cached_property
    def _step_kernel(self):
        return lanes.kernel(functools.partial(stepped, self))


class WorldError(ValueError):
    """A world that is not what this contract says; the message is one line for who wrote it."""


def begun(world: World, key: jax.Array, prepared: Any = None, ended: State | None = None) -> State:
    """`world.start(key)`, and WorldError unless it gives a State as described. It gets a metric
    `diverged`, unless it has one.

    prepared: `world.prepared`, for a start from one of these. ended: where this world's last
    episode ended, for `start_after`. Checking costs nothing at run time: shapes and dtypes are
    known when the function is traced.
    """
    state: Any
    if prepared is None:
        hook = "start" if ended is None else "start_after"
        state = world.start(key) if ended is None else world.start_after(key, ended)
    elif type(world).start_after is not World.start_after:
        raise WorldError(f"world {world.name}: has prepared_starts, which know no start_after")
    else:
        key, of_which = jax.random.split(key)
        which = jax.random.randint(of_which, (), 0, world.prepared_starts)
        one = jax.tree.map(lambda x: jnp.asarray(x)[which], prepared)
        hook, state = "begin_prepared", world.begin_prepared(key, one)
    _check_state(world.name, hook, state)
    _check_obs(world, state.obs)
    _check_number(world.name, "reward", state.reward, float, world.each)
    for name in ("terminated", "truncated"):
        _check_number(world.name, name, getattr(state, name), bool)
    for name, x in state.metrics.items():
        _check_number(world.name, f"metric {name!r}", x, float)
    state = state.replace(metrics={"diverged": _not_diverged(state), **state.metrics})
    if ended is not None:
        _check_alike(world.name, "a restart", ended, state)
    return state


def stepped(world: World, state: State, action: jax.Array) -> State:
    """`world.transition(state, action)`; WorldError, naming the leaf, unless it leads to a state
    like the one it left.

    A world whose reward or observation is not finite ends here: it terminates with reward,
    observation and metrics 0, but for `diverged`, which is 1. One bad world is not to spoil what is
    learned from thousands.
    """
    after = world.transition(state, action)
    _check_state(world.name, "transition", after)
    if "diverged" not in after.metrics:
        after = after.replace(metrics={"diverged": _not_diverged(after), **after.metrics})
    _check_alike(world.name, "a transition", state, after)
    return sound(after)


def sound(after: State) -> State:
    """The state of a world that a step led to, and its end if something in it is not finite."""
    seen = (after.reward, after.obs)
    bad = ~functools.reduce(operator.and_, (jnp.isfinite(x).all() for x in jax.tree.leaves(seen)))
    obs, reward, metrics = jax.tree.map(
        lambda x: jnp.where(bad, jnp.zeros_like(x), x), (after.obs, after.reward, after.metrics)
    )
    diverged = jnp.where(bad, _not_diverged(after) + 1, metrics["diverged"])
    return after.replace(
        obs=obs,
        reward=reward,
        terminated=after.terminated | bad,
        metrics=metrics | {"diverged": diverged},
    )


def _not_diverged(state: State) -> jax.Array:
    """The metric `diverged` of a world that did not."""
    return jnp.zeros((), state.reward.dtype)


def _check_alike(name: str, what: str, before: State, after: State) -> None:
    """Raise WorldError, naming the first leaf that is another kind of thing after a transition or a
    restart."""
    kinds = []
    for x in (before, after):
        flat, _ = jax.tree_util.tree_flatten_with_path(x)
        path = lambda keys: jax.tree_util.keystr(keys, simple=True, separator=".")
        kinds.append({path(keys): kind_of(leaf) for keys, leaf in flat})
    for leaf in [*kinds[0], *kinds[1]]:
        was, became = (kind.get(leaf, "nothing") for kind in kinds)
        if was != became:
            raise WorldError(
                f"world {name}: {leaf} is {was} before {what} and {became} after it; start, "
                f"start_after and transition must return states alike"
            )


def _check_state(name: str, hook: str, state: Any) -> None:
    """Raise WorldError unless this is a State whose metrics have names."""
    if not isinstance(state, State):
        raise WorldError(f"world {name}: {hook} gives a {type(state).__name__}, not a State")
    if not isinstance(state.metrics, Mapping):
        kind = type(state.metrics).__name__
        raise WorldError(f"world {name}: metrics are a {kind}, not numbers by name")


def _check_obs(world: World, obs: Any) -> None:
    """Raise WorldError unless it is an array (features,), of each agent, or a dict of such."""
    parts = obs if isinstance(obs, Mapping) else {"": obs}
    for name in obs if isinstance(obs, Mapping) else ():
        if not (isinstance(name, str) and name):
            raise WorldError(
                f"world {world.name}: a part of the observation is called {name!r}, not by a name"
            )
    if not parts.keys() - {PRIVILEGED, ALLOWED}:
        raise WorldError(f"world {world.name}: the observation has no part that the policy may see")
    if ALLOWED in parts:
        space = world.action_space
        wanted = (*world.each, space.n) if isinstance(space, Discrete) else None
        if np.shape(parts[ALLOWED]) != wanted:
            raise WorldError(
                f"world {world.name}: the observation {ALLOWED!r} is {kind_of(parts[ALLOWED])}, "
                f"and actions are {space}; it has a number for each of the choices"
            )
    for part, x in parts.items():
        what = f"the observation {part!r}".removesuffix(" ''")
        numbers = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
        if not numbers or x.shape[:-1] != world.each or not x.ndim or not x.shape[-1]:
            wanted = ", ".join(map(str, [*world.each, "features"]))
            wanted = f"({wanted},)" if not world.each else f"({wanted})"
            raise WorldError(
                f"world {world.name}: {what} is {kind_of(x)}, not floating-point numbers {wanted}, "
                "one feature at least"
            )


def _check_number(name: str, what: str, x: Any, kind: Any, shape: tuple[int, ...] = ()) -> None:
    """Raise WorldError unless it is one number, or one flag, or one of each agent."""
    fits = jnp.issubdtype(getattr(x, "dtype", type(x)), jnp.bool_ if kind is bool else jnp.floating)
    if np.shape(x) != shape or not fits:
        wanted = f"{kind.__name__}{list(shape)}" if shape else f"one {kind.__name__}"
        raise WorldError(f"world {name}: {what} is {kind_of(x)}, not {wanted}")


def kind_of(x: Any) -> str:
    """float32[3] of an array, the type of anything else."""
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") else f"a {type(x).__name__}"


def episode_keys(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """From a key: one for all later episodes of a world, and one for the episode that starts now.

    Whoever starts worlds does it so: the episodes of an evaluation are those that training would
    begin with the same key.
    """
    later, now = jax.random.split(key)
    return later, now
