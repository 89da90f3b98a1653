"""`lanes.kernel`: a function of one world that runs as one SIMD kernel over all the worlds it is mapped over."""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex
from jax.interpreters import batching, mlir

from gpusim.lanes import (  # noqa: F401  (the rules_* files fill the table of rules)
    host,
    jaxprs,
    rules_arith,
    rules_arrays,
    rules_control,
)
from gpusim.lanes.codegen import Output, emit
from gpusim.lanes.graph import Graph
from gpusim.lanes.scalarize import Scalarizer

# Registers a value takes. Physics is long chains of dependent operations, and a second chain fills the waits of the first: on
# the ant two run 1.6 times as fast as one with AVX-512, 1.7 with AVX2, 1.8 with SSE; four are slower, they do not fit the cache.
INTERLEAVED = 2

_inside = threading.local()  # set while a kernel is traced: a kernel called by a kernel is part of it


class Spec(NamedTuple):
    """Shape and dtype of one world's array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def kernel(fn: Callable) -> Callable:
    """Compiles a function of one world, so that mapping it over worlds runs one SIMD kernel.

    `fn` takes and returns pytrees of small arrays of static shape and is pure. The result has the same signature. Alone it
    computes one world; under `jax.vmap`, nested too, all lanes are one kernel; it works inside jit, scan, pmap and shard_map, and
    on all cores. With `GPUSIM_LANES=xla`, and on platforms without a lane target, it is `fn` itself. Derivatives go through XLA.

    Values: floating-point results agree with XLA to a few roundings; x*0 counts as 0 and the sign of zero is not kept;
    denormal numbers count as zero.

    Raises LanesError, at the first call with arguments of new shapes, for a primitive or dtype that cannot be compiled.
    """
    compiled: dict[Any, Callable] = {}

    @functools.wraps(fn)
    def run(*args, **kwargs):
        if getattr(_inside, "tracing", False) or mode() == "xla":
            return fn(*args, **kwargs)
        leaves, tree = jax.tree.flatten((args, kwargs))
        leaves = [jnp.asarray(x) for x in leaves]
        is_key = tuple(jaxprs.is_key(x.dtype) for x in leaves)
        leaves = [jax.random.key_data(x) if k else x for x, k in zip(leaves, is_key, strict=True)]
        specs = tuple(Spec(x.shape, x.dtype) for x in leaves)
        signature = (tree, is_key, specs, jax.config.jax_enable_x64)
        if signature not in compiled:
            compiled[signature] = LaneFunction(fn, tree, is_key, specs)
        return compiled[signature](*leaves)

    return run


def mode() -> str:
    """`auto` (a SIMD kernel where the platform has one) or `xla`, from GPUSIM_LANES."""
    chosen = os.environ.get("GPUSIM_LANES", "auto")
    if chosen not in ("auto", "xla"):
        raise ValueError(f"GPUSIM_LANES={chosen!r}: use 'auto' (SIMD kernels) or 'xla' (no kernels)")
    return chosen


class LaneFunction:
    """One world's function for arguments of given shapes, traced; its kernels are compiled when XLA first needs them.

    It works on flat leaves, with random keys as their uint32 words.
    """

    def __init__(self, fn, tree, is_key, specs):
        def one_world(*leaves):
            args, kwargs = jax.tree.unflatten(tree, leaves)
            return fn(*args, **kwargs)

        structs = [
            jax.eval_shape(jax.random.wrap_key_data, jax.ShapeDtypeStruct(s.shape, s.dtype))
            if k
            else jax.ShapeDtypeStruct(s.shape, s.dtype)
            for s, k in zip(specs, is_key, strict=True)
        ]
        _inside.tracing = True
        try:
            self.jaxpr, self.consts, self.out_tree = jaxprs.trace(one_world, *structs)
        finally:
            _inside.tracing = False
        self.one_world, self.is_key = one_world, is_key
        self.out_keys = [jaxprs.is_key(v.aval.dtype) for v in self.jaxpr.outvars]
        self.results = tuple(
            Spec((*v.aval.shape, 2), np.dtype(np.uint32)) if k else Spec(v.aval.shape, v.aval.dtype)
            for v, k in zip(self.jaxpr.outvars, self.out_keys, strict=True)
        )
        self.name = getattr(fn, "__qualname__", repr(fn))
        self.specs: tuple[Spec, ...] = specs
        self.targets: dict[tuple[bool, ...], tuple[str, int]] = {}
        self.lock = threading.Lock()

        @jax.custom_jvp
        def flat(*leaves):
            return lanes_p.bind(*leaves, function=self, batched=(False,) * len(specs))

        @flat.defjvp
        def _(primals, tangents):
            return jax.jvp(self.words, primals, tangents)

        self.flat = flat

    def __call__(self, *leaves):
        out = [jax.random.wrap_key_data(y) if k else y for y, k in zip(self.flat(*leaves), self.out_keys, strict=True)]
        return jax.tree.unflatten(self.out_tree, out)

    def words(self, *leaves):
        """The function itself, not compiled, on keys as words."""
        leaves = [jax.random.wrap_key_data(x) if k else x for x, k in zip(leaves, self.is_key, strict=True)]
        out = jax.tree.leaves(self.one_world(*leaves))
        return [jax.random.key_data(y) if k else jnp.asarray(y) for y, k in zip(out, self.out_keys, strict=True)]

    def target(self, batched: tuple[bool, ...]) -> tuple[str, int]:
        """XLA FFI target of the kernel in which the leaves marked in `batched` have a lane axis; and its width."""
        with self.lock:
            if batched not in self.targets:
                text, width = self.lower(batched, host.host().vector_bits)
                self.targets[batched] = host.load(text, width=width, arg_lanes=batched), width
            return self.targets[batched]

    def lower(self, batched: tuple[bool, ...], vector_bits: int) -> tuple[str, int]:
        """LLVM IR, and its width: the lanes of INTERLEAVED registers of the widest floating-point type in use."""
        g = Graph()
        s = Scalarizer(g, self.name)
        inputs = []
        for k, (spec, lanes, key) in enumerate(zip(self.specs, batched, self.is_key, strict=True)):
            t = s.lane_type(spec.dtype)
            nodes = [g.input(t, k, element, not lanes) for element in range(int(np.prod(spec.shape)))]
            ids = np.array(nodes, np.int64).reshape(spec.shape)
            inputs.append(s.keys(ids) if key else ids)
        outputs = []
        for k, ids in enumerate(s.run(self.jaxpr, self.consts, inputs)):
            ids = s.key_data(ids) if self.out_keys[k] else ids
            outputs += [Output(k, element, node) for element, node in enumerate(ids.ravel().tolist())]
        width = INTERLEAVED * vector_bits // (64 if "double" in g.type else 32)
        return emit(g, outputs, width), width


# -- the JAX primitive: function.words mapped over one leading axis of the leaves marked in `batched` ------------------------

lanes_p = jex.Primitive("lanes")
lanes_p.multiple_results = True


def worlds_of(leaves, batched) -> int | None:
    """Size of the world axis; None when no leaf has one."""
    return next((x.shape[0] for x, b in zip(leaves, batched, strict=True) if b), None)


@lanes_p.def_abstract_eval
def _shapes(*leaves, function, batched):
    worlds = worlds_of(leaves, batched)
    axis = () if worlds is None else (worlds,)
    return [jaxprs.result_aval((*axis, *r.shape), r.dtype, leaves) for r in function.results]


@functools.cache
def _jitted(function, batched):
    return jax.jit(lambda *leaves: lanes_p.bind(*leaves, function=function, batched=batched))


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
    worlds = next(x.shape[1 if n else 0] for x, n, old in zip(leaves, new, batched, strict=True) if old)
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


def _through_xla(*leaves, function, batched):
    if not any(batched):
        return function.words(*leaves)
    return jax.vmap(function.words, in_axes=[0 if b else None for b in batched])(*leaves)


def _on_host(*leaves, function, batched):
    if not leaves:
        return function.words()
    if not any(batched):  # one world is a group of lanes with one of them of interest
        return [y[0] for y in _on_host(*(x[None] for x in leaves), function=function, batched=(True,) * len(leaves))]
    worlds = worlds_of(leaves, batched)
    if worlds == 0:
        return [jnp.zeros((0, *r.shape), r.dtype) for r in function.results]
    target, width = function.target(batched)
    padded = max(worlds, width)

    def pad(x):
        return jnp.concatenate([x, jnp.broadcast_to(x[:1], (padded - worlds, *x.shape[1:]))]) if padded > worlds else x

    leaves = [pad(x) if b else x for x, b in zip(leaves, batched, strict=True)]
    call = jax.ffi.ffi_call(
        target,
        [jax.ShapeDtypeStruct((padded, *r.shape), r.dtype) for r in function.results],
        input_layouts=[lane_minor(len(s.shape)) if b else None for s, b in zip(function.specs, batched, strict=True)],
        output_layouts=[lane_minor(len(r.shape)) for r in function.results],
    )
    return [y[:worlds] if padded > worlds else y for y in call(*leaves)]


def lane_minor(rank: int) -> tuple[int, ...]:
    """Major-to-minor order of a [worlds, ...] array whose worlds are neighbours in memory."""
    return (*range(1, rank + 1), 0)


mlir.register_lowering(lanes_p, mlir.lower_fun(_through_xla, multiple_results=True))
mlir.register_lowering(lanes_p, mlir.lower_fun(_on_host, multiple_results=True), platform="cpu")
