"""What each JAX primitive becomes; importing the files fills the table of rules."""

from gpusim.lanes.rules import arith, arrays, control, indexing, linalg, reduce

__all__ = ["arith", "arrays", "control", "indexing", "linalg", "reduce"]
