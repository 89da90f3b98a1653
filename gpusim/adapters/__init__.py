"""gpusim inside what people already use; each module needs the package that it is called after."""

import operator
from typing import Any

from gpusim.envs.world import World

SEEDS = 2**32
"""A seed is below: JAX would take another for it, silently."""


def checked_world(world: Any, client: str) -> None:
    """TypeError unless it is a world: a name is what people try first; ValueError if several agents
    act in it, of which the client knows nothing."""
    if not isinstance(world, World):
        raise TypeError(f"not a world: {world!r}; gpusim.make(NAME) makes one")
    if world.agents > 1:
        raise ValueError(
            f"{world.name}: {world.agents} agents act in it, and {client} knows of one; "
            "gpusim.train and gpusim.play take it (docs/agents.md)"
        )


def checked_number(what: str, number: Any, low: int, below: int | None = None) -> int:
    """A whole number as an int; ValueError, naming it, if it is none or out of range."""
    try:
        whole = operator.index(number)
    except TypeError:
        whole = low - 1
    if whole < low or (below is not None and whole >= below):
        top = "" if below is None else f" to {below - 1}"
        raise ValueError(f"{what} is {number!r}, not a whole number from {low}{top}")
    return whole
