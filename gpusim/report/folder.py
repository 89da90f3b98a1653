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
    config: Mapping[str, Any]  # what it says
    rows: Sequence[Row]
    titles: Mapping[str, str]  # what its metrics are called, in the order of the charts
    summary: Mapping[str, Any]  # of summary.json; {} for a run that goes on, or was killed
    replay: str | None  # see `replay.data_of`

    @property
    def env(self) -> str:
        """The environment, without the folders of a file it may be in."""
        return str(self.config.get("env", "run")).rpartition("/")[2]

    def last(self, metric: str) -> float | None:
        """The newest value of a metric."""
        return next((r[metric] for r in reversed(self.rows) if r.get(metric) is not None), None)


def read(path: str | os.PathLike[str]) -> RunFolder:
    """Read config.yaml and metrics.jsonl, and what else is there.

    Raises FileNotFoundError, naming the file, when the folder is not a run's, ValueError for a file
    that is not what a run wrote.
    """
    folder = Path(path)
    text = _text(folder / "config.yaml")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{folder / 'config.yaml'}: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.yaml'}: expected names and values")
    labels, page = _json(folder / "labels.json"), folder / "replay.html"
    return RunFolder(
        name=folder.resolve().name,
        config_text=text,
        config=config,
        rows=read_metrics(folder / "metrics.jsonl"),
        titles={name: label["title"] for name, label in labels.items() if "title" in label},
        summary=_json(folder / "summary.json"),
        replay=replay.data_of(_text(page)) or None if page.exists() else None,
    )


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. A last line torn by a kill is left out."""
    lines = _text(Path(path)).splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines):
            raise ValueError(f"{path}, line {number}: not a JSON object")
    return rows


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; {} if there is no file."""
    try:
        found = json.loads(_text(path)) if path.exists() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not a JSON object")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: not a run folder") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
