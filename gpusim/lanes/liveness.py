"""Analyses of a finished graph: which nodes are needed, and which differ between lanes."""

from gpusim.lanes.graph import Graph
from gpusim.lanes.nodes import Region


def live_nodes(g: Graph, outputs: list[int]) -> set[int]:
    """The nodes that some output needs. A carried value that only feeds itself is not one."""
    live: set[int] = set()
    todo = list(outputs)

    def carry(r: Region, k: int):
        todo.extend((r.params[k], r.inits[k], r.outs[k]))

    while todo:
        n = todo.pop()
        if n in live:
            continue
        live.add(n)
        op, attr = g.op[n], g.attr[n]
        todo.extend(g.args[n])
        if attr is None:
            continue
        if op == "result":
            r = g.attr[g.args[n][0]]
            if r.kind == "while":
                carry(r, attr)
            else:  # the last trip's value: what came before it is needed only if a trip reads it
                todo.append(r.outs[attr])
        elif op == "param":
            r, k = attr
            if r.kind == "if":
                todo.append(r.inits[k])
            else:
                carry(r, k)
        elif op == "stacked":
            todo.append(attr[0])
        elif op == "loop" and attr.cond >= 0:
            todo.append(attr.cond)
    return live


def varying_nodes(g: Graph) -> set[int]:
    """The nodes whose value may differ between lanes; the others are computed once for all of
    them.
    """
    varying: set[int] = set()

    def visit(region: Region):
        for n in region.nodes:
            if not varying.isdisjoint(g.args[n]):
                varying.add(n)
                continue
            op, attr = g.op[n], g.attr[n]
            if op == "loop":
                loop(n, attr)
            elif (op == "input" and not attr[2]) or (op == "stacked" and attr[0] in varying):
                varying.add(n)

    def loop(n: int, r: Region):
        after = r.inits if r.kind == "if" else r.outs
        carried = list(zip(r.params, r.inits, after, strict=True))

        def widen() -> bool:
            """Marks carried values that vary; whether some are new."""
            every = r.kind == "while" and r.cond in varying
            before = len(varying)
            varying.update(p for p, i, o in carried if every or i in varying or o in varying)
            return len(varying) > before

        widen()
        visit(r)
        while widen():  # a carried value found to vary may make others vary
            visit(r)
        source = r.params if r.kind == "while" else r.outs
        varying.update(n + 1 + k for k, x in enumerate(source) if x in varying)

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


def _reads(g: Graph, r: Region) -> list[int]:
    """What loop r and the nodes in it read."""
    reads = [*r.inits, *r.outs, *([r.cond] if r.cond >= 0 else [])]
    for m in r.nodes:
        reads.extend(g.args[m])
        if g.op[m] == "loop":
            reads.extend(_reads(g, g.attr[m]))
    return reads
