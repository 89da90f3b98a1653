"""Programs at random, each the same for the same seed."""

import contextlib
import random
from collections.abc import Iterator, Sequence

from tests.lanes.composed import arithmetic, arrays, combining, nesting  # noqa: F401  (fill STATEMENTS)
from tests.lanes.composed.program import LIMITS
from tests.lanes.composed.values import STATEMENTS, Unsuitable, Value, Values, flat, names

LENGTHS = (1, 2, 3, 3, 4, 5, 7, 8, 16, 17, 20, 33, 40)
WORLDS = ((), (1,), (3,), (16,), (17,), (33,), (64,), (3, 5), (1, 17), (4, 16))
# small values of the compiler's limits, and how often they are taken
SMALL = {
    "UNROLL": (0.8, (0, 0, 20)),
    "SELECT": (0.7, (0, 0, 15)),
    "ROLL": (0.4, (0, 8)),
    "ROLL_VECTOR": (0.4, (0, 4)),
    "TILE": (0.4, (1, 2, 3)),
    "LEAST": (0.4, (1, 2)),
    "LARGE": (0.3, (1, 8)),
    "TILED": (0.4, (0, 8)),
    "SEARCHED": (0.6, (0, 1, 4)),
    "SELECT_CHAIN": (0.4, (1, 2, 4)),
    "COMPARED": (0.4, (0, 1, 20)),
    "CHOSEN": (0.3, (0, 1)),
    "WRITTEN_OUT": (0.4, (0, 1, 40)),
    "DISTANT": (0.3, (0, 1, 1000)),
    "NEAR": (0.3, (0, 5)),
    "BY_WORLD": (0.4, (16, 20)),
    "CHAINS": (0.2, (1, 2)),
    "INTERLEAVED_NODES": (0.4, (0,)),
}
assert set(SMALL) == set(LIMITS)
BOUND = {"rounded": 2, "grid": 4, "special": 4, "large": 2.0**60, "small": 12, "python": 3}


class Generator(Values):
    """Builds the program of one seed."""

    def __init__(self, seed: int):
        rng = random.Random(seed)
        float_ = rng.choice(["float32", "float64"])
        super().__init__(rng, float_, float_ == "float64" or rng.random() < 0.5)
        self.seed = seed
        self.args: list[tuple] = []
        self.depth = 0  # of blocks around the statement
        self.loops: list[list[Value]] = []  # what the loops among them carry
        self.moves = rng.random() < 0.3  # whether it is mostly loops, reads and writes
        self.worlds = rng.choice(WORLDS)
        self.inside, self.outside = self.surroundings()
        around = {*self.inside, *self.outside}
        self.smooth = bool({"grad", "jvp"} & around)
        self.forward, self.reverse = "jvp" in around, "grad" in around
        if self.smooth:  # a derivative in float32 is rounded even where the number is exact
            self.floats = [self.float]

    def program(self) -> dict:
        self.choose_arguments()
        stepped = self.worlds != () and not self.smooth and self.rng.random() < 0.2
        self.some_statements(self.rng.randint(3, 9))
        results = self.choose_results()
        if stepped:
            self.step(results)
        return {
            "float": self.float,
            "x64": self.x64,
            "seed": self.seed,
            "worlds": self.worlds,
            "limits": {
                name: self.rng.choice(values)
                for name, (often, values) in SMALL.items()
                if self.rng.random() < often
            },
            "inside": self.inside,
            "outside": self.outside,
            "closed": self.choose_closed(),
            "args": self.args,
            "body": self.bodies[0],
            "results": names(results),
        }

    # -- around the function -----------------------------------------------------------------------

    def surroundings(self) -> tuple[list, list]:
        """Transformations inside the kernel and outside."""
        inside, outside, r = [], [], self.rng.random()
        if r < 0.12:
            inside = [self.rng.choice(["grad", "jvp"])]
        elif r < 0.3:
            outside = [self.rng.choice(["grad", "grad", "jvp"])]
            if self.rng.random() < 0.5:
                outside.insert(0, self.rng.choice(["jit", "checkpoint"]))
        elif r < 0.34:
            inside, outside = [self.rng.choice(["jvp", "grad"])], [self.rng.choice(["grad", "jvp"])]
        elif r < 0.38:
            outside = ["checkpoint"]
        # without jit each operation around the kernel is compiled by itself, which takes long
        return inside, outside + (["jit"] if outside or self.rng.random() < 0.85 else [])

    def choose_arguments(self):
        rng = self.rng
        length = rng.choice(LENGTHS)
        self.argument(self.float, (length,), "rounded")
        self.argument(self.float, rng.choice([(), (length,), (3, 4)]), "grid")
        self.argument(rng.choice(self.integers), rng.choice([(), (), (length,)]), "small")
        kinds = {"grid": 5, "integer": 4, "bool": 2, "key": 1, "python": 1, "long": 0.7}
        if not self.smooth:
            kinds |= {"special": 2, "large": 1, "huge": 0.5}
        for kind in rng.choices([*kinds], [*kinds.values()], k=rng.randint(1, 4)):
            shape = rng.choice([(), (rng.choice(LENGTHS),), (rng.randint(1, 4), rng.randint(1, 5))])
            if kind == "integer":
                self.argument(rng.choice(self.integers), shape, rng.choice(["any", "small"]))
            elif kind == "long":
                self.argument(self.float, (rng.choice([130, 200]),), "grid")
                self.argument(rng.choice(["int8", "uint8"]), (), "any")
            elif kind == "huge":
                self.argument(self.float, (rng.choice([600, 1000, 5000]),), "grid")
                self.argument(rng.choice(["int16", "uint16", "int32"]), (), "any")
            elif kind == "python":
                # a weak float that is differentiated has a weak derivative
                dtypes = [self.int, "bool"] + ([] if self.smooth else [self.floats[-1]])
                self.argument(rng.choice(dtypes), (), "python")
            else:
                dtype = {"bool": "bool", "key": "key"}.get(kind, self.float)
                dtype = rng.choice(self.floats) if kind == "grid" else dtype
                self.argument(dtype, () if kind == "key" else shape, kind)
        for level in range(len(self.worlds)):  # something is mapped
            if all(arg[4][level] is None for arg in self.args):
                *known, axes = self.args[0]
                self.args[0] = (*known, (*axes[:level], 0, *axes[level + 1 :]))

    def choose_closed(self) -> list[str]:
        """Some of the arguments that are shared by the worlds."""
        shared = [arg[0] for arg in self.args if not any(at is not None for at in arg[4])]
        few = self.worlds != () and not self.inside and self.rng.random() < 0.1
        return [name for name in shared if few and self.rng.random() < 0.7]

    def argument(self, dtype: str, shape: tuple, numbers: str):
        shared = numbers == "python" or self.rng.random() < 0.25
        places = [0] if numbers == "key" else [0, 0, 0, -1]
        axes = tuple(
            None if shared or self.rng.random() < 0.1 else self.rng.choice(places)
            for _ in self.worlds
        )
        name = f"a{len(self.args)}"
        self.args.append((name, dtype, shape, numbers, axes))
        grid = {"grid": 3, "special": 3, "large": 0, "python": 3}.get(numbers)
        value = Value(name, dtype, shape)
        if value.floating:
            value = value._replace(grid=grid, special=numbers == "special")
        weak = numbers == "python" and dtype != "bool"
        bound = BOUND.get(numbers, value.bound)
        self.scopes[0].append(value._replace(bound=bound, weak=weak))

    def choose_results(self) -> list[Value]:
        made = [v for v in self.scopes[0] if v.name.startswith("v")]
        last = [v for v in made if v.name in self.unread][-6:] or made[-2:]
        others = [v for v in self.scopes[0] if v not in last]
        results = last + self.rng.sample(others, min(len(others), self.rng.randint(0, 2)))
        if self.rng.random() < 0.1:
            results.append(self.rng.choice(results))
        if self.smooth:
            results.append(self.real())
        self.rng.shuffle(results)
        return results

    def step(self, results: list[Value]):
        """Adds results that can be the next arguments, in a scan around the kernel."""
        carried = []
        for k, (name, dtype, _, numbers, axes) in enumerate(self.args):
            if any(axes) or None in axes or numbers in ("special", "large") or dtype == "key":
                continue
            like = next(v for v in self.scopes[0] if v.name == name)
            new = self.pick(lambda v, like=like: self.converts(v, like))
            with contextlib.suppress(Unsuitable):
                results.append(self.converted(new, like))
                carried.append((k, len(results) - 1))
        if carried:
            scan = ("scan", self.rng.randint(2, 3), tuple(carried))
            self.outside = [scan, *(self.outside or ["jit"])]

    # -- statements --------------------------------------------------------------------------------

    def some_statements(self, count: int):
        kinds = list(STATEMENTS.values())
        # to nest what is nested already, and write what loops carry
        nest, move = (2.5 if self.depth in (1, 2) else 1.0), (4.0 if self.moves else 1.0)
        more = {nesting.__name__: nest * move, arrays.__name__: move}
        weights = [w * more.get(f.__module__, 1) for w, f in kinds]
        for _ in range(20 * count):
            ((_, write),) = self.rng.choices(kinds, weights)
            try:
                write(self)
                count -= 1
            except Unsuitable:
                continue
            if not count:
                break

    @contextlib.contextmanager
    def block(self, *params: Value, carried: Sequence[Value] = ()) -> Iterator[list]:
        """Statements written within go into the list that it gives; `carried` are the parameters
        that a loop carries.
        """
        self.scopes.append(list(params))
        self.bodies.append([])
        self.loops += [list(carried)] if carried else []
        self.depth += 1
        try:
            yield self.bodies[-1]
        finally:
            self.scopes.pop()
            self.bodies.pop()
            if carried:
                self.loops.pop()
            self.depth -= 1

    def several(self, targets: list, template: str, operands: list, blocks: list):
        """A statement of several results. `targets`: values without names, or lists of them; the
        result has the names.
        """

        def named(v):
            return [named(x) for x in v] if isinstance(v, list) else v._replace(name=self.fresh())

        results = named(targets)
        self.write(all_values(results), names(results), template, names(operands), blocks)
        for _, _, ends in blocks:
            self.unread -= set(flat(ends))
        return results


def all_values(values) -> list[Value]:
    return [values] if isinstance(values, Value) else [v for x in values for v in all_values(x)]


def generate(seed: int) -> dict:
    """The program of a seed."""
    return Generator(seed).program()
