"""CUDA kernels on a device: `JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu tests/lanes`.

GPUSIM_TEST_PLATFORM=cpu lets them run on any machine, to see that the tests themselves work.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from bench.common import ROBOTS
from gpusim import lanes
from tests.lanes.agreement import assert_same

pytestmark = pytest.mark.gpu
PLATFORM = os.environ.get("GPUSIM_TEST_PLATFORM", "cuda")
WORLDS = 100  # not a multiple of a block


@pytest.fixture
def devices():
    """The devices under test; a session in which they are not the default tests nothing."""
    try:
        found = jax.local_devices(backend=PLATFORM)
    except RuntimeError:
        pytest.skip(f"needs a {PLATFORM} device")
    assert jax.devices()[0] in found, f"set JAX_PLATFORMS={PLATFORM},cpu"
    return found


def stepped(name, steps, device, dtype=jnp.float32):
    """Observations, rewards and ends of random worlds after each of some control steps."""
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.default_device(cpu):  # the same starts and actions everywhere
        env = gpusim.make(name)
        start = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), WORLDS))
        shape = (steps, WORLDS, env.action_size)
        actions = jax.random.uniform(jax.random.key(1), shape, minval=-1.0)

    def precise(x):
        return np.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def step(state, action):
        state = jax.vmap(env.step)(state, action)
        return state, (state.obs, state.reward, state.terminated)

    with jax.enable_x64(dtype == jnp.float64), jax.default_matmul_precision("highest"):
        env = gpusim.make(name)  # which `step` means, from here on
        given = jax.device_put(jax.tree.map(precise, (start, actions)), device)
        return jax.device_get(jax.jit(lambda s, a: jax.lax.scan(step, s, a)[1])(*given))


@pytest.mark.parametrize("name", ROBOTS)
def test_environments_agree_with_host_kernels(devices, name):
    """In float64 to its rounding, but where the solver stops a trip earlier; in float32 the device
    is as near to that as the host is."""
    cpu = jax.local_devices(backend="cpu")[0]
    expected = stepped(name, 3, cpu, jnp.float64)

    def errors(found):
        assert np.isfinite(found[0]).all()
        assert np.mean(found[2] == expected[2]) > 0.98
        scale = np.maximum(np.abs(expected[0]), 1.0)
        error = (np.abs(found[0] - expected[0]) / scale).max(axis=-1)
        error = np.maximum(error, np.abs(found[1] - expected[1]) / np.abs(expected[1]).max())
        return np.quantile(error, (0.5, 0.95), axis=1)  # over worlds, of each step

    found = stepped(name, 3, devices[0], jnp.float64)
    assert found[0].dtype == np.float64
    assert (errors(found) < [[1e-10], [1e-6]]).all(), errors(found)
    device, host = errors(stepped(name, 3, devices[0])), errors(stepped(name, 3, cpu))
    assert (device < 2 * host + 1e-6).all(), (device, host)


@pytest.mark.parametrize("name", ROBOTS)
def test_environments_agree_with_xla(devices, name, monkeypatch):
    """Beside the lanes, the same environment is compiled by XLA alone."""
    obs, reward, _ = stepped(name, 1, devices[0])
    monkeypatch.setenv("GPUSIM_LANES", "xla")
    expected_obs, expected_reward, _ = stepped(name, 1, devices[0])
    error = np.abs(obs - expected_obs).max(axis=-1) / np.maximum(np.abs(expected_obs).max(), 1.0)
    assert np.quantile(error, 0.9) < 1e-5, np.quantile(error, 0.9)
    assert np.median(np.abs(reward - expected_reward)) < 1e-3


def work(x):
    """A loop that ends at a different trip in every world, sines, a division, a local array."""
    y = jax.lax.while_loop(lambda y: jnp.abs(y).max() < 10, lambda y: 1.1 * y + jnp.sign(x), x)
    i = jnp.clip(jnp.int32(jnp.abs(x[0])), 0, 29)
    table = jnp.concatenate([jnp.sin(k * y) for k in range(10)])
    return table[i] / (1 + jnp.abs(y)), jnp.cumsum(y), y > 0


def numbers(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)


@pytest.mark.parametrize("worlds", [1, 31, 64, 65, 1000, 100_000])
def test_any_number_of_worlds(devices, worlds):
    x = numbers(worlds)
    assert_same(jax.jit(jax.vmap(lanes.kernel(work)))(x), jax.jit(jax.vmap(work))(x), 1e-5)


def test_every_device(devices):
    """pmap, and each device by itself: the same bits, from one kernel."""
    x = numbers(len(devices), 200)
    kernel = jax.vmap(lanes.kernel(work))
    together = jax.device_get(jax.pmap(kernel, devices=devices)(x))
    for k, device in enumerate(devices):
        alone = jax.device_get(jax.jit(kernel)(jax.device_put(x[k], device)))
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_array_equal(a, b[k])


def test_repeats_are_equal_to_the_bit(devices):
    kernel, x = jax.jit(jax.vmap(lanes.kernel(work))), numbers(5000)
    first = jax.device_get(kernel(x))
    for _ in range(20):
        for a, b in zip(jax.device_get(kernel(x)), first, strict=True):
            np.testing.assert_array_equal(a, b)


IN_GRAPHS = """
import jax, numpy as np
from gpusim import lanes
from tests.lanes.test_nvidia_gpu import numbers, work

def chain(x):
    for _ in range(4):
        x = jax.vmap(lanes.kernel(work))(x)[1] * 0.1
    return x

run = jax.jit(chain)
for seed in range(6):  # the graph is recorded, and then replayed with other buffers
    print(seed, float(np.abs(run(numbers(300) + seed)).sum()))
"""


def test_inside_cuda_graphs(devices):
    """With and without command buffers, in a process each: XLA's flags are read at start-up."""
    said = []
    for kinds in ("", "FUSION,CUSTOM_CALL"):
        flags = f"--xla_gpu_enable_command_buffer={kinds} --xla_gpu_graph_min_graph_size=1"
        env = os.environ | {"XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        command = [sys.executable, "-c", IN_GRAPHS]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 6
