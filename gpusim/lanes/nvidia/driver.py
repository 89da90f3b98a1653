"""NVIDIA's driver: what it takes to make machine code of PTX and to find a kernel in it.

`libcuda.so.1` comes with the driver, so every machine whose GPU JAX can use has it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator, Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from typing import Any

from gpusim.lanes import cache
from gpusim.lanes.host import target as host

REMEDY = "set GPUSIM_LANES=xla to run without generated kernels"
OLDEST = 12000  # the driver of CUDA 12.0, the first with libraries of kernels
# From cuda.h:
CAPABILITY = (75, 76)  # CUdevice_attribute: major, minor
PROCESSORS = 16  # likewise: streaming multiprocessors
ERROR_LOG, ERROR_LOG_BYTES = 5, 6  # CUjit_option
PTX_INPUT = 1  # CUjitInputType


class Driver:
    """The driver's functions; what fails raises RuntimeError with the driver's name for it."""

    def __init__(self, library: Any):
        self.library = library
        self.call("cuInit", 0)
        version = c_int()
        self.call("cuDriverGetVersion", byref(version))
        self.version = version.value
        if self.version < OLDEST:
            raise RuntimeError(
                f"the NVIDIA driver is for CUDA {self.version // 1000}.{self.version % 1000 // 10}"
                f", gpusim's kernels need one for CUDA 12 or later; update it, or {REMEDY}"
            )

    def call(self, function: str, *arguments: Any) -> None:
        """Calls a function that returns a CUresult."""
        status = getattr(self.library, function)(*arguments)
        if status:
            name = c_char_p()
            self.library.cuGetErrorName(status, byref(name))
            said = (name.value or b"unknown error").decode()
            raise RuntimeError(f"{function} of the NVIDIA driver failed: {said} ({status})")

    def address(self, function: str) -> int:
        """Where a function is."""
        return ctypes.cast(getattr(self.library, function), c_void_p).value or 0

    @functools.cache  # noqa: B019  (there is one driver)
    def capability(self, device: int) -> int:
        """Compute capability of the device with this number, as in 90."""
        major, minor = (self._attribute(device, number) for number in CAPABILITY)
        return 10 * major + minor

    def load(self, ptx: str, entry: str, devices: Sequence[int]) -> dict[str, int]:
        """What launches the kernel `entry` of a PTX text: the CUkernel and two functions, which are
        pointers, and the number of processors of the smallest device.

        The kernel is good on all of `devices`, which are those it is loaded on. Devices of one kind
        share the machine code kept on disk; for a mixture the driver makes it of the PTX.
        """
        capabilities = {self.capability(device) for device in devices}
        image = ptx.encode() + b"\0"
        if len(capabilities) == 1:
            key = host.digest("cubin", ptx, capabilities, self.version)
            image = cache.through(key, lambda: self._assemble(image, entry, devices[0]))
        library, kernel, function = c_void_p(), c_void_p(), c_void_p()
        nothing = (None, None, 0)  # no options
        self.call("cuLibraryLoadData", byref(library), image, *nothing, *nothing)
        self.call("cuLibraryGetKernel", byref(kernel), library, entry.encode())
        for device in devices:
            # Otherwise it is loaded at its first use, which may be while a CUDA graph is recorded.
            with self._current(device):
                self.call("cuKernelGetFunction", byref(function), kernel)
                if self.version >= 12040:
                    self.call("cuFuncLoad", function)
        assert kernel.value
        return {
            "kernel": kernel.value,
            "launch": self.address("cuLaunchKernel"),
            "name": self.address("cuGetErrorName"),
            "processors": min(self._attribute(device, PROCESSORS) for device in devices),
        }

    def _assemble(self, ptx: bytes, entry: str, device: int) -> bytes:
        """PTX (with its final zero) to machine code for one device."""
        log = ctypes.create_string_buffer(8192)
        options = (c_int * 2)(ERROR_LOG, ERROR_LOG_BYTES)
        values = (c_void_p * 2)(ctypes.addressof(log), len(log))
        link, code, size = c_void_p(), c_void_p(), c_size_t()
        with self._current(device):
            self.call("cuLinkCreate_v2", 2, options, values, byref(link))
            try:
                name, nothing = entry.encode(), (0, None, None)
                self.call(
                    "cuLinkAddData_v2", link, PTX_INPUT, ptx, c_size_t(len(ptx)), name, *nothing
                )
                self.call("cuLinkComplete", link, byref(code), byref(size))
                return ctypes.string_at(code, size.value)
            except RuntimeError as error:
                said = log.value.decode(errors="replace").strip()
                raise RuntimeError(f"{error}: {said or 'no explanation'}; {REMEDY}") from error
            finally:
                self.call("cuLinkDestroy", link)

    @contextlib.contextmanager
    def _current(self, device: int) -> Iterator[None]:
        """The context that XLA uses on a device is this thread's."""
        handle, context = self._device(device), c_void_p()
        self.call("cuDevicePrimaryCtxRetain", byref(context), handle)
        try:
            self.call("cuCtxPushCurrent_v2", context)
            try:
                yield
            finally:
                self.call("cuCtxPopCurrent_v2", byref(c_void_p()))
        finally:
            self.call("cuDevicePrimaryCtxRelease_v2", handle)

    def _attribute(self, device: int, number: int) -> int:
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), number, self._device(device))
        return value.value

    def _device(self, number: int) -> c_int:
        handle = c_int()
        self.call("cuDeviceGet", byref(handle), number)
        return handle


@functools.cache
def driver() -> Driver:
    """This process's driver. RuntimeError if there is none, or one that is too old."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise RuntimeError(
            f"no NVIDIA driver is installed ({error}); do so, or {REMEDY}"
        ) from error
    return Driver(library)


def store_word(address: int, value: int) -> None:
    """Writes a pointer, or a number of its size, to memory."""
    c_void_p.from_address(address).value = value
