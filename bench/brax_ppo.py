"""Brax's own PPO with and without one line: `python -m bench.brax_ppo --env ant`.

The same script trains twice with `brax.training.agents.ppo.train`, which is not touched, in
processes of their own: in Brax's environment, and in the same passed through `lanes.vectorize`.
What is reported is training alone, after everything is compiled, and what came before.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import tyro

from bench import common


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    env: str = "ant"
    """Environment, by Brax's name."""
    backend: str = "spring"
    """Brax's physics."""
    num_envs: int = 2048
    """Worlds."""
    num_timesteps: int = 2_000_000
    """Environment steps, a quarter of them before the first evaluation that counts."""
    threads: int = common.cores()
    """Processors."""
    out: Path | None = None
    """JSON file; by default bench/results/brax-ppo-ENV.json."""
    child: str | None = None
    """Used between processes: `brax` or `lanes`."""


def main(args: Args) -> None:
    """Train twice and compare, or once as a child process."""
    if args.child is not None:
        print(json.dumps(train(args)))
        return
    names = ("env", "backend", "num_envs", "num_timesteps")
    flags = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in names]
    results = {
        kind: common.child(
            "bench.brax_ppo", [*flags, f"--child={kind}"], threads=args.threads, GPUSIM_CACHE="off"
        )
        for kind in ("brax", "lanes")
    }
    rows = [
        [
            kind,
            common.amount(r["steps_per_s"]),
            f"{r['start_seconds']:.1f}",
            f"{r['reward']:.0f}",
            f"{r['steps_per_s'] / results['brax']['steps_per_s']:.1f}",
        ]
        for kind, r in results.items()
    ]
    title = (
        f"brax.training.agents.ppo.train, {args.env} ({args.backend}), {args.threads} processors"
    )
    common.show(title, ("environment", "steps/s", "start s", "reward", "ratio"), rows)
    out = args.out or common.RESULTS / f"brax-ppo-{args.env}.json"
    common.write(out, {"args": {n: getattr(args, n) for n in names}, "results": results})


def restore_device_put_replicated() -> None:
    """Brax 0.14's learners call a function that JAX 0.10 has taken away: put it back.

    Nothing to do with lanes: without it Brax cannot train its own environments either.
    """
    import jax
    import jax.numpy as jnp

    if not hasattr(jax, "device_put_replicated"):
        copies = lambda x, devices: jax.tree.map(lambda a: jnp.stack([a] * len(devices)), x)
        jax.device_put_replicated = copies  # pyright: ignore[reportAttributeAccessIssue]


def train(args: Args) -> dict[str, Any]:
    """Steps a second between the second evaluation and the last, evaluations included."""
    from brax import envs
    from brax.training.agents.ppo import train as ppo

    restore_device_put_replicated()
    env = envs.get_environment(args.env, backend=args.backend)
    if args.child == "lanes":
        from gpusim import lanes

        env = lanes.vectorize(env)  # the one line
    start = time.perf_counter()
    seen: list[tuple[float, int, float]] = []

    def progress(steps: int, metrics: Any) -> None:
        reward = float(metrics["eval/episode_reward"])
        seen.append((time.perf_counter() - start, steps, reward))

    ppo.train(
        environment=env,
        num_timesteps=args.num_timesteps,
        num_envs=args.num_envs,
        episode_length=1000,
        unroll_length=5,
        batch_size=args.num_envs // 4,
        num_minibatches=8,
        num_updates_per_batch=4,
        learning_rate=3e-4,
        discounting=0.97,
        reward_scaling=10,
        entropy_cost=1e-2,
        normalize_observations=True,
        num_evals=4,
        num_eval_envs=128,
        seed=0,
        progress_fn=progress,
    )
    (begun, first, _), (ended, last, reward) = seen[1], seen[-1]
    rate = (last - first) / (ended - begun)
    return {"steps_per_s": rate, "start_seconds": begun, "reward": reward, "progress": seen}


if __name__ == "__main__":
    main(tyro.cli(Args))
