"""Rough ground: a height field, boxes that stand on it, and places to start at, all from a seed.

Made once, by NumPy; `ground` and `surface` say in a world's code how high it is somewhere.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

EXTENT = np.array([30.0, 15.0])  # m along x and y, half of the field's
CELL = 0.5  # m
WAVES = ((4.0, 0.7), (1.5, 0.3))  # m between hills, and their part in the height
BURIED = 1.0  # m that the field goes down below its lowest place
CLEAR = 1.5  # m around a start that no box is in
BOXES_IN = np.array([[-16.0, -9.0], [27.0, 9.0]])  # m, where boxes are
STARTS_IN = np.array([[-13.0, -6.0], [0.0, 6.0]])  # m, as far as flags are, but not at their end
STARTS = 64  # at most, of which one is drawn
HALF_WIDTHS, BOX_HEIGHTS = (0.2, 0.5), (0.1, 0.8)  # m, of boxes, above the ground
SUNK = 0.3  # m that they are in the ground, whose slope shows no gap then


@dataclasses.dataclass(frozen=True)
class Terrain:
    """The ground, and what stands on it."""

    heights: np.ndarray  # (rows, columns) m, from 0 on: along y, along x
    boxes: np.ndarray  # (n, 6) m: middle x and y, half the widths along them, heights of both ends
    places: np.ndarray  # (p, 3) m: x and y, and the highest ground within reach

    @classmethod
    def drawn(
        cls, seed: int, roughness: float, obstacles: int, *, reach: float, apart: float = 0.0
    ) -> "Terrain":
        """As rough as said, m between the lowest and the highest place. Bodies that start reach so
        far, m, and are so far apart, if there are several; many boxes leave few places, or none."""
        random = np.random.default_rng(seed)
        heights = roughness * _hills(random)
        flat = cls(heights, np.zeros((0, 6)), np.zeros((0, 3)))
        boxes = []
        for _ in range(obstacles):
            middle, half = random.uniform(*BOXES_IN), random.uniform(*HALF_WIDTHS, size=2)
            low = flat.height_at(middle) - SUNK
            boxes.append([*middle, *half, low, low + SUNK + random.uniform(*BOX_HEIGHTS)])
        boxes = np.array(boxes).reshape(-1, 6)
        places: list[np.ndarray] = []
        for _ in range(20 * STARTS):
            place = random.uniform(*STARTS_IN)
            gaps = np.abs(place - boxes[:, :2]) - boxes[:, 2:4]  # m beside each box, along x and y
            far = all(np.hypot(*(place - other[:2])) >= apart for other in places)
            if far and len(places) < STARTS and (gaps.max(1) >= CLEAR).all():
                places.append(np.array([*place, flat.highest(place, reach)]))
        return cls(heights, boxes, np.array(places).reshape(-1, 3))

    # ---- the model

    def build(self, spec: mujoco.MjSpec) -> None:
        """Put it into a scene, in place of the geom `floor`, and made of the same."""
        plane = spec.geom("floor")
        material, touches = plane.material, (plane.contype, plane.conaffinity)
        made_of = {"friction": [*plane.friction], "contype": touches[0], "conaffinity": touches[1]}
        spec.delete(plane)
        rows, columns = self.heights.shape
        spec.add_hfield(
            name="terrain",
            nrow=rows,
            ncol=columns,
            # flat ground is no field of height 0, which MuJoCo refuses
            size=[*EXTENT, float(self.heights.max()) or 1.0, BURIED],
            userdata=self.heights.ravel().tolist(),
        )
        spec.worldbody.add_geom(
            name="floor",
            type=mujoco.mjtGeom.mjGEOM_HFIELD,
            hfieldname="terrain",
            material=material,
            rgba=[0.8, 0.85, 0.9, 1],
            **made_of,
        )
        for k, (x, y, half_x, half_y, low, high) in enumerate(self.boxes):
            spec.worldbody.add_geom(
                name=f"box_{k}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[x, y, (low + high) / 2],
                size=[half_x, half_y, (high - low) / 2],
                rgba=[0.62, 0.55, 0.45, 1],
                **made_of,
            )

    # ---- how high it is, in a world's code

    def ground(self, place: jax.Array) -> jax.Array:
        """() m: the field at a place (2,), as MuJoCo has it: each of its squares is two triangles,
        which meet in the diagonal from the corner of least x and y. Beyond the field, its edge."""
        heights = jnp.asarray(self.heights, place.dtype)
        last = np.array(heights.shape[::-1]) - 2  # the last square along x and y
        extent = EXTENT.astype(place.dtype)
        at = jnp.clip((place + extent) / CELL, 0, (last + 1).astype(place.dtype))
        square = jnp.minimum(jnp.floor(at).astype(jnp.int32), last.astype(np.int32))
        x, y = at - square
        column, row = square
        flat = lambda right, up: heights.reshape(-1)[(row + up) * heights.shape[1] + column + right]
        low, high = flat(0, 0), flat(1, 1)
        beside = jnp.where(x > y, flat(1, 0), flat(0, 1))
        return low + jnp.maximum(x, y) * (beside - low) + jnp.minimum(x, y) * (high - beside)

    def surface(self, place: jax.Array) -> jax.Array:
        """() m: the same, or the top of a box that stands there."""
        ground = self.ground(place)
        if not len(self.boxes):
            return ground
        boxes = self.boxes.astype(place.dtype)
        on = (jnp.abs(place - boxes[:, :2]) <= boxes[:, 2:4]).all(1)
        return jnp.maximum(ground, jnp.max(jnp.where(on, boxes[:, 5], 0)))

    # ---- how it is made

    def height_at(self, place: np.ndarray) -> float:
        """`ground`, by NumPy: m, of the nearest corner of the field."""
        column, row = np.rint((place + EXTENT) / CELL).astype(int)
        return float(self.heights[row, column])

    def highest(self, place: np.ndarray, reach: float) -> float:
        """m: the highest corner of the field around a place."""
        rows, columns = self.heights.shape
        x, y = (np.arange(n) * CELL - half for n, half in zip((columns, rows), EXTENT, strict=True))
        around = np.hypot(x - place[0], y[:, None] - place[1]) <= reach + CELL
        return float(self.heights[around].max())


def _hills(random: np.random.Generator) -> np.ndarray:
    """(rows, columns) from 0 to 1: random heights at the corners of wide squares, smooth between
    them, and of narrower ones."""
    columns, rows = (2 * EXTENT / CELL).astype(int) + 1
    heights = np.zeros((rows, columns))
    for wide, part in WAVES:
        x, y = (np.arange(n) * (CELL / wide) for n in (columns, rows))
        corners = random.random((int(y[-1]) + 2, int(x[-1]) + 2))
        heights += part * _between(_between(corners, y).T, x).T
    heights -= heights.min()
    return heights / heights.max()


def _between(rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n, ...) of rows (m, ...) at places between 0 and m - 1, without a kink at any."""
    first = at.astype(int)
    t = (at - first)[:, None]
    t = t * t * (3 - 2 * t)
    return (1 - t) * rows[first] + t * rows[first + 1]
