"""The environments by name."""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any, cast

from gpusim.envs.ant import Ant
from gpusim.envs.env import Env
from gpusim.envs.half_cheetah import HalfCheetah
from gpusim.envs.hopper import Hopper
from gpusim.envs.humanoid import Humanoid
from gpusim.envs.walker2d import Walker2d

_TASKS: dict[str, type[Env]] = {}


def register(task: type[Env]) -> type[Env]:
    """Make a task known to `make`; a class decorator. Raises ValueError if its name is taken."""
    if _TASKS.setdefault(task.name, task) is not task:
        raise ValueError(f"environment {task.name!r} is registered already, by {_TASKS[task.name]}")
    return task


def names() -> list[str]:
    """The registered names."""
    return sorted(_TASKS)


def make(name: str, *, physics: str = "mujoco", **options: Any) -> Env:
    """Create an environment: `make("ant", reset_noise_scale=0.2)`.

    physics: "mujoco", or one of Brax's own: "brax-spring", "brax-positional", "brax-generalized".
    Those environments are Brax's (options too) compiled to lanes, and a `brax.envs.Env` as well:
    see docs/brax.md.

    Raises ValueError for a name, physics or option that is not known.
    """
    if physics != "mujoco":
        from gpusim.envs import brax  # Brax costs a second to import

        return cast(Env, brax.make(name, physics, **options))
    if name not in _TASKS:
        raise ValueError(unknown("environment", name, _TASKS))
    task = _TASKS[name]
    known = [field.name for field in dataclasses.fields(task)]
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of environment {name!r}:", option, known))
    return task(**options)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say what is not known, the nearest name that is, and all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {name!r}; {hint}There are: {', '.join(sorted(known))}"


for _task in (Ant, HalfCheetah, Hopper, Humanoid, Walker2d):
    register(_task)
