"""The largest differences from the original environments, as tables:

    python -m tests.envs.agreement gymnasium brax playground

A thousand steps of each task in float64, from states of theirs, by random actions. What tests hold
within bounds is told here as it was seen.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs import registry
from gpusim.envs.tasks.playground import files

STEPS = 1000
EPISODE = 20  # steps of Brax's from one start: both go on by themselves, and apart


class Seen:
    """The largest difference of each part of a step so far."""

    def __init__(self):
        self.worst: dict[str, float] = {}
        self.steps = self.ends = self.unlike = 0  # unlike: one ended and the other did not

    def step(self, differences: dict[str, float], ours: bool, theirs: bool) -> None:
        for part, value in differences.items():
            self.worst[part] = max(self.worst.get(part, 0.0), value)
        self.steps, self.ends = self.steps + 1, self.ends + theirs
        self.unlike += ours != theirs

    def row(self, name: str) -> str:
        terms = {k: x for k, x in self.worst.items() if k not in ("observation", "reward")}
        term = max(terms, key=lambda k: terms[k], default="")
        told = f"{terms[term]:.0e} (`{term}`, of {len(terms)})" if term else "none"
        ends = f"{self.ends} of {self.steps}, {self.unlike or 'none'} unlike"
        return (
            f"| `{name}` | {self.worst['observation']:.0e} | {self.worst['reward']:.0e} | {told} | "
            f"{ends} |"
        )


def gymnasium(name: str) -> Seen:
    """One of Gymnasium's tasks: same state before every step."""
    from tests.envs.gymnasium_oracle import Beside, error
    from tests.envs.test_gymnasium_tasks import FAR

    both, found, age, episode = Beside(name, seed=100), Seen(), 0, 0
    for _ in range(STEPS):
        if not age:
            both.start()
            episode += 1
            if episode % 2 == 0:
                both.start_anywhere(FAR.get(name, 0.1))
        ours, theirs = both.step()
        apart = {"observation": error(ours.obs, theirs.obs)}
        apart["reward"] = error(ours.reward, theirs.reward)
        apart |= {k: error(ours.info[k], x) for k, x in theirs.info.items()}
        found.step(apart, ours.terminated, theirs.terminated)
        age = 0 if theirs.terminated or age == 60 else age + 1
    return found


def brax(name: str) -> Seen:
    """One of Brax's tasks: both go on by themselves from the same start."""
    from tests.envs.brax_oracle import BraxOnC
    from tests.envs.gymnasium_oracle import error
    from tests.envs.test_tasks import CASES, same_metrics

    env: Any = gpusim.make(name, **CASES[name])
    oracle = BraxOnC(name, env.model.mj, **CASES[name])
    reset, step, found = jax.jit(env.reset), jax.jit(env.step), Seen()
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, env.action_size))
    state: Any = None
    for k, action in enumerate(actions):
        if k % EPISODE == 0 or state.terminated:
            key = jax.random.key(k)
            state, _ = reset(key), oracle.reset(key)
        state, expected = step(state, jnp.array(action)), oracle.step(jnp.array(action))
        apart = {"observation": error(state.obs, expected.obs)}
        apart["reward"] = error(state.reward, expected.reward)
        pairs = same_metrics(state.metrics, expected.metrics)
        apart |= {k: error(ours, theirs) for k, (ours, theirs) in pairs.items()}
        found.step(apart, bool(state.terminated), bool(expected.done))
    return found


def playground(name: str) -> Seen:
    """One of Playground's tasks: same state before every step."""
    from tests.envs.playground_oracle import differences
    from tests.envs.test_playground_tasks import beside

    found = Seen()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as empty:
        panda = name.startswith("Panda")
        folder = files.robot(name, "franka_emika_panda").parent if panda else Path(empty)
        both = beside(name, patch, folder)
        for k in range(STEPS):
            if k % 100 == 0 or both.state.done:
                both.start(k)
            mine, theirs, remembered = both.step()
            apart = differences(both.world, mine, theirs, remembered)
            del apart["terminated"]
            seen = [apart.pop(part) for part in [*apart] if part.startswith("obs")]
            found.step(apart | {"observation": max(seen)}, bool(mine.terminated), bool(theirs.done))
    return found


SUITES: dict[str, tuple[Callable[[str], Seen], Callable[[], Iterable[str]]]] = {
    "gymnasium": (gymnasium, lambda: [n for n in registry.names() if n.endswith("-v5")]),
    "brax": (brax, lambda: registry.families()["robots (Brax's tasks)"]),
    "playground": (
        playground,
        lambda: registry.families()["robots on command (Playground's tasks)"],
    ),
}


def main(suites: list[str]) -> None:
    """Print a table for each suite."""
    jax.config.update("jax_enable_x64", True)
    for suite in suites:
        compare, names = SUITES[suite]
        print(f"\n{suite}\n\n| | observation | reward | the worst of its terms | ends |")
        print("|---|---|---|---|---|")
        for name in names():
            if missing := registry.missing(name):
                print(f"| `{name}` | {missing} | | | |")
                continue
            print(compare(name).row(name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [*SUITES])
