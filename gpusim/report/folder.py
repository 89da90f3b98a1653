"""What a run left in its folder, read back for a report."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gpusim.report import replay

Row = Mapping[str, Any]  # a line of metrics.jsonl: steps, seconds, and one number a metric


class RunFolder(NamedTuple):
    """A run, as far as it got."""

    name: str
    config_text: str  # YAML, complete
    rows: Sequence[Row]
    titles: Mapping[str, str]  # what its metrics are called, in the order of the charts
    summary: Mapping[str, Any]  # of summary.json; {} for a run that goes on, or was killed
    replay: str | None  # see `replay.data_of`

    @property
    def config(self) -> dict[str, Any]:
        """The values of config.yaml."""
        return yaml.safe_load(self.config_text) or {}

    @property
    def env(self) -> str:
        """The environment, without the folders of a file it may be in."""
        return str(self.config.get("env", "run")).rpartition("/")[2]

    def last(self, metric: str) -> float | None:
        """The newest value of a metric."""
        return next((r[metric] for r in reversed(self.rows) if r.get(metric) is not None), None)


def read(path: str | os.PathLike[str]) -> RunFolder:
    """Read config.yaml and metrics.jsonl, and what else is there.

    Raises FileNotFoundError, naming the file, when the folder is not a run's.
    """
    folder = Path(path)
    labels, summary = _json(folder / "labels.json"), _json(folder / "summary.json")
    page = folder / "replay.html"
    return RunFolder(
        name=folder.resolve().name,
        config_text=(folder / "config.yaml").read_text(encoding="utf-8"),
        rows=read_metrics(folder / "metrics.jsonl"),
        titles={name: label["title"] for name, label in labels.items()},
        summary=summary,
        replay=replay.data_of(page.read_text(encoding="utf-8")) if page.exists() else None,
    )


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. A last line torn by a kill is left out."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not a JSON object") from None
    return rows


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
