"""gpusim: robot simulation and reinforcement learning in which every number is a lane.

`make(name)` gives an environment, `State` is what it steps, `lanes.kernel` compiles your own
worlds. Names are imported when they are first used: `import gpusim` alone starts neither JAX nor
MuJoCo.
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpusim import lanes as lanes
    from gpusim.envs import State as State
    from gpusim.envs import make as make

    __version__: str

__all__ = ["State", "__version__", "lanes", "make"]


def __getattr__(name: str) -> Any:
    """The public names, imported on first use (PEP 562)."""
    if name in ("make", "State"):
        value = getattr(importlib.import_module("gpusim.envs"), name)
    elif name == "lanes":
        value = importlib.import_module("gpusim.lanes")
    elif name == "__version__":
        value = metadata.version("gpusim")
    else:
        raise AttributeError(f"module 'gpusim' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
