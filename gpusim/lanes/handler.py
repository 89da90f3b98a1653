"""LLVM IR of the function XLA calls for a kernel: it spreads groups of lanes over threads.

A module with `void @group(ptr ins, ptr outs, i64 lane, i64 lanes)` plus `handler_ir(...)` is
complete. The group computes `width` worlds from `lane` on; the handler runs it for all lanes:

- The caller and tasks on XLA's own thread pool claim chunks of groups from one atomic counter.
  The call returns when every group is done; nobody ever waits for a task that has not started, so
  a busy or absent pool costs speed and not progress.
- A task may start after the call has returned. What it looks at first, the `%Call`, therefore
  lives on the heap and counts its references.
- Whoever claims work starts two more tasks, while any are left: 64 threads wake up in 6 rounds.
  The claim comes first, since it keeps the call, and with it XLA's context, alive.
- `%Pool.busy` counts working threads in the process. A task that would oversubscribe the cores
  leaves, which is what makes several XLA devices under `pmap` share them.
- The time a group took last time decides whether tasks pay off and how long chunks are.
- The last group overlaps the one before it when `width` does not divide the lanes: both threads
  write equal values, and no tail needs masks.
- Denormals count as zero inside groups: decaying systems otherwise run 5 to 8 times slower.
"""

from __future__ import annotations

import re

from .abi import Abi

ENTRY = "gpusim.handler"
POOL = "gpusim.pool"  # a pointer to the process's %Pool, to be filled in after loading
POOL_BYTES = 128
VERSION = 1  # of the interface between this module, the group and host.py

SPAWN_NS = 20_000  # a call shorter than this is not worth waking a thread for
CHUNK_NS = 10_000  # against this, claiming a chunk (about 0.1 us) is nothing
CACHE_LINE_LANES = 16  # float32 lanes in a cache line: chunks do not share the lines they write


def handler_ir(machine: str, width: int, arg_lanes: tuple[bool, ...], abi: Abi) -> str:
    """The module text: `machine` is the triple's first part, for the floating point mode.

    `arg_lanes`: for each argument whether its leading axis is the lanes.
    """
    shape = {
        "width": width,
        "args": len(arg_lanes),
        "arg_lanes": ", ".join(f"i1 {str(lanes).lower()}" for lanes in arg_lanes),
        "min_chunk": max(1, CACHE_LINE_LANES // width),
        "spawn_ns": SPAWN_NS,
        "chunk_ns": CHUNK_NS,
    }
    text = _MACHINES.get(machine, _ANY_MACHINE) + _TYPES + _WORK + _THREADS + _HANDLER
    text = re.sub(r"\$sizeof\.(\w+)", lambda m: str(abi.size(m[1])), text)
    text = re.sub(r"\$([A-Z]\w*\.[\w.]+)", lambda m: str(abi.offset(m[1])), text)
    text = text.replace("$major", str(abi.major)).replace("$minor", str(abi.minor))
    return re.sub(r"\$(\w+)", lambda m: str(shape[m[1]]), text)


# Floating point mode: @gpusim.fast sets flush-to-zero and returns the mode to @gpusim.restore.
_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse2.pause()
define internal void @gpusim.pause() nounwind { call void @llvm.x86.sse2.pause() ret void }
define internal i64 @gpusim.fast() nounwind {
  %p = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %p)
  %old = load i32, ptr %p
  %new = or i32 %old, 32832  ; flush results (bit 15) and operands (bit 6)
  store i32 %new, ptr %p
  call void @llvm.x86.sse.ldmxcsr(ptr %p)
  %mode = zext i32 %old to i64
  ret i64 %mode
}
define internal void @gpusim.restore(i64 %mode) nounwind {
  %p = alloca i32
  %old = trunc i64 %mode to i32
  store i32 %old, ptr %p
  call void @llvm.x86.sse.ldmxcsr(ptr %p)
  ret void
}
"""
_AARCH64 = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
declare void @llvm.aarch64.hint(i32)
define internal void @gpusim.pause() nounwind { call void @llvm.aarch64.hint(i32 1) ret void }
define internal i64 @gpusim.fast() nounwind {
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
define internal void @gpusim.pause() nounwind { ret void }
define internal i64 @gpusim.fast() nounwind { ret i64 0 }
define internal void @gpusim.restore(i64 %mode) nounwind { ret void }
"""
_MACHINES = {"x86_64": _X86, "aarch64": _AARCH64, "arm64": _AARCH64}

_TYPES = """
%Line = type [7 x i64]  ; pads a counter to a cache line of its own
;               0 next chunk  1      2 groups done  3  4 references  5 tasks to start  6 groups
%Call = type { i64,           %Line, i64,           %Line, i64,      i64,              i64,
;               7 chunk  8 lanes  9 threads  10 XLA api  11 XLA context  12 ins  13 outs  14 data
                i64,     i64,     i64,       ptr,        ptr,            ptr,    ptr,     [0 x ptr] }
;               0 most threads a call may use (0: all)  1      2 threads working now
%Pool = type { i64,                                     %Line, i64 }
@gpusim.pool = global ptr null
@gpusim.group_ns = internal global i64 0  ; last measured time of one group, 0: not yet known
@gpusim.arg_lanes = internal constant [$args x i1] [$arg_lanes]
declare ptr @malloc(i64)
declare void @free(ptr)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)
define internal i64 @gpusim.now() nounwind {  ; monotonic clock, ns
  %t = alloca [2 x i64]
  call i32 @clock_gettime(i32 1, ptr %t)
  %np = getelementptr i64, ptr %t, i64 1
  %s = load i64, ptr %t
  %n = load i64, ptr %np
  %sn = mul i64 %s, 1000000000
  %r = add i64 %sn, %n
  ret i64 %r
}
define internal i64 @gpusim.min(i64 %a, i64 %b) nounwind {
  %c = icmp slt i64 %a, %b
  %r = select i1 %c, i64 %a, i64 %b
  ret i64 %r
}
define internal i64 @gpusim.max(i64 %a, i64 %b) nounwind {
  %c = icmp sgt i64 %a, %b
  %r = select i1 %c, i64 %a, i64 %b
  ret i64 %r
}
define internal i64 @gpusim.ceildiv(i64 %a, i64 %b) nounwind {
  %c = add i64 %a, %b
  %d = sub i64 %c, 1
  %r = udiv i64 %d, %b
  ret i64 %r
}
"""

_WORK = """
; The first group of the next chunk; not below the number of groups when there is none.
define internal i64 @gpusim.claim(ptr %call) nounwind {
  %chunkp = getelementptr %Call, ptr %call, i64 0, i32 7
  %chunk = load i64, ptr %chunkp
  %n = atomicrmw add ptr %call, i64 1 monotonic
  %g = mul i64 %n, %chunk
  ret i64 %g
}

; Runs the chunk of groups that starts at %begin and reports it done.
define internal void @gpusim.chunk(ptr %call, i64 %begin) nounwind {
entry:
  %groupsp = getelementptr %Call, ptr %call, i64 0, i32 6
  %groups = load i64, ptr %groupsp
  %chunkp = getelementptr %Call, ptr %call, i64 0, i32 7
  %chunk = load i64, ptr %chunkp
  %lanesp = getelementptr %Call, ptr %call, i64 0, i32 8
  %lanes = load i64, ptr %lanesp
  %insp = getelementptr %Call, ptr %call, i64 0, i32 12
  %ins = load ptr, ptr %insp
  %outsp = getelementptr %Call, ptr %call, i64 0, i32 13
  %outs = load ptr, ptr %outsp
  %last = sub i64 %lanes, $width
  %full = add i64 %begin, %chunk
  %end = call i64 @gpusim.min(i64 %full, i64 %groups)
  br label %loop
loop:
  %g = phi i64 [ %begin, %entry ], [ %g1, %loop ]
  %start = mul i64 %g, $width
  %lane = call i64 @gpusim.min(i64 %start, i64 %last)
  call void @group(ptr %ins, ptr %outs, i64 %lane, i64 %lanes) noinline
  %g1 = add i64 %g, 1
  %more = icmp slt i64 %g1, %end
  br i1 %more, label %loop, label %report
report:
  %donep = getelementptr %Call, ptr %call, i64 0, i32 2
  %count = sub i64 %end, %begin
  %old = atomicrmw add ptr %donep, i64 %count release
  ret void
}

; Claims and runs chunks until none are left, or until a %guest finds the cores oversubscribed.
define internal void @gpusim.work(ptr %call, i1 %guest) nounwind {
entry:
  %groupsp = getelementptr %Call, ptr %call, i64 0, i32 6
  %groups = load i64, ptr %groupsp
  %chunkp = getelementptr %Call, ptr %call, i64 0, i32 7
  %chunk = load i64, ptr %chunkp
  %threadsp = getelementptr %Call, ptr %call, i64 0, i32 9
  %threads = load i64, ptr %threadsp
  %pool = load ptr, ptr @gpusim.pool
  %busyp = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %first = call i64 @gpusim.claim(ptr %call)
  %any = icmp slt i64 %first, %groups
  br i1 %any, label %begin, label %nothing
begin:
  call void @gpusim.spawn(ptr %call)
  call void @gpusim.spawn(ptr %call)
  %mode = call i64 @gpusim.fast()
  %t0 = call i64 @gpusim.now()
  br label %loop
loop:
  %at = phi i64 [ %first, %begin ], [ %next, %again ]
  %chunks = phi i64 [ 1, %begin ], [ %chunks1, %again ]
  call void @gpusim.chunk(ptr %call, i64 %at)
  %busy = load atomic i64, ptr %busyp monotonic, align 8
  %crowd = icmp sgt i64 %busy, %threads
  %leave = and i1 %crowd, %guest
  br i1 %leave, label %done, label %again
again:
  %next = call i64 @gpusim.claim(ptr %call)
  %chunks1 = add i64 %chunks, 1
  %more = icmp slt i64 %next, %groups
  br i1 %more, label %loop, label %done
done:
  %t1 = call i64 @gpusim.now()
  call void @gpusim.restore(i64 %mode)
  %ran = mul i64 %chunks, %chunk  ; the last chunk may be shorter: an estimate is enough
  %atmost = call i64 @gpusim.min(i64 %ran, i64 %groups)
  %time = sub i64 %t1, %t0
  %each = udiv i64 %time, %atmost
  %known = call i64 @gpusim.max(i64 %each, i64 1)
  store atomic i64 %known, ptr @gpusim.group_ns monotonic, align 8
  ret void
nothing:
  ret void
}
"""

_THREADS = """
define internal void @gpusim.release(ptr %call) nounwind {
  %refsp = getelementptr %Call, ptr %call, i64 0, i32 4
  %old = atomicrmw sub ptr %refsp, i64 1 acq_rel
  %mine = icmp eq i64 %old, 1
  br i1 %mine, label %last, label %out
last:
  call void @free(ptr %call)
  br label %out
out:
  ret void
}

; What the thread pool runs. It may be late: until it has claimed a chunk only %call is alive.
define internal void @gpusim.task(ptr %call) nounwind {
  %threadsp = getelementptr %Call, ptr %call, i64 0, i32 9
  %threads = load i64, ptr %threadsp
  %pool = load ptr, ptr @gpusim.pool
  %busyp = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %busy = atomicrmw add ptr %busyp, i64 1 monotonic
  %free = icmp slt i64 %busy, %threads
  br i1 %free, label %help, label %leave
help:
  call void @gpusim.work(ptr %call, i1 true)
  br label %leave
leave:
  %was = atomicrmw sub ptr %busyp, i64 1 monotonic
  call void @gpusim.release(ptr %call)
  ret void
}

; Starts one more task, if any are left to start and the pool takes it.
define internal void @gpusim.spawn(ptr %call) nounwind {
  %args = alloca [$sizeof.ThreadPool_Schedule_Args x i8], align 8
  %todop = getelementptr %Call, ptr %call, i64 0, i32 5
  %todo = load atomic i64, ptr %todop monotonic, align 8
  %some = icmp sgt i64 %todo, 0
  br i1 %some, label %take, label %out
take:
  %ticket = atomicrmw sub ptr %todop, i64 1 monotonic
  %mine = icmp sgt i64 %ticket, 0
  br i1 %mine, label %start, label %out
start:
  %refsp = getelementptr %Call, ptr %call, i64 0, i32 4
  %refs = atomicrmw add ptr %refsp, i64 1 monotonic
  %apip = getelementptr %Call, ptr %call, i64 0, i32 10
  %api = load ptr, ptr %apip
  %ctxp = getelementptr %Call, ptr %call, i64 0, i32 11
  %ctx = load ptr, ptr %ctxp
  call void @llvm.memset.p0.i64(ptr %args, i8 0, i64 $sizeof.ThreadPool_Schedule_Args, i1 false)
  store i64 $sizeof.ThreadPool_Schedule_Args, ptr %args
  %ctxf = getelementptr i8, ptr %args, i64 $ThreadPool_Schedule_Args.ctx
  store ptr %ctx, ptr %ctxf
  %taskf = getelementptr i8, ptr %args, i64 $ThreadPool_Schedule_Args.task
  store ptr @gpusim.task, ptr %taskf
  %dataf = getelementptr i8, ptr %args, i64 $ThreadPool_Schedule_Args.data
  store ptr %call, ptr %dataf
  %fp = getelementptr i8, ptr %api, i64 $Api.ThreadPool_Schedule
  %f = load ptr, ptr %fp
  %error = call ptr %f(ptr %args)
  %ok = icmp eq ptr %error, null
  br i1 %ok, label %out, label %refused
refused:
  call void @gpusim.forget(ptr %api, ptr %error)
  call void @gpusim.release(ptr %call)
  br label %out
out:
  ret void
}

declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define internal void @gpusim.forget(ptr %api, ptr %error) nounwind {
  %args = alloca [$sizeof.Error_Destroy_Args x i8], align 8
  call void @llvm.memset.p0.i64(ptr %args, i8 0, i64 $sizeof.Error_Destroy_Args, i1 false)
  store i64 $sizeof.Error_Destroy_Args, ptr %args
  %errorf = getelementptr i8, ptr %args, i64 $Error_Destroy_Args.error
  store ptr %error, ptr %errorf
  %fp = getelementptr i8, ptr %api, i64 $Api.Error_Destroy
  %f = load ptr, ptr %fp
  call void %f(ptr %args)
  ret void
}

; Threads this call may use, the caller included: those of XLA's pool, bounded by the user.
define internal i64 @gpusim.threads(ptr %api, ptr %ctx, i64 %groups) nounwind {
  %args = alloca [$sizeof.ThreadPool_NumThreads_Args x i8], align 8
  %count = alloca i64
  %pool = load ptr, ptr @gpusim.pool
  %cap = load i64, ptr %pool
  %each = load atomic i64, ptr @gpusim.group_ns monotonic, align 8
  %time = mul i64 %each, %groups
  %known = icmp sgt i64 %each, 0
  %fast = icmp slt i64 %time, $spawn_ns
  %short = and i1 %known, %fast
  %single = icmp eq i64 %groups, 1
  %capped = icmp eq i64 %cap, 1
  %a = or i1 %short, %single
  %alone = or i1 %a, %capped
  br i1 %alone, label %one, label %ask
ask:
  call void @llvm.memset.p0.i64(ptr %args, i8 0, i64 $sizeof.ThreadPool_NumThreads_Args, i1 false)
  store i64 $sizeof.ThreadPool_NumThreads_Args, ptr %args
  %ctxf = getelementptr i8, ptr %args, i64 $ThreadPool_NumThreads_Args.ctx
  store ptr %ctx, ptr %ctxf
  %countf = getelementptr i8, ptr %args, i64 $ThreadPool_NumThreads_Args.num_threads
  store ptr %count, ptr %countf
  %fp = getelementptr i8, ptr %api, i64 $Api.ThreadPool_NumThreads
  %f = load ptr, ptr %fp
  %error = call ptr %f(ptr %args)
  %ok = icmp eq ptr %error, null
  br i1 %ok, label %bound, label %none
bound:
  %n = load i64, ptr %count
  %free = icmp eq i64 %cap, 0
  %most = select i1 %free, i64 %n, i64 %cap
  %threads = call i64 @gpusim.min(i64 %n, i64 %most)
  %sane = call i64 @gpusim.max(i64 %threads, i64 1)
  ret i64 %sane
none:
  call void @gpusim.forget(ptr %api, ptr %error)
  br label %one
one:
  ret i64 1
}

; Groups a chunk: about $chunk_ns of work, but at least 4 chunks a thread (16 when in the dark).
define internal i64 @gpusim.chunk_size(i64 %groups, i64 %threads) nounwind {
  %each = load atomic i64, ptr @gpusim.group_ns monotonic, align 8
  %known = icmp sgt i64 %each, 0
  %divisor = call i64 @gpusim.max(i64 %each, i64 1)
  %timed = udiv i64 $chunk_ns, %divisor
  %share = udiv i64 %groups, %threads
  %quarter = udiv i64 %share, 4
  %sixteenth = udiv i64 %share, 16
  %best = call i64 @gpusim.min(i64 %timed, i64 %quarter)
  %want = select i1 %known, i64 %best, i64 %sixteenth
  %chunk = call i64 @gpusim.max(i64 %want, i64 $min_chunk)
  %alone = icmp eq i64 %threads, 1
  %r = select i1 %alone, i64 %groups, i64 %chunk
  ret i64 %r
}
"""

_HANDLER = """
@gpusim.few = internal constant [67 x i8] c"gpusim.lanes: fewer lanes than the kernel's vector width; pad them\\00"
@gpusim.bad = internal constant [66 x i8] c"gpusim.lanes: the buffers do not have the shapes of this kernel  \\00"
define internal ptr @gpusim.error(ptr %api, ptr %message) nounwind {
  %args = alloca [$sizeof.Error_Create_Args x i8], align 8
  call void @llvm.memset.p0.i64(ptr %args, i8 0, i64 $sizeof.Error_Create_Args, i1 false)
  store i64 $sizeof.Error_Create_Args, ptr %args
  %messagef = getelementptr i8, ptr %args, i64 $Error_Create_Args.message
  store ptr %message, ptr %messagef
  %codef = getelementptr i8, ptr %args, i64 $Error_Create_Args.errc
  store i32 3, ptr %codef  ; invalid argument
  %fp = getelementptr i8, ptr %api, i64 $Api.Error_Create
  %f = load ptr, ptr %fp
  %error = call ptr %f(ptr %args)
  ret ptr %error
}

; Leading dimension of a buffer; -1 for a scalar.
define internal i64 @gpusim.leading(ptr %buffer) nounwind {
  %rankp = getelementptr i8, ptr %buffer, i64 $Buffer.rank
  %rank = load i64, ptr %rankp
  %scalar = icmp slt i64 %rank, 1
  br i1 %scalar, label %none, label %some
some:
  %dimsp = getelementptr i8, ptr %buffer, i64 $Buffer.dims
  %dims = load ptr, ptr %dimsp
  %dim = load i64, ptr %dims
  ret i64 %dim
none:
  ret i64 -1
}

; Copies the buffers' data pointers; whether those that %marked says lead with %lanes do so.
define internal i1 @gpusim.collect(ptr %buffers, i64 %n, ptr %marked, i64 %lanes, ptr %to) nounwind {
entry:
  br label %test
test:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  %good = phi i1 [ true, %entry ], [ %good1, %loop ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %loop, label %end
loop:
  %bufferp = getelementptr ptr, ptr %buffers, i64 %i
  %buffer = load ptr, ptr %bufferp
  %datap = getelementptr i8, ptr %buffer, i64 $Buffer.data
  %data = load ptr, ptr %datap
  %slot = getelementptr ptr, ptr %to, i64 %i
  store ptr %data, ptr %slot
  %markp = getelementptr i1, ptr %marked, i64 %i
  %all = icmp eq ptr %marked, null
  %readp = select i1 %all, ptr @gpusim.true, ptr %markp
  %mark = load i1, ptr %readp
  %dim = call i64 @gpusim.leading(ptr %buffer)
  %same = icmp eq i64 %dim, %lanes
  %uniform = xor i1 %mark, true
  %fits = or i1 %same, %uniform
  %good1 = and i1 %good, %fits
  %i1 = add i64 %i, 1
  br label %test
end:
  ret i1 %good
}
@gpusim.true = internal constant i1 true

define ptr @gpusim.handler(ptr %frame) nounwind {
entry:
  %extensionp = getelementptr i8, ptr %frame, i64 $CallFrame.extension_start
  %extension = load ptr, ptr %extensionp
  %real = icmp eq ptr %extension, null
  br i1 %real, label %execute, label %describe

describe:  ; XLA asks which version of its interface we speak
  %metap = getelementptr i8, ptr %extension, i64 $Metadata_Extension.metadata
  %meta = load ptr, ptr %metap
  %majorf = getelementptr i8, ptr %meta, i64 $Metadata.api_version.major_version
  store i32 $major, ptr %majorf
  %minorf = getelementptr i8, ptr %meta, i64 $Metadata.api_version.minor_version
  store i32 $minor, ptr %minorf
  %traitsf = getelementptr i8, ptr %meta, i64 $Metadata.traits
  store i32 0, ptr %traitsf
  ret ptr null

execute:
  %apip = getelementptr i8, ptr %frame, i64 $CallFrame.api
  %api = load ptr, ptr %apip
  %ctxp = getelementptr i8, ptr %frame, i64 $CallFrame.ctx
  %ctx = load ptr, ptr %ctxp
  %nargsp = getelementptr i8, ptr %frame, i64 $CallFrame.args.size
  %nargs = load i64, ptr %nargsp
  %argsp = getelementptr i8, ptr %frame, i64 $CallFrame.args.args
  %args = load ptr, ptr %argsp
  %nretsp = getelementptr i8, ptr %frame, i64 $CallFrame.rets.size
  %nrets = load i64, ptr %nretsp
  %retsp = getelementptr i8, ptr %frame, i64 $CallFrame.rets.rets
  %rets = load ptr, ptr %retsp
  %argsok = icmp eq i64 %nargs, $args
  %retsok = icmp sgt i64 %nrets, 0
  %counts = and i1 %argsok, %retsok
  br i1 %counts, label %measure, label %misfit

measure:
  %ret0 = load ptr, ptr %rets
  %lanes = call i64 @gpusim.leading(ptr %ret0)
  %empty = icmp eq i64 %lanes, 0
  br i1 %empty, label %finished, label %enough
enough:
  %few = icmp slt i64 %lanes, $width
  br i1 %few, label %toofew, label %prepare

prepare:
  %n = add i64 %nargs, %nrets
  %header = getelementptr %Call, ptr null, i64 0, i32 14, i64 %n
  %bytes = ptrtoint ptr %header to i64
  %call = call ptr @malloc(i64 %bytes)
  %ins = getelementptr %Call, ptr %call, i64 0, i32 14
  %outs = getelementptr ptr, ptr %ins, i64 %nargs
  %in = call i1 @gpusim.collect(ptr %args, i64 %nargs, ptr @gpusim.arg_lanes, i64 %lanes, ptr %ins)
  %out = call i1 @gpusim.collect(ptr %rets, i64 %nrets, ptr null, i64 %lanes, ptr %outs)
  %fits = and i1 %in, %out
  br i1 %fits, label %run, label %unfit

run:
  %groups = call i64 @gpusim.ceildiv(i64 %lanes, i64 $width)
  %threads = call i64 @gpusim.threads(ptr %api, ptr %ctx, i64 %groups)
  %chunk = call i64 @gpusim.chunk_size(i64 %groups, i64 %threads)
  %chunks = call i64 @gpusim.ceildiv(i64 %groups, i64 %chunk)
  %workers = call i64 @gpusim.min(i64 %threads, i64 %chunks)
  %helpers = sub i64 %workers, 1
  store atomic i64 0, ptr %call monotonic, align 8
  %donep = getelementptr %Call, ptr %call, i64 0, i32 2
  store i64 0, ptr %donep
  %refsp = getelementptr %Call, ptr %call, i64 0, i32 4
  store i64 1, ptr %refsp
  %todop = getelementptr %Call, ptr %call, i64 0, i32 5
  store i64 %helpers, ptr %todop
  %groupsp = getelementptr %Call, ptr %call, i64 0, i32 6
  store i64 %groups, ptr %groupsp
  %chunkp = getelementptr %Call, ptr %call, i64 0, i32 7
  store i64 %chunk, ptr %chunkp
  %lanesp = getelementptr %Call, ptr %call, i64 0, i32 8
  store i64 %lanes, ptr %lanesp
  %threadsp = getelementptr %Call, ptr %call, i64 0, i32 9
  store i64 %threads, ptr %threadsp
  %capip = getelementptr %Call, ptr %call, i64 0, i32 10
  store ptr %api, ptr %capip
  %cctxp = getelementptr %Call, ptr %call, i64 0, i32 11
  store ptr %ctx, ptr %cctxp
  %insp = getelementptr %Call, ptr %call, i64 0, i32 12
  store ptr %ins, ptr %insp
  %outsp = getelementptr %Call, ptr %call, i64 0, i32 13
  store ptr %outs, ptr %outsp
  %pool = load ptr, ptr @gpusim.pool
  %busyp = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %was = atomicrmw add ptr %busyp, i64 1 monotonic
  call void @gpusim.work(ptr %call, i1 false)
  %is = atomicrmw sub ptr %busyp, i64 1 monotonic
  br label %wait

wait:  ; for chunks that other threads are in the middle of
  %spins = phi i64 [ 0, %run ], [ %spins1, %spin ], [ %spins1, %yield ]
  %done = load atomic i64, ptr %donep acquire, align 8
  %all = icmp eq i64 %done, %groups
  br i1 %all, label %leave, label %pause
pause:
  %spins1 = add i64 %spins, 1
  %patient = icmp slt i64 %spins, 200
  br i1 %patient, label %spin, label %yield
spin:
  call void @gpusim.pause()
  br label %wait
yield:  ; the thread we wait for may need this core
  call i32 @sched_yield()
  br label %wait
leave:
  call void @gpusim.release(ptr %call)
  br label %finished

finished:
  ret ptr null
unfit:
  call void @free(ptr %call)
  br label %misfit
misfit:
  %error1 = call ptr @gpusim.error(ptr %api, ptr @gpusim.bad)
  ret ptr %error1
toofew:
  %error2 = call ptr @gpusim.error(ptr %api, ptr @gpusim.few)
  ret ptr %error2
}
"""
