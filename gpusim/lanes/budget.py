"""What a kernel may cost: seconds to compile it, and memory of a thread that runs it.

A program that would cost more runs through XLA, and says so. What decides are counts of what is
compiled, so that the same program takes the same way on every machine at any load.
"""

import itertools
import os
import re
import sys
import warnings

from gpusim.lanes.program.nodes import SMALLER, TooLarge

DEFAULT = 30.0  # seconds
# Operations of a program that are traced, optimised and written in a second.
OPERATIONS = 13_000
# Seconds that LLVM takes: for every line, and for the cube of the lines of a block. Measured, on
# one core at 3 GHz: a block of 11,000 lines 0.4 s, 23,000 1.1 s, 63,000 4.8 s, 136,000 51 s.
LINE = 3e-5
BLOCK = 2e-14
# Bytes of the arrays that a group of worlds may have in the memory of its thread. Threads of Linux
# begin with 8 MiB, elsewhere with 512 KiB; one of CUDA has no more than 512 KiB.
STACK = 2**22 if sys.platform == "linux" else 2**18
THREAD = 2**17


class LanesWarning(UserWarning):
    """A function runs, though not as the kernel that was asked for."""


def warn(text: str) -> None:
    """A LanesWarning at the line of whoever called: not a line of JAX's or of ours."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and _is_inner(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, LanesWarning, stacklevel=level)


def _is_inner(module: str) -> bool:
    return module.partition(".")[0] in ("jax", "contextlib") or module.startswith("gpusim.lanes")


def seconds(given: float | None) -> float:
    """The budget of a function: as given, or from GPUSIM_LANES_BUDGET."""
    if given is not None:
        return given
    text = os.environ.get("GPUSIM_LANES_BUDGET") or DEFAULT
    try:
        return checked(float(text))
    except ValueError:
        raise ValueError(
            f"GPUSIM_LANES_BUDGET={text!r}: give seconds, such as 30, or inf"
        ) from None


def checked(given: float) -> float:
    """The budget; raises ValueError where it is none."""
    if not isinstance(given, int | float) or not given > 0:
        raise ValueError(f"budget={given!r}: give the seconds that a kernel may take to compile")
    return given


def operations(budget: float) -> float:
    """How many a program may have."""
    return budget * OPERATIONS


def check_text(text: str, budget: float) -> None:
    """Raises TooLarge if LLVM would need longer for these functions."""
    lines = text.count("\n")
    need = LINE * lines
    if need + BLOCK * lines**3 > budget:  # so at worst
        need += sum(BLOCK * size**3 for size in _blocks(text))
    if need > budget:
        raise TooLarge(f"LLVM would need {need:.0f} s for its {lines:,} instructions; {SMALLER}")


def _blocks(text: str):
    """Lines of each basic block."""
    ends = (m.start() for m in re.finditer(r"^[^\s;].*:$|^}$", text, re.MULTILINE))
    for start, end in itertools.pairwise(itertools.chain([0], ends)):
        yield text.count("\n", start, end)


def check_stack(arrays: int, width: int) -> None:
    """Raises TooLarge if a thread has not so many bytes for the arrays of `width` worlds."""
    if arrays > (STACK if width > 1 else THREAD):
        size = arrays / 2**20
        raise TooLarge(f"its arrays take {size:.1f} MiB for {width} worlds; make them smaller")
