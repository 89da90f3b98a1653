"""What `bench.gpu` measures: each part yields its results one by one."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from bench import common, contenders, curves, physics, train
from bench.contenders import Run, Work

Result = dict[str, Any]
ROOT = Path(__file__).parents[1]
GPU_TESTS = "tests/lanes/test_nvidia_gpu.py"
COMMANDED = ("Go1JoystickFlatTerrain", "G1JoystickFlatTerrain")  # where their files are found
ENVS = ("ant", "humanoid", "half_cheetah", "hopper", "walker2d")
SIZES = tuple(2**k for k in range(10, 18))
TARGETS = {"ant": 6000, "humanoid": 6000, COMMANDED[0]: 25}  # returns whose time counts
SMALL = ["--num-envs=16", "--unroll-length=2", "--num-minibatches=2", "--num-epochs=1",
         "--updates-per-call=1"]  # fmt: skip


# -- correctness -----------------------------------------------------------------------------------


def correctness(quick: bool) -> Iterator[Result]:
    """The tests that need a device, and the compiler's own on the device, at the same time."""
    envs = ENVS if not quick else ()
    jobs = {"host kernels, devices, graphs": ["-m", "gpu", GPU_TESTS, "-k", "not with_xla"]}
    jobs |= {
        f"{env} against XLA": ["-m", "gpu", f"{GPU_TESTS}::test_environments_agree_with_xla[{env}]"]
        for env in envs
    }
    if not quick:
        names = ("primitives", "kernel", "math")
        many = {"primitives": ["-n", "6"]}
        jobs |= {
            f"tests of {name}": [f"tests/lanes/test_{name}.py", *many.get(name, ())]
            for name in names
        }
    # they share the memory; and XLA, which is compared with, multiplies float32 with 10 bits and
    # leaves out conversions to fewer bits and back unless told otherwise
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    flags = f"{env.get('XLA_FLAGS', '')} --xla_allow_excess_precision=false"
    env |= {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "XLA_FLAGS": flags.strip()}
    if quick:
        env |= {"GPUSIM_TEST_PLATFORM": "cpu"}
        jobs["host kernels, devices, graphs"][-1] = "any_number or every_device"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(jobs)) as pool:
        log = {name: Path(folder) / str(k) for k, name in enumerate(jobs)}
        running = {
            pool.submit(_run, [*command, *job], env, log[name]): name for name, job in jobs.items()
        }
        for done in as_completed(running):
            name, seconds = running[done], round(time.perf_counter() - start, 1)
            result = outcome(done.result(), log[name].read_text(encoding="utf-8"))
            yield {"check": name, **result, "seconds": seconds}


def _run(command: list[str], env: dict[str, str], log: Path) -> int:
    """The exit status of a command whose output goes to a file."""
    with log.open("w", encoding="utf-8") as file:
        return subprocess.run(
            command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode


def outcome(status: int, output: str) -> Result:
    """What pytest came to; what failed."""
    lines = output.strip().splitlines() or ["no output"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    result: Result = {"passed": status == 0, "summary": lines[-1]}
    return result if status == 0 else result | {"failed": failed[:60], "end": lines[-25:]}


# -- speed -----------------------------------------------------------------------------------------


def steps_a_second(quick: bool) -> Iterator[Result]:
    """Every environment with all a learner needs; ant and humanoid at all sizes, and bare."""
    if quick:
        yield measure("gpusim", contenders.lanes, "hopper", 16, quick)
        yield measure("gpusim physics", contenders.lanes_physics, "hopper", 16, quick)
        return
    for worlds in (32768, *(n for n in SIZES if n != 32768)):
        yield measure("gpusim", contenders.lanes, "ant", worlds)
    for worlds in (8192, 32768, 131072):
        yield measure("gpusim", contenders.lanes, "humanoid", worlds)
    for env in COMMANDED:
        yield measure("gpusim", contenders.lanes, env, 8192)
    for env in ENVS[2:]:
        yield measure("gpusim", contenders.lanes, env, 32768)
    for env in ENVS[:2]:
        yield measure("gpusim physics", contenders.lanes_physics, env, 32768)
    for env in ENVS[1:]:
        for worlds in SIZES:
            yield measure("gpusim", contenders.lanes, env, worlds)


def measure(
    name: str, contender: Callable[[Work], Run], env: str, worlds: int, quick: bool = False
) -> Result:
    """Rates of one contender in this process, or why there are none."""
    steps, repeats = (2, 1) if quick else (50, 5)
    result = {"contender": name, "env": env, "worlds": worlds}
    start = time.perf_counter()
    try:
        run = contender(Work(env, worlds, steps, repeats, 1))
    except Exception as error:  # the other sizes are still of interest
        return result | {"error": f"{type(error).__name__}: {error}"[-1500:]}
    seconds = time.perf_counter() - start
    rates = common.rate(run.env_steps, run.seconds)
    return result | {
        "env_steps_per_s": dataclasses.asdict(rates),
        "physics_steps_per_s": rates.median * run.substeps,
        "compile_seconds": round(seconds - sum(run.seconds), 1),
        "note": run.note,
    }


def tuning(quick: bool) -> Iterator[Result]:
    """The ant with other blocks and fewer registers; these are read when a kernel is compiled."""
    sizes = (16,) if quick else (32768, 131072)
    for block, registers in ((64, ""), (128, ""), (256, ""), (64, "168"), (128, "128"), (64, "96")):
        os.environ |= {"GPUSIM_CUDA_BLOCK": str(block), "GPUSIM_CUDA_REGISTERS": registers}
        for worlds in sizes:
            env = "hopper" if quick else "ant"
            result = measure("gpusim", contenders.lanes, env, worlds, quick)
            yield result | {"block": block, "registers": registers or "as many as there are"}


# -- training --------------------------------------------------------------------------------------


def training(quick: bool) -> Iterator[Result]:
    """Environment steps a second with the learner on, for more and more worlds."""
    if quick:
        yield trained("hopper", SMALL)
        return
    for env, flags in (("ant", []), ("humanoid", []), ("ant", ["--num-envs=4096"])):
        yield trained(env, flags)


def trained(env: str, flags: list[str]) -> Result:
    result = {"env": env, "flags": flags}
    try:
        return result | train.train(train.Args(env=env, calls=6), flags)
    except Exception as error:
        return result | {"error": str(error)[-1500:]}


def reward(quick: bool) -> Iterator[Result]:
    """From the start of the process, compiling included, to the first evaluation that is good."""
    if quick:
        yield learned("hopper", [*SMALL, "--total-steps=64", "--evaluations=2", "--eval-envs=2"])
        return
    for env in TARGETS:
        yield learned(env, ["--evaluations=15"])


def learned(env: str, flags: list[str]) -> Result:
    result: Result = {"env": env, "flags": flags, "target": TARGETS.get(env)}
    try:
        run = curves.train(env, 0, flags)
    except Exception as error:
        return result | {"error": str(error)[-1500:]}
    good = [
        s for s, r in zip(run["seconds"], run["returns"], strict=True) if r >= TARGETS.get(env, 0)
    ]
    return result | {"seconds_to_target": good[0] if good else None} | run


# -- the peers on the same machine -----------------------------------------------------------------


def peers(quick: bool) -> Iterator[Result]:
    """Each in a process of its own."""
    names = ("brax spring", "mujoco warp", "brax mjx", "mujoco.rollout", "brax mjx humanoid")
    for name in names[:1] if quick else names:
        env = "humanoid" if name.endswith("humanoid") else "ant"
        contender = name.removesuffix(" humanoid")
        if contender == "mujoco warp":
            yield measure(contender, warp, env, 8192) if _has("mujoco_warp") else {
                "contender": contender, "error": "mujoco_warp is not installed"
            }  # fmt: skip
            continue
        worlds, steps = (8, 1) if quick else (8192, 10)
        args = physics.Args(env=env, repeats=3, num_envs=worlds, steps=steps)
        threads = common.cores()
        yield {"env": env} | physics.measure(args, contender, threads)


def warp(work: Work) -> Run:
    """MuJoCo Warp, physics alone, one CUDA graph a step as its documentation advises."""
    import mujoco
    import mujoco_warp  # pyright: ignore[reportMissingImports]  # an extra
    import warp as wp  # pyright: ignore[reportMissingImports]

    import gpusim

    env: Any = gpusim.make(work.env)
    host = env.model.mj
    start = mujoco.MjData(host)  # pyright: ignore[reportAttributeAccessIssue]  # no stubs
    model = mujoco_warp.put_model(host)
    data = mujoco_warp.put_data(host, start, nworld=work.num_envs)
    step = lambda: mujoco_warp.step(model, data)
    step()
    if wp.get_device().is_cuda:
        with wp.ScopedCapture() as capture:
            mujoco_warp.step(model, data)
        step = lambda: wp.capture_launch(capture.graph)

    def run() -> None:
        for _ in range(work.steps * env.n_frames):
            step()
        wp.synchronize()

    seconds = common.time_repeats(run, work.repeats)
    note = "physics only, no controls, no resets"
    return Run(seconds, work.num_envs * work.steps, env.n_frames, work.num_envs, note)


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


PARTS: dict[str, Callable[[bool], Iterator[Result]]] = {
    "correctness": correctness,
    "physics": steps_a_second,
    "training": training,
    "reward": reward,
    "peers": peers,
    "tuning": tuning,
}
