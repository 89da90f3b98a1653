"""What the CUDA kernels look like without a GPU: `python -m bench.ptx`.

For each environment the kernel a learner runs (a control step with observation, reward, end and
restart): lines of PTX, seconds to trace it and to emit it, and what ptxas makes of it for each
architecture: registers of a thread, bytes of it that are spilled to local memory, seconds.
"""

import dataclasses
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

import gpusim
from bench import common
from gpusim import envs
from gpusim.lanes.nvidia import emitter as nvidia_codegen
from gpusim.lanes.nvidia import target as nvidia
from gpusim.lanes.primitive import lanes_of, lanes_p

SPILLS = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    envs: tuple[str, ...] = common.ROBOTS
    """Environments, by their names in gpusim."""
    archs: tuple[int, ...] = (80, 90, 120)
    """Compute capabilities; 90 is 9.0."""
    out: Path = common.RESULTS / "ptx.json"
    """JSON file."""


def main(args: Args) -> None:
    """Emit, assemble and report."""
    results = [measure(name, args.archs) for name in args.envs]
    columns = ("environment", "lines", "trace s", "emit s", "sm", "registers", "spills", "ptxas s")
    common.show(
        "CUDA kernels of a control step", columns, [row for r in results for row in _rows(r)]
    )
    common.write(args.out, {"block": nvidia.block_size(), "kernels": results})


def measure(name: str, archs: tuple[int, ...]) -> dict[str, Any]:
    """Everything about one environment's kernel."""
    start = time.perf_counter()
    kernel = step_kernel(name)
    traced = time.perf_counter()
    texts = {arch: nvidia.compile(kernel.ir, arch) for arch in archs}
    emitted = time.perf_counter()
    return {
        "env": name,
        "lines": len(texts[archs[0]].splitlines()),
        "trace_seconds": round(traced - start, 2),
        "emit_seconds": round((emitted - traced) / len(archs), 2),
        "assembled": {arch: assemble(text, arch) for arch, text in texts.items()},
    }


def step_kernel(name: str, worlds: int = 64) -> nvidia_codegen.Kernel:
    """The kernel of a control step of an environment with restarts."""
    env = gpusim.make(name)
    venv = envs.autoreset(env, worlds)
    state = jax.eval_shape(venv.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((worlds, env.action_size), jnp.float32)
    (kernel,) = kernels(jax.make_jaxpr(venv.step)(state, action).jaxpr)
    return kernel


def kernels(jaxpr: Any) -> Iterator[nvidia_codegen.Kernel]:
    """The CUDA kernels a program launches."""
    for eqn in jaxpr.eqns:
        if eqn.primitive is lanes_p:
            yield eqn.params["function"].thread(lanes_of(eqn.params["batched"]))
            continue  # the kernels that it calls are part of it
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from kernels(inner)


def assemble(text: str, arch: int) -> dict[str, Any]:
    """What ptxas says of PTX: registers, spills; an error if it refuses; nothing without ptxas."""
    if shutil.which("ptxas") is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(text, encoding="utf-8")
        command = ["ptxas", "-v", f"-arch=sm_{arch}", str(source), "-o", f"{folder}/kernel.cubin"]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    spills, registers = re.search(SPILLS, done.stderr), re.search(r"Used (\d+) reg", done.stderr)
    if done.returncode or not spills or not registers:
        return {"error": done.stderr.strip()[-1000:]}
    stack, stores, loads = map(int, spills.groups())
    return {
        "registers": int(registers[1]),
        "stack_bytes": stack,
        "spill_store_bytes": stores,
        "spill_load_bytes": loads,
        "seconds": round(seconds, 2),
    }


def _rows(result: dict[str, Any]) -> Iterator[list[str]]:
    head = [result["env"], f"{result['lines']:,}"]
    head += [f"{result['trace_seconds']:.1f}", f"{result['emit_seconds']:.1f}"]
    for arch, found in result["assembled"].items():
        if "registers" not in found:
            yield [*head, str(arch), found.get("error", "no ptxas")[:60]]
        else:
            spills = f"{found['spill_store_bytes']:,} / {found['spill_load_bytes']:,}"
            yield [*head, str(arch), str(found["registers"]), spills, f"{found['seconds']:.1f}"]
        head = [""] * 4


if __name__ == "__main__":
    main(tyro.cli(Args))
