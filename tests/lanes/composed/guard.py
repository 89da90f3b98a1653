"""Runs a kernel's machine code with every array between pages that cannot be touched.

The arguments, the results and the arrays that the code keeps on its stack or beside it each lie in
a mapping of their own, against the page behind or against the page before; whoever reads or writes
outside them stops the process with SIGSEGV. Arrays on the stack begin as bytes of ones (NaN, -1),
so a number that is read before it is written shows in the results.
"""

import contextlib
import ctypes
import functools
import itertools
import math
import mmap
import re
from collections.abc import Iterator
from unittest import mock

import jax
import numpy as np

from gpusim.lanes import budget, jaxprs
from gpusim.lanes.host import target as host
from tests.lanes.composed import check

PAGE = mmap.PAGESIZE
PROT_NONE = 0  # of mman.h
MARGIN = 256 * PAGE  # on either side
_number = itertools.count()
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_SIZES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8, "ptr": 8}


class Guarded:
    """So many bytes between pages that cannot be touched, at the end of their mapping or at its
    beginning.
    """

    def __init__(self, size: int, at_end: bool):
        room = -(-max(size, 1) // PAGE) * PAGE
        self.mapping = mmap.mmap(-1, room + 2 * MARGIN)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.mapping))
        for at in (start, start + MARGIN + room):
            if _LIBC.mprotect(at, MARGIN, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.address = start + MARGIN + (room - size if at_end else 0)
        self.size = size
        ctypes.memset(self.address, 0xFF, size)

    def write(self, data: bytes):
        assert len(data) == self.size
        ctypes.memmove(self.address, data, self.size)

    def read(self) -> bytes:
        return ctypes.string_at(self.address, self.size)


def run(program: dict) -> check.Outcome:
    """As check.run, with the kernels run here."""
    before = jaxprs.flag("jax_enable_x64")
    jax.config.update("jax_enable_x64", program["x64"])  # for the threads of callbacks too
    try:
        return check.run(program, _kernels_here())
    finally:
        jax.config.update("jax_enable_x64", before)


@contextlib.contextmanager
def _kernels_here() -> Iterator[None]:
    """XLA calls `results` in place of the machine code that it is given."""
    groups: dict[str, tuple] = {}  # by target
    load = host.load

    def loaded(text, *, width, arg_lanes):
        target = load(text, width=width, arg_lanes=arg_lanes)
        groups[target] = text, width
        return target

    def call(target, shapes, *, input_layouts, output_layouts, **_):
        group = functools.partial(results, *groups[target], input_layouts, output_layouts, shapes)
        return lambda *leaves: jax.pure_callback(group, shapes, *leaves)

    patched = mock.patch.object
    with (
        patched(host, "load", loaded),
        patched(jax.ffi, "ffi_call", call),
        patched(budget, "STACK", math.inf),  # the arrays are elsewhere
    ):
        yield


def results(text, width, ins, outs, shapes, *leaves) -> list[np.ndarray]:
    """What a group makes of these arguments, in both kinds of memory.

    `shapes`: of the results; they have lanes in front. `ins`, `outs`: the order of the axes of
    arguments and results in memory, outermost first; None of an argument without lanes.
    """
    leaves = [np.asarray(x) for x in leaves]
    inputs = [x if axes is None else x.transpose(axes) for x, axes in zip(leaves, ins, strict=True)]
    lanes = shapes[0].shape[0]
    at_end, at_start = (_call(text, width, inputs, outs, shapes, x) for x in (True, False))
    for x, y in zip(at_end, at_start, strict=True):
        np.testing.assert_array_equal(x, y, f"{lanes} lanes: where arrays lie is seen")
    return at_end


def _call(text, width, arguments, layouts, shapes, at_end: bool) -> list[np.ndarray]:
    """The same, from memory that ends at a page or begins at one."""
    lanes = shapes[0].shape[0]
    inputs, outputs = [], []
    for x in arguments:
        data = x.tobytes()
        inputs.append(Guarded(len(data), at_end))
        inputs[-1].write(data)
    for y in shapes:
        outputs.append(Guarded(int(np.prod(y.shape)) * y.dtype.itemsize, at_end))
    group, kept = _load(text, at_end)
    ins, outs = (
        (ctypes.c_void_p * (len(xs) + 1))(*(x.address for x in xs)) for xs in (inputs, outputs)
    )
    for start in range(0, lanes, width):  # the last group overlaps its neighbour
        group(ins, outs, min(start, lanes - width), lanes)
    del kept
    arrays = [np.frombuffer(x.read(), y.dtype) for x, y in zip(outputs, shapes, strict=True)]
    return [
        x.reshape([y.shape[axis] for axis in axes]).transpose(np.argsort(axes))
        for x, y, axes in zip(arrays, shapes, layouts, strict=True)
    ]


def _load(text: str, at_end: bool):
    """The group as a Python function, and the arrays that it works on."""
    arrays: list[Guarded] = []

    def guarded(match) -> str:
        arrays.append(Guarded(_size(match["type"]), at_end))
        return f"{match['name']} = inttoptr i64 {arrays[-1].address} to ptr"

    text, count = re.subn(
        r"(?P<name>%[\w.]+) = alloca (?P<type>\[.+\])(, align \d+)?$",
        guarded,
        text,
        flags=re.MULTILINE,
    )
    if count != text.count("inttoptr") or "alloca" in text:
        raise AssertionError(f"an array on the stack is not as {__name__} expects it:\n{text}")
    text, tables = _tables(text, at_end)
    linked = _link(text, "group")
    pointer = ctypes.c_void_p
    function = ctypes.CFUNCTYPE(None, pointer, pointer, ctypes.c_int64, ctypes.c_int64)
    group = function(linked["group"])

    def call(ins, outs, lane, lanes):
        group(ctypes.addressof(ins), ctypes.addressof(outs), lane, lanes)

    return call, (arrays, tables, linked)


def _link(text: str, *symbols: str):
    code = host._compile(text, host.host())
    return host.link(f"guarded_{next(_number)}", code, *symbols)


def _tables(text: str, at_end: bool) -> tuple[str, list[Guarded]]:
    """The text with its arrays of constants in memory of ours."""
    pattern = r"^(@\w+) = private unnamed_addr constant (\[\d+ x \w+\]) (\[.*\]), align \d+$"
    found = re.findall(pattern, text, flags=re.MULTILINE)
    if len(found) != text.count(" constant "):
        raise AssertionError(f"an array of constants is not as {__name__} expects it:\n{text}")
    if not found:
        return text, []
    text = re.sub(pattern, "", text, flags=re.MULTILINE)
    alone = "\n".join(f"{name} = constant {kind} {numbers}" for name, kind, numbers in found)
    linked = _link(alone, *(name[1:] for name, _, _ in found))
    tables = []
    for name, kind, _ in found:
        table = Guarded(_size(kind), at_end)
        table.write(ctypes.string_at(linked[name[1:]], table.size))
        text = re.sub(rf"{name}\b", f"inttoptr (i64 {table.address} to ptr)", text)
        tables.append(table)
    return text, tables


def _size(kind: str) -> int:
    """Bytes of an LLVM array of numbers or of vectors, as in `[3 x <16 x float>]`."""
    size = 1
    while match := re.fullmatch(r"[\[<](\d+) x (.+)[\]>]", kind):
        size, kind = size * int(match[1]), match[2]
    return size * _SIZES[kind]
