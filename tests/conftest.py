"""What every test runs under: two CPU devices, no network, a cache of its own.

The environment is set before anything imports jax, and child processes inherit it.
"""

import os
import socket
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="gpusim-test-cache-")
os.environ["GPUSIM_CACHE"] = _cache.name  # one for the session: kernels compile once
os.environ.setdefault("JAX_PLATFORMS", "cpu")
_flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_force_host_platform_device_count=2".strip()

import pytest  # noqa: E402


def pytest_unconfigure() -> None:
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
