"""What a world says for speed alone: loops that stay loops, work that nobody beside it needs."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.core
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core as jex
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike

from gpusim.lanes.host import target as host

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


empty_p = jex.Primitive("lanes_empty")
empty_p.def_impl(lambda shape, dtype: jnp.zeros(shape, dtype))
empty_p.def_abstract_eval(lambda shape, dtype: jax.core.ShapedArray(shape, dtype))
mlir.register_lowering(
    empty_p, mlir.lower_fun(lambda shape, dtype: jnp.zeros(shape, dtype), multiple_results=False)
)


def empty(shape: tuple[int, ...], dtype) -> jax.Array:
    """An array of which no number is read before it is written: as `jnp.zeros`, but in a kernel
    nobody writes the zeros, and a number that is read all the same may be anything.
    """
    return empty_p.bind(shape=tuple(shape), dtype=jnp.dtype(dtype))


any_world_p = jex.Primitive("any_world")
any_world_p.def_impl(lambda x: x)
any_world_p.def_abstract_eval(lambda x: x)
batching.defvectorized(any_world_p)
ad.primitive_jvps[any_world_p] = lambda primals, tangents: (any_world_p.bind(*primals), *tangents)
mlir.register_lowering(any_world_p, lambda ctx, x: [x])


def side_by_side() -> int:
    """How many worlds a kernel computes side by side at most, here: on a GPU each is alone."""
    return host.host().vector_bits // 32 if jax.default_backend() == "cpu" else 1


def any_world(x: ArrayLike) -> jax.Array:
    """Whether x, a bool (), is true in this world, or in one that is computed beside it.

    All worlds of a group of lanes have the same answer, so that a branch on it is a jump and merges
    nothing, and a place counted by it is one address for all lanes. Which worlds are beside each
    other is not for a program to know: what it gives must not depend on it, as work does not whose
    results are zero where x is false. Outside a kernel, and on a GPU, no world has another beside
    it: the answer is x.
    """
    return any_world_p.bind(jnp.asarray(x, bool))
