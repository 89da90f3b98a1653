"""The functions that `bench.lanes` compiles: what people step with `jax.vmap`, by name.

All are of one world: `start(key)` gives a state, `draw(key)` an action, `step(state, action)` the
next state. Libraries are imported by those who use them.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Function(NamedTuple):
    """One world."""

    start: Callable[[jax.Array], Any]
    draw: Callable[[jax.Array], Any]
    step: Callable[[Any, Any], Any]


BRAX = (
    *("ant", "half_cheetah", "hopper", "humanoid", "humanoidstandup", "inverted_pendulum"),
    *("inverted_double_pendulum", "pusher", "reacher", "swimmer", "walker2d"),
)
GYMNAX = (
    *("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"),
)


def brax(name: str, backend: str) -> Function:
    """Brax's whole environment step."""
    import gpusim

    env: Any = gpusim.make(name, physics=f"brax-{backend}")
    draw = lambda key: jax.random.uniform(key, (env.action_size,), minval=-1.0)
    return Function(env.env.reset, draw, env.env.step)


def mjx(name: str) -> Function:
    """MuJoCo's own JAX engine: one physics step of Brax's model."""
    import mujoco
    from mujoco import mjx as engine

    spec = importlib.util.find_spec("brax")
    path = Path(str(spec and spec.origin)).parent / "envs" / "assets" / f"{name}.xml"
    mj: Any = mujoco.MjModel.from_xml_path(str(path))  # pyright: ignore[reportAttributeAccessIssue]
    model = engine.put_model(mj)

    def start(key):
        qpos = mj.qpos0 + 0.1 * jax.random.uniform(key, (mj.nq,), minval=-1.0)
        return engine.make_data(mj).replace(qpos=qpos)

    draw = lambda key: jax.random.uniform(key, (mj.nu,), minval=-1.0)
    return Function(start, draw, lambda data, ctrl: engine.step(model, data.replace(ctrl=ctrl)))


def gymnax(name: str) -> Function:
    """A classic control task with the reset that is part of its step."""
    import gymnax as library  # pyright: ignore[reportMissingImports]  # not on every Python

    env, params = library.make(name)

    def start(key):
        first, rest = jax.random.split(key)
        obs, state = env.reset(first, params)
        return rest, obs, state, jnp.zeros(())

    def step(state, action):
        use, rest = jax.random.split(state[0])
        obs, inner, reward, *_ = env.step(use, state[2], action, params)
        return rest, obs, inner, jnp.asarray(reward, float)

    return Function(start, env.action_space(params).sample, step)


def policy() -> Function:
    """A policy of two hidden layers of 64 whose output is fed back."""
    sizes = (32, 64, 64, 32)
    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    layers = [
        jax.random.normal(k, (m, n)) / jnp.sqrt(m)
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]

    def step(x, noise):
        for weights in layers:
            x = jnp.tanh(x @ weights)
        return x + noise

    draw = lambda key: jax.random.normal(key, (32,))
    return Function(draw, draw, step)


FUNCTIONS: dict[str, Callable[[], Function]] = {
    **{
        f"brax-{backend} {name}": functools.partial(brax, name, backend)
        for backend in ("spring", "positional", "generalized")
        for name in BRAX
        if name != "swimmer" or backend == "generalized"  # Brax has it on no other
    },
    **{f"mjx {name}": functools.partial(mjx, name) for name in ("ant", "humanoid")},
    **{f"gymnax {name}": functools.partial(gymnax, name) for name in GYMNAX},
    "policy 32-64-64-32": policy,
}
