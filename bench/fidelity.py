"""How near C MuJoCo our physics is: `python -m bench.fidelity [NAME or FILE.xml ...]`.

For each model, with its own solver settings, from states of real motion with random controls:

- the error of one step in float64 and float32 (of qpos and qvel, relative to 1 + the largest
  number of the world): median, 99th percentile, maximum;
- the cost gap: by how much our acceleration costs more than C's, in MuJoCo's own cost function, as
  a share of the cost at the unconstrained acceleration; negative where ours is the better minimum;
- the drift after 100 and 1,000 steps, median over worlds, beside that of C from a start that
  differs by float32's rounding: two simulators can agree no longer than that.

Each model runs in a process of its own.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro

from bench import common

LENGTHS = (100, 1000)


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    models: tyro.conf.Positional[tuple[str, ...]] = common.ROBOTS
    """Environments of ours on MuJoCo models, or MJCF files."""
    moments: int = 200
    """States that a step is made from."""
    worlds: int = 24
    """Trajectories whose drift is measured."""
    out: Path | None = None
    """JSON file; by default bench/results/fidelity.json."""
    child: str | None = None
    """Used between processes: measure this one here and print JSON."""


def main(args: Args) -> None:
    """Measure all and report, or one as a child process."""
    if args.child is not None:
        print(json.dumps(measure(args.child, args.moments, args.worlds)))
        return
    results = []
    for name in args.models:
        flags = ["--child", name, "--moments", str(args.moments), "--worlds", str(args.worlds)]
        try:
            found = common.child("bench.fidelity", flags)
        except RuntimeError as error:
            found = {"failure": str(error).strip().splitlines()[-1]}
        results.append({"model": name, **found})
    report(results)
    common.write(args.out or common.RESULTS / "fidelity.json", {"models": results})


def measure(name: str, count: int, worlds: int) -> dict[str, Any]:
    """One model."""
    import mujoco
    import numpy as np

    from gpusim import physics
    from tests.physics.features import moments, stepped

    m = _model(name)
    found = moments(m, count, wanted=lambda d: d.ncon > 0)
    model = physics.load(m)
    result: dict[str, Any] = {"contacts": float(np.mean([d.ncon for d in found.before]))}
    truth = _flat(np.array([d.qpos for d in found.after]), np.array([d.qvel for d in found.after]))
    for word, dtype in (("float64", np.float64), ("float32", np.float32)):
        state, derived = stepped(model, found, dtype)
        error = np.abs(_flat(state.qpos, state.qvel) - truth).max(1) / (1 + np.abs(truth).max(1))
        spread = [float(np.percentile(error, p)) for p in (50, 99, 100)]
        result[word] = dict(zip(("median", "p99", "max"), spread, strict=True))
        if word == "float64" and int(m.opt.integrator) != int(mujoco.mjtIntegrator.mjINT_RK4):
            pairs = zip(found.before, derived.qacc, strict=True)
            result["cost_gap"] = float(np.median([_gap(m, d, qacc) for d, qacc in pairs]))
    return result | {"drift": _drift(m, model, found, worlds)}


def _model(name: str) -> Any:
    """The MjModel of an environment, or of a file."""
    import mujoco

    import gpusim

    if name.endswith(".xml"):
        return mujoco.MjModel.from_xml_path(name)
    world: Any = gpusim.make(name)
    return world.model.mj


def _flat(qpos: Any, qvel: Any) -> Any:
    import numpy as np

    return np.concatenate([qpos, qvel], -1).astype(np.float64)


def _gap(m: Any, d: Any, qacc: Any) -> float:
    """How much more an acceleration costs than C's, as a share of what constraints cost at the
    unconstrained one."""
    smooth = _cost(m, d, d.qacc_smooth)
    return (_cost(m, d, qacc) - _cost(m, d, d.qacc)) / max(smooth, 1e-12)


def _cost(m: Any, d: Any, qacc: Any) -> float:
    """MuJoCo's cost of an acceleration."""
    import mujoco
    import numpy as np

    away = np.asarray(qacc, np.float64) - d.qacc_smooth
    pull, moved = np.zeros(m.nv), np.zeros(max(d.nefc, 1))
    mujoco.mj_mulM(m, d, pull, away)
    cost = np.zeros(1)
    if d.nefc:
        mujoco.mj_mulJacVec(m, d, moved, np.asarray(qacc, np.float64))
        mujoco.mj_constraintUpdate(m, d, moved - d.efc_aref, cost, 0)
    return float(0.5 * away @ pull + cost[0])


def _drift(m: Any, model: Any, found: Any, worlds: int) -> dict[str, Any]:
    """Median distance from C's trajectories after some steps under a constant control."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from gpusim import lanes, physics

    given = {name: x[:worlds] for name, x in found.given.items()}
    out: dict[str, Any] = {}
    rounding = np.random.default_rng(0).uniform(-1, 1, given["qpos"].shape) * 2.0**-24
    for length in LENGTHS:
        truth = _c_rollout(m, given, length)
        nearby = _c_rollout(m, given | {"qpos": given["qpos"] * (1 + rounding)}, length)
        row = {"C": _distance(nearby, truth)}
        for word, dtype in (("float64", np.float64), ("float32", np.float32)):

            def roll(qpos, qvel, warmstart, act, ctrl, length=length):
                state = physics.State(qpos, qvel, warmstart, act if m.na else None)
                return physics.steps(model, state, ctrl, length)[0]

            with jax.enable_x64(True):
                names = ("qpos", "qvel", "qacc_warmstart", "act", "ctrl")
                end = jax.jit(jax.vmap(lanes.kernel(roll)))(
                    *(jnp.asarray(given[n], dtype) for n in names)
                )
            row[word] = _distance(_flat(np.asarray(end.qpos), np.asarray(end.qvel)), truth)
        out[str(length)] = row
    return out


def _c_rollout(m: Any, given: dict[str, Any], length: int) -> Any:
    """(worlds, nq + nv) where C is after so many steps."""
    import mujoco
    import numpy as np

    ends = []
    for k in range(len(given["qpos"])):
        d = mujoco.MjData(m)
        for name, x in given.items():
            getattr(d, name)[:] = x[k]
        for _ in range(length):
            mujoco.mj_step(m, d)
        ends.append(np.concatenate([d.qpos, d.qvel]))
    return np.array(ends)


def _distance(a: Any, b: Any) -> float:
    import numpy as np

    return float(np.median(np.abs(a - b).max(1) / (1 + np.abs(b).max(1))))


def report(results: list[dict[str, Any]]) -> None:
    """One row a model."""
    precisions, ranks = ("float64", "float32"), ("median", "p99", "max")
    heads = [f"{w}: {k}" if k == "median" else k for w in precisions for k in ranks]
    columns = ("model", "contacts", *heads, "cost gap")
    rows, drifts = [], []
    for r in results:
        name = Path(r["model"]).stem
        if "failure" in r:
            rows.append([name, "failed", *[""] * 7])
            continue
        errors = [
            f"{r[w][k]:.0e}" for w in ("float64", "float32") for k in ("median", "p99", "max")
        ]
        gap = f"{r['cost_gap']:.0e}" if "cost_gap" in r else ""
        rows.append([name, f"{r['contacts']:.1f}", *errors, gap])
        each = [r["drift"][str(n)] for n in LENGTHS]
        words = [f"{d[k]:.0e}" for d in each for k in ("float64", "float32", "C")]
        drifts.append([name, *words])
    failures = [f"{r['model']}: {r['failure']}" for r in results if "failure" in r]
    common.show("one step, against mj_step", columns, rows, failures)
    heads = [f"{n} steps: {w}" if w == "float64" else w for n in LENGTHS
             for w in ("float64", "float32", "C itself")]  # fmt: skip
    note = "C itself: C MuJoCo from starts that differ by float32's rounding"
    common.show("drift, median over worlds", ("model", *heads), drifts, [note])


if __name__ == "__main__":
    main(tyro.cli(Args))
