"""What differs between JAX versions, in one place: how programs inside equations are stored."""

import math

import jax
from jax._src import core, source_info_util
from jax.extend.core import Literal


def trace(fn, *args):
    """(jaxpr, consts) of fn on arguments of these shapes and dtypes, and the structure of its
    result.
    """
    closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
    return closed.jaxpr, closed.consts, jax.tree.structure(shape)


def flow(jaxpr) -> tuple[list[int], list[int | None]]:
    """Which arguments some equation reads; and for each result, which argument it simply is."""
    read = {v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal)}
    # a program with side effects is not taken apart: it will be refused as a whole
    place = {} if jaxpr.effects else {v: k for k, v in enumerate(jaxpr.invars)}
    passed = [None if isinstance(v, Literal) else place.get(v) for v in jaxpr.outvars]
    return [k for k, v in enumerate(jaxpr.invars) if v in read], passed


def open_jaxpr(j):
    """(jaxpr, consts) of a closed jaxpr, or of an open one (JAX 0.12 keeps those in loops)."""
    return (j.jaxpr, list(j.consts)) if hasattr(j, "jaxpr") else (j, [])


def scan_counts(params) -> tuple[int, int]:
    """Numbers of constants and of carried values of a scan (`num_consts`, `num_carry`; from JAX
    0.12 on `ft_in`).
    """
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))


def is_key(dtype) -> bool:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def result_aval(shape, dtype, operands):
    """Abstract result of an operation; inside shard_map it differs over the mesh axes its operands
    differ over.
    """
    for x in operands:
        manual = getattr(x, "manual_axis_type", None)
        if manual is not None and manual.varying:
            here = core.get_cur_mesh_sharding()
            return core.ShapedArray(shape, dtype, sharding=here, manual_axis_type=manual)
    return core.ShapedArray(shape, dtype)


def user_line(eqn) -> str:
    """`file:line (function)` of the user's code that made the equation."""
    try:
        return source_info_util.summarize(eqn.source_info)
    except Exception:  # a message must not fail because JAX moved its private helper
        return "unknown line"


def multiplications(eqn) -> int:
    """How many a `dot_general` takes."""
    (summed, _), _ = eqn.params["dimension_numbers"]
    return math.prod((*eqn.outvars[0].aval.shape, *(eqn.invars[0].aval.shape[d] for d in summed)))


def is_heavier(jaxpr, limit: int) -> bool:
    """Whether the program is more than about `limit` scalar operations, each loop body counted
    once.
    """
    return _weight(jaxpr, limit) > limit


def _weight(jaxpr, limit: int) -> int:
    """About how many operations it is; just more than `limit` if it is more."""
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name.startswith("reduce_"):
            total += math.prod(eqn.invars[0].aval.shape)
        else:
            size = sum(math.prod(v.aval.shape) for v in eqn.outvars if hasattr(v.aval, "shape"))
            total += multiplications(eqn) if name == "dot_general" else size
        for value in eqn.params.values():
            for sub in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(sub, "jaxpr", sub)
                if hasattr(inner, "eqns"):
                    total += _weight(inner, limit - total)
        if total > limit:
            break
    return total
