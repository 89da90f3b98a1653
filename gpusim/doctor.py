"""What this machine offers, and what is wrong: ``python -m gpusim.doctor``."""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from gpusim import shell

PACKAGES = ("jax", "jaxlib", "llvmlite", "mujoco", "flax", "optax", "numpy")
EXTRAS = {  # module: what it is for, and what brings it
    "brax": ("Brax's environments on its own physics", "brax"),
    "PIL": ("pictures of a policy, play --gif", "pillow"),
    "imageio_ffmpeg": ("films of a policy, play --video", "imageio-ffmpeg"),
    "ipykernel": ("notebooks", "ipykernel"),
}
SETTINGS = ("GPUSIM_", "JAX_", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "MUJOCO_GL")


class Finding(NamedTuple):
    """One thing looked at."""

    what: str
    said: str
    remedy: str = ""  # what to do about it; "": nothing is wrong
    absent: bool = False  # something that one may do without


@shell.command("gpusim.doctor")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 if something is wrong."""
    argparse.ArgumentParser(prog="python -m gpusim.doctor", description=__doc__).parse_args(argv)
    wrong = 0
    for finding in (*_installation(), *_machine(), *_devices(), *_extras()):
        wrong += bool(finding.remedy)
        sign = "!!" if finding.remedy else "--" if finding.absent else "ok"
        shell.say(f"{sign} {finding.what:15}{finding.said}")
        if finding.remedy:
            shell.say(f"   {'':15}-> {finding.remedy}")
    shell.say(f"{wrong} thing(s) to mend" if wrong else "nothing to mend")
    return int(wrong > 0)


def _installation() -> Iterator[Finding]:
    place = Path(__file__).parent
    try:
        yield Finding("gpusim", f"{metadata.version('gpusim')} in {place}")
    except metadata.PackageNotFoundError:
        yield Finding("gpusim", f"in {place}, not installed", f"pip install {place.parent}")
    fine = (3, 11) <= sys.version_info < (3, 14)
    remedy = "" if fine else "use Python 3.11, 3.12 or 3.13"
    yield Finding("python", f"{platform.python_version()} in {sys.executable}", remedy)
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    remedy = f"pip install {' '.join(missing)}" if missing else ""
    yield Finding("packages", ", ".join(versions), remedy)
    found = {n: v for n, v in os.environ.items() if n.startswith(SETTINGS)}
    yield Finding("environment", " ".join(f"{n}={v}" for n, v in found.items()) or "nothing set")


def _machine() -> Iterator[Finding]:
    system = f"{platform.system()} on {platform.machine()}"
    linux = "" if platform.system() == "Linux" else "only Linux is tested; on Windows use WSL"
    yield Finding("system", system, linux)
    affinity = getattr(os, "sched_getaffinity", None)
    mine, all_ = len(affinity(0)) if affinity else os.cpu_count(), os.cpu_count()
    load = os.getloadavg()[0]
    busy = "; others use them: timings will be worse" if load > 0.5 * (all_ or 1) else ""
    yield Finding("cores", f"{mine} of {all_} are ours, load {load:.1f}{busy}")
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        pages, page = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        free = pages * page / 2**30
        yield Finding("memory", f"{free:.1f} GiB free", "close something" if free < 1 else "")
    yield _cache()


def _cache() -> Finding:
    from gpusim.lanes import cache

    root = cache.root()
    if root is None:
        return Finding("cache", "off", "unset GPUSIM_CACHE: every start compiles all it needs")
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding("cache", f"{root}: {error.strerror}", "set GPUSIM_CACHE to your own folder")
    size = sum(f.stat().st_size for f in root.parent.rglob("*") if f.is_file()) / 2**20
    free = shutil.disk_usage(root).free / 2**30
    return Finding("cache", f"{root.parent}, {size:.0f} MiB", "free some disk" if free < 1 else "")


def _devices() -> Iterator[Finding]:
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        yield Finding("devices", str(error).splitlines()[0], "JAX_PLATFORMS=cpu keeps to the CPU")
        return
    kinds = ", ".join(f"{d.platform}:{d.id} {d.device_kind}" for d in devices)
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    missed = driver and all(d.platform == "cpu" for d in devices)
    remedy = "there is an NVIDIA driver: pip install 'jax[cuda12]'" if missed else ""
    yield Finding("devices", kinds, remedy)
    yield _lanes(devices[0].platform)


def _lanes(platform: str) -> Finding:
    """Compile a small kernel and compare it with JAX's own result."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from gpusim import lanes
    from gpusim.lanes.host import target

    if os.environ.get("GPUSIM_LANES") == "xla":
        return Finding("lanes", "off", "unset GPUSIM_LANES: everything runs through XLA, slowly")
    function = lambda x: jnp.sin(x) * x + jnp.where(x > 0, 1.0, 2.0)
    x = jnp.linspace(-3, 3, 100)
    try:
        host = target.host()
        ours = jax.jit(jax.vmap(lanes.kernel(function)))(x)
        np.testing.assert_allclose(ours, jax.vmap(function)(x), rtol=1e-5, atol=1e-5)
    except (ValueError, RuntimeError, AssertionError, OSError) as error:
        said = str(error).strip().splitlines()[0]
        return Finding("lanes", said, "GPUSIM_LANES=xla runs everything through XLA instead")
    bits = host.vector_bits
    where = f"{host.cpu}, {bits}-bit registers, {bits // 32} numbers in each"
    known = {"cpu": where, "cuda": "CUDA kernels", "gpu": "CUDA kernels"}
    slow = "kernels exist for CPUs and NVIDIA devices: the rest runs through XLA"
    remedy = "" if platform in known else slow
    return Finding("lanes", f"{known.get(platform, 'none')}; a kernel agrees with JAX", remedy)


def _extras() -> Iterator[Finding]:
    for module, (what, package) in EXTRAS.items():
        there = util.find_spec(module) is not None
        said = what if there else f"{what}: pip install {package}"
        yield Finding(package, said, absent=not there)
    if util.find_spec("PIL") is not None:
        yield _films()


def _films() -> Finding:
    """Draw a picture as films are drawn."""
    import mujoco

    from gpusim.report import film, replay

    ball = '<mujoco><worldbody><body><geom size="1"/></body></worldbody></mujoco>'
    model = mujoco.MjModel.from_xml_string(ball)  # pyright: ignore[reportAttributeAccessIssue]
    with tempfile.TemporaryDirectory() as folder:
        try:
            track = replay.Track(model.qpos0[None])
            film.write(Path(folder) / "a.webp", model, track, 1.0, size=(64, 48))
        except film.FilmError as error:
            return Finding("films", str(error), absent=True)
    return Finding("films", "MuJoCo draws them")


if __name__ == "__main__":
    sys.exit(main())
