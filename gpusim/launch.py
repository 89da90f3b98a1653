"""One run on several nodes, with Ray: ``python -m gpusim.launch --nodes 2 --env ant --out RUN``.

One process a node, each of them `gpusim.train` as it is, together one run (see run/hosts.py). Ray
finds the nodes, starts the processes and notices which nodes are gone; a run that loses a process
goes on from its last checkpoint.
"""

import argparse
import collections
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpusim import config, shell
from gpusim.config import ConfigError
from gpusim.parse import flags

ENDS = (0, 2, 3, 4)
"""Statuses after which the same would come again: complete, not understood, diverged, the
environment's code failed."""
LOST = 6  # as of a process that has lost the others
VARIABLES = ("GPUSIM", "JAX", "MUJOCO", "NCCL", "WANDB", "XLA")
"""How variables begin that processes on other nodes are given too."""
WAIT_SECONDS = 300.0  # for nodes that are busy or come back
PAUSE_SECONDS = 2.0  # before a run begins again


class Want(NamedTuple):
    """What is asked of the cluster."""

    nodes: int
    cpus: float  # of each node
    gpus: float


@shell.command("gpusim.launch")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status is that of gpusim.train; 2 too if there is no such cluster, 6 if nodes were
    lost more often than --max-failures."""
    options, rest = _parser().parse_known_args(argv)
    try:
        words = _training(rest)
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ConfigError("a launch needs Ray: pip install 'ray[tune]'") from None
        want = Want(options.nodes, options.cpus, options.gpus)
        _connect(ray, options.address, want)
        with _Orders(ray) as orders:
            return _until_it_ends(ray, words, want, options.max_failures, orders)
    except ValueError as error:  # a ConfigError is one
        return shell.complain("gpusim.launch", error)


def _training(rest: Sequence[str]) -> list[str]:
    """The flags of every process, checked. Raises ConfigError for what cannot be."""
    said = flags(rest)
    names = {name for name, _ in said}
    for name in ("coordinator", "num_processes", "process_id", "resume"):
        if name in names:
            raise ConfigError(
                f"--{name.replace('_', '-')}: leave it out; a launch says which processes there "
                "are, and goes on with what is in --out"
            )
    command = config.parse([*rest, "--resume", "auto"])  # which needs --out
    out = command.resume or command.out
    others = [word for name, words in said if name != "out" for word in _words(name, words)]
    return [*others, "--out", str(Path(out or "").absolute()), "--resume", "auto"]


def _words(name: str, words: Sequence[str]) -> list[str]:
    return [f"--{name.replace('_', '-')}", *words]


def _connect(ray: Any, address: str, want: Want) -> None:
    """Raises ConfigError if there is no cluster there, or it has too few such nodes."""
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({line}); "
            "`ray start --head` begins one"
        ) from None
    has = lambda node, kind, least: node["Resources"].get(kind, 0) >= least
    alive = [node for node in ray.nodes() if node["Alive"]]
    fit = [n for n in alive if has(n, "CPU", want.cpus) and has(n, "GPU", want.gpus)]
    if not 1 <= want.nodes <= len(fit):
        raise ConfigError(
            f"--nodes {want.nodes}: the cluster has {len(alive)}, of which {len(fit)} have "
            f"{want.cpus:g} CPUs and {want.gpus:g} GPUs"
        )


def _until_it_ends(
    ray: Any, words: Sequence[str], want: Want, max_failures: int, orders: "_Orders"
) -> int:
    """Train, again and again if processes or nodes are lost; the exit status."""
    for left in reversed(range(max_failures + 1)):
        status = _attempt(ray, words, want, orders)
        if status in ENDS or orders.given:
            return status
        what = "lost a node or a process" if status == LOST else f"ended with status {status}"
        if left:
            again = "it goes on from its last checkpoint"
            shell.complain("gpusim.launch", f"the run {what}; {again} (failures left: {left})")
            time.sleep(PAUSE_SECONDS)
    shell.complain("gpusim.launch", f"the run {what}, and is given up; the same command goes on")
    return status


def _attempt(ray: Any, words: Sequence[str], want: Want, orders: "_Orders") -> int:
    """Train once; the exit status of the first process, LOST if its node is gone.

    Raises ConfigError if the nodes are not to be had.
    """
    place = ray.util.placement_group(
        [{"CPU": want.cpus, "GPU": want.gpus}] * want.nodes, strategy="STRICT_SPREAD"
    )
    nodes = []
    try:
        if not place.wait(WAIT_SECONDS):
            raise ConfigError(f"the nodes were not free within {WAIT_SECONDS:g} s")
        nodes = _nodes(ray, place, want)
        address = ray.get(nodes[0].address.remote())
        variables = {k: v for k, v in os.environ.items() if k.partition("_")[0] in VARIABLES}
        streams = []
        for index, node in enumerate(nodes):
            mine = ["--coordinator", address, "--num-processes", str(want.nodes)]
            mine += ["--process-id", str(index)]
            run = node.run.options(num_returns="streaming")
            streams.append(run.remote([*words, *mine], str(Path.cwd()), variables))
        orders.first = nodes[0]
        first, *others = [_follow(ray, s, shown=i == 0) for i, s in enumerate(streams)]
        for index, (_, said) in enumerate(others, 1):
            for line in (line for line in said if line.startswith("gpusim.train: ")):
                shell.complain("gpusim.launch", f"process {index}: {line}")
        return first[0]
    except ray.exceptions.RayError:
        return LOST
    finally:
        orders.first = None
        for node in nodes:
            ray.kill(node)
        ray.util.remove_placement_group(place)


def _nodes(ray: Any, place: Any, want: Want) -> list[Any]:
    """An actor on each node; that of this machine first, if it is among them, since it is the first
    process that writes the run folder."""
    from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
        PlacementGroupSchedulingStrategy,
    )

    kind = ray.remote(max_concurrency=2)(Node)
    nodes = [
        kind.options(
            num_cpus=want.cpus,
            num_gpus=want.gpus,
            scheduling_strategy=PlacementGroupSchedulingStrategy(place, index),
        ).remote()
        for index in range(want.nodes)
    ]
    there = ray.get([node.where.remote() for node in nodes])
    here = ray.get_runtime_context().get_node_id()
    return [node for _, node in sorted(zip(there, nodes, strict=True), key=lambda x: x[0] != here)]


def _follow(ray: Any, stream: Any, *, shown: bool) -> tuple[int, list[str]]:
    """The status of a process and the last lines it said; shown: all of them, as they come."""
    status, said = LOST, collections.deque[str](maxlen=20)
    with contextlib.suppress(StopIteration, *(() if shown else (ray.exceptions.RayError,))):
        while True:
            if not ray.wait([stream], timeout=0.5)[0]:
                continue  # a signal is heard between two waits
            value = ray.get(next(stream))
            if isinstance(value, int):
                status = value
            elif shown:
                shell.say(value)
            else:
                said.append(value)
    return status, list(said)


class Node:
    """One process of the run, held by an actor on its node."""

    def where(self) -> str:
        """The node's name to Ray."""
        import ray  # pyright: ignore[reportMissingImports]

        return ray.get_runtime_context().get_node_id()

    def address(self) -> str:
        """HOST:PORT that is free here."""
        import ray  # pyright: ignore[reportMissingImports]

        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{host}:{free.getsockname()[1]}"

    def run(
        self, words: Sequence[str], folder: str, variables: dict[str, str]
    ) -> Iterator[str | int]:
        """Lines of the process, and at last its exit status as a shell counts it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpusim.train", *words],
            cwd=folder if Path(folder).is_dir() else None,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", preexec_fn=_as_from_a_shell,
        )  # fmt: skip
        assert self._process.stdout
        for line in self._process.stdout:
            yield line.rstrip("\n")
        status = self._process.wait()
        yield 128 - status if status < 0 else status

    def signal(self, number: int) -> None:
        """Send it to the process."""
        self._process.send_signal(number)


def _as_from_a_shell() -> None:
    """Run in the new process: it hears the signals that Ray's threads are deaf to, and Linux ends
    it when its actor is gone, prctl(PR_SET_PDEATHSIG, SIGKILL)."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class _Orders:
    """Ctrl-C and SIGTERM go to the first process, which has all save and stop; the second time the
    launch itself is stopped, and all with it."""

    def __init__(self, ray: Any):
        self._ray = ray
        self.first: Any = None  # the actor of the first process
        self.given = 0

    def __enter__(self) -> "_Orders":
        self._before = {n: signal.signal(n, self._pass) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._ray.shutdown()

    def _pass(self, number: int, _: object) -> None:
        if self.given or self.first is None:
            raise KeyboardInterrupt
        self.given = number
        self.first.signal.remote(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gpusim.launch",
        description="Train on several nodes of a Ray cluster; other flags are gpusim.train's.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--nodes", type=int, required=True, help="how many, with one process each")
    add("--address", default="auto", help="of the cluster (default: the one that runs here)")
    add("--cpus", type=float, default=1,
        help="cores to reserve on each (default: 1); a run takes all it may run on")  # fmt: skip
    add("--gpus", type=float, default=0, help="GPUs of each (default: 0)")
    add("--max-failures", type=int, default=3,
        help="how often it begins again after a process or node was lost (default: 3)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
