"""How commands meet who typed them: Ctrl-C, a reader that has gone and a terminal that knows few
letters bring no traceback, and a command that is printed can be pasted."""

import contextlib
import functools
import io
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol


class Main(Protocol):
    """What starts a command: it takes its words, by default those of the process."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(name: str) -> Callable[[Callable[..., int]], Main]:
    """Decorates the `main` of a command, which returns the exit status. Ctrl-C is one line, and the
    process dies of it as others do, which a shell calls status 130: what JAX still computes would
    crash an interpreter that is taken down in order."""

    def decorate(main: Callable[..., int]) -> Main:
        @functools.wraps(main)
        def told(argv: Sequence[str] | None = None) -> int:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="replace")  # "?" for what ASCII has no letter for
            try:
                with _swallowing_nothing():
                    return main(argv)
            except KeyboardInterrupt:
                complain(name, "stopped")
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.raise_signal(signal.SIGINT)
                return 128 + signal.SIGINT

        return told

    return decorate


@contextlib.contextmanager
def _swallowing_nothing() -> Iterator[None]:
    """Ctrl-C that falls into a callback, JAX's of each garbage collection above all, is thrown away
    there: it comes again a moment later."""
    before = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if lost.exc_type is KeyboardInterrupt:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def say(text: str) -> None:
    """Print, whoever reads: the reader may have gone, as `head` does, and the work goes on."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(name: str, message: object, status: int = 2) -> int:
    """Say what is wrong, in one line after the command's name; the exit status."""
    print(f"{name}: {message}", file=sys.stderr)
    return status


def call(module: str, *words: str | os.PathLike[str]) -> str:
    """The line that runs one of our commands from here: `python -m gpusim.play runs/ant`."""
    return shlex.join([_python(), "-m", module, *(str(os.fspath(word)) for word in words)])


def _python() -> str:
    """What this interpreter is called in the shell: "python" only where that is it."""
    found, this = shutil.which("python"), Path(sys.executable)
    if found and Path(found).absolute().parent == this.parent:  # a link would lead out of a venv
        return "python"
    here = Path.cwd()
    return str(this.relative_to(here) if this.is_relative_to(here) else this)
