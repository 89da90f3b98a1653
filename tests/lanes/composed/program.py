"""A program as data, and what it means.

A program is a dict of plain values (`repr` is its Python source):

    float    "float32" or "float64": what rounded numbers are computed in
    x64      whether JAX has 64-bit types
    seed     of the arguments' numbers
    worlds   () for one world, (17,) mapped once, (3, 5) mapped twice, the outer axis first
    limits   {name: value} of the compiler's limits, see LIMITS
    inside   names of TRANSFORMS between the function and the kernel, innermost first
    outside  the same around the mapped kernel; ("scan", trips, ((argument, result), ...)) too
    closed   names of arguments that the kernel finds where it is made instead of being given them
    args     [(name, dtype, shape, numbers, axes)]: `numbers` is a key of DRAW, `axes` has for each
             of the worlds' axes where it stands in the argument (0 or -1), or None if it is shared
    body     statements
    results  names

A statement is (targets, template, operands, blocks): `targets = template.format(*operands)`. A
block is a function that the template reads as {f0}, {f1}...: (params, statements, results).
Targets, operands, params and results are names, or lists of them, which stand for tuples.
"""

import contextlib
import sys
import zlib
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gpusim import lanes

# Limits of the compiler that decide which way a program takes. Small values lead small programs
# where otherwise only large ones go.
LIMITS = (
    *("UNROLL", "SELECT"),  # operations of a loop that is unrolled, of a branch that is computed
    *("ROLL", "ROLL_VECTOR", "TILE"),  # products of matrices and vectors as loops over tiles
    *("LEAST", "LARGE", "TILED"),  # what a loop carries in memory
    *("SEARCHED", "SELECT_CHAIN", "COMPARED", "CHOSEN"),  # places that are tried one by one
    *("WRITTEN_OUT", "DISTANT", "NEAR"),  # how arrays are copied, and how soon read again
    *("CHAINS", "INTERLEAVED_NODES"),  # partial sums; nodes of small kernels
    "BY_WORLD",  # numbers of arrays in which those of a world are neighbours
)


@contextlib.contextmanager
def limits(values: dict[str, int]) -> Iterator[None]:
    """The compiler with other limits, wherever in it they are."""
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            having = [
                module
                for key, module in list(sys.modules.items())
                if key.startswith("gpusim.lanes") and isinstance(vars(module).get(name), int)
            ]
            if not having:
                raise AttributeError(
                    f"gpusim.lanes has no number {name}: mend LIMITS in {__name__}"
                )
            for module in having:
                stack.enter_context(mock.patch.object(module, name, value))
        yield


# -- source ----------------------------------------------------------------------------------------


def source(program: dict) -> str:
    """The program's function of one world as Python."""
    names = [arg[0] for arg in program["args"]]
    return "\n".join(_function("fn", "f", names, program["body"], program["results"]))


def _function(name, prefix, params, statements, results) -> list[str]:
    names = [p if isinstance(p, str) else f"{name}_{k}" for k, p in enumerate(params)]
    lines = [f"def {name}({', '.join(names)}):"]
    pairs = zip(names, params, strict=True)
    lines += [f"    {text(p)} = {n}" for n, p in pairs if p and p != n]
    for k, (targets, template, operands, blocks) in enumerate(statements):
        functions = {}
        for j, block in enumerate(blocks):
            own = functions[f"f{j}"] = f"{prefix}{k}_{j}"
            inner = _function(own, f"{own}_", *block)
            lines += [f"    {line}" for line in inner]
        value = template.format(*map(text, operands), **functions)
        lines.append(f"    {text(targets)} = {value}")
    return [*lines, f"    return {text(results)}"]


def text(names) -> str:
    """A name, or a tuple of names, as Python."""
    if isinstance(names, str):
        return names
    return "(" + "".join(f"{text(n)}, " for n in names).removesuffix(" ") + ")"


def with_jvp(f: Callable) -> Callable:
    """f with a derivative of its own, which is its derivative."""
    g = jax.custom_jvp(f)
    g.defjvp(lambda primals, tangents: jax.jvp(f, primals, tangents))
    return g


def with_vjp(f: Callable) -> Callable:
    """The same for reverse mode only."""
    g = jax.custom_vjp(f)
    g.defvjp(lambda *args: jax.vjp(f, *args), lambda pull, cotangent: pull(cotangent))
    return g


class Lax:
    """jax.lax, whose loops count with arrays also where Python runs them (`jax.disable_jit`)."""

    def __getattr__(self, name: str):
        return getattr(lax, name)

    def fori_loop(self, low, high, body, init):
        count = lambda k: jnp.asarray(k) if isinstance(k, int) else k
        return lax.fori_loop(low, high, lambda k, carry: body(count(k), carry), init)


def function(program: dict, kernel: Callable, **more) -> Callable:
    """The program's function; `kernel` is what compiles the kernels within it."""
    names = {"jax": jax, "jnp": jnp, "lax": Lax(), "np": np, "kernel": kernel}
    names |= {"with_jvp": with_jvp, "with_vjp": with_vjp} | more
    exec(source(program), names)
    return names["fn"]


# -- arguments -------------------------------------------------------------------------------------


def _any_integer(rng, shape, dtype):
    """The whole range, its ends, and numbers near zero."""
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.max, info.min + 1, info.max - 1, info.max // 2], dtype)
    wild = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    near = rng.integers(max(info.min, -20), 20, shape).astype(dtype)
    which = rng.integers(0, 4, shape)
    return np.choose(which, [near, near, wild, ends[rng.integers(0, len(ends), shape)]])


def _special(rng, shape, dtype):
    plain = rng.integers(-32, 33, shape) / 8 + 0.0
    return np.where(
        rng.random(shape) < 0.4, rng.choice([np.nan, np.inf, -np.inf], size=shape), plain
    )


DRAW: dict[str, Callable] = {  # (generator, shape, dtype) -> numbers
    "rounded": lambda rng, shape, _: rng.uniform(-2, 2, shape),
    "grid": lambda rng, shape, _: rng.integers(-32, 33, shape) / 8 + 0.0,  # no -0
    "special": _special,
    "large": lambda rng, shape, _: (
        rng.integers(1, 1 << 20, shape) * 2.0 ** rng.integers(0, 30, shape)
    ),
    "any": _any_integer,
    "small": lambda rng, shape, dtype: rng.integers(
        0 if np.issubdtype(dtype, np.unsignedinteger) else -3, 13, shape
    ),
    "bool": lambda rng, shape, _: rng.random(shape) < 0.5,
}
PYTHON = {"float32": 0.75, "float64": 0.75, "int32": 3, "int64": 3, "bool": True}


def arguments(program: dict) -> list:
    """The arguments, with the worlds' axes; the same for the same program."""
    return [_argument(program, *arg) for arg in program["args"]]


def _argument(program, name, dtype, shape, numbers, axes):
    rng = np.random.default_rng([program["seed"], zlib.crc32(name.encode())])
    if numbers == "python":
        return PYTHON[dtype]
    front = [n for n, at in zip(program["worlds"], axes, strict=True) if at is not None]
    if numbers == "key":
        words = rng.integers(0, 1 << 32, (*front, *shape, 2), np.uint32)
        return jax.random.wrap_key_data(jax.device_put(words))
    x = DRAW[numbers](rng, (*front, *shape), np.dtype(dtype)).astype(dtype)
    used = [at for at in axes if at is not None]
    for level in reversed(range(len(used))):  # the outer map takes its axis first
        x = np.moveaxis(x, level, level if used[level] == 0 else -1)
    return jax.device_put(x)


# -- what stands around ----------------------------------------------------------------------------


def _differentiable(args) -> list[int]:
    return [k for k, x in enumerate(args) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]


def _weights(x, start=0.0):
    return jnp.cos(start + jnp.arange(np.size(x))).reshape(np.shape(x)).astype(jnp.result_type(x))


def _loss(results):
    """One number of all that can be differentiated."""
    floats = [y for y in jax.tree.leaves(results) if jnp.issubdtype(y.dtype, jnp.floating)]
    return sum((_weights(y) * jnp.sin(y)).sum() for y in floats)


def _of_floats(fn, args):
    """fn as a function of the arguments that can be differentiated, and those."""
    places = _differentiable(args)

    def partial(*floats):
        given = dict(zip(places, floats, strict=True))
        return fn(*(given.get(k, x) for k, x in enumerate(args)))

    return partial, [args[k] for k in places]


def _grad(fn):
    def gradients(*args):
        partial, floats = _of_floats(fn, args)
        return jax.grad(lambda *xs: _loss(partial(*xs)), tuple(range(len(floats))))(*floats)

    return gradients


def _jvp(fn):
    def derivative(*args):
        partial, floats = _of_floats(fn, args)
        only = lambda *xs: [
            y for y in jax.tree.leaves(partial(*xs)) if jnp.issubdtype(y.dtype, jnp.floating)
        ]
        return jax.jvp(only, floats, [_weights(x, 1.0) for x in floats])

    return derivative


TRANSFORMS: dict[str, Callable] = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "grad": _grad,
    "jvp": _jvp,
}


def _scanned(fn, trips: int, carried: tuple[tuple[int, int], ...]):
    """Arguments become results of the last call: a state is stepped."""

    def run(*args):
        def step(state, _):
            given = dict(zip((a for a, _ in carried), state, strict=True))
            results = fn(*(given.get(k, x) for k, x in enumerate(args)))
            rest = [y for k, y in enumerate(results) if k not in {r for _, r in carried}]
            return [results[r] for _, r in carried], rest

        return lax.scan(step, [args[a] for a, _ in carried], None, trips)

    return run


def build(program: dict, kernel: Callable = lanes.kernel) -> Callable:
    """The whole program, with `kernel` for the kernels; `lambda f: f` is what JAX makes of it."""
    whole, names = function(program, kernel), [arg[0] for arg in program["args"]]
    own = [arg for arg in program["args"] if arg[0] not in program["closed"]]

    def mapped(*args):
        given = dict(zip(names, args, strict=True))

        def fn(*arguments):
            read = given | dict(zip([arg[0] for arg in own], arguments, strict=True))
            return whole(*(read[name] for name in names))

        for name in program["inside"]:
            fn = TRANSFORMS[name](fn)
        fn = kernel(fn)
        for level in reversed(range(len(program["worlds"]))):
            fn = jax.vmap(fn, in_axes=tuple(arg[4][level] for arg in own))
        return fn(*(given[arg[0]] for arg in own))

    for name in program["outside"]:
        scan = isinstance(name, tuple)
        mapped = _scanned(mapped, *name[1:]) if scan else TRANSFORMS[name](mapped)
    return mapped
