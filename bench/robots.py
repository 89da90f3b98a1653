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
from pathlib import Path
from typing import Any

import tyro

from bench import common


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    models: tyro.conf.Positional[tuple[Path, ...]]
    """MJCF files."""
    worlds: int = 512
    """Worlds of ours; C's are 32, for more gain it nothing."""
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
            found = common.child("bench.robots", flags, threads=1)
        except RuntimeError as error:
            found = {"failure": str(error).strip().splitlines()[-1]}
        results.append({"model": f"{path.parent.name}/{path.stem}", **found})
        print(json.dumps(results[-1]), flush=True)
    report(results)
    common.write(args.out or common.RESULTS / "robots.json", {"models": results})


def measure(args: Args) -> dict[str, Any]:
    """One model."""
    import jax
    import jax.numpy as jnp
    import mujoco
    import numpy as np
    from mujoco.rollout import Rollout

    from gpusim import lanes, physics

    m = mujoco.MjModel.from_xml_path(str(args.models[0]))
    model = physics.load(m)
    random = np.random.default_rng(0)
    low, high = np.where(m.actuator_ctrllimited[:, None], m.actuator_ctrlrange, [-1, 1]).T
    draw = lambda worlds, n: random.uniform(low, high, (worlds, n, m.nu))
    few = min(32, args.worlds)
    starts = [_moving(m, draw(1, 50)[0]) for _ in range(few)]
    ctrl = draw(few, args.controls)

    substeps = lambda state, ctrl: physics.steps(model, state, ctrl, args.hold)
    kernel = jax.vmap(lanes.kernel(substeps))

    def step(carry: tuple, ctrl: jax.Array) -> tuple:
        state, dropped = carry
        state, derived = kernel(state, ctrl)
        return (state, dropped + derived.contacts_dropped), None

    many = lambda x: jnp.asarray(np.resize(np.asarray(x, np.float32), (args.worlds, *x[0].shape)))
    state = jax.vmap(lambda q, v: physics.init(model, q, v))(
        many([s.qpos for s in starts]), many([s.qvel for s in starts])
    )
    if model.na:
        state = state._replace(act=many([s.act for s in starts]))
    start = (state, jnp.zeros(args.worlds, jnp.int32))
    inputs = jnp.swapaxes(many(ctrl), 0, 1)
    began = time.perf_counter()
    run = jax.jit(lambda start, inputs: jax.lax.scan(step, start, inputs)[0])
    _, dropped = jax.block_until_ready(run(start, inputs))
    compiled = time.perf_counter() - began

    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    there = np.zeros((few, mujoco.mj_stateSize(m, kind)))
    for row, data in zip(there, starts, strict=True):
        mujoco.mj_getState(m, data, row, kind)
    controls = np.repeat(ctrl, args.hold, axis=1)
    data, seconds = mujoco.MjData(m), ([], [])
    with Rollout(nthread=0) as pool:
        for _ in range(args.repeats):
            for side, go in enumerate(
                (
                    lambda: jax.block_until_ready(run(start, inputs)),
                    lambda: pool.rollout(m, [data], there, controls),
                )
            ):
                began = time.perf_counter()
                go()
                seconds[side].append(time.perf_counter() - began)
    steps = args.controls * args.hold
    ours = [args.worlds * steps / s for s in seconds[0]]
    theirs = [few * steps / s for s in seconds[1]]
    return {
        "dofs": m.nv,
        "candidates": len(model.topology.pairs),
        "contacts": statistics.mean(s.ncon for s in starts),
        "dropped": float(dropped.mean()) / args.controls,
        "compile": compiled,
        "steps_per_s": statistics.median(ours),
        "mujoco": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
    }


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
                str(r["candidates"]),
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
