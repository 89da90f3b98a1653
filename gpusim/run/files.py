"""Files that are whole or not there, and folders that are one process's."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a file that takes the name `path` only once it is safely on the disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):  # none is there, or the disk is read-only
            part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


class InUse(OSError):
    """Another process has the folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder as this process's own; InUse if it is another's. The kernel gives it back when the
    process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{folder} is in use by another process") from None
        except OSError:  # a file system that has no locks
            pass
        yield
    finally:
        os.close(handle)


def remove_parts(folder: Path) -> None:
    """Remove what writes that were killed have left."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)
