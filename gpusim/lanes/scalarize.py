"""From a jaxpr of small arrays to the scalar graph: the interpreter and the table of rules.

An array is a NumPy array of node numbers. Rules that only move numbers about (reshape, gather,
transpose...) are NumPy on node numbers; everything else visits the elements. The rules themselves
stand in `rules/`, by kind.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from gpusim.lanes import jaxprs
from gpusim.lanes.math.halves import HALVES, from_bits, rounded, to_bits
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.nodes import Region, TooLarge

TYPES = {
    "float32": "float",
    "float64": "double",
    "bfloat16": "float",
    "float16": "float",
    "bool": "i1",
    "int8": "i8",
    "uint8": "i8",
    "int16": "i16",
    "uint16": "i16",
    "int32": "i32",
    "uint32": "i32",
    "int64": "i64",
    "uint64": "i64",
}


class LanesError(NotImplementedError):
    """A function cannot be compiled to lanes."""


# Constants of an array, of which each is a node of its own.
LIFTED = 1_000_000
# An array in memory and another of more numbers than this are chosen from in memory.
CHOSEN = 64

RULES: dict[str, Callable] = {}
# Primitives whose results are as precise as their operands, or were rounded within.
EXACT = frozenset(
    "reshape squeeze expand_dims broadcast_in_dim transpose rev slice pad concatenate split tile "
    "stack unstack gather scatter dynamic_slice dynamic_update_slice select_n copy copy_p name "
    "stop_gradient optimization_barrier device_put reshard neg abs sign max min clamp floor ceil "
    "round sort top_k argmax argmin reduce_max reduce_min cummax cummin jit pjit closed_call "
    "core_call remat checkpoint remat2 custom_jvp_call custom_vjp_call custom_vmap_call composite "
    "cond scan while lanes lanes_empty bitcast_convert_type".split()
)


def rule(*names: str):
    """Registers `f(s, eqn, *operands) -> list of results` for primitives."""

    def register(f):
        for name in names:
            RULES[name] = f
        return f

    return register


@functools.cache
def is_signed(dtype) -> bool:
    return not np.issubdtype(dtype, np.unsignedinteger)


@functools.cache
def is_float(dtype) -> bool:
    return jax.dtypes.issubdtype(dtype, np.floating)


@functools.cache
def is_half(dtype) -> bool:
    """Whether it has 16 bits, and is computed in 32."""
    return not jaxprs.is_key(dtype) and np.dtype(dtype).name in HALVES


@functools.cache
def is_bool(dtype) -> bool:
    return dtype == np.bool_


class Scalarizer:
    """Runs jaxprs on node numbers."""

    def __init__(self, graph: Graph, name: str):
        self.g = graph
        self.name = name  # of the user's function, for messages
        self.region: Region = graph.root
        self.halves = False  # whether numbers of 16 bits have been met
        self.types: dict = {}  # dtype: LLVM type, of those met
        self.calls: dict = {}  # results of calls, by program, region and arguments
        self.running: list = []  # the equations being compiled, outermost first

    def lane_type(self, dtype) -> str:
        """LLVM type of a JAX dtype."""
        if dtype not in self.types:
            self.types[dtype] = "key" if jaxprs.is_key(dtype) else self._number_type(dtype)
        return self.types[dtype]

    def _number_type(self, dtype) -> str:
        name = np.dtype(dtype).name
        if name not in TYPES:
            raise self.error(f"dtype {name} is not supported (use one of {', '.join(TYPES)})")
        self.halves |= name in HALVES
        return TYPES[name]

    def number_type(self, dtype) -> str:
        """As what LLVM finds a number of this dtype in memory."""
        t = self.lane_type(dtype)
        return "i16" if is_half(dtype) else t

    def from_memory(self, x: np.ndarray, dtype) -> np.ndarray:
        """The numbers of what is found in memory."""
        if not is_half(dtype):
            return x
        return elementwise(lambda n: from_bits(self.g, n, np.dtype(dtype).name), x)

    def to_memory(self, x: np.ndarray, dtype) -> np.ndarray:
        """What is stored of numbers."""
        if not is_half(dtype):
            return x
        return elementwise(lambda n: to_bits(self.g, n, np.dtype(dtype).name), x)

    def lift(self, value) -> np.ndarray:
        """Constants as nodes."""
        value = np.asarray(value)
        if value.size > LIFTED:
            raise TooLarge(f"it closes over {value.size:,} numbers; make them an argument")
        t, const = self.lane_type(value.dtype), self.g.const
        return np.array([const(t, v) for v in value.ravel().tolist()], np.int64).reshape(
            value.shape
        )

    def full(self, shape, dtype, value) -> np.ndarray:
        return np.full(shape, self.g.const(self.lane_type(dtype), value), np.int64)

    def run(self, jaxpr, consts, args) -> list[np.ndarray]:
        """The results of the jaxpr; `consts` are arrays or nodes already lifted, `args` node
        arrays.
        """
        env = dict(zip(jaxpr.constvars, map(self.lift_const, consts), strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        self.running.append(None)
        for eqn in jaxpr.eqns:
            self.running[-1] = eqn
            f = RULES.get(eqn.primitive.name)
            if f is None:
                raise self.error(f"primitive '{eqn.primitive.name}' is not supported")
            results = f(self, eqn, *self.read(eqn.invars, env))
            if self.halves and eqn.primitive.name not in EXACT:
                results = [self.rounded(*pair) for pair in zip(results, eqn.outvars, strict=True)]
            for k, v in enumerate(eqn.outvars):
                env[v] = results[k]
        self.running.pop()
        return self.read(jaxpr.outvars, env)

    def rounded(self, x: np.ndarray, v) -> np.ndarray:
        """The value of variable v, of the precision that v has."""
        if not is_half(v.aval.dtype):
            return x
        return elementwise(lambda n: rounded(self.g, n, np.dtype(v.aval.dtype).name), x)

    def read(self, atoms, env) -> list[np.ndarray]:
        """Values of variables and literals."""
        return [env[v] if not isinstance(v, jaxprs.Literal) else self.literal(v) for v in atoms]

    def literal(self, atom) -> np.ndarray:
        """A scalar of the program's text."""
        value = np.asarray(atom.val, atom.aval.dtype)  # the value itself may be a float64
        return np.array(self.g.const(self.lane_type(value.dtype), value.item()))

    def run_closed(self, closed, args) -> list[np.ndarray]:
        jaxpr, consts = jaxprs.open_jaxpr(closed)
        return self.run(jaxpr, consts, args)

    def lift_const(self, c) -> np.ndarray:
        if jaxprs.is_key(getattr(c, "dtype", np.dtype("float32"))):
            return self.keys(self.lift(jax.random.key_data(c)))
        return self.lift(c)

    def keys(self, data: np.ndarray) -> np.ndarray:
        """uint32 words [..., w] as nodes of type key."""
        rows = data.reshape(-1, data.shape[-1]).tolist()
        return np.array([self.g.node("key", "key", *row) for row in rows], np.int64).reshape(
            data.shape[:-1]
        )

    def key_data(self, keys: np.ndarray, words: int = 2) -> np.ndarray:
        """The words [..., w] of keys."""
        data = [self.g.args[k] for k in keys.ravel().tolist()]
        return np.array(data, np.int64).reshape(*keys.shape, len(data[0]) if data else words)

    def is_keys(self, x: np.ndarray) -> bool:
        """Whether it is an array of random keys."""
        return x.size > 0 and self.g.type[x.flat[0]] == "key"

    def in_memory(self, x: np.ndarray) -> bool:
        """Whether most of its numbers are those of an array in memory."""
        return x.size > 0 and self.g.nearest(x.ravel().tolist()) is not None

    def choose(self, c: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """x where the mask c is true, else y."""
        g, a, b = self.g, x.ravel().tolist(), y.ravel().tolist()
        arrays = [g.nearest(n) for n in (a, b)] if a else [None]
        small = len(a) <= CHOSEN
        if arrays.count(None) > (0 if small else 1):
            chosen = [g.select(c, i, j) for i, j in zip(a, b, strict=True)]
        else:
            chosen = g.items(g.choose(c, g.array(a), g.array(b)))
        return np.array(chosen, np.int64).reshape(x.shape)

    def line(self) -> str:
        """The user's line that is being compiled."""
        lines = (jaxprs.user_line(eqn) for eqn in reversed(self.running) if eqn is not None)
        return next((line for line in lines if line), "an unknown line")

    def error(self, what: str) -> LanesError:
        """What to raise in a rule that cannot go on: it names the function, the user's line and the
        remedy.
        """
        return LanesError(
            f"lanes.kernel({self.name}): {what}, at {self.line()}; "
            "rewrite that line, or set GPUSIM_LANES=xla to run the function through XLA"
        )


def elementwise(f, *operands: np.ndarray) -> np.ndarray:
    """f of the scalars of node arrays; dimensions of size 1, and scalars, are repeated."""
    shapes = [x.shape for x in operands]
    shape = shapes[0]
    if shapes.count(shape) == len(shapes):
        if shape == ():
            return np.array(f(*[x.item() for x in operands]))
        lists = [x.ravel().tolist() for x in operands]
    else:
        shape = np.broadcast(*operands).shape
        lists = [
            spread(x, shape).ravel().tolist() if x.ndim else itertools.repeat(x.item())
            for x in operands
        ]
    return np.array([*map(f, *lists)], np.int64).reshape(shape)


def spread(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """np.broadcast_to for node arrays, which is slow for small ones."""
    out = np.empty(shape, np.int64)
    out[...] = x
    return out


def places(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The indices of every element of an array of this shape, in order."""
    return itertools.product(*map(range, shape))
