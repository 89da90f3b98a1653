"""Primitives that are programs of JAX themselves: their definition is traced and becomes nodes."""

import functools

import jax

from gpusim.lanes import jaxprs
from gpusim.lanes.scalarize import Scalarizer, rule


def defined(name: str, definition):
    """Gives primitive `name` a rule: definition(*operands, **parameters of the equation)."""

    @rule(name)
    def _(s: Scalarizer, eqn, *operands):
        return run(s, definition, eqn, operands)


def run(s: Scalarizer, definition, eqn, operands):
    """The results of a definition on the operands of an equation."""
    specs = tuple((v.aval.shape, v.aval.dtype) for v in eqn.invars)
    params = tuple(sorted(eqn.params.items()))
    jaxpr, consts = _traced(definition, params, specs, jax.config.read("jax_enable_x64"))
    return s.run(jaxpr, consts, operands)


@functools.lru_cache(maxsize=256)
def _traced(definition, params, specs, _):
    """Its program for arguments of these shapes and dtypes; the last argument, whether there are
    64-bit numbers, changes it too.
    """
    structs = [jax.ShapeDtypeStruct(*spec) for spec in specs]
    jaxpr, consts, _ = jaxprs.trace(functools.partial(definition, **dict(params)), *structs)
    return jaxpr, consts
