"""Runs a program both ways, and says how the results differ."""

import ast
import contextlib
import functools
import re
import warnings
from typing import NamedTuple

import jax
import numpy as np

from gpusim import lanes
from tests.lanes.composed import program as programs

# Relative to each number, and a floor for those that are differences of larger ones: numbers are of
# order 1 (see values.py), so the floor is some hundred roundings of what entered.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
NOISE = 30.0  # times the difference between the precisions is not held against a kernel
FINE = ("agreed", "ill")
CHAOS = 1e-2  # a difference after which it does not grow in proportion any more


class Outcome(NamedTuple):
    """What became of a program."""

    # "agreed"; "refused" by LanesError; "ill": rounding alone makes as much; "invalid": JAX itself
    # does not take it; and the failures "values", "weak_type", "dtype", "shape", "structure",
    # "raised"
    kind: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.kind not in ("agreed", "refused", "ill", "invalid")


def check(program: dict):
    """AssertionError if the program fails."""
    outcome = run(program)
    assert not outcome.failed, f"{outcome.kind}: {outcome.detail}\n{report(program)}"


def run(program: dict, through: contextlib.AbstractContextManager | None = None) -> Outcome:
    """Both ways; kernels run within `through`."""
    with jax.enable_x64(program["x64"]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of conversions that JAX does not like the look of
        warnings.simplefilter("error", lanes.LanesWarning)
        args = programs.arguments(program)
        try:
            want = _wanted(repr(program))
        except Exception as error:
            return Outcome("invalid", _one_line(error))
        try:
            with programs.limits(program["limits"]), through or contextlib.nullcontext():
                got = programs.build(program)(*args)
                jax.block_until_ready(got)
        except (lanes.LanesError, lanes.LanesWarning) as error:
            return Outcome("refused", _one_line(error))
        except Exception as error:
            return Outcome("raised", _one_line(error))
        outcome = compare(program, got, want)
        if outcome.kind == "values":
            for loops in (True, False):
                if compare(program, got, by_steps(program, args, loops)).kind in FINE:
                    return Outcome("invalid", f"XLA's own fault, made in one piece: {outcome}")
        return outcome


def reference(program: dict, args):
    """What XLA makes of it."""
    whole = jax.jit(programs.build(program, kernel=lambda f: f))
    return jax.block_until_ready(whole(*args))


@functools.lru_cache(maxsize=1)
def _wanted(program: str):
    """The same, kept: a program may be run once more, between guard pages."""
    data = ast.literal_eval(program)
    return reference(data, programs.arguments(data))


def compiles(program: dict) -> bool:
    """Whether XLA makes anything of it."""
    with jax.enable_x64(program["x64"]):
        return bool(reference(program, programs.arguments(program)))


def by_steps(program: dict, args, loops: bool):
    """The same, each operation by itself: XLA's simplifications have faults of their own. Loops are
    one operation, or Python runs them.
    """
    steps = program | {"outside": [x for x in program["outside"] if x != "jit"]}
    with contextlib.nullcontext() if loops else jax.disable_jit():
        return programs.build(steps, kernel=lambda f: f)(*args)


def compare(program: dict, got, want) -> Outcome:
    got, structure = jax.tree.flatten(got)
    want, wanted = jax.tree.flatten(want)
    if structure != wanted:
        return Outcome("structure", f"{structure} instead of {wanted}")
    for kind in ("shape", "dtype"):
        for k, (a, e) in enumerate(zip(got, want, strict=True)):
            if getattr(a, kind) != getattr(e, kind):
                return Outcome(kind, f"result {k}: {a.aval} instead of {e.aval}")
    noise = None
    for k, (a, e) in enumerate(zip(got, want, strict=True)):
        wrong = _wrong(program, a, e)
        if wrong.any() and np.issubdtype(_numbers(e).dtype, np.floating):
            noise = _noise(program, want) if noise is None else noise
            a, e = _numbers(a), _numbers(e)
            if (np.abs(a - e) <= noise[k])[wrong].all():
                return Outcome("ill", f"result {k}")
        if wrong.any():
            return Outcome("values", f"result {k}: {_example(_numbers(a), _numbers(e), wrong)}")
    for k, (a, e) in enumerate(zip(got, want, strict=True)):
        if _weak(a) != _weak(e):
            return Outcome("weak_type", f"result {k}: weak is {_weak(a)} instead of {_weak(e)}")
    return Outcome("agreed")


def _weak(x) -> bool:
    return getattr(x, "weak_type", False)  # keys have none


def _numbers(x) -> np.ndarray:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def _wrong(program, a, e) -> np.ndarray:
    """Which numbers are not the same."""
    a, e = _numbers(a), _numbers(e)
    if not np.issubdtype(e.dtype, np.floating):
        return a != e
    tolerance = TOLERANCE[program["float"]]
    return ~np.isclose(a, e, rtol=tolerance, atol=tolerance, equal_nan=True)


def _example(a, e, wrong) -> str:
    at = tuple(int(k) for k in np.argwhere(wrong)[0])
    return f"{a[at]} instead of {e[at]} at {at}, {wrong.sum()} of {wrong.size} differ"


def _noise(program, want) -> list[float]:
    """What rounding may make of each result: how far XLA's numbers are from those of the other
    precision, scaled to this one.
    """
    here = program["float"]
    other = {"float32": "float64", "float64": "float32"}[here]
    twin = ast.literal_eval(repr(program).replace(here, other)) | {"x64": True}
    try:
        with jax.enable_x64(True):
            results = jax.tree.leaves(reference(twin, programs.arguments(twin)))
    except Exception:  # types that x64 changes do not always fit
        return [0.0 for _ in want]
    out = []
    for y, e in zip(results, want, strict=True):
        y, e = _numbers(y), _numbers(e)
        far = 0.0
        if np.issubdtype(e.dtype, np.floating):
            finite = np.isfinite(y) & np.isfinite(e)
            far = float(np.max(np.abs(y - e, where=finite, out=np.zeros(e.shape)), initial=0))
        if here == "float64":  # chaos in float32 says nothing of float64
            far = np.inf if far > CHAOS else far * 2.0**-29
        out.append(NOISE * far)
    return out


def _one_line(error: Exception) -> str:
    text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
    return text[:300]


def reason(outcome: Outcome) -> str:
    """The reason for a refusal, without names and lines."""
    text = re.sub(r"LanesError: lanes.kernel\([^)]*\): ", "", outcome.detail)
    return re.sub(r", at .*", "", text)[:100]


def report(program: dict) -> str:
    """The program to read, and to paste."""
    lines = [f"# {line}" for line in programs.source(program).splitlines()]
    return "\n".join(
        [*lines, "from tests.lanes.composed.check import check", f"check({program!r})"]
    )
