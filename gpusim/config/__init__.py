"""What a training run is: frozen dataclasses that are the flags and the YAML file.

A value comes from, later ones winning: the environment's preset, the files given with --config from
left to right (or the resumed run's own), the flags. They are merged as one mapping in which every
value knows where it was said, and become typed once. The file a run writes is complete: what it
says is what was run.

Nothing here imports JAX, so `--help` and a mistyped flag are answered at once.
"""

from gpusim.config.command import HelpWanted, Processes, of_flags, parse, processes
from gpusim.config.merging import from_yaml, merge, resumed
from gpusim.config.schema import Command, TrainConfig, to_yaml
from gpusim.config.settings import ConfigError, preset

__all__ = [
    "Command", "ConfigError", "HelpWanted", "Processes", "TrainConfig", "from_yaml", "merge",
    "of_flags", "parse", "preset", "processes", "resumed", "to_yaml",
]  # fmt: skip
