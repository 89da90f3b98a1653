"""Loops that stay loops."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax.ad_checkpoint import checkpoint_name

T = TypeVar("T")
ROLLED = "gpusim.rolled"  # the name of the counter of a loop that is not to be unrolled


def fori_loop(lower, upper, body: Callable[[jax.Array, T], T], init: T) -> T:
    """`jax.lax.fori_loop` that a kernel does not unroll, however small its body is.

    A kernel writes the trips of a loop with few operations one after the other. That is fastest for
    a handful, and much code for hundreds; as a loop they are compiled once, arrays that `body`
    changes at its counter stay in memory, and a branch that no world takes costs a test. `body`
    has to use its counter. Outside a kernel it is `jax.lax.fori_loop`.
    """
    return jax.lax.fori_loop(lower, upper, lambda i, x: body(checkpoint_name(i, ROLLED), x), init)
