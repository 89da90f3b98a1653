"""What loops and branches take in and give out: numbers, and arrays that stay in memory."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpusim.lanes import jaxprs
from gpusim.lanes.loops import ROLLED
from gpusim.lanes.scalarize import Scalarizer

LEAST = 4  # numbers of an array that is carried in memory
TILED = 4000  # multiplications of a product that reads its matrices at run-time indices
LARGE = 512  # and of one that is, however it is read


class Carry:
    """Arrays in one list, `flat`: of each its numbers, keys as their words, or itself if it is to
    be in memory.
    """

    def __init__(self, s: Scalarizer, arrays: Sequence[np.ndarray], in_memory: Sequence[bool]):
        self.s = s
        self.flat: list[int] = []
        self.in_memory = []
        self._parts = []  # of each array: where it stands in the list, its shape, how it is kept
        for x, wanted in zip(arrays, in_memory, strict=True):
            nodes, start, keys = x.ravel().tolist(), len(self.flat), s.is_keys(x)
            whole = wanted and not keys and len(nodes) >= LEAST
            self.in_memory.append(whole)
            if whole:
                self.flat.append(s.g.array(nodes))
            elif keys:
                self.flat += s.key_data(x).ravel().tolist()
            else:
                self.flat += nodes
            kind = "whole" if whole else "keys" if keys else "numbers"
            self._parts.append((slice(start, len(self.flat)), x.shape, kind))

    def arrays(self, values: Sequence[int]) -> list[np.ndarray]:
        """Such arrays of other values, in the same order as `flat`."""
        out = []
        for at, shape, kind in self._parts:
            nodes = values[at]
            if kind == "whole":
                nodes = self.s.g.items(nodes[0])
            ids = np.array(nodes, np.int64)
            words = len(ids) // max(1, int(np.prod(shape)))
            out.append(
                self.s.keys(ids.reshape(*shape, words)) if kind == "keys" else ids.reshape(shape)
            )
        return out


def kept_in_memory(s: Scalarizer, closed, consts, init: Sequence[np.ndarray]) -> list[bool]:
    """Which arrays of `init` a loop had better carry in memory, whose body is given the constants
    and what is carried: those it reads or writes at run-time indices, and large ones. What is not
    read at all costs nothing as numbers.
    """
    jaxpr, found, first = jaxprs.open_jaxpr(closed)[0], indexed(s, closed, consts), len(consts)
    read = {v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, jaxprs.Literal)}
    return [
        k in found.read or k in found.written or (x.size >= LARGE and jaxpr.invars[k] in read)
        for k, x in enumerate(init, first)
    ]


class Indexed(NamedTuple):
    """Arguments of a program, by position, that it reads or writes at run-time indices."""

    read: frozenset[int]
    written: frozenset[int]


NOWHERE: frozenset[int] = frozenset()
_HANDED_ON = {"reshape", "squeeze", "expand_dims", "copy", "copy_p", "optimization_barrier"}
_NEARLY_SO = {"add", "sub", "mul"}  # by a constant, which changes few numbers if most are 0 (or 1)


def indexed(s: Scalarizer, closed, args: Sequence[np.ndarray] = ()) -> Indexed:
    """Which arguments of a program had better be in memory when it runs; `args` are the first of
    them, as far as they are known: an index among them may be a constant.
    """
    constant = [k for k, x in enumerate(args) if all(n in s.g.value for n in x.ravel().tolist())]
    return _indexed(jaxprs.open_jaxpr(closed)[0], constant)[0]


def _indexed(jaxpr, constant: Iterable[int]) -> tuple[Indexed, list[frozenset[int]]]:
    """And of each result the arguments that it is, changed or not."""
    origin = {v: frozenset([k]) for k, v in enumerate(jaxpr.invars)}
    known = {*jaxpr.constvars, *(jaxpr.invars[k] for k in constant)}
    read: set[int] = set()
    written: set[int] = set()

    def of(v) -> frozenset[int]:
        return NOWHERE if isinstance(v, jaxprs.Literal) else origin.get(v, NOWHERE)

    def fixed(v) -> bool:
        return isinstance(v, jaxprs.Literal) or v in known

    for eqn in jaxpr.eqns:
        name, ins, outs = eqn.primitive.name, eqn.invars, eqn.outvars
        if eqn.params.get("name") == ROLLED:
            continue  # the counter of a loop that stays one begins with a constant and is none
        if all(map(fixed, ins)) and not eqn.effects:
            known.update(outs)
        elif name in ("gather", "dynamic_slice"):
            if not all(map(fixed, ins[1:])):
                read |= of(ins[0])
        elif name.startswith("scatter") or name == "dynamic_update_slice":
            indices = ins[1:2] if name.startswith("scatter") else ins[2:]
            if not all(map(fixed, indices)):
                written |= of(ins[0])
            origin[outs[0]] = of(ins[0])
        elif name in _HANDED_ON:
            origin.update((v, of(i)) for v, i in zip(outs, ins, strict=False))
        elif name in _NEARLY_SO and any(map(fixed, ins)):
            origin[outs[0]] = NOWHERE.union(*map(of, ins))
        elif name == "dot_general":
            if jaxprs.multiplications(eqn) > TILED:
                read |= NOWHERE.union(*map(of, ins))
        elif name == "select_n":
            origin[outs[0]] = frozenset().union(*map(of, ins[1:]))
        else:
            for body, operands, results in _programs(eqn):
                inner, given = _indexed(body, [k for k, v in enumerate(operands) if fixed(v)])
                sources = [of(v) for v in operands]
                read |= NOWHERE.union(*(sources[k] for k in inner.read))
                written |= NOWHERE.union(*(sources[k] for k in inner.written))
                for v, ks in zip(results, given, strict=False):
                    here = NOWHERE.union(*(sources[k] for k in ks))
                    origin[v] = origin.get(v, NOWHERE) | here
            if name == "scan":  # what it goes through, it reads at the trip's number
                read |= NOWHERE.union(*map(of, ins[sum(jaxprs.scan_counts(eqn.params)) :]))
    return Indexed(frozenset(read), frozenset(written)), [of(v) for v in jaxpr.outvars]


def _programs(eqn) -> Iterator[tuple[Any, Sequence, Sequence]]:
    """The programs inside an equation, with what each is given and what becomes of its results."""
    p, ins, outs = eqn.params, eqn.invars, eqn.outvars
    if eqn.primitive.name == "cond":
        for branch in p["branches"]:
            yield jaxprs.open_jaxpr(branch)[0], ins[1:], outs
    elif eqn.primitive.name == "while":
        test, body = p["cond_nconsts"], p["body_nconsts"]
        carried = ins[test + body :]
        yield jaxprs.open_jaxpr(p["cond_jaxpr"])[0], (*ins[:test], *carried), ()
        yield jaxprs.open_jaxpr(p["body_jaxpr"])[0], ins[test:], outs
    else:
        for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            if name in p:
                yield jaxprs.open_jaxpr(p[name])[0], ins, outs
