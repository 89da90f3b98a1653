"""Compiling groups for this machine and calling them through XLA."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest

from gpusim.lanes import cache
from gpusim.lanes.host import target as host
from tests.lanes import groups

F32 = jnp.float32


def affine_call(name, lanes):
    call = groups.call(name, jax.ShapeDtypeStruct((lanes, 3), F32))
    return jax.jit(lambda x, u: call(x, u)[0])


def samples(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


# --- the machine ---

AVX512 = dict.fromkeys(
    ["sse2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"], True
)
AVX2 = AVX512 | dict.fromkeys(["avx512f", "avx512bw", "avx512dq", "avx512vl"], False)
KNIGHTS_LANDING = AVX512 | dict.fromkeys(["avx512bw", "avx512dq", "avx512vl"], False)


@pytest.mark.parametrize(
    ("features", "isa", "bits"),
    [
        (AVX512, None, 512),
        (AVX512, "avx512", 512),
        (AVX512, "avx2", 256),
        (AVX512, "sse", 128),
        (AVX2, None, 256),
        (AVX2, "sse", 128),
        (KNIGHTS_LANDING, None, 256),
        ({"sse2": True}, None, 128),
        ({"neon": True}, None, 128),
    ],
)
def test_widest_registers(features, isa, bits):
    assert host._describe("triple", "cpu", features, isa).vector_bits == bits


@pytest.mark.parametrize(
    ("features", "isa", "problem"),
    [
        (AVX512, "avx1024", "'avx1024' is none of avx512, avx2, sse"),
        (AVX2, "avx512", "has no avx512"),
        ({"neon": True}, "sse", "has no sse"),
    ],
)
def test_unusable_isa_is_an_error(features, isa, problem):
    with pytest.raises(ValueError, match=problem):
        host._describe("triple", "cpu", features, isa)


@pytest.mark.parametrize(
    ("isa", "banned"), [("avx2", "zmm"), ("sse", "ymm"), ("sse", "zmm"), ("sse", "vaddps")]
)
def test_narrowed_machine_is_kept_to(isa, banned):
    """A 512-bit addition is split, and no register or encoding of the wider sets is left."""
    triple = "x86_64-unknown-linux-gnu"
    machine = host._describe(triple, "skylake-avx512", AVX512, isa)
    module = llvm.parse_assembly(f"""
        target triple = "{triple}"
        define <16 x float> @f(<16 x float> %a) {{
          %b = fadd <16 x float> %a, %a
          ret <16 x float> %b
        }}""")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    text = host._machine(machine).emit_assembly(module)
    assert "addps" in text
    assert banned not in text


# --- results ---


@pytest.mark.parametrize("width", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("extra", [0, 1, 7, 1000, 4099])
def test_every_lane_count(width, extra):
    """The logical array is (lanes, 3), in memory all lanes of one value are together."""
    lanes = width + extra
    x, u = samples(lanes, 3), samples(1)
    y = affine_call(groups.affine(width), lanes)(x, u)
    np.testing.assert_array_equal(y, 2 * x + u)


def test_no_lanes():
    y = affine_call(groups.affine(8), 0)(samples(0, 3), samples(1))
    assert y.shape == (0, 3)


def test_under_scan():
    call = groups.call(groups.affine(8), jax.ShapeDtypeStruct((21, 3), F32))
    x, u = samples(21, 3) / 1024, np.ones(1, np.float32)

    @jax.jit
    def repeated(x):
        return jax.lax.scan(lambda x, _: (call(x, u)[0], None), x, None, length=10)[0]

    np.testing.assert_allclose(repeated(x), 1024 * x + 1023, rtol=1e-5)  # x -> 2 x + 1, ten times


def test_devices_at_once_under_pmap():
    devices = jax.local_devices(backend="cpu")
    assert len(devices) >= 2
    call = groups.call(groups.iterated(50), jax.ShapeDtypeStruct((320, 1), F32))

    def repeated(x):
        return jax.lax.scan(lambda x, _: (call(x)[0] + 1, None), x, None, length=300)[0]

    x = samples(len(devices), 320, 1)
    expected = np.full_like(x, 3)  # the fixed point of x -> x/2 + 1, and one more
    np.testing.assert_allclose(jax.pmap(repeated)(x), expected, rtol=1e-6)


def test_calls_from_many_python_threads():
    call = affine_call(groups.affine(16), 5000)
    xs = [samples(5000, 3) + i for i in range(8)]
    u = samples(1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for x, y in zip(xs, pool.map(lambda x: call(x, u), xs), strict=True):
                np.testing.assert_array_equal(y, 2 * x + u)


@pytest.mark.parametrize("function", ["expf", "sinf", "atan2f"])
def test_libm_is_found(function):
    arguments = ", ".join(["float %a"] * (2 if function == "atan2f" else 1))
    body = f"""
      %from = getelementptr float, ptr %x, i64 %lane
      %to = getelementptr float, ptr %o, i64 %lane
      %a = load float, ptr %from
      %b = call float @{function}({arguments})
      store float %b, ptr %to
      ret void"""
    declaration = f"declare float @{function}({arguments.replace(' %a', '')})"
    name = groups.load(body, width=1, rest=declaration)
    x = np.abs(samples(5, 1))
    (y,) = jax.jit(groups.call(name, jax.ShapeDtypeStruct((5, 1), F32)))(x)
    numpy_function = {"expf": np.exp, "sinf": np.sin, "atan2f": lambda x: np.arctan2(x, x)}
    np.testing.assert_allclose(y, numpy_function[function](x), rtol=1e-6)


def test_constants_and_helpers_of_the_group():
    """A table far away from the code that reads it, and a function that is not inlined."""
    numbers = samples(100_000)
    values = ", ".join(f"float 0x{np.float64(number).view(np.uint64):x}" for number in numbers)
    body = """
      %to = getelementptr float, ptr %o, i64 %lane
      %entry_at = getelementptr float, ptr @table, i64 %lane
      %a = load float, ptr %entry_at
      %b = call float @double(float %a)
      store float %b, ptr %to
      ret void"""
    rest = f"""
    @table = private constant [100000 x float] [{values}]
    define internal float @double(float %a) noinline {{
      %b = fadd float %a, %a
      ret float %b
    }}"""
    name = groups.load(body, width=1, rest=rest)
    (y,) = groups.call(name, jax.ShapeDtypeStruct((100_000, 1), F32))(samples(100_000, 1))
    np.testing.assert_array_equal(y[:, 0], 2 * numbers)


# --- once per process, once per machine ---


def trivial(constant: float) -> str:
    """A group that no other test loads: one lane, out = constant."""
    return f"""
    define void @group(ptr %ins, ptr %outs, i64 %lane, i64 %lanes) nounwind {{
      %o = load ptr, ptr %outs
      %to = getelementptr float, ptr %o, i64 %lane
      store float {constant:.1f}, ptr %to
      ret void
    }}"""


def test_the_name_depends_on_all_that_matters():
    names = [
        host.load(trivial(1), width=1, arg_lanes=(True,)),
        host.load(trivial(2), width=1, arg_lanes=(True,)),
        host.load(trivial(1), width=2, arg_lanes=(True,)),
        host.load(trivial(1), width=1, arg_lanes=(False,)),
        host.load(trivial(1), width=1, arg_lanes=(True, True)),
    ]
    assert len(set(names)) == len(names)
    assert host.load(trivial(1), width=1, arg_lanes=(True,)) == names[0]


def test_threads_compile_one_kernel_once(monkeypatch):
    compiled = []
    compile_ = host._compile
    monkeypatch.setattr(host, "_compile", lambda *args: compiled.append(1) or compile_(*args))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        load = lambda _: host.load(trivial(3), width=1, arg_lanes=())
        assert len(set(pool.map(load, range(16)))) == 1
    assert len(compiled) == 1


def test_broken_group_is_an_error_and_not_cached():
    for _ in range(2):
        with pytest.raises(RuntimeError, match="undefined"):
            host.load(trivial(4).replace("%to", "%nowhere", 1), width=1, arg_lanes=())


PROCESS = f"""
import json, jax, numpy as np
from gpusim.lanes.host import target as host
compiled, compile_ = [], host._compile
host._compile = lambda *args: compiled.append(1) or compile_(*args)
name = host.load('''{trivial(7)}''', width=1, arg_lanes=())
y = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct((5,), np.float32))()
print(json.dumps([name, len(compiled), y.tolist()]))
"""


@pytest.mark.slow
def test_processes_share_the_disk(tmp_path):
    """Two at once, one more, one after the entry was damaged; another ISA has its own code."""

    def start(**env):
        env = os.environ | {"GPUSIM_CACHE": str(tmp_path)} | env
        here = pathlib.Path(__file__).parents[2]
        command = [sys.executable, "-c", PROCESS]
        return subprocess.Popen(command, env=env, cwd=here, stdout=subprocess.PIPE, text=True)

    def finish(process):
        out, _ = process.communicate(timeout=120)
        name, compiled, y = json.loads(out)
        assert y == [7.0] * 5
        return name, compiled

    def entries():
        return sorted((tmp_path / "lanes").iterdir())

    first, second = start(), start()
    name, compiled = finish(first)
    other_name, other_compiled = finish(second)
    assert other_name == name
    assert compiled + other_compiled in (1, 2)  # whether the later one was late enough
    (entry,) = entries()
    intact = entry.read_bytes()

    assert finish(start()) == (name, 0)

    entry.write_bytes(intact[:-100] + bytes(100))
    assert finish(start()) == (name, 1)
    assert entry.read_bytes() == intact

    if host.host().triple.startswith("x86_64") and host.host().vector_bits > 128:
        narrow, compiled = finish(start(GPUSIM_LANES_ISA="sse"))
        assert (narrow != name, compiled, len(entries())) == (True, 1, 2)


def test_tests_do_not_touch_the_users_cache():
    assert cache.root() is not None
    assert not str(cache.root()).startswith(os.path.expanduser("~/.cache"))
