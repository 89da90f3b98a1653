"""From the scalar graph to the LLVM IR of a CUDA kernel: a thread is a lane.

It is the host's text at width 1, with the buffers as parameters of the kernel rather than in
tables, so that LLVM knows them for global memory. A thread branches and loops for itself; threads
of a warp that disagree wait for each other. Neighbours in memory are neighbours in a warp, because
element k of lane l is at k*lanes + l: every load and store is coalesced.
"""

import re
from collections.abc import Container, Mapping
from typing import ClassVar, NamedTuple

from gpusim.lanes.codegen.emitter import RARELY, SIMPLE, Emitter, Output
from gpusim.lanes.program.graph import Graph

MAX_BUFFERS = 511  # parameters of a kernel take 4 KB at most: one pointer each, and the lanes


class Kernel(NamedTuple):
    """A kernel `entry(args..., results..., i64 lanes)`, a thread a lane."""

    entry: str  # its name, for profilers to show too
    ir: str  # LLVM IR
    arg_lanes: tuple[bool, ...]  # for each argument whether its leading axis is the lanes
    results: int  # buffers, all with lanes
    block: int  # threads in a block at most; a block is one-dimensional


def emit(
    g: Graph,
    outputs: list[Output],
    name: str,
    *,
    arg_lanes: tuple[bool, ...],
    results: int,
    in_place: Mapping[int, int],
    block: int,
) -> Kernel:
    """The kernel of a scalar program of that name; `in_place` are the arguments whose memory a
    result may be given, and which one.

    Raises ValueError for more buffers than a kernel may have.
    """
    args = len(arg_lanes)
    if args + results > MAX_BUFFERS:
        raise ValueError(
            f"{name}: {args} arguments and {results} results are more arrays than the "
            f"{MAX_BUFFERS} a CUDA kernel can have; stack some of them, or set GPUSIM_LANES=xla"
        )
    entry = "gpusim_" + re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    ir = _ThreadEmitter(g, outputs, 1, in_place=in_place).kernel(
        entry, args, results, in_place, block
    )
    return Kernel(entry, ir, arg_lanes, results, block)


class _ThreadEmitter(Emitter):
    start_block = "start"
    simple: ClassVar = {op: text for op, text in SIMPLE.items() if op != "add"}  # see `emit_node`

    def base(self, table: str, buffer: int) -> str:
        """Pointers are parameters."""
        return f"%{table}{buffer}"

    def emit_node(self, n: int) -> str:
        """Writes x + y of integers as x - (0 - y), and the backend makes that an addition again.

        In between LLVM's straight-line strength reduction does not see it, whose time grows with
        the square of the additions: it took 15 s for the ant, most of it for random numbers.
        """
        if self.g.op[n] != "add":
            return super().emit_node(n)
        t, (x, y) = self.g.type[n], (self.use(a, True) for a in self.g.args[n])
        return self.put(f"sub {t} {x}, {self.put(f'sub {t} 0, {y}')}")

    def emit_minmax(self, op, t, args, x) -> str:
        """A NaN on either side wins: for float that is one instruction (max.NaN.f32)."""
        if t != "float":
            return super().emit_minmax(op, t, args, x)
        return self.put(self.call({"fmin": "minimum", "fmax": "maximum"}[op], t, x))

    def kernel(
        self, entry: str, args: int, results: int, in_place: Container[int], block: int
    ) -> str:
        """The module's text."""
        self.emit_root()
        alone = "noalias readonly"  # lets loads pass through the read-only cache
        parameters = [f"ptr {'' if k in in_place else alone} %ins{k}" for k in range(args)]
        parameters += [f"ptr %outs{k}" for k in range(results)]
        return _KERNEL.format(
            entry=entry,
            parameters=", ".join([*parameters, "i64 %lanes"]),
            arrays="\n".join(self.entry),
            body="\n".join(self.lines),
            declarations="\n".join(self.declared.values()),
            block=block,
            rarely=RARELY,
        )


# Denormal numbers count as zero, as on the host.
_KERNEL = """\
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()

define ptx_kernel void @{entry}({parameters}) nounwind #0 {{
entry:
{arrays}
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %threads = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %thread = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %block64 = zext i32 %block to i64
  %threads64 = zext i32 %threads to i64
  %thread64 = zext i32 %thread to i64
  %first = mul i64 %block64, %threads64
  %lane = add i64 %first, %thread64
  %inside = icmp ult i64 %lane, %lanes
  br i1 %inside, label %start, label %end
start:
{body}
  br label %end
end:
  ret void
}}
{declarations}
attributes #0 = {{ "denormal-fp-math-f32"="preserve-sign,preserve-sign" }}
{rarely}
!nvvm.annotations = !{{!1}}
!1 = !{{ptr @{entry}, !"maxntidx", i32 {block}}}
"""
