"""The JAX primitive behind a kernel: a function of one world mapped over axes of worlds.

Its parameters are `function`, a LaneFunction, and `batched`: for each argument, which of the world
axes it has, outermost first. They stand in front, and results have all of them. Mapping adds an
axis; only the lowering rule makes one of them all and asks for machine code, so that a kernel is
compiled when XLA needs it, for the mapping that is really used. Derivatives are those of the same
program by JAX's own primitives.
"""

import functools
import math

import jax
import jax.core
import jax.numpy as jnp
from jax.extend import core as jex
from jax.interpreters import ad, batching, mlir

from gpusim.lanes import jaxprs, sharding

lanes_p = jex.Primitive("lanes")
lanes_p.multiple_results = True


def lanes_of(batched) -> tuple[bool, ...]:
    """Which arguments have lanes; of one world all: it is a lane of which there is one."""
    return tuple(any(marks) or not marks for marks in batched)


def _sizes(leaves, batched) -> tuple[int, ...]:
    """How many worlds there are along each axis."""
    axes = range(len(batched[0]))
    marked = list(zip(leaves, batched, strict=True))
    return tuple(next(x.shape[sum(m[:j])] for x, m in marked if m[j]) for j in axes)


@lanes_p.def_abstract_eval
def _shapes(*leaves, function, batched):
    avals = function.out_avals
    if batched[0] and any(y.weak_type for y in avals):  # a branch becomes a select, which is strong
        program = functools.partial(through_xla, function=function, batched=batched)
        mapped = jax.eval_shape(program, *map(jaxprs.shape_of, leaves))
        weak = [y.weak_type for y in mapped]
        avals = [y.update(weak_type=w) for y, w in zip(avals, weak, strict=True)]
    for j, size in reversed(list(enumerate(_sizes(leaves, batched)))):
        places = [x.sharding.spec[sum(m[:j])] for x, m in zip(leaves, batched, strict=True) if m[j]]
        avals = [jaxprs.world_aval(y, size, places) for y in avals]
    return avals


@functools.lru_cache(maxsize=64)  # bounded: JAX keeps the compiled program as long as this does
def _jitted(function, batched):
    def program(*leaves):
        if any(isinstance(x, jax.core.Tracer) for x in leaves):
            return lanes_p.bind(*leaves, function=function, batched=batched)
        # with jax_debug_nans, JAX looks for the operation that made a NaN
        return through_xla(*leaves, function=function, batched=batched)

    return jax.jit(program)


@lanes_p.def_impl
def _run_eagerly(*leaves, function, batched):
    return _jitted(function, batched)(*leaves)


def through_xla(*leaves, function, batched):
    """The same by JAX's own primitives."""
    program = functools.partial(jax.core.eval_jaxpr, function.jaxpr, function.consts)
    for marks in reversed(list(zip(*batched, strict=True))):
        program = jax.vmap(program, in_axes=[0 if mark else None for mark in marks])
    return program(*leaves)


def _batch(leaves, dims, *, function, batched):
    """The new axis is the outermost. A result that does not differ along it does not get it."""
    differs = jaxprs.depends(function.jaxpr, [d is not None for d in dims])
    results: list = [None] * len(differs)
    for along in {*differs}:
        numbers = tuple(k for k, d in enumerate(differs) if d == along)
        part, reads = function.part(numbers)
        marks = [(*((dims[k] is not None,) if along else ()), *batched[k]) for k in reads]
        front = [
            leaves[k] if dims[k] is None else jnp.moveaxis(leaves[k], dims[k], 0) for k in reads
        ]
        found = lanes_p.bind(*front, function=part, batched=tuple(marks))
        for k, y in zip(numbers, found, strict=True):
            results[k] = y
    return results, [0 if d else None for d in differs]


batching.primitive_batchers[lanes_p] = _batch


# --- derivatives ---


def _jvp(primals, tangents, **params):
    return jaxprs.jvp(functools.partial(through_xla, **params), primals, tangents)


def _transpose(cotangents, *leaves, **params):
    unknown = [k for k, x in enumerate(leaves) if ad.is_undefined_primal(x)]

    def linear(*given):
        every = dict(enumerate(leaves)) | dict(zip(unknown, given, strict=True))
        return through_xla(*every.values(), **params)

    shapes = [jax.ShapeDtypeStruct(leaves[k].aval.shape, leaves[k].aval.dtype) for k in unknown]
    given = jax.linear_transpose(linear, *shapes)([ad.instantiate_zeros(ct) for ct in cotangents])
    found = dict(zip(unknown, given, strict=True))
    return [found.get(k) for k in range(len(leaves))]


ad.primitive_jvps[lanes_p] = _jvp
ad.primitive_transposes[lanes_p] = _transpose


# --- checks ---


def _check(*given, **params):
    """`checkify` looks into the program: what it runs is XLA's."""
    return jaxprs.checked(functools.partial(through_xla, **params), given)


jaxprs.ERROR_CHECKS[lanes_p] = _check

# --- machine code ---


def _lower(ctx, *operands, function, batched, platform):
    exported = ctx.module_context.lowering_parameters.for_export  # and run elsewhere
    if exported or function.target(lanes_of(batched), platform) is None:
        program = through_xla
    else:
        spread = jaxprs.is_spread(ctx)
        program = functools.partial(_compiled, platform=platform, spread=spread)
    program = functools.partial(program, function=function, batched=batched)
    return mlir.lower_fun(program, multiple_results=True)(ctx, *operands)


def _compiled(*leaves, function, batched, platform, spread=False):
    """The results by a kernel; `spread`: each device computes the worlds it has."""
    words = [jax.random.key_data(x) if jaxprs.is_key(x.dtype) else x for x in leaves]
    if batched[0]:
        call = functools.partial(_merged, function=function, batched=batched, platform=platform)
        results = sharding.spread(call, batched, words) if spread else call(*words)
    else:  # one world is a group of lanes of which one is of interest
        every = lanes_of(batched)
        one = [x[None] for x in words]
        results = [y[0] for y in _call(*one, function=function, lanes=every, platform=platform)]
    return [
        jax.random.wrap_key_data(y, impl=jaxprs.key_impl(r.dtype)) if jaxprs.is_key(r.dtype) else y
        for y, r in zip(results, function.out_avals, strict=True)
    ]


def _merged(*words, function, batched, platform):
    """The call with one axis of worlds in the place of all."""
    sizes = _sizes(words, batched)
    if len(sizes) > 1:

        def merge(x, marks, spec):
            if not any(marks):
                return x
            here = [size if mark else 1 for size, mark in zip(sizes, marks, strict=True)]
            x = jnp.broadcast_to(x.reshape(*here, *spec.shape), (*sizes, *spec.shape))
            return x.reshape(math.prod(sizes), *spec.shape)

        words = map(merge, words, batched, function.specs)
    out = _call(*words, function=function, lanes=lanes_of(batched), platform=platform)
    return [y.reshape(*sizes, *y.shape[1:]) for y in out] if len(sizes) > 1 else out


def _call(*words, function, lanes, platform):
    """The call of the kernel in which the arguments marked in `lanes` have an axis of worlds."""
    worlds = next(x.shape[0] for x, lane in zip(words, lanes, strict=True) if lane)
    if worlds == 0:
        return [jnp.zeros((0, *r.shape), r.dtype) for r in function.results]
    target, width = function.target(lanes, platform)
    if worlds < width:
        fill = lambda x: jnp.concatenate([x, jnp.repeat(x[:1], width - worlds, axis=0)])
        words = [fill(x) if lane else x for x, lane in zip(words, lanes, strict=True)]
    rows = max(worlds, width)
    out = jax.ffi.ffi_call(
        target,
        [jax.ShapeDtypeStruct((rows, *r.shape), r.dtype) for r in function.results],
        input_layouts=[
            function.layout(s, platform) if lane else None
            for s, lane in zip(function.specs, lanes, strict=True)
        ],
        output_layouts=[function.layout(r, platform) for r in function.results],
        # the last group overlaps its neighbour unless the width divides the worlds
        input_output_aliases=function.in_place(lanes) if worlds % width == 0 else None,
    )(*words)
    return [y[:worlds] for y in out] if worlds < width else list(out)


mlir.register_lowering(lanes_p, mlir.lower_fun(through_xla, multiple_results=True))
for _platform in ("cpu", "cuda"):
    mlir.register_lowering(lanes_p, functools.partial(_lower, platform=_platform), _platform)
jaxprs.needs_devices(lanes_p)
