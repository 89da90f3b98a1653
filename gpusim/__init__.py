"""gpusim: robot simulation and reinforcement learning in which every number is a lane.

`make(name)` gives an environment, `State` is what it steps, `train(name)` trains a policy in it and
`play(run)` plays it, `lanes.kernel` compiles your own worlds. Names are imported when they are
first used: `import gpusim` alone starts neither JAX nor MuJoCo.
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpusim import export as export
    from gpusim import lanes as lanes
    from gpusim.envs import State as State
    from gpusim.envs import make as make
    from gpusim.play import play as play  # modules, which are called as these functions
    from gpusim.train import train as train

    __version__: str

__all__ = ["State", "__version__", "export", "lanes", "make", "play", "train"]


def __getattr__(name: str) -> Any:
    """The public names, imported on first use (PEP 562)."""
    if name in ("make", "State"):
        value = getattr(importlib.import_module("gpusim.envs"), name)
    elif name in ("export", "lanes", "play", "train"):
        value = importlib.import_module(f"gpusim.{name}")
    elif name == "__version__":
        value = metadata.version("gpusim")
    else:
        raise AttributeError(f"module 'gpusim' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
