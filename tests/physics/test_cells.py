"""The vertex of a hull that is farthest in a direction, looked up: as if all had been tried."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import lanes
from gpusim.physics.collision import cells

ROUND = np.linspace(0, 2 * np.pi, 40, endpoint=False)
HULLS = {
    "pebble": np.random.default_rng(0).standard_normal((300, 3)),
    "cube": np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float),
    "drum": np.array([[np.cos(a), np.sin(a), z] for z in (-0.5, 0.5) for a in ROUND]),
    "needle": np.array([[0, 0, 5], [0, 0, -5], [1e-3, 0, 0], [-1e-3, 1e-3, 0], [0, -1e-3, 0]]),
}
HULLS["pebble"] /= np.linalg.norm(HULLS["pebble"], axis=1, keepdims=True)


def directions() -> np.ndarray:
    """(n, 3): along axes, edges and corners, near these, any; and none."""
    rng = np.random.default_rng(1)
    grid = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], float)
    near = np.repeat(grid, 8, 0) + rng.standard_normal((216, 3)) * 10.0 ** rng.integers(
        -9, -1, (216, 1)
    )
    some = rng.standard_normal((2000, 3)) * 10.0 ** rng.integers(-6, 4, (2000, 1))
    return np.concatenate([grid, near, some])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_one_that_is_farthest_of_all(dtype):
    table, places = cells.cells([*HULLS.values()], dtype)
    ways = directions().astype(dtype)
    first = 0
    with jax.enable_x64(dtype == np.float64):
        for hull, (cell, n) in zip(HULLS.values(), places, strict=True):
            look = lambda way, cell=cell, n=n: cells.farthest(table, cell, n, way)
            for run in (jax.vmap(lanes.kernel(look)), jax.vmap(look)):
                number, point = map(np.asarray, jax.jit(run)(ways))
                assert point.dtype == dtype
                np.testing.assert_array_equal(point, hull.astype(dtype)[number - first])
                heights = ways.astype(float) @ hull.astype(dtype).astype(float).T
                chosen = np.take_along_axis(heights, number[:, None] - first, 1)[:, 0]
                size = np.linalg.norm(ways.astype(float), axis=1) * np.abs(hull).max()
                assert (heights.max(1) - chosen <= 4 * np.finfo(dtype).eps * size).all()
            first += len(hull)


def test_of_equals_it_is_the_first():
    table, ((cell, n),) = cells.cells([HULLS["cube"]], np.float32)
    for way, number in (((0, 0, 1), 1), ((0, 0, -1), 0), ((1, 0, 0), 4), ((0, 1, 1), 3)):
        found = cells.farthest(table, cell, n, jnp.asarray(way, np.float32))
        assert found[0] == number


def test_few_are_left_to_try():
    """Of 300 vertices all round; of a drum a rim, in the direction of its axis only."""
    for name, most, mean in (("pebble", 40, 7), ("drum", 40, 8)):
        table, _ = cells.cells([HULLS[name]], np.float32)
        lengths = np.diff(table.bounds)
        assert lengths.min() > 0
        assert lengths.max() <= most
        assert lengths.mean() < mean
