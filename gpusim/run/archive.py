"""Checkpoint files as files: which there are, whether one is sound, what is in it. No JAX.

A checkpoint is an uncompressed ``.npz``: one member a leaf, named by its path in the tree, and a
manifest in JSON. ``numpy.load`` reads it anywhere, nothing in it is a pickle, and the CRC-32 that
zip keeps of every member is the checksum. (Orbax does more, shards over many hosts above all, with
a folder of files, an event loop and a slower start; a state of some megabytes needs none of it.)
"""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BEST = "best.npz"
"""The checkpoint of the best evaluation, beside those of the newest steps."""
MANIFEST = "manifest"
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another program; the message is one line."""


class Damaged(CheckpointError):
    """A file that is not what was once written."""


class Archive(NamedTuple):
    """What is in a checkpoint, sound as far as the file itself says."""

    members: dict[str, np.ndarray]  # by leaf; bfloat16 and its like as unsigned integers
    leaves: dict[str, Any]  # by leaf: its "dtype" and "shape"
    step: int  # environment steps
    extra: dict[str, Any]  # what the host remembered


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, oldest first; no other file has such a name."""
    return sorted(path for path in folder.glob("*.npz") if re.fullmatch(r"\d{12}", path.stem))


def good(folder: Path, steps: int) -> Path:
    """The checkpoint in `folder` of an evaluation, one of the best, after so many steps."""
    return folder / f"best-{steps:012d}.npz"


def all_good(folder: Path) -> list[Path]:
    """Those that there are, oldest first."""
    return sorted(
        path for path in folder.glob("best-*.npz") if re.fullmatch(r"best-\d{12}", path.stem)
    )


def newest(folder: Path, told: Callable[[str], Any] = lambda line: None) -> tuple[Path, Archive]:
    """The newest checkpoint in `folder` that is sound; `told` hears of those that are not.

    Raises CheckpointError if there is none.
    """
    found, reasons = checkpoints(folder), []
    for path in reversed(found):
        try:
            archive = read(path)
            if archive.step != int(path.stem):  # its name alone would make it the newest
                raise Damaged(f"checkpoint {path}: is of {archive.step} steps, not of its name's")
        except Damaged as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            told(f"{reason}; the one before it is taken")
        return path, archive
    raise CheckpointError(reasons[0] if reasons else f"{folder} holds no checkpoint")


def find(folder: Path, which: str) -> Path:
    """A checkpoint in `folder` by its steps or as "best", or any file by its path.

    Raises CheckpointError, saying which there are.
    """
    steps = int(which) if which.isdecimal() else -1
    names = (
        [folder / BEST] if which == "best" else [folder / f"{steps:012d}.npz", good(folder, steps)]
    )
    for path in (*names, folder / which, Path(which)):
        if path.is_file():
            return path
    kept = {
        int(path.stem.removeprefix("best-")) for path in (*checkpoints(folder), *all_good(folder))
    }
    there = [*map(str, sorted(kept)), *(["best"] if (folder / BEST).exists() else [])]
    raise CheckpointError(f"{folder} holds no checkpoint {which}; there are: {', '.join(there)}")


def read(path: Path) -> Archive:
    """All of a checkpoint. Raises Damaged unless every member is there, whole, and as described."""
    try:
        if path.exists() and not zipfile.is_zipfile(path):
            raise ValueError("it is no zip file, or its end is missing")
        with np.load(path, allow_pickle=False) as archive:
            members = {name: archive[name] for name in archive.files}
        manifest = json.loads(members.pop(MANIFEST).tobytes())
        version, leaves = manifest["version"], manifest["leaves"]
        if version == VERSION and members.keys() != leaves.keys():
            raise ValueError(f"{min(members.keys() ^ leaves.keys())} is not in both lists of it")
        for name, data in members.items() if version == VERSION else ():
            if not _as_described(data, leaves[name]):
                raise ValueError(f"{name} is {data.dtype}{list(data.shape)}, not {leaves[name]}")
        found = Archive(members, leaves, int(manifest["step"]), dict(manifest["extra"]))
    except Exception as error:  # zip has odd corners, and each has an exception of its own
        raise Damaged(f"checkpoint {path}: cannot be read ({_line(error)})") from error
    if version != VERSION:
        raise CheckpointError(f"checkpoint {path}: format {version}, this gpusim reads {VERSION}")
    return found


def _as_described(data: np.ndarray, leaf: Any) -> bool:
    """Is a member what the manifest says of it?"""
    dtype = leaf["dtype"]
    stored = "uint32" if dtype.startswith("key<") else dtype
    foreign = not re.fullmatch(r"bool|u?int\d+|(float|complex)(16|32|64|128)", stored)
    kept = data.dtype.kind == "u" if foreign else data.dtype.name == stored
    return kept and list(data.shape) == list(leaf["shape"])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
