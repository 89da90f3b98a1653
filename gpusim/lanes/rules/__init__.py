"""What each JAX primitive becomes; importing the files fills the table of rules."""

from gpusim.lanes.rules import arith, arrays, control, linalg, reduce

__all__ = ["arith", "arrays", "control", "linalg", "reduce"]
