"""From a jaxpr of small arrays to the scalar graph: the interpreter and the table of rules.

An array is a NumPy array of node numbers. Rules that only move numbers about (reshape, gather, transpose...) are NumPy on node
numbers; everything else visits the elements. The rules themselves stand in the `rules_*` files, by kind.
"""

from collections.abc import Callable

import jax
import numpy as np

from gpusim.lanes import jaxprs
from gpusim.lanes.graph import Graph, Region

TYPES = {
    "float32": "float",
    "float64": "double",
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


RULES: dict[str, Callable] = {}


def rule(*names: str):
    """Registers `f(s, eqn, *operands) -> list of results` for primitives."""

    def register(f):
        for name in names:
            RULES[name] = f
        return f

    return register


def lane_type(dtype) -> str:
    """LLVM type of a JAX dtype."""
    if jaxprs.is_key(dtype):
        return "key"
    name = np.dtype(dtype).name
    if name not in TYPES:
        raise LanesError(f"dtype {name} is not supported by lanes (use one of {', '.join(TYPES)})")
    return TYPES[name]


def is_signed(dtype) -> bool:
    return not np.issubdtype(dtype, np.unsignedinteger)


class Scalarizer:
    """Runs jaxprs on node numbers."""

    def __init__(self, graph: Graph, name: str):
        self.g = graph
        self.name = name  # of the user's function, for messages
        self.region: Region = graph.root

    def lift(self, value) -> np.ndarray:
        """Constants as nodes."""
        value = np.asarray(value)
        t, const = lane_type(value.dtype), self.g.const
        return np.array([const(t, v) for v in value.ravel().tolist()], np.int64).reshape(value.shape)

    def full(self, shape, dtype, value) -> np.ndarray:
        return np.full(shape, self.g.const(lane_type(dtype), value), np.int64)

    def run(self, jaxpr, consts, args) -> list[np.ndarray]:
        """The results of the jaxpr; `consts` are arrays or nodes already lifted, `args` node arrays."""
        env = dict(zip(jaxpr.constvars, (self.lift_const(c) for c in consts), strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(atom):
            return self.lift(atom.val) if jaxprs.is_literal(atom) else env[atom]

        for eqn in jaxpr.eqns:
            f = RULES.get(eqn.primitive.name)
            if f is None:
                self.fail(eqn, f"primitive '{eqn.primitive.name}' is not supported")
            try:
                results = f(self, eqn, *map(read, eqn.invars))
            except LanesError as error:
                if getattr(error, "placed", False):
                    raise
                self.fail(eqn, str(error))
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def run_closed(self, closed, args) -> list[np.ndarray]:
        jaxpr, consts = jaxprs.open_jaxpr(closed)
        return self.run(jaxpr, consts, args)

    def lift_const(self, c) -> np.ndarray:
        if jaxprs.is_key(getattr(c, "dtype", np.dtype("float32"))):
            return self.keys(self.lift(jax.random.key_data(c)))
        return self.lift(c)

    def keys(self, data: np.ndarray) -> np.ndarray:
        """uint32 pairs [..., 2] as nodes of type key."""
        pairs = data.reshape(-1, 2).tolist()
        return np.array([self.g.node("key", "key", a, b) for a, b in pairs], np.int64).reshape(data.shape[:-1])

    def key_data(self, keys: np.ndarray) -> np.ndarray:
        data = [self.g.args[k] for k in keys.ravel().tolist()]
        return np.array(data, np.int64).reshape(*keys.shape, 2)

    def constant(self, ids: np.ndarray) -> np.ndarray | None:
        """The values of an array whose elements are all constants, else None."""
        try:
            return np.array([self.g.value[i] for i in ids.ravel().tolist()]).reshape(ids.shape)
        except KeyError:
            return None

    def fail(self, eqn, what: str):
        error = LanesError(
            f"lanes.kernel({self.name}): {what}, at {jaxprs.user_line(eqn)}; "
            "rewrite that line, or set GPUSIM_LANES=xla to run the function through XLA"
        )
        error.placed = True  # type: ignore[attr-defined]
        raise error


def elementwise(f, *operands: np.ndarray) -> np.ndarray:
    """f of the scalars of equally shaped (or scalar) node arrays."""
    shape = max((x.shape for x in operands), key=len)
    lists = [x.ravel().tolist() if x.shape == shape else [x.item()] * int(np.prod(shape)) for x in operands]
    return np.array([f(*xs) for xs in zip(*lists, strict=True)], np.int64).reshape(shape)
