"""Statements that combine the numbers of arrays, put them in order, or solve with them."""

from tests.lanes.composed.values import INFINITE, Unsuitable, Value, finer, fits, statement

# -- reductions ------------------------------------------------------------------------------------


@statement(4)
def reduction(g):
    x = g.some(g.rng.choice([1, 1, 2]), most=40)
    axis = g.rng.choice([None, 0, -1] if len(x.shape) > 1 else [None, 0])
    shape = {None: (), 0: x.shape[1:], -1: x.shape[:-1]}[axis]
    n = x.size // Value("", "", shape).size
    ops = ["max", "min", "sum", "argmax", "argmin", "mean"]
    op = g.rng.choice([*ops, *(["any", "all"] if x.dtype == "bool" else ["prod"])])
    jumps = op.startswith("arg") or (op in ("max", "min") and g.smooth)
    if (jumps and not x.exact) or (op == "prod" and x.floating) or (op == "mean" and x.special):
        raise Unsuitable
    template = f"jnp.{op}({{0}}, axis={axis})"
    if op.startswith("arg"):
        g.add(template, x, shape=shape, dtype=g.int, grid=None, bound=n, special=False)
    elif op == "mean":
        x = g.bounded(x, 32) if x.dtype != "bool" else x._replace(bound=1)
        template = f"jnp.mean({{0}}.astype('{g.float}'), axis={axis})"
        g.add(template, x, shape=shape, dtype=g.float, grid=None)
    elif op in ("any", "all", "max", "min"):
        g.add(template, x, shape=shape)
    elif x.floating:
        g.add(template, x, shape=shape, bound=x.bound * n)
    else:
        template = f"jnp.{op}({{0}}, axis={axis}, dtype='int32')"
        g.add(template, x, shape=shape, dtype="int32", bound=n if x.dtype == "bool" else INFINITE)


@statement(1.5)
def cumulative(g):
    x, op = g.some(1, most=20), g.rng.choice(["cumsum", "cummax", "cummin"])
    if x.dtype == "bool":
        g.add("jnp.cumsum({0}, dtype='int32')", x, dtype="int32", bound=x.size)
        return
    if op != "cumsum" and g.smooth and not x.exact:
        raise Unsuitable
    bound = x.bound * x.size if x.floating and op == "cumsum" else x.bound
    template = f"lax.{op}({{0}}, reverse={g.rng.choice([True, False])})"
    g.add(template, x, bound=bound if x.floating else INFINITE)


# -- order -----------------------------------------------------------------------------------------


@statement(1.5)
def sort(g):
    x = g.some(1, most=9)
    if g.smooth and not x.exact:
        raise Unsuitable
    g.add(f"jnp.sort({{0}}, descending={g.rng.choice([True, False])})", x)


@statement(1.5)
def order(g):
    """What jumps where two numbers change places."""
    x = g.some(1, most=9, exact=True)
    op = g.rng.choice(["argsort", "top_k", "searchsorted", "compress", "pairs"])
    place = {"grid": None, "special": False, "bound": x.size}
    if op == "argsort":
        g.add("jnp.argsort({0})", x, dtype=g.int, **place)
    elif op == "pairs":
        y = g.some(x.shape)
        g.add("lax.sort(({1}, {0}), num_keys=1)[1]", y, x)
    elif op == "compress" and not x.special:
        g.add(f"jnp.compress({{1}}, {{0}}, size={x.size}, fill_value=0)", x, g.mask(x.shape))
    elif op == "top_k" and x.dtype != "bool":
        k, at = g.rng.randint(1, x.size), g.rng.randint(0, 1)
        known = {"dtype": "int32", **place} if at else {}
        g.add(f"lax.top_k({{0}}, {k})[{at}]", x, shape=(k,), **known)
    elif op == "searchsorted" and x.dtype != "bool" and not x.special:
        y = g.pick(lambda v: v.dtype == x.dtype and v.exact and fits(v, ()) and not v.special)
        g.add("jnp.searchsorted(jnp.sort({0}), {1})", x, y, dtype="int32", shape=(), **place)
    else:
        raise Unsuitable


# -- linear algebra --------------------------------------------------------------------------------


def factor(g, x: Value) -> Value:
    return x._replace(bound=1) if x.dtype == "bool" else g.bounded(x, 8) if x.floating else x


@statement(1.5)
def dot(g):
    """Of two vectors: alike, or numbers and a mask."""
    x = factor(g, g.some(1, most=40, special=False))
    template = "jnp.dot({0}, {1})"
    if x.floating and g.rng.random() < 0.4:
        y = factor(g, g.mask(x.shape))
        g.add(template, x, y, shape=(), bound=x.size * x.bound)
        return
    y = factor(g, g.some(x.shape, dtype=x.dtype, special=False))
    if x.floating:
        g.add(template, x, y, shape=(), bound=x.size * x.bound * y.bound, grid=finer(x, y))
    elif x.dtype == "int8" and g.rng.random() < 0.6:
        template = "lax.dot({0}, {1}, preferred_element_type='int32')"
        g.add(template, x, y, shape=(), dtype="int32", bound=INFINITE)
    else:
        g.add(template, x, y, shape=(), bound=INFINITE)


@statement(1.5)
def square(g):
    """Products of a matrix with itself."""
    x = factor(g, g.some(2, most=40, special=False))
    (m, n), template = x.shape, g.rng.choice(["{0} @ {0}.T", "{0}.T @ {0}", "{0} @ {0}[0]"])
    shape, summed = {"{0} @ {0}.T": ((m, m), n), "{0}.T @ {0}": ((n, n), m)}.get(
        template, ((m,), n)
    )
    bound = summed * x.bound * x.bound if x.floating else INFINITE
    g.add(template, x, shape=shape, bound=bound, grid=finer(x, x))


@statement(1)
def matrix_vector(g):
    m = factor(g, g.some(2, dtype=g.float, special=False))
    v = factor(g, g.some(m.shape[1:], dtype=g.float, special=False))
    bound = m.shape[1] * m.bound * v.bound
    g.add("{0} @ {1}", m, v, shape=m.shape[:1], bound=bound, grid=finer(m, v))


@statement(0.7)
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
    lower = f"jax.scipy.linalg.solve_triangular(jnp.tril{positive}, {{0}}, lower=True)"
    cholesky = f"jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor({positive}), {{0}}[:, 0])"
    ways = {
        f"jnp.linalg.cholesky{positive}": (m, m),
        f"jnp.linalg.inv{positive}": (m, m),
        f"jnp.linalg.solve({positive}, {{0}}[:, 0])": (m,),
        f"jnp.log(jnp.linalg.det{positive})": (),
        lower: (m, n),
        cholesky: (m,),
    }
    template = g.rng.choice(list(ways))
    g.add(template, x, shape=ways[template], bound=16, grid=None)
