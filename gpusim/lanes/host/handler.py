"""LLVM IR of the function that XLA calls for a kernel, `gpusim.handler`.

A module with `void @group(ptr ins, ptr outs, i64 lane, i64 lanes)` plus `handler_ir(...)` is
complete: the group computes `width` worlds from `lane` on, the handler runs it for all lanes.
What it shares with the handler of a CUDA kernel (nvidia/handler.py) is in `opening`.
"""

from __future__ import annotations

import string

from gpusim.lanes.host import abi, threads

ENTRY = "gpusim.handler"
POOL = "gpusim.pool"  # pointer to the process's Pool (see threads.py), to be set after loading
VERSION = 1  # of what this module, the group and host.py expect of each other


def handler_ir(machine: str, width: int, arg_lanes: tuple[bool, ...], header: str) -> str:
    """Module text. `machine`: the triple's first part, which decides the floating point mode.

    `arg_lanes`: for each argument whether its leading axis is the lanes. `header`: XLA's c_api.h.
    """
    layout = abi.Abi(header + threads.STRUCTS)
    mode = _MACHINES.get(machine, _ANY_MACHINE)
    values = threads.parameters(width) | {
        "call_bytes": layout.size("Call"),
        "few": c_string("gpusim.lanes: fewer lanes than the kernel's vector width; pad them"),
    }
    threading = string.Template(mode + threads.TASKS + threads.WORK).substitute(values)
    rest = string.Template(_RUN).substitute(values)
    return abi.expand(threading + opening(layout, arg_lanes, traits=0) + rest, layout)


def opening(layout: abi.Abi, arg_lanes: tuple[bool, ...], *, traits: int) -> str:
    """The handler up to the label %enough, with at least one lane, one result and all arguments.

    It leaves %api, %ctx, %nargs, %args, %nrets, %rets and %lanes, and the labels %misfit (which
    the text that follows goes to if `@gpusim.collect` says no) and %finished. `traits`: XLA's bits.
    """
    values = {
        "args": len(arg_lanes),
        "marks": ", ".join(f"i1 {str(mark).lower()}" for mark in (True, *arg_lanes)),
        "n_marks": 1 + len(arg_lanes),
        "major": layout.macro("API_MAJOR"),
        "minor": layout.macro("API_MINOR"),
        "traits": traits,
        "bad": c_string("gpusim.lanes: the buffers do not have this kernel's number or lanes"),
    }
    return string.Template(_BUFFERS + _OPENING).substitute(values)


def c_string(text: str) -> str:
    """An LLVM array constant, with its type."""
    return f'[{len(text) + 1} x i8] c"{text}\\00"'


_X86 = """
define internal void @gpusim.pause() nounwind {
  call void @llvm.x86.sse2.pause()
  ret void
}
define internal i64 @gpusim.flush_denormals() nounwind {  ; returns the mode before
  %word = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %old = load i32, ptr %word
  %new = or i32 %old, 32832  ; MXCSR: flush results (bit 15) and operands (bit 6)
  store i32 %new, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  %mode = zext i32 %old to i64
  ret i64 %mode
}
define internal void @gpusim.restore(i64 %mode) nounwind {
  %word = alloca i32
  %old = trunc i64 %mode to i32
  store i32 %old, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret void
}
"""
_AARCH64 = """
define internal void @gpusim.pause() nounwind {
  call void @llvm.aarch64.hint(i32 1)
  ret void
}
define internal i64 @gpusim.flush_denormals() nounwind {
  %old = call i64 @llvm.aarch64.get.fpcr()
  %new = or i64 %old, 16777216  ; FZ, bit 24
  call void @llvm.aarch64.set.fpcr(i64 %new)
  ret i64 %old
}
define internal void @gpusim.restore(i64 %mode) nounwind {
  call void @llvm.aarch64.set.fpcr(i64 %mode)
  ret void
}
"""
_ANY_MACHINE = """
define internal void @gpusim.pause() nounwind {
  ret void
}
define internal i64 @gpusim.flush_denormals() nounwind {
  ret i64 0
}
define internal void @gpusim.restore(i64 %mode) nounwind {
  ret void
}
"""
_MACHINES = {"x86_64": _X86, "aarch64": _AARCH64, "arm64": _AARCH64}

_BUFFERS = """
@gpusim.marks = internal constant [$n_marks x i1] [$marks]  ; results, then each argument

; Leading dimension of a buffer; -1 for a scalar.
define internal i64 @gpusim.leading(ptr %buffer) nounwind {
  %rank = get %buffer Buffer.rank
  %scalar = icmp slt i64 %rank, 1
  br i1 %scalar, label %none, label %some
some:
  %dims = get %buffer Buffer.dims
  %dim = load i64, ptr %dims
  ret i64 %dim
none:
  ret i64 -1
}

; Copies %n buffers' data pointers. Returns whether each that is marked leads with %lanes; the
; mark of buffer i is the one at 1 + i for arguments (%step = 1) and at 0 for results (0).
define internal i1 @gpusim.collect(ptr %buffers, i64 %n, i64 %step, i64 %lanes, ptr %to) nounwind {
entry:
  br label %test
test:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  %good = phi i1 [ true, %entry ], [ %good1, %loop ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %loop, label %end
loop:
  %i1 = add i64 %i, 1
  %entryp = getelementptr ptr, ptr %buffers, i64 %i
  %buffer = load ptr, ptr %entryp
  %data = get %buffer Buffer.data
  %slot = getelementptr ptr, ptr %to, i64 %i
  store ptr %data, ptr %slot
  %which = mul i64 %i1, %step
  %markp = getelementptr i1, ptr @gpusim.marks, i64 %which
  %mark = load i1, ptr %markp
  %dim = call i64 @gpusim.leading(ptr %buffer)
  %same = icmp eq i64 %dim, %lanes
  %fits = select i1 %mark, i1 %same, i1 true
  %good1 = and i1 %good, %fits
  br label %test
end:
  ret i1 %good
}
"""

_OPENING = """
@gpusim.bad = internal constant $bad

define ptr @gpusim.handler(ptr %frame) nounwind {
entry:
  %extension = get %frame CallFrame.extension_start
  %real = icmp eq ptr %extension, null
  br i1 %real, label %execute, label %describe

describe:  ; XLA asks which version of its interface we speak
  %metadata = get %extension Metadata_Extension.metadata
  set %metadata Metadata.api_version.major_version $major
  set %metadata Metadata.api_version.minor_version $minor
  set %metadata Metadata.traits $traits
  ret ptr null

execute:
  %api = get %frame CallFrame.api
  %ctx = get %frame CallFrame.ctx
  %nargs = get %frame CallFrame.args.size
  %args = get %frame CallFrame.args.args
  %nrets = get %frame CallFrame.rets.size
  %rets = get %frame CallFrame.rets.rets
  %argsok = icmp eq i64 %nargs, $args
  %retsok = icmp sgt i64 %nrets, 0
  %countsok = and i1 %argsok, %retsok
  br i1 %countsok, label %measure, label %misfit
measure:
  %ret0 = load ptr, ptr %rets
  %lanes = call i64 @gpusim.leading(ptr %ret0)
  %empty = icmp eq i64 %lanes, 0
  br i1 %empty, label %finished, label %enough
finished:
  ret ptr null
misfit:  ; this error, and those below, are of the kind "invalid argument"
  %badshape = xla %api Error_Create message=@gpusim.bad errc=3
  ret ptr %badshape
"""

_RUN = """
enough:
  %few = icmp slt i64 %lanes, $width
  br i1 %few, label %toofew, label %collect
collect:  ; the pointers go right behind the Call
  %buffers = add i64 %nargs, %nrets
  %pointers = mul i64 %buffers, 8
  %bytes = add i64 %pointers, $call_bytes
  %call = call ptr @malloc(i64 %bytes)
  %ins = getelementptr i8, ptr %call, i64 $call_bytes
  %outs = getelementptr ptr, ptr %ins, i64 %nargs
  %inok = call i1 @gpusim.collect(ptr %args, i64 %nargs, i64 1, i64 %lanes, ptr %ins)
  %outok = call i1 @gpusim.collect(ptr %rets, i64 %nrets, i64 0, i64 %lanes, ptr %outs)
  %ok = and i1 %inok, %outok
  br i1 %ok, label %run, label %drop
drop:
  call void @free(ptr %call)
  br label %misfit

run:
  %groups = call i64 @gpusim.ceildiv(i64 %lanes, i64 $width)
  %threads = call i64 @gpusim.threads(ptr %api, ptr %ctx, i64 %groups)
  %chunk = call i64 @gpusim.chunk(i64 %groups, i64 %threads)
  %chunks = call i64 @gpusim.ceildiv(i64 %groups, i64 %chunk)
  %room = call i64 @gpusim.room(i64 %threads)
  %workers = call i64 @llvm.smin.i64(i64 %room, i64 %chunks)
  %tasks = sub i64 %workers, 1
  set %call Call.next 0
  set %call Call.done 0
  set %call Call.references 1
  set %call Call.tasks %tasks
  set %call Call.api %api
  set %call Call.ctx %ctx
  set %call Call.threads %threads
  set %call Call.lanes %lanes
  set %call Call.groups %groups
  set %call Call.chunk %chunk
  set %call Call.ins %ins
  set %call Call.outs %outs
  call void @gpusim.call(ptr %call)
  br label %finished

toofew:
  %badlanes = xla %api Error_Create message=@gpusim.few errc=3
  ret ptr %badlanes
}
@gpusim.few = internal constant $few
declare ptr @malloc(i64)

define internal i64 @gpusim.ceildiv(i64 %a, i64 %b) nounwind {
  %sum = add i64 %a, %b
  %less = sub i64 %sum, 1
  %quotient = udiv i64 %less, %b
  ret i64 %quotient
}
"""
