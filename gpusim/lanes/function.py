"""A traced function of one world, and the kernels it becomes."""

import collections
import contextlib
import gc
import itertools
import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from gpusim.lanes import (
    budget,
    jaxprs,
    rules,  # noqa: F401  (fills the table of rules)
)
from gpusim.lanes.codegen.buffers import ByWorld
from gpusim.lanes.codegen.emitter import Output, emit
from gpusim.lanes.host import target as host
from gpusim.lanes.nvidia import emitter as nvidia_codegen
from gpusim.lanes.nvidia import target as nvidia
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.scalarize import TYPES, LanesError, Scalarizer

# Registers a value takes on the host, in graphs of up to so many nodes. Physics is long chains of
# dependent operations, and a second chain fills the waits of the first: hopper's physics (3,400
# nodes) runs 1.05 times as fast with two, on springs (5,100) 1.12 times. Larger graphs keep their
# numbers in memory rather than in registers, and the cache is better used by one: half cheetah's
# physics (8,800) runs 1.27 times as fast with one, ant (13,000) 1.2 times, humanoid (29,000) 1.1
# times, and they compile in half the time.
INTERLEAVED = 2
INTERLEAVED_NODES = 6_000
# Arrays of so many numbers a world have these side by side on the host. With the worlds side by
# side each number would be in a page of its own, and in the same set of the cache as its neighbours
# where the worlds are a power of two.
BY_WORLD = 256


class Spec(NamedTuple):
    """Shape and dtype of one world's array as it is in memory: random keys are words."""

    shape: tuple[int, ...]
    dtype: np.dtype


def _spec(aval) -> Spec:
    if jaxprs.is_key(aval.dtype):
        words = jaxprs.key_impl(aval.dtype).key_shape
        return Spec((*aval.shape, *words), np.dtype(np.uint32))
    return Spec(aval.shape, aval.dtype)


def _is_by_world(spec: Spec) -> bool:
    return math.prod(spec.shape) >= BY_WORLD


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
    """A function of one world as a jaxpr; its kernels are compiled when XLA first needs them.

    Every result depends on some argument and has elements. Arguments and results are flat;
    `arg_numbers` and `result_numbers` say which of the user's they are.
    """

    def __init__(
        self,
        name: str,
        jaxpr,
        consts: Sequence,
        arg_numbers: Sequence[int],
        result_numbers: Sequence[int],
        seconds: float | None = None,
    ):
        self.name, self.jaxpr, self.consts = name, jaxpr, consts
        self.seconds = seconds  # that a kernel may take to compile; None: what the environment says
        self.arg_numbers, self.result_numbers = tuple(arg_numbers), tuple(result_numbers)
        self.in_avals = [v.aval for v in jaxpr.invars]
        self.out_avals = [v.aval for v in jaxpr.outvars]
        self.specs = tuple(map(_spec, self.in_avals))
        self.results = tuple(map(_spec, self.out_avals))
        self.targets: dict[tuple, tuple[str, int] | None] = {}
        self.parts: dict[tuple[int, ...], tuple[LaneFunction, list[int]]] = {}
        self.lock = threading.Lock()

    def layout(self, spec: Spec, platform: str) -> tuple[int, ...]:
        """Order, outermost first, of the axes of worlds' arrays in memory."""
        axes = range(1, len(spec.shape) + 1)
        return (0, *axes) if platform == "cpu" and _is_by_world(spec) else (*axes, 0)

    def part(self, results: tuple[int, ...]) -> tuple["LaneFunction", list[int]]:
        """The function of some of the results alone, and which of the arguments it takes."""
        if results not in self.parts:
            jaxpr, consts, reads = jaxprs.restrict(self.jaxpr, self.consts, results)
            arg_numbers = [self.arg_numbers[k] for k in reads]
            result_numbers = [self.result_numbers[k] for k in results]
            part = LaneFunction(self.name, jaxpr, consts, arg_numbers, result_numbers, self.seconds)
            self.parts[results] = part, reads
        return self.parts[results]

    def target(self, batched: tuple[bool, ...], platform: str) -> tuple[str, int] | None:
        """XLA FFI target, on "cpu" or "cuda", of the kernel in which the leaves marked in `batched`
        have a lane axis; and the least number of lanes it takes. None, and a warning, if it would
        cost too much.
        """
        key = (platform, batched, budget.seconds(self.seconds), jaxprs.trace_context())
        with self.lock:
            if key not in self.targets:
                build = {"cpu": self.for_host, "cuda": self.for_nvidia}[platform]
                try:
                    self.targets[key] = build(batched)
                except budget.TooLarge as why:
                    self.targets[key] = None
                    budget.warn(f"lanes.kernel({self.name}) runs through XLA: {why}")
            return self.targets[key]

    def in_place(self, batched: tuple[bool, ...]) -> dict[int, int]:
        """Arguments whose memory a result takes: a state that is stepped stays where it is.

        A loop that carries the state would otherwise copy it back in every trip. Groups read all
        before they write. What is needed after the call XLA copies before it.
        """
        # the state is found by its leaves: as many as can be at the same distance, in and out
        distances = collections.defaultdict(dict)
        for a, k in itertools.product(range(len(self.specs)), range(len(self.results))):
            if batched[a] and self.specs[a] == self.results[k]:
                distances[self.arg_numbers[a] - self.result_numbers[k]][a] = k
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
        made = nvidia_codegen.emit(
            g,
            outputs,
            self.name,
            arg_lanes=batched,
            results=len(self.results),
            in_place=self.in_place(batched),
            block=nvidia.block_size(),
        )
        budget.check_text(made.ir, budget.seconds(self.seconds))
        return made

    @_without_garbage_collection()
    def lower(self, batched: tuple[bool, ...], vector_bits: int) -> tuple[str, int]:
        """LLVM IR for the host, and its width: the lanes of the registers that a value of the
        widest floating-point type in use takes.
        """
        g, outputs = self.graph(batched)
        # what one of them wants all of them do (lanes.any_world): then rather fewer
        small = len(g.op) <= INTERLEAVED_NODES and "any" not in g.memo
        registers = INTERLEAVED if small else 1
        width = registers * vector_bits // (64 if "double" in g.type else 32)
        ins = {
            k: math.prod(spec.shape)
            for k, spec in enumerate(self.specs)
            if batched[k] and _is_by_world(spec)
        }
        outs = {k: math.prod(r.shape) for k, r in enumerate(self.results) if _is_by_world(r)}
        text = emit(g, outputs, width, ByWorld(ins, outs), self.in_place(batched))
        budget.check_text(text, budget.seconds(self.seconds))
        return text, width

    def graph(self, batched: tuple[bool, ...]) -> tuple[Graph, list[Output]]:
        """The scalar program of one world, and which of its nodes are the results."""
        kind = jaxprs.foreign_keys(self.jaxpr)
        if kind is not None:
            raise LanesError(
                f"lanes.kernel({self.name}): random keys of kind '{kind}' are not supported; make "
                "them with jax.random.key(seed, impl='threefry2x32'), or set GPUSIM_LANES=xla to "
                "run the function through XLA"
            )
        g = Graph(budget.operations(budget.seconds(self.seconds)))
        s = Scalarizer(g, self.name)
        inputs = []
        for k, (aval, spec) in enumerate(zip(self.in_avals, self.specs, strict=True)):
            if spec.dtype.name not in TYPES:
                raise LanesError(
                    f"lanes.kernel({self.name}): argument {self.arg_numbers[k]} (of all leaves, "
                    f"counted from 0) is {aval.str_short()}; dtype {spec.dtype.name} is not "
                    f"supported (use one of {', '.join(TYPES)}); or set GPUSIM_LANES=xla to run "
                    "the function through XLA"
                )
            t, size = s.number_type(spec.dtype), int(np.prod(spec.shape))
            nodes = [g.input(t, k, element, not batched[k]) for element in range(size)]
            ids = s.from_memory(np.array(nodes, np.int64).reshape(spec.shape), spec.dtype)
            inputs.append(s.keys(ids) if jaxprs.is_key(aval.dtype) else ids)
        try:
            with jax.ensure_compile_time_eval():  # constants are looked at, whatever JAX is tracing
                results = s.run(self.jaxpr, self.consts, inputs)
        except budget.TooLarge as why:
            raise budget.TooLarge(f"{why}; so far it came to {s.line()}") from None
        results = [
            s.key_data(ids) if jaxprs.is_key(aval.dtype) else s.to_memory(ids, aval.dtype)
            for ids, aval in zip(results, self.out_avals, strict=True)
        ]
        return g, [
            Output(k, element, node)
            for k, ids in enumerate(results)
            for element, node in enumerate(ids.ravel().tolist())
        ]
