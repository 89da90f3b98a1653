"""One game of stable-retro in a process of its own, which holds one emulator at most.

A program, not imported by gpusim: `python retro_emulator.py GAME HEIGHT WIDTH CHOICES OPTIONS`, the
last two JSON. It prints a line about the game, then answers each line that it reads, {"seed": ...}
or {"choice": ...}, with a line [reward, terminated, truncated] and the bytes of a grey picture.
"""

import functools
import json
import os
import sys
from typing import Any

import numpy as np
import stable_retro as retro  # pyright: ignore[reportMissingImports]

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # red, green, blue as an eye weighs them


def main(game: str, height: str, width: str, choices: str, options: str) -> None:
    """Play until there is nothing more to read."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an emulator prints is no answer
    env: Any = retro.make(game, render_mode="rgb_array", **json.loads(options))
    buttons = pressed(env, json.loads(choices))
    size = int(height), int(width)
    say(answers, {"choices": len(buttons)})
    for line in sys.stdin:
        told = json.loads(line)
        if "seed" in told:
            obs, _ = env.reset(seed=told["seed"])
            result = (0.0, False, False)
        else:
            obs, reward, terminated, truncated, _ = env.step(buttons[told["choice"]])
            result = (float(reward), bool(terminated), bool(truncated))
        say(answers, result, shrunk(obs, *size).tobytes())


def say(answers: Any, line: Any, picture: bytes = b"") -> None:
    """A line, and bytes after it."""
    answers.write(json.dumps(line).encode() + b"\n" + picture)
    answers.flush()


def pressed(env: Any, choices: list[list[str]]) -> list[np.ndarray]:
    """Which buttons each choice presses, as the emulator takes them; none said: every single button
    that the game allows, and nothing."""
    known = [button for button in env.buttons if button]
    if not choices:
        allowed = {name for group in env.data.valid_actions() for name in names(env, group)}
        choices = [[], *([button] for button in known if button in allowed)]
    for button in {button for choice in choices for button in choice} - set(known):
        raise ValueError(f"there is no button {button!r}; there are {', '.join(known)}")
    masks = [np.array([button in choice for button in env.buttons], np.int8) for choice in choices]
    for choice, mask in zip(choices, masks, strict=True):
        if (env.action_to_array(mask)[0] != mask).any():
            raise ValueError(f"the game does not take {'+'.join(choice)}: nothing would be pressed")
    return masks


def names(env: Any, group: list[int]) -> list[str]:
    """Of the buttons in one of a game's groups of combinations, which are bits."""
    return [name for i, name in enumerate(env.buttons) if any(combo >> i & 1 for combo in group)]


def shrunk(obs: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) of a picture (rows, columns, 3), each number its area's mean. Consoles may
    show another number of rows or columns while a game goes on."""
    down, across = mean_of(obs.shape[0], height), mean_of(obs.shape[1], width)
    return np.rint(down @ (obs @ GREY) @ across.T).astype(np.uint8)


@functools.cache
def mean_of(many: int, few: int) -> np.ndarray:
    """(few, many) float32: which part of each of the few are the many, in a row."""
    edges = np.linspace(0, many, few + 1)[:, None]
    at = np.arange(many)
    part = np.minimum(edges[1:], at + 1) - np.maximum(edges[:-1], at)
    return (np.maximum(part, 0) * few / many).astype(np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
