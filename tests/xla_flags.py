"""The flag with which XLA compiles quickly: what a test compiles runs a few times."""

import os

FLAG = "--xla_backend_optimization_level"


def compile_quickly() -> None:
    """Set it in this process and its children; before anything imports jax.

    Another flag, --xla_cpu_use_fusion_emitters=false, saves more, and has XLA write past its arrays
    (composed program 104579).
    """
    given = os.environ.get("XLA_FLAGS", "")
    if FLAG not in given:
        os.environ["XLA_FLAGS"] = f"{given} {FLAG}=0".strip()
