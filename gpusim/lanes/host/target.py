"""Compiles groups of lanes for this machine's CPU and registers them as XLA FFI targets."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import os
import sys
import threading

import jax
import jax.ffi
import llvmlite
import llvmlite.binding as llvm

from gpusim.lanes import cache
from gpusim.lanes.host import handler, threads
from gpusim.lanes.host.abi import Abi, header


@dataclasses.dataclass(frozen=True)
class Host:
    """The machine code is generated for."""

    triple: str
    cpu: str  # LLVM's name, as in "znver4"
    features: str  # LLVM's list, as in "+avx2,-avx512f"
    vector_bits: int  # 512, 256 or 128: the widest registers worth using


@functools.cache
def host() -> Host:
    """This process's machine, narrowed by GPUSIM_LANES_ISA = avx512 | avx2 | sse if set."""
    return _describe(
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        dict(llvm.get_host_cpu_features()),
        os.environ.get("GPUSIM_LANES_ISA") or None,
    )


_ISAS = {  # name -> bits, features it needs, what to switch off to keep to it
    "avx512": (512, ("avx512f", "avx512bw", "avx512dq", "avx512vl"), ""),
    "avx2": (256, ("avx2", "fma"), ",-avx512f"),
    "sse": (128, ("sse2",), ",-avx"),
}


def _describe(triple: str, cpu: str, features: dict[str, bool], isa: str | None) -> Host:
    if isa is not None and isa not in _ISAS:
        raise ValueError(f"GPUSIM_LANES_ISA={isa!r} is none of {', '.join(_ISAS)}")
    flags = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items()))
    for name, (bits, needs, without) in _ISAS.items():
        if isa in (None, name) and all(features.get(need) for need in needs):
            return Host(triple, cpu, flags + without, bits)
    if isa is not None:
        raise ValueError(f"GPUSIM_LANES_ISA={isa}: this machine ({triple}, {cpu}) has no {isa}")
    return Host(triple, cpu, flags, 128)


_LOCK = threading.Lock()
_LOADED: dict[str, llvm.ResourceTracker] = {}  # by target name; keeps code in memory, for ever


def load(group_ir: str, *, width: int, arg_lanes: tuple[bool, ...]) -> str:
    """Compiles a group and returns the name of its XLA FFI target for the platform "cpu".

    `group_ir`: LLVM IR of `void @group(ptr %ins, ptr %outs, i64 %lane, i64 %lanes)` with what it
    needs, without triple and data layout. It computes `width` worlds from `lane` on; element k of
    a buffer is at `k * lanes + lane`. It must be pure: the last group overlaps its neighbour.
    `arg_lanes`: for each argument whether its leading axis is the lanes.

    The name is a hash of all that matters, so a program that XLA's compilation cache brings back
    never meets another kernel. Code stays loaded: XLA may call it as long as the process lives.
    """
    target = host()
    machine = target.triple.split("-")[0]
    text = group_ir + handler.handler_ir(machine, width, arg_lanes, header())
    key = digest(handler.VERSION, text, target)
    name = f"gpusim_lanes_{key[:32]}"
    with _LOCK:
        if name not in _LOADED:
            linked = link(name, object_code(key, text), handler.ENTRY, handler.POOL)
            ctypes.c_void_p.from_address(linked[handler.POOL]).value = ctypes.addressof(_pool())
            _LOADED[name] = register(name, linked, "cpu")
    return name


def digest(*parts: object) -> str:
    """A name for what is made of these parts with this version of LLVM."""
    versions = (llvmlite.__version__, llvm.llvm_version_info)
    return hashlib.sha256(repr((*parts, versions)).encode()).hexdigest()


def object_code(key: str, text: str) -> bytes:
    """LLVM IR for this machine as object code, which the cache may have under this key."""
    return cache.through(key, lambda: _compile(text, host()))


def _compile(text: str, target: Host) -> bytes:
    """LLVM IR to object code."""
    machine = _machine(target)
    layout = f'target triple = "{target.triple}"\ntarget datalayout = "{machine.target_data}"\n'
    module = llvm.parse_assembly(layout + text, llvm.create_context())
    module.verify()
    return machine.emit_object(module)


def _machine(target: Host) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # Measured on physics steps: LLVM's middle end gains nothing after our own folding and sharing,
    # level 1 takes as long as 2, and at level 0 or with the basic register allocator code is slow.
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
    )


@functools.cache
def _linker() -> llvm.LLJIT:
    # JITLink allocates an object's sections side by side, in reach of 32-bit offsets at any size.
    return llvm.create_lljit_compiler(_machine(host()), use_jit_link=True)


def link(name: str, code: bytes, *symbols: str) -> llvm.ResourceTracker:
    """Links object code into the process; the result has the addresses of the symbols."""
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for symbol in symbols:
        builder.export_symbol(symbol)
    return builder.link(_linker(), name)


def register(name: str, linked: llvm.ResourceTracker, platform: str) -> llvm.ResourceTracker:
    """Tells XLA about a linked handler."""
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(linked[handler.ENTRY]), platform=platform)
    return linked


@functools.cache
def _pool() -> ctypes.Array:
    """The process's `Pool` (see threads.py), with the limit that GPUSIM_THREADS sets."""
    pool = (ctypes.c_int64 * (Abi(threads.STRUCTS).size("Pool") // 8))()
    pool[0] = _thread_limit(os.environ.get("GPUSIM_THREADS"))
    return pool


def _thread_limit(text: str | None) -> int:
    """Most threads for one call: as many as asked for, else one a core this process may use."""
    if not text:
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"GPUSIM_THREADS={text!r} is not a positive whole number")
    return int(text)
