"""Hand-written groups for the tests of the host runtime, and how to call what they become.

Buffers are lane-minor: element (k, lane) is at `k * lanes + lane`.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.typing import ArrayLike

from gpusim.lanes.host import target as host


def call(name: str, *outs: jax.ShapeDtypeStruct):
    """The function of a loaded group: logical (lanes, ...) arrays that lie lane-minor in memory."""

    def minor_first(ndim: int) -> tuple[int, ...]:
        return (*range(1, ndim), 0) if ndim else ()

    def function(*args: ArrayLike) -> Sequence[jax.Array]:
        return jax.ffi.ffi_call(
            name,
            outs,
            input_layouts=[minor_first(np.ndim(arg)) for arg in args],
            output_layouts=[minor_first(len(out.shape)) for out in outs],
        )(*args)

    return function


def load(body: str, *, width: int, arg_lanes=(True,), rest: str = "") -> str:
    """Target of a group whose entry block is `body`; in it %x and %o are the first buffers."""
    text = f"""
    define void @group(ptr %ins, ptr %outs, i64 %lane, i64 %lanes) nounwind {{
    entry:
      %x = load ptr, ptr %ins
      %o = load ptr, ptr %outs
      {body}
    }}
    {rest}"""
    return host.load(text, width=width, arg_lanes=arg_lanes)


def affine(width: int) -> str:
    """out[lane, k] = 2 x[lane, k] + u[0] for k < 3, where u is the same in all lanes."""
    vector = f"<{width} x float>"
    body = f"""
      %up = getelementptr ptr, ptr %ins, i64 1
      %u = load ptr, ptr %up
      %scalar = load float, ptr %u
      %first = insertelement {vector} poison, float %scalar, i32 0
      %all = shufflevector {vector} %first, {vector} poison, <{width} x i32> zeroinitializer
      br label %loop
    loop:
      %k = phi i64 [ 0, %entry ], [ %k1, %loop ]
      %row = mul i64 %k, %lanes
      %i = add i64 %row, %lane
      %from = getelementptr float, ptr %x, i64 %i
      %to = getelementptr float, ptr %o, i64 %i
      %a = load {vector}, ptr %from, align 4
      %b = fmul {vector} %a, splat (float 2.0)
      %c = fadd {vector} %b, %all
      store {vector} %c, ptr %to, align 4
      %k1 = add i64 %k, 1
      %more = icmp slt i64 %k1, 3
      br i1 %more, label %loop, label %end
    end:
      ret void"""
    return load(body, width=width, arg_lanes=(True, False))


def iterated(steps: int) -> str:
    """out[lane, 0] = x after `steps` times x -> x/2 + 1; 16 lanes wide, about 3 ns a step."""
    body = f"""
      %from = getelementptr float, ptr %x, i64 %lane
      %to = getelementptr float, ptr %o, i64 %lane
      %a = load <16 x float>, ptr %from, align 4
      br label %loop
    loop:
      %k = phi i64 [ 0, %entry ], [ %k1, %loop ]
      %b = phi <16 x float> [ %a, %entry ], [ %d, %loop ]
      %c = fmul <16 x float> %b, splat (float 0.5)
      %d = fadd <16 x float> %c, splat (float 1.0)
      %k1 = add i64 %k, 1
      %more = icmp slt i64 %k1, {steps}
      br i1 %more, label %loop, label %end
    end:
      store <16 x float> %d, ptr %to, align 4
      ret void"""
    return load(body, width=16)


def thread_ids(*, sleep: int = 0) -> str:
    """out[lane, 0] = the thread that computed the lane, after `sleep` us; one lane wide."""
    body = f"""
      %to = getelementptr i32, ptr %o, i64 %lane
      {f"call i32 @usleep(i32 {sleep})" if sleep else ""}
      %id = call i32 @gettid()
      store i32 %id, ptr %to, align 4
      ret void"""
    return load(body, width=1, rest="declare i32 @gettid()\ndeclare i32 @usleep(i32)")
