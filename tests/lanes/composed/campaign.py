"""Many programs, run in processes of their own, so that a crash is one more outcome.

This process only generates programs and forks; it must not use JAX's backends, whose threads a
fork would not take along. What a process finds out it writes as a line of Python data.
"""

import ast
import collections
import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.lanes.composed import check, guard, shrink
from tests.lanes.composed.check import Outcome

ALIKE = 3  # errors with the same message that are shrunk
CHUNK = 50  # programs in a process: XLA's compiled programs stay in its memory
PATIENCE = 180  # seconds for one program


class Found(NamedTuple):
    """What became of one program."""

    seed: Any
    stage: str  # "kernel", or "guard": between pages that cannot be touched
    outcome: Outcome
    program: dict  # a failing one as small as the time allowed


class Process:
    """A fork that runs f(write); `write` sends data here."""

    def __init__(self, f: Callable[[Callable[[Any], None]], None]):
        receive, send = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX warns of threads, which it has not started
            self.pid = os.fork()
        if not self.pid:
            os.close(receive)
            try:
                with os.fdopen(send, "w", buffering=1) as pipe:
                    f(lambda data: print(repr(data), file=pipe))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(send)
        self.pipe = os.fdopen(receive)
        self.heard = time.monotonic()

    def end(self) -> str:
        """How it ended, after the pipe has closed."""
        _, status = os.waitpid(self.pid, 0)
        self.pipe.close()
        if os.WIFSIGNALED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        return f"exit status {os.waitstatus_to_exitcode(status)}"


def isolated(f: Callable[..., Any], *args: Any) -> Any:
    """f(*args), plain data, computed in a process of its own; RuntimeError if that dies."""
    process = Process(lambda write: write(f(*args)))
    ready, _, _ = select.select([process.pipe], [], [], PATIENCE)
    line = process.pipe.readline() if ready else ""
    if not ready:
        os.kill(process.pid, signal.SIGKILL)
    how = process.end()
    if not line:
        raise RuntimeError(how)
    return ast.literal_eval(line)


def run(
    programs: Sequence[tuple[Any, dict]],
    processes: int,
    guarded: Callable[[Any], bool],
    seconds: float,
) -> Iterator[Found]:
    """The outcomes of programs with names. Failing ones are shrunk for at most so many seconds."""
    waiting = [list(programs[k : k + CHUNK]) for k in range(0, len(programs), CHUNK)]
    running: dict[Process, list] = {}  # with the programs it has not begun, and the one it has
    seen = collections.Counter()  # errors, by their message
    while waiting or running:
        while waiting and len(running) < processes:
            chunk = waiting.pop(0)
            process = Process(
                lambda write, chunk=chunk: _work(chunk, guarded, seconds, seen, write)
            )
            running[process] = [chunk, None]
        pipes = {process.pipe: process for process in running}
        ready, _, _ = select.select(list(pipes), [], [], 1)
        for pipe in ready:
            process = pipes[pipe]
            process.heard = time.monotonic()
            line = pipe.readline()
            if line.startswith("('begin'"):
                running[process][1] = ast.literal_eval(line)[1:]
            elif line:
                seed, stage, outcome, program = ast.literal_eval(line)
                running[process] = [[p for p in running[process][0] if p[0] != seed], None]
                seen[message(Outcome(*outcome))] += 1
                yield Found(seed, stage, Outcome(*outcome), program)
            else:
                how = process.end()
                rest, begun = running.pop(process)
                if rest:
                    yield _died(how, rest, begun, seconds)
                    waiting.insert(0, rest[1:])
                    waiting = [chunk for chunk in waiting if chunk]
        for process in running:
            if time.monotonic() - process.heard > PATIENCE + seconds:
                os.kill(process.pid, signal.SIGKILL)


def test(stage: str, program: dict) -> Outcome:
    return check.run(program) if stage == "kernel" else guard.run(program)


def _work(chunk, guarded, seconds, seen, write):
    """Runs the programs of a chunk, in their process."""
    for seed, program in chunk:
        stage, outcome = "kernel", Outcome("agreed")
        for stage in ("kernel", "guard") if guarded(seed) else ("kernel",):
            write(("begin", seed, stage))
            outcome = test(stage, program)
            if outcome.kind != "agreed":
                break
        seen[message(outcome)] += 1
        if outcome.failed and (outcome.kind != "raised" or seen[message(outcome)] <= ALIKE):
            program = _shrunk(stage, program, message(outcome), seconds)
            outcome = test(stage, program)
        write((seed, stage, tuple(outcome), program))


def _shrunk(stage, program, wanted, seconds) -> dict:
    return shrink.shrink(program, lambda p: message(test(stage, p)) == wanted, seconds)


def message(outcome: Outcome) -> tuple[str, str]:
    """What is the same of errors that are the same."""
    return outcome.kind, outcome.detail[:40] if outcome.kind == "raised" else ""


def _died(how: str, rest: list, begun, seconds: float) -> Found:
    """What to say of a process that ended with programs left: the first of them crashed."""
    seed, program = rest[0]
    stage = begun[1] if begun else "kernel"
    kind = "hung" if how == "SIGKILL" else "crashed"

    def crashes(p: dict) -> bool:
        try:
            isolated(lambda: tuple(test(stage, p)))
        except RuntimeError as error:
            return str(error) == how
        return False

    if kind == "crashed" and stage == "kernel":
        try:
            isolated(check.compiles, program)
        except RuntimeError as error:
            return Found(seed, stage, Outcome("invalid", f"XLA's own fault: {error}"), program)
    if kind == "crashed":
        types = lambda p: isolated(shrink.types_of, p)
        program = shrink.shrink(program, crashes, seconds, types)
    return Found(seed, stage, Outcome(kind, how), program)
