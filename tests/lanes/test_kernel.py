"""What `lanes.kernel` promises about transformations, lane counts, errors and diverged lanes."""

import gc
import itertools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from gpusim import lanes
from gpusim.lanes.host import target as host
from gpusim.lanes.kernel import Trace
from tests.lanes.agreement import agree, assert_same, draw


def pendulum(state, force):
    """A world with a loop, a branch and trigonometry."""
    angle, speed = state["angle"], state["speed"]

    def substep(_, s):
        angle, speed = s
        speed = speed + 0.01 * (jnp.clip(force, -1, 1) - jnp.sin(angle))
        return angle + 0.01 * speed, speed

    angle, speed = lax.fori_loop(0, 5, substep, (angle, speed))
    return {"angle": angle, "speed": speed}, jnp.where(jnp.abs(angle) > 1, 0.0, jnp.cos(angle))


def worlds(*shape):
    a, s, f = map(jnp.asarray, draw([shape[1:]] * 3, "float32", shape[0]))
    return {"angle": a, "speed": s}, f


compiled = lanes.kernel(pendulum)


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 33, 1000, 4099])
def test_any_number_of_lanes(n):
    args = worlds(n)
    assert_same(jax.vmap(compiled)(*args), jax.vmap(pendulum)(*args))


def test_one_world_alone():
    args = jax.tree.map(lambda x: x[0], worlds(1))
    assert_same(compiled(*args), pendulum(*args))
    assert_same(jax.jit(compiled)(*args), pendulum(*args))


@pytest.mark.parametrize("mapped", list(itertools.product([True, False], repeat=3))[:-1])
def test_what_worlds_share_is_read_everywhere(mapped):
    """Shared numbers meet others in loops, in branches, in arrays, and as results."""

    def fn(x, u, table):
        s = 2 * u + jnp.abs(table[0])

        def step(k, carry):
            y, shared, _, rows = carry
            row = jnp.arctan2(rows[k % 7], 1 + s)
            y = jnp.cos(y) + row * shared + table[k % 7]
            return y, 0.9 * shared + 0.1 * u, 0 * y + 3, rows.at[k % 7].set(row)

        y, shared, three, rows = lax.fori_loop(0, 500, step, (x, u, x, table))
        heavy = lambda y: lax.fori_loop(0, 2000, lambda _, y: jnp.sin(y) + s, y)
        z = lax.cond(y > 0, heavy, lambda y: u, y)
        near = table[jnp.clip((3 * x).astype(int), 0, 6)] + table[jnp.clip(u, 0, 6).astype(int)]
        end = lax.while_loop(lambda w: w < 3 + s, lambda w: w + shared + 1.5, z)
        return y * three, three, shared, rows, s, near, end

    with jax.enable_x64(True):
        args = draw([(), (), (7,)], "float64", 19)
        args = [x if lane else x[0] for x, lane in zip(args, mapped, strict=True)]
        axes = tuple(0 if lane else None for lane in mapped)
        actual = jax.jit(jax.vmap(lanes.kernel(fn), axes))(*args)
        assert_same(actual, jax.jit(jax.vmap(fn, axes))(*args), 1e-10)


def test_nested_maps_and_axes():
    args = worlds(5, 7)
    expected = jax.vmap(jax.vmap(pendulum))(*args)
    assert_same(jax.vmap(jax.vmap(compiled))(*args), expected)
    state, force = args
    # the force is shared by the inner axis, then by both
    inner = jax.vmap(jax.vmap(compiled, (0, None)), (0, 0))(state, force[:, 0])
    assert_same(inner, jax.vmap(jax.vmap(pendulum, (0, None)))(state, force[:, 0]))
    both = jax.vmap(jax.vmap(compiled, (0, None)), (0, None))(state, 0.3)
    assert_same(both, jax.vmap(jax.vmap(pendulum, (0, None)), (0, None))(state, 0.3))
    outer = jax.vmap(jax.vmap(compiled, (None, 0)), (0, None))(
        jax.tree.map(lambda x: x[:, 0], state), force[0]
    )
    assert_same(
        outer,
        jax.tree.map(
            lambda x: x,
            jax.vmap(jax.vmap(pendulum, (None, 0)), (0, None))(
                jax.tree.map(lambda x: x[:, 0], state), force[0]
            ),
        ),
    )
    last = jax.vmap(lanes.kernel(jnp.sin), in_axes=1, out_axes=1)(force)
    assert_same(last, jnp.sin(force))


def test_mapped_calls_are_one_kernel_call():
    args = worlds(3, 40)
    text = jax.jit(jax.vmap(jax.vmap(compiled))).lower(*args).as_text()
    assert text.count("gpusim_lanes_") == 1


@pytest.mark.parametrize("n", [64, 65])
def test_a_loop_steps_its_state_in_place(n):
    """Where the width divides the lanes; values that only move are not overwritten too early."""

    def step(state, force):
        (a, b), key = state
        key, _ = jax.random.split(key)
        return ((b, a + force), key), a * b

    keys = jax.random.split(jax.random.key(0), n)
    state = ((jnp.arange(n * 3.0).reshape(n, 3), jnp.ones((n, 3))), keys)
    force = jnp.linspace(0, 1, n)

    def loop(one):
        return jax.jit(lambda s: lax.scan(lambda s, _: jax.vmap(one)(s, force), s, length=5))

    assert_same(values(loop(lanes.kernel(step))(state)), values(loop(step)(state)))
    text = loop(lanes.kernel(step)).lower(state).as_text()
    alone = jax.default_backend() != "cpu"  # a thread of a GPU is a group of one lane
    assert ("output_operand_alias" in text) == (n == 64 or alone)
    again = loop(lanes.kernel(step))
    assert_same(values(again(state)), values(again(state)))  # the caller's arrays are untouched


def values(tree):
    """The arrays, random keys as words."""
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [jax.random.key_data(x) if is_key(x) else x for x in jax.tree.leaves(tree)]


def test_inside_scan():
    def rollout(step, state, force):
        return lax.scan(lambda s, _: jax.vmap(step)(s, force), state, None, length=20)

    state, force = worlds(21)
    expected = rollout(pendulum, state, force)
    assert_same(jax.jit(lambda s, f: rollout(compiled, s, f))(state, force), expected, 2e-5)


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_under_pmap_and_shard_map():
    args = worlds(2, 9)
    expected = jax.vmap(jax.vmap(pendulum))(*args)
    assert_same(jax.pmap(jax.vmap(compiled))(*args), expected)
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")

    def rollout(state, force):
        return lax.scan(
            lambda s, _: (jax.vmap(compiled)(s, force)[0], None), state, None, length=1
        )[0]

    flat = jax.tree.map(lambda x: x.reshape(18), args)
    sharded = jax.jit(jax.shard_map(rollout, mesh=mesh, in_specs=spec, out_specs=spec))
    assert_same(sharded(*flat), jax.tree.map(lambda x: x.reshape(18), expected[0]))


def test_derivatives():
    args = jax.tree.map(lambda x: x[0], worlds(1))

    def loss(f):
        return lambda s, u: f(s, u)[1] + f(s, u)[0]["speed"]

    assert_same(jax.grad(loss(compiled))(*args), jax.grad(loss(pendulum))(*args))
    batch = worlds(9)
    assert_same(
        jax.vmap(jax.grad(loss(compiled)))(*batch), jax.vmap(jax.grad(loss(pendulum)))(*batch)
    )


def test_kernel_called_by_a_kernel():
    def twice(state, force):
        state, _ = compiled(state, force)
        return compiled(state, force)

    args = worlds(17)
    outer = jax.jit(jax.vmap(lanes.kernel(twice)))
    assert outer.lower(*args).as_text().count("gpusim_lanes_") == 1
    state = jax.vmap(pendulum)(*args)[0]
    assert_same(outer(*args), jax.vmap(pendulum)(state, args[1]))


def test_no_compilation_on_the_second_call():
    traced = []

    def fn(x):
        traced.append(1)
        return x + 1

    k = jax.jit(jax.vmap(lanes.kernel(fn)))
    k(jnp.zeros(20))
    k(jnp.ones(20))
    assert len(traced) == 1
    jax.vmap(lanes.kernel(fn))(jnp.zeros(20))


@pytest.mark.parametrize("isa", ["avx2", "sse"])
def test_other_instruction_sets(isa, tmp_path):
    """They are chosen when a process starts."""
    if isa == "avx2" and host.host().vector_bits < 256:
        pytest.skip("this processor has no AVX2")
    if not host.host().triple.startswith("x86_64"):
        pytest.skip("these are x86-64's instruction sets")
    root = pathlib.Path(__file__).parents[2]
    code = f"""
import jax, numpy
from tests.lanes.test_kernel import compiled, worlds
found = jax.tree.leaves(jax.vmap(compiled)(*worlds(33)))
numpy.savez({str(tmp_path / "found.npz")!r}, *found)
"""
    env = os.environ | {"GPUSIM_LANES_ISA": isa, "GPUSIM_CACHE": "off", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)
    with np.load(tmp_path / "found.npz") as found:
        assert_same(
            [found[name] for name in found], jax.tree.leaves(jax.vmap(pendulum)(*worlds(33)))
        )


def test_code_for_arm():
    """No such machine is at hand: that the whole of a kernel becomes code is what can be seen."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    function = Trace(pendulum, jax.tree.map(lambda x: x[0], worlds(1))).function
    text, width = function.lower((True,) * 3, vector_bits=128)
    assert width == 8
    arm = host.Host("aarch64-unknown-linux-gnu", "neoverse-n1", "", 128)
    module = llvm.parse_assembly(f'target triple = "{arm.triple}"\n' + text)
    code = host._machine(arm).emit_assembly(module)
    assert "fmla\tv" in code  # four lanes multiply and add
    assert "\tbl\t" not in code  # no call: sin and cos are part of it


@pytest.mark.slow
@pytest.mark.parametrize("transform", [jax.vmap, lambda f: jax.jit(jax.vmap(f))])
def test_kernels_no_longer_used_leave_little(transform):
    """Machine code stays, at 80 kB each; traces, graphs and XLA's programs (1.5 MB) do not."""

    def resident():
        gc.collect()
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

    def make(number):
        for k in range(number):
            fn = lanes.kernel(lambda x, k=float(number + k): jnp.sin(x) * x[0] + k)
            transform(fn)(jnp.ones((64, 3)))

    make(100)
    before = resident()
    make(300)
    assert resident() - before < 300 * 0.3e6


def test_closed_over_arrays_and_python_numbers():
    table = jnp.arange(6.0).reshape(2, 3)
    agree(lambda x: table @ x + 2, (3,), dtypes=("float32",))
    assert float(lanes.kernel(lambda x, y: x * y)(2.0, 3)) == 6.0
    assert lanes.kernel(lambda: jnp.float32(4))() == 4


def test_a_diverged_lane_is_seen_and_alone():
    def fn(x):
        y = lax.fori_loop(0, 200, lambda _, v: v * v - 0.5 * v, x)
        return y, jnp.isfinite(y), jnp.maximum(y, 0), jnp.clip(y, -1, 1)

    x = jnp.full(40, 0.3).at[7].set(50.0).at[21].set(jnp.nan)
    y, finite, positive, clipped = jax.vmap(lanes.kernel(fn))(x)
    bad = np.isin(np.arange(40), [7, 21])
    np.testing.assert_array_equal(~finite, bad)
    np.testing.assert_array_equal(np.isnan(positive) | np.isinf(positive), bad)
    assert np.isnan(clipped[21])
    good = jax.vmap(lanes.kernel(fn))(jnp.full(40, 0.3))[0]
    np.testing.assert_array_equal(y[~bad], good[~bad])


def test_lanes_do_not_see_each_other():
    state, force = worlds(50)
    y = jax.vmap(compiled)(state, force)
    perm = np.random.default_rng(0).permutation(50)
    shuffled = jax.vmap(compiled)(*jax.tree.map(lambda x: x[perm], (state, force)))
    for a, b in zip(jax.tree.leaves(y), jax.tree.leaves(shuffled), strict=True):
        np.testing.assert_array_equal(a[perm], b)


def test_through_xla(monkeypatch):
    args = worlds(20)
    monkeypatch.setenv("GPUSIM_LANES", "xla")
    step = jax.jit(jax.vmap(lanes.kernel(pendulum)))
    assert "gpusim_lanes_" not in step.lower(*args).as_text()
    assert_same(step(*args), jax.vmap(pendulum)(*args))
    monkeypatch.setenv("GPUSIM_LANES", "fast")
    with pytest.raises(ValueError, match="GPUSIM_LANES='fast'"):
        lanes.kernel(pendulum)(*args)


def test_unsupported_primitive_names_itself_and_the_line():
    def inverse(x):
        return jnp.linalg.eigvals(x).real

    with pytest.raises(lanes.LanesError, match=r"inverse.*'eig' is not supported.*test_kernel"):
        jax.vmap(lanes.kernel(inverse))(jnp.zeros((20, 3, 3)))


def test_what_is_no_function():
    with pytest.raises(TypeError, match="a function of one world, not a int"):
        lanes.kernel(3)  # pyright: ignore[reportArgumentType]


def test_unsupported_dtype():
    with pytest.raises(lanes.LanesError, match="complex64 is not supported"):
        jax.vmap(lanes.kernel(lambda x: x + 1))(jnp.zeros(20, jnp.complex64))


def test_side_effects_are_refused():
    def chatty(x):
        jax.debug.print("{}", x)
        return x

    with pytest.raises(lanes.LanesError, match="debug"):
        jax.vmap(lanes.kernel(chatty))(jnp.zeros(20))


# -- random compositions ---------------------------------------------------------------------------

UNARY = [jnp.sin, jnp.tanh, jnp.abs, jnp.square, lambda v: -v, lambda v: v * 0.5 + 1, jnp.floor]
BINARY = [jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, lambda a, b: jnp.where(a > b, a, -b)]
LOOPS = [
    lambda a, b: lax.fori_loop(0, 60, lambda i, v: 0.9 * v + 0.1 * b, a),
    lambda a, b: lax.while_loop(lambda v: jnp.abs(v) > 0.5, lambda v: v * 0.7, jnp.tanh(a) + 0 * b),
    lambda a, b: lax.cond(a > b, lambda: a - b, lambda: jnp.cos(a)),
]


@st.composite
def programs(draw):
    """A list of (operation, operand, operand) on a growing stack of values."""
    out = []
    for k in range(draw(st.integers(3, 12))):
        i, j = draw(st.integers(0, k + 1)), draw(st.integers(0, k + 1))
        out.append((draw(st.sampled_from(UNARY + BINARY + LOOPS)), i, j))
    return out


@settings(max_examples=12, deadline=None, derandomize=True)
@given(programs())
def test_random_programs(program):
    def fn(x, y):
        values = [x, y]
        for f, i, j in program:
            values.append(jnp.clip(f(values[i]) if f in UNARY else f(values[i], values[j]), -9, 9))
        return values[2:]

    agree(fn, (), (), dtypes=("float64",), worlds=11)
