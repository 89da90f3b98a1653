"""What a metric is called where people read it. Whoever measures something declares it once.

A metric that nobody declared is shown in the report under its own name.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple


class Metric(NamedTuple):
    """How one metric is shown."""

    title: str  # of its chart in the report
    label: str = ""  # in the terminal, where space is short; "" is not shown there
    format: str = ".4g"  # of the number, or "count" for 1.23M
    group: str = "training"  # what is measured while learning, or "evaluated", without exploration

    def show(self, value: float) -> str:
        """The number as it is written."""
        return count(value) if self.format == "count" else format(value, self.format)


RUN: Mapping[str, Metric] = {
    "steps_per_second": Metric("Environment steps per second", "steps/s", "count"),
    "memory": Metric("Memory (GiB)"),
    "return": Metric("Return, training", "return", ",.0f"),
    "episode_length": Metric("Training episode length (control steps)", "episode length", ",.0f"),
    "terminated": Metric("Share of training episodes that ended before the time limit"),
    "diverged_worlds": Metric("Worlds that were not finite and began anew"),
    "evaluation_return": Metric("Return, evaluated", "return", ",.0f", "evaluated"),
    "evaluation_std": Metric("Spread of the evaluated return", "±", ",.0f", "evaluated"),
    "evaluation_min": Metric("Least return, evaluated", "least", ",.0f", "evaluated"),
    "evaluation_length": Metric("Episode length, evaluated", "episode length", ",.0f", "evaluated"),
    "evaluation_alive": Metric(
        "Share of evaluated episodes that never ended", "never ended", ".0%", "evaluated"
    ),
}
"""What every run measures, whatever learns in it; in the order of the report."""


MOMENTARY = ("seconds", "steps_per_second", "memory")
"""What a row says of the moment and the machine; all else is the same whenever the run is made."""

SPREAD = "/spread"
"""What follows a metric's name where its standard deviation among seeds is meant."""


def count(number: float) -> str:
    """1234567 -> 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """75 -> 1:15."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
