"""Height fields: every prism under a shape, against C, and against separating axes where C ends
its search early.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import mujoco
import numpy as np
import pytest

from gpusim import physics
from gpusim.physics.collision.collide import collide
from gpusim.physics.kinematics import Mocap, kinematics
from tests.physics.harness import over_worlds
from tests.physics.test_collision import CLOSE, EXACT

MODEL = """<mujoco><option ccd_iterations="400" ccd_tolerance="1e-12"/>
  <asset><hfield name="h" nrow="7" ncol="9" size="0.8 0.6 0.25 0.2" elevation="{heights}"/>
    <mesh name="brick" vertex="{brick}"/></asset>
  <worldbody><body mocap="true">
    <geom type="hfield" hfield="h" pos="0.1 0.2 0" margin="{margin}"/></body>
  <body><freejoint/><geom {shape} margin="{margin}"/></body></worldbody></mujoco>"""
BRICK = np.array([0.1, 0.15, 0.12])
CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * BRICK
SHAPES = {
    "sphere": 'size="0.15"',
    "capsule": 'type="capsule" size="0.08 0.15"',
    "ellipsoid": 'type="ellipsoid" size="0.1 0.2 0.15"',
    "cylinder": 'type="cylinder" size="0.12 0.15"',
    "box": 'type="box" size="0.1 0.15 0.12"',
    "mesh": 'type="mesh" mesh="brick"',
}


def scene(shape: str, margin: float) -> tuple[mujoco.MjModel, list[mujoco.MjData]]:
    """A field that is tilted a little, and 60 poses of a shape above it and in it."""
    rng = np.random.default_rng(3)
    words = lambda x: " ".join(map(str, np.ravel(x)))
    heights = words(rng.uniform(0, 1, (7, 9)))
    text = MODEL.format(shape=SHAPES[shape], margin=margin, heights=heights, brick=words(CORNERS))
    m, out = mujoco.MjModel.from_xml_string(text), []
    for _ in range(60):
        d = mujoco.MjData(m)
        d.mocap_quat[0] = [1, *(0.2 * rng.standard_normal(3))]
        d.qpos[:3] = rng.uniform([-0.7, -0.5, 0.0], [0.7, 0.5, 0.4])
        d.qpos[3:] = rng.standard_normal(4)
        mujoco.mj_normalizeQuat(m, d.qpos)
        mujoco.mj_forward(m, d)
        out.append(d)
    return m, out


def found(m: mujoco.MjModel, data: list[mujoco.MjData]) -> list[np.ndarray]:
    """Our contacts of each pose: (n, 7) distance, point and normal."""
    model = physics.load(m)

    def contacts(qpos, pos, quat):
        typed = model.astype(qpos.dtype)
        (list_,) = collide(typed, kinematics(typed, qpos, Mocap(pos, quat)))
        return list_.dist, list_.point + qpos[:3], list_.frame[:, 0], list_.count

    arrays = (np.array([getattr(d, f) for d in data]) for f in ("qpos", "mocap_pos", "mocap_quat"))
    dist, point, normal, count = over_worlds(contacts)(*arrays)
    all_ = np.concatenate([dist[:, :, None], point, normal], 2)
    listed = (rows[:n] for rows, n in zip(all_, count, strict=True))
    return [rows[rows[:, 0] < 0.5] for rows in listed]  # others touch in another world only


@pytest.mark.parametrize("margin", [0.0, 0.02])
@pytest.mark.parametrize("shape", ["sphere", "capsule", "ellipsoid", "cylinder"])
def test_contacts_are_c_s(shape: str, margin: float):
    m, data = scene(shape, margin)
    bounds = np.array(EXACT if shape in ("sphere", "capsule") else CLOSE)
    seen = 0
    for ours, d in zip(found(m, data), data, strict=True):
        theirs = np.array([np.array([c.dist, *c.pos, *c.frame[:3]]) for c in d.contact[: d.ncon]])
        assert len(ours) == len(theirs)  # in the same order too
        for one, other in zip(ours, theirs, strict=True):
            if other[0] > -0.05:  # deeper, C knows the point roughly
                assert (np.abs(one - other) < bounds).all()
                seen += 1
    assert seen > 50


@pytest.mark.parametrize(
    "tilt", [0.0, *(pytest.param(t, marks=pytest.mark.slow) for t in (1e-5, 1e-3))]
)
def test_a_cylinder_on_flat_ground_touches_where_it_stands(tilt: float):
    """Each prism under its cap has a point, and that lies under it; where the cap is tilted, up to
    1 cm beside it: the search ends at 1e-7 m of depth."""
    m, data = on_flat_ground("cylinder", 0.149, tilt)
    for ours, d in zip(found(m, data), data, strict=True):
        assert len(ours) == d.ncon > 1
        np.testing.assert_allclose(ours[:, 0], d.contact.dist, atol=2e-7)
        local = (ours[:, 1:4] - d.xpos[2]) @ d.xmat[2].reshape(3, 3)
        assert (np.hypot(*local.T[:2]) < 0.12 + 1e-6 + 10 * tilt).all()


@pytest.mark.parametrize("tilt", [0.0, pytest.param(1e-6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", ["box", pytest.param("mesh", marks=pytest.mark.slow)])
def test_a_brick_on_flat_ground_touches_where_it_stands(shape: str, tilt: float):
    """Each prism under it has a point, and that lies under it."""
    size = {"box": [0.1, 0.15, 0.12], "mesh": BRICK}[shape]
    m, data = on_flat_ground(shape, 0.119, tilt)
    for ours, d in zip(found(m, data), data, strict=True):
        assert len(ours) == d.ncon > 1
        assert (ours[:, 0] > -0.001 - 1e-6).all()  # beside it less, at its edges
        local = (ours[:, 1:4] - d.xpos[2]) @ d.xmat[2].reshape(3, 3)
        assert (np.abs(local) < np.add(size, 1e-6)).all()


def on_flat_ground(shape: str, height: float, tilt: float):
    """100 poses of a shape."""
    rng, heights = np.random.default_rng(4), " ".join(["0"] * 63)
    brick = " ".join(map(str, CORNERS.ravel()))
    text = MODEL.format(shape=SHAPES[shape], margin=0, heights=heights, brick=brick)
    m, out = mujoco.MjModel.from_xml_string(text), []
    for _ in range(100):
        d = mujoco.MjData(m)
        d.qpos[:3] = *rng.uniform([-0.4, -0.3], [0.4, 0.3]), height
        mujoco.mju_euler2Quat(d.qpos[3:], [tilt, 0, rng.uniform(-3, 3)], "XYZ")
        mujoco.mj_forward(m, d)
        out.append(d)
    return m, out


@pytest.mark.parametrize("shape", ["box", pytest.param("mesh", marks=pytest.mark.slow)])
def test_depths_are_those_of_separating_axes(shape: str):
    m, data = scene(shape, 0.0)
    seen = 0
    for ours, d in zip(found(m, data), data, strict=True):
        np.testing.assert_allclose(np.sort(-ours[:, 0]), depths(m, d), atol=2e-8)  # float32 meshes
        assert len(ours) == d.ncon
        seen += len(ours)
    assert seen > 50


def depths(m: mujoco.MjModel, d: mujoco.MjData) -> np.ndarray:
    """How deep the brick lies in each of the prisms it touches, in order."""
    field, _ = d.geom_xmat.reshape(2, 3, 3)
    at = field.T @ (d.xpos[2] - d.geom_xpos[0])
    turn = field.T @ d.xmat[2].reshape(3, 3)
    corners = at + CORNERS @ turn.T
    heights = m.hfield_data.reshape(7, 9) * 0.25
    up = np.array([0, 0, 1.0])
    out = []
    for row, column, upper in np.ndindex(6, 8, 2):
        half = [(1, 0), (1, 1), (0, 0)] if upper else [(0, 0), (1, 1), (0, 1)]
        top = np.array([
            [(column + x) * 0.2 - 0.8, (row + y) * 0.2 - 0.6, heights[row + y, column + x]]
            for x, y in half
        ])  # fmt: skip
        prism = np.concatenate([top, top * [1, 1, 0] - 0.2 * up])
        edges = [*(top - np.roll(top, 1, 0)), up]
        edges += [e * [1, 1, 0] for e in edges[:3]]  # those below
        axes = [up, np.cross(edges[0], edges[1]), *(np.cross(e, up) for e in edges[:3]), *turn.T]
        axes += [np.cross(e, f) for e in edges for f in turn.T]
        both = [s * a / np.linalg.norm(a) for a in axes for s in (1, -1)]
        out.append(min((prism @ a).max() - (corners @ a).min() for a in both))
    return np.sort([x for x in out if x > 0])
