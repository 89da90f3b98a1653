"""Where MuJoCo's semantics depend on its version, the installed one decides."""

import mujoco


def since(*version: int) -> bool:
    """Whether the installed MuJoCo is at least that version."""
    return tuple(int(v) for v in mujoco.__version__.split(".")[: len(version)]) >= version
