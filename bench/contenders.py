"""Who can step a world: each function runs one simulator in this process and says how long it took.

All start from the task's own resets and get uniform random actions, drawn before the clock starts.
What a contender does beyond physics differs, and `Run.note` says so: a benchmark that hides it is
not one.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.common import time_repeats


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to be measured."""

    env: str  # name in gpusim's registry
    num_envs: int  # worlds
    steps: int  # control steps of each world in one repeat
    repeats: int
    threads: int


@dataclasses.dataclass(frozen=True)
class Run:
    """What was measured."""

    seconds: list[float]  # of each repeat
    env_steps: int  # control steps of all worlds in one repeat
    substeps: int  # physics steps in a control step
    num_envs: int
    note: str  # what was done besides physics, and what differs from the others


def lanes(work: Work) -> Run:
    """gpusim, everything a learner needs."""
    import jax

    import gpusim
    from gpusim.envs import autoreset

    env: Any = gpusim.make(work.env)
    venv = autoreset(env, work.num_envs)
    step = lambda state, action: (venv.step(state, action), None)
    run = _scanned(jax.jit(venv.reset)(jax.random.key(0)), step, _actions(work, env.action_size))
    seconds = time_repeats(run, work.repeats)
    return _run(work, seconds, env.n_frames, "observation, reward, termination, resets")


def lanes_physics(work: Work) -> Run:
    """gpusim's physics alone."""
    import jax
    import jax.numpy as jnp

    import gpusim
    from gpusim import lanes, physics
    from gpusim.envs.mujoco_task import onto_control_range

    env: Any = gpusim.make(work.env)

    def substeps(state: physics.State, action: jax.Array) -> physics.State:
        ctrl = onto_control_range(env.model, action)
        one = lambda _, state: physics.step(env.model, state, ctrl)[0]
        return jax.lax.fori_loop(0, env.n_frames, one, state)

    qpos, qvel = jax.vmap(env.initial)(jax.random.split(jax.random.key(0), work.num_envs))
    start = physics.State(qpos, qvel, jnp.zeros_like(qvel))
    kernel = jax.vmap(lanes.kernel(substeps))
    step = lambda state, action: (kernel(state, action), None)
    seconds = time_repeats(_scanned(start, step, _actions(work, env.action_size)), work.repeats)
    return _run(work, seconds, env.n_frames, "physics only, no resets")


def rollout(work: Work) -> Run:
    """C MuJoCo through its own batch interface."""
    import jax
    import mujoco
    from mujoco.rollout import Rollout

    import gpusim
    from gpusim.envs.mujoco_task import onto_control_range

    env: Any = gpusim.make(work.env)
    model = env.model.mj
    worlds = min(work.num_envs, 64 * work.threads)  # more worlds cost memory and gain nothing
    keys = jax.random.split(jax.random.key(0), worlds)
    qpos, qvel = map(np.asarray, jax.vmap(env.initial)(keys))
    start = np.zeros((worlds, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)))
    start[:, 1 : 1 + model.nq + model.nv] = np.concatenate([qpos, qvel], axis=1)  # after the time
    work = dataclasses.replace(work, num_envs=worlds)
    control = functools.partial(onto_control_range, env.model)
    ctrl = np.asarray(jax.vmap(jax.vmap(control))(_actions(work, env.action_size)))
    ctrl = np.repeat(ctrl.swapaxes(0, 1).astype(float), env.n_frames, axis=1)
    data = [mujoco.MjData(model) for _ in range(work.threads)]
    with Rollout(nthread=work.threads if work.threads > 1 else 0) as pool:
        seconds = time_repeats(lambda: pool.rollout(model, data, start, ctrl), work.repeats)
    return _run(work, seconds, env.n_frames, "physics only; every repeat starts anew")


def brax(work: Work, backend: str) -> Run:
    """Brax's environment under vmap, with its wrappers."""
    import jax
    from brax import envs

    env = envs.create(
        work.env.replace("half_cheetah", "halfcheetah"), batch_size=work.num_envs, backend=backend
    )
    step = lambda state, action: (env.step(state, action), None)
    run = _scanned(jax.jit(env.reset)(jax.random.key(0)), step, _actions(work, env.action_size))
    substeps: Any = env.unwrapped
    note = "observation, reward, termination, resets to one cached start"
    if backend != "mjx":
        note += "; another physics"
    return _run(work, time_repeats(run, work.repeats), substeps._n_frames, note)


def envpool(work: Work) -> Run:
    """EnvPool's C++ threads around C MuJoCo, in its asynchronous mode."""
    import envpool as pool  # pyright: ignore[reportMissingImports]  # an extra

    name = {"half_cheetah": "HalfCheetah", "walker2d": "Walker2d"}.get(work.env, work.env.title())
    env = pool.make(
        f"{name}-v5",
        env_type="gymnasium",
        num_envs=work.num_envs,
        batch_size=max(1, work.num_envs // 2),
        num_threads=work.threads,
    )
    env.async_reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (work.num_envs, *env.action_space.shape))

    def run() -> None:
        for _ in range(2 * work.steps):  # each round is half a batch
            info = env.recv()[4]
            env.send(actions[: len(info["env_id"])], info["env_id"])

    note = "observation, reward, termination, resets; Gymnasium's v5 model, RK4 for most"
    return _run(work, time_repeats(run, work.repeats), env.spec.config.frame_skip, note)


CONTENDERS: dict[str, Callable[[Work], Run]] = {
    "gpusim": lanes,
    "gpusim physics": lanes_physics,
    "mujoco.rollout": rollout,
    "brax spring": functools.partial(brax, backend="spring"),
    "brax mjx": functools.partial(brax, backend="mjx"),
    "envpool": envpool,
}


def _run(work: Work, seconds: list[float], substeps: int, note: str) -> Run:
    return Run(seconds, work.num_envs * work.steps, substeps, work.num_envs, note)


def _actions(work: Work, size: int) -> Any:
    """(steps, num_envs, size), uniform in [-1, 1]."""
    import jax

    shape = (work.steps, work.num_envs, size)
    return jax.random.uniform(jax.random.key(1), shape, minval=-1.0)


def _scanned(state: Any, step: Callable, actions: Any) -> Callable[[], None]:
    """A function that continues the simulation by these actions, in one compiled program."""
    import jax

    program = jax.jit(functools.partial(jax.lax.scan, step), donate_argnums=0)
    latest = [state]

    def run() -> None:
        latest[0] = jax.block_until_ready(program(latest[0], actions)[0])

    return run
