"""`lanes.kernel`: a function of one world that runs as one SIMD kernel over all the worlds it is
mapped over.
"""

import collections
import contextlib
import functools
import gc
import itertools
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.lanes import (
    jaxprs,
    rules,  # noqa: F401  (fills the table of rules)
)
from gpusim.lanes.codegen.emitter import Output, emit
from gpusim.lanes.host import target as host
from gpusim.lanes.nvidia import emitter as nvidia_codegen
from gpusim.lanes.nvidia import target as nvidia
from gpusim.lanes.primitive import lanes_p
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.scalarize import Scalarizer

# Registers a value takes on the host, in graphs of up to so many nodes. Physics is long chains of
# dependent operations, and a second chain fills the waits of the first: hopper's physics (4,000
# nodes) runs 1.05 times as fast with two, on springs (6,000) 1.12 times. Larger graphs keep their
# numbers in memory rather than in registers, and the cache is better used by one: half cheetah's
# physics (10,000) runs 1.27 times as fast with one, ant (17,000) 1.2 times, humanoid (66,000) 1.1
# times, and they compile in half the time.
INTERLEAVED = 2
INTERLEAVED_NODES = 8_000

# Set while a kernel is traced: a kernel called by a kernel is part of it.
_inside = threading.local()


class Spec(NamedTuple):
    """Shape and dtype of one world's array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def kernel(fn: Callable) -> Callable:
    """Compiles a function of one world, so that mapping it over worlds runs one SIMD kernel.

    `fn` takes and returns pytrees of small arrays of static shape and is pure. The result has the
    same signature. Alone it computes one world; under `jax.vmap`, nested too, all lanes are one
    kernel; it works inside jit, scan, pmap and shard_map, and on all cores. With
    `GPUSIM_LANES=xla`, and on platforms without a lane target, it is `fn` itself. Derivatives go
    through XLA.

    Values: floating-point results agree with XLA to a few roundings; x*0 counts as 0 and the sign
    of zero is not kept; denormal numbers count as zero.

    Raises LanesError, at the first call with arguments of new shapes, for a primitive or dtype that
    cannot be compiled.
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
        signature = (tree, is_key, specs, jax.config.read("jax_enable_x64"))
        if signature not in compiled:
            compiled[signature] = LaneFunction(fn, tree, is_key, specs)
        return compiled[signature](*leaves)

    return run


def mode() -> str:
    """`auto` (a SIMD kernel where the platform has one) or `xla`, from GPUSIM_LANES."""
    chosen = os.environ.get("GPUSIM_LANES", "auto")
    if chosen not in ("auto", "xla"):
        raise ValueError(
            f"GPUSIM_LANES={chosen!r}: use 'auto' (SIMD kernels) or 'xla' (no kernels)"
        )
    return chosen


@contextlib.contextmanager
def _without_garbage_collection():
    """A graph is many objects and no garbage: to look through them again and again took a third of
    the time of a large one.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class LaneFunction:
    """One world's function for arguments of given shapes, traced; its kernels are compiled when XLA
    first needs them.

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
        self.one_world, self.is_key, self.leaves = one_world, is_key, specs
        self.out_keys = [jaxprs.is_key(v.aval.dtype) for v in self.jaxpr.outvars]
        self.outs = [
            Spec((*v.aval.shape, 2), np.dtype(np.uint32)) if k else Spec(v.aval.shape, v.aval.dtype)
            for v, k in zip(self.jaxpr.outvars, self.out_keys, strict=True)
        ]
        # leaves that only pass through, that nothing reads or that are empty do not enter or leave
        # the kernel
        reads, self.passed = jaxprs.flow(self.jaxpr)
        self.reads = [k for k in reads if 0 not in specs[k].shape]
        self.computed = [
            k
            for k, (spec, same) in enumerate(zip(self.outs, self.passed, strict=True))
            if self.jaxpr.effects or (same is None and 0 not in spec.shape)
        ]
        self.name = getattr(fn, "__qualname__", repr(fn))
        self.specs: tuple[Spec, ...] = tuple(specs[k] for k in self.reads)
        self.results = tuple(self.outs[k] for k in self.computed)
        self.targets: dict[tuple[str, tuple[bool, ...]], tuple[str, int]] = {}
        self.lock = threading.Lock()

        @jax.custom_jvp
        def flat(*leaves):
            if not self.results:
                return []
            return lanes_p.bind(*leaves, function=self, batched=(False,) * len(leaves))

        @flat.defjvp
        def _(primals, tangents):
            return jax.jvp(self.words, primals, tangents)

        self.flat = flat

    def __call__(self, *leaves):
        out: list[Any] = [jnp.zeros(x.shape, x.dtype) if 0 in x.shape else None for x in self.outs]
        out = [x if k is None else leaves[k] for x, k in zip(out, self.passed, strict=True)]
        for k, x in zip(self.computed, self.flat(*(leaves[k] for k in self.reads)), strict=True):
            out[k] = x
        out = [
            jax.random.wrap_key_data(y) if k else y for y, k in zip(out, self.out_keys, strict=True)
        ]
        return jax.tree.unflatten(self.out_tree, out)

    def words(self, *read):
        """What the kernel computes of the leaves that it reads, by JAX; keys are words."""
        leaves: list[Any] = [np.zeros(x.shape, x.dtype) for x in self.leaves]
        for k, x in zip(self.reads, read, strict=True):
            leaves[k] = x
        leaves = [
            jax.random.wrap_key_data(x) if k else x
            for x, k in zip(leaves, self.is_key, strict=True)
        ]
        out = jax.tree.leaves(self.one_world(*leaves))
        return [
            jax.random.key_data(out[k]) if self.out_keys[k] else jnp.asarray(out[k])
            for k in self.computed
        ]

    def target(self, batched: tuple[bool, ...], platform: str) -> tuple[str, int]:
        """XLA FFI target, on "cpu" or "cuda", of the kernel in which the leaves marked in `batched`
        have a lane axis; and the least number of lanes it takes.
        """
        with self.lock:
            if (platform, batched) not in self.targets:
                build = {"cpu": self.for_host, "cuda": self.for_nvidia}[platform]
                self.targets[platform, batched] = build(batched)
            return self.targets[platform, batched]

    def in_place(self, batched: tuple[bool, ...]) -> dict[int, int]:
        """Arguments whose memory a result takes: a state that is stepped stays where it is.

        A loop that carries the state would otherwise copy it back in every trip. Groups read all
        before they write. What is needed after the call XLA copies before it.
        """
        outs = self.computed
        # the state is found by its leaves: as many as can be at the same distance, in and out
        distances = collections.defaultdict(dict)
        for a, k in itertools.product(range(len(self.specs)), range(len(outs))):
            if batched[a] and self.specs[a] == self.results[k]:
                distances[self.reads[a] - outs[k]][a] = k
        return max(distances.values(), key=len, default={})

    def for_host(self, batched: tuple[bool, ...]) -> tuple[str, int]:
        text, width = self.lower(batched, host.host().vector_bits)
        return host.load(text, width=width, arg_lanes=batched), width

    def for_nvidia(self, batched: tuple[bool, ...]) -> tuple[str, int]:
        return nvidia.load(self.thread(batched)), 1

    @_without_garbage_collection()
    def thread(self, batched: tuple[bool, ...]) -> nvidia_codegen.Kernel:
        """LLVM IR for NVIDIA devices."""
        g, outputs = self.graph(batched)
        return nvidia_codegen.emit(
            g,
            outputs,
            self.name,
            arg_lanes=batched,
            results=len(self.results),
            in_place=self.in_place(batched),
            block=nvidia.block_size(),
        )

    @_without_garbage_collection()
    def lower(self, batched: tuple[bool, ...], vector_bits: int) -> tuple[str, int]:
        """LLVM IR for the host, and its width: the lanes of the registers that a value of the
        widest floating-point type in use takes.
        """
        g, outputs = self.graph(batched)
        registers = INTERLEAVED if len(g.op) <= INTERLEAVED_NODES else 1
        width = registers * vector_bits // (64 if "double" in g.type else 32)
        return emit(g, outputs, width), width

    def graph(self, batched: tuple[bool, ...]) -> tuple[Graph, list[Output]]:
        """The scalar program of one world, and which of its nodes are the results."""
        g = Graph()
        s = Scalarizer(g, self.name)
        place = {leaf: k for k, leaf in enumerate(self.reads)}
        inputs = []
        for leaf, (spec, key) in enumerate(zip(self.leaves, self.is_key, strict=True)):
            if leaf in place:
                k, t = place[leaf], s.lane_type(spec.dtype)
                size = int(np.prod(spec.shape))
                nodes = [g.input(t, k, element, not batched[k]) for element in range(size)]
                ids = np.array(nodes, np.int64).reshape(spec.shape)
            else:
                ids = s.full(spec.shape, spec.dtype, 0)
            inputs.append(s.keys(ids) if key else ids)
        results = s.run(self.jaxpr, self.consts, inputs)
        results = [
            s.key_data(results[k]) if self.out_keys[k] else results[k] for k in self.computed
        ]
        return g, [
            Output(k, element, node)
            for k, ids in enumerate(results)
            for element, node in enumerate(ids.ravel().tolist())
        ]
