"""Episodes in a file, to be learned from: what `gpusim.play RUN --save FILE.npz` writes.

An uncompressed .npz of arrays, one row a control step, episode after episode: `obs` (or `obs/NAME`
of each part), `action`, `reward`; `length` of each episode; `terminated`, whether it ended for
good. Nothing in it is a pickle.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

FORMAT = "gpusim episodes 1"


class Dataset(NamedTuple):
    """Episodes, one after the other."""

    obs: Any  # (steps, features) of each part: what was seen before each step
    action: np.ndarray  # (steps, actions) in [-1, 1], or the choice (steps,)
    reward: np.ndarray  # (steps,)
    length: np.ndarray  # (episodes,) steps of each, 1 at least
    terminated: np.ndarray  # (episodes,) bool: it ended for good, and not with the time

    @property
    def returns(self) -> np.ndarray:
        """(episodes,) what each earned."""
        starts = np.cumsum(self.length) - self.length
        return np.add.reduceat(np.asarray(self.reward, float), starts)

    def better_than(self, least: float) -> "Dataset":
        """The episodes that earned so much at least."""
        good = self.returns >= least
        rows = np.repeat(good, self.length)
        parts = _parts(self.obs)
        obs = {name: x[rows] for name, x in self.obs.items()} if parts else self.obs[rows]
        kept = self.action[rows], self.reward[rows]
        return Dataset(obs, *kept, self.length[good], self.terminated[good])


def write(file: Path | BinaryIO, dataset: Dataset) -> None:
    """Write them as a file of this name, or into an open one."""
    parts = dataset.obs if _parts(dataset.obs) else {"": dataset.obs}
    arrays = {f"obs/{name}".rstrip("/"): np.asarray(x) for name, x in parts.items()}
    arrays |= {name: np.asarray(getattr(dataset, name)) for name in Dataset._fields[1:]}
    np.savez(file, allow_pickle=False, **arrays, format=np.array(FORMAT))


def read(path: Path) -> Dataset:
    """The episodes of a file. Raises ValueError, of one line, for a file that has none."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} cannot be read: it is no .npz, or its end is missing")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except Exception as error:  # zip has odd corners, and each has an exception of its own
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if str(arrays.get("format")) != FORMAT:
        raise ValueError(f"{path} holds no episodes: gpusim.play RUN --save FILE.npz writes them")
    missing = [name for name in Dataset._fields[1:] if name not in arrays]
    parts = {name[4:]: x for name, x in arrays.items() if name.startswith("obs/")}
    obs = arrays.get("obs", parts)
    if missing or (isinstance(obs, Mapping) and not obs):
        raise ValueError(f"{path} lacks {missing[0] if missing else 'obs'}")
    found = Dataset(obs, *(arrays[name] for name in Dataset._fields[1:]))
    length = found.length
    if not np.issubdtype(length.dtype, np.integer) or length.ndim != 1 or (length < 1).any():
        raise ValueError(f"{path}: length is not a whole number of steps, 1 at least, an episode")
    steps = int(length.sum())
    for name, x in {**parts, "obs": arrays.get("obs"), "action": found.action}.items():
        if x is not None and len(x) != steps:
            raise ValueError(f"{path}: {name} has {len(x)} rows, its episodes {steps} steps")
    if found.reward.shape != (steps,) or found.terminated.shape != length.shape:
        raise ValueError(f"{path}: reward or terminated is of another number of steps or episodes")
    for name, x in {**parts, "obs": arrays.get("obs"), **found._asdict()}.items():
        if isinstance(x, np.ndarray) and not (x.dtype.kind in "biuf" and np.isfinite(x).all()):
            raise ValueError(f"{path}: {name} is not of finite numbers throughout")
    return found


def _parts(obs: Any) -> bool:
    return isinstance(obs, Mapping)
