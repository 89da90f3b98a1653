"""The JAX primitive behind a kernel: a function of one world mapped over one axis of worlds.

Its parameters are `function`, a LaneFunction, and `batched`: which arguments have the world axis in
front. Results have it if any argument has. Mapping adds the axis or widens it; only the lowering
rule asks for machine code, so that a kernel is compiled when XLA needs it, for the mapping that is
really used. Derivatives are those of the same program by JAX's own primitives.
"""

import functools

import jax
import jax.numpy as jnp
from jax.extend import core as jex
from jax.interpreters import ad, batching, mlir

from gpusim.lanes import jaxprs, sharding

lanes_p = jex.Primitive("lanes")
lanes_p.multiple_results = True


@lanes_p.def_abstract_eval
def _shapes(*leaves, function, batched):
    mapped = [x for x, b in zip(leaves, batched, strict=True) if b]
    if not mapped:
        return function.out_avals
    return [jaxprs.world_aval(r, mapped[0].shape[0], mapped) for r in function.out_avals]


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
    one_world = functools.partial(jax.core.eval_jaxpr, function.jaxpr, function.consts)
    if not any(batched):
        return one_world(*leaves)
    return jax.vmap(one_world, in_axes=[0 if b else None for b in batched])(*leaves)


# --- mapping ---


def _batch(leaves, dims, *, function, batched):
    """A second world axis is merged with the first. A result that does not differ along the new
    axis gets none.
    """
    new = tuple(d is not None for d in dims)
    differs = jaxprs.depends(function.jaxpr, new)
    results, out_dims = [None] * len(differs), [0 if d else None for d in differs]
    for along in {*differs}:
        numbers = tuple(k for k, d in enumerate(differs) if d == along)
        part, reads = function.part(numbers)
        chosen = [[x[k] for k in reads] for x in (leaves, dims, batched)]
        for k, y in zip(numbers, _bind_along(part, *chosen), strict=True):
            results[k] = y
    return results, out_dims


def _bind_along(function, leaves, dims, batched):
    """The results of mapping along `dims` too, which stands in front."""
    leaves = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(leaves, dims, strict=True)]
    new = tuple(d is not None for d in dims)
    if not (any(batched) and any(new)):
        either = new if any(new) else tuple(batched)
        return lanes_p.bind(*leaves, function=function, batched=either)
    size = next(x.shape[0] for x, n in zip(leaves, new, strict=True) if n)
    worlds = next(
        x.shape[1 if n else 0] for x, n, old in zip(leaves, new, batched, strict=True) if old
    )

    def merge(x, n, old):
        if not (n or old):
            return x
        x = x if n else x[None]
        x = x if old else x[:, None]
        return jnp.broadcast_to(x, (size, worlds, *x.shape[2:])).reshape(-1, *x.shape[2:])

    flat = [merge(*each) for each in zip(leaves, new, batched, strict=True)]
    both = tuple(n or old for n, old in zip(new, batched, strict=True))
    out = lanes_p.bind(*flat, function=function, batched=both)
    return [y.reshape(size, worlds, *y.shape[1:]) for y in out]


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


# --- machine code ---


def _lower(ctx, *operands, function, batched, platform):
    program = functools.partial(_compiled, platform=platform, spread=jaxprs.is_spread(ctx))
    if ctx.module_context.lowering_parameters.for_export:  # what is exported is run elsewhere
        program = through_xla
    program = functools.partial(program, function=function, batched=batched)
    return mlir.lower_fun(program, multiple_results=True)(ctx, *operands)


def _compiled(*leaves, function, batched, platform, spread=False):
    """The results by a kernel; `spread`: each device computes the worlds it has."""
    words = [jax.random.key_data(x) if jaxprs.is_key(x.dtype) else x for x in leaves]
    if any(batched):
        call = functools.partial(_call, function=function, batched=batched, platform=platform)
        results = (sharding.spread(call, batched) if spread else call)(*words)
    else:  # one world is a group of lanes of which one is of interest
        every = (True,) * len(words)
        one = [x[None] for x in words]
        results = [y[0] for y in _call(*one, function=function, batched=every, platform=platform)]
    return [
        jax.random.wrap_key_data(y, impl=jaxprs.key_impl(r.dtype)) if jaxprs.is_key(r.dtype) else y
        for y, r in zip(results, function.out_avals, strict=True)
    ]


def _call(*words, function, batched, platform):
    """The call of the kernel; random keys are words."""
    worlds = next(x.shape[0] for x, b in zip(words, batched, strict=True) if b)
    if worlds == 0:
        return [jnp.zeros((0, *r.shape), r.dtype) for r in function.results]
    target, width = function.target(batched, platform)
    if worlds < width:
        fill = lambda x: jnp.concatenate([x, jnp.repeat(x[:1], width - worlds, axis=0)])
        words = [fill(x) if b else x for x, b in zip(words, batched, strict=True)]
    lanes = max(worlds, width)
    out = jax.ffi.ffi_call(
        target,
        [jax.ShapeDtypeStruct((lanes, *r.shape), r.dtype) for r in function.results],
        input_layouts=[
            _lane_minor(s.shape) if b else None
            for s, b in zip(function.specs, batched, strict=True)
        ],
        output_layouts=[_lane_minor(r.shape) for r in function.results],
        # the last group overlaps its neighbour unless the width divides the lanes
        input_output_aliases=function.in_place(batched) if worlds % width == 0 else None,
    )(*words)
    return [y[:worlds] for y in out] if worlds < width else list(out)


def _lane_minor(shape) -> tuple[int, ...]:
    """Major-to-minor order of a [worlds, *shape] array whose worlds are neighbours in memory."""
    return (*range(1, len(shape) + 1), 0)


mlir.register_lowering(lanes_p, mlir.lower_fun(through_xla, multiple_results=True))
for _platform in ("cpu", "cuda"):
    mlir.register_lowering(lanes_p, functools.partial(_lower, platform=_platform), _platform)
jaxprs.needs_devices(lanes_p)
