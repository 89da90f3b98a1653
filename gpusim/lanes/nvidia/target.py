"""Compiles CUDA kernels to PTX with LLVM's NVPTX target and registers them as XLA FFI targets.

No CUDA toolkit takes part: LLVM writes PTX, the driver makes machine code of it, and both are kept
in the cache on disk.
"""

from __future__ import annotations

import functools
import os
import re
import threading

import jax
import llvmlite.binding as llvm

from gpusim.lanes import cache
from gpusim.lanes.host import handler
from gpusim.lanes.host import target as host
from gpusim.lanes.host.abi import Abi, header
from gpusim.lanes.nvidia import driver as nvidia_driver
from gpusim.lanes.nvidia import handler as nvidia_handler
from gpusim.lanes.nvidia.emitter import Kernel

TRIPLE = "nvptx64-nvidia-cuda"
PLATFORM = "CUDA"
# Compute capability -> the oldest PTX version that knows it, but none older than 8.0 (CUDA 12.0).
# A device runs the PTX of any capability up to its own.
PTX_VERSIONS = {70: 80, 75: 80, 80: 80, 86: 80, 89: 80, 90: 80, 100: 86, 120: 87}
BLOCK = 256  # the largest of which each thread may have 255 registers
BLOCKS = ("32", "64", "128", "256", "512", "1024")


def block_size() -> int:
    """Threads in a block at most, from GPUSIM_CUDA_BLOCK."""
    text = os.environ.get("GPUSIM_CUDA_BLOCK") or str(BLOCK)
    if text not in BLOCKS:
        raise ValueError(f"GPUSIM_CUDA_BLOCK={text!r} is none of {', '.join(BLOCKS)}")
    return int(text)


def max_registers() -> int | None:
    """Most registers a thread may use, from GPUSIM_CUDA_REGISTERS; None: as many as there are."""
    text = os.environ.get("GPUSIM_CUDA_REGISTERS")
    if not text:
        return None
    if not text.isdecimal() or not 16 <= int(text) <= 255:
        raise ValueError(f"GPUSIM_CUDA_REGISTERS={text!r} is not a whole number from 16 to 255")
    return int(text)


_LOCK = threading.Lock()
_LOADED: dict[str, llvm.ResourceTracker] = {}  # by target name; keeps handlers, for ever


def load(kernel: Kernel) -> str:
    """Compiles a kernel and returns the name of its XLA FFI target for the platform "cuda".

    The name is a hash of all that matters, as with the host's. Kernels stay loaded. Raises
    RuntimeError if the driver or LLVM cannot do it.
    """
    driver = nvidia_driver.driver()
    devices = local_devices()
    capability = min(driver.capability(device) for device in devices)
    limit = max_registers()
    launcher = nvidia_handler.handler_ir(kernel.arg_lanes, kernel.results, kernel.block, header())
    versions = (nvidia_handler.VERSION, handler.VERSION)
    name = f"gpusim_lanes_{host.digest(versions, kernel.ir, launcher, capability, limit)[:32]}"
    with _LOCK:
        if name not in _LOADED:
            text = ptx(kernel.ir, capability, limit)
            function = driver.load(text, kernel.entry, devices)
            code = host.object_code(host.digest(launcher, host.host()), launcher)
            linked = host.link(name, code, handler.ENTRY, nvidia_handler.LAUNCH)
            layout = Abi(nvidia_handler.STRUCTS)
            for field, value in function.items():
                address = linked[nvidia_handler.LAUNCH] + layout.field(f"Launch.{field}")[0]
                nvidia_driver.store_word(address, value)
            host.register(name, linked, PLATFORM)
            _LOADED[name] = linked
    return name


def local_devices() -> list[int]:
    """The driver's numbers of the devices that JAX uses in this process."""
    return [device.local_hardware_id for device in jax.local_devices(backend="cuda")]


def ptx(ir: str, capability: int, limit: int | None = None) -> str:
    """PTX of a kernel for devices of this compute capability (90 is 9.0) or a later one.

    `limit`: registers a thread. Division and square roots are rounded correctly.
    """
    arch = max((known for known in PTX_VERSIONS if known <= capability), default=None)
    if arch is None:
        raise RuntimeError(
            f"an NVIDIA device of compute capability {capability / 10} is too old for gpusim's "
            "kernels, which need 7.0; set GPUSIM_LANES=xla to run without them"
        )
    key = host.digest("ptx", ir, arch, PTX_VERSIONS[arch], limit)
    return cache.through(key, lambda: compile(ir, arch, limit).encode()).decode()


def compile(ir: str, arch: int, limit: int | None = None) -> str:
    """PTX for one of PTX_VERSIONS, without the cache."""
    machine = _machine(arch)
    layout = f'target triple = "{TRIPLE}"\ntarget datalayout = "{machine.target_data}"\n'
    module = llvm.parse_assembly(layout + ir, llvm.create_context())
    module.verify()
    text = machine.emit_assembly(module)
    if limit is None:
        return text
    return re.sub(r"^(\.maxntid [^\n]*\n)", rf"\g<1>.maxnreg {limit}\n", text, flags=re.MULTILINE)


@functools.cache
def _machine(arch: int) -> llvm.TargetMachine:
    try:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        target = llvm.Target.from_triple(TRIPLE)
    except RuntimeError as error:
        raise RuntimeError(
            f"this llvmlite cannot write code for NVIDIA devices ({error}); install llvmlite from "
            "PyPI, or set GPUSIM_LANES=xla to run without generated kernels"
        ) from error
    return target.create_target_machine(
        cpu=f"sm_{arch}", features=f"+ptx{PTX_VERSIONS[arch]}", opt=3
    )
