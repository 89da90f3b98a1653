"""LLVM IR of the function that XLA calls for a CUDA kernel: it launches it and returns.

The launch is one entry in XLA's stream, so the handler neither waits nor allocates, and says so
(trait 0, "compatible with command buffers"): XLA may record the launch into a CUDA graph.
"""

import string

from gpusim.lanes.host import abi, handler

LAUNCH = "gpusim.launch"  # the handler's `Launch` struct, to be filled in after loading
VERSION = 2  # of what this module and nvidia.py expect of each other
COMMAND_BUFFER_COMPATIBLE = 1

# Where the driver and the kernel are in this process.
STRUCTS = """
struct Launch {
  void* kernel;        // CUkernel: good on every device
  void* launch;        // cuLaunchKernel
  void* name;          // cuGetErrorName
  size_t processors;   // of the device with the fewest (streaming multiprocessors)
}
"""
WARP = 32  # threads that run together: no block has fewer


def handler_ir(arg_lanes: tuple[bool, ...], results: int, block: int, header: str) -> str:
    """Module text: launches `kernel(args..., results..., i64 lanes)`, a thread a lane.

    `arg_lanes`: for each argument whether its leading axis is the lanes. `block`: threads in a
    block at most, a power of 2 from 32 on. `header`: XLA's c_api.h.

    Threads of a block run the same instructions at nearly the same time and so share what is
    fetched of them, which is what a long kernel waits for. So blocks are large, unless that leaves
    more than a tenth of the processors without one.
    """
    layout = abi.Abi(header + STRUCTS)
    args = len(arg_lanes)
    values = {
        "args": args,
        "results": results,
        "pointers": args + results,
        "parameters": args + results + 1,
        "block": block,
        "warp": WARP,
        "failed": handler.c_string("gpusim.lanes: cuLaunchKernel failed: %s (%d)"),
    }
    begin = handler.opening(layout, arg_lanes, traits=COMMAND_BUFFER_COMPATIBLE)
    return abi.expand(begin + string.Template(_LAUNCH).substitute(values), layout)


# The kernel's parameters are given by their addresses. The stream decides on which device it runs.
_LAUNCH = """
enough:
  %all = icmp eq i64 %nrets, $results
  %pointers = alloca [$pointers x ptr]
  %addresses = alloca [$parameters x ptr]
  %lanesp = alloca i64
  %namep = alloca ptr
  %message = alloca [200 x i8]
  br i1 %all, label %collect, label %misfit
collect:
  %outs = getelementptr ptr, ptr %pointers, i64 $args
  %inok = call i1 @gpusim.collect(ptr %args, i64 $args, i64 1, i64 %lanes, ptr %pointers)
  %outok = call i1 @gpusim.collect(ptr %rets, i64 $results, i64 0, i64 %lanes, ptr %outs)
  %ok = and i1 %inok, %outok
  br i1 %ok, label %parameters, label %misfit
parameters:
  %k = phi i64 [ 0, %collect ], [ %k1, %parameters ]
  %parameter = getelementptr ptr, ptr %pointers, i64 %k
  %address = getelementptr ptr, ptr %addresses, i64 %k
  store ptr %parameter, ptr %address
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, $pointers
  br i1 %more, label %parameters, label %launch
launch:
  store i64 %lanes, ptr %lanesp
  %last = getelementptr ptr, ptr %addresses, i64 $pointers
  store ptr %lanesp, ptr %last
  %nostream = xla %api Stream_Get ctx=%ctx
  %streamless = icmp ne ptr %nostream, null
  br i1 %streamless, label %nodevice, label %ready
nodevice:
  ret ptr %nostream
ready:
  %stream = get %nostream.args Stream_Get_Args.stream
  %processors = get @gpusim.launch Launch.processors
  %most = mul i64 %processors, 9
  br label %divide
divide:
  %block = phi i64 [ $block, %ready ], [ %half, %divide ]
  %half = udiv i64 %block, 2
  %sum = add i64 %lanes, %block
  %less = sub i64 %sum, 1
  %blocks = udiv i64 %less, %block
  %tenths = mul i64 %blocks, 10
  %few = icmp ult i64 %tenths, %most
  %divisible = icmp ugt i64 %block, $warp
  %smaller = and i1 %few, %divisible
  br i1 %smaller, label %divide, label %decided
decided:
  %threads = trunc i64 %block to i32
  %grid = trunc i64 %blocks to i32
  %kernel = get @gpusim.launch Launch.kernel
  %cuLaunchKernel = get @gpusim.launch Launch.launch
  %status = call i32 %cuLaunchKernel(ptr %kernel, i32 %grid, i32 1, i32 1,
                                     i32 %threads, i32 1, i32 1, i32 0, ptr %stream,
                                     ptr %addresses, ptr null)
  %launched = icmp eq i32 %status, 0
  br i1 %launched, label %finished, label %failed
failed:
  store ptr @gpusim.unknown, ptr %namep
  %cuGetErrorName = get @gpusim.launch Launch.name
  %found = call i32 %cuGetErrorName(i32 %status, ptr %namep)
  %known = load ptr, ptr %namep
  %nameless = icmp eq ptr %known, null
  %name = select i1 %nameless, ptr @gpusim.unknown, ptr %known
  %length = call i32 (ptr, i64, ptr, ...) @snprintf(ptr %message, i64 200, ptr @gpusim.failed,
                                                    ptr %name, i32 %status)
  %error = xla %api Error_Create message=%message errc=13
  ret ptr %error
}
@gpusim.launch = global [4 x i64] zeroinitializer
@gpusim.failed = internal constant $failed
@gpusim.unknown = internal constant [14 x i8] c"unknown error\\00"
declare i32 @snprintf(ptr, i64, ptr, ...)
"""
