"""Loops that stay loops, whatever their size: one body of code for many constraints or geoms.

Their counter is the same in all worlds, so what they read at it is one load for all of them; what
they write at it stays where it is in memory.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gpusim import lanes
from gpusim.physics.linalg import Array

_CHUNK = 8


def loop(n: int, body: Callable[[Array, Any], Any], init: Any) -> Any:
    """body(k, carry) for k in 0..n-1."""
    if not n:
        return init
    return lanes.fori_loop(0, n, body, init)


def loop_to(count: Array, body: Callable[[Array, Any], Any], init: Any, start: Array = 0) -> Any:
    """body(k, carry) for k in start..count-1, where both are the same in worlds side by side."""
    return lanes.fori_loop(jnp.asarray(start, jnp.int32), count, body, init)


def loop_while(n: int, count: Array, body: Callable[[Array, Any], Any], init: Any) -> Any:
    """body(k, carry) for k in 0..count-1, where count (at most n) may be a world's own.

    Trips that no world wants are jumped over, eight at a time.
    """
    keep = lambda k, carry: carry

    def trips(first: Array, size: int, carry: Any) -> Any:
        trip = lambda j, carry: lax.cond(first + j < count, body, keep, first + j, carry)
        return loop(size, trip, carry)

    def chunk(c: Array, carry: Any) -> Any:
        first = c * _CHUNK
        some = lambda carry: trips(first, _CHUNK, carry)
        return lax.cond(first < count, some, lambda carry: carry, carry)

    whole = n // _CHUNK * _CHUNK
    carry = loop(n // _CHUNK, chunk, init)
    return trips(jnp.asarray(whole), n - whole, carry)


def at(x: Array, k: Array) -> jax.Array:
    """x[k], for a k that is inside x."""
    return lax.dynamic_index_in_dim(
        jnp.asarray(x), k, 0, keepdims=False, allow_negative_indices=False
    )


def put(x: jax.Array, k: Array, value: Array) -> jax.Array:
    """x with x[k] = value, or the beginning of x[k] if there are fewer numbers."""
    row = lax.expand_dims(jnp.asarray(value, x.dtype), (0,))
    start = k, *(jnp.zeros_like(k) for _ in row.shape[1:])
    return lax.dynamic_update_slice(x, row, start, allow_negative_indices=False)
