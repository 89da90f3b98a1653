"""Whose fault an error is: an environment's author wants to see the lines of the environment."""

import os
import sysconfig
import traceback
from pathlib import Path

from gpusim import agents


def environment(error: BaseException) -> str | None:
    """What to tell the author of the environment that raised it, in a few lines: where in their
    code, and what. None if nothing of theirs was running.

    JAX_TRACEBACK_FILTERING=off, which shows JAX's own lines, gives None for all but WorldError.
    """
    if type(error).__name__ == "WorldError":  # its module imports JAX, which --help must not
        return str(error)
    _, called, told = str(error).partition("error calling callback: ")
    if called:  # of a world that steps on the host; Python's frames are in the text
        return f"the environment failed on the host:\n{told.strip()}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _library(f.filename)]
    if not frames or os.environ.get("JAX_TRACEBACK_FILTERING") == "off":
        return None
    text = str(error).split("\n--------------------\n")[0]  # what JAX says of its own frames
    lines = "".join(traceback.format_list(frames)).rstrip()
    return f"the environment failed:\n{lines}\n{type(error).__name__}: {text}"


def _library(file: str) -> bool:
    """Is it Python's, an installed package's or gpusim's?"""
    if file.startswith("<"):
        return True
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    installed = {sysconfig.get_path(kind) for kind in kinds}
    ours = {str(Path(__file__).resolve().parents[1]), str(Path(agents.__file__).resolve().parent)}
    real = os.path.realpath(file)
    if {"site-packages", "dist-packages"}.intersection(Path(real).parts):  # another Python's, say
        return True
    folders = {*installed, *map(os.path.realpath, installed), *ours}
    return any(real.startswith(f"{folder}{os.sep}") for folder in folders)
