"""Programs that would cost too much run through XLA, say so, and give the same numbers."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gpusim import lanes
from gpusim.lanes import budget, loops
from tests.lanes.agreement import lane_function

TABLE = np.arange(1_000_001.0, dtype="float32")
X = np.linspace(-1, 1, 24).reshape(8, 3).astype("float32")


def long(x):
    for k in range(40):
        x = jnp.tanh(x * 1.1 + k)
    return x


def large(x):
    return jnp.asarray(TABLE)[(x * 2).astype(int)] + x


def wide(x):
    """Stores into an array of a megabyte a world."""
    add = lambda k, y: y.at[k].add(x[0] + y[k - 1])
    y = lanes.fori_loop(0, 100, add, jnp.zeros(250_000))
    return y[jnp.int32(x[0] + 3) + jnp.arange(3)]


def lowered(fn) -> str:
    return jax.jit(jax.vmap(fn)).lower(X).as_text()


@pytest.mark.parametrize(
    ("fn", "seconds", "says"),
    [
        (long, 0.01, "more than 130 operations; keep"),
        (large, 1, "1,000,001 numbers; make"),
        (wide, 1, r"\d.\d MiB for"),
    ],
)
def test_what_is_too_large_runs_through_xla(fn, seconds, says):
    for f in (lanes.kernel(fn, budget=seconds), jax.jit(lanes.kernel(fn, budget=seconds))):
        match = rf"kernel\({fn.__name__}\).*XLA.*{says}"
        with pytest.warns(lanes.LanesWarning, match=match) as warned:
            text = lowered(f)
        assert [w.filename for w in warned] == [__file__]  # the caller's line, not one inside
        assert "gpusim_lanes_" not in text
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # said once
            mapped = jax.vmap(f)(X)
        np.testing.assert_allclose(mapped, jax.vmap(fn)(X), rtol=1e-5, atol=1e-6)
        with pytest.warns(lanes.LanesWarning):  # alone it is another kernel
            one = f(X[0])
        np.testing.assert_allclose(one, fn(X[0]), rtol=1e-5, atol=1e-6)


def test_the_budget_is_the_functions_or_the_environments(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "gpusim_lanes_" in lowered(lanes.kernel(long))
        monkeypatch.setenv("GPUSIM_LANES_BUDGET", "0.01")
        assert "gpusim_lanes_" in lowered(lanes.kernel(long, budget=30))
    with pytest.warns(lanes.LanesWarning):
        lowered(lanes.kernel(long))


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_what_is_no_budget(text, monkeypatch):
    monkeypatch.setenv("GPUSIM_LANES_BUDGET", text)
    with pytest.raises(ValueError, match=f"GPUSIM_LANES_BUDGET='{text}': give seconds"):
        lowered(lanes.kernel(long))
    with pytest.raises(ValueError, match="budget=0: give the seconds"):
        lanes.kernel(long, budget=0)


def test_a_long_block_takes_longer_than_the_same_in_pieces():
    line = "  %a = fadd float %b, %c\n"
    block = "define void @f() {\nentry:\n" + line * 136_000 + "}\n"
    pieces = "define void @f() {\nentry:\n" + ("next:\n" + line * 1_000) * 136 + "}\n"
    budget.check_text(pieces, 10)
    with pytest.raises(budget.TooLarge, match=r"LLVM would need 5\d s for its 136,003 instr"):
        budget.check_text(block, 30)


# --- loops that stay loops ---


def unrolled(x):
    return lax.fori_loop(0, 9, lambda k, x: x * x + k, x)


def rolled(x):
    return loops.fori_loop(0, 9, lambda k, x: x * x + k, x)


def test_a_loop_stays_a_loop():
    ops = lambda fn: lane_function(fn, ()).graph((True,))[0].op
    assert "loop" not in ops(unrolled)
    assert "loop" in ops(rolled)
    for fn in (lambda x: x, jax.grad, lambda f: lambda x: jax.jvp(f, (x,), (x,))[1]):
        np.testing.assert_allclose(fn(lanes.kernel(rolled))(0.1), fn(unrolled)(0.1), rtol=1e-5)
        np.testing.assert_allclose(lanes.kernel(fn(rolled))(0.1), fn(unrolled)(0.1), rtol=1e-5)
    assert "loop" in ops(jax.grad(rolled))
