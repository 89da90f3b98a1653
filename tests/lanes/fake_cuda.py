"""An NVIDIA driver for machines without one: it takes what the real one takes and runs on the CPU.

PTX is assembled by ptxas where that is installed, so what is "loaded" is real machine code; what
is "launched" is the same LLVM IR, compiled for this machine and run thread after thread. Every
misuse of the driver that can be seen from its side raises, and so fails the call.
"""

import ctypes
import re
import shutil
import string
import subprocess
import tempfile
import threading
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from gpusim.lanes.host import abi
from gpusim.lanes.host import target as host
from gpusim.lanes.nvidia.emitter import Kernel

PTXAS = shutil.which("ptxas")
STREAM = 0x5EED  # the one XLA is said to use
PROCESSORS = 4  # of each device
OUT_OF_RESOURCES = 701  # CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
NOT_INITIALIZED, BAD_PTX, OTHER = 3, 218, 999
NAMES = {
    OUT_OF_RESOURCES: b"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    BAD_PTX: b"CUDA_ERROR_INVALID_PTX",
}
HANDLES = POINTER(c_void_p)


def assemble(ptx: str, arch: int) -> tuple[bytes, str]:
    """Machine code of ptxas for sm_`arch`, and what it says of registers and spills.

    RuntimeError with its message for PTX that is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, code = Path(folder) / "k.ptx", Path(folder) / "k.cubin"
        source.write_text(ptx)
        command = [PTXAS or "ptxas", "-v", f"-arch=sm_{arch}", str(source), "-o", str(code)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return code.read_bytes(), done.stderr


class FakeCuda:
    """Has the driver's functions as attributes, with their C types, as a ctypes library does.

    `capabilities`: of each device. `runnable`: entry -> kernel, to be filled before it is launched.
    """

    on_host: Callable[..., Any]  # (program, *arguments): runs it with host kernels instead

    def __init__(self, capabilities=(90, 90), version=12080):
        self.capabilities, self.version = capabilities, version
        self.runnable: dict[str, Kernel] = {}
        self.launches: list[dict[str, int]] = []
        self.loaded: list[tuple[int, str]] = []  # (device, entry), in this order
        self.links = 0  # PTX texts that were made machine code of
        self.fail = 0  # what the next launches return
        self.ready = False
        self.contexts: list[int] = []  # device numbers; the last is current
        self.retained = 0
        self.objects: list = []  # handle - 1: what it stands for
        self.native: dict[str, llvm.ResourceTracker] = {}  # LLVM IR: its machine code, loaded
        self.lock = threading.Lock()
        for name, (types, function) in self._functions().items():
            checked = lambda *arguments, function=function: self._checked(function, *arguments)
            setattr(self, name, CFUNCTYPE(c_int, *types)(checked))

    def _functions(self):
        i, p, s = c_int, c_void_p, c_char_p
        out_i, out_p = POINTER(c_int), HANDLES
        return {
            "cuInit": ((c_uint,), self._init),
            "cuDriverGetVersion": ((out_i,), lambda out: self._give(out, self.version)),
            "cuGetErrorName": ((i, POINTER(c_char_p)), self._name),
            "cuDeviceGet": ((out_i, i), self._device),
            "cuDeviceGetAttribute": ((out_i, i, i), self._attribute),
            "cuDevicePrimaryCtxRetain": ((out_p, i), self._retain),
            "cuDevicePrimaryCtxRelease_v2": ((i,), self._release),
            "cuCtxPushCurrent_v2": ((p,), lambda context: self.contexts.append(context - 100)),
            "cuCtxPopCurrent_v2": (
                (out_p,),
                lambda out: self._give(out, self.contexts.pop() + 100),
            ),
            "cuLinkCreate_v2": ((c_uint, out_i, out_p, out_p), self._link),
            "cuLinkAddData_v2": ((p, i, p, c_size_t, s, c_uint, out_i, out_p), self._add),
            "cuLinkComplete": ((p, out_p, POINTER(c_size_t)), self._complete),
            "cuLinkDestroy": ((p,), lambda link: self._of(link, dict).clear()),
            "cuLibraryLoadData": ((out_p, s, *(out_i, out_p, c_uint) * 2), self._library),
            "cuLibraryGetKernel": ((out_p, p, s), self._kernel),
            "cuKernelGetFunction": ((out_p, p), self._function),
            "cuFuncLoad": ((p,), lambda function: self._of(function, str)),
            "cuLaunchKernel": ((p, *(c_uint,) * 7, p, HANDLES, HANDLES), self._launch),
        }

    def _checked(self, function, *arguments) -> int:
        """A CUresult; a Python exception cannot leave a C function."""
        try:
            status = function(*arguments)
        except Exception as error:
            print(f"fake driver: {error!r}")
            return OTHER
        return status if isinstance(status, int) else 0

    def _new(self, thing) -> int:
        self.objects.append(thing)
        return len(self.objects)

    def _of(self, handle: int, kind):
        thing = self.objects[handle - 1]
        assert isinstance(thing, kind), thing
        return thing

    def _give(self, out, value):
        out[0] = value

    # -- the device --------------------------------------------------------------------------------

    def _init(self, flags):
        assert flags == 0
        self.ready = True

    def _name(self, status, out):
        out[0] = NAMES.get(status)
        return 0 if status in NAMES else 1

    def _device(self, out, number):
        if not self.ready:
            return NOT_INITIALIZED
        assert number < len(self.capabilities)
        out[0] = number

    def _attribute(self, out, attribute, device):
        major, minor = divmod(self.capabilities[device], 10)
        out[0] = {16: PROCESSORS, 75: major, 76: minor}[attribute]

    def _retain(self, out, device):
        self.retained += 1
        out[0] = device + 100

    def _release(self, device):
        self.retained -= 1
        assert self.retained >= 0

    def _pop(self, out):
        out[0] = self.contexts.pop() + 100

    # -- code --------------------------------------------------------------------------------------

    def _link(self, count, options, values, out):
        assert self.contexts
        given = {options[k]: values[k] for k in range(count)}
        out[0] = self._new({"log": given[5], "bytes": given[6]})

    def _add(self, link, kind, data, size, name, count, options, values):
        text = ctypes.string_at(data, size)
        assert kind == 1
        assert text.endswith(b"\0")
        assert (count, bool(options), bool(values)) == (0, False, False)
        state = self._of(link, dict)
        try:
            arch = self.capabilities[self.contexts[-1]]
            state["code"] = assemble(text[:-1].decode(), arch)[0] if PTXAS else text
        except RuntimeError as error:
            said = str(error).encode()[: state["bytes"] - 1] + b"\0"
            ctypes.memmove(state["log"], said, len(said))
            return BAD_PTX

    def _complete(self, link, out, size):
        state = self._of(link, dict)
        state["kept"] = ctypes.create_string_buffer(state["code"])
        out[0], size[0] = ctypes.addressof(state["kept"]), len(state["code"])
        self.links += 1

    def _library(self, out, image, *options):
        assert not any(options)
        out[0] = self._new(self)

    def _kernel(self, out, library, name):
        self._of(library, FakeCuda)
        out[0] = self._new(name.decode())

    def _function(self, out, kernel):
        entry = self._of(kernel, str)
        self.loaded.append((self.contexts[-1], entry))
        out[0] = self._new(entry)

    # -- launching ---------------------------------------------------------------------------------

    def _launch(self, kernel, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        launched = self.runnable[self._of(kernel, str)]
        self.launches.append({"blocks": gx, "block": bx, "stream": stream or 0})
        assert (gy, gz, by, bz, shared, bool(extra)) == (1, 1, 1, 1, 0, False)
        if self.fail:
            return self.fail
        with self.lock:
            run = CFUNCTYPE(None, c_uint, c_uint, HANDLES)(self._address(launched))
            run(gx, bx, parameters)

    def _address(self, kernel: Kernel) -> int:
        """Machine code, for this machine, of all threads one after the other."""
        if kernel.ir not in self.native:
            text = on_cpu(kernel)
            name = host.digest(text)
            self.native[kernel.ir] = host.link(name, host.object_code(name, text), "launch")
        return self.native[kernel.ir]["launch"]


def on_cpu(kernel: Kernel) -> str:
    """LLVM IR of `launch(i32 blocks, i32 threads, ptr parameters)`, which runs a kernel's grid."""
    ir = kernel.ir.replace("ptx_kernel ", "")
    ir = re.sub(r"declare i32 @llvm.nvvm.read.ptx.sreg.\w+.x\(\)\n", "", ir)
    ir = ir.replace("llvm.nvvm.read.ptx.sreg.", "")
    pointers = len(kernel.arg_lanes) + kernel.results
    loads = [
        f"%a{k} = getelementptr ptr, ptr %parameters, i64 {k}\n  %p{k} = load ptr, ptr %a{k}"
        for k in range(pointers + 1)
    ]
    loads += [f"%b{k} = load ptr, ptr %p{k}" for k in range(pointers)]
    loads += [f"%lanes = load i64, ptr %p{pointers}"]
    values = {
        "loads": "\n  ".join(loads),
        "entry": kernel.entry,
        "arguments": ", ".join([*(f"ptr %b{k}" for k in range(pointers)), "i64 %lanes"]),
    }
    return ir + string.Template(_GRID).substitute(values)


_GRID = """
@block = internal global i32 0
@thread = internal global i32 0
@threads = internal global i32 0
define i32 @ntid.x() {
  %x = load i32, ptr @threads
  ret i32 %x
}
define i32 @ctaid.x() {
  %x = load i32, ptr @block
  ret i32 %x
}
define i32 @tid.x() {
  %x = load i32, ptr @thread
  ret i32 %x
}
define void @launch(i32 %blocks, i32 %threads, ptr %parameters) {
entry:
  $loads
  %all = mul i32 %blocks, %threads
  store i32 %threads, ptr @threads
  br label %loop
loop:
  %k = phi i32 [ 0, %entry ], [ %k1, %loop ]
  %b = udiv i32 %k, %threads
  %t = urem i32 %k, %threads
  store i32 %b, ptr @block
  store i32 %t, ptr @thread
  call void @$entry($arguments)
  %k1 = add i32 %k, 1
  %more = icmp ult i32 %k1, %all
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


class StreamGiver:
    """Stands between XLA's CPU client, which has no streams, and a handler: gives it STREAM.

    All else of XLA's interface is XLA's own.
    """

    def __init__(self, entry: int):
        self.layout = abi.Abi(abi.header())
        self.real = CFUNCTYPE(c_void_p, c_void_p)(entry)
        self.stream_get = CFUNCTYPE(c_void_p, c_void_p)(self._stream_get)
        self.handler = CFUNCTYPE(c_void_p, c_void_p)(self._handle)

    def address(self) -> int:
        value = ctypes.cast(self.handler, c_void_p).value
        assert value
        return value

    def _at(self, address: int, path: str) -> c_void_p:
        return c_void_p.from_address(address + self.layout.field(path)[0])

    def _copy(self, address: int) -> ctypes.Array:
        """Every struct of the interface begins with its size."""
        return ctypes.create_string_buffer(
            ctypes.string_at(address, c_size_t.from_address(address).value)
        )

    def _stream_get(self, args):
        self._at(args, "Stream_Get_Args.stream").value = STREAM
        return None

    def _handle(self, frame):
        if self._at(frame, "CallFrame.extension_start").value:
            return self.real(frame)
        frame = self._copy(frame)
        api = self._copy(self._at(ctypes.addressof(frame), "CallFrame.api").value or 0)
        stream_get = ctypes.cast(self.stream_get, c_void_p).value
        self._at(ctypes.addressof(api), "Api.Stream_Get").value = stream_get
        self._at(ctypes.addressof(frame), "CallFrame.api").value = ctypes.addressof(api)
        return self.real(ctypes.addressof(frame))


def traits(entry: int) -> dict[str, int]:
    """What a handler answers when XLA asks for its metadata."""
    layout = abi.Abi(abi.header())
    memory = {name: (ctypes.c_int64 * 32)() for name in ("frame", "extension", "metadata")}
    at = {name: ctypes.addressof(words) for name, words in memory.items()}
    c_void_p.from_address(at["frame"] + layout.field("CallFrame.extension_start")[0]).value = at[
        "extension"
    ]
    c_void_p.from_address(
        at["extension"] + layout.field("Metadata_Extension.metadata")[0]
    ).value = at["metadata"]
    assert CFUNCTYPE(c_void_p, c_void_p)(entry)(at["frame"]) is None
    fields = ("api_version.major_version", "api_version.minor_version", "traits")
    return {
        f: c_int.from_address(at["metadata"] + layout.field(f"Metadata.{f}")[0]).value
        for f in fields
    }
