"""Several processes as one run, by `jax.distributed`.

Every process runs the same loop on devices of its own, and what they compute agrees by collectives.
The first alone has the folder, the display and the evaluations. A checkpoint is gathered to it: the
file is that of one process with as many devices, so that everything else can read it; it appears
whole or not at all, and no file system need be shared. The price is that the state crosses the
network when it is saved; it is some megabytes, unless a replay buffer is part of it.
"""

import contextlib
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax._src import clusters, distributed  # for the barriers that the watch is made of
from jax.experimental import multihost_utils

from gpusim.config import ConfigError, Processes
from gpusim.run.relay import Relay

LOST = 6
"""Exit status of a process whose run has lost another one."""
START_SECONDS = 300  # to wait for all processes when a run begins
PAUSE_SECONDS = 2.0  # between two signs of life
SILENCE_MS = 18_000  # how long a sign of life is waited for
FOREVER_MS = 10**9  # what takes so long is another's work; whether that one lives, the watch knows


@dataclass(frozen=True)
class Hosts:
    """The processes of a run, as one of them sees them."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Is this the one that writes and shows?"""
        return self.index == 0

    def most(self, *values: int) -> list[int]:
        """The largest that any process says, number by number."""
        if self.count == 1:
            return list(values)
        return multihost_utils.process_allgather(np.array(values, np.int32)).max(0).tolist()

    def told(self, value: Any) -> Any:
        """What the first process says, if JSON can say it; the values of others do not matter."""
        if self.count == 1:
            return value
        client: Any = distributed.global_state.client
        key = f"gpusim/told/{next(_TOLD)}"
        if not self.first:
            return json.loads(client.blocking_key_value_get(key, FOREVER_MS))
        client.key_value_set(key, json.dumps(value))
        return value

    def by_first(self, work: Callable[[], Any]) -> Any:
        """What `work` gives in the first process, in all, if JSON can say it; others do not call
        it. Raises what it raises there, and Elsewhere in the others."""
        if self.count == 1:
            return work()
        if not self.first:
            found, fault = self.told(None)
            if fault:
                raise Elsewhere(fault)
            return found
        try:
            found = work()
        except Exception as error:
            self.told([None, self._fault(error)])
            raise
        self.told([found, ""])
        return found

    def confess(self, error: Exception) -> None:
        """Say what happened here, for `elsewhere` in the others to read."""
        if self.count > 1:
            client: Any = distributed.global_state.client
            client.key_value_set(f"gpusim/fault/{self.index}", self._fault(error), True)

    def elsewhere(self, which: int) -> "Elsewhere":
        """What happened in a process that has confessed."""
        client: Any = distributed.global_state.client
        return Elsewhere(client.blocking_key_value_get(f"gpusim/fault/{which}", FOREVER_MS))

    def _fault(self, error: Exception) -> str:
        line = " ".join(str(error).split())[:200]
        return f"process {self.index} of {self.count} failed ({type(error).__name__}: {line})"

    def gathered(self, rows: np.ndarray) -> np.ndarray:
        """The rows of all processes, bit for bit. rows: (devices of this process, ...)."""
        if self.count == 1:
            return rows
        if not rows.size:
            return np.concatenate([rows] * self.count)
        found = multihost_utils.process_allgather(_bytes(rows), tiled=True)
        return found.view(rows.dtype).reshape(-1, *rows.shape[1:])

    def shared(
        self, load: Callable[[], Mapping[str, np.ndarray]], like: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """The arrays that `load` gives in the first process, bit for bit, in all; others do not
        call it. like: arrays of the same names, shapes and sizes of a number."""
        if self.count == 1:
            return load()
        found = load() if self.first else like
        send = lambda x: multihost_utils.broadcast_one_to_all(_bytes(x)) if x.size else _bytes(x)
        return {
            name: send(found[name]).view(array.dtype).reshape(array.shape)
            for name, array in like.items()
        }

    def own(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of rows that are one a device."""
        each = len(rows) // self.count
        return rows[self.index * each : (self.index + 1) * each]


class Elsewhere(RuntimeError):
    """Another process has failed, which all know by now: they save what there is, and end."""


PARTING = threading.Event()
"""Set once the processes have agreed to end: then they wait for each other."""
_FAILED = "gpusim/failed"  # the folder of what a process says that ends alone
_TOLD = itertools.count()  # in all processes the same question has the same number
_ENDING = threading.Lock()  # held by whoever ends this process


def _bytes(x: np.ndarray) -> np.ndarray:
    """As JAX leaves numbers alone: without x64 it would cut those of 64 bits."""
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8)


def current() -> Hosts:
    """The processes that `jax.distributed` knows of; this one alone if there are no others."""
    state = distributed.global_state
    return Hosts(state.process_id, state.num_processes) if state.client else Hosts()


def join(said: Processes) -> None:
    """Find the other processes, and watch from now on that they live. Before JAX computes anything.

    What is not said is found where JAX finds it: SLURM, Open MPI, Kubernetes and others say it in
    environment variables. Raises ConfigError if there is nothing to be found, or nobody.
    """
    find: Any = clusters.ClusterEnv.auto_detect_unset_distributed_params
    address, count, index, local = find(*said, None, None, START_SECONDS)
    if address is None or count is None or index is None:
        raise ConfigError(
            "several processes need --coordinator HOST:PORT, --num-processes and --process-id, "
            "since no cluster says them"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= index < count:
        raise ConfigError(
            f"--coordinator {address} --num-processes {count} --process-id {index}: needs to be "
            "HOST:PORT, and numbers from 0 on"
        )
    if count == 1:
        return
    if not index:
        _check_free(int(port))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would keep SIGTERM to itself
    if index:
        address = Relay(host, int(port), lambda: lost("process 0 has gone")).address
    alone = f"process {index} of {count} waited {START_SECONDS} s for the others at {host}:{port}"
    patience = threading.Timer(START_SECONDS, lambda: _end(alone))  # JAX would abort()
    patience.start()
    try:
        jax.distributed.initialize(address, count, index, local, initialization_timeout=10**6)
    except RuntimeError as error:
        raise ConfigError(f"--coordinator {host}:{port}: {' '.join(str(error).split())}") from error
    finally:
        patience.cancel()
    threading.Thread(target=_watch, daemon=True).start()


def _check_free(port: int) -> None:
    """Raise ConfigError if another process listens there: gRPC would share the port with it, and
    JAX abort()."""
    try:
        socket.create_server(("", port)).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--coordinator: port {port} cannot be listened on ({error}); choose another one, or "
            "is another process with --process-id 0?"
        ) from error


def _watch() -> None:
    """Meet the other processes every two seconds; end this one if one of them does not come."""
    client: Any = distributed.global_state.client
    for number in itertools.count():
        try:
            if failed := client.key_value_dir_get(_FAILED):
                lost(failed[0][1])
            client.wait_at_barrier(f"gpusim/alive/{number}", SILENCE_MS)
        except jax.errors.JaxRuntimeError as error:
            missing = re.findall(r"^\d+$", str(error), re.MULTILINE)
            names = f"process {', '.join(missing)}" if missing else "another process"
            lost(f"{names} gives no sign of life")
        time.sleep(PAUSE_SECONDS)


def is_loss(error: BaseException) -> bool:
    """Is it what a collective raises when another process has gone?"""
    words = re.compile(r"gloo|nccl|\bpeer\b|UNAVAILABLE|DEADLINE_EXCEEDED", re.IGNORECASE)
    if isinstance(error, ValueError):  # what some of them raise, and much else
        words = re.compile(r"(Gloo|NCCL) \w+ failed")
    return isinstance(error, jax.errors.JaxRuntimeError | ValueError) and bool(
        words.search(str(error))
    )


def lost(what: str) -> None:
    """End this process with one line: without the others it can do nothing, not even save."""
    here = current()
    client: Any = distributed.global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # it said nothing before it went
        what = client.blocking_key_value_get(f"{_FAILED}/why", 1000)
    _end(
        f"{what}, and process {here.index} of {here.count} ends; what was saved is whole: to go "
        "on, start all of them again with --resume"
    )


def _end(line: str) -> None:
    _ENDING.acquire()  # who comes second waits for the end
    sys.stderr.write(f"gpusim.train: {line}\n")
    sys.stderr.flush()
    os._exit(LOST)


def leave(status: int) -> None:
    """End this process: with the others if they have agreed on it, else let them know."""
    _ENDING.acquire()
    client: Any = distributed.global_state.client
    if PARTING.is_set():
        jax.distributed.shutdown()  # waits for them
    elif client:
        here = current()
        told = f"process {here.index} has failed, with status {status}"
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # nobody is there
            client.key_value_set(f"{_FAILED}/why", told, True)
            if here.first:  # what it said goes with it
                time.sleep(2 * PAUSE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without waiting for the threads that wait for others
