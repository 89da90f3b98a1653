"""Steps a second of each adapter against the bare world: ``python -m bench.adapters``.

Every contender steps the same task from the same kind of actions, in turns within one process; a
package that is not installed is left out. Brax's way and the bare world make many steps in one
program; what hands arrays to Python after every step is called once a step.
"""

import dataclasses
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from bench import common


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    env: str = "Ant-v5"
    """One of Gymnasium's tasks: EnvPool has it too."""
    worlds: tuple[int, ...] = (1, 64, 4096)
    """Worlds stepped at once."""
    only: tuple[str, ...] = ()
    """Contenders, by the beginnings of their names; by default all."""
    seconds: float = 1.0
    """Time of one measurement."""
    repeats: int = 5
    """Rounds, in which the contenders take turns."""
    out: Path | None = None
    """JSON file; by default bench/results/adapters-ENV.json."""


class Work:
    """A task, how many worlds, and actions for them."""

    SCANNED = 16  # steps of one program

    def __init__(self, env: str, num: int):
        import gpusim

        self.env, self.num, self.world = env, num, gpusim.make(env)
        size = (num, self.world.action_size)
        self.actions: Any = np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)


Step = Callable[[], int]  # steps all worlds, waits for what came of it; how many steps it was


def bare(work: Work) -> Step:
    """The world and its restarts: many steps in one program, as the learners step it."""
    return _scanned(work, work.world)


def bare_called(work: Work) -> Step:
    """The same, called once a step."""
    import jax

    from gpusim.envs.vec_env import autoreset

    worlds = autoreset(work.world, work.num)
    state = [jax.jit(worlds.reset)(jax.random.key(0))]
    step = jax.jit(worlds.step, donate_argnums=0)

    def run() -> int:
        state[0] = jax.block_until_ready(step(state[0], work.actions))
        return work.num

    return run


def gymnasium_env(work: Work) -> Step | None:
    """One world."""
    from gpusim.adapters import gymnasium as adapter

    if work.num > 1:
        return None
    env = adapter.Env(work.world)
    env.reset(seed=0)

    def run() -> int:
        *_, terminated, truncated, _ = env.step(work.actions[0])
        if terminated or truncated:
            env.reset()
        return 1

    return run


def gymnasium_vector(work: Work) -> Step:
    """Many worlds, restarted within the step."""
    from gpusim.adapters import gymnasium as adapter

    envs = adapter.VectorEnv(work.world, work.num, autoreset_mode="SameStep", staggered=True)
    envs.reset(seed=0)

    def run() -> int:
        envs.step(work.actions)
        return work.num

    return run


def brax(work: Work) -> Step:
    """Brax's wrappers around our world, many steps in one program."""
    import jax
    from brax.envs import training

    from gpusim.adapters import brax as adapter

    env = training.wrap(adapter.Env(work.world), episode_length=work.world.max_episode_steps)
    keys = jax.random.split(jax.random.PRNGKey(0), work.num)  # typed ones have no last axis
    state = [jax.jit(env.reset)(keys)]
    step = lambda state, _: (env.step(state, work.actions), None)
    scan = jax.jit(lambda state: jax.lax.scan(step, state, length=Work.SCANNED)[0])

    def run() -> int:
        state[0] = jax.block_until_ready(scan(state[0]))
        return work.num * Work.SCANNED

    return run


def rsl_rl(work: Work) -> Step:
    """rsl_rl's interface, in tensors."""
    import torch  # pyright: ignore[reportMissingImports]

    from gpusim.adapters import torch as adapter

    env, actions = adapter.VecEnv(work.world, work.num), torch.from_numpy(work.actions)

    def run() -> int:
        env.step(actions)
        return work.num

    return run


def envpool(work: Work) -> Step:
    """EnvPool's own Gymnasium interface: C++ threads around C MuJoCo."""
    import envpool as pool  # pyright: ignore[reportMissingImports]

    threads = min(work.num, common.cores())
    envs = pool.make(work.env, "gymnasium", num_envs=work.num, num_threads=threads, seed=0)
    envs.reset()
    actions = work.actions.astype(float)

    def run() -> int:
        envs.step(actions)
        return work.num

    return run


def hosted_envpool(work: Work) -> Step:
    """The same environments in a program of ours: --env envpool:ID."""
    import gpusim

    return _scanned(work, gpusim.make(f"envpool:{work.env}"))


def hosted_gym(work: Work) -> Step | None:
    """Gymnasium's own in a program of ours, one after the other: --env gym:ID."""
    import gpusim

    return None if work.num > 64 else _scanned(work, gpusim.make(f"gym:{work.env}"))


def _scanned(work: Work, world: Any) -> Step:
    import jax

    from gpusim.envs.vec_env import autoreset

    worlds = autoreset(world, work.num)
    state = [jax.jit(worlds.reset)(jax.random.key(0))]
    step = lambda state, _: (worlds.step(state, work.actions), None)
    scan = jax.jit(lambda state: jax.lax.scan(step, state, length=Work.SCANNED)[0])

    def run() -> int:
        state[0] = jax.block_until_ready(scan(state[0]))
        return work.num * Work.SCANNED

    return run


CONTENDERS: dict[str, tuple[str, Callable[[Work], Step | None]]] = {  # what it needs, and it
    "bare world": ("jax", bare),
    "bare world, a call a step": ("jax", bare_called),
    "gymnasium Env": ("gymnasium", gymnasium_env),
    "gymnasium VectorEnv": ("gymnasium", gymnasium_vector),
    "brax": ("brax", brax),
    "torch, rsl_rl": ("tensordict", rsl_rl),
    "EnvPool": ("envpool", envpool),
    "envpool:ID in our program": ("envpool", hosted_envpool),
    "gym:ID in our program": ("gymnasium", hosted_gym),
}


def main(args: Args) -> None:
    """Measure, show, write."""
    there = {
        name: make
        for name, (package, make) in CONTENDERS.items()
        if importlib.util.find_spec(package) and name.startswith(args.only or ("",))
    }
    left_out = [name for name, (package, _) in CONTENDERS.items() if not _there(package)]
    results: dict[str, dict[int, common.Spread]] = {name: {} for name in there}
    for num in args.worlds:
        work = Work(args.env, num)
        steppers = {name: make(work) for name, make in there.items()}
        rates = measure({name: step for name, step in steppers.items() if step}, args)
        for name, its in rates.items():
            results[name][num] = its
    cell = lambda its, num: common.amount(its[num].median) if num in its else "-"
    common.show(
        f"{args.env}: steps a second on {common.cores()} cores",
        ["", *(f"{num} worlds" for num in args.worlds)],
        [[name, *(cell(its, num) for num in args.worlds)] for name, its in results.items()],
        [f"left out, not installed: {', '.join(left_out)}"] if left_out else [],
    )
    found = {
        name: {num: dataclasses.asdict(rate) for num, rate in its.items()}
        for name, its in results.items()
    }
    result = {"env": args.env, "unit": "control steps a second", "results": found}
    common.write(args.out or common.RESULTS / f"adapters-{args.env}.json", result)


def measure(steppers: dict[str, Step], args: Args) -> dict[str, common.Spread]:
    """Steps a second of each, taking turns."""
    rates: dict[str, list[float]] = {name: [] for name in steppers}
    for step in steppers.values():
        for _ in range(2):  # the first compiles
            step()
    for _ in range(args.repeats):
        for name, step in steppers.items():
            made, start = 0, time.perf_counter()
            while time.perf_counter() - start < args.seconds:
                made += step()
            rates[name].append(made / (time.perf_counter() - start))
    return {
        name: common.Spread(statistics.median(its), min(its), max(its))
        for name, its in rates.items()
    }


def _there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


if __name__ == "__main__":
    main(tyro.cli(Args))
