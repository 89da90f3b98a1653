"""What the generator knows of a value, and how values are made to fit where they are wanted.

What keeps comparison honest: of every number it is known whether it is exact. Floats that are
multiples of 2**-grid and no larger than `bound` have no rounding error while they fit into 24 bits,
in any order of summation; whatever is decided by a jump (comparison, floor, order, conversion to an
integer) is decided by exact numbers only. Rounded numbers stay within bounds and meet continuous
functions only (in programs that will be differentiated: smooth ones).
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

MANTISSA = 24  # bits of a float32: what is exact there is exact everywhere
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
INFINITE = float("inf")
LARGE = 200  # numbers in the largest array that most statements take
HUGE = 6000  # and in those that are carried, read and written


class Value(NamedTuple):
    """What is known of a name of the program."""

    name: str
    dtype: str  # a NumPy dtype's name, or "key"
    shape: tuple[int, ...] = ()
    bound: float = INFINITE  # of the magnitude of its finite numbers
    grid: int | None = None  # a float: multiples of 2**-grid; None if it is rounded
    special: bool = False  # NaN and infinities are among its numbers
    weak: bool = False  # of weak type

    @property
    def floating(self) -> bool:
        return self.dtype.startswith("float")

    @property
    def integer(self) -> bool:
        return "int" in self.dtype

    @property
    def exact(self) -> bool:
        return not self.floating or self.grid is not None

    @property
    def plain(self) -> bool:
        """Whether it is numbers, some at least, of a type of their own."""
        return self.dtype != "key" and not self.weak and self.size > 0

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size


class Unsuitable(Exception):
    """There are no values for a statement of this kind here."""


# What a statement may be: name -> (weight, function of the generator).
STATEMENTS: dict[str, tuple[float, Callable[[Any], Any]]] = {}


def statement(weight: float):
    """Registers `f(generator)`, which adds statements, or raises Unsuitable."""

    def register(f):
        STATEMENTS[f.__name__] = weight, f
        return f

    return register


class Values:
    """The values that can be seen where the next statement will stand, and that statement."""

    def __init__(self, rng: random.Random, float_: str, x64: bool):
        self.rng, self.float, self.x64 = rng, float_, x64
        self.int = "int64" if x64 else "int32"  # JAX's own integer
        self.integers = [t for t in INTEGERS if x64 or t != "int64"]
        self.floats = ["float32", "float64"] if x64 else ["float32"]
        self.smooth = False  # rounded numbers meet differentiable functions only
        self.names = 0
        self.scopes: list[list[Value]] = [[]]  # by block, the innermost last
        self.bodies: list[list] = [[]]  # the statements of these blocks
        self.hot: list[str] = []  # read in a block that is not their own: to be read once more
        self.unread: set[str] = set()

    # -- statements --------------------------------------------------------------------------------

    def fresh(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def add(self, template: str, *operands: Any, like: Value | None = None, **known) -> Value:
        """A statement of one result, which is as `like` or else the first operand, but for what is
        known.
        """
        value = (like or operands[0])._replace(name=self.fresh(), weak=False)._replace(**known)
        value = self.rounded_if_it_must(value)
        self.write([value], value.name, template, names(operands), [])
        return value

    def write(self, values: list[Value], targets, template: str, operands: list, blocks: list):
        """A statement that makes these values."""
        self.bodies[-1].append((targets, template, operands, blocks))
        self.unread -= set(flat(operands))
        self.unread |= {v.name for v in values}
        self.scopes[-1] += values

    def rounded_if_it_must(self, v: Value) -> Value:
        """v, rounded if its numbers may not fit into the mantissa."""
        if v.size > HUGE:
            raise Unsuitable
        if v.special or not v.floating:
            return v
        if v.grid is not None and 2**MANTISSA < v.bound * 2.0**v.grid < INFINITE:
            v = v._replace(grid=None)
        if v.grid is None and v.dtype != self.float and self.float == "float64":
            raise Unsuitable  # the tolerance is that of float64
        return v

    # -- choice ------------------------------------------------------------------------------------

    def pick(self, suits: Callable[[Value], bool], most=LARGE) -> Value:
        """A value at random, of no more numbers than `most`; recent ones, those of this block and
        what nothing reads more often.
        """
        found = [(v, s) for s in self.scopes for v in s if v.size <= most and suits(v)]
        if not found:
            raise Unsuitable
        here = self.scopes[-1]
        weights = [
            (1 + k / len(found))
            * (3 if scope is here else 1)
            * (3 if v.name in self.hot[-6:] else 1)
            * (4 if v.name in self.unread else 1)
            for k, (v, scope) in enumerate(found)
        ]
        ((value, scope),) = self.rng.choices(found, weights)
        if scope is not here:
            self.hot.append(value.name)
        return value

    def some(self, shape=None, most=LARGE, **known) -> Value:
        """A value that is as known, no larger than `most`; `shape` is one, or the number of its
        dimensions.
        """

        def suits(v: Value) -> bool:
            alike = all(getattr(v, k) == x for k, x in known.items())
            return alike and fits(v, shape)

        return self.pick(suits, most)

    def real(self, shape=None, bound=8.0, kinked=False) -> Value:
        """Floats for a continuous function; a `kinked` one cannot be differentiated."""
        if kinked and self.smooth:
            return self.exact(shape, bound)
        v = self.some(shape, dtype=self.float, special=False)
        return self.bounded(v, bound)

    def exact(self, shape=None, bound=64.0, dtype=None) -> Value:
        """Exact floats, for a function that jumps."""
        alike = lambda v: v.floating and dtype in (None, v.dtype)
        try:
            v = self.pick(lambda v: alike(v) and v.exact and fits(v, shape) and not v.special)
            return self.bounded(v, bound)
        except Unsuitable:
            v = self.pick(lambda v: v.integer and fits(v, shape))
            return self.converted(v, Value("", dtype or self.float, v.shape, min(bound, 8), 3))

    def whole(self, shape=None, dtype=None) -> Value:
        """Integers of any size."""
        return self.pick(lambda v: v.integer and fits(v, shape) and dtype in (None, v.dtype))

    def mask(self, shape=None) -> Value:
        try:
            if self.rng.random() < 0.7:
                return self.some(shape, dtype="bool")
        except Unsuitable:
            pass
        v = self.pick(lambda v: v.exact and v.dtype != "key" and fits(v, shape) and not v.special)
        return self.converted(v, Value("", "bool", v.shape))

    # -- fitting -----------------------------------------------------------------------------------

    def bounded(self, v: Value, bound: float) -> Value:
        """v within -bound..bound, a whole number."""
        if v.bound <= bound:
            return v
        if v.integer:
            return self.add(f"{{0}} % {int(bound) + 1}", v, bound=bound)
        if (not self.smooth and (v.exact or self.rng.random() < 0.5)) or v.exact:
            return self.add(f"jnp.clip({{0}}, -{bound}, {bound})", v, bound=bound)
        squash = self.rng.choice(["tanh", "sin"])
        return self.add(f"{bound} * jnp.{squash}({{0}} / {bound})", v, bound=bound)

    def converts(self, v: Value, like: Value) -> bool:
        """Whether `converted` can make it."""
        if v.weak or not v.size or "key" in (v.dtype, like.dtype):
            return v.dtype == like.dtype and v.shape == like.shape and not v.weak
        if self.float == "float64" and like.dtype == "float32" and not like.exact:
            return False
        return v.exact or (like.floating and not like.exact)

    def converted(self, v: Value, like: Value) -> Value:
        """v with the shape, dtype, bound and exactness of `like`."""
        if v.special and not like.special:
            v = self.add("jnp.where(jnp.isfinite({0}), {0}, 0.5)", v, special=False)
        v = self.shaped(v, like.shape)
        if like.dtype == "bool" and v.dtype != "bool":
            test = "{0} > 0.5" if v.floating else "{0} % 2 == 0"
            return self.add(test, v, dtype="bool", grid=None, bound=INFINITE)
        if like.floating:
            if not v.floating:
                limit = min(like.bound, 32)
                v = v._replace(bound=1) if v.dtype == "bool" else self.bounded(v, limit)
            if v.dtype != like.dtype:
                grid = v.grid if v.floating else 0
                v = self.add(f"{{0}}.astype('{like.dtype}')", v, dtype=like.dtype, grid=grid)
            v = self.bounded(v, like.bound)
            if like.grid is not None and v.grid is not None and v.grid > like.grid:
                scale = 2.0**like.grid
                v = self.add(f"jnp.round({{0}} * {scale}) / {scale}", v, grid=like.grid)
        elif like.integer:
            if v.floating:
                v = self.bounded(v, 100)
                v = self.add("{0}.astype('int32')", v, dtype="int32", grid=None)
            if v.dtype != like.dtype:
                kept = v.bound if v.bound < 128 and not like.dtype.startswith("u") else INFINITE
                kept = 1 if v.dtype == "bool" else kept
                v = self.add(f"{{0}}.astype('{like.dtype}')", v, dtype=like.dtype, bound=kept)
            v = self.bounded(v, like.bound)
        return v

    def shaped(self, v: Value, shape: Sequence[int]) -> Value:
        shape = tuple(shape)
        if v.shape == shape:
            return v
        if not v.size:
            raise Unsuitable
        if shape == ():
            return self.add(f"{{0}}.reshape(-1)[{self.rng.randrange(v.size)}]", v, shape=())
        if v.shape == ():
            return self.add(f"jnp.full({shape}, {{0}})", v, shape=shape)
        return self.add(f"jnp.resize({{0}}, {shape})", v, shape=shape)


def common(x: Value, y: Value) -> int | None:
    """Grid of sums and choices of x and y; None if they are not both exact floats."""
    return None if x.grid is None or y.grid is None else max(x.grid, y.grid)


def finer(x: Value, y: Value) -> int | None:
    """Grid of products."""
    return None if x.grid is None or y.grid is None else x.grid + y.grid


def names(values) -> Any:
    """Names of values in lists of them."""
    if isinstance(values, Value):
        return values.name
    return values if isinstance(values, str) else [names(v) for v in values]


def flat(names_: Any) -> list[str]:
    """All names in lists of lists."""
    return [names_] if isinstance(names_, str) else [n for x in names_ for n in flat(x)]


def fits(v: Value, shape) -> bool:
    if v.weak:
        return False
    if isinstance(shape, int):
        return len(v.shape) == shape and v.size > 0
    return shape is None or v.shape == shape
