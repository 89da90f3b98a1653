"""Learners that run wholly on the device. They know worlds only through the contract.

A learner NAME is a module here with a `Config` and a `Learner` (see learner.py); its presets are
presets/NAME.yaml, and what differs on a GPU presets/gpu/NAME.yaml. Importing this package starts no
JAX.
"""

import importlib
import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gpusim.suggest import unknown

if TYPE_CHECKING:
    from gpusim.agents.config import LearnerConfig

DEFAULT = "ppo"
_HERE = Path(__file__).parent


def names() -> list[str]:
    """The learners there are: modules that name a `Learner`."""
    files = {f.stem: f for f in _HERE.glob("*.py")} | {
        f.parent.name: f for f in _HERE.glob("*/__init__.py")
    }
    says_so = re.compile(r"^Learner = |\bas Learner$", re.MULTILINE)
    return sorted(
        name for name, file in files.items() if says_so.search(file.read_text(encoding="utf-8"))
    )


def find(name: str) -> Any:
    """The module of a learner. Raises ValueError if there is none of this name."""
    if name not in names():
        raise ValueError(unknown("learner", name, names()))
    return importlib.import_module(f"gpusim.agents.{name}")


def name_of(config: "LearnerConfig") -> str:
    """The learner that a configuration is of."""
    return type(config).__module__.split(".")[2]


def preset(learner: str, *envs: str) -> dict[str, Any]:
    """What is known to work for the first of these environments that has a preset, or whose suite
    ("gym:") has one, here: values of the learner's configuration, by name; none if none has."""
    keys = [key for env in envs for key in (env, "".join(env.partition(":")[:2]))]
    found: dict[str, Any] = {}
    for folder in (".", "gpu") if on_gpu() else (".",):
        file = _HERE / "presets" / folder / f"{learner}.yaml"
        presets = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
        found |= next((presets[key] for key in keys if presets.get(key)), {})
    return found


def on_gpu() -> bool:
    """Whether JAX will compute on an NVIDIA GPU, as far as can be told without starting it."""
    if asked := os.environ.get("JAX_PLATFORMS"):
        return asked.split(",")[0] in ("cuda", "gpu")
    plugin = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    return plugin and any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))
