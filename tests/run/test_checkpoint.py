"""gpusim.run.checkpoint: what is loaded is what was saved, and nothing else is ever accepted."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpusim.run import archive, checkpoint, files
from gpusim.run.hosts import Hosts


@flax.struct.dataclass
class State:
    params: Any
    opt_state: Any
    key: Any
    worlds: Any
    steps: Any


def make_state(seed: int) -> State:
    """A state with every kind of leaf: keys of two kinds, bfloat16, scalars, non-finite numbers."""
    key = jax.random.key(seed)
    params = {"w": jax.random.normal(key, (3, 4)), "b": jnp.arange(4, dtype=jnp.bfloat16) / 3}
    worlds = {
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 5),
        "odd": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-42], jnp.float32),
        "flags": jnp.array([True, False]),
        "none": jnp.zeros((0, 3)),
        "host": np.arange(3, dtype=np.int16) + seed,
    }
    return State(params, optax.adam(1e-3).init(params), key, worlds, seed)


def bits(tree: Any) -> list[bytes]:
    def raw(leaf: Any) -> bytes:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf).tobytes()

    return [raw(leaf) for leaf in jax.tree.leaves(tree)]


def save(folder: Path, state: Any, step: int = 1, keep: int = 3) -> Path:
    return checkpoint.save(
        folder, checkpoint.snapshot(state), step=step, extra={"wall_s": 1.5}, keep=keep
    )


def test_round_trip_is_bit_exact(tmp_path: Path):
    saved, template = make_state(7), make_state(8)
    assert bits(saved) != bits(template)
    loaded, extra = checkpoint.load(save(tmp_path, saved), template)
    assert bits(loaded) == bits(saved)
    assert extra == {"wall_s": 1.5}
    assert loaded.key.dtype == saved.key.dtype
    assert loaded.worlds["keys"].dtype == saved.worlds["keys"].dtype
    assert loaded.params["b"].dtype == jnp.bfloat16
    assert loaded.steps == 7
    assert isinstance(loaded.steps, int)
    assert jax.tree.structure(loaded) == jax.tree.structure(saved)


def test_leaves_return_to_the_devices_of_the_template(tmp_path: Path):
    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("d",))
    sharding = NamedSharding(mesh, PartitionSpec("d"))
    x = jax.device_put(jnp.arange(8.0), sharding)
    keys = jax.device_put(jax.random.split(jax.random.key(0), 2), sharding)
    path = save(tmp_path, (x, keys))
    (x2, keys2), _ = checkpoint.load(path, (jnp.zeros_like(x, device=sharding), keys))
    assert x2.sharding == sharding
    assert keys2.sharding == keys.sharding
    assert bits((x2, keys2)) == bits((x, keys))


def test_the_file_needs_numpy_only_and_holds_no_pickle(tmp_path: Path):
    with np.load(save(tmp_path, make_state(1)), allow_pickle=False) as archive:
        assert "state/params/w" in archive.files
        assert all(archive[name].dtype != object for name in archive.files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: dataclasses.replace(s, params={"w": s.params["w"]}), "state/params/b"),
        (lambda s: dataclasses.replace(s, params=s.params | {"c": jnp.zeros(1)}), "state/params/c"),
        (lambda s: dataclasses.replace(s, params=s.params | {"w": jnp.zeros((4, 3))}), "/w is"),
        (lambda s: dataclasses.replace(s, params=s.params | {"b": jnp.zeros(4)}), "bfloat16"),
        (lambda s: dataclasses.replace(s, key=jax.random.key(0, impl="rbg")), "state/key"),
        (lambda s: dataclasses.replace(s, steps=1.0), "state/steps"),
    ],
)
def test_another_programs_state_is_refused_naming_the_leaf(tmp_path: Path, change, message: str):
    path = save(tmp_path, make_state(1))
    with pytest.raises(archive.CheckpointError, match=message) as caught:
        checkpoint.load(path, change(make_state(1)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damage_is_noticed(tmp_path: Path, damage: str):
    state = make_state(1)
    path = save(tmp_path, state)
    whole = bytearray(path.read_bytes())
    at = whole.index(np.asarray(state.params["w"]).tobytes())
    whole[at + 5] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"flip": whole, "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    with pytest.raises(archive.CheckpointError, match="cannot be read"):
        checkpoint.load(path, state)


def test_the_newest_are_kept_and_found(tmp_path: Path):
    for step in (5, 50, 500, 1000):
        save(tmp_path, make_state(step), step=step, keep=2)
    assert [int(path.stem) for path in sorted(tmp_path.iterdir())] == [500, 1000]
    loaded, _ = checkpoint.load(archive.newest(tmp_path)[0], make_state(0))
    assert loaded.steps == 1000
    with pytest.raises(archive.CheckpointError, match="no checkpoint"):
        archive.newest(tmp_path / "nowhere")[0]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        files.write_atomic(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_a_part_is_read_from_however_many_devices(tmp_path: Path):
    state = make_state(7)
    stacked = jax.tree.map(lambda x: np.stack([x, x]), (state.params, state.opt_state))
    path = save(tmp_path, State(stacked[0], stacked[1], None, None, None))
    shape = lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    params = {name: shape(leaf) for name, leaf in state.params.items()}
    blank = State(params, None, None, None, None)
    part = checkpoint.load_part(path, blank)
    assert part.opt_state is None
    assert bits(part.params) == bits(state.params)
    assert part.params["b"].dtype == jnp.bfloat16
    wrong = dataclasses.replace(blank, params={"w": jax.ShapeDtypeStruct((1, 4, 3), jnp.float32)})
    with pytest.raises(archive.CheckpointError, match=r"state/params/w is float32\[1, 3, 4\]"):
        checkpoint.load_part(path, wrong)
    missing = dataclasses.replace(blank, params={"v": shape(state.params["w"])})
    with pytest.raises(archive.CheckpointError, match="state/params/v is missing"):
        checkpoint.load_part(path, missing)


def test_a_run_goes_on_on_another_number_of_devices(tmp_path: Path):
    """Its worlds stay in order: (devices, worlds), or with an axis in front of the worlds'."""
    worlds, rows = np.arange(12), np.arange(60).reshape(5, 12)

    def on(devices: int, zero: int = 1) -> Any:
        return {
            "same": np.tile([np.nan, 1.0], (devices, 1)) * zero,
            "worlds": worlds.reshape(devices, -1) * zero,
            "rows": np.moveaxis(rows.reshape(5, devices, -1), 1, 0) * zero,
            "nothing": np.zeros((devices, 0)),
        }

    save(tmp_path, on(2), step=9)
    for devices in (1, 2, 3, 4):
        said: list[str] = []
        found, _ = checkpoint.load_newest(tmp_path, on(devices, 0), said.append, Hosts())
        assert bits(found) == bits(on(devices))
        assert said == [] if devices == 2 else "was on 2 devices" in said[0]
    save(tmp_path, on(2) | {"same": np.arange(4).reshape(2, 2)}, step=10)
    with pytest.raises(archive.CheckpointError, match=r"same is int64\[2, 2\] in it"):
        checkpoint.load_newest(tmp_path, on(1), said.append, Hosts())
