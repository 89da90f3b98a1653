"""What each JAX primitive becomes; importing the files fills the table of rules."""

from gpusim.lanes.rules import (
    arith,
    arrays,
    bits,
    control,
    eigen,
    factor,
    functions,
    indexing,
    linalg,
    random,
    reduce,
    window,
)

__all__ = [
    "arith", "arrays", "bits", "control", "eigen", "factor", "functions", "indexing", "linalg",
    "random", "reduce", "window",
]  # fmt: skip
