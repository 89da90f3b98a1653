"""Several processes are one run: they leave what one process with as many devices leaves."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from gpusim import config
from gpusim.run import archive, hosts
from gpusim.run.relay import Relay
from tests.run.test_training import CALL, ROOT, final_state, flags, rows, run

ENDLESS = 10**6  # calls
SECONDS = 120  # for what should take ten


class Processes:
    """Two processes of one device each that are a run in a folder."""

    def __init__(
        self,
        folder: Path,
        calls: int,
        *more: str,
        slurm: bool = False,
        second: tuple[str, ...] = (),
        faults: tuple[str, str] = ("", ""),
    ):
        """slurm: they are told of each other as SLURM does it, and not by flags. second: flags that
        only the second is given. faults: lines that each of them runs before it begins."""
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        devices = os.environ["XLA_FLAGS"].replace("device_count=2", "device_count=1")
        said = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id"]
        job = {"JOB_ID": str(port), "STEP_NODELIST": "localhost", "NTASKS": "2"}
        job |= {"STEP_NUM_TASKS": "2"}
        own = {"0": (), "1": second}
        flags_of = lambda index: own[index] if slurm else [*said, index, *own[index]]
        found = lambda index: {**job, "PROCID": index, "LOCALID": index} if slurm else {}
        start = [
            ["-c", f"{lines}\nfrom gpusim import train\nsys.exit(train.main())"] if lines else []
            for lines in faults
        ]
        python = lambda index: [sys.executable, *(start[int(index)] or ["-m", "gpusim.train"])]
        self.both = [
            subprocess.Popen(
                [*python(index), *flags(folder, calls, *more), *flags_of(index)],
                cwd=ROOT,
                env={
                    **os.environ,
                    **{f"SLURM_{name}": value for name, value in found(index).items()},
                    "XLA_FLAGS": devices,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in ("0", "1")
        ]

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.both:
            process.kill()
            process.communicate()

    def reach(self, steps: int) -> None:
        """Wait until the run is there."""
        deadline = time.monotonic() + SECONDS
        file = self.folder / "metrics.jsonl"
        while not (file.exists() and file.read_text().count("\n") * CALL >= steps):
            assert time.monotonic() < deadline
            assert [process.poll() for process in self.both] == [None, None], self.said()
            time.sleep(0.02)

    def said(self) -> list[tuple[int, str]]:
        """Exit statuses, and what stderr got of us: JAX and Gloo have words of their own."""
        texts = [process.communicate(timeout=SECONDS)[1].splitlines() for process in self.both]
        ours = ["\n".join(line for line in text if "gpusim.train" in line) for text in texts]
        return [(process.returncode, text) for process, text in zip(self.both, ours, strict=True)]


@pytest.mark.slow
def test_a_signal_at_one_stops_all_at_the_same_update(tmp_path: Path):
    with Processes(tmp_path / "two", ENDLESS, "--no-anneal") as two:
        two.reach(3 * CALL)
        two.both[1].send_signal(signal.SIGTERM)
        assert two.said() == [(128 + signal.SIGTERM, "")] * 2
    made = rows(two.folder)[-1]["steps"]
    one = run(tmp_path / "one", made // CALL, "--no-anneal")
    assert one.steps == made
    assert final_state(two.folder) == final_state(tmp_path / "one")
    same = lambda row: {k: v for k, v in row.items() if "evaluation" not in k}
    assert list(map(same, rows(two.folder))) == list(map(same, rows(tmp_path / "one")))


@pytest.mark.slow
def test_other_flags_are_refused(tmp_path: Path):
    with Processes(tmp_path / "two", 1, second=("--learning-rate", "0.5")) as two:
        (first, lost), (second, refused) = two.said()
    assert (first, second) == (hosts.LOST, 2)
    assert "process 1" in lost
    assert "they need to be the same" in refused
    assert not (tmp_path / "two" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_they_go_on_where_they_were_and_know_when_they_are_done(tmp_path: Path):
    folder = tmp_path / "two"
    with Processes(folder, ENDLESS, "--no-anneal") as two:
        two.reach(2 * CALL)
        two.both[0].send_signal(signal.SIGINT)
        assert two.said() == [(128 + signal.SIGINT, "")] * 2
    calls = rows(folder)[-1]["steps"] // CALL + 3
    for _ in range(2):
        with Processes(folder, calls, "--no-anneal", "--resume", "auto", slurm=True) as two:
            assert two.said() == [(0, "")] * 2
    run(tmp_path / "one", calls, "--no-anneal")
    assert final_state(folder) == final_state(tmp_path / "one")
    assert [row["steps"] for row in rows(folder)] == [CALL * k for k in range(1, calls + 1)]
    for one in (folder, tmp_path / "one"):  # in one process, with as many devices
        run(one, calls + 1, "--no-anneal")
    assert final_state(folder) == final_state(tmp_path / "one")
    with Processes(tmp_path / "restored", 1, "--restore", str(folder)) as two:
        assert two.said() == [(0, "")] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "number"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)]
)
def test_a_process_that_disappears_ends_the_other_in_a_line(
    tmp_path: Path, which: int, number: int
):
    folder = tmp_path / "two"
    with Processes(folder, ENDLESS, "--no-anneal", "--checkpoint-seconds", "0") as two:
        two.reach(3 * CALL)
        start = time.monotonic()
        two.both[which].send_signal(number)
        other = two.both[1 - which]
        _, error = other.communicate(timeout=SECONDS)
        assert time.monotonic() - start < 30
    assert other.returncode == hosts.LOST
    (line,) = (line for line in error.splitlines() if "gpusim.train" in line)
    assert f"process {1 - which} of 2 ends; what was saved is whole" in line
    assert "Check failure stack trace" not in error
    assert final_state(folder)


@pytest.mark.slow
def test_what_only_one_can_know_ends_all(tmp_path: Path):
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with Processes(folder, 3) as two:
        (first, told), (second, left) = two.said()
    assert (first, "is not empty" in told, second) == (2, True, hosts.LOST)
    assert "process 1 of 2 ends" in left


FAILS = """
import errno, sys
from gpusim.run import keeper, sinks, training
def failing(place, name, when, error):
    was = getattr(place, name)
    def now(*given, **more):
        if when(*given):
            raise error
        return was(*given, **more)
    setattr(place, name, now)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "failing(sinks.JsonLines, 'write', lambda _, row: row.steps == 192, KeyError(7))",
        "failing(training, '_evaluate', lambda _, here, *more: here.steps == 192, KeyError(7))",
    ],
)
def test_an_error_of_the_first_is_told_and_what_was_learned_is_saved(tmp_path: Path, fault: str):
    folder = tmp_path / "two"
    more = ("--no-anneal", "--evaluation-steps", str(3 * CALL))
    with Processes(folder, 6, *more, faults=(FAILS + fault, "")) as two:
        start = time.monotonic()
        (first, _), (second, line) = two.said()
        assert time.monotonic() - start < SECONDS
    assert (first, second) == (1, hosts.LOST)
    assert line == "gpusim.train: process 0 of 2 failed (KeyError: 7); process 1 ends too"
    assert archive.newest(folder / "checkpoints")[1].step == 3 * CALL
    with Processes(folder, 6, *more, "--resume", "auto") as two:
        assert two.said() == [(0, "")] * 2
    run(tmp_path / "one", 6, *more)
    assert final_state(folder) == final_state(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_an_error_while_all_compute_ends_all(tmp_path: Path, which: int):
    """The others wait for what will not come: nothing can be gathered, and it is not tried."""
    folder = tmp_path / "two"
    at = f"lambda _, here: here.steps == {3 * CALL}"
    lines = FAILS + f"failing(training, '_advance', {at}, RuntimeError('no memory'))"
    faults = (lines, "") if which == 0 else ("", lines)
    more = ("--no-anneal", "--checkpoint-seconds", "0")
    with Processes(folder, ENDLESS, *more, faults=faults) as two:
        two.reach(3 * CALL)
        start = time.monotonic()
        said = two.said()
        assert time.monotonic() - start < 30
    statuses = [status for status, _ in said]
    assert statuses == ([1, hosts.LOST] if which == 0 else [hosts.LOST, 1])
    line = said[1 - which][1]
    assert f"process {which} has failed, with status 1, and process {1 - which} of 2 ends" in line
    assert "\n" not in line
    assert archive.newest(folder / "checkpoints")[1].step == 3 * CALL


@pytest.mark.slow
def test_a_last_checkpoint_that_cannot_be_written_is_told_to_all(tmp_path: Path):
    fault = "failing(keeper.Keeper, '_save', lambda *_: True, OSError(errno.ENOSPC, 'disk full'))"
    with Processes(tmp_path / "two", 1, faults=(FAILS + fault, "")) as two:
        (first, line), (second, heard) = two.said()
    assert (first, second) == (5, hosts.LOST)
    assert "the last checkpoint cannot be written (disk full)" in line
    assert "process 0 of 2 failed (OSError" in heard


def test_which_processes_there_are_is_said_or_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert config.processes(["--env", "ant"]) == (None, ["--env", "ant"])
    said = "--coordinator a:1 --num-processes 2 --seed=3 --process-id 1".split()
    assert config.processes(said) == (config.Processes("a:1", 2, 1), ["--seed", "3"])
    assert config.processes(["--coordinator", "auto"]) == (config.Processes(), [])
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert config.processes(["--seed", "3"]) == (config.Processes(), ["--seed", "3"])
    assert config.processes(["--num-processes", "1"]) == (None, [])
    assert config.processes(["--help"]) == (None, ["--help"])
    with pytest.raises(config.ConfigError, match="--process-id: 'x' is not a number"):
        config.processes(["--process-id", "x"])


@pytest.mark.parametrize(
    ("said", "why"),
    [((None, None, None), "need --coordinator"), (("a", 2, 0), "HOST:PORT"), (("a:1", 2, 2), "0")],
)
def test_processes_that_cannot_be_are_refused(said: tuple, why: str):
    with pytest.raises(config.ConfigError, match=why):
        hosts.join(config.Processes(*said))


def test_a_port_of_another_is_not_shared():
    """Two that are both the first, say: gRPC would let them share it, and JAX would abort()."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(config.ConfigError, match=f"port {port} cannot be listened on"):
            hosts.join(config.Processes(f"127.0.0.1:{port}", 2, 0))
    with pytest.raises(config.ConfigError, match="port 99999 cannot be listened on"):
        hosts.join(config.Processes("127.0.0.1:99999", 2, 0))


def test_a_collective_that_fails_is_told_from_other_errors():
    assert hosts.is_loss(jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: [...]"))
    assert hosts.is_loss(ValueError("UNKNOWN: Gloo AllGather failed: [...] reset by peer"))
    assert not hosts.is_loss(ValueError("no peer of this name"))
    assert not hosts.is_loss(RuntimeError("Gloo AllGather failed"))


@pytest.mark.parametrize("index", [0, 1])
def test_one_that_finds_nobody_says_so(index: int):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    code = f"hosts.START_SECONDS = 1; hosts.join(({address!r}, 2, {index}))"
    command = [sys.executable, "-c", f"from gpusim.run import hosts; {code}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == hosts.LOST
    assert (
        done.stderr
        == f"gpusim.train: process {index} of 2 waited 1 s for the others at {address}\n"
    )


def test_a_relay_passes_on_and_tells_when_the_coordinator_goes():
    gone = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay("127.0.0.1", server.getsockname()[1], lambda: gone.append(True))
        host, port = relay.address.split(":")
        for ends, told in (("client", []), ("coordinator", [True])):
            client = socket.create_connection((host, int(port)))
            there, _ = server.accept()
            client.sendall(b"a" * 100_000)
            there.sendall(b"b")
            assert client.recv(1) == b"b"
            assert len(there.recv(100_000, socket.MSG_WAITALL)) == 100_000
            closing, other = (client, there) if ends == "client" else (there, client)
            closing.close()
            assert other.recv(1) == b""
            other.close()
            time.sleep(0.1)
            assert gone == told
