"""Does a run survive being killed, and what do checkpoints cost? `python -m bench.resume`.

One command, `gpusim.train ... --resume auto`, is given again and again; SIGKILL ends it at random
moments, some of them within writes, since it saves after every call. What the last process leaves
is compared, bit by bit and row by row, with what one process leaves that nobody disturbed.
"""

import dataclasses
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tyro

from bench import common

SMALL = (
    "--env hopper --num-envs 8 --unroll-length 4 --num-minibatches 2 --num-epochs 1"
    " --updates-per-call 2 --policy-hidden 8 --value-hidden 8 --evaluations 2 --eval-envs 4"
    " --episode-length 20 --checkpoint-seconds 0"
).split()
CALL = 64  # environment steps of one call


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    kills: int = 20
    """How often the run is killed."""
    env: str = "ant"
    """Environment whose checkpoints are timed; its preset is used."""
    updates: int = 10
    """Updates between two checkpoints, for their overhead."""
    repeats: int = 60
    """Of the timed pairs."""
    seed: int = 0
    """Of the moments."""
    out: Path | None = None
    """JSON file; by default bench/results/resume.json."""


def main(args: Args) -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as folder:
        survived = survive(Path(folder), args.kills, args.seed)
    cost = measure(args.env, args.updates, args.repeats)
    same = "the same bits and rows" if survived["same"] else "NOT the same"
    common.show(
        f"Kills and checkpoints ({args.env})",
        ["", "found"],
        [
            ["SIGKILLs, and how many within a write", f"{survived['kills']}, {survived['torn']}"],
            ["compared with the undisturbed run", same],
            ["size of a checkpoint", f"{cost['bytes'] / 2**20:.1f} MiB"],
            ["seconds of one core that one takes", f"{cost['core_seconds'].median:.4f}"],
            ["seconds that training waits for one", f"{cost['held_seconds'].median:.4f}"],
            ["seconds that the thread writes", f"{cost['written_seconds'].median:.3f}"],
            [f"slower with one every {args.updates} updates by", f"{cost['overhead']:.2%}"],
        ],
    )
    for name in ("core_seconds", "held_seconds", "written_seconds"):
        cost[name] = dataclasses.asdict(cost[name])
    common.write(args.out or common.RESULTS / "resume.json", {"kills": survived, "cost": cost})


def survive(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a run so often, and compare what comes of it with a run that was left alone."""
    draw = random.Random(seed)
    killed, calm = folder / "killed", folder / "calm"
    steps = CALL * 40 * (kills + 5)
    torn = 0
    for _ in range(kills):
        process = _start(killed, steps)
        before, deadline = _size(killed), time.monotonic() + 300
        while _size(killed) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise RuntimeError(f"the run was over, with status {process.returncode}, before a kill")
        torn += any(killed.rglob(".*.part"))
    for run in (killed, calm):
        if status := _start(run, steps).wait():
            raise RuntimeError(f"the run in {run} ended with status {status}")
    same = _left(killed) == _left(calm)
    return {"kills": kills, "torn": torn, "same": same, "calls": len(_left(calm)[1])}


def _start(folder: Path, steps: int) -> subprocess.Popen[bytes]:
    """The one command."""
    more = ["--total-steps", str(steps), "--out", str(folder), "--resume", "auto"]
    command = [sys.executable, "-m", "gpusim.train", *SMALL, *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _size(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    return file.stat().st_size if file.exists() else 0


def _left(folder: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The last state, and the rows without what is of the moment."""
    from gpusim.metrics import MOMENTARY
    from gpusim.run import archive

    members = archive.newest(folder / "checkpoints")[1].members
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    rows = [{k: v for k, v in line.items() if k not in MOMENTARY} for line in lines]
    return {name: data.tobytes() for name, data in members.items()}, rows


def measure(env: str, updates: int, repeats: int) -> dict[str, Any]:
    """Seconds and bytes of a checkpoint, and the share of the speed that they take: calls with one
    at their beginning, written by a thread meanwhile, against as many calls without, in turns."""
    import jax

    from gpusim import config
    from gpusim.run import checkpoint, clock, job

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as writer:
        folder = Path(name)
        here = job.prepare(config.TrainConfig(env=env), folder, False, clock.Phases())
        learner = here.learner
        state, _ = learner.train_step(learner.init(jax.random.key(0)))
        calls = max(1, round(updates / learner.config.updates_per_call))
        checkpoint.snapshot(state)  # which compiles what takes keys apart
        plain, saving, held, written, cores = [], [], [], [], []

        def write(step: int, leaves: checkpoint.Snapshot, before: float) -> Path:
            begun, own = time.perf_counter(), time.thread_time()
            path = checkpoint.save(folder, leaves, step=step, extra={}, keep=3)
            written.append(time.perf_counter() - begun)
            cores.append(before + time.thread_time() - own)
            return path

        for repeat in range(repeats):
            for seconds in (plain, saving) if repeat % 2 else (saving, plain):
                jax.block_until_ready(state)
                begun, own = time.perf_counter(), time.thread_time()
                if seconds is saving:
                    leaves = checkpoint.snapshot(state)
                    held.append(time.perf_counter() - begun)
                    future = writer.submit(write, repeat, leaves, time.thread_time() - own)
                for _ in range(calls):
                    state, report = learner.train_step(state)
                    jax.device_get(report)
                if seconds is saving:
                    path = future.result()
                seconds.append(time.perf_counter() - begun)
        size = path.stat().st_size
    slower = statistics.median(a / b - 1 for a, b in zip(saving, plain, strict=True))
    return {
        "core_seconds": common.Spread.of(cores),
        "held_seconds": common.Spread.of(held),
        "written_seconds": common.Spread.of(written),
        "bytes": size,
        "overhead": slower,
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
