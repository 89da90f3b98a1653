"""Byte offsets of XLA's FFI structs, read from the C header that jaxlib ships.

XLA may add or move fields between releases, and the header always matches the library it came
with. So generated code takes its offsets from there, and no number has to be kept up to date.
"""

from __future__ import annotations

import functools
import pathlib
import re

import jax.ffi

_SIZES = {"ptr": 8, "i64": 8, "i32": 4}  # every platform of jaxlib has 8-byte pointers
_SCALARS = {"size_t": "i64", "int64_t": "i64", "uint64_t": "i64"}
_SCALARS |= {"int": "i32", "int32_t": "i32", "uint32_t": "i32"}


class Abi:
    """Layout of the structs in C text such as XLA's `c_api.h`, without their XLA_FFI_ prefix."""

    def __init__(self, header: str):
        self._text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL).replace(
            "XLA_FFI_", ""
        )
        bodies = re.findall(r"struct (\w+) \{(.*?)\n\}", self._text, flags=re.DOTALL)
        self._structs: dict[str, str] = dict(bodies)
        small = re.findall(r"typedef (?:enum \{[^}]*\}|uint32_t) (\w+);", self._text)
        self._scalars = _SCALARS | dict.fromkeys(small, "i32")

    def macro(self, name: str) -> int:
        """Value of a #define, as in `"API_MAJOR"`."""
        return int(_find(rf"#define {name} (\d+)", self._text))

    def field(self, path: str) -> tuple[int, str]:
        """(byte offset, LLVM type or struct) of a field, as in `"CallFrame.args.size"`."""
        kind, *names = path.split(".")
        position = 0
        for name in names:
            fields = self._fields(kind)
            if name not in fields:
                raise _changed(f"struct {kind} has no field {name!r}")
            start, kind = fields[name]
            position += start
        return position, kind

    def returns(self, function: str) -> str:
        """LLVM type of what an API function returns: "ptr" (an error or null) or "void"."""
        kind = _find(rf"typedef (void|Error\*) {function}\(", self._text)
        return "void" if kind == "void" else "ptr"

    def size(self, struct: str) -> int:
        """What XLA calls the struct's size: the end of its last field, without padding."""
        start, kind = list(self._fields(struct).values())[-1]
        return start + self._extent(kind)[0]

    def _fields(self, struct: str) -> dict[str, tuple[int, str]]:
        """Field name -> (byte offset, type) in the order of declaration."""
        if struct not in self._structs:
            raise _changed(f"there is no struct {struct}")
        fields, position = {}, 0
        for declaration in filter(str.strip, self._structs[struct].split(";")):
            kind, name = self._declared(declaration)
            size, alignment = self._extent(kind)
            position = -(-position // alignment) * alignment
            fields[name] = (position, kind)
            position += size
        return fields

    def _declared(self, declaration: str) -> tuple[str, str]:
        """(type, name) of the C text of one field."""
        if "(" in declaration:  # a function pointer, plain or through the header's own macro
            return "ptr", _find(r"\(\*?(\w+)\)", declaration)
        name = _find(r"(\w+)\s*$", declaration)
        if "*" in declaration:
            return "ptr", name
        kind = _find(r"(\w+)\s+\w+\s*$", declaration)
        return self._scalars.get(kind, kind), name

    def _extent(self, kind: str) -> tuple[int, int]:
        """(size, alignment) in bytes of a field of this type."""
        if kind in _SIZES:
            return _SIZES[kind], _SIZES[kind]
        alignment = max(self._extent(inner)[1] for _, inner in self._fields(kind).values())
        return -(-self.size(kind) // alignment) * alignment, alignment


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise _changed(f"{pattern!r} does not match {text[:80]!r}")
    return match.group(1)


def _changed(what: str) -> RuntimeError:
    return RuntimeError(
        f"{_header_path()}: XLA's foreign function interface is not as expected: {what}. Install a "
        "jaxlib that gpusim supports, or set GPUSIM_LANES=xla to run without generated kernels"
    )


def _header_path() -> pathlib.Path:
    return pathlib.Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"


@functools.cache
def header() -> str:
    """Text of the installed jaxlib's header. RuntimeError if it is missing or not of version 0."""
    try:
        text = _header_path().read_text(encoding="utf-8")
    except OSError as error:
        raise _changed("the header cannot be read") from error
    major = Abi(text).macro("API_MAJOR")
    if major != 0:
        raise _changed(f"its major version is {major}, not 0")
    return text


def expand(text: str, abi: Abi) -> str:
    """LLVM IR from IR text with four more instructions, which know the structs in `abi`:

    %x = get %p Struct.field            loads a field,
    set %p Struct.field %x              stores one,
    %q = ref %p Struct.field            is its address,
    %e = xla %api Function field=%x ... calls XLA's Function with a Function_Args.
    """
    return re.sub(
        r"^  (?:(%\w+) = )?(get|set|ref|xla) ([%@][\w.]+) (.+)$",
        lambda m: _MACROS[m[2]](abi, m[1] or f"%at{m.start()}", m[3], *m[4].split()),
        text,
        flags=re.MULTILINE,
    )


def _ref(abi: Abi, result: str, base: str, path: str) -> str:
    return f"  {result} = getelementptr i8, ptr {base}, i64 {abi.field(path)[0]}"


def _get(abi: Abi, result: str, base: str, path: str) -> str:
    address = _ref(abi, f"{result}.at", base, path)
    return f"{address}\n  {result} = load {abi.field(path)[1]}, ptr {result}.at"


def _set(abi: Abi, temporary: str, base: str, path: str, value: str) -> str:
    address = _ref(abi, temporary, base, path)
    return f"{address}\n  store {abi.field(path)[1]} {value}, ptr {temporary}"


def _xla(abi: Abi, result: str, api: str, function: str, *arguments: str) -> str:
    struct, args = f"{function}_Args", f"{result}.args"
    size = abi.size(struct)
    lines = [
        f"  {args} = alloca [{size} x i8], align 8",
        f"  call void @llvm.memset.p0.i64(ptr {args}, i8 0, i64 {size}, i1 false)",
        _set(abi, f"{result}.size", args, f"{struct}.struct_size", str(size)),
    ]
    for field, value in (argument.split("=") for argument in arguments):
        lines.append(_set(abi, f"{result}.{field}", args, f"{struct}.{field}", value))
    lines.append(_get(abi, f"{result}.function", api, f"Api.{function}"))
    returns = abi.returns(function)
    assigned = "" if returns == "void" else f"{result} = "
    lines.append(f"  {assigned}call {returns} {result}.function(ptr {args})")
    return "\n".join(lines)


_MACROS = {"ref": _ref, "get": _get, "set": _set, "xla": _xla}
