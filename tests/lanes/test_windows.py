"""Windows over arrays, convolutions, and reductions by functions of the user's, against XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.lanes.agreement import agree

CORNERS = {"window_strides": (2, 1), "padding": ((1, 2), (0, 1))}
SPREAD = {"base_dilation": (2, 1), "window_dilation": (1, 2)}


def pooled(x, op, **options):
    start = {lax.add: 0, lax.mul: 1, lax.max: -jnp.inf, lax.min: jnp.inf}[op]
    return lax.reduce_window(x, x.dtype.type(start), op, (2, 3), **options)


def test_pooling():
    def fn(x):
        plain = [pooled(x, op, window_strides=(1, 2), padding="SAME") for op in (lax.add, lax.max)]
        spread = [pooled(x, op, **CORNERS, **SPREAD) for op in (lax.add, lax.mul, lax.max, lax.min)]
        negative = pooled(x, lax.add, window_strides=(1, 1), padding=((-1, 0), (0, -2)))
        none = pooled(x[:1], lax.max, window_strides=(1, 1), padding="VALID")
        return plain, spread, negative, none

    agree(fn, (5, 6))


def test_pooling_of_other_numbers():
    def fn(x):
        whole = (10 * x).astype("int32")
        pool = lambda v, start, op: lax.reduce_window(v, start, op, (2, 2), (1, 1), "SAME")
        low = np.int32(np.iinfo(np.int32).min)
        return (
            pool(whole, low, lax.max),
            pool(whole, np.int32(0), lax.add),
            pool(x > 0, False, lax.max),
        )

    agree(fn, (4, 5))


def test_pooling_by_a_function():
    def fn(x):
        number = x.dtype.type
        fading = lambda a, b: 0.5 * a + b
        both = lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1]))
        starts = (number(0), number(-9))
        return (
            lax.reduce_window(x, number(0.25), fading, (3,), (1,), "VALID"),
            lax.reduce_window((x, 2 * x), starts, both, (3,), (2,), "SAME"),
        )

    # a kernel folds a window from its first place on, and so does XLA on a CPU
    agree(fn, (9,))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_derivatives_of_pooling(padding):
    options = {"window_strides": (2, 2), "padding": padding}

    def fn(x, t):
        largest = lambda x: pooled(x, lax.max, **options)
        cost = lambda x: (pooled(x, lax.max, **options) ** 2 + pooled(x, lax.add, **options)).sum()
        smallest = lambda x: (pooled(x, lax.min, **options) ** 3).sum()
        return jax.jvp(largest, (x,), (t,)), jax.grad(cost)(x), jax.grad(smallest)(x)

    agree(fn, (4, 7), (4, 7))


def test_reduction_by_a_function():
    def fn(x):
        number = x.dtype.type
        place = jnp.arange(x.size).reshape(x.shape)

        def best(a, b):
            larger = a[0] >= b[0]
            return jnp.maximum(a[0], b[0]), jnp.where(larger, a[1], b[1])

        starts = (number(-99), np.array(-1, place.dtype))
        return (
            lax.reduce(x, number(2), lambda a, b: a * b, (0,)),
            lax.reduce((x, place), starts, best, (1,)),
            lax.reduce((x, place), starts, best, (0, 1)),
            lax.reduce(x > 0, True, jnp.logical_and, (1,)),
        )

    agree(fn, (3, 4))


CONVOLUTIONS = [
    ((2, 3, 9), (4, 3, 3), ((2,), "SAME"), {}),
    ((2, 3, 9), (4, 3, 3), ((1,), "VALID"), {}),
    ((1, 2, 6, 7), (4, 2, 3, 2), ((1, 2), "SAME"), {}),
    ((1, 3, 5, 5), (2, 3, 2, 2), ((2, 1), ((1, 2), (-1, 1)), (1, 2), (2, 1)), {}),
    ((2, 4, 4, 5), (6, 2, 2, 2), ((1, 1), "SAME"), {"feature_group_count": 2}),
    ((2, 3, 4, 5), (6, 3, 2, 2), ((1, 1), "SAME"), {"batch_group_count": 2}),
    ((2, 4, 5, 3), (2, 2, 3, 4), ((1, 1), "SAME"), {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}),
    ((1, 2, 3, 3, 3), (2, 2, 2, 2, 2), ((1, 1, 1), "VALID"), {}),
]


@pytest.mark.parametrize(("image", "kernel", "args", "options"), CONVOLUTIONS)
def test_convolution(image, kernel, args, options):
    agree(lambda x, k: lax.conv_general_dilated(x, k, *args, **options), image, kernel, worlds=5)


def test_convolutions_of_the_library():
    def fn(x, k, v, w):
        layout = ("NHWC", "HWIO", "NHWC")
        cost = lambda x, k: (lax.conv(x, k, (1, 2), "SAME") ** 2).sum()
        turned = lax.conv_transpose(x, k, (2, 2), "SAME", dimension_numbers=layout)
        short = [f(v, w, mode=m) for f in (jnp.convolve, jnp.correlate) for m in ("full", "same")]
        return turned, jax.grad(cost, (0, 1))(x, jnp.swapaxes(k, 0, 3)), short

    agree(fn, (2, 3, 4, 3), (3, 3, 3, 3), (9,), (4,), worlds=5)
