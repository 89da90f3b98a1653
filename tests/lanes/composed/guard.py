"""Runs a kernel's machine code with every array between pages that cannot be touched.

The arguments, the results and the arrays that the code keeps on its stack or beside it each lie in
a mapping of their own, against the page behind or against the page before; whoever reads or writes
outside them stops the process with SIGSEGV. Arrays on the stack begin as bytes of ones (NaN, -1),
so a number that is read before it is written shows in the results.
"""

import ctypes
import itertools
import mmap
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.lanes.host import target as host
from gpusim.lanes.primitive import lanes_p
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
    """As check.run, with the kernels run here, and nothing around them."""
    return check.run(program | {"outside": []}, mock.patch.object(lanes_p, "impl", _impl))


def _impl(*leaves, function, batched):
    """In place of the primitive's own: what it computes of concrete arrays."""
    if any(batched):
        return results(function, leaves, batched)
    return [y[0] for y in results(function, [x[None] for x in leaves], (True,) * len(leaves))]


def results(function, leaves, batched) -> list[jax.Array]:
    """The kernel's results for these arguments, from both kinds of memory."""
    at_end, at_start = (_call(function, leaves, batched, place) for place in (True, False))
    for x, y in zip(at_end, at_start, strict=True):
        np.testing.assert_array_equal(x, y, "results depend on where arrays lie")
    return at_end


def _call(function, leaves, batched, at_end) -> list[jax.Array]:
    """The same, from memory that ends at a page or begins at one."""
    text, width = function.lower(batched, host.host().vector_bits)
    worlds = next(x.shape[0] for x, b in zip(leaves, batched, strict=True) if b)
    lanes = max(worlds, width)
    inputs = []
    for x, b in zip(leaves, batched, strict=True):
        x = np.asarray(x)
        if b:  # worlds are neighbours in memory; the first stands in where there are too few
            x = np.concatenate([x, np.repeat(x[:1], lanes - worlds, axis=0)])
            x = np.ascontiguousarray(np.moveaxis(x, 0, -1))
        inputs.append(Guarded(x.nbytes, at_end))
        inputs[-1].write(x.tobytes())
    results = [
        Guarded(int(np.prod(r.shape)) * lanes * np.dtype(r.dtype).itemsize, at_end)
        for r in function.results
    ]
    group, kept = _load(text, at_end)
    ins, outs = (
        (ctypes.c_void_p * (len(xs) + 1))(*(x.address for x in xs)) for xs in (inputs, results)
    )
    for start in range(0, lanes, width):  # the last group overlaps its neighbour
        group(ins, outs, min(start, lanes - width), lanes)
    del kept
    out = []
    for buffer, r in zip(results, function.results, strict=True):
        y = np.frombuffer(buffer.read(), np.dtype(r.dtype)).reshape(*r.shape, lanes)
        out.append(jnp.asarray(np.moveaxis(y, -1, 0)[:worlds]))
    return out


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
