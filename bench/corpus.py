"""The field's models: `python -m bench.corpus DIR...` loads every MJCF below, steps those that load
against C MuJoCo, smaller ones first, and prints a table a suite. Each result is kept as it comes:
the same command goes on where an interrupted one stopped.

A file that is no model of its own (it is included by others, or C refuses it) is not counted. Each
model is stepped in a process of its own, from states of real motion, in both precisions; errors are
relative to 1 + the largest number of a quantity. "agrees" is float64 within 1e-9 of mj_step.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import collections
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tyro

from bench import common

BOUND = 1e-9


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with MJCF files."""
    only: str = ""
    """Files whose path contains this."""
    load: bool = False
    """Load only, without stepping."""
    moments: int = 12
    """States that each model is stepped from."""
    seconds: float = 900
    """A model that takes longer is given up."""
    out: Path | None = None
    """JSON file; by default bench/results/corpus.json."""
    child: Path | None = None
    """Used between processes: step this one here and print JSON."""


def main(args: Args) -> None:
    """Load and step all, or one as a child process."""
    if args.child is not None:
        print(json.dumps(step(args.child, args.moments)))
        return
    out = args.out or common.RESULTS / "corpus.json"
    found = [m for where in args.dirs for m in folder(args, where)]
    earlier = json.loads(out.read_text(encoding="utf-8"))["models"] if out.exists() else []
    done = {r["file"]: r for r in earlier}
    found.sort(key=lambda m: m[1]["nv"] * (m[1].get("pairs", 0) + 10))
    for path, result in found:
        if not args.load and not result["refused"]:
            known = done.get(result["file"], {})
            stepped = "float64" in known or "error" in known
            result.update(known if stepped else _stepped(args, path))
        print(json.dumps(result), file=sys.stderr, flush=True)
        done[result["file"]] = result
        common.keep(out, {"models": list(done.values())})
    report([result for _, result in found])
    print(f"written to {out}")


def folder(args: Args, where: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The models of a folder as far as loading says."""
    paths = [p for p in sorted(where.rglob("*.xml")) if args.only in str(p)]
    loaded = [(p, load(p)) for p in paths]
    return [
        (p, {"file": str(p.relative_to(where.parent)), "suite": suite(where, p), **r})
        for p, r in loaded
        if r is not None
    ]


def suite(where: Path, path: Path) -> str:
    """The first folder of a file's path that says whose model it is."""
    known = (
        "menagerie",
        "playground",
        "myosuite",
        "metaworld",
        "robotics",
        "dmc",
        "dm_control",
        "gym",
    )
    parts = [p.lower() for p in path.relative_to(where).parts]
    found = (name for name in known for p in parts if name in p)
    return next(found, parts[0] if len(parts) > 1 else where.name)


def load(path: Path) -> dict[str, Any] | None:
    """Sizes of a model and why it is refused; None if C has no model there."""
    import mujoco

    from gpusim import physics

    try:
        m = mujoco.MjModel.from_xml_path(str(path))
    except ValueError:
        return None
    if not m.nv:
        return None
    result: dict[str, Any] = {"nv": m.nv, "refused": ""}
    try:
        model = physics.load(m)
        result["pairs"] = len(model.topology.pairs)
    except physics.Unsupported as error:
        result["refused"] = (
            str(error).split(": ", 1)[1].replace(" is not supported; see docs/physics.md", "")
        )
    return result


def _stepped(args: Args, path: Path) -> dict[str, Any]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "bench.corpus", "--child", str(path)]
    command += ["--moments", str(args.moments), "."]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=args.seconds, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        found = {"error": f"not done in {args.seconds:.0f} s"}
    except subprocess.CalledProcessError as error:
        found = {"error": error.stderr.strip().splitlines()[-1][:200]}
    return found | {"seconds": time.perf_counter() - start}


def step(path: Path, count: int) -> dict[str, Any]:
    """Errors of one step of a model, in both precisions, from the same states."""
    import jax
    import mujoco
    import numpy as np

    from gpusim import physics
    from tests.physics.features import errors, moments, stepped

    m = mujoco.MjModel.from_xml_path(str(path))
    m.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON  # the one whose result is exact
    m.opt.iterations, m.opt.ls_iterations, m.opt.tolerance = 200, 100, 0
    m.opt.ccd_iterations, m.opt.ccd_tolerance = 2000, 1e-14  # C's searches for contacts to the end
    found = moments(m, count, push=0.3, wanted=lambda d: d.ncon > 0)
    result: dict[str, Any] = {"contacts": float(np.mean([d.ncon for d in found.before]))}
    for name, dtype in (("float64", np.float64), ("float32", np.float32)):
        state, derived = stepped(physics.load(m), found, dtype)
        whole = np.flatnonzero(derived.contacts_dropped == 0)  # others are reported, not compared
        if name == "float64":
            result["dropped"] = len(found.before) - len(whole)
        if not len(whole):
            return result | {"error": "more contacts than the list has places in every state"}
        some = lambda tree, whole=whole: jax.tree.map(lambda x: x[whole], tree)
        each = errors(_some(found, whole), some(state), some(derived))
        worst = max(("qpos", "qvel", "qacc"), key=lambda k: each[k])
        result[name] = {"worst": each[worst], "where": worst}
        first = next((k for k, v in each.items() if not v < BOUND), None)
        result[name]["first"] = first
    return result


def _some(found: Any, which: Any) -> Any:
    """Some of the moments."""
    given = {field: x[which] for field, x in found.given.items()}
    return found._replace(given=given, **{
        name: [getattr(found, name)[k] for k in which] for name in ("before", "after", "last")
    })  # fmt: skip


def report(results: list[dict[str, Any]]) -> None:
    """A table of suites, one of reasons, one of models that disagree."""
    suites: dict[str, list] = collections.defaultdict(list)
    for r in results:
        suites[r["suite"]].append(r)
    rows = []
    for name, rs in [*suites.items(), ("all", results)]:
        loaded = [r for r in rs if not r["refused"]]
        agree = [r for r in loaded if "float64" in r and r["float64"]["worst"] < BOUND]
        worst = max((r["float64"]["worst"] for r in loaded if "float64" in r), default=0.0)
        rows.append([name, str(len(rs)), str(len(loaded)), str(len(agree)), f"{worst:.1e}"])
    common.show("models", ("suite", "models", "load", "agree", "worst"), rows, [])
    reasons = collections.Counter(_reason(r["refused"]) for r in results if r["refused"])
    common.show(
        "refused", ("reason", "models"), [[k, str(v)] for k, v in reasons.most_common()], []
    )
    apart = [
        [Path(r["file"]).name, r.get("error") or f"{r['float64']['worst']:.1e}",
         str(r.get("float64", {}).get("first")), f"{r.get('float32', {}).get('worst', 0):.1e}"]
        for r in results
        if "error" in r or ("float64" in r and not r["float64"]["worst"] < BOUND)
    ]  # fmt: skip
    if apart:
        common.show("apart", ("model", "float64", "first", "float32"), apart, [])


def _reason(refused: str) -> str:
    """A refusal without the names of elements."""
    words = refused.split("'")
    return " ".join(w.strip(" :") for w in words[::2])


if __name__ == "__main__":
    main(tyro.cli(Args))
