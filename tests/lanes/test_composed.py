"""Random programs against XLA (tests/lanes/composed), and whether they find what they should."""

import ast
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.lanes.composed import check, program, shrink
from tests.lanes.composed.generate import Generator, generate

ROOT = pathlib.Path(__file__).parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GPUSIM_CACHE": "off"}
    environment |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # no program comes twice
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment
    )


def campaign(*options: object) -> subprocess.CompletedProcess:
    return python("-m", "tests.lanes.composed", *map(str, options))


def in_process(code: str) -> subprocess.CompletedProcess:
    """What may not come back."""
    return python("-c", code)


# -- the programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [pytest.param(0, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)]
)
def test_programs(seed):
    ran = campaign("--programs", 20, "--seed", seed, "--shrink", 10)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 6000, 50))
def test_many_programs(seed):
    ran = campaign("--programs", 50, "--seed", seed)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def found() -> list[dict]:
    """Programs that failed once."""
    lines = (ROOT / "tests/lanes/composed/found.txt").read_text().splitlines()
    return [ast.literal_eval(line) for line in lines]


@pytest.mark.parametrize("program", found(), ids=lambda program: str(program["seed"]))
def test_what_failed_once(program):
    check.check(program)


# -- the generator ---------------------------------------------------------------------------------


def test_a_program_is_data_and_the_same_for_its_seed():
    for seed in range(20):
        one = generate(seed)
        assert one == generate(seed)
        assert ast.literal_eval(repr(one)) == one


@pytest.mark.parametrize("seed", [k for k in range(20) if Generator(k).x64])
def test_what_the_generator_knows_is_so(seed):
    """Types, bounds, and that exact numbers are the same in both precisions."""
    g = Generator(seed)
    whole = g.program()
    known = [v for v in g.scopes[0] if v.dtype != "key"]
    alone = whole | {"worlds": (), "inside": [], "outside": []}
    alone["args"] = [(*arg[:4], ()) for arg in whole["args"]]
    alone["results"] = [v.name for v in known]
    other = {"float32": "float64", "float64": "float32"}[g.float]
    twin = ast.literal_eval(repr(alone).replace(g.float, other))
    with jax.enable_x64(True):
        shapes = jax.eval_shape(program.function(alone, lambda f: f), *program.arguments(alone))
    for v, aval in zip(known, shapes, strict=True):
        assert (v.dtype, v.shape, v.weak) == (aval.dtype.name, aval.shape, aval.weak_type)
    with jax.enable_x64(True):
        here, there = (check.reference(p, program.arguments(p)) for p in (alone, twin))
    for v, x, y in zip(known, here, there, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        if v.exact:
            np.testing.assert_array_equal(x, y, v.name)
        if v.special:
            x = x[np.isfinite(x)]
        if v.dtype != "bool":
            assert (np.abs(x.astype(float)) <= v.bound * (1 + 1e-6)).all(), v


def test_a_limit_that_is_gone_is_reported():
    with (
        pytest.raises(AttributeError, match="has no number NO_SUCH: mend LIMITS"),
        program.limits({"NO_SUCH": 1}),
    ):
        pass


# -- the comparison --------------------------------------------------------------------------------

PLAIN = {
    "float": "float64",
    "x64": True,
    "seed": 0,
    "worlds": (3,),
    "limits": {},
    "inside": [],
    "closed": [],
    "outside": [],
    "args": [("a0", "float64", (4,), "grid", (0,))],
    "body": [("v1", "{0} + 1", ["a0"], [])],
    "results": ["v1"],
}


def test_one_wrong_number_is_seen():
    with jax.enable_x64(True):
        (want,) = check.reference(PLAIN, program.arguments(PLAIN))
        changes = {
            "values": want.at[2, 3].add(1e-9),
            "shape": want[:2],
            "dtype": want.astype("float32"),
        }
        for kind, got in changes.items():
            assert check.compare(PLAIN, (got,), (want,)).kind == kind
        assert check.compare(PLAIN, [want], (want,)).kind == "structure"
        assert check.compare(PLAIN, (want.at[2, 3].multiply(1 + 1e-14),), (want,)).kind == "agreed"
        weak = jnp.asarray(2.0)
        assert check.compare(PLAIN, (weak,), (weak.astype("float64"),)).kind == "weak_type"


def test_chaos_is_not_held_against_a_kernel():
    """The numbers of a logistic map after 100 steps are rounding alone."""
    step = ("i", ["c"]), [("v2", "4 * {0} * (1 - {0})", ["c"], [])], ["v2"]
    loop = [("v1", "lax.fori_loop(0, 100, {f0}, {0})", [["a0"]], [(["i", ["c"]], *step[1:])])]
    chaotic = PLAIN | {"body": [("v0", "jax.nn.sigmoid({0})", ["a0"], []), *loop]}
    chaotic["body"][1][2][0][0] = "v0"
    chaotic["body"][1] = (["v1"], *chaotic["body"][1][1:])
    with jax.enable_x64(True):
        (want,) = check.reference(chaotic, program.arguments(chaotic))
        assert check.compare(chaotic, (want * 0.5,), (want,)).kind == "ill"


# -- the rest of the machinery ---------------------------------------------------------------------


def test_a_failing_program_shrinks():
    """To the two statements that make it fail."""

    def fails(p):
        found = [s[1] for _, s in shrink.walk(p["body"])]
        return "jnp.floor({0})" in found and any("fori" in t for t in found) and runs(p)

    def runs(p):
        try:
            return bool(shrink.types_of(p))
        except Exception:
            return False

    whole = (p | {"body": shrink.live(p["body"], p["results"])} for p in map(generate, range(1000)))
    small = shrink.shrink(next(filter(fails, whole)), fails, seconds=60)
    assert len(list(shrink.walk(small["body"]))) <= 3
    assert small["limits"] == {}
    assert small["outside"] == []


BEYOND = """
import jax, numpy as np
from tests.lanes.composed import guard
text = '''
define void @group(ptr %ins, ptr %outs, i64 %lane, i64 %lanes) nounwind {{
  %array = alloca [3 x <4 x float>], align 64
  %x = load ptr, ptr %ins
  %at = getelementptr float, ptr {base}, i64 {index}
  %v = load float, ptr %at
  %o = load ptr, ptr %outs
  store float %v, ptr %o
  ret void
}}
'''
shapes = [jax.ShapeDtypeStruct((4, 3), np.float32)]
guard.results(text, 4, [(1, 0)], [(1, 0)], shapes, np.ones((4, 3), np.float32))
"""


@pytest.mark.parametrize("base", ["%x", pytest.param("%array", marks=pytest.mark.slow)])
def test_an_access_outside_an_array_stops_the_process(base):
    for index, stops in ((0, False), (11, False), (12, True), (-1, True)):
        ran = in_process(BEYOND.format(base=base, index=index))
        assert (ran.returncode == -11) == stops, ran.stderr


CRASH = """
import os, signal
from tests.lanes.composed import campaign, check
from tests.lanes.composed.generate import generate
before = check.run
def run(program, **more):
    if "jnp.sin" in str(program):
        os.kill(os.getpid(), signal.SIGSEGV)
    return before(program, **more)
check.run = run
plain = {plain!r}
body = [*plain["body"], ("v2", "jnp.sin({{0}})", ["v1"], [])]
bad = plain | {{"body": body, "results": ["v1", "v2"]}}
programs = [("one", plain), ("two", bad), ("three", plain)]
for found in campaign.run(programs, 1, lambda name: False, 5):
    print(found.seed, found.outcome.kind, found.program["results"])
"""


def test_a_crash_is_one_more_outcome():
    ran = in_process(CRASH.format(plain=PLAIN))
    assert ran.stdout.splitlines() == [
        "one agreed ['v1']",
        "two crashed ['v2']",
        "three agreed ['v1']",
    ], ran.stderr
