"""The last step of a run that led a world to numbers that are not finite, made again.

Training ends such a world, counts it (`diverged_worlds`) and keeps what the last one carried before
that step and its action (`agents.actor.Fault`); checkpoints have them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpusim import lanes, sharding
from gpusim.agents.learner import Learner, blank_but
from gpusim.run import checkpoint
from gpusim.run.archive import CheckpointError

SHOWN = 5  # numbers of a kind


@dataclass(frozen=True)
class Step:
    """A step of one world."""

    count: int  # how many such steps there were in the run
    before: Any  # State
    action: jax.Array
    after: Any  # State

    def text(self) -> str:
        """What there was and what came of it, in a few lines."""
        wrong = [f"{name} = {x:g}" for name, x in _numbers(self.after) if not np.isfinite(x)]
        far = sorted(_numbers(self.after.carry), key=lambda x: -abs(x[1]))
        lines = [
            f"the last of {self.count} steps that led a world to what is not finite",
            "action: " + " ".join(f"{x:.4g}" for x in np.ravel(self.action)),
        ]
        if wrong:
            lines.append(f"not finite after it: {_some(wrong)}")
        else:
            largest = [f"{name} = {x:.4g}" for name, x in far[:SHOWN]]
            lines.append(f"all is finite after it; the largest numbers: {_some(largest)}")
        already = [f"{n} = {x:g}" for n, x in _numbers(self.before.carry) if not np.isfinite(x)]
        if already:
            lines.append(f"not finite before it already: {_some(already)}")
        return "\n".join(lines)


def last(path: Path, learner: Learner, seed_index: int = 0) -> Step:
    """That of a checkpoint, made again by the kernel of the learner's world. Raises CheckpointError
    if there was none, or the world cannot go back."""
    world = learner.world
    if world.hosted:
        raise CheckpointError(f"{world.name} steps on the host, which makes no step again")
    blank = learner.blank()
    state = checkpoint.load_part(path, blank_but(blank, fault=blank.fault))
    fault = sharding.first(learner.of_seed(state, seed_index).fault)
    if not fault.count:
        raise CheckpointError(f"checkpoint {path}: no world of this run was ever not finite")
    start = jax.jit(lambda key, carry: world.start(key).replace(carry=carry))
    before = start(jax.random.key(0), fault.carry)
    after = lanes.kernel(world.transition)(before, fault.action)
    return Step(int(fault.count), before, fault.action, after)


def _numbers(tree: Any) -> list[tuple[str, float]]:
    """Every floating-point number of a tree with its name: `carry.physics.qvel[3]`."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            for index, x in np.ndenumerate(np.asarray(leaf)):
                at = f"[{','.join(map(str, index))}]" if index else ""
                found.append((f"{name}{at}", float(x)))
    return found


def _some(words: list[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
