"""The whole check of a GPU in one command of under 9 minutes: `bench/gpu.sh`.

Parts run one after the other, each in a process of its own with a limit of its own, and write what
they find to OUT/gpu-PART.json while they run: a part that fails or is stopped loses nothing of what
it had found, and the others run. `--parts` chooses; `--quick` is for seeing, without a GPU, that
every part works.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tyro

from bench import common, gpu_parts

LIMITS = {  # seconds
    "reward": 230,  # first, when nothing is compiled yet
    "training": 70,
    "physics": 110,
    "correctness": 100,
    "peers": 80,
    "tuning": 60,
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    parts: tuple[str, ...] = tuple(LIMITS)
    """What to do, in this order."""
    seconds: float = 520
    """Limit of all parts together; what does not fit is left out."""
    scale: float = 1.0
    """Factor on the limit of each part."""
    quick: bool = False
    """Tiny sizes on any device."""
    out: Path = common.RESULTS
    """Folder of the JSON files."""
    child: str | None = None
    """Used between processes: do this part here."""


def main(args: Args) -> int:
    """Run the parts, or one of them as a child process. The number of parts that were not done."""
    if args.child is not None:
        record(args.child, args)
        return 0
    end, undone = time.monotonic() + args.seconds, 0
    for part in args.parts:
        limit = min(LIMITS[part] * args.scale, end - time.monotonic())
        problem = run(part, args, limit) if limit > 10 else "no time was left"
        if problem:
            undone += 1
            amend(args.out / f"gpu-{part}.json", {"problem": problem})
        print(f"{part}: {problem or 'done'}, {end - time.monotonic():.0f} s left", flush=True)
    return undone


def run(part: str, args: Args, limit: float) -> str | None:
    """Do a part in a process of its own; why it did not come to its end, if so."""
    path = args.out / f"gpu-{part}.json"
    path.unlink(missing_ok=True)
    flags = [f"--child={part}", f"--out={args.out}", *(["--quick"] if args.quick else [])]
    command = [sys.executable, "-m", "bench.gpu", *flags]
    environment = os.environ | ({} if args.quick else {"JAX_PLATFORMS": "cuda,cpu"})
    # in a process group: a part has children of its own
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        status = process.wait(limit)
        return f"ended with status {status}" if status else None
    except subprocess.TimeoutExpired:
        return f"stopped after {limit:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def record(part: str, args: Args) -> None:
    """Do a part here, and write after each result all there are."""
    results: list[dict[str, Any]] = []
    path = args.out / f"gpu-{part}.json"
    facts = {"gpu": devices(), "part": part, "quick": args.quick}
    for result in gpu_parts.PARTS[part](args.quick):
        print(json.dumps(result), flush=True)
        results.append(result)
        amend(path, {"facts": common.facts(), **facts, "results": results})


def amend(path: Path, values: dict[str, Any]) -> None:
    """Add to a JSON file, or begin it. A reader never sees half of it."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(before | values, indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def devices() -> list[str]:
    """Each GPU: name, driver, memory, clocks; none without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args)))
