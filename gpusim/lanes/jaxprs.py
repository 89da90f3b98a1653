"""What differs between JAX versions, in one place: how programs inside equations are stored, and
the few private names of JAX that lanes need.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import api_util, checkify, config, core, dispatch, source_info_util
from jax._src.sharding_impls import ShardingContext
from jax.extend import core as jex
from jax.extend.core import Literal
from jax.interpreters import ad
from jax.interpreters import partial_eval as pe

ERROR_CHECKS = checkify.error_checks  # by primitive: its errors, and its results


def checked(program, given):
    """What a rule of `checkify` gives for a program, from what the rule is given: a context (from
    JAX 0.12 on), the errors so far, which kinds are looked for, and the operands.
    """
    k = next(k for k, x in enumerate(given) if isinstance(x, checkify.Error))
    error, enabled, *leaves = given[k:]
    leaves = [x if hasattr(x, "dtype") else jnp.asarray(x) for x in leaves]
    jaxpr = jax.make_jaxpr(program)(*leaves)
    return checkify.checkify_jaxpr(*given[:k], jaxpr, enabled, error, *leaves)


def shape_of(x):
    """What `jax.eval_shape` takes for an array, or for what is known of one."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=getattr(x, "weak_type", False))


def trace(fn, *args):
    """(jaxpr, consts) of fn on arguments of these shapes and dtypes, and the structure of its
    result.
    """
    return trace_call(fn, args, {}, ())


def trace_call(fn, args, kwargs, static_argnums):
    """The same of a call with keyword arguments, of which some positional ones are static."""
    program = jax.make_jaxpr(fn, static_argnums=static_argnums, return_shape=True)
    with config.eager_constant_folding(False):  # a kernel computes its constants itself
        closed, shape = program(*args, **kwargs)
    # As long as JAX's own form of a NumPy array lives, JAX takes it for that array, even if
    # jax_enable_x64 has changed and another dtype is wanted. So what is kept are copies.
    consts = [c.copy() if isinstance(c, np.ndarray) else c for c in closed.consts]
    jaxpr = closed.jaxpr
    if hasattr(jaxpr, "with_consts"):  # from JAX 0.12 on a jaxpr has its constants
        jaxpr = jaxpr.with_consts(consts)
    return jaxpr, consts, jax.tree.structure(shape)


def trace_context() -> tuple:
    """What a function means depends on, apart from its arguments: JAX's flags, meshes, mapped axes.

    It is the key of JAX's own traces, with what JAX leaves out of it: the kind of new random keys.
    """
    return (
        *config.trace_context(),
        flag("jax_default_prng_impl"),
        flag("jax_enable_custom_prng"),
    )


def flag(name: str):
    """The value of one of JAX's flags, here and now."""
    return getattr(jax.config, name)


def static_arguments(fn, nums, names) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Positions and names of the static arguments of fn, one made of the other as by `jax.jit`."""
    signature = api_util.fun_signature(fn)
    return api_util.resolve_argnums(fn, signature, None, None, nums, names)[2:]


def restrict(jaxpr, consts, results: Sequence[int]):
    """(jaxpr, consts) of some of the results alone, and the numbers of the arguments it takes."""
    wanted = [k in results for k in range(len(jaxpr.outvars))]
    smaller, used_consts, used = pe.dce_jaxpr_consts(jaxpr, wanted)
    consts = [c for c, u in zip(consts, used_consts, strict=True) if u]
    return smaller, consts, [k for k, u in enumerate(used) if u]


def passed(jaxpr) -> list[int | None]:
    """For each result, which argument it simply is."""
    place = {v: k for k, v in enumerate(jaxpr.invars)}
    return [None if isinstance(v, Literal) else place.get(v) for v in jaxpr.outvars]


def side_effect(jaxpr):
    """The first equation that does more than compute its results, or None."""
    eqn = next((eqn for eqn in jaxpr.eqns if eqn.effects), None)
    subs = jex.jaxprs_in_params(eqn.params) if eqn else ()
    return next(filter(None, (side_effect(open_jaxpr(sub)[0]) for sub in subs)), eqn)


def mapped_axes(eqn) -> list:
    """The names of the mapped axes that the equation reaches along."""
    return [effect.name for effect in eqn.effects if isinstance(effect, core.NamedAxisEffect)]


def depends(jaxpr, marked: Sequence[bool]) -> list[bool]:
    """Which results can change with the marked arguments: those that `jax.vmap` over these gives an
    axis.
    """
    moving = {v for v, m in zip(jaxpr.invars, marked, strict=True) if m}
    moves = lambda v: not isinstance(v, Literal) and v in moving
    for eqn in jaxpr.eqns:
        ins = [moves(v) for v in eqn.invars]
        if any(ins):
            moving.update(v for v, m in zip(eqn.outvars, _eqn_depends(eqn, ins), strict=True) if m)
    return [moves(v) for v in jaxpr.outvars]


def _eqn_depends(eqn, ins: list[bool]) -> list[bool]:
    """Which results of the equation can change with the marked operands."""
    p, name = eqn.params, eqn.primitive.name
    # `restrict` could not take its results apart, or its derivative may need more than its results
    if eqn.primitive not in pe.dce_rules or name in ("custom_jvp_call", "custom_vjp_call"):
        return [True] * len(eqn.outvars)
    inner = [open_jaxpr(sub)[0] for sub in jex.jaxprs_in_params(p)]
    if name == "scan":
        nc, nk = scan_counts(p)
        return _carried(inner[0], ins[:nc], ins[nc : nc + nk], ins[nc + nk :])
    if name == "cond" and not ins[0]:
        return [any(marks) for marks in zip(*(depends(j, ins[1:]) for j in inner), strict=True)]
    if len(inner) == 1 and len(inner[0].invars) == len(ins):
        return depends(inner[0], ins)
    return [True] * len(eqn.outvars)


def _carried(body, consts: list[bool], carry: list[bool], xs: list[bool]) -> list[bool]:
    """`depends` of a scan: what is carried depends on what it was made of in any trip, and on what
    it began as.
    """
    while True:
        outs = depends(body, [*consts, *carry, *xs])
        after = [a or b for a, b in zip(carry, outs[: len(carry)], strict=True)]
        if after == carry:
            return after + outs[len(carry) :]
        carry = after


def jvp(fn: Callable, primals, tangents) -> tuple[list, list]:
    """`jax.jvp` of a function of flat arguments whose tangents, and those of the results, may be
    symbolic zeros.
    """
    with jex.take_current_trace() as parent:
        trace = ad.JVPTrace(parent, jex.TraceTag())
        inputs = [
            x if type(t) is ad.Zero else ad.JVPTracer(trace, x, t)
            for x, t in zip(primals, tangents, strict=True)
        ]
        with jex.set_current_trace(trace):
            results = fn(*inputs)
        pairs = [trace.to_primal_tangent_pair(y) for y in results]
    return [p for p, _ in pairs], [t for _, t in pairs]


def needs_devices(primitive) -> None:
    """The lowering rule of the primitive is told the devices, which `is_spread` looks at."""
    dispatch.prim_requires_devices_during_lowering.add(primitive)


def is_spread(ctx) -> bool:
    """Whether what a lowering rule lowers is for XLA to partition over several devices."""
    where = ctx.module_context.axis_context
    return (
        isinstance(where, ShardingContext)
        and where.num_devices > 1
        and where.abstract_mesh is not None
    )


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
    """Whether it is of random keys."""
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def key_impl(dtype):
    """The generator that random keys of this dtype are for: its name, key_shape and functions."""
    return dtype._impl


def is_nothing(aval) -> bool:
    """Whether it has no elements, or is the tangent of an integer."""
    return 0 in aval.shape or aval.dtype == jax.dtypes.float0


def nothing(aval):
    """An array of a type that `is_nothing`."""
    if is_key(aval.dtype):
        impl = key_impl(aval.dtype)
        return jax.random.wrap_key_data(jnp.zeros(aval.shape + impl.key_shape, "uint32"), impl=impl)
    return (np if aval.dtype == jax.dtypes.float0 else jnp).zeros(aval.shape, aval.dtype)


def foreign_keys(jaxpr) -> str | None:
    """The kind of the first random keys in the program that are not two words, or None."""
    made = itertools.chain.from_iterable(eqn.outvars for eqn in jaxpr.eqns)
    for v in itertools.chain(jaxpr.constvars, jaxpr.invars, made):
        dtype = getattr(v.aval, "dtype", None)
        if is_key(dtype) and key_impl(dtype).key_shape != (2,):
            return key_impl(dtype).name
    subs = (jex.jaxprs_in_params(eqn.params) for eqn in jaxpr.eqns)
    inside = (foreign_keys(open_jaxpr(sub)[0]) for sub in itertools.chain.from_iterable(subs))
    return next(filter(None, inside), None)


def world_aval(aval, size: int, places):
    """The abstract value of `size` worlds' values, of the abstract value of one; over a mesh with
    explicit axes they are in the first of these places that there is.
    """
    return jex.unmapped_aval(size, 0, aval, next(filter(None, places), None))


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
