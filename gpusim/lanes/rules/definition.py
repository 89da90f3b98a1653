"""Primitives that are programs of JAX themselves: their definition is traced and becomes nodes."""

import functools

import jax
import numpy as np

from gpusim.lanes import jaxprs
from gpusim.lanes.scalarize import Scalarizer, places, rule


def defined(name: str, definition):
    """Gives primitive `name` a rule: definition(*operands, **parameters of the equation)."""

    @rule(name)
    def _(s: Scalarizer, eqn, *operands):
        out = run(s, definition, eqn, operands, **eqn.params)
        assert len(out) == len(eqn.outvars)
        return out


def run(s: Scalarizer, definition, eqn, operands, *, ndim: int | None = None, **params):
    """The results of definition(*operands, **params) on the operands of an equation.

    With `ndim` the definition is for a first operand of so many dimensions, and is run for every
    index of the further ones that all operands have in front.
    """
    shape = eqn.invars[0].aval.shape
    stack = shape[: len(shape) - ndim] if ndim is not None else ()
    specs = tuple((v.aval.shape[len(stack) :], v.aval.dtype) for v in eqn.invars)
    x64 = jax.config.read("jax_enable_x64")  # changes what is traced
    jaxpr, consts = _traced(definition, tuple(params.items()), specs, x64)
    if not stack:
        return s.run(jaxpr, consts, operands)
    out = [np.empty(v.aval.shape, np.int64) for v in eqn.outvars]
    for at in places(stack):
        for x, result in zip(out, s.run(jaxpr, consts, [x[at] for x in operands]), strict=True):
            x[at] = result
    return out


@functools.lru_cache(maxsize=256)
def _traced(definition, params, specs, _):
    """Its program for arguments of these shapes and dtypes."""
    fn = functools.partial(definition, **dict(params))
    structs = [jax.ShapeDtypeStruct(*spec) for spec in specs]
    # whatever the user asks of programs of their own
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        jaxpr, consts, _ = jaxprs.trace(fn, *structs)
    return jaxpr, consts
