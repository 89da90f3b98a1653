"""Between which numbers options of worlds of traffic are."""

import math
from typing import Any

TINY = 1e-6
"""The least of what must be above 0."""


def within(world: Any, **bounds: tuple[float, float]) -> None:
    """Raise ValueError unless each option of the world so called is finite, and from the first to
    the second number: traffic would flow otherwise than anybody asked, without a word."""
    for name, (low, high) in bounds.items():
        value = getattr(world, name)
        if not (low <= value <= high and math.isfinite(value)):
            least = "more than 0" if low == TINY else f"at least {low:g}"
            most = f", at most {high:g}" if math.isfinite(high) else ", and finite"
            raise ValueError(f"{world.name}: {name} is {value:g}, not {least}{most}")
