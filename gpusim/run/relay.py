"""A process's connection to the coordinator of a run, held by the process itself."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable


class Relay:
    """Passes on what goes between the client in this process and the coordinator, and tells when
    that one has gone. JAX's own client, directly connected, would abort() the process with a trace
    of its stack.
    """

    def __init__(self, host: str, port: int, gone: Callable[[], None]):
        """gone: called, in a thread, when the coordinator closes a connection."""
        self._coordinator, self._gone = (host.strip("[]"), port), gone
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        if any(name.lower() == "http_proxy" for name in os.environ):
            os.environ.setdefault("no_grpc_proxy", "127.0.0.1")
        self._run(self._accept)

    def _accept(self) -> None:
        while True:
            here, _ = self._server.accept()
            try:
                there = socket.create_connection(self._coordinator, timeout=10)
            except OSError:  # it has not begun yet: the client will try again
                here.close()
                continue
            there.settimeout(None)
            closed = threading.Event()  # by the client, which may come back
            self._run(_pass_on, here, there, closed.set)
            self._run(_pass_on, there, here, lambda closed=closed: closed.is_set() or self._gone())

    @staticmethod
    def _run(function: Callable, *arguments: object) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, ended: Callable[[], object]) -> None:
    try:
        while data := source.recv(2**16):
            sink.sendall(data)
    except OSError:
        pass
    ended()
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
