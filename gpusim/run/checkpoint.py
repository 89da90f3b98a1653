"""The whole training state on disk: one file a checkpoint (see archive.py), atomic and bit-exact.

A file appears under its name only when it is complete: it is written beside it, flushed to the
disk and renamed. Loading compares every leaf's path, shape and dtype with a template and names the
first that differs.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.run import archive
from gpusim.run.archive import CheckpointError
from gpusim.run.files import write_atomic
from gpusim.run.hosts import Hosts

Tree = TypeVar("Tree")
Snapshot = dict[str, tuple[np.ndarray, str]]
"""By leaf: its data, and its dtype as the manifest spells it."""


def snapshot(state: Any) -> Snapshot:
    """A copy of a state on the host, which nothing that is done with the state will change."""
    named = _named_leaves(state)
    arrays = jax.device_get([_data(leaf) for _, leaf in named])  # in one go
    return {
        name: (np.array(_storable(data)), _description(leaf)[1])
        for (name, leaf), data in zip(named, arrays, strict=True)
    }


def save(
    folder: Path,
    leaves: Snapshot,
    *,
    step: int,
    extra: dict[str, Any],
    keep: int,
    for_good: Callable[[int], bool] = lambda step: False,
) -> Path:
    """Write a snapshot as `folder`/<step>.npz and delete all but the newest `keep` checkpoints, and
    those of steps that are kept for good.

    `extra` is what the host remembers besides the state: JSON values, returned by `load`.
    """
    path = folder / f"{step:012d}.npz"
    write(path, leaves, step=step, extra=extra)
    passing = [p for p in archive.checkpoints(folder) if p != path and not for_good(int(p.stem))]
    for old in passing[: -keep + 1 or None]:
        old.unlink()
    return path


def write(path: Path, leaves: Snapshot, *, step: int, extra: dict[str, Any]) -> None:
    """Write a snapshot as a file of this name, which no other file makes way for."""
    described = {
        name: {"dtype": dtype, "shape": data.shape} for name, (data, dtype) in leaves.items()
    }
    manifest = {"version": archive.VERSION, "step": step, "extra": extra, "leaves": described}
    members = {name: data for name, (data, _) in leaves.items()}
    members[archive.MANIFEST] = np.frombuffer(json.dumps(manifest).encode(), np.uint8)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: np.savez(file, allow_pickle=False, **members))


def load(path: Path, template: Tree) -> tuple[Tree, dict[str, Any]]:
    """Return the saved state and `extra`, each leaf placed on its template's devices.

    `template` is a state of the program that is to continue, a fresh one say: it gives the tree
    structure, which is not in the file, and what every leaf must look like.
    """
    return _restored(path, archive.read(path), template)


def load_newest(
    folder: Path, template: Tree, told: Callable[[str], Any], hosts: Hosts
) -> tuple[Tree, dict[str, Any]]:
    """`load` of the newest checkpoint that is sound; `told` hears of those that are not. Newer ones
    get names that are no checkpoints': what comes is not to be taken for older than they are.

    template: stacked over devices; the checkpoint may be of another number of them, which `told`
    hears too. The first process reads it, and every process gets the rows of its own devices.
    """
    extra: dict[str, Any] = {}

    def read() -> dict[str, np.ndarray]:
        path, found = archive.newest(folder, told)
        expected = _named_leaves(template)
        devices = next(_description(leaf)[0][0] for _, leaf in expected) * hosts.count
        saved_of = next((data.shape[0] for data in found.members.values() if data.ndim), devices)
        if saved_of != devices:
            shapes = {n: (devices, *_description(leaf)[0][1:]) for n, leaf in expected}
            found = _respread(found, shapes)
        _compare(path, expected, found.leaves, hosts.count)
        if saved_of != devices:
            told(
                f"the run was on {saved_of} devices and goes on on {devices}: as well, but not "
                "bit for bit as it would have"
            )
        for other in archive.checkpoints(folder):
            if other.name > path.name:
                other.rename(other.with_suffix(".npz.damaged"))
        extra.update(found.extra)
        return found.members

    own = snapshot(template)
    whole = {name: np.concatenate([data] * hosts.count) for name, (data, _) in own.items()}
    rows = {name: hosts.own(data) for name, data in hosts.shared(read, whole).items()}
    return _placed(rows, template), hosts.told(extra)


def _respread(found: archive.Archive, shapes: Mapping[str, tuple[int, ...]]) -> archive.Archive:
    """A checkpoint as another number of devices has it; shapes: of its leaves there.

    What is equal on all devices is so on any number of them; what is of worlds has an axis of them,
    the only one whose length changes. Leaves of neither kind stay as they are.
    """
    members = {}
    for name, data in found.members.items():
        shape = shapes.get(name, data.shape)
        if data.shape[1:] == shape[1:] and (_bits(data) == _bits(data[:1])).all():
            data = np.repeat(data[:1], shape[0], axis=0)
        elif len(data.shape) == len(shape):
            (axis, *more) = [i for i in range(1, len(shape)) if data.shape[i] != shape[i]] or [0]
            if axis and not more and data.shape[0] * data.shape[axis] == shape[0] * shape[axis]:
                data = _split(data, axis, shape)
        members[name] = data
    leaves = {n: {**found.leaves[n], "shape": list(x.shape)} for n, x in members.items()}
    return found._replace(members=members, leaves=leaves)


def _split(data: np.ndarray, axis: int, shape: tuple[int, ...]) -> np.ndarray:
    """(devices, ..., worlds of each, ...) as `shape` says it of other devices; axis: of worlds."""
    worlds = np.moveaxis(data, 0, axis - 1)  # the devices' axis beside theirs
    return np.moveaxis(worlds.reshape(*shape[1:axis], shape[0], *shape[axis:]), axis - 1, 0)


def _bits(data: np.ndarray) -> np.ndarray:
    """Its bytes, one row a device: NaN is equal to itself."""
    return np.ascontiguousarray(data).view(np.uint8).reshape(len(data), -1)


def load_part(path: Path, template: Tree) -> Tree:
    """The part of a saved state that `template` has leaves for, of the state's first device.

    template: shapes of a state on one device, with None for what is not wanted. It does not matter
    on how many devices the state was saved.
    """
    keys = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    template = jax.tree.map(lambda x: jnp.empty(x.shape, x.dtype) if keys(x) else x, template)
    found, expected = archive.read(path), _named_leaves(template)
    members = {name: found.members[name][:1] for name, _ in expected if name in found.members}
    first = {n: {**found.leaves[n], "shape": list(data.shape)} for n, data in members.items()}
    _compare(path, expected, first)
    leaves = [
        _from_numpy(members[n], like)
        if _is_key(like)
        else jnp.asarray(members[n].view(jnp.dtype(found.leaves[n]["dtype"])))
        for n, like in expected
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _restored(path: Path, found: archive.Archive, template: Tree) -> tuple[Tree, dict[str, Any]]:
    """The template with what was saved."""
    _compare(path, _named_leaves(template), found.leaves)
    return _placed(found.members, template), found.extra


def _placed(members: Mapping[str, np.ndarray], template: Tree) -> Tree:
    """The template with these arrays, on its devices."""
    leaves = [_from_numpy(members[name], leaf) for name, leaf in _named_leaves(template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their paths: `state/params/policy/kernel`."""
    flat, _ = jax.tree_util.tree_flatten_with_path({"state": tree})
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in flat]


def _compare(
    path: Path, expected: list[tuple[str, Any]], saved: dict[str, Any], processes: int = 1
) -> None:
    """Raise for the first leaf that the checkpoint and so many templates, one behind the other, do
    not share exactly."""
    names = [name for name, _ in expected]
    for name in names:
        if name not in saved:
            raise CheckpointError(f"checkpoint {path}: leaf {name} is missing in it")
    for name in saved:
        if name not in names:
            raise CheckpointError(f"checkpoint {path}: leaf {name} is unknown to this program")
    for name, leaf in expected:
        data, dtype = _description(leaf)
        data = (data[0] * processes, *data[1:]) if processes > 1 else data
        there = (tuple(saved[name]["shape"]), saved[name]["dtype"])
        if there != (data, dtype):
            raise CheckpointError(
                f"checkpoint {path}: leaf {name} is {there[1]}{list(there[0])} in it, "
                f"this program has {dtype}{list(data)}"
            )


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _description(leaf: Any) -> tuple[tuple[int, ...], str]:
    """Shape of the stored data, and the leaf's dtype as the manifest spells it."""
    if _is_key(leaf):
        return jax.random.key_data(leaf).shape, f"key<{jax.random.key_impl(leaf)}>"
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return leaf.shape, leaf.dtype.name


def _data(leaf: Any) -> Any:
    """The leaf, or the words of its keys."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _storable(data: Any) -> np.ndarray:
    """The array as .npz keeps it bit for bit."""
    data = np.asarray(data)
    # bfloat16 and its like: .npz would forget which
    return data.view(f"u{data.dtype.itemsize}") if data.dtype.kind == "V" else data


def _from_numpy(data: np.ndarray, like: Any) -> Any:
    """What `snapshot` made of a leaf as a leaf again, on the devices of `like` and of its dtype."""
    if _is_key(like):
        return jax.device_put(
            jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(like)),
            like.sharding,
        )
    dtype = _description(like)[1]
    data = data.view(jnp.dtype(dtype)) if data.dtype.name != dtype else data
    if isinstance(like, jax.Array):
        return jax.device_put(data, like.sharding)
    return data if isinstance(like, np.ndarray) else type(like)(data.item())
