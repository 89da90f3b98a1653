"""What each JAX primitive becomes; importing the files fills the table of rules."""

from gpusim.lanes.rules import arith, arrays, bits, control, functions, linalg, random, reduce

__all__ = ["arith", "arrays", "bits", "control", "functions", "linalg", "random", "reduce"]
