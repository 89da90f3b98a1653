"""What came of a run, and where its time went."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from gpusim.metrics import count, duration
from gpusim.run.clock import Phases
from gpusim.run.files import write_atomic

PACKAGES = ("gpusim", "jax", "jaxlib", "llvmlite", "mujoco", "flax", "optax", "numpy")
"""Whose versions a run notes down."""


@dataclass(frozen=True)
class Run:
    """What came of a run; summary.json in its folder."""

    folder: str
    env: str
    steps: int  # environment steps, all worlds together, earlier parts of a resumed run included
    interrupted_by: int  # the signal that stopped it, or 0
    diverged: bool  # a call of the program had not one finite gradient; nothing was saved after it
    ended: str  # why it came to its end; "" for a run that may go on
    evaluation: dict[str, float]  # the last one, of config.eval_envs episodes; {} if none was made
    first_update_seconds: float | None  # from the start of the process to the end of the first call
    seconds: dict[str, float]  # wall time of this process, by phase
    machine: dict[str, Any]

    def __repr__(self) -> str:
        state = "diverged" if self.diverged else "interrupted" if self.interrupted_by else ""
        told = [f"{self.env}, {count(self.steps)} steps", self._reached(), state]
        return f"<run {self.folder}: {', '.join(filter(None, told))}>"

    def __fspath__(self) -> str:
        """A run stands for its folder wherever a path is wanted."""
        return self.folder

    def text(self) -> str:
        """The summary for people."""
        lines = []
        if self.evaluation:
            length = self.evaluation["evaluation_length"]
            lines.append(f"{self.env}, evaluated: {self._reached()}, episode length {length:,.0f}")
        total = duration(sum(self.seconds.values()))
        lines.append(f"{count(self.steps)} environment steps; {total} in this process:")
        lines += [f"  {name:<30} {value:7.1f} s" for name, value in self.seconds.items()]
        return "\n".join(lines)

    def _reached(self) -> str:
        """The evaluated return, if there is one."""
        found = self.evaluation
        if not found:
            return ""
        return f"return {found['evaluation_return']:,.0f} ± {found['evaluation_std']:,.0f}"

    def divergence(self) -> str:
        """What to say of a run that diverged."""
        return (
            f"the run diverged at {count(self.steps)} steps: a whole call of its program had not "
            "one finite gradient"
        )

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """What the summary.json of a run folder says, of a run that may have moved since. Raises
        OSError or ValueError if there is none."""
        found: Any = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.keys() != {field.name for field in fields(cls)}:
            raise ValueError(f"{folder / 'summary.json'} is no summary of a run")
        found["folder"] = str(folder)
        return cls(**found)

    def write(self) -> None:
        """Write summary.json."""
        text = json.dumps(asdict(self), indent=1).encode()
        write_atomic(Path(self.folder) / "summary.json", lambda file: file.write(text))


def account(phases: Phases, rollout: float | None) -> dict[str, float]:
    """Wall time in seconds, split so that it adds up to what has passed.

    The device runs playing and learning as one program, which has no clock inside. So `rollout`,
    the seconds a call's rollouts take by themselves, splits the training calls; None leaves them
    whole. Compiling is what first calls took beyond the median of the later ones.
    """
    training = phases.warm("train")
    seconds = {
        "import": phases.calls["import"][0],
        "compile": sum(map(phases.compiling, ("init", "train", "evaluate"))),
    }
    if rollout is None:
        seconds["physics, rollout and learning"] = training
    else:
        share = min(1.0, rollout / statistics.median(phases.calls["train"]))
        seconds["physics and rollout"] = training * share
        seconds["learning"] = training * (1 - share)
    seconds["evaluation"] = phases.warm("evaluate")
    if rollout is not None:
        seconds["timing rollouts"] = sum(phases.calls["measure"])
    seconds["saving, logging"] = phases.elapsed() - sum(seconds.values())
    return seconds


def machine(devices: Sequence[Any]) -> dict[str, Any]:
    """What the run ran on."""
    return {
        "command": shlex.join(sys.orig_argv),
        "python": platform.python_version(),
        "versions": [f"{name} {_version(name)}" for name in PACKAGES],
        "commit": _commit(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [
            " ".join(dict.fromkeys((device.platform, device.device_kind))) for device in devices
        ],
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a checkout of gpusim need not be installed
        return "not installed"


def _commit() -> str:
    """Of this checkout of gpusim; "" if it is none."""
    folder = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    if not (folder / ".git").exists():
        return ""
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
