"""Statements that move the numbers of arrays about, and that read and write them at indices known
at run time: of any integer dtype, in range or far outside.
"""

from tests.lanes.composed.values import HUGE, INFINITE, Unsuitable, Value, common, finer, statement

READS = [  # an element of a vector, or several
    *("{0}[{1}]|jnp.take({0}, {1}, mode='clip')|jnp.take({0}, {1}, mode='wrap')").split("|"),
    *("{0}.at[{1}].get(mode='clip')|{0}.at[{1}].get(mode='fill', fill_value=True)").split("|"),
    *("{0}[{1} % {0}.shape[0]]|jnp.take({0}, {1}, mode='fill', fill_value=0)").split("|"),
]
LONG = [t for t in READS if "take" in t and "wrap" not in t]  # also of arrays that are `too_long`
WRITES = [  # the second operand is the index, the third is written
    *("{0}.at[{1}].set({2})|{0}.at[{1}].add({2})|{0}.at[{1}].set({2}, mode='drop')").split("|"),
    *("{0}.at[{1}].set({2}, mode='clip')|{0}.at[{1}].max({2})|{0}.at[{1}].min({2})").split("|"),
    *("{0}.at[{1}].add({2}, mode='clip')|{0}.at[{1} % {0}.shape[0]].set({2})").split("|"),
    *("lax.dynamic_update_index_in_dim({0}, {2}, {1}, 0)|{0}.at[{1}].mul({2})").split("|"),
    "{0}.at[{1}].subtract({2})",
]
NUMERIC = ("add", "mul", "subtract")  # writes that booleans do not have
MOVES = {  # of a vector: template -> the shape of the result
    "{0}[::-1]": lambda n: (n,),
    "{0}[:2]": lambda n: (min(n, 2),),
    "{0}[1:]": lambda n: (n - 1,),
    "{0}[-1:]": lambda n: (1,),
    "{0}[::2]": lambda n: (-(-n // 2),),
    "{0}[jnp.array([0, -1])]": lambda n: (2,),
    "{0}[None]": lambda n: (1, n),
    "{0}[:, None]": lambda n: (n, 1),
    "jnp.expand_dims({0}, 0)": lambda n: (1, n),
    "jnp.roll({0}, 1)": lambda n: (n,),
    "jnp.tile({0}, 2)": lambda n: (2 * n,),
    "jnp.repeat({0}, 2)": lambda n: (2 * n,),
    "jnp.pad({0}, (1, 2), mode='edge')": lambda n: (n + 3,),
    "jnp.stack([{0}, {0}])": lambda n: (2, n),
    "jnp.concatenate([{0}, {0}[:1]])": lambda n: (n + 1,),
    "jnp.broadcast_to({0}, (2, {0}.shape[0]))": lambda n: (2, n),
}
MOVES_OF_MATRICES = {
    "{0}.T": lambda m, n: (n, m),
    "{0}.ravel()": lambda m, n: (m * n,),
    "{0}.reshape({0}.shape[1], {0}.shape[0])": lambda m, n: (n, m),
    "{0}[0]": lambda m, n: (n,),
    "{0}[-1]": lambda m, n: (n,),
    "{0}[:, 0]": lambda m, n: (m,),
    "{0}[:, ::-1]": lambda m, n: (m, n),
    "jnp.flip({0}, 1)": lambda m, n: (m, n),
    "jnp.roll({0}, 1, 0)": lambda m, n: (m, n),
    "jnp.diagonal({0})": lambda m, n: (min(m, n),),
    "jnp.tril({0})": lambda m, n: (m, n),
    "jnp.concatenate([{0}, {0}], 1)": lambda m, n: (m, 2 * n),
}
READS_OF_MATRICES = {
    "{0}[{1}]": lambda m, n: (n,),
    "{0}[:, {1}]": lambda m, n: (m,),
    "{0}[{1}, {2}]": lambda m, n: (),
    "{0}[{1}, 0]": lambda m, n: (),
    "{0}.at[{1}, {2}].get(mode='clip')": lambda m, n: (),
    "jnp.take({0}, {1}, axis=1, mode='clip')": lambda m, n: (m,),
    "lax.dynamic_slice({0}, ({1}, {1}), (1, 1))": lambda m, n: (1, 1),
}
EMPTY = {  # of a matrix: what has no numbers, and what is reduced of that
    "{0}[:0]": lambda m, n: (0, n),
    "{0}[:0].sum(1)": lambda m, n: (0,),
    "{0}[:0].max(1)": lambda m, n: (0,),
    "{0}[:0].sum(0)": lambda m, n: (n,),
    "{0}[:, :0].sum(1)": lambda m, n: (m,),
    "{0}[:0].prod()": lambda m, n: (),
}
# of one number
FUNCTIONS = [("lambda a: a * 0.5 + 1.0", 6), ("jnp.sin", 1), ("lambda a: a - 1", 5)]


def too_long(x: Value, i: Value) -> bool:
    """Whether x has more numbers than an index of this type can hold, which JAX itself refuses in
    places, and XLA takes for other places, even outside of x.
    """
    return x.size > 127 and i.dtype in ("int8", "uint8")


def element(g, x: Value) -> Value:
    """A scalar to be written into x."""
    like = x._replace(shape=(), bound=min(x.bound, 8))
    return g.converted(g.pick(lambda v: g.converts(v, like)), like)


# -- movement --------------------------------------------------------------------------------------


@statement(3)
def movement(g):
    dims, moves = g.rng.choice([(1, MOVES), (1, MOVES), (2, MOVES_OF_MATRICES)])
    x, template = g.some(dims, most=40), g.rng.choice(list(moves))
    shape = moves[template](*x.shape)
    if 0 in shape:
        raise Unsuitable
    g.add(template, x, shape=shape)


@statement(1)
def joined(g):
    x = g.some(1, most=40)
    y = g.some(1, most=40, dtype=x.dtype, special=False)
    known = {"bound": max(x.bound, y.bound), "grid": common(x, y)}
    g.add("jnp.concatenate([{0}, {1}])", x, y, shape=(x.size + y.size,), **known)


@statement(0.7)
def padded(g):
    x = g.some(1, most=40, floating=True)
    low, high, inner = g.rng.randint(0, 2), g.rng.randint(-1, 2), g.rng.randint(0, 2)
    n = x.size + (x.size - 1) * inner + low + high
    if n < 1:
        raise Unsuitable
    template = f"lax.pad({{0}}, jnp.{x.dtype}(0.5), (({low}, {high}, {inner}),))"
    g.add(template, x, shape=(n,), bound=max(x.bound, 1), grid=x.grid and max(x.grid, 1))


@statement(0.8)
def empty(g):
    x, template = g.some(2, floating=True, special=False), g.rng.choice(list(EMPTY))
    g.add(template, x, shape=EMPTY[template](*x.shape), bound=1, grid=0 if x.exact else None)


# -- reading at an index ---------------------------------------------------------------------------


@statement(7)
def read(g):
    x, i, template = g.some(1, HUGE), g.whole(()), g.rng.choice(READS)
    if too_long(x, i) and template not in LONG:
        raise Unsuitable
    g.add(template, x, i, shape=(), bound=max(x.bound, 1))


@statement(1)
def read_several(g):
    x, i, template = g.some(1), g.whole(1), g.rng.choice(READS)
    if i.size > 8 or (too_long(x, i) and template not in LONG):
        raise Unsuitable
    g.add(template, x, i, shape=i.shape, bound=max(x.bound, 1))


@statement(1.5)
def read_matrix(g):
    x, template = g.some(2, most=40), g.rng.choice(list(READS_OF_MATRICES))
    g.add(template, x, g.whole(()), g.whole(()), shape=READS_OF_MATRICES[template](*x.shape))


@statement(2)
def window(g):
    x, i = g.some(1, HUGE), g.whole(())
    if too_long(x, i):  # XLA adds such indices up, and they wrap around
        raise Unsuitable
    size = g.rng.randint(1, min(x.size, 5))
    slices = (
        f"lax.dynamic_slice({{0}}, ({{1}},), ({size},))",
        f"lax.dynamic_slice_in_dim({{0}}, {{1}}, {size})",
    )
    g.add(g.rng.choice(slices), x, i, shape=(size,))


# -- writing at an index ---------------------------------------------------------------------------


@statement(6)
def write(g):
    x, i = g.some(1, HUGE), g.whole(())
    y, template = element(g, x), g.rng.choice(WRITES)
    multiplies = "mul" in template
    if too_long(x, i) or (multiplies and (g.smooth or x.special)):
        raise Unsuitable
    if x.dtype == "bool" and any(name in template for name in NUMERIC):
        raise Unsuitable
    grid = finer(x, y) if multiplies else common(x, y)
    bound = x.bound * y.bound if multiplies else x.bound + y.bound
    g.add(template, x, i, y, bound=bound if x.floating else INFINITE, grid=grid)


@statement(1.5)
def write_by_function(g):
    """`.at[].apply`, of which JAX has no derivative."""
    x, i = g.bounded(g.some(1, floating=True, special=False), 4), g.whole(())
    if g.smooth or too_long(x, i):
        raise Unsuitable
    where = g.rng.choice(["{1}", "1:3", "0", "jnp.array([0, -1])"])
    function, bound = g.rng.choice(FUNCTIONS)
    grid = x.grid + 2 if x.exact and function != "jnp.sin" else None
    g.add(f"{{0}}.at[{where}].apply({function})", x, i, bound=max(x.bound, bound), grid=grid)


@statement(1)
def write_several(g):
    """At places that may coincide."""
    x, i, op = g.some(1, special=False), g.whole(1), g.rng.choice(["add", "max", "min"])
    if x.dtype == "bool" or i.size > 8 or too_long(x, i) or (g.smooth and op != "add"):
        raise Unsuitable
    y = g.shaped(element(g, x), i.shape)
    bound = x.bound + i.size * y.bound if x.floating else INFINITE
    g.add(f"{{0}}.at[{{1}}].{op}({{2}})", x, i, y, bound=bound, grid=common(x, y))


@statement(1)
def write_window(g):
    x, i = g.some(1, HUGE, special=False), g.whole(())
    if too_long(x, i):
        raise Unsuitable
    y = g.shaped(element(g, x), (g.rng.randint(1, min(3, x.size)),))
    known = {"bound": max(x.bound, y.bound), "grid": common(x, y)}
    g.add("lax.dynamic_update_slice({0}, {1}, ({2},))", x, y, i, **known)


@statement(1)
def write_matrix(g):
    x = g.some(2, special=False)
    x = g.bounded(x, 8) if x.floating else x
    if x.dtype == "bool":
        raise Unsuitable
    y, op = element(g, x), g.rng.choice(["set", "add", "set"])
    places = ["{2}, {3}", "{2}", ":, {2}", "0, {3}", "jnp.array([0, -1]), {2}", "{2}, {3} % 2"]
    where = g.rng.choice(places)
    bound = x.bound + 2 * y.bound if x.floating else INFINITE
    template = f"{{0}}.at[{where}].{op}({{1}})"
    g.add(template, x, y, g.whole(()), g.whole(()), bound=bound, grid=common(x, y))


@statement(1)
def segments(g):
    x = g.some(1, most=40, special=False)
    ids, op = g.whole(x.shape), g.rng.choice(["sum", "max", "min"])
    if x.dtype == "bool" or (g.smooth and op != "sum"):
        raise Unsuitable
    known = {"bound": x.bound * x.size if x.floating else INFINITE}
    if op != "sum" and x.floating:  # segments of nothing are infinite
        known = {"special": True}
    g.add(f"jax.ops.segment_{op}({{0}}, {{1}}, 3)", x, ids, shape=(3,), **known)
