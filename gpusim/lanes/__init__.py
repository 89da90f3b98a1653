"""Per-world JAX functions as SIMD kernels in which every number is a lane."""

from gpusim.lanes.kernel import kernel
from gpusim.lanes.scalarize import LanesError

__all__ = ["LanesError", "kernel"]
