"""Analyses of a finished graph: which nodes are needed, and which differ between lanes."""

from collections.abc import Iterable, Iterator

from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.nodes import Region


def count_uses(g: Graph, outputs: list[int]) -> list[int]:
    """How often each node is read by what the outputs need; 0 for what they do not need. A carried
    value that only feeds itself is not needed.
    """
    uses = [0] * len(g.op)
    todo: list[int] = []
    args, attrs = g.args, g.attr

    def read(nodes: Iterable[int]):
        for n in nodes:
            if not uses[n]:
                todo.append(n)
            uses[n] += 1

    read(outputs)
    while todo:
        n = todo.pop()
        for a in args[n]:  # as in `read`, for nearly all of them
            if not uses[a]:
                todo.append(a)
            uses[a] += 1
        attr = attrs[n]
        if attr is None:
            continue
        op = g.op[n]
        if op == "result":
            r, k = attrs[args[n][0]], attr
            if r.kind == "while":
                # the last trip's value: what came before it is needed only if a trip reads it
                read((r.params[k], r.inits[k], r.outs[k]))
            elif r.kind == "if":
                read((r.outs[k], r.otherwise[k]))
            else:  # an array is changed where it is
                read((r.params[k], r.outs[k]) if g.is_array(r.outs[k]) else (r.outs[k],))
        elif op == "param":
            r, k = attr
            read((r.inits[k],) if r.kind == "if" else (r.inits[k], r.outs[k]))
        elif op == "loop" and attr.cond >= 0:
            read((attr.cond,))
    return uses


def varying_nodes(g: Graph) -> bytearray:
    """For each node, 1 if its value may differ between lanes; the others are computed once for all
    of them.
    """
    varying = bytearray(len(g.op))
    ops, args = g.op, g.args

    def visit(region: Region):
        for n in region.nodes:
            for a in args[n]:
                if varying[a]:
                    if ops[n] != "any":
                        mark(n)
                    break
            else:
                op, attr = ops[n], g.attr[n]
                if op == "loop":
                    loop(n, attr)
                elif op == "input" and not attr[2]:
                    varying[n] = 1

    def mark(n: int):
        varying[n] = 1
        first = g.first_item.get(n)
        if first is not None:
            size = g.size(n)
            varying[first : first + size] = b"\1" * size

    def loop(n: int, r: Region):
        after = r.inits if r.kind == "if" else r.outs
        carried = list(zip(r.params, r.inits, after, strict=True))

        def widen() -> bool:
            """Marks carried values that vary; whether some are new."""
            every = r.kind == "while" and varying[r.cond]
            new = [
                p for p, i, o in carried if not varying[p] and (every or varying[i] or varying[o])
            ]
            for p in new:
                mark(p)
            return bool(new)

        widen()
        visit(r)
        while widen():  # a carried value found to vary may make others vary
            visit(r)
        for k, out in enumerate(r.outs):
            if r.kind == "while":
                differs = varying[r.params[k]]
            elif r.kind == "if":
                differs = varying[out] or varying[r.otherwise[k]] or varying[r.cond]
            else:
                differs = varying[out] or (g.is_array(out) and varying[r.params[k]])
            if differs:
                mark(n + 1 + k)

    visit(g.root)
    return varying


def needs(g: Graph, r: Region, n: int) -> set[int]:
    """The nodes of region r (and loops in it) that node n depends on."""
    needed, todo = set(), [n]
    while todo:
        m = todo.pop()
        if m in needed or g.region[m].depth < r.depth:
            continue
        needed.add(m)
        todo.extend(g.args[m])
        if g.op[m] == "loop":
            todo.extend(_reads(g, g.attr[m]))
    return needed


def _reads(g: Graph, r: Region) -> Iterator[int]:
    """What loop r and the nodes in it read."""
    yield from (*r.inits, *r.outs, *r.otherwise, *([r.cond] if r.cond >= 0 else []))
    for m in r.nodes:
        yield from g.args[m]
        if g.op[m] == "loop":
            yield from _reads(g, g.attr[m])
