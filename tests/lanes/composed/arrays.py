"""Statements on whole arrays: movement, indices, reductions, order, linear algebra."""

from tests.lanes.composed.values import INFINITE, Unsuitable, Value, common, finer, fits, statement

READS = [  # an element of a vector
    *("{0}[{1}]|jnp.take({0}, {1}, mode='clip')|jnp.take({0}, {1}, mode='wrap')").split("|"),
    *("{0}.at[{1}].get(mode='clip')|{0}.at[{1}].get(mode='fill', fill_value=2)").split("|"),
    *("lax.dynamic_index_in_dim({0}, {1}, keepdims=False)", "{0}[{1} % {0}.shape[0]]"),
    "jnp.take({0}, {1}, mode='fill', fill_value=0)",
]
WRITES = [  # the second operand is the index, the third is written
    *("{0}.at[{1}].set({2})|{0}.at[{1}].add({2})|{0}.at[{1}].set({2}, mode='drop')").split("|"),
    *("{0}.at[{1}].set({2}, mode='clip')|{0}.at[{1}].max({2})|{0}.at[{1}].min({2})").split("|"),
    *("{0}.at[{1}].add({2}, mode='clip')|{0}.at[{1} % {0}.shape[0]].set({2})").split("|"),
    *("lax.dynamic_update_index_in_dim({0}, {2}, {1}, 0)", "{0}.at[{1}].mul({2})"),
    "{0}.at[{1}].subtract({2})",
]
MOVES = [  # (template, shape of the result of a vector of n)
    *(("{0}[::-1]", lambda n: (n,)), ("{0}[:2]", lambda n: (min(n, 2),)), ("{0}[1:]", None)),
    *(("jnp.roll({0}, 1)", lambda n: (n,)), ("{0}[::2]", lambda n: (-(-n // 2),))),
    *(("jnp.tile({0}, 2)", lambda n: (2 * n,)), ("jnp.repeat({0}, 2)", lambda n: (2 * n,))),
    *(("{0}[None]", lambda n: (1, n)), ("{0}[:, None]", lambda n: (n, 1))),
    *(("jnp.pad({0}, (1, 2), mode='edge')", lambda n: (n + 3,)), ("{0}[-1:]", lambda n: (1,))),
    *(("jnp.stack([{0}, {0}])", lambda n: (2, n)), ("jnp.concatenate([{0}, {0}[:1]])", None)),
    *(("{0}[jnp.array([0, -1])]", lambda n: (2,)), ("jnp.expand_dims({0}, 0)", lambda n: (1, n))),
    ("jnp.broadcast_to({0}, (2, {0}.shape[0]))", lambda n: (2, n)),
]
MOVES_2D = [
    *(("{0}.T", lambda m, n: (n, m)), ("{0}.ravel()", lambda m, n: (m * n,))),
    *(("{0}[0]", lambda m, n: (n,)), ("{0}[:, 0]", lambda m, n: (m,)), ("{0}[-1]", lambda m, n: (n,))),
    *(("jnp.flip({0}, 1)", lambda m, n: (m, n)), ("{0}[:, ::-1]", lambda m, n: (m, n))),
    *(("jnp.diagonal({0})", lambda m, n: (min(m, n),)), ("jnp.roll({0}, 1, 0)", lambda m, n: (m, n))),
    ("{0}.reshape({0}.shape[1], {0}.shape[0])", lambda m, n: (n, m)),
    ("jnp.concatenate([{0}, {0}], 1)", lambda m, n: (m, 2 * n)),
]


def not_key(v: Value) -> bool:
    return v.dtype != "key" and not v.weak and v.size > 0


def array(g, dims: int, most=200) -> Value:
    return g.pick(lambda v: not_key(v) and len(v.shape) == dims and v.size <= most)


def element(g, x: Value) -> Value:
    """A scalar to be written into x."""
    alike = g.pick(lambda v: g.converts(v, x._replace(shape=())))
    return g.converted(alike, x._replace(shape=(), bound=min(x.bound, 8)))


# -- movement --------------------------------------------------------------------------------------


@statement(3)
def movement(g):
    if g.rng.random() < 0.6:
        x = array(g, 1, 40)
        template, shape = g.rng.choice(MOVES)
        (n,) = x.shape
        if shape is None:
            shape = (lambda n: (n - 1,)) if "[1:]" in template else (lambda n: (n + 1,))
        if shape(n)[-1] < 1:
            raise Unsuitable
        g.add(template, x, shape=shape(n))
    else:
        x = array(g, 2, 40)
        template, shape = g.rng.choice(MOVES_2D)
        g.add(template, x, shape=shape(*x.shape))


@statement(1)
def joined(g):
    x = array(g, 1, 40)
    y = g.pick(lambda v: v.dtype == x.dtype and len(v.shape) == 1 and v.size and not v.special)
    known = {"bound": max(x.bound, y.bound), "grid": common(x, y)}
    g.add("jnp.concatenate([{0}, {1}])", x, y, shape=(x.size + y.size,), **known)


@statement(0.7)
def padded(g):
    x = g.pick(lambda v: v.floating and len(v.shape) == 1 and 2 < v.size < 40 and not v.weak)
    low, high, inner = g.rng.randint(-1, 2), g.rng.randint(-1, 2), g.rng.randint(0, 2)
    n = x.size + (x.size - 1) * inner + low + high
    template = f"lax.pad({{0}}, jnp.{x.dtype}(0.5), (({low}, {high}, {inner}),))"
    g.add(template, x, shape=(n,), bound=max(x.bound, 1), grid=x.grid if x.grid is None else max(x.grid, 1))


@statement(0.8)
def empty(g):
    """Arrays of no numbers, and what is reduced of them."""
    x = g.pick(lambda v: v.floating and len(v.shape) == 2 and v.size and not v.weak and not v.special)
    template, shape = g.rng.choice([
        ("{0}[:0].sum(1)", (0,)), ("{0}[:0].sum(0)", (x.shape[1],)), ("{0}[:, :0].sum(1)", (x.shape[0],)),
        ("{0}[:0].max(1)", (0,)), ("{0}[:0]", (0, x.shape[1])), ("{0}[:0].prod()", ()),
    ])
    g.add(template, x, shape=shape, bound=1, grid=0 if x.exact else None)


# -- indices ---------------------------------------------------------------------------------------


def index(g, n: int, shape=()) -> Value:
    """An index into n numbers: of any integer dtype, in range or far from it."""
    return g.whole(shape)


@statement(7)
def read(g):
    x = array(g, 1)
    i = index(g, x.size)
    template = g.rng.choice(READS)
    if x.size > 127 and "8" in i.dtype and (" %" in template or "wrap" in template):
        raise Unsuitable  # JAX does not take a size that an int8 cannot hold
    bound = max(x.bound, 2)
    if x.dtype == "bool":
        template = template.replace("fill_value=2", "fill_value=True")
    g.add(template, x, i, shape=(), bound=bound)


@statement(2.5)
def read_several(g):
    if g.rng.random() < 0.4:
        x, i = array(g, 1), g.whole(1)
        if i.size > 8:
            raise Unsuitable
        g.add(g.rng.choice(READS[:5]), x, i, shape=i.shape, bound=max(x.bound, 2))
        return
    x = array(g, 2, 40)
    m, n = x.shape
    i, j = g.whole(()), g.whole(())
    template, shape = g.rng.choice([
        ("{0}[{1}]", (n,)), ("{0}[:, {1}]", (m,)), ("{0}[{1}, {2}]", ()), ("{0}[{1}, 0]", ()),
        ("jnp.take({0}, {1}, axis=1, mode='clip')", (m,)), ("{0}.at[{1}, {2}].get(mode='clip')", ()),
        ("lax.dynamic_slice({0}, ({1}, {1}), (1, 1))", (1, 1)),
    ])
    g.add(template, x, i, j, shape=shape)


@statement(2)
def window(g):
    x, i = array(g, 1), g.whole(())
    size = g.rng.randint(1, min(x.size, 5))
    template = g.rng.choice([
        f"lax.dynamic_slice({{0}}, ({{1}},), ({size},))", f"lax.dynamic_slice_in_dim({{0}}, {{1}}, {size})",
    ])
    g.add(template, x, i, shape=(size,))


@statement(6)
def write(g):
    x = array(g, 1)
    i, y = index(g, x.size), element(g, x)
    templates = WRITES if x.dtype != "bool" else [
        t for t in WRITES if "set" in t or "max" in t or "min" in t or "dynamic" in t
    ]
    template = g.rng.choice(templates)
    if g.smooth and "mul" in template or x.size > 127 and "8" in i.dtype:
        raise Unsuitable  # JAX does not take a size that an int8 cannot hold
    grid = finer(x, y) if "mul" in template else common(x, y)
    bound = x.bound * y.bound if "mul" in template else x.bound + y.bound
    if x.special and "mul" in template:
        raise Unsuitable
    known = {} if x.integer or x.dtype == "bool" else {"bound": bound, "grid": grid}
    g.add(template, x, i, y, **(known or {"bound": INFINITE}))


@statement(1.5)
def applied(g):
    """`.at[].apply`, of a function of the place's own number."""
    if g.smooth:
        raise Unsuitable  # JAX has no derivative of it
    x = g.pick(lambda v: v.floating and len(v.shape) == 1 and v.size and not v.special and not v.weak)
    x, i = g.bounded(x, 4), g.whole(())
    if x.size > 127 and "8" in i.dtype:
        raise Unsuitable
    where = g.rng.choice(["{1}", "1:3", "0", "jnp.array([0, -1])"])
    function, bound = g.rng.choice([("lambda a: a * 0.5 + 1.0", 6), ("jnp.sin", 1), ("lambda a: a - 1", 5)])
    exact = x.exact and function != "jnp.sin"
    known = {"bound": max(x.bound, bound), "grid": x.grid + 2 if exact else None}
    g.add(f"{{0}}.at[{where}].apply({function})", x, i, **known)


@statement(1.5)
def write_several(g):
    r = g.rng.random()
    x = g.pick(
        lambda v: not_key(v) and len(v.shape) == 1 and v.dtype != "bool" and not v.special
        and v.size <= 40
    )
    if r < 0.4:  # places may coincide
        i = g.whole(1)
        if i.size > 8:
            raise Unsuitable
        y = g.shaped(element(g, x), i.shape)
        op = g.rng.choice(["add", "max", "min"])
        bound = x.bound + i.size * y.bound if x.floating else INFINITE
        if g.smooth and op != "add" and not (x.exact and y.exact):
            raise Unsuitable
        g.add(f"{{0}}.at[{{1}}].{op}({{2}})", x, i, y, bound=bound, grid=common(x, y))
    elif r < 0.7:
        i, size = g.whole(()), g.rng.randint(1, min(3, x.size))
        y = g.shaped(element(g, x), (size,))
        bound = max(x.bound, y.bound)
        g.add("lax.dynamic_update_slice({0}, {1}, ({2},))", x, y, i, bound=bound, grid=common(x, y))
    else:
        ids, op = g.whole(x.shape), g.rng.choice(["sum", "max", "min"])
        if g.smooth and (op != "sum" and not x.exact):
            raise Unsuitable
        if op != "sum" and x.floating:  # segments of nothing are infinite
            g.add(f"jax.ops.segment_{op}({{0}}, {{1}}, 3)", x, ids, shape=(3,), special=True)
        else:
            bound = x.bound * x.size if x.floating else INFINITE
            g.add(f"jax.ops.segment_{op}({{0}}, {{1}}, 3)", x, ids, shape=(3,), bound=bound)


@statement(1)
def write_matrix(g):
    x = g.pick(lambda v: not_key(v) and len(v.shape) == 2 and v.dtype != "bool" and not v.special)
    x = g.bounded(x, 8) if x.floating else x
    y = element(g, x)
    i, j = g.whole(()), g.whole(())
    where = g.rng.choice(["{2}, {3}", "{2}", ":, {2}", "0, {3}"])
    op = g.rng.choice(["set", "add", "set"])
    bound = x.bound + y.bound if x.floating else INFINITE
    g.add(f"{{0}}.at[{where}].{op}({{1}})", x, y, i, j, bound=bound, grid=common(x, y))


# -- reductions, order -----------------------------------------------------------------------------


@statement(4)
def reduction(g):
    x = g.pick(lambda v: not_key(v) and v.shape != () and v.size <= 40)
    axis = g.rng.choice([None, 0, -1]) if len(x.shape) > 1 else g.rng.choice([None, 0])
    shape = () if axis is None else x.shape[1:] if axis == 0 else x.shape[:-1]
    n = x.size // max(1, Value("", "", shape).size)
    ops = ["max", "min", "sum", "argmax", "argmin"]
    ops += ["any", "all"] if x.dtype == "bool" else ["mean"]
    ops += ["prod"] if x.integer else []
    op = g.rng.choice(ops)
    if (op.startswith("arg") and not x.exact) or (op in ("max", "min") and g.smooth and not x.exact):
        raise Unsuitable
    if x.special and op == "mean":
        raise Unsuitable
    template = f"jnp.{op}({{0}}, axis={axis})"
    if op.startswith("arg"):
        g.add(template, x, shape=shape, dtype=g.int, grid=None, bound=n, special=False)
    elif op == "mean":
        x = g.bounded(x, 32)
        dtype = x.dtype if x.floating else g.floats[-1] if False else g.float
        template = f"jnp.mean({{0}}.astype('{dtype}'), axis={axis})"
        g.add(template, x, shape=shape, dtype=dtype, grid=None, bound=x.bound)
    elif op in ("any", "all", "max", "min"):
        g.add(template, x, shape=shape)
    elif x.floating:
        g.add(template, x, shape=shape, bound=x.bound * n)
    else:
        template = f"jnp.{op}({{0}}, axis={axis}, dtype='int32')"
        g.add(template, x, shape=shape, dtype="int32", bound=n if x.dtype == "bool" else INFINITE)


@statement(1.5)
def cumulative(g):
    x = g.pick(lambda v: not_key(v) and len(v.shape) == 1 and v.size <= 20)
    op = g.rng.choice(["cumsum", "cummax", "cummin"])
    if x.dtype == "bool":
        g.add("jnp.cumsum({0}, dtype='int32')", x, dtype="int32", bound=x.size)
        return
    if op != "cumsum" and g.smooth and not x.exact:
        raise Unsuitable
    reverse = g.rng.choice([True, False])
    bound = x.bound * x.size if x.floating and op == "cumsum" else x.bound
    g.add(f"lax.{op}({{0}}, reverse={reverse})", x, bound=bound if x.floating else INFINITE)


@statement(2)
def order(g):
    x = g.pick(lambda v: not_key(v) and len(v.shape) == 1 and v.size <= 9)
    op = g.rng.choice(["sort", "argsort", "top_k", "descending", "searchsorted", "compress", "pairs"])
    if (op not in ("sort", "descending") or g.smooth) and not x.exact:
        raise Unsuitable
    if op == "sort":
        g.add("jnp.sort({0})", x)
    elif op == "descending":
        g.add("jnp.sort({0}, descending=True)", x)
    elif op == "argsort":
        g.add("jnp.argsort({0})", x, dtype=g.int, grid=None, bound=x.size, special=False)
    elif op == "top_k" and x.dtype != "bool":
        k, at = g.rng.randint(1, x.size), g.rng.randint(0, 1)
        known = {} if at == 0 else {"dtype": "int32", "grid": None, "bound": x.size, "special": False}
        g.add(f"lax.top_k({{0}}, {k})[{at}]", x, shape=(k,), **known)
    elif op == "searchsorted" and not x.special and x.dtype != "bool":
        y = g.pick(lambda v: v.dtype == x.dtype and v.exact and fits(v, ()) and not v.special)
        known = {"dtype": "int32", "grid": None, "bound": x.size, "shape": ()}
        g.add("jnp.searchsorted(jnp.sort({0}), {1})", x, y, **known)
    elif op == "compress" and not x.special:
        g.add(f"jnp.compress({{1}}, {{0}}, size={x.size}, fill_value=0)", x, g.mask(x.shape))
    elif op == "pairs":
        y = g.pick(lambda v: not_key(v) and v.shape == x.shape)
        g.add("lax.sort(({1}, {0}), num_keys=1)[1]", y, x)
    else:
        raise Unsuitable


# -- linear algebra --------------------------------------------------------------------------------


@statement(2.5)
def product(g):
    x = g.pick(lambda v: not_key(v) and len(v.shape) in (1, 2) and v.size <= 40 and not v.special)
    x = g.bounded(x, 8) if x.floating else x
    templates = ["{0} @ {0}"] if len(x.shape) == 1 else ["{0} @ {0}.T", "{0}.T @ {0}", "{0} @ {0}[0]"]
    template, y = g.rng.choice(templates), x
    n = x.shape[-1] if ".T @" not in template else x.shape[0]
    shape = {"{0} @ {0}.T": x.shape[:1] * 2, "{0}.T @ {0}": x.shape[-1:] * 2}.get(template, x.shape[:-1])
    if len(x.shape) == 1 and g.rng.random() < 0.6:
        other = lambda v: not_key(v) and v.shape == x.shape and not v.special
        y = g.pick(lambda v: other(v) and v.dtype == x.dtype)
        template = "jnp.dot({0}, {1})"
        if x.floating and g.rng.random() < 0.4:
            y, template = g.mask(x.shape)._replace(bound=1), "jnp.dot({0}, {1})"
        elif x.dtype == "int8":
            template = "lax.dot({0}, {1}, preferred_element_type='int32')"
            g.add(template, x, y, shape=(), dtype="int32", bound=INFINITE)
            return
        y = g.bounded(y, 8) if y.floating else y
    if not x.floating:
        g.add(template, x, y, shape=shape, bound=INFINITE)
        return
    grid = x.grid if y.dtype == "bool" else finer(x, y)
    g.add(template, x, y, shape=shape, bound=n * x.bound * y.bound, grid=grid)


@statement(1)
def matrix_vector(g):
    m = g.bounded(g.some(2, dtype=g.float, special=False), 4)
    v = g.real((m.shape[1],), 4)
    g.add("{0} @ {1}", m, v, shape=m.shape[:1], bound=m.shape[1] * 16, grid=finer(m, v))


@statement(1)
def outer(g):
    x, y = g.real(1, 4), g.real(1, 4)
    if x.size * y.size > 40:
        raise Unsuitable
    g.add("jnp.outer({0}, {1})", x, y, shape=(x.size, y.size), bound=16, grid=finer(x, y))


@statement(1)
def solved(g):
    x = g.bounded(g.some(2, dtype=g.float, special=False), 2)
    m, n = x.shape
    if m > 4:
        raise Unsuitable
    positive = f"({{0}} @ {{0}}.T + 2 * jnp.eye({m}, dtype='{x.dtype}'))"
    template, shape = g.rng.choice([
        (f"jnp.linalg.cholesky{positive}", (m, m)),
        (f"jnp.linalg.inv{positive}", (m, m)),
        (f"jnp.linalg.solve({positive}, {{0}}[:, 0])", (m,)),
        (f"jax.scipy.linalg.solve_triangular(jnp.tril{positive}, {{0}}, lower=True)", (m, n)),
        (f"jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor({positive}), {{0}}[:, 0])", (m,)),
        (f"jnp.log(jnp.linalg.det{positive})", ()),
    ])
    g.add(template, x, shape=shape, bound=16, grid=None)
