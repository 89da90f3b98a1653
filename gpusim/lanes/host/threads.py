"""LLVM IR that spreads the groups of one call over threads.

- The caller and tasks on XLA's own thread pool claim chunks of groups from one atomic counter.
  The call returns when every group is done; nobody waits for a task that has not started, so a
  busy or absent pool costs speed and never progress.
- A task may start after the call has returned. So the `Call` it looks at lives on the heap and
  counts its references.
- Whoever finds work first starts two more tasks, while any are left: 64 threads wake up in 6
  rounds. Having claimed work keeps the call, and with it XLA's context, alive meanwhile.
- `Pool.busy` counts the threads at work in the process. A call starts no more tasks than fit, and
  a task that would oversubscribe the cores leaves, so XLA devices under `pmap` share them.
- The last group overlaps the one before when the width does not divide the lanes. Groups are
  pure, so both threads write equal values, and no tail needs masks.
- Denormals count as zero inside groups: decaying systems otherwise run 5 to 8 times slower.
"""

from __future__ import annotations

import time

SPAWN_NS = 20_000  # a call shorter than this is not worth waking a thread for
CHUNK_NS = 10_000  # against this, claiming a chunk (about 0.1 us) is nothing
CACHE_LINE_LANES = 16  # float32 lanes in a cache line: chunks do not share the lines they write

# The atomic counters come first: what every chunk reads is then on another cache line.
STRUCTS = """
struct Call {
  int64_t next;        // chunk to be claimed next
  int64_t done;        // groups done
  int64_t references;  // the caller and all tasks that have been started
  int64_t tasks;       // still to be started
  void* api;           // XLA's functions
  void* ctx;           // and its context, valid until the call returns
  int64_t threads;     // the call may use, the caller included
  int64_t unused;
  int64_t lanes;
  int64_t groups;
  int64_t chunk;       // groups in a chunk
  void* ins;           // data pointer of each argument
  void* outs;          // and of each result
}
struct Pool {
  int64_t limit;       // most threads for one call
  int64_t busy;        // threads at work in this process
}
"""

WORK = """
@gpusim.pool = global ptr null          ; the process's Pool
@gpusim.group_ns = internal global i64 0  ; time of one group, as last measured; 0: not yet
declare void @free(ptr)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)

define internal i64 @gpusim.now() nounwind {  ; monotonic clock, ns
  %time = alloca [2 x i64]
  call i32 @clock_gettime(i32 1, ptr %time)
  %s = load i64, ptr %time
  %fraction = getelementptr i64, ptr %time, i64 1
  %ns = load i64, ptr %fraction
  %scaled = mul i64 %s, 1000000000
  %now = add i64 %scaled, %ns
  ret i64 %now
}

; Claims the next chunk: its first group, which is past the last one when all are taken.
define internal i64 @gpusim.claim(ptr %call) nounwind {
  %chunk = get %call Call.chunk
  %next = ref %call Call.next
  %n = atomicrmw add ptr %next, i64 1 monotonic
  %group = mul i64 %n, %chunk
  ret i64 %group
}

; Runs the chunk that starts with a group and returns how many groups that were.
define internal i64 @gpusim.run(ptr %call, i64 %begin) nounwind {
entry:
  %lanes = get %call Call.lanes
  %groups = get %call Call.groups
  %chunk = get %call Call.chunk
  %ins = get %call Call.ins
  %outs = get %call Call.outs
  %last = sub i64 %lanes, $width
  %full = add i64 %begin, %chunk
  %end = call i64 @llvm.smin.i64(i64 %full, i64 %groups)
  br label %loop
loop:
  %group = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %start = mul i64 %group, $width
  %lane = call i64 @llvm.smin.i64(i64 %start, i64 %last)
  call void @group(ptr %ins, ptr %outs, i64 %lane, i64 %lanes) noinline
  %next = add i64 %group, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %exit
exit:
  %ran = sub i64 %end, %begin
  ret i64 %ran
}

; Claims and runs chunks until all are taken, or until a %guest finds the cores oversubscribed.
define internal void @gpusim.work(ptr %call, i1 %guest) nounwind {
entry:
  %groups = get %call Call.groups
  %threads = get %call Call.threads
  %pool = load ptr, ptr @gpusim.pool
  %busy = ref %pool Pool.busy
  %first = call i64 @gpusim.claim(ptr %call)
  %any = icmp slt i64 %first, %groups
  br i1 %any, label %begin, label %exit
begin:
  call void @gpusim.start(ptr %call)
  call void @gpusim.start(ptr %call)
  %mode = call i64 @gpusim.flush_denormals()
  %t0 = call i64 @gpusim.now()
  br label %loop
loop:
  %group = phi i64 [ %first, %begin ], [ %next, %again ]
  %before = phi i64 [ 0, %begin ], [ %ran, %again ]
  %count = call i64 @gpusim.run(ptr %call, i64 %group)
  %ran = add i64 %before, %count
  %working = load atomic i64, ptr %busy monotonic, align 8
  %crowded = icmp sgt i64 %working, %threads
  %leave = and i1 %crowded, %guest
  br i1 %leave, label %report, label %again
again:
  %next = call i64 @gpusim.claim(ptr %call)
  %more = icmp slt i64 %next, %groups
  br i1 %more, label %loop, label %report
report:
  %t1 = call i64 @gpusim.now()
  call void @gpusim.restore(i64 %mode)
  %time = sub i64 %t1, %t0
  %each = udiv i64 %time, %ran
  %known = call i64 @llvm.smax.i64(i64 %each, i64 1)
  store atomic i64 %known, ptr @gpusim.group_ns monotonic, align 8
  %done = ref %call Call.done
  atomicrmw add ptr %done, i64 %ran release  ; the caller may return from here on
  br label %exit
exit:
  ret void
}

; The caller's part: works, then waits for the chunks that others are in the middle of.
define internal void @gpusim.call(ptr %call) nounwind {
entry:
  %groups = get %call Call.groups
  %done = ref %call Call.done
  %pool = load ptr, ptr @gpusim.pool
  %busy = ref %pool Pool.busy
  atomicrmw add ptr %busy, i64 1 monotonic
  call void @gpusim.work(ptr %call, i1 false)
  atomicrmw sub ptr %busy, i64 1 monotonic
  br label %wait
wait:
  %spins = phi i64 [ 0, %entry ], [ %spun, %spin ], [ %spun, %yield ]
  %finished = load atomic i64, ptr %done acquire, align 8
  %all = icmp eq i64 %finished, %groups
  br i1 %all, label %exit, label %patience
patience:
  %spun = add i64 %spins, 1
  %brief = icmp slt i64 %spun, 200
  br i1 %brief, label %spin, label %yield
spin:
  call void @gpusim.pause()
  br label %wait
yield:  ; those we wait for may need this core
  call i32 @sched_yield()
  br label %wait
exit:
  call void @gpusim.release(ptr %call)
  ret void
}
"""

TASKS = """
define internal void @gpusim.release(ptr %call) nounwind {
  %references = ref %call Call.references
  %were = atomicrmw sub ptr %references, i64 1 acq_rel
  %last = icmp eq i64 %were, 1
  br i1 %last, label %drop, label %exit
drop:
  call void @free(ptr %call)
  br label %exit
exit:
  ret void
}

; What the pool runs, perhaps late: only %call itself is sure to be alive.
define internal void @gpusim.task(ptr %call) nounwind {
  %threads = get %call Call.threads
  %pool = load ptr, ptr @gpusim.pool
  %busy = ref %pool Pool.busy
  %working = atomicrmw add ptr %busy, i64 1 monotonic
  %room = icmp slt i64 %working, %threads
  br i1 %room, label %help, label %leave
help:
  call void @gpusim.work(ptr %call, i1 true)
  br label %leave
leave:
  atomicrmw sub ptr %busy, i64 1 monotonic
  call void @gpusim.release(ptr %call)
  ret void
}

; Starts one more task, if one is left to start and the pool takes it.
define internal void @gpusim.start(ptr %call) nounwind {
  %tasks = ref %call Call.tasks
  %left = load atomic i64, ptr %tasks monotonic, align 8
  %some = icmp sgt i64 %left, 0
  br i1 %some, label %take, label %exit
take:
  %ticket = atomicrmw sub ptr %tasks, i64 1 monotonic
  %mine = icmp sgt i64 %ticket, 0
  br i1 %mine, label %schedule, label %exit
schedule:
  %references = ref %call Call.references
  atomicrmw add ptr %references, i64 1 monotonic
  %api = get %call Call.api
  %ctx = get %call Call.ctx
  %error = xla %api ThreadPool_Schedule ctx=%ctx task=@gpusim.task data=%call
  %ok = icmp eq ptr %error, null
  br i1 %ok, label %exit, label %refused
refused:
  xla %api Error_Destroy error=%error
  call void @gpusim.release(ptr %call)
  br label %exit
exit:
  ret void
}

; Threads that a call of so many groups may use, the caller included.
define internal i64 @gpusim.threads(ptr %api, ptr %ctx, i64 %groups) nounwind {
  %size = alloca i64
  %pool = load ptr, ptr @gpusim.pool
  %limit = get %pool Pool.limit
  %each = load atomic i64, ptr @gpusim.group_ns monotonic, align 8
  %time = mul i64 %each, %groups
  %fast = icmp slt i64 %time, $spawn_ns
  %known = icmp sgt i64 %each, 0
  %short = and i1 %known, %fast
  %single = icmp eq i64 %groups, 1
  %alone = or i1 %short, %single
  br i1 %alone, label %one, label %ask
ask:
  %error = xla %api ThreadPool_NumThreads ctx=%ctx num_threads=%size
  %ok = icmp eq ptr %error, null
  br i1 %ok, label %bound, label %refused
bound:
  %all = load i64, ptr %size
  %fewer = call i64 @llvm.smin.i64(i64 %all, i64 %limit)
  %threads = call i64 @llvm.smax.i64(i64 %fewer, i64 1)
  ret i64 %threads
refused:
  xla %api Error_Destroy error=%error
  br label %one
one:
  ret i64 1
}

; How many of the threads are not at work on other calls; at least 1, the caller.
define internal i64 @gpusim.room(i64 %threads) nounwind {
  %pool = load ptr, ptr @gpusim.pool
  %busy = ref %pool Pool.busy
  %working = load atomic i64, ptr %busy monotonic, align 8
  %idle = sub i64 %threads, %working
  %room = call i64 @llvm.smax.i64(i64 %idle, i64 1)
  ret i64 %room
}

; Groups in a chunk: worth $chunk_ns, but at least 4 chunks a thread, or 16 when in the dark.
define internal i64 @gpusim.chunk(i64 %groups, i64 %threads) nounwind {
  %each = load atomic i64, ptr @gpusim.group_ns monotonic, align 8
  %known = icmp sgt i64 %each, 0
  %divisor = call i64 @llvm.smax.i64(i64 %each, i64 1)
  %timed = udiv i64 $chunk_ns, %divisor
  %share = udiv i64 %groups, %threads
  %quarter = udiv i64 %share, 4
  %sixteenth = udiv i64 %share, 16
  %best = call i64 @llvm.smin.i64(i64 %timed, i64 %quarter)
  %some = select i1 %known, i64 %best, i64 %sixteenth
  %chunk = call i64 @llvm.smax.i64(i64 %some, i64 $min_chunk)
  %alone = icmp eq i64 %threads, 1
  %size = select i1 %alone, i64 %groups, i64 %chunk
  ret i64 %size
}
"""


def parameters(width: int) -> dict[str, object]:
    """What the texts' $names stand for, for groups of `width` lanes."""
    return {
        "width": width,
        "min_chunk": max(1, CACHE_LINE_LANES // width),
        "spawn_ns": SPAWN_NS,
        "chunk_ns": CHUNK_NS,
        "clock": time.CLOCK_MONOTONIC,
    }
