"""Statements that hold programs: loops, branches, calls."""

from contextlib import contextmanager

from tests.lanes.composed.arrays import element, too_long
from tests.lanes.composed.values import HUGE, INFINITE, Unsuitable, Value, names, statement

DEEPEST = 3  # blocks within blocks
SMALL = 15  # bound of a counter
TOUCH = [  # writes that keep what a loop promises of an array: array, index, number
    *("{0}.at[{1}].set({2})|{0}.at[{1}].max({2})|{0}.at[{1}].min({2}, mode='clip')").split("|"),
    *("lax.dynamic_update_index_in_dim({0}, {2}, {1}, 0)|{0}.at[{1}].set({2}, mode='drop')").split(
        "|"
    ),
    "{0}.at[jnp.stack([{1}, {1} + 1])].set({2})",
]
TOUCH_MATRIX = [
    *("{0}.at[{1}].set({2})|{0}.at[:, {1}].set({2})|{0}.at[{1}, 0].set({2})").split("|"),
    "lax.dynamic_update_slice({0}, {2}[None, None], ({1}, {1}))",
]


def may_nest(g):
    if g.depth >= DEEPEST:
        raise Unsuitable


def fill(g):
    """Some statements of a block, fewer in inner ones."""
    g.some_statements(g.rng.randint(1, max(1, 4 - g.depth)))


def suits(v: Value, kind: Value) -> bool:
    """Whether v can stand where a value of this kind is wanted, as it is."""
    exact = kind.grid is None or (v.grid is not None and v.grid <= kind.grid)
    alike = (v.dtype, v.shape) == (kind.dtype, kind.shape) and not v.weak
    return alike and exact and v.bound <= kind.bound and v.special <= kind.special


def kind_of(g, v: Value) -> Value:
    """What a carried value, or a result of branches, promises when it begins as v."""
    if v.floating:
        return v._replace(bound=4, grid=None if v.grid is None else 3, special=False)
    if v.integer:
        return v._replace(bound=g.rng.choice([INFINITE, SMALL]))
    return v


def kinds(g, least: int, most: int) -> tuple[list[Value], list[Value]]:
    """Kinds, and values of them to begin with; an array of floats comes first.

    Often they are what the loop around carries, so that it may go on with what is made of them.
    """
    if g.loops and g.rng.random() < 0.4:
        around = g.loops[-1][:most]
        return around, around
    alike = lambda v: v.dtype == g.float and len(v.shape) == 1 and v.size and not v.weak
    first = g.pick(alike, HUGE)
    begin = [first]
    for _ in range(g.rng.randint(least, most) - 1):
        if g.rng.random() < 0.4:  # one like another, to be exchanged
            kind = g.rng.choice(begin)
            begin.append(
                g.pick(lambda v, kind=kind: (v.dtype, v.shape) == (kind.dtype, kind.shape), HUGE)
            )
        else:
            begin.append(g.pick(lambda v: not v.weak and v.size and v.size <= 40))
    if any(v.size > 40 and v.shape != first.shape for v in begin[1:]):
        raise Unsuitable
    wanted = [kind_of(g, v) for v in begin]
    for k, one in enumerate(wanted):  # of two alike the looser promise holds for both
        for other in wanted[:k]:
            if suits(other, one) and g.rng.random() < 0.7:
                wanted[k] = one._replace(bound=other.bound, grid=other.grid)
    return wanted, [g.converted(v, kind) for v, kind in zip(begin, wanted, strict=True)]


def parameters(g, kinds_: list[Value]) -> list[Value]:
    return [kind._replace(name=g.fresh(), weak=False) for kind in kinds_]


def outcome(g, kind: Value, params: list[Value], before: list[Value]) -> Value:
    """A value of this kind to end a block with: made in it, one of its parameters (its own or
    another's), one that another result is too, or one from outside.
    """
    choices = [
        (3, g.scopes[-1][len(params) :]),
        (1.5, params),
        (1, before),
        (3 if g.depth > 1 else 1, [v for scope in g.scopes[:-1] for v in scope]),
    ]
    ways = [(w, [v for v in vs if suits(v, kind)]) for w, vs in choices]
    ways = [(w, vs) for w, vs in ways if vs]
    if ways and g.rng.random() < 0.45:
        ((_, values),) = g.rng.choices(ways, [w for w, _ in ways])
        return g.rng.choice(values)
    made = [
        v for v in g.scopes[-1] if v.name in g.unread and v not in params and g.converts(v, kind)
    ]
    if made:
        return g.converted(g.rng.choice(made), kind)
    return g.converted(g.pick(lambda v: g.converts(v, kind)), kind)


def outcomes(g, wanted: list[Value], params: list[Value]) -> list[Value]:
    found: list[Value] = []
    for kind in wanted:
        found.append(outcome(g, kind, params, found))
    return found


def touch(g, params: list[Value], counter: Value | None):
    """Reads or writes a carried array, or one from outside, at an index known at run time."""
    own = [p for loop in [params, *g.loops] for p in loop if len(p.shape) in (1, 2)]
    for _ in range(g.rng.choice([0, 1, 1, 2])):
        x = g.rng.choice(own) if own and g.rng.random() < 0.7 else g.some(1, HUGE)
        i = counter if counter is not None and g.rng.random() < 0.6 else g.whole(())
        if too_long(x, i):
            raise Unsuitable
        at = "{1}" if x.size > 127 else g.rng.choice(["{1}", f"({{1}} % {x.shape[0]})"])
        if g.rng.random() < 0.5:
            g.add(f"{{0}}[{at}]", x, i, shape=x.shape[1:])
            continue
        template = g.rng.choice(TOUCH if len(x.shape) == 1 else TOUCH_MATRIX)
        if x.dtype == "key" or (
            (x.special or g.smooth) and ("max" in template or "min" in template)
        ):
            raise Unsuitable
        new = g.add(template.replace("{1}", at), x, i, element(g, x))
        if x in own:  # the next touch is of what has become of it
            own.append(new)


def rows_alike(g, suits) -> list[Value]:
    """One or two arrays with as many rows."""
    first = g.pick(lambda v: v.plain and len(v.shape) in (1, 2) and suits(v))
    if g.rng.random() < 0.5:
        return [first]
    return [first, g.pick(lambda v: v.plain and v.shape[:1] == first.shape[:1] and suits(v))]


def counted(g, name: str, trips: int) -> Value:
    """The number of the trip, as an integer of some dtype."""
    dtype = g.rng.choice(["int32", "int32", *g.integers])
    return g.add(f"{name}.astype('{dtype}')", like=Value("", dtype, (), trips))


def trips(g) -> int:
    if g.depth == 0 and g.rng.random() < 0.08:
        return g.rng.choice([50, 90])
    return g.rng.choice([2, 3, 5, 7] if g.depth else [2, 3, 5, 9, 12])


@statement(4)
def fori(g):
    may_nest(g)
    n = trips(g)
    wanted, begin = kinds(g, 1, 4)
    stop: list = []
    if not g.reverse and g.rng.random() < 0.2:  # as many trips as a lane wants
        stop = [g.converted(g.whole(()), Value("", "int32"))]
    params, i = parameters(g, wanted), g.fresh()
    with g.block(*params, carried=params) as body:
        counter = counted(g, i, n)
        touch(g, params, counter)
        fill(g)
        touch(g, params, counter)
        results = outcomes(g, wanted, params)
    block = ([i, names(params)], body, names(results))
    template = (
        "lax.fori_loop(0, {1} % 7, {f0}, {0})" if stop else f"lax.fori_loop(0, {n}, {{f0}}, {{0}})"
    )
    g.several(wanted, template, [begin, *stop], [block])


@statement(3)
def scan(g):
    may_nest(g)
    xs = rows_alike(g, lambda v: v.shape[0] >= 2 and v.size <= 40)
    n = xs[0].shape[0]
    wanted, begin = kinds(g, 1, 3)
    params = parameters(g, wanted)
    rows = parameters(g, [x._replace(shape=x.shape[1:]) for x in xs])
    with g.block(*params, *rows, carried=params) as body:
        touch(g, params, None)
        fill(g)
        results = outcomes(g, wanted, [*params, *rows])
        few = lambda v: v.plain and v.size * n <= 100
        ys = [g.pick(few) for _ in range(g.rng.choice([0, 1, 1, 2]))]
    block = ([names(params), names(rows)], body, [names(results), names(ys)])
    stacked = [y._replace(shape=(n, *y.shape)) for y in ys]
    template = f"lax.scan({{f0}}, {{0}}, {{1}}, reverse={g.rng.choice([True, False])})"
    g.several([wanted, stacked], template, [begin, xs], [block])


@statement(2.5)
def while_loop(g):
    may_nest(g)
    if g.reverse:
        raise Unsuitable
    counter = Value("", "int32", (), SMALL)
    begin_at = g.add(f"jnp.int32({g.rng.choice([0, 0, 1, 3])})", like=counter)
    limit = g.whole(()) if g.rng.random() < 0.8 else None
    wanted, begin = kinds(g, 1, 3)
    wanted, begin = [counter, *wanted], [begin_at, *begin]
    asked = parameters(g, wanted)
    with g.block(*asked) as test:
        until = [asked[0], limit] if limit else [asked[0]]
        more = g.add("{0} < {1} % 10" if limit else "{0} < 5", *until, like=Value("", "bool"))
        if g.rng.random() < 0.4:
            more = g.add("{0} & {1}", more, g.mask(()))
    params = parameters(g, wanted)
    with g.block(*params, carried=params[1:]) as body:
        touch(g, params, params[0])
        fill(g)
        later = g.add("{0} + 1", params[0])
        results = [later, *outcomes(g, wanted[1:], params)]
    blocks = [([names(asked)], test, more.name), ([names(params)], body, names(results))]
    g.several(wanted, "lax.while_loop({f0}, {f1}, {0})", [begin], blocks)


@statement(3.5)
def branches(g):
    may_nest(g)
    wanted, given = kinds(g, 1, 3)
    if g.rng.random() < 0.6:
        count, chosen, template = 2, g.mask(()), "lax.cond({0}, {f0}, {f1}, {1})"
    else:
        count = g.rng.randint(2, 4)
        chosen = g.converted(g.whole(()), Value("", "int32"))
        functions = ", ".join(f"{{f{k}}}" for k in range(count))
        template = f"lax.switch({{0}}, [{functions}], {{1}})"
    blocks = []
    for _ in range(count):
        params = parameters(g, wanted)
        with g.block(*params) as body:
            if g.rng.random() < 0.8:
                touch(g, params, None)
                fill(g)
            results = outcomes(g, wanted, params)
        blocks.append(([names(params)], body, names(results)))
    g.several(wanted, template, [chosen, given], blocks)


@contextmanager
def alone(g, forward: bool):
    """No value from outside can be read; what is written may have to have a forward derivative."""
    before = g.scopes, g.loops, g.forward
    g.scopes, g.loops, g.forward = [[]], [], g.forward or forward
    try:
        yield
    finally:
        g.scopes, g.loops, g.forward = before


@statement(2)
def call(g):
    """A function within the function."""
    may_nest(g)
    ways = ["jax.jit({f0})({0})", "jax.checkpoint({f0})({0})", "kernel({f0})({0})"]
    closed = ["with_jvp({f0})({0})"] + ([] if g.forward else ["with_vjp({f0})({0})"])
    template = g.rng.choice([*ways, *closed, *(closed if g.smooth else [])])
    wanted, given = kinds(g, 1, 3)
    if template in closed and any(v.dtype != g.float for v in given):
        raise Unsuitable
    params = parameters(g, wanted)

    def write():
        with g.block(*params) as body:
            fill(g)
            results = outcomes(g, wanted, params)
        return ([names(params)], body, names(results))

    if template in closed:
        with alone(g, "jvp" in template):
            block = write()
    else:
        block = write()
    g.several(wanted, template, [given], [block])


@statement(2)
def mapped(g):
    """A function of the rows of arrays: `vmap` within the function."""
    may_nest(g)
    xs = rows_alike(g, lambda v: v.shape[0] <= 5 and v.size <= 20)
    n = xs[0].shape[0]
    rows = parameters(g, [x._replace(shape=x.shape[1:]) for x in xs])
    with g.block(*rows) as body:
        fill(g)
        few = lambda v: v.plain and v.size * n <= 40
        results = [g.pick(few) for _ in range(g.rng.randint(1, 2))]
    made = [v._replace(shape=(n, *v.shape)) for v in results]
    block = (names(rows), body, names(results))
    functions = ", ".join(f"{{{k}}}" for k in range(len(xs)))
    g.several(made, f"jax.vmap({{f0}})({functions})", xs, [block])
