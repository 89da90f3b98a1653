"""Per-world JAX functions as SIMD kernels in which every number is a lane."""

from typing import Any

from gpusim.lanes.budget import LanesWarning
from gpusim.lanes.kernel import kernel
from gpusim.lanes.loops import any_world, empty, fori_loop, side_by_side
from gpusim.lanes.scalarize import LanesError

__all__ = [
    "LanesError",
    "LanesWarning",
    "any_world",
    "empty",
    "fori_loop",
    "kernel",
    "side_by_side",
    "vectorize",
]


def vectorize(env: Any) -> Any:
    """The Brax environment `env` with `reset` and `step` compiled to kernels.

    The result still is a `brax.envs.Env` of one world: Brax's wrappers go on top of it, and Brax's
    learners train in it unmodified. See docs/brax.md.
    """
    from gpusim.lanes.brax import LaneEnv  # Brax costs a second to import

    return LaneEnv(env)
