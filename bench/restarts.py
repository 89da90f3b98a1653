"""What restarts and randomised numbers cost: `python -m bench.restarts`.

Each task is measured in a process of its own, confined to one processor: the same worlds with
episodes that end at the task's time limit, each at another time, and with a time limit that is
never reached; and with numbers of each world's own, drawn anew in every episode: the task's domain
randomisation where it has one, else masses, frictions and dampings of a MuJoCo model. Actions are
random; who falls restarts in all of these.
"""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import tyro

from bench import common

STEPS = 16  # of actions drawn, which are made again and again
NEVER = 2**30  # control steps, which no measurement makes


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    envs: tuple[str, ...] = ()
    """Which tasks; by default all whose files are found."""
    num_envs: int = 1024
    """Worlds."""
    seconds: float = 0.3
    """That a repeat takes at least."""
    repeats: int = 5
    """Timed repeats, in turns; the median is kept."""
    out: Path | None = None
    """JSON file; by default bench/results/restarts.json."""
    child: bool = False
    """Used between processes: measure the task here and print JSON."""


def main(args: Args) -> None:
    """Measure all tasks and report, or one of them as a child process."""
    if args.child:
        print(json.dumps(measure(args.envs[0], args)))
        return
    results = []
    for env in args.envs or found():
        flags = ["--envs", env, "--child", "--num-envs", str(args.num_envs)]
        flags += ["--seconds", str(args.seconds), "--repeats", str(args.repeats)]
        results.append({"env": env, **common.child("bench.restarts", flags, threads=1)})
        print(results[-1], flush=True)
    report(results)
    common.write(args.out or common.RESULTS / "restarts.json", {"results": results})


def found() -> list[str]:
    """All tasks whose files are here."""
    from gpusim.envs import registry

    return [name for name in registry.names() if not registry.missing(name)]


def measure(name: str, args: Args) -> dict[str, Any]:
    """Seconds a step of all worlds, each way."""
    import gpusim
    from gpusim.envs.mujoco_task import MujocoTask

    env = gpusim.make(name)
    runs = {"usual": prepared(env, args, 0), "never": prepared(env, args, NEVER)}
    if hasattr(env, "domain_randomization"):
        runs["varied"] = prepared(gpusim.make(name, domain_randomization=True), args, 0)
    elif isinstance(env, MujocoTask):
        kind = type(env)
        varied = type(kind.__name__, (_Varied, kind), {"name": kind.name})
        runs["varied"] = prepared(varied(), args, 0)
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(args.repeats):
        for way, run in runs.items():
            seconds[way].append(run())
    return {way: dataclasses.asdict(common.Spread.of(s)) for way, s in seconds.items()}


def prepared(env: Any, args: Args, earlier: int) -> Any:
    """A function that steps the worlds for a while and says how long a step took. earlier: by so
    many steps their clocks are behind."""
    import jax
    import jax.numpy as jnp

    from gpusim.envs import Discrete, autoreset

    worlds, space, key = autoreset(env, args.num_envs), env.action_space, jax.random.key(1)
    shape = (STEPS, args.num_envs, *space.shape)
    if isinstance(space, Discrete):
        actions = jax.random.randint(key, shape, 0, space.n)
    else:
        actions = jax.random.uniform(key, shape, minval=-1.0)

    @jax.jit
    def make(state, times):
        step = lambda state, action: (worlds.step(state, action), None)
        once = lambda _, state: jax.lax.scan(step, state, actions)[0]
        return jax.lax.fori_loop(0, times, once, state)

    state = jax.jit(worlds.reset)(jax.random.key(0))
    state = make(state.replace(steps=state.steps - jnp.int32(earlier)), 1)
    start = time.perf_counter()
    state = jax.block_until_ready(make(state, 2))
    times = math.ceil(2 * args.seconds / (time.perf_counter() - start))

    def run() -> float:
        nonlocal state
        start = time.perf_counter()
        state = jax.block_until_ready(make(state, times))
        return (time.perf_counter() - start) / (times * STEPS)

    run()
    return run


class _Varied:
    """A task each world of which has numbers of its own."""

    def vary(self: Any, key: Any) -> dict[str, Any]:
        """Masses, frictions and dampings."""
        import jax

        from gpusim.envs import randomize

        mass, friction, damping = jax.random.split(key, 3)
        return {
            **randomize.masses(mass, self.model, 0.8, 1.25),
            "geom_friction": randomize.scale(friction, self.model.geom_friction, 0.8, 1.25),
            "dof_damping": randomize.scale(damping, self.model.dof_damping, 0.8, 1.25),
        }


def report(results: list[dict[str, Any]]) -> None:
    """Print the table."""
    ratio = lambda r, a, b: f"{r[a]['median'] / r[b]['median'] - 1:.1%}" if a in r else ""
    rows = [[r["env"], ratio(r, "usual", "never"), ratio(r, "varied", "usual")] for r in results]
    columns = ("task", "restarts cost", "randomised numbers cost")
    common.show("shares of a step's time", columns, rows)


if __name__ == "__main__":
    main(tyro.cli(Args))
