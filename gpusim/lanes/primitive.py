"""The JAX primitive behind a kernel: a function of one world mapped over one axis of worlds.

Its parameters are `function`, a LaneFunction, and `batched`: which leaves have the world axis in
front. Mapping adds the axis or widens it; only the lowering rule asks for machine code, so that a
kernel is compiled when XLA needs it, for the mapping that is really used.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.extend import core as jex
from jax.interpreters import batching, mlir

from gpusim.lanes import jaxprs

lanes_p = jex.Primitive("lanes")
lanes_p.multiple_results = True


def _worlds(leaves, batched) -> Iterator[int]:
    """Size of the world axis, from every leaf that has it."""
    return (x.shape[0] for x, b in zip(leaves, batched, strict=True) if b)


@lanes_p.def_abstract_eval
def _shapes(*leaves, function, batched):
    axis = tuple(_worlds(leaves, batched))[:1]
    return [jaxprs.result_aval((*axis, *r.shape), r.dtype, leaves) for r in function.results]


@functools.lru_cache(maxsize=64)  # bounded: JAX keeps the compiled program as long as this does
def _jitted(function, batched):
    return jax.jit(functools.partial(lanes_p.bind, function=function, batched=batched))


@lanes_p.def_impl
def _run_eagerly(*leaves, function, batched):
    return _jitted(function, batched)(*leaves)


def _batch(leaves, dims, *, function, batched):
    """A second world axis is merged with the first."""
    size = next(x.shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None)
    leaves = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(leaves, dims, strict=True)]
    new = tuple(d is not None for d in dims)
    if not any(batched):
        return lanes_p.bind(*leaves, function=function, batched=new), [0] * len(function.results)
    worlds = next(
        x.shape[1 if n else 0] for x, n, old in zip(leaves, new, batched, strict=True) if old
    )
    both = tuple(n or old for n, old in zip(new, batched, strict=True))

    def merge(x, spec, n, old):
        if not (n or old):
            return x
        x = x if n else x[None]
        x = x if old else x[:, None]
        return jnp.broadcast_to(x, (size, worlds, *spec.shape)).reshape(size * worlds, *spec.shape)

    flat = [merge(*z) for z in zip(leaves, function.specs, new, batched, strict=True)]
    out = lanes_p.bind(*flat, function=function, batched=both)
    return [y.reshape(size, worlds, *y.shape[1:]) for y in out], [0] * len(out)


batching.primitive_batchers[lanes_p] = _batch


def through_xla(*leaves, function, batched):
    """The same by JAX's own primitives."""
    if not any(batched):
        return function.words(*leaves)
    return jax.vmap(function.words, in_axes=[0 if b else None for b in batched])(*leaves)


def _compiled(*leaves, function, batched, platform):
    if not leaves:
        return function.words()
    if not any(batched):  # one world is a group of lanes of which one is of interest
        every = (True,) * len(leaves)
        one = [x[None] for x in leaves]
        return [y[0] for y in _compiled(*one, function=function, batched=every, platform=platform)]
    worlds = next(_worlds(leaves, batched))
    if worlds == 0:
        return [jnp.zeros((0, *r.shape), r.dtype) for r in function.results]
    target, width = function.target(batched, platform)
    if worlds < width:
        fill = lambda x: jnp.concatenate([x, jnp.repeat(x[:1], width - worlds, axis=0)])
        leaves = [fill(x) if b else x for x, b in zip(leaves, batched, strict=True)]
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
    )(*leaves)
    return [y[:worlds] for y in out] if worlds < width else list(out)


def _lane_minor(shape) -> tuple[int, ...]:
    """Major-to-minor order of a [worlds, *shape] array whose worlds are neighbours in memory."""
    return (*range(1, len(shape) + 1), 0)


mlir.register_lowering(lanes_p, mlir.lower_fun(through_xla, multiple_results=True))
for _platform in ("cpu", "cuda"):
    _rule = mlir.lower_fun(functools.partial(_compiled, platform=_platform), multiple_results=True)
    mlir.register_lowering(lanes_p, _rule, platform=_platform)
