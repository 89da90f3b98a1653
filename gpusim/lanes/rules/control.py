"""Rules for programs inside programs: calls, branches and loops."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from gpusim.lanes import jaxprs, primitive
from gpusim.lanes.loops import ROLLED
from gpusim.lanes.program.graph import Graph
from gpusim.lanes.program.operations import INTEGERS
from gpusim.lanes.program.ranges import bounds
from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.rules.carry import Carry, indexed, kept_in_memory
from gpusim.lanes.scalarize import Scalarizer, elementwise, is_bool, rule

UNROLL = 3000  # scalar operations a loop with a known number of trips may unroll into
SELECT = 400  # scalar operations that are computed for all lanes rather than jumped over


@rule(
    *("jit", "pjit", "closed_call", "core_call", "core_closed_call", "call", "composite"),
    *("remat", "checkpoint", "remat2"),
)
def _call(s: Scalarizer, eqn, *args):
    """Runs the program, once for the same numbers: JAX's own functions of indices come often."""
    jaxpr, consts = jaxprs.open_jaxpr(eqn.params.get("jaxpr") or eqn.params["call_jaxpr"])
    if consts:
        return s.run(jaxpr, consts, args)
    call = jaxpr, id(s.region), tuple([x.tobytes() for x in args])
    if call not in s.calls:
        s.calls[call] = s.run(jaxpr, consts, args)
    return s.calls[call]


@rule("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
def _custom_derivative(s, eqn, *args):
    p = eqn.params
    return s.run_closed(p.get("call_jaxpr") or p.get("fun_jaxpr") or p["jaxpr"], args)


@rule("custom_vmap_call")
def _custom_vmap(s, eqn, *args):
    return s.run_closed(eqn.params["call"], args)


@rule("lanes")
def _lanes(s, eqn, *args):
    """A kernel that was traced elsewhere, as part of this one."""
    specs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    fn = functools.partial(primitive.through_xla, **eqn.params)
    jaxpr, consts, _ = jaxprs.trace(fn, *specs)
    return s.run(jaxpr, consts, args)


@rule("platform_index")
def _platform_index(s, eqn):
    platforms = eqn.params["platforms"]
    here = [k for k, p in enumerate(platforms) if p is None or "cpu" in p]
    if not here:
        raise s.error("platform_dependent has no branch for the CPU")
    return [s.full((), np.int32, here[0])]


@rule("any_world")
def _any_world(s, eqn, x):
    return [elementwise(s.g.any, x)]


@rule("lanes_empty")
def _empty(s, eqn):
    shape, t = eqn.params["shape"], s.lane_type(eqn.params["dtype"])
    blank = s.g.blank(t, math.prod(shape))
    return [np.array(s.g.items(blank), np.int64).reshape(shape)]


# -- branches --------------------------------------------------------------------------------------


@rule("cond")
def _cond(s: Scalarizer, eqn, index, *args):
    """Small branches are computed for all lanes and chosen from. Then each large one changes what
    there is so far, for the lanes that want it.
    """
    g, branches = s.g, eqn.params["branches"]
    i = index.item()
    if i in g.value:
        k = abs(g.value[i]) if g.type[i] == "i1" else min(max(g.value[i], 0), len(branches) - 1)
        return s.run_closed(branches[k], args)
    wanted = _wanted(s, i, len(branches), is_bool(dtype_of(eqn)))
    out, large = None, []
    for want, branch in reversed(list(zip(wanted, branches, strict=True))):
        if _is_large(s, branch, args):
            large.append((want, branch))
            continue
        results = s.run_closed(branch, args)
        if out is not None:
            results = [s.choose(want, x, y) for x, y in zip(results, out, strict=True)]
        out = results
    for want, branch in large:
        out, args = _branch(s, branch, want, args, out)
    return out


def _wanted(s: Scalarizer, i: int, count: int, boolean: bool) -> list[int]:
    """For each branch whether index i means it; an index outside the range means the nearest."""
    g = s.g
    if boolean:
        return [g.invert(i), i]
    t, last = g.type[i], count - 1
    wanted = [g.compare("eq", i, g.const(t, k)) for k in range(count)]
    wanted[0] = g.compare("le", i, g.const(t, 0))
    wanted[last] = g.compare("ge", i, g.const(t, last))
    return wanted


def _is_large(s: Scalarizer, branch, args) -> bool:
    """Whether a branch is worth jumping over, or writes to an array that is in memory already."""
    if jaxprs.is_heavier(jaxprs.open_jaxpr(branch)[0], SELECT):
        return True
    return any(s.in_memory(args[k]) for k in indexed(s, branch, args).written)


def _branch(s: Scalarizer, closed, want: int, args, out):
    """A branch as code that runs only when a lane wants it. What it reads enters as parameters,
    which keeps its operations inside.

    Gives `out`, for lanes that want the branch changed to its results; and the arguments, in which
    arrays that have changed so stand for what they were: lanes that want another branch find there
    what they had.
    """
    g = s.g
    reads = Carry(s, args, [s.in_memory(x) for x in args])
    outer = [n for n in dict.fromkeys(reads.flat) if n not in g.value]
    region = g.open("if", s.region, [g.type[n] for n in outer], outer)
    region.cond = want
    inside = dict(zip(outer, region.params, strict=True))
    outside = dict(zip(region.params, outer, strict=True))
    around, s.region = s.region, region
    results = s.run_closed(closed, reads.arrays([inside.get(n, n) for n in reads.flat]))
    s.region = around
    if out is None:
        out = [_anything(s, x, outside) for x in results]
    whole = [s.in_memory(x) or s.in_memory(y) for x, y in zip(results, out, strict=True)]
    after, before = Carry(s, results, whole), Carry(s, out, whole)
    pairs = list(zip(after.flat, before.flat, strict=True))
    differ = [(a, b) for a, b in dict.fromkeys(pairs) if outside.get(a, a) != b]
    region.outs, region.otherwise = [a for a, _ in differ], [b for _, b in differ]
    merged = dict(zip(differ, g.close(region), strict=True))
    out = after.arrays([merged.get((a, b), b) for a, b in pairs])
    instead = {b: n for (_, b), n in merged.items() if g.is_array(b)}
    return out, reads.arrays([instead.get(n, n) for n in reads.flat])


def _anything(s: Scalarizer, x: np.ndarray, outside: dict[int, int]) -> np.ndarray:
    """What lanes may have that do not want the branch which gives x: of an array that the branch
    changes what it was, so that it need not be copied.
    """
    g = s.g
    if s.is_keys(x):
        return s.keys(np.full(s.key_data(x).shape, g.const("i32", 0), np.int64))
    array = g.nearest(x.ravel().tolist())
    if array is None:
        return np.array([g.const(g.type[n], 0) for n in x.ravel().tolist()], np.int64).reshape(
            x.shape
        )
    while g.op[array] == "store":
        array = g.args[array][0]
    if array not in outside:
        return np.array(g.items(g.blank(g.type[x.flat[0]], x.size)), np.int64).reshape(x.shape)
    return np.array(g.items(outside[array]), np.int64).reshape(x.shape)


# -- loops -----------------------------------------------------------------------------------------


class Loop:
    """A region that carries the arrays of `init`; `carried` are they at the start of a trip.

    in_memory: for each whether it is carried as an array in memory, rather than as numbers.
    """

    def __init__(self, s: Scalarizer, kind: str, init, in_memory: Sequence[bool], trips=0):
        self.s, self._init = s, Carry(s, init, in_memory)
        flat = self._init.flat
        self.region = s.g.open(kind, s.region, [s.g.type[n] for n in flat], flat, trips)
        self.carried = self._init.arrays(self.region.params)

    def run(self, f: Callable, *args):
        """f(*args), computed in every trip."""
        outer, self.s.region = self.s.region, self.region
        out = f(*args)
        self.s.region = outer
        return out

    def close(self, outs, kept=()) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What is carried out of it if it ends a trip with `outs`; and the arrays that every trip
        keeps, stacked.
        """
        g, r = self.s.g, self.region
        r.outs = Carry(self.s, outs, self._init.in_memory).flat
        count = len(r.outs)
        stacks = [self._stack(y) for y in kept]
        results = g.close(r)
        out = self._init.arrays(results[:count])
        return out, [
            self._stacked(y, stack, results) for y, stack in zip(kept, stacks, strict=True)
        ]

    def _stack(self, y: np.ndarray) -> list[int]:
        """Has the loop carry an array for each number of y, which it fills; their positions among
        what is carried, -1 for a number that is the same in every trip.
        """
        g, r, at = self.s.g, self.region, []
        numbers = Carry(self.s, [y], [False]).flat
        where: dict[int, int] = {}
        for n in numbers:
            if g.region[n].depth < r.depth:
                at.append(-1)
                continue
            if n not in where:
                where[n] = len(r.params)
                array = g.carry(r, g.blank(g.type[n], r.trips))
                r.outs.append(g.store(array, r.counter, n, count=r.trips))
            at.append(where[n])
        return at

    def _stacked(self, y: np.ndarray, stack: list[int], results: list[int]) -> np.ndarray:
        g, trips = self.s.g, self.region.trips
        form = Carry(self.s, [y], [False])
        rows = [
            g.items(results[k]) if k >= 0 else [n] * trips
            for n, k in zip(form.flat, stack, strict=True)
        ]
        return np.stack([form.arrays([row[trip] for row in rows])[0] for trip in range(trips)])


@rule("while")
def _while(s: Scalarizer, eqn, *args):
    g, p = s.g, eqn.params
    nc, nb = p["cond_nconsts"], p["body_nconsts"]
    cond_consts, body_consts, init = args[:nc], args[nc : nc + nb], args[nc + nb :]
    test = kept_in_memory(s, p["cond_jaxpr"], cond_consts, init)
    body = kept_in_memory(s, p["body_jaxpr"], body_consts, init)
    loop = Loop(s, "while", init, [a or b for a, b in zip(test, body, strict=True)])
    _limit(g, p, cond_consts, init, loop.carried)
    (want,) = loop.run(s.run_closed, p["cond_jaxpr"], (*cond_consts, *loop.carried))
    loop.region.cond = functools.reduce(lambda a, b: g.bitop("or", a, b), want.ravel().tolist())
    outs = loop.run(s.run_closed, p["body_jaxpr"], (*body_consts, *loop.carried))
    if want.ndim:  # several loops by vmap: those that have ended keep what they have
        outs = [_kept(s, want, x, y) for x, y in zip(outs, loop.carried, strict=True)]
    if g.value.get(loop.region.cond) == 0:
        return list(init)
    return loop.close(outs)[0]


def _limit(g: Graph, p, consts, init, carried):
    """Notes what the counter of a loop can be: as `fori_loop` makes it, one more in each trip, as
    long as it is less than a number that stays. In a lane that has had all its trips it stays too.
    """
    (test, _), (body, _) = map(jaxprs.open_jaxpr, (p["cond_jaxpr"], p["body_jaxpr"]))
    if [eqn.primitive.name for eqn in test.eqns] != ["lt"] or test.outvars != test.eqns[0].outvars:
        return
    counter, end = test.eqns[0].invars
    given, before = [*consts, *init], body.invars[p["body_nconsts"] :]
    scalar = not counter.aval.shape and counter.aval.dtype == np.int32
    if counter not in test.invars[len(consts) :] or not scalar:
        return
    k = test.invars.index(counter) - len(consts)
    steps = [eqn for eqn in body.eqns if eqn.outvars == [body.outvars[k]]]
    adds_one = [eqn.primitive.name for eqn in steps] == ["add"] and any(
        a is before[k] and isinstance(b, jaxprs.Literal) and b.val == 1
        for a, b in (steps[0].invars, steps[0].invars[::-1])
    )
    if isinstance(end, jaxprs.Literal):
        last = int(end.val)
    elif end in test.invars:
        m = test.invars.index(end) - len(consts)
        if m >= 0 and body.outvars[m] is not before[m]:
            return
        _, last = bounds(g, given[m + len(consts)].item())
    else:
        return
    if adds_one:
        low, high = bounds(g, init[k].item())
        g.limits[carried[k].item()] = low, max(high, last)


def _kept(s: Scalarizer, want: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Rows of `new` where wanted, else of `old`."""
    rows = [s.choose(int(want[at]), new[at], old[at]) for at in np.ndindex(want.shape)]
    return np.array(rows, np.int64).reshape(new.shape)


def repeat(s: Scalarizer, trips: int, init, body, in_memory: Sequence[bool] | None = None):
    """A loop of so many trips. `body(trip, carried)` gives the arrays to carry on and arrays to
    keep; the result is what is carried out, and what every trip kept, stacked.
    """
    loop = Loop(s, "for", init, in_memory or [False] * len(init), trips)
    return loop.close(*loop.run(body, loop.region.counter, loop.carried))


@rule("scan")
def _scan(s: Scalarizer, eqn, *args):
    p, g = eqn.params, s.g
    length, reverse, closed = p["length"], p["reverse"], p["jaxpr"]
    nc, nk = jaxprs.scan_counts(p)
    consts, init, xs = args[:nc], args[nc : nc + nk], args[nc + nk :]
    inner, _ = jaxprs.open_jaxpr(closed)
    if length <= 1 or not (stays_rolled(inner) or jaxprs.is_heavier(inner, UNROLL // length)):
        return _unrolled(s, closed, length, reverse, consts, list(init), xs, eqn)
    # what a trip hands on unchanged is a constant of the loop; a counter is the trip's number
    fixed = [inner.outvars[k] is inner.invars[nc + k] for k in range(nk)]
    steps = [_step(inner, nc + k, k, x, g) for k, x in enumerate(init)]
    moving = [k for k in range(nk) if not fixed[k] and steps[k] is None]

    def whole(trip: int | None, values):
        """All that is carried, at the start of a trip (node), or at the end of the loop."""
        out, values = list(init), iter(values)
        for k, (x, step) in enumerate(zip(init, steps, strict=True)):
            if step is not None:
                t = g.type[x.item()]
                done = g.const(t, length) if trip is None else g.convert(trip, t)
                out[k] = np.array(g.add(x.item(), g.mul(done, g.const(t, step))))
            elif not fixed[k]:
                out[k] = next(values)
        return out

    def body(trip, carry):
        place = g.sub(g.const("i32", length - 1), trip) if reverse else trip
        slices = [_at_trip(s, x, place) for x in xs]
        results = s.run_closed(closed, (*consts, *whole(trip, carry), *slices))
        return [results[k] for k in moving], results[nk:]

    whole_arrays = kept_in_memory(s, closed, consts, init)
    in_memory = [whole_arrays[k] for k in moving]
    carry, ys = repeat(s, length, [init[k] for k in moving], body, in_memory)
    return whole(None, carry) + [y[::-1] if reverse else y for y in ys]


def stays_rolled(jaxpr) -> bool:
    """Whether it is the body of a loop that was asked to stay one."""
    return any(eqn.primitive.name == "name" and eqn.params["name"] == ROLLED for eqn in jaxpr.eqns)


def _step(jaxpr, argument: int, result: int, init: np.ndarray, g: Graph) -> int | None:
    """By how much a carried integer, known when the loop starts, is larger after every trip."""
    v, out = jaxpr.invars[argument], jaxpr.outvars[result]
    if init.shape != () or init.item() not in g.value or g.type[init.item()] not in INTEGERS:
        return None
    for eqn in jaxpr.eqns:
        if eqn.outvars[0] is out and eqn.primitive.name == "add":
            for a, b in (eqn.invars, eqn.invars[::-1]):
                if a is v and isinstance(b, jaxprs.Literal):
                    return int(b.val)
    return None


def _unrolled(s, closed, length, reverse, consts, carry, xs, eqn):
    ys = []
    for trip in range(length - 1, -1, -1) if reverse else range(length):
        results = s.run_closed(closed, (*consts, *carry, *(x[trip] for x in xs)))
        carry, y = results[: len(carry)], results[len(carry) :]
        ys.append(y)
    if not ys:
        return carry + [np.empty(v.aval.shape, np.int64) for v in eqn.outvars[len(carry) :]]
    return carry + [np.stack(y[::-1] if reverse else y) for y in zip(*ys, strict=True)]


def _at_trip(s: Scalarizer, x: np.ndarray, trip: int) -> np.ndarray:
    """x[trip], from the array that x is in memory, or else from an array for each column."""
    g, length, shape = s.g, len(x), x.shape[1:]
    if s.is_keys(x):
        return s.keys(_at_trip(s, s.key_data(x), trip))
    if not x.size:
        return x[0]
    whole, columns = g.array_of(x.ravel().tolist()), x.reshape(length, -1).T.tolist()
    if whole is not None:
        size = len(columns)
        found = [g.element(whole, trip, k, size, length) for k in range(size)]
    else:
        found = [g.element(g.array(column), trip, count=length) for column in columns]
    return np.array(found, np.int64).reshape(shape)
