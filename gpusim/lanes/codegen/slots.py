"""Memory of a function's own, in which its arrays are."""

from collections import defaultdict
from dataclasses import dataclass, field

from gpusim.lanes.program.nodes import Region


@dataclass(eq=False)
class Slot:
    """Memory of an array, and then of the arrays that are made of it in place."""

    name: str  # LLVM's
    t: str  # type of its numbers
    stored: str  # and as they are kept
    size: int
    wide: bool  # whether each is a vector, with a number for each lane
    owner: Region | None  # the region that may overwrite it; None: nobody may, it is a table
    array: int = -1  # what it holds; -1: nothing yet, or an array that is being made of its numbers
    # lanes in which it may be overwritten: where all of these masks are true
    masks: list[int] = field(default_factory=list)
    # nodes that can be read from it now
    index: dict[int, int] = field(default_factory=dict)
    nodes: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, n: int, index: int):
        """Node n can be read there from now on."""
        self.index[n] = index
        self.nodes[index].add(n)

    def remove(self, n: int):
        """Node n cannot be read there any more."""
        self.nodes[self.index.pop(n)].remove(n)
