"""Rules for programs inside programs: calls, branches and loops."""

import functools
import itertools

import jax
import numpy as np

from gpusim.lanes import jaxprs, primitive
from gpusim.lanes.program.nodes import Region
from gpusim.lanes.rules.arith import dtype_of
from gpusim.lanes.scalarize import Scalarizer, is_bool, rule

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


@rule("cond")
def _cond(s: Scalarizer, eqn, index, *args):
    g, branches = s.g, eqn.params["branches"]
    i = index.item()
    if i in g.value:
        k = abs(g.value[i]) if g.type[i] == "i1" else min(max(g.value[i], 0), len(branches) - 1)
        return s.run_closed(branches[k], args)
    if is_bool(dtype_of(eqn)):
        wanted = [g.invert(i), i]
    else:  # an index outside the range means the nearest branch
        t, last = g.type[i], len(branches) - 1
        wanted = [g.compare("eq", i, g.const(t, k)) for k in range(len(branches))]
        wanted[0] = g.compare("le", i, g.const(t, 0))
        wanted[last] = g.compare("ge", i, g.const(t, last))
    results = []
    for want, branch in zip(wanted, branches, strict=True):
        heavy = jaxprs.is_heavier(jaxprs.open_jaxpr(branch)[0], SELECT)
        results.append(_branch(s, branch, want, args) if heavy else s.run_closed(branch, args))
    out = results[-1]
    for want, result in list(zip(wanted, results, strict=True))[-2::-1]:
        out = [_select(s, want, a, b) for a, b in zip(result, out, strict=True)]
    return out


def _select(s, c, a, b):
    flat = [
        s.g.select(c, x, y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    ]
    return np.array(flat, np.int64).reshape(a.shape)


def _branch(s: Scalarizer, closed, want: int, args):
    """The branch as code that runs only when a lane wants it. What it reads enters as parameters,
    which keeps it inside.
    """
    g = s.g
    flat, rebuild = flatten(s, args)
    varying = [n for n in dict.fromkeys(flat) if n not in g.value]
    region = g.open("if", s.region, [g.type[n] for n in varying], varying)
    region.cond = want
    inside = dict(zip(varying, region.params, strict=True))
    outer, s.region = s.region, region
    results = s.run_closed(closed, rebuild([inside.get(n, n) for n in flat]))
    s.region = outer
    region.outs, rebuild_results = flatten(s, results)
    return rebuild_results(g.close(region))


def flatten(s: Scalarizer, arrays):
    """Scalars of the arrays in one list, keys as their two words; and the way back."""
    g = s.g
    flat: list[int] = []
    parts = []  # of each array: where it stands in the list, its shape, whether it is of keys
    for x in arrays:
        nodes, start = x.ravel().tolist(), len(flat)
        keys = bool(nodes) and g.type[nodes[0]] == "key"
        flat += itertools.chain.from_iterable(g.args[n] for n in nodes) if keys else nodes
        parts.append((slice(start, len(flat)), x.shape, keys))

    def rebuild(values: list[int]) -> list[np.ndarray]:
        return [
            s.keys(np.reshape(values[at], (*shape, 2)))
            if keys
            else np.array(values[at], np.int64).reshape(shape)
            for at, shape, keys in parts
        ]

    return flat, rebuild


@rule("while")
def _while(s: Scalarizer, eqn, *args):
    g, p = s.g, eqn.params
    nc, nb = p["cond_nconsts"], p["body_nconsts"]
    cond_consts, body_consts, init = args[:nc], args[nc : nc + nb], args[nc + nb :]
    region, carry, finish = _open_loop(s, "while", init)
    outer, s.region = s.region, region
    (want,) = s.run_closed(p["cond_jaxpr"], (*cond_consts, *carry))
    region.cond = want.item()
    outs = s.run_closed(p["body_jaxpr"], (*body_consts, *carry))
    s.region = outer
    if g.value.get(region.cond) == 0:
        return list(init)
    return finish(outs)


def _open_loop(s: Scalarizer, kind: str, init, trips=0):
    """A region carrying the arrays of `init`; the carried arrays inside; and a function that closes
    it.
    """
    g = s.g
    flat, rebuild = flatten(s, init)
    region = g.open(kind, s.region, [g.type[n] for n in flat], flat, trips)

    def finish(outs):
        region.outs, _ = flatten(s, outs)
        return rebuild(g.close(region))

    return region, rebuild(region.params), finish


def repeat(s: Scalarizer, trips: int, init, body):
    """A loop of so many trips. `body(trip, carried)` gives the arrays to carry on and arrays to
    keep; the result is what is carried out, and what every trip kept, stacked.
    """
    region, carry, finish = _open_loop(s, "for", init, trips)
    outer, s.region = s.region, region
    carry, kept = body(region.counter, carry)
    s.region = outer
    return finish(carry), [_stacked(s, region, y) for y in kept]


@rule("scan")
def _scan(s: Scalarizer, eqn, *args):
    p = eqn.params
    length, reverse, closed = p["length"], p["reverse"], p["jaxpr"]
    nc, nk = jaxprs.scan_counts(p)
    consts, init, xs = args[:nc], args[nc : nc + nk], args[nc + nk :]
    inner, _ = jaxprs.open_jaxpr(closed)
    if length <= 1 or not jaxprs.is_heavier(inner, UNROLL // length):
        return _unrolled(s, closed, length, reverse, consts, list(init), xs, eqn)
    # what a trip hands on unchanged is a constant of the loop
    fixed = [inner.outvars[k] is inner.invars[nc + k] for k in range(nk)]
    moving = lambda values: [x for x, f in zip(values, fixed, strict=True) if not f]

    def whole(values):
        it = iter(values)
        return [x if f else next(it) for x, f in zip(init, fixed, strict=True)]

    def body(trip, carry):
        trip = s.g.sub(s.g.const("i32", length - 1), trip) if reverse else trip
        slices = [_at_trip(s, x, trip) for x in xs]
        results = s.run_closed(closed, (*consts, *whole(carry), *slices))
        return moving(results[:nk]), results[nk:]

    carry, ys = repeat(s, length, moving(init), body)
    return whole(carry) + [y[::-1] if reverse else y for y in ys]


def _unrolled(s, closed, length, reverse, consts, carry, xs, eqn):
    ys = []
    for trip in range(length - 1, -1, -1) if reverse else range(length):
        results = s.run_closed(closed, (*consts, *carry, *(x[trip] for x in xs)))
        carry, y = results[: len(carry)], results[len(carry) :]
        ys.append(y)
    if not ys:
        return carry + [np.empty(v.aval.shape, np.int64) for v in eqn.outvars[len(carry) :]]
    return carry + [np.stack(y[::-1] if reverse else y) for y in zip(*ys, strict=True)]


def _at_trip(s, x, trip):
    columns = x.reshape(len(x), -1).T.tolist()
    return np.array([s.g.element(c, trip) for c in columns], np.int64).reshape(x.shape[1:])


def _stacked(s, region: Region, y):
    """The values y of every trip, read back from memory after the loop."""
    g = s.g
    flat, rebuild = flatten(s, [y])
    inside = [n for n in flat if g.region[n].depth >= region.depth]  # the others never change
    region.stacked.extend(n for n in dict.fromkeys(inside) if n not in region.stacked)
    trips = []
    for trip in range(region.trips):
        row = [
            g.node("stacked", g.type[n], region.node, attr=(n, trip))
            if g.region[n].depth >= region.depth
            else n
            for n in flat
        ]
        trips.append(rebuild(row)[0])
    return np.stack(trips)
