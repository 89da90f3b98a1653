"""Flags with which XLA compiles quickly: what a test compiles runs a few times."""

import os
import re
from importlib import metadata


def compile_quickly() -> None:
    """Set them in this process and its children; before anything imports jax."""
    flags = ["--xla_backend_optimization_level=0"]
    version = tuple(map(int, re.findall(r"\d+", metadata.version("jaxlib"))[:2]))
    if version < (0, 12):  # later ones do not know it
        flags.append("--xla_cpu_use_fusion_emitters=false")
    given = os.environ.get("XLA_FLAGS", "")
    missing = [flag for flag in flags if flag.partition("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *missing]).strip()
