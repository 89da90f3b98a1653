"""Levels of the side-scroller, drawn from a seed: ground of several heights, gaps, islands over
gaps, blocks to jump over and tunnels to duck through. Lengths are in tiles.

A level is two numbers a column: how high its ground is, 0 where there is none, and the height of
the lower side of the slab that hangs there, two tiles thick, 0 where none does.
"""

from typing import NamedTuple

import numpy as np

COLUMNS = 220
WALL = 4  # columns at the left end, as high as the picture
GOAL = COLUMNS - 12  # the column that is to be reached; the ground goes on behind it
HIGH = 10  # as high as the picture
SLAB = 2  # how thick slabs are
HELD_OUT = 1_000_000  # the number of the first level that is not for training


class Level(NamedTuple):
    """One level, or several with an axis before."""

    ground: np.ndarray  # (COLUMNS,)
    slab: np.ndarray  # (COLUMNS,)


def level(number: int) -> Level:
    """The level of this number, always the same: one kind of obstacle after the other, and ground
    to land and to run up on between them."""
    draw = np.random.default_rng(number)
    between = lambda low, high: int(draw.integers(low, high + 1))
    ground, slab = np.zeros(COLUMNS), np.zeros(COLUMNS)
    ground[:WALL] = HIGH
    at, height = WALL, 2

    def run(length: int, *, ground_at: int, slab_at: int = 0) -> None:
        nonlocal at
        ground[at : at + length], slab[at : at + length] = ground_at, slab_at
        at += length

    run(6, ground_at=height)
    while at < GOAL - 14:  # no obstacle is longer
        kind = draw.choice(["step", "gap", "island", "block", "tunnel"])
        if kind == "step":
            height = int(np.clip(height + draw.choice([-2, -1, 1, 2]), 1, 4))
        elif kind == "gap":
            run(between(2, 5), ground_at=0)
            height = int(np.clip(height + between(-1, 1), 1, 4))
        elif kind == "island":
            run(between(3, 4), ground_at=0)
            run(between(3, 4), ground_at=0, slab_at=max(height - 1, 1))
            run(between(3, 4), ground_at=0)
        elif kind == "block":
            run(between(1, 2), ground_at=height + between(1, 2))
        else:
            run(between(3, 6), ground_at=height, slab_at=height + 1)
        run(between(4, 7), ground_at=height)
    run(COLUMNS - at, ground_at=height)
    return Level(ground, slab)


def levels(first: int, count: int) -> Level:
    """(count, COLUMNS) each: the levels of these numbers."""
    return Level(*map(np.stack, zip(*map(level, range(first, first + count)), strict=True)))
