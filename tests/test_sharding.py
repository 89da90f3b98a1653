"""One program on two devices, by pmap and by shard_map."""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import sharding

MODES: list[sharding.Mode] = ["pmap", "shard_map"]


@pytest.fixture
def devices():
    return sharding.all_devices(2)


@pytest.mark.parametrize("mode", MODES)
def test_each_device_sees_its_entry_and_collectives_see_all(mode, devices):
    def program(x):
        return {"own": x + sharding.index()}, (sharding.mean(x), sharding.total(x))

    run = sharding.spmd(program, devices, mode=mode, out_axes=(0, None))
    stacked, (mean, total) = run(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
    np.testing.assert_array_equal(stacked["own"], [[1, 2], [4, 7]])
    np.testing.assert_array_equal(mean, [2, 4])
    np.testing.assert_array_equal(total, [4, 8])
    assert len(stacked["own"].sharding.device_set) == 2


@pytest.mark.parametrize("mode", MODES)
def test_keys_are_values_too(mode, devices):
    keys = sharding.replicate(jax.random.key(3), devices)
    draw = lambda key: jax.random.uniform(jax.random.fold_in(key, sharding.index()))
    drawn = sharding.spmd(draw, devices, mode=mode)(keys)
    expected = [jax.random.uniform(jax.random.fold_in(jax.random.key(3), i)) for i in range(2)]
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("mode", MODES)
def test_donated_buffers_are_gone(mode, devices):
    run = sharding.spmd(lambda x, y: (x + y, x * y), devices, mode=mode, donate=(0,))
    first, second = run(jnp.ones((2, 8)), jnp.ones((2, 8)))
    again, _ = run(first, second)
    assert first.is_deleted()
    assert not second.is_deleted()
    np.testing.assert_array_equal(again, np.full((2, 8), 3.0))


def test_the_modes_give_the_same_bits(devices):
    def program(key, x):
        noise = jax.random.normal(jax.random.fold_in(key, sharding.index()), x.shape)
        y = jnp.tanh(x @ noise.T)
        return sharding.mean(y), jnp.linalg.norm(y)

    keys = sharding.replicate(jax.random.key(0), devices)
    x = jax.random.normal(jax.random.key(1), (2, 33, 33))
    results = [sharding.spmd(program, devices, mode=mode)(keys, x) for mode in MODES]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_replicate_and_first_are_inverse(devices):
    tree = {"a": jnp.arange(3.0), "b": (jnp.ones(()), jax.random.key(1))}
    back = sharding.first(sharding.replicate(tree, devices))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert back["b"][1] == tree["b"][1]


def test_local_devices():
    found = jax.local_devices()
    assert sharding.all_devices() == tuple(found)
    assert sharding.all_devices(1) == (found[0],)
    assert sharding.all_devices(found[1:]) == (found[1],)
    with pytest.raises(
        ValueError, match=r"99 devices asked for, there are 2 of the kind cpu; XLA_FLAGS"
    ):
        sharding.all_devices(99)


@pytest.mark.parametrize(
    ("flags", "fits", "expected"),
    [
        (
            "",
            lambda n: True,
            "--xla_force_host_platform_device_count=4 --xla_cpu_multi_thread_eigen=false",
        ),
        ("", lambda n: n <= 2, "--xla_force_host_platform_device_count=2"),
        ("", lambda n: False, "--xla_force_host_platform_device_count=1"),
        ("--a=b", lambda n: n == 3, "--a=b --xla_force_host_platform_device_count=3"),
        ("--xla_force_host_platform_device_count=7", lambda n: True, None),
    ],
)
def test_cores_become_devices_unless_the_user_said_otherwise(monkeypatch, flags, fits, expected):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    sharding.cores_as_devices(fits)
    assert os.environ["XLA_FLAGS"] == (flags if expected is None else expected)


def test_jax_finds_the_devices_that_cores_became():
    program = (
        "from gpusim import sharding; import jax;"
        "sharding.cores_as_devices(lambda n: True); print(len(jax.devices()))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert int(found.stdout) == len(os.sched_getaffinity(0))


def test_products_are_whole_where_a_device_would_choose_fewer_bits():
    before = jax.config.values[sharding.PRECISION]
    device = lambda platform: [SimpleNamespace(platform=platform)]
    try:
        for platform, chosen, found in (
            ("cpu", None, None), ("gpu", None, "float32"), ("gpu", "tensorfloat32", None),
        ):  # fmt: skip
            jax.config.update(sharding.PRECISION, chosen)
            sharding.pin_precision(device(platform))
            assert jax.config.values[sharding.PRECISION] == (found or chosen)
    finally:
        jax.config.update(sharding.PRECISION, before)


def test_unknown_mode_names_the_known_ones(devices):
    with pytest.raises(ValueError, match="known: pmap, shard_map"):
        sharding.spmd(lambda x: x, devices, mode="xmap")  # type: ignore[arg-type]
