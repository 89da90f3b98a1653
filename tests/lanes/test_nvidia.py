"""CUDA kernels, short of running on a device: PTX, what the driver is asked, what XLA calls."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import mlir

import gpusim
from bench import ptx
from bench.common import ROBOTS
from gpusim import envs, lanes
from gpusim.lanes import cache, jaxprs, primitive
from gpusim.lanes.host import abi, handler
from gpusim.lanes.host import target as host
from gpusim.lanes.nvidia import driver as nvidia_driver
from gpusim.lanes.nvidia import target as nvidia
from tests.lanes import fake_cuda, test_primitives
from tests.lanes.agreement import agree
from tests.lanes.fake_cuda import FakeCuda, StreamGiver

DRIVER = nvidia_driver.driver
needs_ptxas = pytest.mark.skipif(fake_cuda.PTXAS is None, reason="needs ptxas")


@pytest.fixture(scope="module")
def cuda():
    """All lane kernels of JAX's CPU client become CUDA kernels on a fake driver."""
    fake, patch = FakeCuda(), pytest.MonkeyPatch()
    driver = nvidia_driver.Driver(fake)
    givers = []
    load, register_on_host = nvidia.load, host.register

    def remember(kernel):
        fake.runnable[kernel.entry] = kernel
        return load(kernel)

    def with_stream(name, linked, platform):
        if platform == "cpu":
            return register_on_host(name, linked, platform)
        assert platform == "CUDA"
        givers.append(StreamGiver(linked[handler.ENTRY]))
        capsule = jax.ffi.pycapsule(givers[-1].address())
        return jax.ffi.register_ffi_target(name, capsule, platform="cpu")

    def rule(platform):
        compiled = functools.partial(primitive._compiled, platform=platform)
        mlir.register_lowering(
            primitive.lanes_p, mlir.lower_fun(compiled, multiple_results=True), platform="cpu"
        )

    patch.setattr(nvidia_driver, "driver", lambda: driver)
    patch.setattr(nvidia, "local_devices", lambda: [0, 1])
    patch.setattr(nvidia, "load", remember)
    patch.setattr(host, "register", with_stream)

    def on_host(program, *arguments):
        """The same with host kernels."""
        rule("cpu")
        try:
            return jax.jit(lambda *x: program(*x))(*arguments)  # not the one compiled for CUDA
        finally:
            rule("cuda")

    fake.on_host = on_host
    rule("cuda")
    yield fake
    own = functools.partial(primitive._lower, platform="cpu")
    mlir.register_lowering(primitive.lanes_p, own, platform="cpu")
    patch.undo()


def saxpy(a, x, y):
    return a * x + y, x > y


def saxpy_arguments(worlds):
    rng = np.random.default_rng(worlds)
    x, y = rng.normal(size=(2, worlds, 3)).astype(np.float32)
    return np.float32(2.5), x, y


def call_saxpy(worlds, fn=saxpy):
    arguments = saxpy_arguments(worlds)
    mapped = jax.jit(jax.vmap(lanes.kernel(fn), (None, 0, 0)))
    return [np.asarray(x) for x in mapped(*arguments)], arguments


# --- from a program to a launch ---


@pytest.mark.parametrize(
    ("worlds", "block"),
    [(1, 32), (33, 32), (127, 32), (193, 64), (385, 128), (768, 128), (769, 256), (2000, 256)],
)
def test_right_numbers_for_any_number_of_worlds(cuda, worlds, block):
    """No padding, no thread beyond the last world; bools, and an argument without lanes. Blocks are
    as large as leaves each of the 4 processors one."""
    (axpy, greater), (a, x, y) = call_saxpy(worlds)
    np.testing.assert_allclose(axpy, a * x + y, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(greater, x > y)
    expected = {"blocks": -(-worlds // block), "block": block, "stream": fake_cuda.STREAM}
    assert cuda.launches[-1] == expected


def test_no_worlds_launch_nothing(cuda):
    before = len(cuda.launches)
    (axpy, greater), _ = call_saxpy(0)
    assert axpy.shape == greater.shape == (0, 3)
    assert len(cuda.launches) == before


def test_one_world_alone(cuda):
    a, x, y = saxpy_arguments(1)
    axpy, _ = lanes.kernel(saxpy)(a, x[0], y[0])
    np.testing.assert_allclose(axpy, a * x[0] + y[0], rtol=1e-6)
    assert cuda.launches[-1]["blocks"] == 1


def each_environment(fast):
    slow = lambda name: [] if name in fast else [pytest.mark.slow]
    return [pytest.param(name, marks=slow(name)) for name in ROBOTS]


@pytest.mark.parametrize("name", each_environment(fast=["hopper"]))
def test_environments_agree_with_host_kernels(cuda, name):
    """A control step with random restarts: to rounding, but where a solver stops a trip earlier."""
    env = gpusim.make(name)
    venv = envs.autoreset(env, 70, episode_length=3)
    state = cuda.on_host(venv.reset, jax.random.key(0))
    actions = jax.random.uniform(jax.random.key(1), (70, env.action_size), minval=-1.0)
    for _ in range(3):
        before = len(cuda.launches)
        expected = cuda.on_host(venv.step, state, actions)
        assert len(cuda.launches) == before
        got = jax.jit(lambda *x: venv.step(*x))(state, actions)
        assert cuda.launches[-1]["blocks"] == 3  # 70 worlds in blocks of 32
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            a, b = (np.asarray(words(x), float) for x in (a, b))
            assert np.quantile(np.abs(a - b) / np.maximum(np.abs(b).max(), 1), 0.97) < 1e-5
        state = expected
    assert state.truncated.any()  # some started anew


def words(x):
    return jax.random.key_data(x) if jaxprs.is_key(x.dtype) else x


PROGRAMS = [name for name in vars(test_primitives) if name.startswith("test_")]
FAST = ["arithmetic", "arithmetic_at_edges", "fori_loop", "while_loop_stops_lane_by_lane",
        "indices_known_only_at_run_time"]  # fmt: skip


def cases():
    """Every test of the primitives, with the parameters it is given there."""
    for name in PROGRAMS:
        test = getattr(test_primitives, name)
        marks = [] if name.removeprefix("test_") in FAST else [pytest.mark.slow]
        given = [m.args for m in getattr(test, "pytestmark", []) if m.name == "parametrize"]
        for values in itertools.product(*(values for _, values in given)):
            arguments = {key: value for (key, _), value in zip(given, values, strict=True)}
            label = "-".join([name.removeprefix("test_"), *map(str, values)])
            yield pytest.param(functools.partial(test, **arguments), id=label, marks=marks)


@pytest.mark.parametrize("program", list(cases()))
def test_primitives_agree_with_xla(cuda, program):
    """The tests of the host's kernels, on a thread a world; their PTX is assembled, too."""
    before = len(cuda.launches)
    program()
    assert len(cuda.launches) > before


def test_elementary_functions_assemble(cuda):
    functions = (jnp.sin, jnp.cos, jnp.exp, jnp.log, jnp.tanh, jnp.sqrt, jnp.arctan, jnp.round)
    agree(lambda x: [f(x) for f in functions[:3]] + [f(jnp.abs(x)) for f in functions[3:]], (2,))


# --- what XLA is told, and what it tells ---


def test_a_failed_launch_is_an_error_of_the_program(cuda):
    (_, _), arguments = call_saxpy(5)
    mapped = jax.jit(jax.vmap(lanes.kernel(saxpy), (None, 0, 0)))
    cuda.fail = fake_cuda.OUT_OF_RESOURCES
    try:
        with pytest.raises(
            jax.errors.JaxRuntimeError, match=r"LAUNCH_OUT_OF_RESOURCES \(701\)"
        ) as caught:
            jax.block_until_ready(mapped(*arguments))
        assert "INTERNAL" in str(caught.value)
        cuda.fail = 12345  # one the driver has no name for
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"unknown error \(12345\)"):
            jax.block_until_ready(mapped(*arguments))
    finally:
        cuda.fail = 0
    np.testing.assert_allclose(mapped(*arguments)[0], call_saxpy(5)[0][0])


def test_buffers_of_another_kernel(cuda):
    """Too many, too few, or of different lanes: refused before the driver sees them."""
    call_saxpy(4)
    name = list(nvidia._LOADED)[-1]
    a, x, y = (jnp.asarray(z) for z in saxpy_arguments(4))
    outs = [jax.ShapeDtypeStruct((4, 3), jnp.float32), jax.ShapeDtypeStruct((4, 3), jnp.bool_)]
    before = len(cuda.launches)
    for arguments, results in (
        ((a, x), outs),
        ((a, x, y, y), outs),
        ((a, x, y), outs[:1]),
        ((a, x, y), [*outs, outs[0]]),
        ((a, x, y[:3]), outs),
        ((a, x, y[0, 0]), outs),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="number or lanes"):
            jax.block_until_ready(jax.ffi.ffi_call(name, results)(*arguments))
    assert len(cuda.launches) == before


def test_no_stream_is_an_error(cuda):
    """XLA's CPU client itself has none; the handler passes on what it says."""
    call_saxpy(4)
    name, linked = list(nvidia._LOADED.items())[-1]
    jax.ffi.register_ffi_target(
        f"{name}_bare", jax.ffi.pycapsule(linked[handler.ENTRY]), platform="cpu"
    )
    a, x, y = (jnp.asarray(z) for z in saxpy_arguments(4))
    outs = [jax.ShapeDtypeStruct((4, 3), jnp.float32), jax.ShapeDtypeStruct((4, 3), jnp.bool_)]
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(jax.ffi.ffi_call(f"{name}_bare", outs)(a, x, y))


def test_handlers_may_be_recorded_into_graphs(cuda):
    call_saxpy(4)
    linked = list(nvidia._LOADED.values())[-1]
    layout = abi.Abi(abi.header())
    assert fake_cuda.traits(linked[handler.ENTRY]) == {
        "api_version.major_version": layout.macro("API_MAJOR"),
        "api_version.minor_version": layout.macro("API_MINOR"),
        "traits": 1,  # XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE
    }


def test_kernels_are_on_every_device_before_they_are_used(cuda):
    def triple(x):
        return 3 * x

    fresh = lanes.kernel(triple)
    lowered = jax.jit(jax.vmap(fresh)).lower(np.ones(2, np.float32))
    entries = {(d, e) for d, e in cuda.loaded if "triple" in e}
    assert {device for device, _ in entries} == {0, 1}
    assert "gpusim_lanes_" in lowered.as_text()
    assert cuda.contexts == []
    assert cuda.retained == 0


def test_platform_decides_the_target(cuda):
    """A program lowered for CUDA has our kernel in it; one for another accelerator has none."""
    exported = lambda platform: (
        jax.jit(jax.vmap(lanes.kernel(saxpy), (None, 0, 0)))
        .trace(*saxpy_arguments(8))
        .lower(lowering_platforms=(platform,))
        .as_text()
    )
    text = exported("cuda")
    assert text.count("gpusim_lanes_") == 1
    assert "dense<[0, 1]>" in text  # worlds are neighbours in memory
    assert "gpusim_lanes_" not in exported("tpu")


# --- the driver ---


def kernel_of(fn, *arguments):
    """The CUDA kernel of a function of one world, all of whose arguments have lanes."""
    return next(ptx.kernels(jax.make_jaxpr(jax.vmap(lanes.kernel(fn)))(*arguments).jaxpr))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUSIM_CACHE", str(tmp_path))


def test_machine_code_is_kept_on_disk(own_cache):
    kernel = kernel_of(lambda x: x + 1, np.ones((2, 3), np.float32))
    text = nvidia.ptx(kernel.ir, 90)
    first, second, newer = FakeCuda(), FakeCuda(), FakeCuda(version=13000)
    for fake in (first, second, newer):
        function = nvidia_driver.Driver(fake).load(text, kernel.entry, [0, 1])
        assert function["kernel"]
        assert fake.loaded == [(0, kernel.entry), (1, kernel.entry)]
    assert (first.links, second.links, newer.links) == (1, 0, 1)


def test_a_mixture_of_devices_gets_ptx(own_cache):
    """Written for the oldest; the driver makes machine code for each."""
    kernel = kernel_of(lambda x: x + 1, np.ones((2, 3), np.float32))
    fake = FakeCuda(capabilities=(90, 80))
    driver = nvidia_driver.Driver(fake)
    driver.load(nvidia.ptx(kernel.ir, 80), kernel.entry, [0, 1])
    assert fake.links == 0
    assert len(fake.loaded) == 2


@needs_ptxas
def test_the_driver_explains_what_it_refuses(own_cache):
    driver = nvidia_driver.Driver(FakeCuda())
    with pytest.raises(
        RuntimeError, match=r"(?s)CUDA_ERROR_INVALID_PTX \(218\).*ptxas.*GPUSIM_LANES=xla"
    ):
        driver.load(".version 8.0\n.target sm_90\nnonsense", "entry", [0])


def test_an_old_driver_is_refused():
    with pytest.raises(RuntimeError, match=r"for CUDA 11\.8, .*GPUSIM_LANES=xla"):
        nvidia_driver.Driver(FakeCuda(version=11080))


def test_no_driver_is_one_clear_error(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(nvidia_driver.ctypes, "CDLL", missing)
    with pytest.raises(RuntimeError, match=r"libcuda.so.1: cannot open.*GPUSIM_LANES=xla"):
        DRIVER.__wrapped__()


# --- PTX ---


@needs_ptxas
@pytest.mark.parametrize("arch", [80, 90, 120])
def test_assembles_for(arch):
    def fn(x, n):
        y = jax.lax.while_loop(lambda c: c[0] < n[0], lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))
        return y[1] / jnp.sqrt(x), jnp.max(x), jnp.round(x).astype(jnp.int32)

    kernel = kernel_of(fn, np.ones((2, 3), np.float32), np.ones((2, 1), np.int32))
    text = nvidia.ptx(kernel.ir, arch)
    assert f".target sm_{arch}" in text
    assert f".visible .entry {kernel.entry}(" in text
    code, said = fake_cuda.assemble(text, arch)
    assert code.startswith(b"\x7fELF")
    assert "bytes spill" in said


@needs_ptxas
@pytest.mark.slow
@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("arch", [80, 90, 120])
def test_environments_assemble(name, arch):
    """Within the registers of a thread, and what is spilled stays within a few kilobytes."""
    found = ptx.assemble(nvidia.ptx(ptx.step_kernel(name).ir, arch), arch)
    assert found["registers"] <= 255
    assert found["spill_store_bytes"] < 10_000


def test_instructions():
    """IEEE division and roots, denormals flushed, coalesced read-only loads, one-step maxima."""

    def fn(x, y, z):
        return x / y, jnp.sqrt(x), jnp.maximum(x, y), jnp.round(y), x * y + z.sum()

    one = np.ones((2, 1), np.float32)  # of x and y results take the memory
    kernel = kernel_of(fn, one, one, np.ones((2, 3), np.float32))
    text = nvidia.ptx(kernel.ir, 90)
    for instruction in (
        *("div.rn.ftz.f32", "sqrt.rn.ftz.f32", "max.ftz.NaN.f32", "cvt.rni.ftz.f32.f32"),
        *(
            "fma.rn.ftz.f32",
            "ld.global.nc.b32",
            "ld.global.b32",
            "st.global.b32",
            "setp.ge.u64",
            ".maxntid 256",
        ),
    ):
        assert instruction in text, instruction


def test_integers_are_added_by_subtracting():
    """Or LLVM takes 12 s instead of 1 for the ant: what is left are additions of addresses."""
    pair = np.ones((2, 2), np.int32)
    ir = kernel_of(lambda x, y: (x + y).sum() + x[0], pair, pair).ir
    assert ir.count("= sub i32 0, ") == 4
    assert "add i32" not in ir
    assert "add.s32" in nvidia.ptx(ir, 90)


def test_threads_branch_for_themselves():
    """A loop leaves when this thread is done: nothing selects between old and new values."""

    def fn(x):
        return jax.lax.while_loop(lambda x: x > 1, lambda x: 0.5 * x, x)

    ir = kernel_of(fn, np.ones(2, np.float32)).ir
    assert "select" not in ir
    assert ir.count("br i1") == 2  # inside the grid, another trip


def test_block_and_registers_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPUSIM_CUDA_BLOCK", "128")
    monkeypatch.setenv("GPUSIM_CUDA_REGISTERS", "96")
    kernel = kernel_of(lambda x: x + 1, np.ones((2, 3), np.float32))
    assert kernel.block == 128
    text = nvidia.ptx(kernel.ir, 90, nvidia.max_registers())
    assert ".maxntid 128\n.maxnreg 96\n" in text
    if fake_cuda.PTXAS:
        fake_cuda.assemble(text, 90)
    for name, value in (("BLOCK", "100"), ("BLOCK", "2048"), ("REGISTERS", "300")):
        monkeypatch.setenv(f"GPUSIM_CUDA_{name}", value)
        with pytest.raises(ValueError, match=f"GPUSIM_CUDA_{name}='{value}' is no"):
            (nvidia.block_size if name == "BLOCK" else nvidia.max_registers)()
        monkeypatch.delenv(f"GPUSIM_CUDA_{name}")


def test_unknown_devices():
    """One newer than we know takes the newest PTX it can; one too old is refused."""
    ir = kernel_of(lambda x: x + 1, np.ones((2, 3), np.float32)).ir
    assert ".target sm_120" in nvidia.ptx(ir, 121)
    assert ".target sm_90" in nvidia.ptx(ir, 99)
    with pytest.raises(RuntimeError, match=r"capability 6\.1 .*GPUSIM_LANES=xla"):
        nvidia.ptx(ir, 61)


def test_too_many_arrays():
    with pytest.raises(ValueError, match=r"512 arguments and 1 results .* 511 a CUDA kernel"):
        kernel_of(lambda *x: sum(x), *[np.ones(2, np.float32)] * 512)


def test_ptx_is_kept_on_disk(own_cache, monkeypatch):
    ir = kernel_of(lambda x: x + 1, np.ones((2, 3), np.float32)).ir
    text = nvidia.ptx(ir, 90)
    monkeypatch.setattr(nvidia, "compile", None)
    assert nvidia.ptx(ir, 90) == text
    root = cache.root()
    assert root is not None
    assert len(list(root.iterdir())) == 1
