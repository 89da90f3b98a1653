"""Worlds as Gymnasium's environments: `Env` is one world, `VectorEnv` many, stepped by one kernel.

    import gpusim.adapters.gymnasium
    envs = gymnasium.make_vec("gpusim/ant", num_envs=1024)

Importing this registers every name of `gpusim.make` as "gpusim/NAME"; without the import, Gymnasium
does it for "gpusim.adapters.gymnasium:gpusim/NAME". Options of the world are keywords. What comes
back is NumPy, writable, and the caller's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

import gpusim
from gpusim import lanes
from gpusim.adapters import SEEDS, checked_number, checked_world
from gpusim.envs import registry
from gpusim.envs.world import Box, Discrete, State, World, begun, episode_keys, stepped

NO_LIMIT = 2**31 - 1


class Running(NamedTuple):
    """One world between two calls."""

    state: State
    stream: jax.Array  # key: what its later episodes are drawn from
    steps: jax.Array  # () int32, counted against the time limit
    over: jax.Array  # () bool: the step just made ended it


class Seen(NamedTuple):
    """What one world's step brought."""

    obs: Any  # after a restart, if the step restarted it
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_obs: Any  # before any restart
    metrics: Mapping[str, jax.Array]


class Worlds:
    """The functions of one world, compiled for any number of them."""

    def __init__(self, world: World, limit: int, mode: AutoresetMode):
        self.world, self.limit = world, limit
        steps = {
            AutoresetMode.SAME_STEP: self._same_step,
            AutoresetMode.NEXT_STEP: self._next_step,
            AutoresetMode.DISABLED: self._step,
        }
        self.begin = jax.jit(jax.vmap(lanes.kernel(self._begin)))
        self.restart = jax.jit(jax.vmap(lanes.kernel(self._restart)))
        self.step = jax.jit(jax.vmap(lanes.kernel(steps[mode])))

    def _begin(self, key: jax.Array, ended: State | None = None) -> Running:
        """A new episode, after one of the same world that ended here."""
        stream, start = episode_keys(key)
        state = begun(self.world, start, ended=ended)
        return Running(state, stream, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def _restart(self, run: Running, chosen: jax.Array) -> Running:
        """A new episode of its stream, if it is chosen."""
        return jax.lax.cond(chosen, self._next, lambda run: run, run)

    def _next(self, run: Running) -> Running:
        return self._begin(run.stream, run.state)

    def _step(self, run: Running, action: jax.Array) -> tuple[Running, Seen]:
        state = stepped(self.world, run.state, action)
        steps = run.steps + 1
        truncated = (state.truncated | (steps >= self.limit)) & ~state.terminated
        over = state.terminated | truncated
        seen = Seen(
            *(state.obs, state.reward, state.terminated, truncated), state.obs, state.metrics
        )
        return Running(state.replace(truncated=truncated), run.stream, steps, over), seen

    def _same_step(self, run: Running, action: jax.Array) -> tuple[Running, Seen]:
        """An episode that ends begins anew within the step."""
        run, seen = self._step(run, action)
        run = self._restart(run, run.over)
        return run, seen._replace(obs=run.state.obs)

    def _next_step(self, run: Running, action: jax.Array) -> tuple[Running, Seen]:
        """The step after an episode's end is a start, without reward; its action is not heeded."""

        def start(run, action):
            new = self._next(run)
            zero, no = jnp.zeros_like(new.state.reward), jnp.zeros((), bool)
            metrics = jax.tree.map(jnp.zeros_like, dict(new.state.metrics))
            return new, Seen(new.state.obs, zero, no, no, new.state.obs, metrics)

        def go_on(run, action):
            run, seen = self._step(run, action)
            return run, seen._replace(metrics=dict(seen.metrics))

        return jax.lax.cond(run.over, start, go_on, run, action)


class VectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` worlds. The time limit is the world's own unless `max_episode_steps` is given.

    autoreset_mode: Gymnasium's "NextStep", "SameStep" (with `final_obs` and `final_info`) or
    "Disabled" (with `reset(options={"reset_mask": ...})`). staggered: the first episodes begin at
    random points of the time limit, so that worlds do not all restart together ever after.
    Gymnasium's wrapper RecordEpisodeStatistics tells of finished episodes.
    """

    def __init__(
        self,
        world: World,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        staggered: bool = False,
    ):
        super().__init__()
        checked_world(world, "Gymnasium")
        if world.hosted:
            raise ValueError(f"{world.name} steps on the host: make it there, without gpusim")
        self.world, self.staggered = world, staggered
        self.num_envs = checked_number("num_envs", num_envs, 1)
        limit = world.max_episode_steps if max_episode_steps is None else max_episode_steps
        self.limit = checked_number("max_episode_steps", limit, 1)
        self.mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.mode, "render_modes": []}
        self.single_observation_space = observation_space(world)
        self.single_action_space = action_space(world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.worlds = Worlds(world, self.limit, self.mode)
        self._run: Any = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start all worlds, or those of options["reset_mask"] (num_envs,) bool.

        seed: one a world, or n for n, n + 1, ...; a world without one goes on with its own random
        stream, or begins one at random.
        """
        mask, seeds = _mask(options, self.num_envs), _seeds(seed, self.num_envs)
        super().reset(seed=seeds[0])
        steps = self.np_random.integers(self.limit, size=self.num_envs, dtype=np.int32)
        if self._run is None:
            drawn = self.np_random.integers(2**32, size=self.num_envs)
            self._run = self.worlds.begin(_keys(drawn))
        elif any(s is None and m for s, m in zip(seeds, mask, strict=True)):
            self._run = self.worlds.restart(self._run, mask)
        given = np.array([s is not None for s in seeds]) & mask
        if given.any():
            fresh = self.worlds.begin(_keys([s or 0 for s in seeds]))
            self._run = _chosen(given, fresh, self._run)
        if self.staggered and "reset_mask" not in (options or {}):
            self._run = self._run._replace(steps=jnp.asarray(steps))
        return _numpy(self._run.state.obs), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of every world."""
        if self._run is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        checked = self.world.checked(actions, (self.num_envs,))
        _check_choices(self.world, actions)
        was_over = np.asarray(self._run.over)
        if self.mode is AutoresetMode.DISABLED and was_over.any():
            raise gymnasium.error.ResetNeeded(
                f"worlds {np.flatnonzero(was_over)[:8].tolist()} have ended; call reset, of some "
                f"worlds with options['reset_mask']"
            )
        self._run, seen = self.worlds.step(self._run, checked)
        seen = _numpy(seen)
        ended = seen.terminated | seen.truncated
        restarted = was_over if self.mode is AutoresetMode.NEXT_STEP else np.zeros_like(ended)
        infos = _infos(seen.metrics, ~restarted)
        if ended.any() and self.mode is AutoresetMode.SAME_STEP:
            infos |= {"final_obs": _objects(seen.final_obs, ended), "_final_obs": ended}
            infos |= {"final_info": _infos(seen.metrics, ended), "_final_info": ended}
        return seen.obs, seen.reward, seen.terminated, seen.truncated, infos


class Env(gymnasium.Env):
    """One world: for a look around and for code that wants one; thousands are what is fast.

    render_mode "rgb_array" draws with MuJoCo's renderer (MUJOCO_GL says how, without a display).
    """

    def __init__(
        self,
        world: World,
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ):
        modes = ["rgb_array"] if world.drawing() is not None else []
        if render_mode not in (None, *modes):
            raise ValueError(f"{world.name}: render_mode {render_mode!r}; there are: {modes}")
        self.metadata = {"render_modes": modes, "render_fps": round(1 / world.dt)}
        self.render_mode = render_mode
        self.observation_space = observation_space(world)
        self.action_space = action_space(world)
        self._envs = VectorEnv(
            world, max_episode_steps=max_episode_steps, autoreset_mode=AutoresetMode.DISABLED
        )
        self._renderer: Any = None

    @property
    def world(self) -> World:
        """What is stepped."""
        return self._envs.world

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new episode."""
        super().reset(seed=seed)
        obs, _ = self._envs.reset(seed=[seed])
        return _first(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step; Gymnasium's RecordEpisodeStatistics sums up episodes, if wanted."""
        self.world.checked(action)
        obs, reward, terminated, truncated, infos = self._envs.step(np.asarray(action)[None])
        info = {k: float(infos[k][0]) for k in infos if f"_{k}" in infos}
        return _first(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray | None:
        """(480, 640, 3) uint8, from outside; None without a render_mode."""
        if self.render_mode is None:
            return None
        if self._envs._run is None:
            raise gymnasium.error.ResetNeeded("call reset before render")
        import mujoco

        model: Any = self.world.drawing()
        if self._renderer is None:
            self._renderer = mujoco.Renderer(model, 480, 640)
        data = mujoco.MjData(model)  # pyright: ignore[reportAttributeAccessIssue]
        data.qpos[:] = np.asarray(self.world.pose(_first(self._envs._run.state)))
        mujoco.mj_forward(model, data)  # pyright: ignore[reportAttributeAccessIssue]
        self._renderer.update_scene(data)
        return self._renderer.render()

    def close(self) -> None:
        """Give the renderer back."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def make(name: str, **options: Any) -> Env:
    """`Env` of a world by its name in `gpusim.make`; options of both."""
    own = {key: options.pop(key) for key in ("max_episode_steps", "render_mode") if key in options}
    return Env(gpusim.make(name, **options), **own)


def _make_endless(name: str, **options: Any) -> Env:
    """For `gymnasium.make`, which has the time limit, and keeps `max_episode_steps` to itself."""
    return make(name, max_episode_steps=NO_LIMIT, **options)


def make_vec(name: str, num_envs: int = 1, **options: Any) -> VectorEnv:
    """`VectorEnv` of a world by its name in `gpusim.make`; options of both."""
    known = ("max_episode_steps", "autoreset_mode", "staggered")
    own = {key: options.pop(key) for key in known if key in options}
    return VectorEnv(gpusim.make(name, **options), num_envs, **own)


def observation_space(world: World) -> spaces.Space:
    """Of one world."""
    obs = jax.eval_shape(world.start, jax.random.key(0)).obs
    box = lambda x: spaces.Box(-np.inf, np.inf, x.shape, np.dtype(x.dtype).type)
    if isinstance(obs, Mapping):
        return spaces.Dict({name: box(x) for name, x in obs.items()})
    return box(obs)


def action_space(world: World) -> spaces.Space:
    """Of one world."""
    space = world.action_space
    if isinstance(space, Box):
        return spaces.Box(-1.0, 1.0, space.shape, np.float32)
    return spaces.Discrete(space.n)


def _mask(options: dict[str, Any] | None, num_envs: int) -> np.ndarray:
    """Which worlds to reset."""
    mask = (options or {}).get("reset_mask", np.ones(num_envs, bool))
    mask = np.asarray(mask)
    if mask.shape != (num_envs,) or mask.dtype != bool:
        raise ValueError(f"reset_mask is {mask.dtype}{list(mask.shape)}, not bool[{num_envs}]")
    return mask


def _seeds(seed: Any, num_envs: int) -> list[int | None]:
    """One for each world."""
    checked = lambda seed: checked_number("seed", seed, 0, SEEDS)
    if seed is None:
        return [None] * num_envs
    if np.ndim(seed) == 0:
        return [checked(checked(seed) + i) for i in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"{len(seed)} seeds for {num_envs} worlds")
    return [None if one is None else checked(one) for one in seed]


def _check_choices(world: World, actions: Any) -> None:
    """ValueError for a choice that is not there, of which the world would make some other."""
    if isinstance(space := world.action_space, Discrete):
        for action in np.unique(actions):
            if not 0 <= action < space.n:
                raise ValueError(f"{world.name}: action {action}; choices are 0 to {space.n - 1}")


def _keys(seeds: Any) -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.asarray(np.asarray(seeds, np.uint32)))


def _chosen(mask: np.ndarray, new: Running, old: Running) -> Running:
    wide = lambda x: mask.reshape(-1, *(1,) * (x.ndim - 1))
    return jax.tree.map(lambda a, b: jnp.where(wide(a), a, b), new, old)


def _numpy(tree: Any) -> Any:
    """Copies, which the caller may change."""
    return jax.tree.map(np.array, tree)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)


def _infos(metrics: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
    """Metrics and, as Gymnasium has it, of which worlds they are."""
    infos: dict[str, Any] = {}
    for name, x in metrics.items():
        infos |= {name: np.where(mask, x, 0), f"_{name}": mask.copy()}
    return infos


def _objects(obs: Any, mask: np.ndarray) -> np.ndarray:
    """An array of observations where the mask is, and None elsewhere."""
    found = np.full(len(mask), None, object)
    for i in np.flatnonzero(mask):
        found[i] = jax.tree.map(lambda x, i=i: x[i], obs)
    return found


for _name in registry.names():
    gymnasium.register(
        f"gpusim/{_name}",
        entry_point=f"{__name__}:_make_endless",
        vector_entry_point=f"{__name__}:make_vec",
        max_episode_steps=registry.world_class(_name).max_episode_steps,
        kwargs={"name": _name},
    )
