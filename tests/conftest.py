"""What every test runs under: two CPU devices, no network, a cache of its own.

The environment is set before anything imports jax, and child processes inherit it.
"""

import gc
import os
import socket
import sys
import tempfile
from pathlib import Path

_cache = None
if "PYTEST_XDIST_WORKER" not in os.environ:  # one for the session: kernels compile once
    _cache = tempfile.TemporaryDirectory(prefix="gpusim-test-cache-")
    os.environ["GPUSIM_CACHE"] = _cache.name
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# XLA's programs are kept for each worker and its children: JAX writes them in place, where another
# worker could read a half.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["GPUSIM_CACHE"], f"xla-{_worker}")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
_flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_force_host_platform_device_count=2".strip()

import pytest  # noqa: E402

from tests.xla_flags import compile_quickly  # noqa: E402

compile_quickly()

# What `-m quick` runs: of every part the tests that compile little.
QUICK = (
    "test_imports.py", "test_config.py", "agents/test_config.py", "agents/test_losses.py",
    "agents/test_returns.py", "agents/test_normalize.py", "envs/test_registry.py",
    "envs/test_world.py", "lanes/test_passes.py", "physics/test_features.py",
    "physics/test_linalg.py", "report/test_charts.py", "report/test_report.py",
    "run/test_checkpoint.py", "run/test_sinks.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is quick. The files named are there: a name that has gone is an error."""
    here = Path(__file__).parent
    missing = [name for name in QUICK if not (here / name).exists()]
    assert not missing, f"tests/conftest.py: {missing} are gone"
    for item in items:
        slow = {"slow", "gpu"} & {marker.name for marker in item.iter_markers()}
        if not slow and any(item.path == here / name for name in QUICK):
            item.add_marker("quick")


def pytest_collection_finish() -> None:
    """What has been imported stays: the garbage collector need not look through it each time, nor
    come as often as it does where there is little to look through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What XLA has compiled for the tests of a file goes with the last of them.

    A process has 65,530 memory maps on Linux and crashes at the next one. An executable holds
    three or more, and this suite compiles more of them than that.
    """
    if "jax" in sys.modules and (nextitem is None or nextitem.path != item.path):
        sys.modules["jax"].clear_caches()


def pytest_unconfigure() -> None:
    if _cache:
        _cache.cleanup()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection to another machine fails the test (Unix sockets and this machine may)."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        local = isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1", "localhost")
        if self.family != socket.AF_UNIX and not local:
            raise AssertionError(f"a test tried to reach the network: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
