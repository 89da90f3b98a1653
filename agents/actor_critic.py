"""A policy that draws and a value network on observations that are normalised as they come: what
PPO and REINFORCE share. Samples are the last axis throughout, see `actor.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gpusim import sharding
from gpusim.agents import networks, normalize, rewards, team
from gpusim.agents.actor import rollout
from gpusim.agents.config import CONVOLUTIONS, ActorCriticConfig
from gpusim.agents.distributions import DISTRIBUTIONS
from gpusim.agents.learner import Learner, TrainState, blank_but
from gpusim.agents.policy import NetworkPolicy
from gpusim.agents.team import Team
from gpusim.envs.world import Box, Discrete, World
from gpusim.metrics import Metric


class Decision(NamedTuple):
    """What the policy did in all worlds."""

    action: jax.Array  # (actions, worlds) in [-1, 1], or the choice (worlds,)
    raw: jax.Array  # (actions, worlds) before clipping or squashing; the choice (1, worlds)
    log_prob: jax.Array  # (worlds,)
    value: jax.Array  # (worlds,) of what was seen
    memory: Any  # that of the value network, this step included


class Trajectory(NamedTuple):
    """What `unroll_length` control steps of all worlds of a device brought, (T, ..., worlds)."""

    obs: Any  # (T, features, worlds) of each part: normalised, before the step
    action: jax.Array  # (T, actions, worlds) raw: before clipping or squashing
    log_prob: jax.Array  # (T, worlds) of action, when it was drawn
    reward: jax.Array  # (T, worlds) unscaled
    terminated: jax.Array  # (T, worlds) bool
    truncated: jax.Array  # (T, worlds) bool
    value: jax.Array  # (T, worlds) of obs
    next_value: jax.Array  # (T, worlds) of where the step led, before any restart


class ActorCritic(Learner):
    """A learner of both; subclasses write `update`."""

    sees_pictures = True
    METRICS: ClassVar[Mapping[str, Metric]] = {
        "policy_loss": Metric("Policy loss", "policy loss", ".4f"),
        "value_loss": Metric("Value loss", "value loss"),
        "entropy": Metric("Entropy (nats)", "entropy", ".3f"),
        "skipped_updates": Metric("Gradient steps left out, not being finite, of an update"),
    }

    def __init__(self, config: ActorCriticConfig, world: World, **options: Any):
        space = world.action_space
        if isinstance(space, Box):
            if space.size < 1:
                raise ValueError(f"{world.name} has no actuators: there is nothing to learn")
            self.outputs, self.kind = space.size, config.distribution
            self.policy_network: Any = networks.Policy(
                config.policy_hidden,
                space.size,
                config.activation,
                config.initial_std,
                config.state_std,
            )
        elif isinstance(space, Discrete):
            self.outputs, self.kind = space.n, "choice"
            self.policy_network = networks.Chooser(config.policy_hidden, space.n, config.activation)
        else:
            raise ValueError(f"{world.name}: actions are {space}, neither a Box nor Discrete")
        self.distribution = DISTRIBUTIONS[self.kind]
        self.value_network: Any = networks.Value(config.value_hidden, config.activation)
        self.eyes = _eyes(config, world)
        self.team = Team.of(config, world)
        if config.policies:
            self.policy_network = networks.Several(self.policy_network, config.policies)
            self.value_network = networks.Several(self.value_network, config.policies)
        if config.memory:
            remembering = networks.Remembering
            self.policy_network = remembering(self.policy_network, config.memory, False)
            self.value_network = remembering(self.value_network, config.memory, True)
        super().__init__(config, world, **options)
        self.reported = slice(1) if config.opponents else slice(None)
        self.num_learning = self.worlds.num_envs if config.opponents else self.worlds.actors

    def policy(self, state: TrainState) -> NetworkPolicy:
        """The policy as it is now, on one device."""
        params, normalizer = sharding.first((state.params, state.normalizer))
        network = self.policy_network
        return NetworkPolicy(
            params["policy"], normalizer, network, self.kind, params.get("eyes"), self.eyes
        )

    def essentials(self, state: TrainState) -> TrainState:
        """The policy's parameters and the observation statistics."""
        only = {name: x for name, x in state.params.items() if name != "value"}
        return blank_but(state, params=only, normalizer=state.normalizer)

    def parameters(self, keys: jax.Array, obs: Any) -> Any:
        """Parameters of both networks, and of the eyes if there are pictures."""
        memory = (jnp.zeros(self.config.memory),) if self.config.memory else ()
        obs = self.team.seen_by_one(obs)
        eyes = {}
        if self.eyes is not None:
            eyes = {"eyes": self.eyes.init(jax.random.fold_in(keys[0], 1), obs)}
            obs = self.look(eyes, obs)
        return eyes | {
            "policy": self.policy_network.init(keys[0], *memory, obs),
            "value": self.value_network.init(keys[1], *memory, obs),
        }

    def look(self, params: Any, obs: Any) -> Any:
        """What both networks are given of observations (features, *samples): if these are seen in
        pictures, what the eyes find there, (numbers, *samples)."""
        return obs if self.eyes is None else self.eyes.apply(params["eyes"], obs)

    def nothing_remembered(self, actors: int) -> Any:
        """(memory, actors) zeros of either network; () if they do not remember."""
        if not self.config.memory:
            return ()
        return {name: jnp.zeros((self.config.memory, actors)) for name in ("policy", "value")}

    def seen(self, name: str, params: Any, memory: Any, obs: Any) -> tuple[Any, Any]:
        """What network `name` remembers and says once it sees obs (features, worlds), as `look`
        gives them."""
        network = self._network(name)
        if not self.config.memory:
            return memory, network.apply(params[name], obs)
        after, said = network.apply(params[name], memory[name], obs)
        return memory | {name: after}, said

    def said(self, name: str, params: Any, memory: Any, obs: Any, begins: Any) -> Any:
        """What network `name` says of observations (features, *samples); if it remembers, of
        (features, T, worlds) from `memory` on, and anew where an episode begins, (T, worlds).
        They are as `look` gives them."""
        network = self._network(name)
        if not self.config.memory:
            return network.apply(params[name], obs)

        def step(memory, now):
            begin, obs = now
            memory = jnp.where(begin, 0, memory)
            memory = network.apply(params[name], memory, obs, method="remember")
            return memory, memory

        times_first = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), obs)
        memories = jax.lax.scan(step, memory[name], (begins, times_first))[1]
        return network.apply(params[name], jnp.moveaxis(memories, 0, -2), obs, method="judge")

    def _network(self, name: str) -> Any:
        return self.policy_network if name == "policy" else self.value_network

    def optimizer(self) -> optax.GradientTransformation:
        """Adam on clipped gradients; its step count drives the annealing."""
        config = self.config
        gradient_steps = config.num_updates * config.gradient_steps
        rate = optax.linear_schedule(config.learning_rate, 0.0, gradient_steps)
        adam = optax.adam(rate if config.anneal else config.learning_rate)
        # One long vector: a third of the time, half of the compile time of doing it leaf by leaf.
        return optax.flatten(optax.chain(optax.clip_by_global_norm(config.max_grad_norm), adam))

    def annealed(self, state: TrainState) -> TrainState:
        """The state with the learning rate of its updates, however many gradient steps these made:
        some were left out, or a resumed run makes more or fewer in each."""
        if not self.config.anneal:
            return state
        count = state.updates * self.config.gradient_steps
        its = lambda path, _: getattr(path[-1], "tuple_name", "") == "ScaleByScheduleState"
        return replace(state, optimizer=optax.tree.set(state.optimizer, its, count=count))

    def storage(self, obs: Any, params: Any) -> dict[str, Any]:
        """By name: what is known of the rewards, if they are normalised; earlier selves, if there
        are opponents."""
        config, kept = self.config, {}
        if config.normalize_rewards:
            kept["rewards"] = rewards.init(self.num_learning)
        if config.opponents:
            kept["selves"] = team.earlier(params["policy"], config.opponents)
        return kept

    def begun_with(self, state: TrainState) -> TrainState:
        """A first state whose parameters are now another run's: its earlier selves are that."""
        if not self.config.opponents:
            return state
        axis = 2 if self.num_seeds > 1 else 1  # behind devices and seeds
        place = lambda old, x: jax.device_put(
            jnp.broadcast_to(jnp.expand_dims(x, axis), old.shape), old.sharding
        )
        selves = jax.tree.map(place, state.extra["selves"], state.params["policy"])
        return replace(state, extra=state.extra | {"selves": selves})

    def play(self, state: TrainState) -> Any:
        """Let every world make unroll_length control steps."""
        after, _, trajectory = self.experience(state, state.key)
        return after.envs, trajectory

    def experience(
        self, state: TrainState, key: jax.Array
    ) -> tuple[TrainState, normalize.Statistics | None, Trajectory]:
        """Play with actions drawn from the policy: the state with the worlds where it led, the
        statistics of what was seen, and the trajectory."""
        shape = (self.config.unroll_length, self.outputs, self.worlds.actors)
        # one flat draw an actor: XLA's code for a many-dimensional one is larger and slower
        draw = lambda key: self.distribution.noise(key, (shape[0] * shape[1],))
        noise = jax.vmap(draw, out_axes=-1)(sharding.split(key, shape[2])).reshape(shape)

        mine = lambda tree: jax.tree.map(lambda x: x[..., : self.num_learning], tree)

        def act(memory, obs, noise):
            obs = self.team.seen(obs)
            seen = self.look(state.params, mine(obs))
            memory, found = self.seen("policy", state.params, memory, seen)
            memory, value = self.seen("value", state.params, memory, seen)
            raw = self.distribution.sample(found, mine(noise))
            log_prob = self.distribution.log_prob(found, raw)
            others = (self._rivals(state, obs, noise),) if self.config.opponents else ()
            action = self.distribution.to_action(jnp.concatenate([raw, *others], -1))
            return memory, Decision(action, raw, log_prob, value, memory)

        def keep(obs, decision, envs, final_obs):
            after = self.look(state.params, mine(self.team.seen(final_obs)))
            return Trajectory(
                obs=mine(self.team.seen(obs)),
                action=decision.raw,
                log_prob=decision.log_prob,
                reward=mine(envs.reward),
                terminated=mine(envs.terminated),
                truncated=mine(envs.truncated),
                value=decision.value,
                next_value=self.seen("value", state.params, decision.memory, after)[1],
            )

        envs, fault, memory, seen, trajectory = rollout(
            *(self.worlds, state.envs, state.fault, state.memory),
            *(state.normalizer, noise, act, keep),
            forget=lambda: self.nothing_remembered(self.worlds.actors),
        )
        return replace(state, envs=envs, fault=fault, memory=memory), seen, trajectory

    def _rivals(self, state: TrainState, obs: Any, noise: jax.Array) -> jax.Array:
        """Raw actions (actions, other actors) of earlier selves; obs and noise: of all actors."""
        theirs = lambda x: x[..., self.num_learning :]
        selves, rivals = state.extra["selves"], self.world.agents - 1
        found = team.met(self.policy_network, selves, jax.tree.map(theirs, obs), rivals)
        mean = found[0]
        raw = self.distribution.sample(found, theirs(noise).reshape(mean.shape))
        return raw.reshape(len(raw), -1)

    def scaled(self, state: TrainState, trajectory: Trajectory) -> tuple[TrainState, jax.Array]:
        """The state that has seen the rewards, and the rewards (T, worlds) to learn from."""
        reward = trajectory.reward * self.config.reward_scale
        if not self.config.normalize_rewards:
            return state, reward
        done = trajectory.terminated | trajectory.truncated
        scale = rewards.watch(state.extra["rewards"], reward, done, self.config.discount)
        return replace(state, extra=state.extra | {"rewards": scale}), rewards.scaled(scale, reward)

    def begins(self, trajectory: Trajectory) -> jax.Array:
        """(T, worlds) bool: did an episode begin at this step, and not before the first?"""
        done = trajectory.terminated | trajectory.truncated
        return jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])

    def entropy_cost(self, state: TrainState) -> jax.Array | float:
        """Weight of the entropy in the loss of this update."""
        config = self.config
        if not config.anneal_entropy:
            return config.entropy_cost
        return config.entropy_cost * jnp.maximum(1 - state.updates / config.num_updates, 0)

    def learned(
        self,
        state: TrainState,
        seen: normalize.Statistics | None,
        params: Any,
        optimizer: optax.OptState,
    ) -> TrainState:
        """The state after an update; what was seen in it is now part of the statistics."""
        normalizer, extra, updates = state.normalizer, state.extra, state.updates + 1
        if normalizer is not None and seen is not None:
            normalizer = normalize.merge(normalizer, normalize.over_devices(seen))
        if self.config.opponents:
            every = self.config.opponent_updates
            selves = team.remembered(extra["selves"], params["policy"], updates, every)
            extra = extra | {"selves": selves}
        return replace(
            state,
            params=params,
            optimizer=optimizer,
            normalizer=normalizer,
            extra=extra,
            updates=updates,
        )

    def exploration(self, found: Any) -> dict[str, jax.Array]:
        """action_std: () mean standard deviation of the raw actions; a choice has none."""
        return {} if self.kind == "choice" else {"action_std": jnp.exp(found.log_std).mean()}


def _eyes(config: ActorCriticConfig, world: World) -> networks.Eyes | None:
    """What sees a world's pictures; None where there are none. Raises ValueError for what is not
    offered with them, and for convolutions where there are none."""
    if world.picture_shape is None:
        usual = ActorCriticConfig()
        for name in CONVOLUTIONS:
            if getattr(config, name) != getattr(usual, name):
                told, words = (" ".join(map(str, getattr(c, name))) for c in (config, usual))
                raise ValueError(
                    f"{name} is {told}, but {world.name} is seen in numbers, not in pictures: it "
                    f"would have no effect; leave it at {words} (docs/pixels.md)"
                )
        return None
    for name in ("policies", "central_critic", "opponents"):
        if getattr(config, name):
            raise ValueError(f"{name} is not offered with pictures, in which {world.name} is seen")
    filters, kernels, strides = (getattr(config, name) for name in CONVOLUTIONS)
    return networks.Eyes(world.picture, filters, kernels, strides, config.activation)
