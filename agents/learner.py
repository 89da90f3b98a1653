"""What a learner is to the loop, to play and to the configuration: they know nothing else of it.

A learner NAME is a module `gpusim.agents.NAME` with a `Config` (a LearnerConfig) and a `Learner`.
All of a run is in its state, one pytree stacked over devices; the object holds nothing that
changes.
"""

import abc
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from gpusim import sharding
from gpusim.agents import normalize
from gpusim.agents.actor import agreed, no_fault
from gpusim.agents.config import LearnerConfig
from gpusim.envs.vec_env import VecState, autoreset
from gpusim.envs.world import World
from gpusim.metrics import Metric


class Policy(Protocol):
    """A trained policy by itself: a pytree that acts."""

    def initial(self, batch: tuple[int, ...]) -> Any:
        """What it remembers when episodes begin: a pytree of (*batch, ...), () for nothing."""
        ...

    def act(self, memory: Any, obs: Any, key: jax.Array | None = None) -> tuple[Any, jax.Array]:
        """Memory and actions (*batch, ...) for observations (*batch, ...).

        Without a key the most likely action, with one a random draw.
        """
        ...

    def export(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays by name, and in words and numbers what a program needs to act with them."""
        ...


class Report(NamedTuple):
    """What one call of `train_step` says."""

    metrics: dict[str, jax.Array]  # () each, averages over the call's updates and the devices
    diverged: jax.Array  # () bool: nothing finite was left to learn from


@struct.dataclass
class TrainState:
    """Everything a run is. Stacked over devices; what is of worlds differs between them."""

    params: Any  # of the networks, by name
    optimizer: optax.OptState
    normalizer: normalize.Statistics | None  # of observations; None if they are used as they are
    envs: Any  # VecState of this device's worlds
    fault: Any  # actor.Fault: the last step of any world that led to what is not finite
    memory: Any  # what the policy remembers in each world; () for nothing
    key: jax.Array  # never changes: every draw is derived from it and `updates`
    updates: jax.Array  # () int32, updates made; times steps_per_update is environment steps
    extra: Any = ()  # what else the learner keeps of this device's worlds: a replay, say


def blank_but(state: TrainState, **kept: Any) -> TrainState:
    """The state with None for everything else."""
    every: Any = {field.name: kept.get(field.name) for field in fields(state)}
    return TrainState(**every)


class Learner(abc.ABC):
    """An algorithm for one configuration and one kind of world.

    Subclasses say how parameters begin (`parameters`), what an update is (`update`) and what acts
    (`policy`); they run on one device each, and agree by `sharding.mean`.
    """

    METRICS: ClassVar[Mapping[str, Metric]] = {}
    """How the metrics of `update` are shown."""
    reported: slice = slice(None)
    """Of which of a world's agents returns are reported, as their mean."""
    sees_pictures: bool = False
    """Can it learn from what a world's policy sees in pictures (`World.picture`)?"""

    def __init__(
        self,
        config: LearnerConfig,
        world: World,
        *,
        episode_length: int | None = None,
        devices: sharding.Devices | int | None = None,
        spmd: sharding.Mode = "pmap",
        num_seeds: int = 1,
    ):
        """episode_length: time limit in control steps, by default the world's own. num_seeds: so
        many runs in one program; every array of the state and of reports then has an axis for them,
        behind that of the devices, and `init` takes as many keys."""
        if world.picture_shape and not self.sees_pictures:
            raise ValueError(
                f"{world.name} is seen in pictures, from which ppo and reinforce learn, not "
                f"{type(self).__module__.rpartition('.')[2]}"
            )
        self.devices = sharding.all_devices(devices)
        config.check(len(self.devices))
        self.config: Any = config
        self.world = world
        lengths = [episode_length or world.max_episode_steps, config.training_episode_length]
        worlds = partial(autoreset, world, episode_length=min(n for n in lengths if n))
        self.all_worlds = worlds(config.num_envs)
        alone = len(self.devices) == 1
        self.worlds = self.all_worlds if alone else worlds(config.num_envs // len(self.devices))
        compiled = partial(sharding.spmd, devices=self.devices, mode=spmd)
        self.num_seeds = num_seeds
        each = jax.vmap if num_seeds > 1 else lambda function: function
        self._init = compiled(each(self._init_one))
        self.train_step = compiled(each(self._train_step), donate=(0,), out_axes=(0, None))
        self.rollout = compiled(each(self.play))

    def check_data(self) -> None:
        """Raise ValueError unless what is learned from beside the worlds is there, if any is."""
        return

    # ---- what the host calls; train_step(state) -> (state, Report) consumes its argument, ----
    # ---- rollout(state) is the playing of one update by itself, to be timed

    def init(self, key: jax.Array) -> TrainState:
        """The state of a run that has not started. Raises WorldError for pictures that are none."""
        state = self._init(sharding.replicate(key, self.devices))
        chex.assert_tree_all_finite(state.params)
        if self.world.picture_shape:
            obs = state.envs.world.obs.addressable_shards[0].data
            self.world.check_pictures(obs.reshape(-1, obs.shape[-1])[:16])
        return state

    def begun_with(self, state: TrainState) -> TrainState:
        """A first state whose parameters are now another run's: with what was made of its own."""
        return state

    def blank(self) -> TrainState:
        """Shapes and dtypes of the state, computed without computing."""
        several = (self.num_seeds,) if self.num_seeds > 1 else ()
        keys = jax.ShapeDtypeStruct(several, jax.random.key(0).dtype)
        every = jax.eval_shape(lambda keys: sharding.replicate(keys, self.devices), keys)
        return jax.eval_shape(self._init, every)

    def of_seed(self, state: TrainState, which: int) -> TrainState:
        """The state of one of the seeds, counted from 0, as a learner of one has it."""
        return jax.tree.map(lambda x: x[:, which], state) if self.num_seeds > 1 else state

    def env_steps(self, state: TrainState) -> int:
        """Environment steps made so far by all worlds of a seed together; a Python int never
        overflows."""
        return int(state.updates.reshape(-1)[0]) * self.config.steps_per_update

    @abc.abstractmethod
    def policy(self, state: TrainState) -> Policy:
        """The policy as it is now, on one device."""

    @abc.abstractmethod
    def essentials(self, state: TrainState) -> TrainState:
        """The state with None for all that `policy` does not read."""

    # ---- the algorithm, as one device runs it

    def nothing_remembered(self, actors: int) -> Any:
        """`TrainState.memory` of so many actors whose episodes begin."""
        return ()

    def storage(self, obs: Any, params: Any) -> Any:
        """`TrainState.extra` to begin with, for observations like this one and these parameters."""
        return ()

    @abc.abstractmethod
    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """Parameters to begin with, from two keys and one observation."""

    @abc.abstractmethod
    def optimizer(self) -> optax.GradientTransformation:
        """What turns gradients into steps."""

    @abc.abstractmethod
    def play(self, state: TrainState) -> Any:
        """Let every world make unroll_length control steps."""

    @abc.abstractmethod
    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update, and its metrics; nan where there is nothing to say. `skipped_updates` counts
        the gradient steps that were left out because they were not finite."""

    def gradient_step(
        self,
        params: Any,
        optimizer: optax.OptState,
        loss: Any,
        *arguments: Any,
        stride: jax.Array | float = 1.0,
    ) -> tuple[Any, optax.OptState, dict[str, jax.Array]]:
        """One step down loss(params, *arguments) -> (loss, metrics), averaged over the devices;
        `stride` times as long as the optimizer says."""
        gradients, metrics = jax.grad(loss, has_aux=True)(params, *arguments)
        return self.descend(params, optimizer, sharding.mean(gradients), metrics, stride)

    def descend(
        self,
        params: Any,
        optimizer: optax.OptState,
        gradients: Any,
        metrics: dict[str, jax.Array],
        stride: jax.Array | float = 1.0,
    ) -> tuple[Any, optax.OptState, dict[str, jax.Array]]:
        """One step against gradients, which are the same on all devices.

        A gradient that is not finite changes nothing, gives metrics of nan, and is counted in
        `skipped_updates`: one bad sample must not end a run.
        """
        norm = optax.tree.norm(gradients)
        updates, stepped = self.optimizer().update(gradients, optimizer, params)
        proposed = (optax.apply_updates(params, optax.tree.scale(stride, updates)), stepped)
        finite = jnp.isfinite(norm)
        keep = lambda new, old: jnp.where(finite, new, old)
        params, optimizer = jax.tree.map(keep, proposed, (params, optimizer))
        metrics = {name: jnp.where(finite, x, jnp.nan) for name, x in metrics.items()}
        return params, optimizer, metrics | {"gradient_norm": norm, "skipped_updates": 1.0 - finite}

    def _init_one(self, key: jax.Array) -> TrainState:
        *params_keys, envs_key, run_key = jax.random.split(key, 4)
        num, mine = self.worlds.num_envs, sharding.index() * self.worlds.num_envs
        worlds = self.all_worlds.reset(envs_key)  # so that they do not depend on the devices
        obs = jax.tree.map(lambda x: jnp.zeros(x.shape[1:]), worlds.obs)
        normalizes = self.config.normalize_observations and not self.world.picture_shape
        space = self.world.action_space
        kind = jnp.int32 if jnp.issubdtype(space.kind, jnp.integer) else float
        params = self.parameters(jnp.stack(params_keys), obs)
        return TrainState(
            params=params,
            optimizer=self.optimizer().init(params),
            normalizer=normalize.init(obs) if normalizes else None,
            envs=jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, mine, num), worlds),
            fault=no_fault(worlds, jnp.zeros(self.world.action_shape, kind)),
            memory=self.nothing_remembered(self.worlds.actors),
            key=run_key,
            updates=jnp.zeros((), jnp.int32),
            extra=self.storage(obs, params),
        )

    def _train_step(self, state: TrainState) -> tuple[TrainState, Report]:
        """`updates_per_call` updates, and what happened, averaged over them and the devices."""
        state = replace(state, envs=self.worlds.clear_stats(state.envs))
        update = lambda state, _: self.update(state)
        before = state.fault
        state, metrics = jax.lax.scan(update, state, length=self.config.updates_per_call)
        state = replace(state, fault=agreed(before, state.fault))
        metrics = {name: jnp.nanmean(values) for name, values in metrics.items()}
        metrics = sharding.mean(metrics)
        diverged = metrics["skipped_updates"] >= self.config.gradient_steps
        return state, Report(metrics | self._of_worlds(state.envs), diverged)

    def _of_worlds(self, envs: VecState) -> dict[str, jax.Array]:
        """Statistics over all devices since clear_stats: of episodes that finished (nan if none),
        how often a world was not finite, and the mean of every other metric of the worlds."""
        everything = jax.tree.map(lambda x: x.astype(float), (envs.totals, envs.measured))
        (returns, lengths, count, terminated), measured = sharding.total(everything)
        returns = jnp.atleast_1d(returns)[self.reported].mean()
        made = self.config.steps_per_call
        means = {f"world/{name}": x / made for name, x in measured.items() if name != "diverged"}
        return {
            "episode_return": returns / count,
            "episode_length": lengths / count,
            "episodes": count,
            "terminated": terminated / count,
            "diverged_worlds": measured["diverged"],
            **means,
        }
