"""Vehicles of episodes of traffic: as a table in a file, as a diagram of time and space, and what a
road lets through."""

import csv
import importlib.util
import io
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

TABLES = (".csv", ".parquet")
FRAME = (70, 20, 90, 45)  # pixels left, above, right and below of what is drawn


def table(vehicles: Any, length: np.ndarray, dt: float) -> dict[str, np.ndarray]:
    """A row for every vehicle on a road, of every step of every episode, by column.

    vehicles: (T + 1, N, n) of each column, a NamedTuple with `here`. length: (N,) steps of each of
    the N episodes. dt: s.
    """
    here = np.asarray(vehicles.here).astype(bool)
    here &= (np.arange(len(here))[:, None] <= np.asarray(length))[..., None]
    order = np.moveaxis(here, 1, 0)  # episode after episode
    episode, step, _ = np.nonzero(order)
    columns = {"episode": episode, "time": np.round(step * dt, 9)}
    for name, x in vehicles._asdict().items():
        if name != "here":
            column = np.moveaxis(np.asarray(x), 1, 0)[order]
            whole = name in ("id", "road", "lane", "controlled")
            columns[name] = column.astype(np.int64) if whole else column
    return columns


def check_table(path: Path) -> None:
    """Raise ValueError for a name that is no table's, or where pyarrow is missing for it."""
    if path.suffix not in TABLES:
        raise ValueError(f"{path}: a table is written as {' or '.join(TABLES)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f"{path} needs pyarrow: pip install pyarrow")


def write_table(path: Path, file: BinaryIO, columns: dict[str, np.ndarray]) -> None:
    """As CSV or Parquet, which the name's end says: see `check_table`."""
    check_table(path)
    if path.suffix == ".csv":
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(x.tolist() for x in columns.values()), strict=True))
        text.flush()
        text.detach()
        return
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    parquet.write_table(pyarrow.table(columns), file)


def diagram(
    vehicles: Any, dt: float, *, length: float = 5.0, size: tuple[int, int] = (900, 420)
) -> Any:
    """Where the vehicles of road 0 are, upwards, over time, to the right: a PIL.Image.

    Their colour is their speed, from red (0) to green; those that can be controlled are dark.
    vehicles: (T + 1, n) of each column. length: of a vehicle, m.

    Raises ValueError without the package pillow.
    """
    pil, _ = _pillow()
    left, above, _, _ = FRAME
    wide, high = _inner(size)
    seen = np.asarray(vehicles.here).astype(bool) & (np.asarray(vehicles.road) == 0)
    step, which = np.nonzero(seen)
    position, speed = (np.asarray(x)[step, which] for x in (vehicles.position, vehicles.speed))
    controlled = np.asarray(vehicles.controlled)[step, which].astype(bool)
    end = _round_up(float(position.max(initial=1.0)))
    fastest = _round_up(float(speed.max(initial=1.0)))
    steps = len(seen)

    pixels = np.full((high, wide, 3), 255, np.uint8)
    colours = np.where(controlled[:, None], (30, 40, 90), _colours(speed / fastest))
    column = step * wide // steps
    row = np.clip(high - 1 - position / end * high, 0, high - 1).astype(int)
    for up in range(-max(1, round(length / end * high)) + 1, 1):
        for along in range(math.ceil(wide / steps)):
            at = np.clip(row - up, 0, high - 1), np.minimum(column + along, wide - 1)
            pixels[at] = colours
    image, draw = _framed(size, ((steps - 1) * dt, "time, s"), (end, "place, m"))
    image.paste(pil.fromarray(pixels), (left, above))
    legend = _colours(np.linspace(1, 0, high))[:, None].repeat(14, axis=1).astype(np.uint8)
    image.paste(pil.fromarray(legend), (left + wide + 20, above))
    draw.text((left + wide + 40, above), f"{fastest:.0f} m/s", fill="black")
    draw.text((left + wide + 40, above + high), "0", fill="black", anchor="ls")
    return image


def capacity(
    inflow: np.ndarray, outflow: np.ndarray, *, size: tuple[int, int] = (640, 420), parts: int = 12
) -> Any:
    """What leaves a road over what comes, cars/h, a grey point an episode: a PIL.Image. In blue the
    mean and standard deviation of as many in each of `parts` of them by inflow.

    inflow, outflow: (N,). Raises ValueError without the package pillow.
    """
    left, above, _, _ = FRAME
    wide, high = _inner(size)
    end = _round_up(float(max(inflow.max(), outflow.max(), 1.0)))
    image, draw = _framed(size, (end, "inflow, cars/h"), (end, "outflow, cars/h"))
    place = lambda x, y: (left + x / end * wide, above + high - y / end * high)
    draw.line((*place(0, 0), *place(end, end)), fill="lightgrey")  # what comes leaves
    for x, y in zip(inflow, outflow, strict=True):
        a, b = place(x, y)
        draw.ellipse((a - 2, b - 2, a + 2, b + 2), fill="silver")
    order = np.argsort(inflow)
    groups = [g for g in np.array_split(order, parts) if len(g)]
    means = [(inflow[g].mean(), outflow[g].mean(), outflow[g].std()) for g in groups]
    draw.line([place(x, y) for x, y, _ in means], fill="navy", width=2)
    for x, y, spread in means:
        draw.line((*place(x, y - spread), *place(x, y + spread)), fill="navy")
    return image


def _inner(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what is drawn within the frame, pixels."""
    left, above, right, below = FRAME
    return size[0] - left - right, size[1] - above - below


def _framed(size: tuple[int, int], along: tuple[float, str], up: tuple[float, str]) -> Any:
    """An empty picture with axes from 0 to the end of each, and what they are of: PIL's Image, and
    what draws in it."""
    pil, pil_draw = _pillow()
    left, above, _, _ = FRAME
    wide, high = _inner(size)
    image = pil.new("RGB", size, "white")
    draw = pil_draw.Draw(image)
    draw.rectangle((left - 1, above - 1, left + wide, above + high), outline="black")
    for k in range(5):
        x, y = left + k * wide // 4, above + high - k * high // 4
        draw.line((x, above + high, x, above + high + 5), fill="black")
        draw.text((x, above + high + 8), f"{k * along[0] / 4:.0f}", fill="black", anchor="ma")
        draw.line((left - 5, y, left, y), fill="black")
        draw.text((left - 8, y), f"{k * up[0] / 4:.0f}", fill="black", anchor="rm")
    draw.text((left + wide // 2, size[1] - 6), along[1], fill="black", anchor="ms")
    draw.text((6, 4), up[1], fill="black")
    return image, draw


def _pillow() -> Any:
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise ValueError("a diagram needs pillow: pip install pillow") from None
    return Image, ImageDraw


def _round_up(x: float) -> float:
    """The next number of one digit and a half: 1, 1.5, 2, 2.5, ... times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(x)) / 2
    return math.ceil(x / unit) * unit


def _colours(share: np.ndarray) -> np.ndarray:
    """(..., 3) from red over yellow to green."""
    share = np.clip(share, 0, 1)[..., None]
    red, yellow, green = np.array([200, 40, 30]), np.array([235, 200, 60]), np.array([30, 140, 60])
    low = red + (yellow - red) * np.minimum(2 * share, 1)
    return np.where(share < 0.5, low, yellow + (green - yellow) * (2 * share - 1))
