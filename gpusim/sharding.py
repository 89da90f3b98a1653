"""The only file that says "device": one program over all of them, each with its own worlds.

State lives *stacked*: every leaf has a leading axis with one entry per device, and `spmd` runs a
function of one entry on all devices at once. Entries that must agree (parameters, statistics) agree
because what they are computed from passed through `mean` or `total`. `jax.pmap` is the default;
JAX >= 0.10 implements it by shard_map and keeps it for programs like this one, so the same function
is offered both ways. The two give the same bits.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import (
    global_array_to_host_local_array,
    host_local_array_to_global_array,
)
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
PRECISION = "jax_default_matmul_precision"
DEVICE_COUNT = "--xla_force_host_platform_device_count"
Mode = Literal["pmap", "shard_map"]
Devices = Sequence[Any]  # of jax.Device, which type checkers cannot see


def cores_as_devices(fits: Callable[[int], bool]) -> None:
    """Make CPU cores devices, as many as `fits` accepts; call it before JAX computes anything.

    One device with two threads makes them meet at every operation; two devices of one thread meet
    once a gradient step, and train 1.4 times as fast (docs/ppo.md). Nothing happens if XLA_FLAGS
    says already how many CPU devices there are, and other platforms do not care.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if DEVICE_COUNT in flags:
        return
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    num = max((n for n in range(2, cores + 1) if fits(n)), default=1)
    threads = "--xla_cpu_multi_thread_eigen=false" if num == cores else ""
    os.environ["XLA_FLAGS"] = f"{flags} {DEVICE_COUNT}={num} {threads}".strip()


def pin_precision(devices: Devices) -> None:
    """Products of matrices as float32 where a device would by itself choose fewer bits, other ones
    with each kind of it. Unless the user has chosen."""
    if devices[0].platform != "cpu" and jax.config.values[PRECISION] is None:
        jax.config.update(PRECISION, "float32")


def all_devices(devices: Devices | int | None = None) -> tuple[Any, ...]:
    """The devices to run on: all, or of every process the first so many, or exactly those given.

    Those of a process are neighbours, and every process has as many.
    """
    if devices is not None and not isinstance(devices, int):
        return tuple(devices)
    found = [
        [device for device in jax.devices() if device.process_index == process]
        for process in range(jax.process_count())
    ]
    least = min(map(len, found))
    if devices is not None and not 1 <= devices <= least:
        kind = found[0][0].platform
        more = f"; XLA_FLAGS={DEVICE_COUNT}=N makes more of a CPU" if kind == "cpu" else ""
        raise ValueError(f"{devices} devices asked for, there are {least} of the kind {kind}{more}")
    if devices is None and least < max(map(len, found)):
        numbers = ", ".join(str(len(its)) for its in found)
        raise ValueError(f"processes have {numbers} devices; say how many each: --devices {least}")
    return tuple(device for its in found for device in its[:devices])


def spmd(
    function: Callable,
    devices: Devices,
    *,
    mode: Mode = "pmap",
    donate: tuple[int, ...] = (),
    out_axes: Any = 0,
) -> Callable:
    """`function` of one device's values, compiled to a function of stacked values.

    donate: positions of arguments whose buffers the results may reuse. out_axes: 0 for a stacked
    result, None for one that is equal on all devices and comes back unstacked; a prefix of the
    results' tree. Inside, `index`, `mean` and `total` may be used.
    """
    if mode == "pmap":
        return jax.pmap(function, AXIS, devices=devices, donate_argnums=donate, out_axes=out_axes)
    if mode == "shard_map":
        return _shard_map(function, devices, donate, out_axes)
    raise ValueError(f"spmd mode {mode!r} is unknown; known: pmap, shard_map")


def _shard_map(function, devices, donate, out_axes):
    """What jax.pmap does, spelt out: each device sees its slice without the stacking axis."""
    mesh = Mesh(np.asarray(devices), (AXIS,))
    stacked, whole = PartitionSpec(AXIS), PartitionSpec()
    per_axis = partial(jax.tree.map, is_leaf=lambda x: x is None)  # out_axes has None for leaves

    def on_one_device(*arguments):
        results = function(*jax.tree.map(lambda x: x[0], arguments))
        restack = lambda axis, x: x if axis is None else jax.tree.map(lambda leaf: leaf[None], x)
        return per_axis(restack, out_axes, results)

    out_specs = per_axis(lambda axis: whole if axis is None else stacked, out_axes)
    mapped = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=stacked, out_specs=out_specs, check_vma=False
    )
    run = jax.jit(mapped, donate_argnums=donate, in_shardings=NamedSharding(mesh, stacked))
    if jax.process_count() == 1:
        return run

    def on_this_process(*arguments):
        results = run(*host_local_array_to_global_array(arguments, mesh, stacked))
        return global_array_to_host_local_array(results, mesh, out_specs)

    return on_this_process


def replicate(tree: Any, devices: Devices) -> Any:
    """The same values for every device: a stacked tree (of this process's devices)."""
    num = sum(device.process_index == jax.process_index() for device in devices)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), tree)


@jax.jit
def first(tree: Any) -> Any:
    """One device's entry of a stacked tree whose entries agree."""
    return jax.tree.map(lambda x: x[0], tree)


def index() -> jax.Array:
    """Which device this is, 0 to n-1, inside a function run by `spmd`."""
    return jax.lax.axis_index(AXIS)


def mean(tree: Any) -> Any:
    """Mean over devices, inside a function run by `spmd`."""
    return _in_one_message(partial(jax.lax.pmean, axis_name=AXIS), tree)


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and population variance of all elements on all devices, inside `spmd`."""
    average = mean(x.mean())
    return average, mean(jnp.square(x - average).mean())


def split(key: jax.Array, num: int) -> jax.Array:
    """Keys for `num` things on this device, inside a function run by `spmd`.

    The n-th thing, counted over all devices, gets the same key however things are spread.
    """
    numbers = index() * num + jnp.arange(num)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def gather(x: jax.Array) -> jax.Array:
    """The rows of all devices, one after the other, inside a function run by `spmd`."""
    return jax.lax.all_gather(x, AXIS, tiled=True)


def of_device(tree: Any, which: jax.Array) -> Any:
    """What device `which` has, on all, inside a function run by `spmd`."""

    def its(x: jax.Array) -> jax.Array:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            words = its(jax.random.key_data(x))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(x))
        return gather(x[None])[which]

    return jax.tree.map(its, tree)


def total(tree: Any) -> Any:
    """Sum over devices, inside a function run by `spmd`."""
    return _in_one_message(partial(jax.lax.psum, axis_name=AXIS), tree)


def _in_one_message(collective: Callable, tree: Any) -> Any:
    """A collective of all leaves as one vector: devices that meet seldom wait little."""
    vector, unravel = ravel_pytree(tree)
    return unravel(collective(vector))
