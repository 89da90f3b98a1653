"""Statements that compute each element by itself: arithmetic, comparisons, bits, conversions,
random numbers.
"""

from tests.lanes.composed.values import (
    INFINITE,
    Unsuitable,
    Value,
    Values,
    common,
    finer,
    fits,
    statement,
)

# (template, largest operand, largest result)
SMOOTH = [
    *(("jnp.sin({0})", 64, 1), ("jnp.cos({0})", 64, 1), ("jnp.tanh({0})", 64, 1)),
    *(("jnp.exp({0})", 2, 8), ("jnp.exp2({0})", 2, 4), ("jnp.expm1({0})", 2, 7)),
    *(("jnp.log({0} * {0} + 0.5)", 4, 3), ("jnp.log1p({0} * {0})", 4, 3)),
    *(("jnp.sqrt({0} * {0} + 0.25)", 4, 5), ("lax.rsqrt({0} * {0} + 0.25)", 4, 2)),
    *(("jnp.arctan({0})", 64, 2), ("jnp.arcsin({0} * 0.2)", 4, 1), ("jnp.arccos({0} * 0.2)", 4, 3)),
    *(("jnp.sinh({0})", 2, 4), ("jnp.cosh({0})", 2, 4), ("jnp.arcsinh({0})", 64, 5)),
    *(("jnp.arccosh({0} * {0} + 1.5)", 4, 4), ("jnp.arctanh({0} * 0.2)", 4, 2)),
    *(("jax.nn.sigmoid({0})", 64, 1), ("jax.nn.softplus({0})", 16, 17)),
    *(("jax.scipy.special.erf({0})", 8, 1), ("jax.scipy.special.erfc({0})", 4, 2)),
    *(("lax.erf_inv({0} * 0.2)", 4, 1), ("jnp.cbrt({0} * {0} + 0.5)", 4, 3)),
    *(("{0} ** 3", 2, 8), ("lax.integer_pow({0} * {0} + 0.5, -2)", 4, 4)),
    *(("({0} * {0} + 0.5) ** 1.5", 2, 10), ("jax.nn.gelu({0})", 8, 9)),
    *(("jnp.tan({0} * 0.25)", 4, 2), ("{0} / 3.0", 64, 22), ("1.0 / ({0} * {0} + 1.0)", 8, 1)),
    *(("jax.nn.swish({0})", 8, 9), ("lax.logistic({0})", 8, 1), ("2.0 ** {0}", 2, 4)),
]
# (template, largest result for operands up to 8)
KINKED = [
    *(("jnp.abs({0})", 8), ("jnp.maximum({0}, 0.25)", 8), ("jnp.minimum(1.0, {0})", 8)),
    *(("jnp.clip({0}, -1.0, 1.5)", 2), ("jax.nn.relu({0})", 8), ("jnp.clip({0}, max=2.0)", 8)),
    ("jnp.maximum({0}, {1})", 8),
    ("jnp.minimum({0}, {1})", 8),
]
# (template, fractional bits of the result, None: as many as the operand has)
JUMPS = [
    *(("jnp.floor({0})", 0), ("jnp.ceil({0})", 0), ("jnp.round({0})", 0), ("jnp.trunc({0})", 0)),
    *(("jnp.sign({0})", 0), ("lax.round({0}, lax.RoundingMethod.AWAY_FROM_ZERO)", 0)),
    *(("lax.rem({0}, jnp.abs({1}) + 0.5)", None), ("jnp.mod({0}, jnp.abs({1}) + 0.5)", None)),
    *(("jnp.mod({0}, 1.5)", None), ("jnp.fmod({0}, 0.75)", None), ("{0} % 2.0", None)),
    *(("jnp.heaviside({0}, 0.5)", None), ("jnp.floor_divide({0}, 0.5)", 0)),
]
WHOLE = [
    *("{0} + {1}|{0} - {1}|{0} * {1}|{0} // {1}|{0} % {1}|lax.div({0}, {1})").split("|"),
    *("lax.rem({0}, {1})|{0} & {1}|{0} | {1}|{0} ^ {1}|jnp.maximum({0}, {1})").split("|"),
    *("jnp.minimum({0}, {1})|lax.shift_left({0}, {1})|lax.shift_right_logical({0}, {1})").split(
        "|"
    ),
    *("lax.shift_right_arithmetic({0}, {1})|-{0}|~{0}|jnp.abs({0})|jnp.sign({0})").split("|"),
    *("lax.population_count({0})|lax.clz({0})|{0} * 3|{0} // 3|{0} % 5|{0} << 2|{0} >> 1").split(
        "|"
    ),
    *("{0} ** 2|jnp.clip({0}, 2, 100)|jnp.maximum({0}, 7)|{0} & 12|{0} - 1|3 - {0}").split("|"),
]
MASKS = [
    *("{0} & {1}|{0} | {1}|{0} ^ {1}|~{0}|{0} == {1}|{0} != {1}|{0} < {1}|{0} >= {1}").split("|"),
    *("jnp.maximum({0}, {1})|jnp.minimum({0}, {1})|{0} <= {1}|{0} > {1}").split("|"),
    *("jnp.logical_xor({0}, {1})|{0} & True|lax.max({0}, {1})").split("|"),
]


def second(g: Values, first: Value, find) -> Value:
    """Another operand: of the first one's shape, or a scalar."""
    return find(first.shape if g.rng.random() < 0.6 else ())


@statement(6)
def smooth(g):
    template, largest, result = g.rng.choice(SMOOTH)
    g.add(template, g.real(bound=largest), bound=result, grid=None)


@statement(1.5)
def kinked(g):
    template, bound = g.rng.choice(KINKED)
    x = g.real(bound=8, kinked=True)
    if "{1}" in template:
        y = second(g, x, lambda shape: g.real(shape, 8, kinked=True))
        g.add(template, x, y, bound=bound, grid=common(x, y))
    else:
        g.add(template, x, bound=bound, grid=max(x.grid, 2) if x.exact else None)


@statement(2)
def jump(g):
    template, grid = g.rng.choice(JUMPS)
    x = g.exact(bound=16)
    given = (
        [x, second(g, x, lambda shape: g.exact(shape, 8, x.dtype))] if "{1}" in template else [x]
    )
    if grid is None:
        grid = max(3, *(v.grid or 0 for v in given))
    g.add(template, *given, bound=2 * x.bound + 9, grid=grid)


@statement(2)
def large_remainder(g):
    x = g.pick(lambda v: v.floating and v.exact and v.bound > 1e9 and not v.special)
    y = second(g, x, lambda shape: g.exact(shape, 4, x.dtype))
    template = g.rng.choice(
        ["jnp.fmod({0}, jnp.abs({1}) + 0.5)", "lax.rem({0}, jnp.abs({1}) + 3.0)"]
    )
    g.add(template, x, y, bound=8, grid=max(y.grid or 0, 1))


@statement(7)
def arithmetic(g):
    """Sums, differences, products: exact if they can be."""
    op = g.rng.choice("++-**/")
    x = g.real(bound=8)
    if g.rng.random() < 0.25:  # with a constant
        c = g.rng.choice([0.0, 1.0, -1.0, 0.5, 2.0, -1.5])
        if op == "/":
            g.add(f"{{0}} / {c or 3.0}", x, bound=2 * x.bound, grid=None)
        else:
            grid = None if x.grid is None else x.grid + 1
            template = g.rng.choice([f"{{0}} {op} {c}", f"{c} {op} {{0}}"])
            g.add(template, x, bound=2 * x.bound + 2, grid=grid)
        return
    y = second(g, x, lambda shape: g.real(shape, 8))
    if op == "/":
        divisor = "{1} * {1} + 0.5" if g.smooth or g.rng.random() < 0.5 else "jnp.abs({1}) + 0.5"
        g.add(f"{{0}} / ({divisor})", x, y, bound=2 * x.bound, grid=None)
    elif op == "*":
        g.add("{0} * {1}", x, y, bound=x.bound * y.bound, grid=finer(x, y))
    else:
        g.add(f"{{0}} {op} {{1}}", x, y, bound=x.bound + y.bound, grid=common(x, y))


@statement(1)
def two_operands(g):
    template, largest, bound = g.rng.choice(
        [
            ("jnp.arctan2({0}, {1} * {1} + 0.5)", 8, 2),
            ("jnp.hypot({0}, {1} * {1} + 0.5)", 2, 5),
            ("jnp.logaddexp({0}, {1})", 8, 9),
            ("jnp.power({0} * {0} + 0.5, {1})", 2, 21),
            ("jnp.nextafter({0}, {1})", 8, 9),
        ]
    )
    exact = "nextafter" in template
    if exact and g.smooth:
        raise Unsuitable
    find = lambda shape=None: g.exact(shape, 8, g.float) if exact else g.real(shape, largest)
    x = find()
    g.add(template, x, second(g, x, find), bound=bound, grid=None)


@statement(4)
def whole(g):
    template, x = g.rng.choice(WHOLE), g.whole()
    y = [second(g, x, lambda shape: g.whole(shape, x.dtype))] if "{1}" in template else []
    g.add(template, x, *y, bound=INFINITE)


@statement(2.5)
def logic(g):
    template, x = g.rng.choice(MASKS), g.mask()
    y = [second(g, x, g.mask)] if "{1}" in template else []
    g.add(template, x, *y)


@statement(3)
def comparison(g):
    op = g.rng.choice(["<", "<=", ">", ">=", "==", "!="])
    if g.rng.random() < 0.5:
        x = g.whole()
        y = second(g, x, lambda shape: g.whole(shape, x.dtype))
        g.add(f"{{0}} {op} {{1}}", x, y, dtype="bool", bound=INFINITE)
        return
    x = g.exact()
    if g.rng.random() < 0.4:
        g.add(f"{{0}} {op} {g.rng.choice([0.0, 0.5, -1.0])}", x, dtype="bool", grid=None)
    else:
        y = second(g, x, lambda shape: g.exact(shape, dtype=x.dtype))
        g.add(f"{{0}} {op} {{1}}", x, y, dtype="bool", grid=None, bound=INFINITE)


@statement(3)
def choice(g):
    x = g.pick(lambda v: not v.weak and v.dtype != "key")
    alike = lambda v: v.dtype == x.dtype and v.shape in (x.shape, ()) and not v.weak
    y, c = g.pick(alike), second(g, x, g.mask)
    if g.rng.random() < 0.3 and x.floating:  # with a constant
        c0 = g.rng.choice([0.0, 1.0, -1.0])
        template = g.rng.choice([f"jnp.where({{1}}, {{0}}, {c0})", "{0} * {1}"])
        if template.startswith("{0}") and x.special:
            raise Unsuitable  # NaN times a mask
        g.add(template, x, c, bound=max(x.bound, 1))
        return
    known = {"bound": max(x.bound, y.bound), "special": x.special or y.special}
    known["grid"] = common(x, y)
    if g.rng.random() < 0.2 and x.shape == y.shape:
        i = g.converted(g.whole(), Value("", "int32", x.shape, 2))
        g.add("lax.select_n({2}, {0}, {1}, {0})", x, y, i, **known)
    else:
        order = g.rng.choice(["{0}, {1}", "{1}, {0}"])
        g.add(f"jnp.where({{2}}, {order})", x, y, c, **known)


@statement(3)
def conversion(g):
    x = g.pick(lambda v: v.exact and v.dtype != "key" and not v.special and not v.weak)
    dtype = g.rng.choice([*g.integers, *g.floats, "bool"])
    g.converted(
        x, Value("", dtype, x.shape, 32, 3) if "float" in dtype else Value("", dtype, x.shape)
    )


@statement(1)
def mixed(g):
    """Two dtypes, promoted."""
    x = g.real(bound=8)
    if g.rng.random() < 0.5:
        y = g.bounded(g.pick(lambda v: v.integer and v.shape in (x.shape, ()) and not v.weak), 32)
    else:
        y = second(g, x, g.mask)._replace(bound=1)
    op = g.rng.choice("+*")
    bound = x.bound * y.bound if op == "*" else x.bound + y.bound
    g.add(f"{{0}} {op} {{1}}", x, y, bound=bound)


@statement(1)
def weak(g):
    w = g.pick(lambda v: v.weak)
    if g.rng.random() < 0.4:
        g.add(g.rng.choice(["{0} + 1", "{0} * 2", "-{0}"]), w, bound=2 * w.bound + 1)
        g.scopes[-1][-1] = g.scopes[-1][-1]._replace(weak=True)
    elif w.integer:
        g.add(g.rng.choice(["{0} * {1}", "{0} + {1}"]), g.whole(), w, bound=INFINITE)
    else:
        x = g.real(bound=8)
        g.add("{0} * {1}", x, w, bound=x.bound * w.bound, grid=x.grid + 3 if x.exact else None)


@statement(4)
def special(g):
    """NaN and infinities, where they are honest."""
    x = g.pick(lambda v: v.special)
    templates = [
        *("jnp.maximum({0}, 1.0)|jnp.maximum(-1.0, {0})|jnp.minimum({0}, 0.5)").split("|"),
        *("jnp.minimum(2.0, {0})|jnp.clip({0}, -1.0, 1.0)|jnp.clip({0}, min=-1.0)").split("|"),
        *("jnp.abs({0})|-{0}|jnp.floor({0})|{0} + 1.0|{0} * 2.0|jnp.sign({0})").split("|"),
        *("jnp.round({0})|jax.nn.relu({0})|jnp.fmax({0}, 0.5)|jnp.maximum({0}, {1})").split("|"),
        *("jnp.minimum({0}, {1})|jnp.where({0} > 0, {0}, {1})|{0} - {1}|jnp.fmin({0}, {1})").split(
            "|"
        ),
        *("jnp.isnan({0})|jnp.isfinite({0})|{0} > 0.0|{0} != {0}|{0} <= 1.0|{0} == {1}").split("|"),
        *("jnp.nan_to_num({0}, nan=0.5, posinf=1.0, neginf=-1.0)", "jnp.isinf({0})"),
        *("jnp.maximum({0}, jnp.nan)", "jnp.minimum(jnp.nan, {0})", "jnp.clip({0}, jnp.nan, 1.0)"),
    ]
    template = g.rng.choice(templates)
    y = g.pick(lambda v: v.floating and v.exact and v.dtype == x.dtype and fits(v, x.shape))
    if template.startswith("jnp.is") or template.split(" ")[1:2] in (["<="], ["=="], [">"], ["!="]):
        g.add(template, x, y, dtype="bool", grid=None, special=False)
    elif "nan_to_num" in template:
        g.add(template, x, special=False)
    else:
        g.add(template, x, y, bound=max(2 * x.bound, x.bound + y.bound))


@statement(2)
def constant(g):
    shape = g.rng.choice([(), (3,), (g.rng.choice([2, 5, 17, 20]),)])
    size = shape[0] if shape else 1
    dtype = g.rng.choice([g.float, g.float, "int32", "bool"])
    draw = {"int32": lambda: g.rng.randint(-3, 9), "bool": lambda: g.rng.random() < 0.5}
    texts = [str(draw.get(dtype, lambda: g.rng.randint(-16, 16) / 8)()) for _ in range(size)]
    special = "float" in dtype and not g.smooth and g.rng.random() < 0.1
    if special:
        texts[0] = g.rng.choice(["jnp.nan", "jnp.inf"])
    like = Value("", dtype, shape, 9, 3 if "float" in dtype else None, special)
    numbers = f"[{', '.join(texts)}]" if shape else texts[0]
    g.add(f"jnp.array({numbers}, '{dtype}')", like=like)


@statement(1.5)
def key(g):
    k = g.some((), dtype="key")
    n = g.rng.choice([1, 3, 5])
    real = Value("", g.float, (n,), 1)
    r = g.rng.random()
    if r < 0.2:
        g.add("jax.random.split({0})[1]", k)
    elif r < 0.4:
        g.add("jax.random.fold_in({0}, {1})", k, g.whole(()))
    elif r < 0.6:
        g.add(f"jax.random.uniform({{0}}, ({n},), '{g.float}')", k, like=real)
    elif r < 0.7:
        g.add(f"jax.random.normal({{0}}, ({n},), '{g.float}')", k, like=real._replace(bound=8))
    elif r < 0.85:
        like = Value("", "int32", (n,), 12)
        g.add(f"jax.random.randint({{0}}, ({n},), -3, 12, 'int32')", k, like=like)
    else:
        g.add(f"jax.random.bits({{0}}, ({n},), 'uint32')", k, like=Value("", "uint32", (n,)))


@statement(0.2)
def precision(g):
    x = g.exact(bound=16)
    g.add("lax.reduce_precision({0}, 8, 3)", x, bound=2 * x.bound)


@statement(0.4)
def bits(g):
    """The bits of a positive float, and of an integer."""
    x = g.exact(bound=16)
    dtype = {"float32": "int32", "float64": "int64"}[x.dtype]
    template = f"lax.bitcast_convert_type(jnp.abs({{0}}) + 1, '{dtype}')"
    g.add(template, x, dtype=dtype, grid=None, bound=INFINITE)
