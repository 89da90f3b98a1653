"""Compiled kernels on disk, so that the next process need not compile them.

An entry is loaded as machine code. So it must be a file of this user's that nobody else can write,
and it must carry the digest of its key and contents; anything else is as good as absent, and the
next `put` replaces it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pathlib
import stat
import tempfile
import warnings
from collections.abc import Callable

LIMIT_BYTES = 512 << 20  # of all entries; those unused for longest go first
_MAGIC = b"gpusim lanes 1\n"  # the number is the version of the entry format


def root() -> pathlib.Path | None:
    """Where entries are: GPUSIM_CACHE or ~/.cache/gpusim, then "lanes".

    None if GPUSIM_CACHE is "off", or if this user has no home directory.
    """
    place = os.path.expanduser(os.environ.get("GPUSIM_CACHE") or "~/.cache/gpusim")
    return None if place == "off" or place.startswith("~") else pathlib.Path(place) / "lanes"


def get(key: str) -> bytes | None:
    """The payload stored under this key, if it is there and intact."""
    directory = root()
    if directory is None:
        return None
    with contextlib.suppress(OSError):
        path = directory / key
        entry = _read_own(path)
        if entry is not None and entry.startswith(_MAGIC):
            payload = entry[len(_MAGIC) + 32 :]
            if entry == _sealed(key, payload):
                with contextlib.suppress(OSError):
                    os.utime(path)  # marks it as recently used
                return payload
    return None


def through(key: str, make: Callable[[], bytes]) -> bytes:
    """The payload stored under this key, made and stored if it is not there."""
    payload = get(key)
    if payload is None:
        payload = make()
        put(key, payload)
    return payload


def put(key: str, payload: bytes) -> None:
    """Stores an entry atomically, and drops old ones beyond LIMIT_BYTES.

    A directory that cannot be used costs a warning, once, and nothing else.
    """
    directory = root()
    if directory is None:
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not private(directory.stat()):
            raise PermissionError("it is not a directory that only you can write")
        _write_atomically(directory / key, _sealed(key, payload))
        _evict(directory)
    except OSError as error:
        _warn(f"{directory}: {error.strerror or error}")


def _sealed(key: str, payload: bytes) -> bytes:
    """File contents: magic, SHA-256 of key and payload, payload."""
    return _MAGIC + hashlib.sha256(key.encode() + b"\0" + payload).digest() + payload


def private(status: os.stat_result) -> bool:
    """Whether it belongs to this user and nobody else can write it."""
    owner = getattr(os, "getuid", lambda: status.st_uid)()
    return status.st_uid == owner and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read_own(path: pathlib.Path) -> bytes | None:
    """Contents of a private regular file in a private directory, else None."""
    if not private(path.parent.stat()):
        return None
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        return file.read() if stat.S_ISREG(status.st_mode) and private(status) else None


def _write_atomically(path: pathlib.Path, contents: bytes) -> None:
    """Readers see the old file or the new one. Among concurrent writers one wins."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(contents)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _evict(directory: pathlib.Path) -> None:
    """Removes what has been unused for longest, until the rest is within LIMIT_BYTES.

    This includes the temporary files of writers that were killed.
    """
    ages = []
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process evicts too
            status = path.stat()
            ages.append((status.st_mtime_ns, status.st_size, path))
    excess = sum(size for _, size, _ in ages) - LIMIT_BYTES
    for _, size, path in sorted(ages):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size


@functools.cache
def _warn(problem: str) -> None:
    remedy = "set GPUSIM_CACHE to a directory of your own, or to 'off'"
    warnings.warn(f"compiled kernels are not kept on disk: {problem}; {remedy}", stacklevel=4)
