"""Changes to a finished graph before it is written out: less work, in a better order."""

import heapq
import itertools
from collections import defaultdict

from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.program.operations import SPECULATIVE

FIXED = {"pack", "element", "store", "blend"}  # what reads or writes memory stays where it is


def choose_once(g: Graph, uses: list[int]):
    """Drops choices that are made again: where(c, f(where(c, x, 1)), 0) becomes where(c, f(x), 0)
    if nothing else needs that f. Keeps count of `uses`, by node.

    JAX programs choose twice to keep derivatives finite; the numbers need the outer choice only.
    """
    choices: dict[int, list[int]] = defaultdict(list)
    for n, op in enumerate(g.op):
        if op == "select" and uses[n]:
            choices[g.args[n][0]].append(n)
    for alike in choices.values():
        first = min(alike)
        for n, arm in itertools.product(alike, (1, 2)):
            if uses[n] and g.args[n][arm] >= first:
                _choose_within(g, n, arm, first, uses)


def _choose_within(g: Graph, choice: int, arm: int, first: int, uses: list[int]):
    """The same for one arm of a select; selects by the same mask begin at node `first`."""
    mask, start = g.args[choice][0], g.args[choice][arm]
    reached = {start: 1}  # how often, from this arm
    todo, own, instead = [-start], [], {}
    while todo:
        n = -heapq.heappop(todo)  # users come before what they use
        if n < first:
            break
        if g.op[n] == "select" and g.args[n][0] == mask:
            instead[n] = g.args[n][arm]
        elif reached[n] == uses[n] and g.op[n] in SPECULATIVE:
            own.append(n)
            for a in g.args[n]:
                if a not in reached:
                    reached[a] = 0
                    heapq.heappush(todo, -a)
                reached[a] += 1
    if not instead:
        return
    for n in (*reversed(own), choice):
        old = g.args[n]
        new = [instead.get(a, a) for a in old]
        if n == choice:  # its other arm was reached from elsewhere, if at all
            new = [*old[:arm], new[arm], *old[arm + 1 :]]
        g.args[n] = tuple(new)
        for a, b in zip(old, new, strict=True):
            uses[a] -= 1
            uses[b] += 1
        if g.op[n] in ("fadd", "fsub") and new[1] in g.zero:
            instead[n] = new[0]
    unused = [n for n in instead if not uses[n]]
    while unused:
        n = unused.pop()
        for a in g.args[n]:
            uses[a] -= 1
            if not uses[a] and g.op[a] in SPECULATIVE:
                unused.append(a)


def bring_forward(g: Graph, region: Region, uses: list[int]):
    """Moves what is computed from the results of a loop right behind it, where they are still in
    registers; in `region` and the loops in it. Only what is used stays in them.
    """
    nodes = [n for n in region.nodes if uses[n]]
    places = list(range(len(nodes)))  # where each is to stand
    known: dict[int, int] = {}  # node: the place after which it is known, from the first loop on
    loops: set[int] = set()  # places of those that run more than once

    def note(n: int, place: int):
        known[n] = place
        if n in g.first_item:
            first = g.first_item[n]
            known.update(dict.fromkeys(range(first, first + g.size(n)), place))

    for k, n in enumerate(nodes):
        op = g.op[n]
        if op == "loop":
            r: Region = g.attr[n]
            bring_forward(g, r, uses)
            for result in range(n + 1, n + 1 + len(r.outs)):
                note(result, k)
            if r.kind != "if":
                loops.add(k)
        elif known:
            if op not in FIXED:
                after = -1
                for a in g.args[n]:
                    if known.get(a, -1) > after:
                        after = known[a]
                if after in loops:
                    places[k] = after
            note(n, places[k])
    if known:
        nodes = [nodes[k] for k in sorted(range(len(nodes)), key=places.__getitem__)]
    region.nodes[:] = nodes
