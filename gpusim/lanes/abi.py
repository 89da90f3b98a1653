"""Byte offsets of XLA's FFI structs, read from the C header that jaxlib ships.

XLA may add or move fields between releases, and the header always matches the library it came
with. So generated code takes its offsets from there, and no number has to be kept up to date.
"""

from __future__ import annotations

import functools
import pathlib
import re

import jax

_WORD = 8  # every platform jaxlib is built for has 8-byte pointers and C's natural alignment
_SIZES = {"size_t": 8, "int64_t": 8, "uint64_t": 8, "int": 4, "int32_t": 4, "uint32_t": 4}


class Abi:
    """Layout of the structs in one version of `xla/ffi/api/c_api.h`.

    `major`, `minor`: the API version the header declares.
    """

    def __init__(self, header: str):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
        self.major, self.minor = (
            int(_find(rf"#define\s+XLA_FFI_API_{part}\s+(\d+)", text))
            for part in ("MAJOR", "MINOR")
        )
        self._structs: dict[str, str] = dict(
            re.findall(r"struct\s+XLA_FFI_(\w+)\s*\{(.*?)\n\}", text, flags=re.DOTALL)
        )
        self._small = set(re.findall(r"\}\s*XLA_FFI_(\w+);", text)) - set(self._structs)  # enums
        self._small |= set(re.findall(r"typedef\s+uint32_t\s+XLA_FFI_(\w+);", text))

    def offset(self, path: str) -> int:
        """Bytes from the start of a struct to a field, as in `"CallFrame.args.size"`."""
        struct, *names = path.split(".")
        position = 0
        for name in names:
            fields = self._fields(struct)
            if name not in fields:
                raise RuntimeError(_changed(f"struct XLA_FFI_{struct} has no field {name!r}"))
            start, struct = fields[name]
            position += start
        return position

    def size(self, struct: str) -> int:
        """What XLA calls the struct's size: the end of its last field, without padding."""
        start, kind = list(self._fields(struct).values())[-1]
        return start + self._extent(kind)[0]

    def _fields(self, struct: str) -> dict[str, tuple[int, str]]:
        """Field name -> (offset, type) in declaration order."""
        if struct not in self._structs:
            raise RuntimeError(_changed(f"there is no struct XLA_FFI_{struct}"))
        fields, position = {}, 0
        for declaration in self._structs[struct].split(";"):
            if declaration.strip():
                kind, name = _declared(declaration)
                size, alignment = self._extent(kind)
                position = -(-position // alignment) * alignment
                fields[name] = (position, kind)
                position += size
        return fields

    def _extent(self, kind: str) -> tuple[int, int]:
        """(size, alignment) of a field of this type."""
        if kind == "pointer":
            return _WORD, _WORD
        if kind in _SIZES:
            return _SIZES[kind], _SIZES[kind]
        if kind in self._small:
            return 4, 4
        extents = [(start, *self._extent(inner)) for start, inner in self._fields(kind).values()]
        alignment = max(alignment for *_, alignment in extents)
        end = max(start + size for start, size, _ in extents)
        return -(-end // alignment) * alignment, alignment


def _declared(declaration: str) -> tuple[str, str]:
    """(type, name) of one C field declaration; all pointers are of the type "pointer"."""
    if "(" in declaration:  # a function pointer, plain or through the header's own macro
        return "pointer", _find(r"\(\*?\s*(?:XLA_FFI_)?(\w+)\)", declaration)
    name = _find(r"(\w+)\s*$", declaration)
    if "*" in declaration:
        return "pointer", name
    return _find(r"(?:struct\s+)?(?:XLA_FFI_)?(\w+)\s+\w+\s*$", declaration), name


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(_changed(f"{pattern!r} does not occur in {text[:80]!r}"))
    return match.group(1)


def _changed(what: str) -> str:
    return (
        f"XLA's foreign function interface is not as gpusim.lanes expects: {what} in "
        f"{_header_path()}. Set GPUSIM_LANES=xla to run without generated kernels, or install a "
        "jaxlib that gpusim supports (see pyproject.toml)"
    )


def _header_path() -> pathlib.Path:
    return pathlib.Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"


@functools.cache
def abi() -> Abi:
    """The layout used by the installed jaxlib. RuntimeError if it is missing or not version 0."""
    try:
        found = Abi(_header_path().read_text())
    except OSError as error:
        raise RuntimeError(_changed("the header cannot be read")) from error
    if found.major != 0:
        raise RuntimeError(_changed(f"its version is {found.major}.{found.minor}, not 0.x"))
    return found
