"""The function XLA calls: its view of XLA's structs, threads, errors, floating point mode."""

import ctypes
import os
import pathlib
import resource
import textwrap

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest

from gpusim.lanes.host import abi, handler, threads
from gpusim.lanes.host import target as host
from tests.lanes import groups

F32 = jnp.float32


def one(lanes, dtype=F32):
    return jax.ShapeDtypeStruct((lanes, 1), dtype)


@pytest.fixture
def limit():
    """Sets the limit that GPUSIM_THREADS sets at start-up."""
    pool = host._pool()
    before = pool[0]

    def set_limit(value):
        pool[0] = value

    yield set_limit
    set_limit(before)


# --- XLA's structs ---

OFFSETS = {  # worked out by hand for version 0.3 of the interface
    "CallFrame.extension_start": (8, "ptr"),
    "CallFrame.api": (16, "ptr"),
    "CallFrame.ctx": (24, "ptr"),
    "CallFrame.stage": (32, "i32"),
    "CallFrame.args.size": (56, "i64"),
    "CallFrame.args.args": (72, "ptr"),
    "CallFrame.rets.rets": (112, "ptr"),
    "Buffer.dtype": (16, "i32"),
    "Buffer.data": (24, "ptr"),
    "Buffer.rank": (32, "i64"),
    "Buffer.dims": (40, "ptr"),
    "Metadata_Extension.metadata": (24, "ptr"),
    "Metadata.api_version.major_version": (24, "i32"),
    "Metadata.api_version.minor_version": (28, "i32"),
    "Metadata.traits": (32, "i32"),
    "Api.Error_Create": (48, "ptr"),
    "Api.Error_Destroy": (64, "ptr"),
    "Api.ThreadPool_Schedule": (136, "ptr"),
    "Api.ThreadPool_NumThreads": (144, "ptr"),
    "Error_Create_Args.errc": (24, "i32"),
}


@pytest.mark.parametrize("field", OFFSETS)
def test_offsets_in_the_installed_header(field):
    assert abi.Abi(abi.header()).field(field) == OFFSETS[field]


def test_layout_follows_a_header_that_changed():
    text = """
    #define API_MAJOR 7
    typedef enum {
      A = 0, // { }
    } Kind;
    struct Inner {
      Kind kind;
      int64_t* count;
      int odd;
    };
    struct Outer {
      int first;  /* int hidden; */
      void (*callback)(void* data);
      Inner inner;
      const char* last;
      int tail;
    };
    """
    layout = abi.Abi(textwrap.dedent(text))
    assert layout.macro("API_MAJOR") == 7
    fields = ["first", "callback", "inner.kind", "inner.count", "inner.odd", "last", "tail"]
    assert [layout.field(f"Outer.{name}")[0] for name in fields] == [0, 8, 16, 24, 32, 40, 48]
    assert layout.size("Outer") == 52
    with pytest.raises(RuntimeError, match=r"struct Outer has no field 'gone'.*GPUSIM_LANES=xla"):
        layout.field("Outer.gone")
    with pytest.raises(RuntimeError, match="no struct Elsewhere"):
        layout.field("Elsewhere.field")


def test_another_major_version_is_an_error(monkeypatch):
    text = abi.header().replace("API_MAJOR 0", "API_MAJOR 1")
    monkeypatch.setattr(pathlib.Path, "read_text", lambda _, encoding: text)
    with pytest.raises(RuntimeError, match="major version is 1, not 0"):
        abi.header.__wrapped__()


@pytest.mark.parametrize(
    ("triple", "instruction"),
    [("aarch64-unknown-linux-gnu", "FPCR"), ("x86_64-unknown-linux-gnu", "ldmxcsr")],
)
def test_code_for_either_machine(triple, instruction):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    text = handler.handler_ir(triple.split("-")[0], 4, (True,), abi.header())
    module = llvm.parse_assembly(
        f'target triple = "{triple}"\ndeclare void @group(ptr, ptr, i64, i64)\n' + text
    )
    module.verify()
    assert instruction in host._machine(host.Host(triple, "", "", 128)).emit_assembly(module)


# --- errors ---


def test_fewer_lanes_than_the_width():
    name = groups.iterated(1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="fewer lanes than the kernel's vector"):
        groups.call(name, one(15))(np.zeros((15, 1), np.float32))


@pytest.mark.parametrize("shapes", [[(32, 1), (16, 1)], [(32, 1)], [(32, 1), (32, 1), (32, 1)]])
def test_buffers_of_another_kernel(shapes):
    """The group takes two arguments with 32 lanes each."""
    body = "ret void"
    name = groups.load(body, width=16, arg_lanes=(True, True))
    with pytest.raises(jax.errors.JaxRuntimeError, match="number or lanes"):
        groups.call(name, one(32))(*(np.zeros(shape, np.float32) for shape in shapes))
    groups.call(name, one(32))(*[np.zeros((32, 1), np.float32)] * 2)


# --- called as XLA calls it, but in this thread and without XLA ---


def call_directly(name, x, y):
    """Runs a loaded kernel on two arrays and returns what the handler does."""
    layout = abi.Abi(abi.header())
    keep = []

    def struct(fields):
        """Address of a C struct with these values in its fields, all of 8 bytes."""
        memory = np.zeros(32, np.int64)
        for path, value in fields.items():
            memory[layout.field(path)[0] // 8] = value
        return address(memory)

    def address(array):
        keep.append(array)
        return array.ctypes.data

    def buffers(array):
        dims = {"Buffer.rank": array.ndim, "Buffer.dims": address(np.array(array.shape))}
        return address(np.array([struct(dims | {"Buffer.data": address(array)})]))

    frame = {"CallFrame.args.size": 1, "CallFrame.args.args": buffers(x)}
    frame |= {"CallFrame.rets.size": 1, "CallFrame.rets.rets": buffers(y)}
    entry = host._LOADED[name][handler.ENTRY]
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(entry)(struct(frame))


def test_denormals_are_zero_inside_and_only_inside():
    body = """
      %a = load float, ptr %x
      %b = fmul float %a, 0.5
      store float %b, ptr %o
      ret void"""
    tiny = np.finfo(np.float32).tiny  # half of it is denormal
    x, y = np.array([[tiny], [tiny / 2], [4 * tiny]], np.float32), np.ones((3, 1), np.float32)
    for i in range(3):
        assert call_directly(groups.load(body, width=1), x[i : i + 1], y[i : i + 1]) is None
    np.testing.assert_array_equal(y[:, 0], [0, 0, 2 * tiny])
    assert tiny * np.float32(0.5) > 0  # as before


def test_no_lanes_touch_nothing():
    name = groups.load("store float 1.0, ptr %o\n ret void", width=1)
    y = np.zeros(1, np.float32)
    assert call_directly(name, y[:0], y[:0]) is None
    assert y == 0


# --- threads ---


def cores():
    return len(os.sched_getaffinity(0))


def used_threads(lanes=40):
    """How many threads a call uses whose one-lane groups take 1 ms each."""
    name = groups.thread_ids(sleep=1000)
    (ids,) = groups.call(name, one(lanes, jnp.int32))(np.zeros((lanes, 1), np.float32))
    return len(np.unique(ids))


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_threads_take_part(limit):
    limit(2)
    assert used_threads() == 2
    limit(1)
    assert used_threads() == 1


def test_one_group_needs_one_thread(limit):
    limit(64)
    assert used_threads(lanes=1) == 1


def test_thread_limit_from_the_environment():
    assert host._thread_limit(None) == host._thread_limit("") == cores()
    assert host._thread_limit("3") == 3
    for text in ("0", "-1", "two", "1.5"):
        with pytest.raises(ValueError, match=f"GPUSIM_THREADS='{text}' is not a positive"):
            host._thread_limit(text)


def test_short_calls_stay_on_the_caller(limit):
    """The first call does not know yet how short it is; all later ones do."""
    limit(64)
    name = groups.thread_ids()  # takes some 10 us for 64 lanes, long enough for a task to join
    call = jax.jit(groups.call(name, one(64, jnp.int32)))
    x = np.zeros((64, 1), np.float32)
    call(x)
    seen = [len(np.unique(call(x)[0])) for _ in range(200)]
    assert sum(count > 1 for count in seen) <= 20  # a preempted call looks long to the next one


@pytest.fixture
def eager(monkeypatch, limit):
    """Handlers that start tasks however short the call, and claim one group at a time."""
    monkeypatch.setattr(threads, "SPAWN_NS", 0)
    monkeypatch.setattr(threads, "CHUNK_NS", 1)
    limit(64)


def repeated(name, lanes, length):
    call = groups.call(name, one(lanes))
    return jax.jit(lambda x: jax.lax.scan(lambda x, _: (call(x)[0] + 1, None), x, None, length)[0])


def test_late_tasks_and_many_calls(eager):
    """Tasks outlive most of these calls, whose groups take nanoseconds; none may be lost."""
    x = np.random.default_rng(0).normal(size=(100, 1)).astype(np.float32)
    run = repeated(groups.iterated(1), 100, 1000)
    expected = x.copy()
    for _ in range(1000):
        expected = expected * np.float32(0.5) + np.float32(1) + np.float32(1)
    for _ in range(20):
        np.testing.assert_allclose(run(x), expected, rtol=1e-6)


def test_memory_is_returned(eager):
    """50,000 calls would leak 7 MB if their contexts were not freed."""
    x = np.zeros((100, 1), np.float32)
    run = repeated(groups.iterated(2), 100, 10_000)
    jax.block_until_ready(run(x))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        jax.block_until_ready(run(x))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 3000  # kB
    busy = host._pool()[1]
    assert busy in (0, 1)  # all have left, except perhaps one that just starts
