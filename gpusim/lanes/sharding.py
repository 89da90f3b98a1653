"""Kernels over worlds that are spread over devices: each device computes the worlds it has."""

import math
from collections.abc import Callable

from jax.experimental.custom_partitioning import (
    ArrayMapping,
    SdyShardingRule,
    custom_partitioning,
)
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def spread(call: Callable, batched: tuple[bool, ...]) -> Callable:
    """`call`, of arrays whose first axis is the worlds where `batched` says so, for XLA's
    partitioners. They keep the worlds where they are, and copy the other arrays to every device.
    """

    def partition(mesh, args, results):
        axis = _worlds_axis(mesh, [*results, *(x for x, b in zip(args, batched, strict=True) if b)])
        place = lambda b: NamedSharding(mesh, P(axis) if b else P())
        return mesh, call, [place(True) for _ in results], tuple(map(place, batched))

    def infer(mesh, args, results):
        axis = _worlds_axis(mesh, [x for x, b in zip(args, batched, strict=True) if b])
        return [NamedSharding(mesh, P(axis)) for _ in results]

    def rule(mesh, arg_types, result_types):
        marks = (*batched, *(True for _ in result_types))
        mappings = [
            ArrayMapping(*("worlds" if mark and k == 0 else f"a{n}_{k}" for k in range(t.rank)))
            for n, (t, mark) in enumerate(zip((*arg_types, *result_types), marks, strict=True))
        ]
        return SdyShardingRule(tuple(mappings[: len(batched)]), tuple(mappings[len(batched) :]))

    spread_call = custom_partitioning(lambda *args: call(*args))
    spread_call.def_partition(partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return spread_call


def _worlds_axis(mesh, arrays):
    """The mesh axis, or axes, that the worlds of one of these arrays are spread over evenly."""
    for x in arrays:
        axis = x.sharding.spec[0] if x.sharding.spec else None
        names = axis if isinstance(axis, tuple) else (axis,)
        if axis and x.shape[0] % math.prod(mesh.shape[name] for name in names) == 0:
            return axis
    return None
