"""`lanes.kernel`: a function of one world that runs as one SIMD kernel over all the worlds it is
mapped over.

Here is the border between the user's function and its kernel: what stands for its arguments, when
it is traced, and which of its results need a kernel at all.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from gpusim.lanes import jaxprs
from gpusim.lanes.budget import checked
from gpusim.lanes.function import LaneFunction
from gpusim.lanes.primitive import lanes_p
from gpusim.lanes.scalarize import LanesError


def kernel(
    fn: Callable,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    budget: float | None = None,
) -> Callable:
    """Compiles a function of one world, so that mapping it over worlds runs one SIMD kernel.

    `fn` takes and returns pytrees of small arrays of static shape and is pure. The result has the
    same signature, and gives the same values, dtypes and weak types. Alone it computes one world;
    under `jax.vmap`, nested too, all lanes are one kernel, on all cores; it works inside jit, scan,
    grad, pmap, shard_map and the like. With `GPUSIM_LANES=xla` and under `jax.disable_jit` it is
    `fn` itself. Derivatives, and platforms without a lane target, go through XLA.

    `static_argnums` and `static_argnames` mean what they mean to `jax.jit`: arguments that are no
    arrays but hashable values, for each of which the function is traced anew.

    A program that would take more than `budget` seconds to compile (default: GPUSIM_LANES_BUDGET,
    else 30) runs through XLA instead, and a LanesWarning says so.

    Like `jax.jit`, it traces `fn` once for arguments of the same tree, shapes, dtypes and weak
    types (and under the same flags of JAX), so what `fn` reads from outside is read then. Arrays
    that it closes over become constants of the kernel; values that JAX is tracing become arguments,
    gradients flow through them, and that trace is not used again.

    Values: floating-point results agree with XLA to a few roundings; x*0 and 0/x count as 0 for any
    x and the sign of zero is not kept; denormal numbers count as zero.

    Raises LanesError, at the first call with arguments of new shapes, for a side effect, a
    primitive or a dtype that cannot be compiled, and TypeError for an argument that is no array.
    """
    if not callable(fn):
        raise TypeError(f"lanes.kernel takes a function of one world, not a {type(fn).__name__}")
    if budget is not None:
        checked(budget)
    nums, names = jaxprs.static_arguments(fn, static_argnums, static_argnames)
    traces: dict[Any, Trace] = {}

    @functools.wraps(fn)
    def run(*args, **kwargs):
        if mode() == "xla" or jaxprs.flag("jax_disable_jit"):
            return fn(*args, **kwargs)
        static = _static(fn, nums, names, args, kwargs)
        arrays = {k: x for k, x in enumerate(args) if k not in static}
        named = {k: x for k, x in kwargs.items() if k not in static}
        leaves, tree = jax.tree.flatten((arrays, named))
        try:
            leaves = [_array(x) for x in leaves]
        except (TypeError, ValueError):
            raise TypeError(_no_array(fn, arrays, named)) from None
        key = (
            tree,
            tuple((k, type(x), x) for k, x in static.items()),
            tuple(jax.typeof(x) for x in leaves),
            jaxprs.trace_context(),
        )
        trace = traces.get(key)
        if trace is None:
            bound = functools.partial(fn, **{k: x for k, x in static.items() if k in names})
            numbers = tuple(k for k in static if isinstance(k, int))
            trace = Trace(bound, args, named, numbers, budget)
            if not trace.given:
                traces[key] = trace
        return trace(leaves)

    return run


def mode() -> str:
    """`auto` (a SIMD kernel where the platform has one) or `xla`, from GPUSIM_LANES."""
    chosen = os.environ.get("GPUSIM_LANES", "auto")
    if chosen not in ("auto", "xla"):
        raise ValueError(
            f"GPUSIM_LANES={chosen!r}: use 'auto' (SIMD kernels) or 'xla' (no kernels)"
        )
    return chosen


class Trace:
    """A function of one world, traced for arguments of one kind.

    It knows which results simply are an argument; which depend on none, or have no elements, and
    are left to JAX; and the kernel that computes the others.
    """

    def __init__(
        self,
        fn: Callable,
        args,
        kwargs=None,
        static_argnums: tuple[int, ...] = (),
        budget: float | None = None,
    ):
        jaxpr, consts, self.out_tree = jaxprs.trace_call(fn, args, kwargs or {}, static_argnums)
        self.given = [c for c in consts if isinstance(c, jax.core.Tracer)]
        if self.given or any(jaxprs.is_nothing(v.aval) for v in jaxpr.invars):
            jaxpr, consts = _rearranged(jaxpr, consts, self.given)
        _refuse_side_effects(fn, jaxpr)
        self.passed = jaxprs.passed(jaxpr)
        moves = jaxprs.depends(jaxpr, [True] * len(jaxpr.invars))
        made = [k for k, same in enumerate(self.passed) if same is None]
        computed = [k for k in made if moves[k] and not jaxprs.is_nothing(jaxpr.outvars[k].aval)]
        self.rest = [k for k in made if k not in computed]
        self.rest_jaxpr, self.rest_consts, self.rest_reads = jaxprs.restrict(
            jaxpr, consts, self.rest
        )
        smaller, consts, reads = jaxprs.restrict(jaxpr, consts, computed)
        self.function = LaneFunction(_name(fn), smaller, consts, reads, computed, budget)

    def __call__(self, leaves):
        args = [*self.given, *leaves]
        results = [None if k is None else args[k] for k in self.passed]
        f = self.function
        if f.results:
            reads = [args[k] for k in f.arg_numbers]
            computed = lanes_p.bind(*reads, function=f, batched=((),) * len(reads))
            for k, y in zip(f.result_numbers, computed, strict=True):
                results[k] = y
        reads = [args[k] for k in self.rest_reads]
        rest = jax.core.eval_jaxpr(self.rest_jaxpr, self.rest_consts, *reads)
        for k, y in zip(self.rest, rest, strict=True):
            results[k] = _array(y)
        return jax.tree.unflatten(self.out_tree, results)


def _rearranged(jaxpr, consts, given):
    """The program with those constants that JAX is tracing as its first arguments, and without
    reading arguments that have no elements, for which XLA has no memory to show to a kernel.
    """

    def program(given, *args):
        values = iter(given)
        every = [next(values) if isinstance(c, jax.core.Tracer) else c for c in consts]
        args = [jaxprs.nothing(x.aval) if jaxprs.is_nothing(x) else x for x in args]
        return jax.core.eval_jaxpr(jaxpr, every, *args)

    jaxpr, consts, _ = jaxprs.trace(program, given, *(v.aval for v in jaxpr.invars))
    return jaxpr, consts


def _array(x):
    """The argument, or result, as JAX takes it: Python's numbers stay weakly typed."""
    if isinstance(x, jax.core.Tracer) or getattr(x, "dtype", None) == jax.dtypes.float0:
        return x
    return jnp.asarray(x)


def _static(fn, nums, names, args, kwargs) -> dict[int | str, Any]:
    """The static arguments of a call, by position or name."""
    static: dict[int | str, Any] = {}
    static |= {k % len(args): args[k] for k in nums if -len(args) <= k < len(args)}
    static |= {k: kwargs[k] for k in names if k in kwargs}
    for k, x in static.items():
        try:
            hash(x)
        except TypeError:
            raise ValueError(
                f"lanes.kernel({_name(fn)}): static argument {k!r} is a {type(x).__name__}, which "
                "has no hash; pass a value that has one, such as a tuple for a list"
            ) from None
    return static


def _name(fn) -> str:
    """What to call the user's function in messages."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", type(fn).__qualname__)


def _no_array(fn, args: dict[int, Any], kwargs: dict[str, Any]) -> str:
    """What to say of a call one of whose arguments is no array."""
    try:
        parameters = dict(enumerate(inspect.signature(fn).parameters))
    except ValueError:  # of a function not written in Python
        parameters = {}
    for path, x in jax.tree.leaves_with_path((args, kwargs)):
        try:
            _array(x)
        except (TypeError, ValueError):
            place = f"{parameters.get(path[1].key, path[1].key)}{jax.tree_util.keystr(path[2:])}"
            return (
                f"lanes.kernel({_name(fn)}): argument {place} is a {type(x).__name__}, neither a "
                "number nor an array: name it in static_argnames, bind it with functools.partial, "
                "or, where it is the object of a method, compile the bound method, kernel(self.fn)"
            )
    raise AssertionError("every argument is an array")


def _refuse_side_effects(fn, jaxpr) -> None:
    eqn = jaxprs.side_effect(jaxpr)
    if eqn is None:
        return
    axes = jaxprs.mapped_axes(eqn)
    what = f"the mapped axis {axes[0]!r} of" if axes else "the side effect of"
    raise LanesError(
        f"lanes.kernel({_name(fn)}): {what} '{eqn.primitive.name}' is out of a kernel's reach, at "
        f"{jaxprs.user_line(eqn)}; move it out of the kernel, or set GPUSIM_LANES=xla to run the "
        "function through XLA"
    )
