"""Worlds for PyTorch: arrays without a copy, and rsl_rl's `VecEnv`.

env = adapters.torch.VecEnv(gpusim.make("ant"), num_envs=4096)
OnPolicyRunner(env, configuration, log_dir="logs").learn(num_learning_iterations=100)
"""
# PyTorch is an extra, which the type checker need not see:
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch

from gpusim.adapters import SEEDS, checked_number, checked_world
from gpusim.envs.vec_env import VecState, autoreset
from gpusim.envs.world import Box, World


def to_torch(tree: Any) -> Any:
    """JAX's arrays as tensors on the same device, in the same memory: do not write to them, what
    JAX computes with them would change."""
    return jax.tree.map(torch.from_dlpack, tree)


def to_jax(tree: Any) -> Any:
    """Tensors as JAX's arrays on the same device, in the same memory where JAX can use it: do not
    write to the tensors while the arrays are in use, JAX computes later than it is called. Numbers
    of 64 bits become those of 32, as everywhere in JAX."""
    tensor = lambda x: x.detach().contiguous()
    is_tensor = lambda x: isinstance(x, torch.Tensor)
    return jax.tree.map(lambda x: jnp.from_dlpack(tensor(x)), tree, is_leaf=is_tensor)


class VecEnv:
    """`num_envs` worlds as rsl_rl wants them; each step is one kernel, restarts included.

    Observations are a TensorDict: group `policy`, or a group for each part of a dict of
    observations, by its name. `extras["time_outs"]` are the episodes that the time limit ended,
    `extras["log"]` the worlds' metrics. Actions are clipped to [-1, 1]. What comes back is the
    caller's own. All worlds start together; rsl_rl's `init_at_random_ep_len` says otherwise.

    Raises ValueError for a world whose actions are choices, which rsl_rl does not have.
    """

    def __init__(
        self, world: World, num_envs: int, *, max_episode_steps: int | None = None, seed: int = 0
    ):
        checked_world(world, "rsl_rl")
        checked_number("num_envs", num_envs, 1)
        checked_number("seed", seed, 0, SEEDS)
        if not isinstance(world.action_space, Box):
            raise ValueError(f"{world.name}: actions are {world.action_space}; rsl_rl needs a Box")
        self.world, self.num_envs, self.num_actions = world, num_envs, world.action_space.size
        self._worlds = autoreset(world, num_envs, episode_length=max_episode_steps)
        self.max_episode_length = self._worlds.episode_length
        self.cfg = {"env": world.name, "num_envs": num_envs, "seed": seed}
        self._step = jax.jit(self._stepped)
        state = jax.jit(self._worlds.reset)(jax.random.key(seed))
        self._state = state.replace(steps=jnp.zeros_like(state.steps))
        self.device = to_torch(state.reward).device

    def get_observations(self) -> Any:
        """What is seen now: a TensorDict of (num_envs, features) each."""
        from tensordict import TensorDict

        obs = self._state.obs
        groups = obs if isinstance(obs, Mapping) else {"policy": obs}
        return TensorDict(_own(dict(groups)), batch_size=[self.num_envs], device=self.device)

    def step(self, actions: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        """One control step of every world: observations after any restart, rewards (num_envs,),
        dones (num_envs,) bool, extras. actions: (num_envs, num_actions)."""
        self._state, log = self._step(self._state, to_jax(actions.to(self.device).clone()))
        state = self._state
        rewards, time_outs, terminated = _own((state.reward, state.truncated, state.terminated))
        extras = {"time_outs": time_outs, "log": _own(log)}
        return self.get_observations(), rewards, terminated | time_outs, extras

    @property
    def episode_length_buf(self) -> Any:
        """(num_envs,) int64: control steps counted against the time limit; may be assigned."""
        return _own(self._state.steps).long()

    @episode_length_buf.setter
    def episode_length_buf(self, steps: Any) -> None:
        if steps.shape != (self.num_envs,):
            shape = tuple(steps.shape)
            raise ValueError(
                f"episode_length_buf: {shape}, not one number a world ({self.num_envs},)"
            )
        self._state = self._state.replace(
            steps=to_jax(steps.to(self.device, torch.int32, copy=True))
        )

    def _stepped(self, state: VecState, actions: jax.Array) -> tuple[VecState, dict[str, Any]]:
        state = self._worlds.step(state, jnp.clip(actions, -1.0, 1.0))
        return state, {f"/world/{name}": x.mean() for name, x in state.world.metrics.items()}


def _own(tree: Any) -> Any:
    """Tensors that are the caller's own."""
    return jax.tree.map(torch.clone, to_torch(tree))
