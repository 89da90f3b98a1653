"""Choices that are made once, numbers that are used where they are made."""

from collections import Counter
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.lanes.program.constants import FLOATS
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.liveness import count_uses
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.program.passes import bring_forward, choose_once
from tests.lanes.agreement import agree, lane_function


def graph_of(fn, *shapes):
    """The graph of a function of float32 arrays, and its results."""
    g, outputs = lane_function(fn, *shapes).graph((True,) * len(shapes))
    return g, [o.node for o in outputs]


def operations(fn, *shapes):
    """How many of each operation are left of it."""
    g, results = graph_of(fn, *shapes)
    uses = count_uses(g, results)
    choose_once(g, uses)
    return Counter(op for n, op in enumerate(g.op) if uses[n])


def test_a_call_again_is_not_run_again():
    """The loop of a function called twice with the same numbers is there once."""

    @jax.jit
    def count(x):
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: 2 * y + 1, x)

    def loops(fn):
        g, _ = graph_of(fn, (3,))
        return g.op.count("loop")

    assert loops(lambda x: count(x) + count(x)) == 1
    assert loops(lambda x: count(x) + count(-x)) == 2
    agree(lambda x: count(x) + count(jnp.cos(x)) * count(x), (3,))

    def in_a_branch(x):  # what is computed there is not known outside
        start = jnp.ones(3, x.dtype)
        work = lambda x: jnp.sum(jnp.outer(x, jnp.arange(200, dtype=x.dtype)))
        branch = lambda x: work(x) * count(start)
        return jax.lax.cond(x[0] > 0, branch, lambda x: x, x) + count(start)

    agree(in_a_branch, (3,))


def twice_chosen(x, y):
    """A square root of positive numbers only, as is usual for the sake of its derivative."""
    safe = jnp.where(x > 0, x, 1)
    return jnp.where(x > 0, jnp.sqrt(safe) * y, 0)


def test_what_is_chosen_twice_is_chosen_once():
    assert operations(twice_chosen, (), ())["select"] == 1
    agree(twice_chosen, (3,), (3,))


def test_what_is_also_used_elsewhere_is_left_alone():
    def fn(x, y):
        root = jnp.sqrt(jnp.where(x > 0, x, 1))
        return jnp.where(x > 0, root * y, 0), root + y

    assert operations(fn, (), ())["select"] == 2
    agree(fn, (3,), (3,))


def test_both_arms_and_nested_choices():
    def fn(x, y):
        c, d = x > 0, y > 0
        a = jnp.where(c, x, y)
        b = jnp.where(d, a * a, a - 1)
        return jnp.where(c, jnp.where(d, b + a, b), jnp.where(d, a, b * a)), jnp.where(~c, a, b)

    agree(fn, (4,), (4,))


def test_a_condition_of_a_loop_is_seen():
    """The number that the loop ends by is chosen like the result."""

    def fn(x):
        c = x > 0
        size = jnp.where(c, x, -x)
        y = jax.lax.while_loop(lambda y: y < size * size, lambda y: y * 1.5, 0.01 + 0 * x)
        return jnp.where(c, y * size * size, 0)

    agree(fn, ())


def safe_norm(x):
    """As in Brax."""
    none = jnp.allclose(x, 0)
    return jnp.linalg.norm(x + none * 1.0) * (1.0 - none)


def test_norms_that_avoid_zero():
    """A comparison for each number, and one choice at the end."""
    left = operations(safe_norm, (7,))
    assert (left["fcmp"], left["select"], left["fadd"]) == (7, 1, 6)
    rows = np.random.default_rng(0).normal(size=(20, 7)) * np.array([0, 1e-9, 1, 1e3] * 5)[:, None]
    rows[-1, 3] = np.nan
    agree(lambda x: (safe_norm(x), jax.vmap(safe_norm)(x.reshape(7, 1))), args=[rows])


def test_masks_are_choices():
    def fn(x, y):
        c = x > y
        sign = c * 2 - 1
        number = jnp.float32(sign) * (3 - c)
        return c * x, (1 - c) * y, sign, number, c * c * y, (x > 0) * c * x, -1.0 * c, c + c

    left = operations(fn, (), ())
    assert left["fmul"] == left["mul"] == left["zext"] == left["uitofp"] == 0
    agree(fn, (3,), (3,))


def test_results_of_a_loop_are_used_right_behind_it():
    n = 17

    def fn(a, b):
        c = a @ b
        return jnp.abs(c), (c * c).sum()

    g, results = graph_of(fn, (n, n), (n, n))
    uses = count_uses(g, results)
    before = sorted(n for n in g.root.nodes if uses[n])
    bring_forward(g, g.root, uses)
    assert sorted(g.root.nodes) == before
    assert_known_before_used(g, g.root)
    after_first = g.root.nodes[[g.op[n] for n in g.root.nodes].index("loop") + 1 :]
    until_second = after_first[: [g.op[n] for n in after_first].index("loop")]
    assert sum(g.op[n] == "fabs" for n in until_second) == 16  # of the first tile, 4 by 4
    agree(fn, (n, n), (n, n), worlds=5)


def assert_known_before_used(g: Graph, region: Region):
    seen = set()
    for n in region.nodes:
        made_of = [g.args[a][0] if g.op[a] == "result" else a for a in g.args[n]]
        assert all(a in seen or a not in region.nodes for a in made_of)
        seen.add(n)


def test_long_sums_are_in_the_order_of_the_tiles():
    """The squares of a tile are added while its numbers are in registers."""
    g, results = graph_of(lambda a, b: (lambda c: (c * c).sum())(a @ b), (17, 17), (17, 17))
    bring_forward(g, g.root, count_uses(g, results))
    kinds = [g.op[n] for n in g.root.nodes if g.type[n] in FLOATS or g.op[n] == "loop"]
    loops = [k for k, op in enumerate(kinds) if op == "loop"]
    between = [kinds[a:b].count("fadd") for a, b in pairwise(loops)]
    assert between[0] == 16 - 4  # four chains begin
    assert min(between[1:]) >= 1
