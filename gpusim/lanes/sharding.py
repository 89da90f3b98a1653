"""Kernels over worlds that are spread over devices: each device computes the worlds it has."""

import math
from collections.abc import Callable

import jax
from jax.experimental.custom_partitioning import (
    ArrayMapping,
    SdyShardingRule,
    custom_partitioning,
)
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def spread(call: Callable, batched, args):
    """`call(*args)`, of arrays that begin with those axes of worlds that `batched` says (see
    primitive.py), on every device for the worlds it has. All else is copied to every device.
    """
    types = [jax.typeof(x) for x in args]
    mesh = types[0].sharding.mesh
    if not mesh.explicit_axes:
        return _partitioned(call, batched)(*args)
    places = _places(mesh, zip(types, batched, strict=True), len(batched[0]))
    specs = tuple(_spec(places, marks) for marks in batched)
    args = [jax.sharding.reshard(x, spec) for x, spec in zip(args, specs, strict=True)]
    axes = {*mesh.explicit_axes}  # which are part of the arrays' types
    on_each = jax.shard_map(
        call, in_specs=specs, out_specs=P(*places), axis_names=axes, check_vma=False
    )
    return on_each(*args)


def _partitioned(call: Callable, batched) -> Callable:
    """The call for XLA's partitioners, which keep worlds where they are."""
    depth = len(batched[0])
    every = (True,) * depth  # the axes of a result

    def placed(mesh, arrays):
        """The shardings of the arguments and of a result, of arrays and the axes that they have."""
        places = _places(mesh, arrays, depth)
        where = lambda marks: NamedSharding(mesh, _spec(places, marks))
        return tuple(map(where, batched)), where(every)

    def partition(mesh, args, results):
        known = [*((y, every) for y in results), *zip(args, batched, strict=True)]
        of_args, of_result = placed(mesh, known)
        return mesh, call, [of_result for _ in results], of_args

    def infer(mesh, args, results):
        _, of_result = placed(mesh, zip(args, batched, strict=True))
        return [of_result for _ in results]

    def rule(mesh, arg_types, result_types):
        names = [*zip(arg_types, batched, strict=True), *((t, every) for t in result_types)]
        mappings = []
        for n, (t, marks) in enumerate(names):
            worlds = [f"worlds{j}" for j, mark in enumerate(marks) if mark]
            rest = [f"array{n}_{k}" for k in range(t.rank - len(worlds))]
            mappings.append(ArrayMapping(*worlds, *rest))
        return SdyShardingRule(tuple(mappings[: len(batched)]), tuple(mappings[len(batched) :]))

    of_worlds = custom_partitioning(lambda *args: call(*args))
    of_worlds.def_partition(partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return of_worlds


def _spec(places, marks) -> P:
    """Where an array with the marked axes of worlds is."""
    return P(*(place for place, mark in zip(places, marks, strict=True) if mark))


def _places(mesh, arrays, depth: int) -> list:
    """The mesh axis, or axes, that one of the arrays spreads each axis of worlds over evenly."""
    places: list = [None] * depth
    taken = set()
    for x, marks in arrays:
        own = [j for j, mark in enumerate(marks) if mark]
        spec = x.sharding.spec if x.sharding else ()  # the partitioner may not know yet
        for j, size, place in zip(own, x.shape, spec, strict=False):
            names = place if isinstance(place, tuple) else (place,)
            free = place is not None and places[j] is None and not taken & {*names}
            if free and size % math.prod(mesh.shape[name] for name in names) == 0:
                places[j] = place
                taken |= {*names}
    return places
