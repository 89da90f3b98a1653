"""Robots of the field against C MuJoCo, on one core: `python -m bench.robots FILE.xml ...`.

Worlds start from real motion: the first keyframe (or the model's own pose), and then a second of
random controls in C MuJoCo. From there both sides take the same controls, new every few steps, and
every repeat starts there anew. Each model runs in a process of its own.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from bench import common

FEW = 32  # trajectories; ours are copies of them, for C steps one world after the other


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    models: tyro.conf.Positional[tuple[Path, ...]]
    """MJCF files."""
    worlds: int = 512
    """Worlds of ours."""
    controls: int = 20
    """Controls that each world gets in a repeat."""
    hold: int = 5
    """Steps that each control lasts."""
    repeats: int = 5
    """Timed repeats of each side, in turns."""
    out: Path | None = None
    """JSON file; by default bench/results/robots.json."""
    child: bool = False
    """Used between processes: measure this one here and print JSON."""


def main(args: Args) -> None:
    """Measure all and report, or one as a child process."""
    if args.child:
        print(json.dumps(measure(args)))
        return
    results = []
    for path in args.models:
        flags = ["--child", str(path)]
        flags += [f"--{k}={getattr(args, k)}" for k in ("worlds", "controls", "hold", "repeats")]
        try:
            found = common.child("bench.robots", flags, threads=1, GPUSIM_CACHE="off")
        except RuntimeError as error:
            found = {"failure": str(error).strip().splitlines()[-1]}
        results.append({"model": "/".join(path.with_suffix("").parts[-3:]), **found})
        print(json.dumps(results[-1]), flush=True)
    report(results)
    common.write(args.out or common.RESULTS / "robots.json", {"models": results})


def measure(args: Args) -> dict[str, Any]:
    """One model."""
    import mujoco
    import numpy as np

    from gpusim import physics

    m = mujoco.MjModel.from_xml_path(str(args.models[0]))
    model = physics.load(m)
    random = np.random.default_rng(0)
    low, high = np.where(m.actuator_ctrllimited[:, None], m.actuator_ctrlrange, [-1, 1]).T
    draw = lambda worlds, n: random.uniform(low, high, (worlds, n, m.nu))
    starts = [_moving(m, draw(1, 50)[0]) for _ in range(FEW)]
    ctrl = draw(FEW, args.controls)
    began = time.perf_counter()
    ours, dropped = _ours(model, starts, ctrl, args)
    compiled = time.perf_counter() - began
    theirs = _theirs(m, starts, ctrl, args.hold)
    rates = ([], [])
    for _ in range(args.repeats):
        for side, worlds, run in ((0, args.worlds, ours), (1, FEW, theirs)):
            began = time.perf_counter()
            run()
            seconds = time.perf_counter() - began
            rates[side].append(worlds * args.controls * args.hold / seconds)
    return {
        "dofs": m.nv,
        "pairs": len(model.topology.pairs),
        "contacts": statistics.mean(s.ncon for s in starts),
        "dropped": dropped,
        "compile": compiled,
        "steps_per_s": statistics.median(rates[0]),
        "mujoco": statistics.median(rates[1]),
        "ratio": statistics.median(a / b for a, b in zip(*rates, strict=True)),
    }


def _ours(model: Any, starts: list, ctrl: Any, args: Args) -> tuple[Callable[[], Any], float]:
    """Runs all worlds through all controls, once compiled; and how many contacts a step dropped."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from gpusim import lanes, physics

    many = lambda x: jnp.asarray(np.resize(np.asarray(x, np.float32), (args.worlds, *x[0].shape)))
    each = lambda name: many([getattr(s, name) for s in starts])
    state = jax.vmap(lambda qpos, qvel: physics.init(model, qpos, qvel))(each("qpos"), each("qvel"))
    if model.na:
        state = state._replace(act=each("act"))
    substeps = lambda state, ctrl: physics.steps(model, state, ctrl, args.hold)
    kernel = jax.vmap(lanes.kernel(substeps))

    def step(state: Any, ctrl: jax.Array) -> tuple:
        state, derived = kernel(state, ctrl)
        return state, derived.contacts_dropped.mean()

    controls = jnp.swapaxes(many(ctrl), 0, 1)
    program = jax.jit(lambda: jax.lax.scan(step, state, controls))
    run = lambda: jax.block_until_ready(program())
    return run, float(run()[1].mean())


def _theirs(m: Any, starts: list, ctrl: Any, hold: int) -> Callable[[], Any]:
    """The same in C."""
    import mujoco
    import numpy as np
    from mujoco.rollout import Rollout

    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    there = np.zeros((FEW, mujoco.mj_stateSize(m, kind)))
    for row, data in zip(there, starts, strict=True):
        mujoco.mj_getState(m, data, row, kind)
    controls, data, pool = np.repeat(ctrl, hold, axis=1), mujoco.MjData(m), Rollout(nthread=0)
    return lambda: pool.rollout(m, [data], there, controls)


def _moving(m: Any, controls: Any) -> Any:
    """C's data after a while of random controls."""
    import mujoco

    data = mujoco.MjData(m)
    if m.nkey:
        mujoco.mj_resetDataKeyframe(m, data, 0)
    for ctrl in controls:
        data.ctrl[:] = ctrl
        mujoco.mj_step(m, data, max(1, round(1 / 50 / m.opt.timestep)))
    mujoco.mj_forward(m, data)
    return data


def report(results: list[dict[str, Any]]) -> None:
    """The table."""
    columns = ("model", "dofs", "pairs", "contacts", "dropped", "compile s", "steps/s", "C's")
    rows, ratios = [], []
    for r in results:
        if "failure" in r:
            rows.append([r["model"], r["failure"][:90]])
            continue
        ratios.append(r["ratio"])
        rows.append(
            [
                r["model"],
                str(r["dofs"]),
                str(r["pairs"]),
                f"{r['contacts']:.1f}",
                f"{r['dropped']:.2g}",
                f"{r['compile']:.1f}",
                common.amount(r["steps_per_s"]),
                common.amount(r["mujoco"]),
                f"{r['ratio']:.1f}",
            ]
        )
    notes = ["contacts: of C MuJoCo at the start; steps/s: physics steps of one core, float32"]
    if ratios:
        mean = statistics.geometric_mean(ratios)
        notes.append(f"geometric mean {mean:.1f}, least {min(ratios):.1f}")
    common.show("robots", (*columns, "ratio"), rows, notes)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
