"""Compares a kernel with the same function mapped by XLA."""

import jax
import jax.numpy as jnp
import numpy as np

from gpusim import lanes
from gpusim.lanes.function import LaneFunction
from gpusim.lanes.kernel import Trace

# some roundings of the largest magnitude in play; 1e-12 in float64 separates a bug from rounding
TOLERANCE = {"float32": 4e-6, "float64": 1e-12}


def draw(shapes, dtype, worlds, seed=0, scale=1.0):
    """Normally distributed arguments, one world after the other along the first axis."""
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(worlds, *s)) * scale).astype(dtype) for s in shapes]


def lane_function(fn, *shapes) -> LaneFunction:
    """What is compiled of a function of float32 arrays of these shapes."""
    return Trace(fn, [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]).function


def assert_same(actual, expected, tolerance=None, each=False):
    """Equal to rounding of the largest number of an array, or (`each`) of every number."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, e = jax.random.key_data(a), jax.random.key_data(e)
        if not np.issubdtype(a.dtype, np.floating):
            np.testing.assert_array_equal(a, e)
            continue
        bound = tolerance or TOLERANCE[a.dtype.name]
        scale = 1.0 if each else np.max(np.abs(e), initial=1.0, where=np.isfinite(e))
        np.testing.assert_allclose(a, e, rtol=bound, atol=bound * scale)


def agree(fn, *shapes, worlds=19, dtypes=("float32", "float64"), scale=1.0, args=None):
    """fn compiled to lanes equals fn mapped by XLA, in both precisions, for a lane count with a
    tail.
    """
    with jax.enable_x64(True):
        for dtype in dtypes:
            given = args or draw(shapes, dtype, worlds, scale=scale)
            given = [
                jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else x.dtype)
                for x in given
            ]
            actual = jax.jit(jax.vmap(lanes.kernel(fn)))(*given)
            assert_same(actual, jax.jit(jax.vmap(fn))(*given), each=args is not None)
