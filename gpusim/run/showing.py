"""Episodes of a world as what a replay shows: which are chosen, and what is seen of them."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.agents.evaluate import Episodes
from gpusim.report import replay

# The robots of a replay are told apart by their colours, besides their labels.
TINTS = {"median": None, "best": (0.08, 0.42, 0.36), "worst": (0.5, 0.14, 0.3)}


class Frame(NamedTuple):
    """What a replay shows of one world at one time."""

    pose: jax.Array  # (nq,) of the world's drawing; (0,) if it has none
    reward: jax.Array  # () of the step that led here; 0 at the start
    gauges: dict[str, jax.Array]  # () each, likewise: metrics that the world wants shown, by label


def watcher(world: Any, counted: slice = slice(None)) -> Callable[[Any], Frame]:
    """What `Evaluation` is to watch of a world's states; the reward is the mean of the agents' that
    are counted."""
    drawn = world.drawing() is not None

    def watch(state: Any) -> Frame:
        gauges = {label: state.metrics[name] for name, label in world.gauges.items()}
        reward = jnp.atleast_1d(state.reward)[counted].mean()
        return Frame(world.pose(state) if drawn else jnp.zeros(0), reward, gauges)

    return watch


def tracks(episodes: Episodes) -> list[replay.Track]:
    """The median, the best and the worst episode by return, for `replay.write`."""
    order = by_return(episodes)
    chosen = {"median": median(episodes), "best": order[-1], "worst": order[0]}
    return [_track(episodes, int(i), name) for name, i in chosen.items()][: len(order)]


def by_return(episodes: Episodes) -> np.ndarray:
    """The numbers of the episodes, from the least return to the best."""
    return np.argsort(np.asarray(episodes.total), kind="stable")


def median(episodes: Episodes) -> int:
    """The number of the episode whose return is the median; of an even number, the lower one."""
    order = by_return(episodes)
    return int(order[(len(order) - 1) // 2])


def write_replay(folder: Path, world: Any, shown: list[replay.Track], title: str) -> Path | None:
    """Write folder/replay.html, which the report takes in; None for a world that is not drawn.

    Raises ValueError for a world whose drawing or pose is none.
    """
    found = drawing(world)
    if found is None:
        return None
    return replay.write(folder / "replay.html", found, shown, world.dt, title=title)


def drawing(world: Any) -> Any:
    """The world's drawing, a mujoco.MjModel; None if it has none. ValueError if it is none."""
    found = world.drawing()
    if isinstance(found, str):
        found = mujoco.MjModel.from_xml_string(found)
    if found is not None and not isinstance(found, mujoco.MjModel):
        kind = type(found).__name__
        raise ValueError(f"{world.name}: drawing gives a {kind}, not a mujoco.MjModel or MJCF text")
    return found


def _track(episodes: Episodes, i: int, name: str) -> replay.Track:
    """Episode i up to its end, or up to where it blew up."""
    length = int(episodes.length[i])
    pose, reward, gauges = jax.tree.map(lambda x: np.asarray(x[: length + 1, i]), episodes.watched)
    finite = np.isfinite(pose).all(axis=1)
    frames = len(pose) if finite.all() else int(finite.argmin())
    extras = {"reward": reward[:frames], "return": np.nancumsum(reward[:frames])}
    for label, values in gauges.items():
        extras[label] = np.concatenate([values[1:2], values[1:]])[:frames]  # a start has none
    total = f"{float(episodes.total[i]):,.0f}"
    return replay.Track(pose[:frames], f"{name} ({total})", extras, TINTS[name])
