"""Primitives that are programs of JAX themselves: their definition is traced and becomes nodes."""

import functools

import jax

from gpusim.lanes import jaxprs
from gpusim.lanes.scalarize import Scalarizer, rule


def defined(name: str, definition):
    """Gives primitive `name` a rule: definition(*operands, **parameters of the equation)."""

    @rule(name)
    def _(s: Scalarizer, eqn, *operands):
        out = run(s, definition, eqn, operands, **eqn.params)
        assert len(out) == len(eqn.outvars)
        return out


def run(s: Scalarizer, definition, eqn, operands, *, ndim: int | None = None, **params):
    """The results of definition(*operands, **params) on the operands of an equation.

    With `ndim` the definition is for a first operand of so many dimensions, and all have the same
    further ones in front.
    """
    specs = tuple((v.aval.shape, v.aval.dtype) for v in eqn.invars)
    stacked = 0 if ndim is None else len(specs[0][0]) - ndim
    x64 = jax.config.read("jax_enable_x64")  # changes what is traced
    jaxpr, consts = _traced(definition, stacked, tuple(params.items()), specs, x64)
    return s.run(jaxpr, consts, operands)


@functools.lru_cache(maxsize=256)
def _traced(definition, stacked: int, params, specs, _):
    """Its program for arguments of these shapes and dtypes."""
    fn = functools.partial(definition, **dict(params))
    for _ in range(stacked):
        fn = jax.vmap(fn)
    structs = [jax.ShapeDtypeStruct(*spec) for spec in specs]
    # whatever the user asks of programs of their own
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        jaxpr, consts, _ = jaxprs.trace(fn, *structs)
    return jaxpr, consts
