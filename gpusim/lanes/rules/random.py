"""Rules for random numbers: keys are pairs of uint32."""

import jax
import numpy as np
from jax._src import random as jax_random

from gpusim.lanes import jaxprs
from gpusim.lanes import math as lane_math
from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.rules.definition import defined
from gpusim.lanes.scalarize import rule


@rule("threefry2x32")
def _threefry(s, eqn, *operands):
    operands = np.broadcast_arrays(*operands)
    pairs = zip(*(x.ravel().tolist() for x in operands), strict=True)
    both = np.array([lane_math.threefry2x32(s.g, *xs) for xs in pairs], np.int64)
    return list(both.T.reshape(2, *operands[0].shape))


@rule("random_wrap")
def _random_wrap(s, eqn, data):
    return [s.keys(data)]


@rule("random_unwrap")
def _random_unwrap(s, eqn, keys):
    return [s.key_data(keys)]


@rule("random_clone")
def _random_clone(s, eqn, keys):
    return [keys]


@rule("random_bits", "random_split", "random_fold_in", "random_seed")
def _random(s, eqn, x, *rest):
    """Runs the generator's own definition (threefry, jax.random's default) on the key's words."""
    name, p = eqn.primitive.name, eqn.params
    impl = p["impl"] if "impl" in p else dtype_of(eqn)._impl
    if impl.key_shape != (2,):
        raise s.error(f"random keys of kind '{impl.name}' are not supported (use threefry2x32)")
    if name == "random_seed":
        one, operands, keys_out = impl.seed, [x], True
    elif name == "random_fold_in":
        x, number = np.broadcast_arrays(x, *rest)  # one of them may go with all of the other
        one, operands, keys_out = impl.fold_in, [s.key_data(x), number], True
    elif name == "random_split":
        one, operands, keys_out = (
            (lambda k: impl.split(k, tuple(p["shape"]))),
            [s.key_data(x)],
            True,
        )
    else:
        one, operands, keys_out = (
            (lambda k: impl.random_bits(k, p["bit_width"], tuple(p["shape"]))),
            [s.key_data(x)],
            False,
        )
    fn = one
    for _ in range(x.ndim):
        fn = jax.vmap(fn)
    dtypes = [np.uint32] + [np.dtype(v.aval.dtype) for v in eqn.invars[1:]]
    if name == "random_seed":
        dtypes[0] = np.dtype(dtype_of(eqn))
    specs = [jax.ShapeDtypeStruct(o.shape, d) for o, d in zip(operands, dtypes, strict=True)]
    jaxpr, consts, _ = jaxprs.trace(fn, *specs)
    (out,) = s.run(jaxpr, consts, operands)
    return [s.keys(out) if keys_out else out]


# where it is depends on JAX's version
_gamma_impl = getattr(getattr(jax_random, "core", jax_random), "_gamma_impl")  # noqa: B009


def _gamma(key, a, *, log_space):
    """Number after number, as each is drawn until one is accepted."""
    return [_gamma_impl(key, a, log_space=log_space, use_vmap=False)]


defined("random_gamma", _gamma)
