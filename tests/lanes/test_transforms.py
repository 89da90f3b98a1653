"""A kernel under each of JAX's transformations gives what the function itself gives under it: the
same tree, shapes, dtypes, weak types and values, or the same kind of error.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import checkify
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gpusim import lanes
from gpusim.lanes import jaxprs

X = np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.2], [-0.8, 0.9, 0.5]])  # three worlds
PARAMETER = np.array([0.5, -0.3, 1.4])  # which they share


def same(actual, expected, tolerance=1e-12):
    """The same to rounding of the numbers, and exactly in everything else."""
    leaves, tree = jax.tree.flatten(actual)
    expected_leaves, expected_tree = jax.tree.flatten(expected)
    assert tree == expected_tree
    if isinstance(expected, str):  # the name of an error
        assert actual == expected
        return
    for a, e in zip(leaves, expected_leaves, strict=True):
        a_type, e_type = jax.typeof(a), jax.typeof(e)
        assert (a_type.shape, a_type.dtype) == (e_type.shape, e_type.dtype)
        assert a_type.weak_type == e_type.weak_type
        if jax.dtypes.issubdtype(a_type.dtype, jax.dtypes.prng_key):
            a, e = jax.random.key_data(a), jax.random.key_data(e)
        if a_type.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(a, e, tolerance, tolerance)


def outcome(program, *args):
    """What it gives, or which kind of error it raises."""
    try:
        return program(*args)
    except (TypeError, ValueError) as error:
        return type(error).__name__


def agree(transform, fn, *args, tolerance=1e-12):
    """The transformed kernel gives what the transformed function gives, in float64."""
    with jax.enable_x64(True):
        actual = outcome(transform(lanes.kernel(fn)), *args)
        same(actual, outcome(transform(fn), *args), tolerance)
    return actual


# --- derivatives ---


@jax.custom_jvp
def halved_slope(x):
    """A sine whose derivative is told to be half of what it is."""
    return jnp.sin(x)


halved_slope.defjvp(lambda x, t: (jnp.sin(x[0]), 0.5 * t[0] * jnp.cos(x[0])))


@jax.custom_vjp
def doubled_slope(x):
    """A sine whose derivative is told to be twice what it is, in reverse only."""
    return jnp.sin(x)


doubled_slope.defvjp(lambda x: (jnp.sin(x), x), lambda x, t: (2 * t * jnp.cos(x),))


def forward_and_reverse(x, p):
    """Loops, a branch, a derivative rule, and results that do not depend on x, or on anything."""
    y = lax.fori_loop(0, 2, lambda _, y: y * jnp.cos(p), x)
    return {
        "numbers": halved_slope(lax.cond(x[0] > 0, jnp.sin, jnp.square, y)),
        "parameter": p * 2,
        "itself": p,
        "constant": jnp.array([1.0, 2.0, 3.0]),
        "integer": (x > 0).astype(int),
        "stopped": lax.stop_gradient(x) * x,
    }


def only_reverse(x, p):
    return doubled_slope(x * p), doubled_slope(p)


def only_forward(x, p):
    return lax.while_loop(lambda y: jnp.sum(y**2) > 0.1, lambda y: y * 0.5 * jnp.cos(p), x)


def loss(fn):
    """A number made of every result in all worlds, and of the parameter."""

    def of(x, p):
        total = sum(y.sum() for y in jax.tree.leaves(jax.vmap(fn, in_axes=(0, None))(x, p)))
        return total * x.sum() + total**2 * p[0]

    return of


def with_jvp(f):
    told = jax.custom_jvp(f)
    told.defjvp(lambda x, t: jax.jvp(f, x, t))
    return told


def with_vjp(f):
    told = jax.custom_vjp(f)
    told.defvjp(lambda *x: jax.vjp(f, *x), lambda pull, t: pull(t))
    return told


AROUND = {
    "nothing": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: lambda *a: lax.scan(lambda c, _: (c + f(*a), None), 0.0, length=2)[0],
    "while": lambda f: (
        lambda *a: lax.while_loop(lambda c: c < 1, lambda c: c + 2 + f(*a) ** 2, 0.0)
    ),
    "cond": lambda f: lambda *a: lax.cond(a[1][0] > 0, f, lambda x, p: 0.0 * p[0], *a),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "vmap": lambda f: lambda x, p: jax.vmap(f, (None, 0))(x, jnp.stack([p, 2 * p])).sum(),
}
DERIVATIVE = {
    "grad": lambda f: jax.grad(f, (0, 1)),
    "jvp": lambda f: lambda *a: jax.jvp(f, a, a),
    "vjp": lambda f: lambda *a: jax.vjp(f, *a)[1](1.0),
    "jacfwd": lambda f: jax.jacfwd(f, 1),
    "jacrev": lambda f: jax.jacrev(f, 1),
    "hessian": lambda f: jax.hessian(f, 1),
    "linearize": lambda f: lambda *a: jax.linearize(f, *a)[1](*a),
    "jit of grad": lambda f: jax.jit(jax.grad(f)),
    "vmap of grad": lambda f: lambda x, p: jax.vmap(jax.grad(f), (None, 0))(x, jnp.stack([p, -p])),
}


def pairs(first, second, fast):
    """All pairs of names; those in which neither is in `fast` are for the slow tests."""
    for pair in itertools.product(first, second):
        yield pytest.param(*pair, marks=() if fast & {*pair} else pytest.mark.slow)


@pytest.mark.parametrize(("derivative", "around"), [*pairs(DERIVATIVE, AROUND, {"grad", "jit"})])
def test_derivatives(derivative, around):
    transform = lambda k: DERIVATIVE[derivative](AROUND[around](loss(k)))
    agree(transform, forward_and_reverse, X, PARAMETER)


@pytest.mark.parametrize("fn", [only_reverse, only_forward])
@pytest.mark.parametrize(
    ("derivative", "around"),
    [*pairs(["grad", "jvp", "linearize"], ["jit", "checkpoint", "scan", "vmap"], {"jit", "scan"})],
)
def test_derivatives_that_have_one_direction(derivative, around, fn):
    """The other is refused, as of the function itself."""
    found = agree(lambda k: DERIVATIVE[derivative](AROUND[around](loss(k))), fn, X, PARAMETER)
    forward = derivative in ("jvp", "linearize")
    assert (found in ("TypeError", "ValueError")) == (forward == (fn is only_reverse))


@pytest.mark.parametrize(("outer", "inner"), [*pairs(AROUND, AROUND, {"jit"})])
def test_gradients_of_nested_transformations(outer, inner):
    agree(lambda k: jax.grad(AROUND[outer](AROUND[inner](loss(k))), 1), small, X, PARAMETER)


def small(x, p):
    return jnp.sin(x * p), p


@pytest.mark.parametrize("around", AROUND)
def test_derivatives_of_one_world(around):
    transform = lambda k: jax.grad(AROUND[around](lambda x, p: k(x, p)[0].sum()), (0, 1))
    agree(transform, small, X[0], PARAMETER)


def test_integers_and_keys_have_no_tangents():
    def fn(x, count, key):
        return x * count, count + 1, jax.random.split(key)[0], x + jax.random.normal(key)

    args = X[0], np.int32(3), jax.random.key(0)
    zeros = [np.zeros((), jax.dtypes.float0)] * 2
    agree(lambda k: lambda *a: jax.jvp(k, a, (a[0], *zeros)), fn, *args)
    agree(lambda k: lambda *a: jax.vjp(lambda x: k(x, *a[1:])[::3], a[0])[1](a[:1] * 2), fn, *args)
    agree(lambda k: lambda *a: jax.linearize(lambda x: k(x, *a[1:]), a[0])[1](a[0]), fn, *args)
    total = lambda k: lambda *a: sum(y.sum() for y in k(*a)[::3])
    agree(lambda k: jax.grad(total(k), (0, 1), allow_int=True), fn, *args)


def test_tangents_of_integers_are_arguments_and_results():
    """They have a dtype of their own, float0."""

    def fn(x, dx, count, nothing):
        return jax.jvp(lambda x, n: (x * n, n + 1), (x, count), (dx, nothing))

    nothing = np.zeros((), jax.dtypes.float0)
    agree(lambda k: k, fn, X[0], X[1], np.int32(2), nothing)
    agree(jax.jit, fn, X[0], X[1], np.int32(2), nothing)
    agree(lambda k: jax.vmap(k, (0, 0, None, None)), fn, X, X, np.int32(2), nothing)


def test_tangents_known_to_be_zero():
    """A loop of unknown length has a gradient if nothing it depends on has."""

    def bounded(k):
        def of(x):
            y, limit = k(x)
            trips = lax.while_loop(lambda n: n < limit[0], lambda n: n + 0.1, 0.0)
            return (y * trips).sum()

        return jax.grad(of)

    agree(bounded, lambda x: (x**2, lax.stop_gradient(jnp.exp(x))), X[0])
    agree(bounded, lambda x: (x**2, jnp.floor(x + 2)), X[0])


def test_gradients_of_what_a_loop_forgets():
    """Mapping concerns only what a loop begins with, but JAX gives all that it carries an axis."""

    def fn(x, p):
        return lax.scan(lambda c, row: (jnp.floor(p), row * 2), x, jnp.ones((4, 3)))

    total = lambda k: lambda x, p: jax.vmap(k, (0, None))(x, p)[0].sum()
    agree(lambda k: jax.grad(total(k), (0, 1)), fn, X, PARAMETER)


@jax.custom_jvp
def told_to_move(x, p):
    """The parameter, whose derivative is told to be that of both."""
    return p


told_to_move.defjvp(lambda given, t: (given[1], t[0] * 2 + t[1] * 3))


@jax.custom_vjp
def told_to_pull(x, p):
    """The same in reverse."""
    return p


told_to_pull.defvjp(lambda x, p: (p, None), lambda _, t: (t * 2, t * 3))


@pytest.mark.parametrize("fn", [told_to_move, told_to_pull])
def test_derivatives_of_what_is_not_read(fn):
    agree(lambda k: jax.vmap(k, (0, None)), fn, X, PARAMETER)
    total = lambda k: lambda x, p: jax.vmap(k, (0, None))(x, p).sum()
    agree(lambda k: jax.grad(total(k), (0, 1)), fn, X, PARAMETER)


def test_linear_functions_transpose():
    def fn(x, p):
        return x * p, (p * 2, jnp.flip(x))

    transposed = lambda k: lambda x, p: jax.linear_transpose(lambda x: k(x, p), x)((x, (p, 3 * x)))
    agree(transposed, lambda x, p: (x * p, (p * 0, jnp.flip(x))), X[0], PARAMETER)
    mapped = lambda k: lambda x: jax.linear_transpose(jax.vmap(k), x)(x)
    agree(mapped, lambda x: jnp.cumsum(x) * 2, X)
    with pytest.raises((TypeError, NotImplementedError, ValueError)):
        jax.linear_transpose(lanes.kernel(jnp.sin), X[0])(X[0])


@pytest.mark.parametrize("derive", [jax.grad, jax.jacfwd, lambda f: jax.value_and_grad(f)])
def test_a_derivative_as_a_kernel(derive):
    def fn(x):
        y = lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x)
        z = lax.switch((x[0] > 0).astype(int), [jnp.sin, jnp.exp, jnp.tanh], y)
        return halved_slope(lax.fori_loop(0, 4, lambda _, z: z * 1.1 + x, z)).sum()

    agree(jax.vmap, derive(fn), X)
    agree(jax.vmap, jax.grad(lambda x: lanes.kernel(fn)(x)), X)
    agree(jax.vmap, jax.grad(lambda x: doubled_slope(x).sum()), X)


# --- types ---


SCALARS = [2, 2.5, True, np.float32(2), np.float64(2), np.int8(2), np.bool_(True), np.int64(5)]


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int8", "bool"])
def test_python_numbers_are_weak(dtype, x64):
    def fn(x, *scalars):
        cases = lambda c: (x * c, c, jnp.where(x > 0, c, x), lax.cond(x[0] > 0, abs, jnp.square, c))
        return x, [cases(c) for c in scalars if c.dtype != bool], [x * c for c in scalars]

    as_arrays = lambda f: lambda x, *scalars: f(x, *map(jnp.asarray, scalars))
    with jax.enable_x64(x64):
        x, axes = jnp.ones((4, 3), dtype), (0, *(None for _ in SCALARS))
        same(lanes.kernel(fn)(x[0], *SCALARS), jax.jit(fn)(x[0], *SCALARS))
        mapped = jax.vmap(lanes.kernel(fn), axes)(x, *SCALARS)
        same(mapped, jax.vmap(as_arrays(fn), axes)(x, *SCALARS))


@pytest.mark.parametrize("x64", [False, True])
def test_weak_results(x64):
    def fn(x):
        return 2.0, 3, True, x * 2, jnp.asarray(2.0), jnp.float32(1), x.sum() * 0 + 1, jnp.zeros(0)

    with jax.enable_x64(x64):
        x = jnp.ones((4, 3), "int8")
        same(lanes.kernel(fn)(x[0]), jax.jit(fn)(x[0]))
        same(jax.vmap(lanes.kernel(fn))(x), jax.vmap(fn)(x))
        weak = jax.vmap(lambda _: 2.0)(x)
        same(jax.vmap(lanes.kernel(fn))(weak), jax.vmap(fn)(weak))


def test_weak_types_are_part_of_the_signature():
    k = lanes.kernel(lambda x: x * jnp.int8(1) if jax.typeof(x).weak_type else x + 1)
    same(k(2), jnp.int8(2))
    same(k(jnp.int32(2)), jnp.int32(3))
    same(k(2), jnp.int8(2))


FLAGS = {
    "jax_enable_x64": (False, True, lambda x: x * np.float64(1) + jnp.arange(3).sum()),
    "jax_threefry_partitionable": (
        False,
        True,
        lambda x: x + jax.random.uniform(jax.random.key(1), (3,)),
    ),
    "jax_default_prng_impl": (
        "threefry2x32",
        "rbg",
        lambda x: x + jax.random.key_data(jax.random.key(3)).size,
    ),
    "jax_enable_custom_prng": (
        False,
        True,
        lambda x: x + jnp.ndim(jax.random.PRNGKey(3)),
    ),
    "jax_default_matmul_precision": (
        None,
        "highest",
        lambda x: x + ("HIGHEST" in str(jax.make_jaxpr(jnp.dot)(x, x))),
    ),
    "jax_numpy_dtype_promotion": ("standard", "strict", lambda x: x + jnp.int8(1)),
    "jax_numpy_rank_promotion": ("allow", "raise", lambda x: x + jnp.ones((2, 3))),
    "jax_softmax_custom_jvp": (
        False,
        True,
        lambda x: x + str(jax.make_jaxpr(jax.nn.softmax)(x)).count("custom_jvp"),
    ),
    "jax_random_seed_offset": (0, 5, lambda x: x + jax.random.uniform(jax.random.key(0))),
    "jax_high_dynamic_range_gumbel": (
        False,
        True,
        lambda x: x + jax.random.gumbel(jax.random.key(0), (3,)),
    ),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_are_part_of_the_signature(flag):
    """Flipped between two calls of one kernel."""
    off, on, fn = FLAGS[flag]
    k, x = lanes.kernel(fn), jnp.asarray(X, "float32")
    before = jaxprs.flag(flag)
    found = []
    try:
        for value in (off, on, off):
            jax.config.update(flag, value)
            actual = outcome(jax.vmap(k), x)
            same(actual, outcome(jax.vmap(fn), x), 1e-6)
            found.append(str(actual))
    finally:
        jax.config.update(flag, before)
    assert found[0] == found[2] != found[1]


def test_a_numpy_array_from_outside_has_the_precision_of_the_call():
    table = np.array([0.1, 0.2, 0.3])
    fn = lambda x: (x * table, jnp.ones(9)[np.array([1, 2])])
    k = lanes.kernel(fn)
    for x64 in (False, True, False):
        with jax.enable_x64(x64):
            same(k(jnp.ones(3)), fn(jnp.ones(3)))


# --- values from outside ---


def test_a_traced_value_in_the_closure():
    def program(kernel):
        def of(p):
            return jax.vmap(kernel(lambda x: jnp.tanh(x * p) + 1))(jnp.asarray(X)).sum()

        return of

    p = PARAMETER
    for transform in (
        lambda f: f,
        jax.jit,
        jax.grad,
        jax.hessian,
        lambda f: jax.grad(jax.jit(f)),
        lambda f: jax.jit(jax.grad(jax.checkpoint(f))),
        lambda f: lambda p: jax.vmap(f)(jnp.stack([p, 2 * p])),
        lambda f: lambda p: jax.vmap(jax.grad(f))(jnp.stack([p, 2 * p])),
        lambda f: lambda p: lax.map(f, jnp.stack([p, 2 * p])),
        lambda f: lambda p: lax.scan(lambda c, _: (c * 0.5 * f(c), f(c)), p, length=3),
        lambda f: lambda p: jax.pmap(f)(jnp.stack([p, 2 * p])),
        lambda f: lambda p: jax.jvp(f, (p,), (p,)),
    ):
        with jax.enable_x64(True):
            same(transform(program(lanes.kernel))(p), transform(program(lambda f: f))(p))


def test_a_kernel_in_a_kernel_sees_its_values():
    def program(kernel):
        def outer(x, p):
            inner = kernel(lambda y: y * p + x[0])
            return inner(x) + jax.vmap(inner)(jnp.stack([x, 2 * x])).sum(0)

        return jax.vmap(kernel(outer), (0, None))

    with jax.enable_x64(True):
        same(program(lanes.kernel)(X, PARAMETER), program(lambda f: f)(X, PARAMETER))


def test_a_value_that_changes_between_traces():
    """As with jax.jit, what is read from outside is read when the function is traced; a value that
    JAX is tracing is never kept.
    """
    cell = [jnp.float32(2)]
    k = lanes.kernel(lambda x: x * cell[0])

    def through(p):
        cell[0] = p
        return k(jnp.float32(3))

    assert jax.grad(through)(5.0) == 3
    assert jax.jit(through)(7.0) == 21
    assert (jax.vmap(through)(jnp.arange(3.0)) == 3 * jnp.arange(3.0)).all()
    assert jax.grad(through)(6.0) == 3
    cell[0] = jnp.float32(4)
    assert k(jnp.float32(3)) == 12
    cell[0] = jnp.float32(5)
    assert k(jnp.float32(3)) == 12  # traced already


def test_a_jitted_function_that_a_kernel_calls_keeps_its_own_kernel():
    inner = lanes.kernel(lambda x: jnp.sin(x) * x[0])
    g = jax.jit(lambda x: inner(x) + 1)
    x = jnp.ones((4, 3))
    jax.vmap(lanes.kernel(lambda x: g(x) * 2))(x)
    assert jax.jit(jax.vmap(g)).lower(x).as_text().count("gpusim_lanes_") == 1


# --- debugging ---


def test_without_jit_the_function_itself_is_run():
    seen = []

    def fn(x):
        seen.append(isinstance(x, jax.core.Tracer))
        return x * 2

    with jax.disable_jit():
        same(lanes.kernel(fn)(X[0]), fn(X[0]))
        assert seen[0] is False
        x = jnp.asarray(X)
        same(jax.vmap(lanes.kernel(fn))(x), x * 2)
    jaxpr = jax.make_jaxpr(jax.vmap(lanes.kernel(fn)))(x)
    with jax.disable_jit():
        same(jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, x), [x * 2])


@pytest.mark.parametrize("transform", [jax.vmap, lambda f: jax.jit(jax.vmap(f))])
def test_a_nan_is_found(transform):
    with jax.debug_nans(True):
        k = transform(lanes.kernel(lambda x: jnp.log(x) + 1))
        same(k(jnp.ones(3)), jnp.ones(3))
        with pytest.raises(FloatingPointError, match="log"):
            k(-jnp.ones(3))
    assert jnp.isnan(k(-jnp.ones(3))).all()


def test_leaks_are_looked_for():
    with jax.checking_leaks():
        program = lambda p: jax.vmap(lanes.kernel(lambda x: x * p))(jnp.ones((4, 3))).sum()
        assert jax.grad(program)(2.0) == 12
        assert jax.jit(program)(2.0) == 24
        assert jax.vmap(lanes.kernel(jnp.sin))(jnp.zeros(3)).sum() == 0


def test_errors_of_the_function_are_its_own():
    def fn(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        lanes.kernel(fn)(1.0)
    with pytest.raises(jax.errors.TracerBoolConversionError, match="function <lambda> at"):
        lanes.kernel(lambda x: 1 if x > 0 else 2)(1.0)
    with pytest.raises(TypeError, match=r"returned a value of type <class 'str'>.*not a valid JAX"):
        lanes.kernel(lambda x: "text")(1.0)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        lanes.kernel(lambda x, y: x)(1.0)
    assert issubclass(lanes.LanesError, NotImplementedError)


# --- the programs that JAX makes ---


def test_shapes_and_programs():
    k, x = lanes.kernel(forward_and_reverse), jnp.asarray(X[0], "float32")
    args = x, x
    assert jax.eval_shape(k, *args) == jax.eval_shape(forward_and_reverse, *args)
    assert "lanes" in str(jax.make_jaxpr(k)(*args))
    same(jax.jit(k).lower(*args).compile()(*args), jax.jit(forward_and_reverse)(*args), 1e-6)
    converted, consts = jax.closure_convert(lambda x: k(x, x)["parameter"], x)
    same(converted(x, *consts), x * 2)


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda", "tpu")])
def test_export(platforms):
    """What is exported is run elsewhere: it is the function by JAX's own operations."""
    x = jnp.asarray(X, "float32")
    program = jax.jit(jax.vmap(lanes.kernel(small), (0, None)))
    exported = jax.export.export(program, platforms=platforms)(x, x[0])
    assert "gpusim_lanes_" not in exported.mlir_module()
    same(exported.call(x, x[0]), jax.vmap(small, (0, None))(x, x[0]), 1e-6)
    assert "gpusim_lanes_" in program.lower(x, x[0]).as_text()


def test_tracing_once():
    traced = []

    def fn(x):
        traced.append(1)
        return x + 1

    k = lanes.kernel(fn)
    for n in (3, 4, 3):
        jax.vmap(k)(jnp.zeros(n))
        jax.jit(jax.vmap(k))(jnp.zeros(n))
        jax.vmap(jax.grad(k))(jnp.zeros(n))
    assert len(traced) == 1


# --- arguments ---


def test_static_arguments():
    def fn(x, mode, *, power=1):
        assert isinstance(mode, str)
        assert isinstance(power, int)
        return {"sin": jnp.sin, "cos": jnp.cos}[mode](x) ** power

    x = jnp.asarray(X, "float32")
    k = lanes.kernel(fn, static_argnames=("mode", "power"))
    for call in (
        lambda f: jax.vmap(lambda x: f(x, "sin", power=2))(x),
        lambda f: jax.vmap(lambda x: f(x, "cos"))(x),
        lambda f: jax.vmap(lambda x: f(x, mode="cos", power=3))(x),
        lambda f: jax.grad(lambda x: f(x, mode="cos", power=3).sum())(x[0]),
        lambda f: jax.vmap(f, (0, None))(x, "cos"),
    ):
        same(call(k), call(fn), 1e-6)
    for nums in (1, (1,), -1):
        k = lanes.kernel(lambda x, mode: fn(x, mode), static_argnums=nums)
        same(k(x[0], "sin"), fn(x[0], "sin"), 1e-6)
        same(k(x[0], "cos"), fn(x[0], "cos"), 1e-6)
    by_name = lanes.kernel(lambda x, mode: fn(x, mode), static_argnums=1)
    same(by_name(x[0], mode="cos"), fn(x[0], "cos"), 1e-6)
    flags = lanes.kernel(lambda x, flag: x + 1 if flag is True else x, static_argnums=1)
    assert (flags(1.0, 1), flags(1.0, True), flags(1.0, 1)) == (1, 2, 1)
    with pytest.raises(ValueError, match=r"static argument 1 is a list, which has no hash"):
        by_name(x[0], ["cos"])
    with pytest.raises(ValueError, match="nonsense"):
        lanes.kernel(fn, static_argnames="nonsense")


class Walker:
    """An object with methods."""

    def __init__(self, factor):
        self.factor = factor
        self.bound = lanes.kernel(self.step)

    def step(self, x):
        return x * self.factor

    @lanes.kernel
    def decorated(self, x):
        return x * self.factor

    @functools.partial(lanes.kernel, static_argnums=0)
    def with_static_self(self, x):
        return x * self.factor


@dataclasses.dataclass  # whose instances have no hash
class Scale:
    factor: float

    def __call__(self, x):
        return x * self.factor


def test_kinds_of_functions():
    walker = Walker(2.0)
    assert walker.bound(3.0) == 6
    assert walker.with_static_self(3.0) == 6
    walker.factor = 3.0
    assert lanes.kernel(walker.step)(3.0) == 9  # a new kernel traces anew
    assert lanes.kernel(functools.partial(lambda a, x, b: a * x + b, 2.0, b=1.0))(3.0) == 7
    assert lanes.kernel(Scale(4.0))(3.0) == 12
    assert lanes.kernel(jnp.sin)(0.0) == 0
    assert lanes.kernel(jax.jit(lambda x: x + 1))(3.0) == 4
    assert lanes.kernel(lambda *args, **kwargs: sum(args) + kwargs["z"])(1.0, 2, z=3) == 6


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (lambda: lanes.kernel(small)("fast", 1.0), "argument x is a str"),
        (lambda: lanes.kernel(small)(1.0, p={"f": jnp.sin}), r"argument p\['f'\] is a "),
        (lambda: Walker(1.0).decorated(1.0), r"argument self is a Walker.*kernel\(self"),
        (lambda: lanes.kernel(small)(np.array(["a"]), 1.0), "argument x is a ndarray"),
    ],
)
def test_what_is_no_array_is_named(call, place):
    with pytest.raises(TypeError, match=place) as caught:
        call()
    assert "static_argnames" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_odd_arguments_and_results():
    def fn(tree, empty, none, flag):
        assert none is None
        return tree, {"a": (), "b": None}, empty, empty.sum() + 1, jnp.where(flag, tree["x"], 0)

    args = {"x": np.float32(2), "y": [None, {}, 3]}, np.zeros((0, 2)), None, True
    same(lanes.kernel(fn)(*args), jax.jit(fn)(*args))
    axes = ({"x": 0, "y": [None, {}, None]}, None, None, None)
    args[0]["x"] = jnp.arange(4.0)
    same(jax.vmap(lanes.kernel(fn), axes)(*args), jax.vmap(fn, axes)(*args))
    empty = lambda x, e: (x, jnp.concatenate([x, e[0]]), e, e.sum(1))
    args = jnp.asarray(X), jnp.zeros((3, 2, 0))
    same(jax.vmap(lanes.kernel(empty))(*args), jax.vmap(empty)(*args))
    same(lanes.kernel(lambda: (1.0, jnp.ones(2)))(), jax.jit(lambda: (1.0, jnp.ones(2)))())


# --- mapping ---


def pair(tree, p):
    """Results that differ along both arguments, along one, and along none."""
    inner = jax.jit(lambda t, p: (t["a"] + t["b"], p * 2))(tree, p)
    carried = lax.scan(lambda c, _: ((c[0] + tree["a"], c[1] * 0.5), c[1]), (p, p), length=2)
    return {"both": tree["a"] * p + tree["b"], "p": p * 2, "const": jnp.arange(2.0)}, inner, carried


AXES = [
    {"in_axes": (0, None)},
    {"in_axes": (None, 0)},
    {"in_axes": ({"a": 0, "b": None}, None)},
    {"in_axes": ({"a": -1, "b": 0}, None), "out_axes": -1},
    {"in_axes": (0, None), "out_axes": ({"both": 0, "p": None, "const": None}, (0, None), 0)},
    {"in_axes": (None, 0), "out_axes": ({"both": 0, "p": 0, "const": None}, (None, 0), 0)},
    {"in_axes": (0, None), "out_axes": ((0, (0, None), ((0, None), None)))},
    {"in_axes": (0, None), "out_axes": ((None, 0, 0))},  # refused: "both" differs
    {"in_axes": 0, "axis_size": 3},
    {"in_axes": 0, "axis_name": "worlds"},
    {"in_axes": 0, "spmd_axis_name": "worlds"},
]


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("worlds", [3, 0])
def test_axes(axes, worlds):
    tree = {"a": X[:worlds].reshape(worlds, 3), "b": X[:worlds, ::-1].reshape(worlds, 3)}
    if isinstance(axes["in_axes"], tuple) and isinstance(axes["in_axes"][0], dict):
        tree["a"] = tree["a"].T if axes["in_axes"][0]["a"] == -1 else tree["a"]
        tree["b"] = tree["b"] if axes["in_axes"][0]["b"] == 0 else PARAMETER
    if axes["in_axes"] == (None, 0):
        tree = {"a": PARAMETER, "b": PARAMETER}
    mapped_p = axes["in_axes"] in (0, (None, 0))
    p = X[:worlds] if mapped_p else PARAMETER
    axes = axes | ({"axis_size": worlds} if "axis_size" in axes else {})
    agree(lambda k: jax.vmap(k, **axes), pair, tree, p)


@pytest.mark.parametrize("axes", [*itertools.product([0, None], repeat=3)])
def test_three_maps(axes):
    """Of which each maps one argument or both."""
    rng = np.random.default_rng(0)
    fn = lambda x, p: (jnp.sin(x) * p, p.sum() + p, jnp.ones(2))
    x = rng.normal(size=(2, 3, 4, 3))
    p = rng.normal(size=[n for n, a in zip((2, 3, 4), axes, strict=True) if a is not None] + [3])

    def mapped(k):
        for axis in reversed(axes):
            k = jax.vmap(k, (0, None if axis is None else 0))
        return k

    agree(mapped, fn, x, p)
    agree(lambda k: jax.jit(jax.grad(lambda *a: mapped(k)(*a)[0].sum(), 1)), fn, x, p)


@pytest.mark.parametrize(
    ("what", "fn"),
    [
        ("psum", lambda x: lax.psum(x, "i")),
        ("axis_index", lambda x: x + lax.axis_index("i")),
        ("pmax", lambda x: jax.jit(lambda x: lax.pmax(x, "i"))(x)),
    ],
)
def test_other_worlds_are_out_of_reach(what, fn):
    for transform in (
        lambda k: jax.vmap(k, axis_name="i"),
        lambda k: jax.grad(lambda x: jax.vmap(k, axis_name="i")(x).sum()),
    ):
        with pytest.raises(lanes.LanesError, match=f"the mapped axis 'i' of '{what}'.*test_trans"):
            transform(lanes.kernel(fn))(jnp.ones(3))


def test_a_mapped_axis_of_its_own():
    fn = lambda x: jax.vmap(lambda y: y / lax.psum(y, "i"), axis_name="i")(x)
    agree(jax.vmap, fn, X)
    k = lanes.kernel(lambda x: x * lax.psum(1, "i"))  # the number of worlds, known when traced
    for n in (2, 3):
        same(jax.vmap(k, axis_name="i")(jnp.ones(n)), jnp.ones(n) * n)


def test_side_effects_are_refused_where_they_are():
    def chatty(x):
        jax.jit(lambda x: jax.debug.print("{}", x))(x)
        return x

    with pytest.raises(lanes.LanesError, match=r"side effect of 'debug.*test_transforms"):
        jax.make_jaxpr(lanes.kernel(chatty))(1.0)
    with pytest.raises(lanes.LanesError, match="debug"):
        lanes.kernel(lambda x: lanes.kernel(chatty)(x))(1.0)
    ref = jax.new_ref(jnp.ones(3))
    with pytest.raises(lanes.LanesError, match="side effect of 'get'"):
        lanes.kernel(lambda x: x * ref[...])(1.0)
    with pytest.raises(TypeError, match="argument r is a Ref"):
        lanes.kernel(lambda r, x: x * r[...])(ref, 1.0)


# --- random keys ---


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("typed", [True, False])
def test_keys(impl, typed):
    """Of every kind they pass through; random numbers are drawn from threefry's alone."""
    before = jaxprs.flag("jax_default_prng_impl")
    jax.config.update("jax_default_prng_impl", impl)
    try:
        keys = jax.random.split(jax.random.key(3) if typed else jax.random.PRNGKey(3), 2)
        key, x = keys[0], X[:2].astype("float32")
        programs = {
            "through": lambda k, x: (k, x + 1),
            "chosen": lambda k, x: jnp.where(x[0] > 0, k, key),
            "drawn": lambda k, x: x + jax.random.normal(k, (3,)),
            "closure": lambda k, x: x + jax.random.normal(key, (3,)),
            "made": lambda k, x: jax.random.bits(jax.random.key(x[0].astype(int))),
        }
        for name, fn in programs.items():
            k = jax.vmap(lanes.kernel(fn))
            if impl == "threefry2x32" or name == "through" or (name == "chosen" and not typed):
                same(k(keys, x), jax.vmap(fn)(keys, x), 1e-5)
            else:
                with pytest.raises(lanes.LanesError, match=f"kind '{impl}'.*threefry2x32"):
                    k(keys, x)
    finally:
        jax.config.update("jax_default_prng_impl", before)


# --- several devices ---


@pytest.fixture(params=["shardy", "gspmd"])
def partitioner(request):
    before = jaxprs.flag("jax_use_shardy_partitioner")
    jax.config.update("jax_use_shardy_partitioner", request.param == "shardy")
    yield
    jax.config.update("jax_use_shardy_partitioner", before)


def spread_over(*names, explicit=False):
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    return jax.make_mesh((2,), names, axis_types=(kind,))


def compiled(program, *args) -> str:
    """What XLA makes of it."""
    return str(program.lower(*args).compile().as_text())


def world(x, p, key):
    y = jnp.sin(x) * p + jax.random.uniform(key)
    y = jnp.where(y > 9, jnp.zeros_like(y), y)  # zeros that JAX puts onto the mesh of y
    return {"x": y, "sum": y.sum(), "p": p * 2}, jax.random.split(key)[0]


@pytest.mark.parametrize("worlds", [64, 6, 2])
def test_worlds_stay_on_their_devices(worlds, partitioner):
    """Nothing is gathered; what the worlds share is on every device."""
    place = NamedSharding(spread_over("d"), P("d"))
    x = jax.device_put(np.linspace(-1, 1, worlds * 3).reshape(worlds, 3).astype("float32"), place)
    keys = jax.device_put(jax.random.split(jax.random.key(0), worlds), place)
    p = jnp.asarray(PARAMETER, "float32")
    mapped = lambda f: jax.jit(jax.vmap(f, (0, None, 0)))
    actual, expected = mapped(lanes.kernel(world))(x, p, keys), mapped(world)(x, p, keys)
    same(actual, expected, 1e-6)
    same(jax.vmap(lanes.kernel(world), (0, None, 0))(x, p, keys), expected, 1e-6)  # not in jit
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.sharding.is_equivalent_to(e.sharding, a.ndim)
    text = compiled(mapped(lanes.kernel(world)), x, p, keys)
    assert text.count("gpusim_lanes_") >= 1
    assert "all-gather" not in text
    assert "all-reduce" not in text


def test_a_loop_over_spread_worlds_steps_in_place(partitioner):
    place = NamedSharding(spread_over("d"), P("d"))
    state = jax.device_put(jnp.ones((64, 3)), place)
    loop = lambda f: jax.jit(
        lambda s: lax.scan(lambda s, _: (jax.vmap(f)(s), None), s, length=4)[0]
    )
    fn = lambda s: jnp.sin(s) + s[0]
    same(loop(lanes.kernel(fn))(state), loop(fn)(state), 1e-5)
    text = compiled(loop(lanes.kernel(fn)), state)
    call = next(line for line in text.splitlines() if "gpusim_lanes_" in line)
    assert "f32[32,3]{0,1}" in call  # its own worlds, which are neighbours in memory
    assert "output_to_operand_aliasing" in call
    assert "all-gather" not in text


def test_worlds_that_devices_do_not_divide(partitioner):
    mesh = spread_over("d")

    def program(f):
        def of(x):
            y = lax.with_sharding_constraint(
                jnp.concatenate([x, x[:1]]), NamedSharding(mesh, P("d"))
            )
            return jax.vmap(f)(y)

        return jax.jit(of)

    x = jax.device_put(jnp.linspace(0, 1, 192).reshape(64, 3), NamedSharding(mesh, P("d")))
    fn = lambda x: jnp.sin(x) * x[0]
    same(program(lanes.kernel(fn))(x), program(fn)(x), 1e-6)


def test_other_places(partitioner):
    """Worlds on one axis of a mesh of two, other axes than the worlds', in_shardings."""
    mesh = jax.make_mesh((2, 1), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    fn = lambda x, p: (jnp.sin(x) * p, p + 1)
    mapped = lambda f: jax.vmap(f, (0, None))
    x, p = np.linspace(0, 1, 128).reshape(32, 4).astype("float32"), np.ones(4, "float32")
    expected = jax.jit(mapped(fn))(x, p)
    for spec in (P(("a", "b")), P(None, "a"), P("b", "a")):
        place = NamedSharding(mesh, spec), NamedSharding(mesh, P("a"))
        same(jax.jit(mapped(lanes.kernel(fn)), in_shardings=place)(x, p), expected, 1e-6)
    alone = jax.jit(lanes.kernel(lambda x: jnp.cumsum(x, 0)), in_shardings=place[0])
    same(alone(x), jnp.cumsum(x, 0), 1e-5)


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_under_shard_map(check_vma):
    """A parameter that devices share gets the sum of their gradients."""
    mesh = spread_over("d")

    def program(f):
        def total(x, p):
            return lax.psum(loss(f)(x, p), "d")

        specs = {"in_specs": (P("d"), P()), "out_specs": P(), "check_vma": check_vma}
        return jax.jit(jax.grad(jax.shard_map(total, mesh=mesh, **specs), (0, 1)))

    x = np.concatenate([X, X[:1]])
    agree(program, forward_and_reverse, x, PARAMETER)


@pytest.mark.parametrize("spec", [P("d"), P(None, "d")])
def test_nested_worlds_stay_on_their_devices(spec, partitioner):
    mesh = spread_over("d")
    x = jax.device_put(np.linspace(-1, 1, 96).reshape(4, 8, 3), NamedSharding(mesh, spec))
    program = lambda f: jax.jit(jax.vmap(jax.vmap(f, (0, None)), (0, None)))
    fn = lambda x, p: (jnp.sin(x) * p, x.sum())
    p = jnp.asarray(PARAMETER, "float32")
    actual, expected = program(lanes.kernel(fn))(x, p), program(fn)(x, p)
    same(actual, expected, 1e-5)
    for a, e in zip(actual, expected, strict=True):
        assert a.sharding.is_equivalent_to(e.sharding, a.ndim)
    text = compiled(program(lanes.kernel(fn)), x, p)
    assert "all-gather" not in text
    assert text.count('custom_call_target="gpusim_lanes_') == 1


@pytest.mark.parametrize("spec", [P("d"), P(None, "d"), P()])
def test_explicit_axes(spec):
    """The types say where the results are."""
    mesh = spread_over("d", explicit=True)
    x = np.linspace(0, 1, 96).reshape(4, 8, 3).astype("float32")
    fn = lambda x, p: (jnp.sin(x) * p, x.sum())
    with jax.set_mesh(mesh):
        given = jax.device_put(x, NamedSharding(mesh, spec)), jnp.ones(3)
        program = lambda f: jax.jit(jax.vmap(jax.vmap(f, (0, None)), (0, None)))
        actual, expected = program(lanes.kernel(fn))(*given), program(fn)(*given)
        same(actual, expected, 1e-6)
        assert jax.tree.map(jax.typeof, actual) == jax.tree.map(jax.typeof, expected)
        text = compiled(program(lanes.kernel(fn)), *given)
        assert "all-gather" not in text


def test_one_device_is_not_told_of_partitions():
    text = jax.jit(jax.vmap(lanes.kernel(small), (0, None))).lower(X, PARAMETER).as_text()
    assert "CustomSPMDPartitioning" not in text


# --- Brax ---


def test_only_brax_environments_are_vectorized():
    for env in (object(), small, "ant"):
        with pytest.raises(TypeError, match=r"Brax environment.*lanes\.kernel"):
            lanes.vectorize(env)


def test_another_system_in_the_place_of_a_brax_environments_own():
    """Its numbers and what is not a number of it, as of Brax's domain randomisation."""
    from brax.envs.base import Env, State
    from flax import struct

    @struct.dataclass
    class System:
        gain: jax.Array
        power: int = struct.field(pytree_node=False)

    class Toy(Env):
        sys = System(gain=jnp.float32(2), power=1)
        observation_size = action_size = property(lambda self: 3)
        backend = property(lambda self: "toy")

        def reset(self, rng):
            zero = jnp.float32(0)
            return State(None, self.sys.gain * jax.random.uniform(rng, (3,)), zero, zero)

        def step(self, state: Any, action):
            obs = state.obs + self.sys.gain * action**self.sys.power
            return dataclasses.replace(state, obs=obs)

    keys, actions = jax.random.split(jax.random.key(0), 3), jnp.asarray(X, "float32")

    def step(env, sys):
        env.unwrapped.sys = sys
        return env.step(env.reset(keys[0]), actions[0])

    toy, env = Toy(), lanes.vectorize(Toy())
    three = jnp.float32(3)
    for system in (toy.sys, System(gain=three, power=1), System(gain=three, power=2), toy.sys):
        same(step(env, system).obs, step(toy, system).obs, 1e-6)
    several = lambda env: lambda gain: step(env, System(gain=gain, power=2))
    mapped = lambda env: jax.vmap(several(env))(jnp.arange(3.0))
    same(mapped(env).obs, mapped(Toy()).obs, 1e-6)


# -- checkify --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "errors", "x", "says"),
    [
        (
            jnp.log,
            checkify.nan_checks,
            np.array([-1, 1], np.float32),
            "nan generated by primitive: log",
        ),
        (lambda x: jnp.arange(4.0)[x], checkify.index_checks, np.array([1, 99]), "index 99 is out"),
        (jnp.exp, checkify.all_checks, np.array([-1, 1], np.float32), None),
    ],
)
def test_checkify_sees_into_a_kernel(fn, errors, x, says):
    for mapped in (jax.vmap(lanes.kernel(fn)), jax.jit(jax.vmap(lanes.kernel(fn)))):
        error, out = checkify.checkify(mapped, errors=errors)(x)
        assert (error.get() is None) == (says is None)
        assert says is None or says in error.get()
        np.testing.assert_allclose(out, jax.vmap(fn)(x), rtol=1e-6)


# -- weak types ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "x"),
    [
        (lambda i: lax.switch(i, [lambda: 0, lambda: 1, lambda: i]), np.arange(4)),
        (lambda b: lax.cond(b, lambda: jnp.float32(1), lambda: 0.0), np.arange(4) > 1),
        (lambda b: lax.cond(b, lambda: 0.0, lambda: jnp.float32(1)), np.arange(4) > 1),
    ],
)
def test_a_branch_that_becomes_a_choice_is_as_weak_as_jax_makes_it(fn, x):
    for wrap in (jax.vmap, lambda f: jax.jit(jax.vmap(f)), lambda f: f):
        arg = x[0] if wrap(fn) is fn else x
        ours, theirs = wrap(lanes.kernel(fn))(arg), wrap(fn)(arg)
        assert (ours.weak_type, ours.dtype) == (theirs.weak_type, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs)
