"""Games of stable-retro as worlds that step on the host; made by `registry.make`.

Seen as sonic-on-ray and its like see them: grey, shrunk, the last few pictures stacked. There can
be one emulator in a process, so each game is a process (`retro_emulator.py`); all play at once.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpusim.envs.host_world import BYTE, HostWorld, Told
from gpusim.envs.world import Discrete
from gpusim.suggest import nearest, unknown

THEIRS = ("state", "scenario", "info", "players")
"""Options of `stable_retro.make` that a game may be given; the others would change what a step
takes and gives, or write files."""


def make(
    name: str,
    /,
    *,
    height: int = 80,
    width: int = 80,
    frames: int = 4,
    frame_skip: int = 1,
    choices: str = "",
    **options: Any,
) -> HostWorld:
    """The game `name` ("Airstriker-Genesis-v0"), whose ROM stable-retro has.

    height, width: of a picture; frames: stacked, the newest first. frame_skip: frames for which a
    choice is held. choices: "RIGHT B RIGHT+B NOTHING", buttons that are pressed together; "": every
    button of the game alone, and nothing. options: of `stable_retro.make`, those in `THEIRS`.

    Raises ValueError for what the game has not: it would be played otherwise without a word.
    """
    retro: Any = importlib.import_module("stable_retro")
    label = f"retro:{name}"
    counts = {"height": height, "width": width, "frames": frames, "frame_skip": frame_skip}
    for option, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{label}: {option} is {value!r}, not a whole number from 1 on")
    if not isinstance(choices, str):
        raise ValueError(f'{label}: choices are {choices!r}, not buttons as "NOTHING LEFT LEFT+B"')
    for option in options:
        if option not in THEIRS:
            known = [*counts, "choices", *THEIRS]
            raise ValueError(unknown(f"option of {label}:", option, known))
    known = retro.data.list_games()
    if name not in known:
        hint = nearest(name, known)
        raise ValueError(f"unknown game of stable-retro {name!r}; {hint}".rstrip("; "))
    try:
        retro.data.get_romfile_path(name)
    except FileNotFoundError as error:
        raise ValueError(
            f"{label}: stable-retro has no ROM of it; import yours: python -m stable_retro.import "
            "FOLDER"
        ) from error
    _check_files(label, retro.data, name, options)
    buttons = [[b for b in c.split("+") if b != "NOTHING"] for c in choices.split()]
    command = [name, str(height), str(width), json.dumps(buttons), json.dumps(options)]
    first = Emulator(label, command)
    num_choices = first.said["choices"]
    first.close()
    return HostWorld(
        label,
        height * width * frames,
        Discrete(num_choices),
        lambda num: Emulators(
            [Emulator(label, command) for _ in range(num)], (height, width, frames), frame_skip
        ),
        dt=frame_skip / 60,
        max_episode_steps=4_500,
        picture=(height, width, frames),
    )


def _check_files(label: str, data: Any, game: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for a file that stable-retro has not: without its scenario a game earns
    nothing and never ends."""
    for option, ending, found in (
        ("state", ".state", data.list_states),
        ("scenario", ".json", data.list_scenarios),
        ("info", ".json", lambda game: ["data"]),
    ):
        value = str(options.get(option) or "")  # no state at all: as the game is switched on
        if value and not data.get_file_path(game, value.removesuffix(ending) + ending):
            raise ValueError(unknown(f"{option} of {label}:", value, found(game)))


class Emulator:
    """A process that plays."""

    def __init__(self, label: str, arguments: list[str]):
        """Raises ValueError, with its own last line, if it cannot begin."""
        program = Path(__file__).with_name("retro_emulator.py")
        self.label, self._errors = label, tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # there is a process for each core
            start_new_session=True,  # Ctrl-C is for the run, which ends them
        )
        line = self._line()
        if not line:
            raise ValueError(f"{label} cannot be made: {self._last_words()}")
        self.said: dict[str, Any] = json.loads(line)

    def ask(self, **what: Any) -> None:
        """Begin something: `answer` waits for its end."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `answer` says why
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, size: int) -> tuple[float, bool, bool, np.ndarray]:
        """Reward, terminated, truncated, and a picture of so many bytes."""
        assert self._process.stdout
        line = self._line()
        picture = self._process.stdout.read(size) if line else b""
        if len(picture) < size:
            raise RuntimeError(f"{self.label}: the emulator has ended: {self._last_words()}")
        reward, terminated, truncated = json.loads(line)
        return reward, terminated, truncated, np.frombuffer(picture, np.uint8)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._process.communicate()
        self._errors.close()

    def _line(self) -> bytes:
        assert self._process.stdout
        return self._process.stdout.readline()

    def _last_words(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"killed by {signal.Signals(-status).name} (out of memory, perhaps)"
        self._errors.seek(0)
        told = self._errors.read().decode(errors="replace").strip().splitlines()
        return told[-1] if told else "without a word"


class Emulators:
    """Games, each in a process."""

    def __init__(self, games: list[Emulator], shape: tuple[int, int, int], frame_skip: int):
        self.games, self.shape, self.frame_skip, num = games, shape, frame_skip, len(games)
        self._seen = np.zeros((num, *shape), np.uint8)
        self._ended = np.ones((num, 2), bool)  # terminated, truncated

    def restart(self, seeds: np.ndarray, chosen: np.ndarray) -> Told:
        """Begin episodes where `chosen` says so; what came before is dark."""
        which = np.flatnonzero(chosen).tolist()
        for i in which:
            self.games[i].ask(seed=int(seeds[i]))
        for i in which:
            self._seen[i] = 0
            self._see(i)
        return self._told(np.zeros(len(self.games), np.float32))

    def step(self, actions: np.ndarray) -> Told:
        """One choice of those whose episode goes on, held for some frames."""
        reward = np.zeros(len(self.games), np.float32)
        for held in range(self.frame_skip):
            going = np.flatnonzero(~self._ended.any(1)).tolist()
            for i in going:
                self.games[i].ask(choice=int(actions[i]))
            for i in going:
                reward[i] += self._see(i, shift=not held)
        return self._told(reward)

    def _see(self, i: int, shift: bool = True) -> float:
        height, width, _ = self.shape
        reward, *self._ended[i], picture = self.games[i].answer(height * width)
        if shift:
            self._seen[i, ..., 1:] = self._seen[i, ..., :-1].copy()
        self._seen[i, ..., 0] = picture.reshape(height, width)
        return reward

    def _told(self, reward: np.ndarray) -> Told:
        terminated, truncated = self._ended.T
        num = len(self.games)
        seen = self._seen.reshape(num, -1) / BYTE
        none = np.zeros((num, 0), np.float32)
        return Told(seen, reward, terminated.copy(), truncated.copy(), none)

    def __del__(self):
        for game in self.games:
            game.close()
