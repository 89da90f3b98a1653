"""Where two shapes touch, against C, in many poses: apart, grazing, deep, parallel."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import mujoco
import numpy as np
import pytest

from gpusim.physics.collision import convex
from gpusim.physics.collision.gjk import simplex_weights
from gpusim.physics.collision.groups import KINDS
from gpusim.physics.collision.hulls import hulls
from gpusim.physics.collision.shapes import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    MESH,
    PLANE,
    Shape,
)
from tests.physics.harness import over_worlds

NAMES = ("plane", "hfield", "sphere", "capsule", "ellipsoid", "cylinder", "box", "mesh")
MODEL = """<mujoco><asset><mesh name="stone" vertex="{}"/><mesh name="prism" vertex="{}"/></asset>
  <worldbody><body mocap="true"><geom {}/></body>
  <body><freejoint/><geom {}/></body></worldbody></mujoco>"""
# Of distance, point and normal. How deep round shapes lie in each other is searched for, and so is
# where, and how they are turned there; deeper than 0.1 m neither search ends in time. Which four
# points stand for the common part of two caps is a matter of rounding where areas are equal.
EXACT = [1e-10] * 7
CLOSE = [1e-4] + [2e-3] * 3 + [0.02] * 3
SEARCHED = [k for k in convex.SINGLE + convex.SEVERAL if not {*k} <= {BOX, MESH}]
ROUND = np.linspace(0, 2 * np.pi, 9, endpoint=False)
PRISM = [[0.2 * np.cos(a), 0.15 * np.sin(a), z] for a in ROUND for z in (-0.1, 0.12)]


def poses(
    m: mujoco.MjModel, n: int, rng: np.random.Generator, reach: float = 0.35
) -> list[mujoco.MjData]:
    """Of the second body near the first; some of them turned by little or by nothing."""
    turn = lambda v: v / np.linalg.norm(v)
    out = []
    for k in range(n):
        d = mujoco.MjData(m)
        d.mocap_quat[0] = turn(rng.standard_normal(4)) if k % 3 else [1, 0, 0, 0]
        d.qpos[:3] = rng.uniform(-reach, reach, 3)
        d.qpos[3:] = turn(rng.standard_normal(4) if k % 4 else [1, 0.02, 0.01, -0.01])
        mujoco.mj_forward(m, d)
        out.append(d)
    return out


def model(kind: tuple[int, int], rng: np.random.Generator, pebble=False) -> mujoco.MjModel:
    """Two bodies of a geom each: a mesh is a stone, or a prism if it is the first; a pebble is a
    stone worn round: all of its 500 vertices are corners of the hull.
    """
    words = lambda numbers: " ".join(map(str, np.ravel(numbers)))
    sizes = ["1 1 1" if k == PLANE else words(rng.uniform(0.05, 0.3, 3)) for k in kind]
    geoms = [
        f'type="mesh" mesh="{mesh}"' if k == MESH else f'type="{NAMES[k]}" size="{size}"'
        for k, size, mesh in zip(kind, sizes, ("prism", "stone"), strict=True)
    ]
    stone = rng.standard_normal((500 if pebble else 30, 3))
    if pebble:
        stone *= 2 / np.linalg.norm(stone, axis=1, keepdims=True)
    stone *= [0.1, 0.15, 0.08]
    return mujoco.MjModel.from_xml_string(MODEL.format(words(stone), words(PRISM), *geoms))


def touches(kind: tuple[int, int], m: mujoco.MjModel, data: list[mujoco.MjData], dtype):
    """Our distances (n, p), points and normals (n, p, 3) in poses."""
    every = hulls(m, range(m.nmesh), dtype) if m.nmesh else []

    def shape(pos, mat, k: int) -> Shape:
        hull = every[m.geom_dataid[k]] if kind[k] == MESH else None
        return Shape(pos[k][None], mat[k][None], m.geom_size[[k]].astype(dtype), hull)

    touch = over_worlds(
        lambda pos, mat: KINDS[kind].function(shape(pos, mat, 0), shape(pos, mat, 1))[:3], dtype
    )
    pos = np.array([d.geom_xpos for d in data])
    mat = np.array([d.geom_xmat for d in data]).reshape(-1, 2, 3, 3)
    return (x[:, 0] for x in touch(pos, mat))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{NAMES[k[0]]}-{NAMES[k[1]]}")
def test_contacts_are_c_s(kind: tuple[int, int]):
    rng = np.random.default_rng(sum(kind))
    check(kind, model(kind, rng), rng)


@pytest.mark.parametrize(
    "kind", [(PLANE, MESH), pytest.param((MESH, MESH), marks=pytest.mark.slow)]
)
def test_contacts_of_hulls_with_many_vertices(kind: tuple[int, int]):
    """Those have tables of which vertices may be the farthest in a direction."""
    rng = np.random.default_rng(50 + sum(kind))
    m = model(kind, rng, pebble=True)
    assert hulls(m, range(m.nmesh), np.float64)[0].cells is not None
    check(kind, m, rng)


@pytest.mark.parametrize("seed", [205, 315, 354])
def test_four_points_stand_for_an_irregular_face(seed: int):
    """A prism whose sides are of any length lies on a box, tilted by little."""
    rng, kind = np.random.default_rng(seed), (BOX, MESH)
    base = rng.uniform(-0.1, 0.1, (20, 2))
    stone = [[*xy, z] for xy in base for z in (-0.05, 0.05)]
    words = lambda numbers: " ".join(map(str, np.ravel(numbers)))
    geoms = 'type="box" size="0.3 0.2 0.1"', 'type="mesh" mesh="stone"'
    m = mujoco.MjModel.from_xml_string(MODEL.format(words(stone), words(PRISM), *geoms))
    data = [mujoco.MjData(m) for _ in range(12)]
    for d in data:
        d.qpos[:3] = *rng.uniform(-0.1, 0.1, 2), 0.147
        d.qpos[3:7] = 1, *rng.uniform(-0.01, 0.01, 2), rng.uniform(-1, 1)
        mujoco.mj_forward(m, d)
    assert compare(kind, m, data, np.array(EXACT)) > 12


@pytest.mark.parametrize("kind", [(ELLIPSOID, BOX), (CYLINDER, BOX)])
def test_on_a_flat_face_a_curved_shape_touches_exactly(kind: tuple[int, int]):
    """Where its lowest point lies in the face: how deep is a sum of a few terms."""
    rng, size = np.random.default_rng(sum(kind)), np.array([0.08, 0.11, 0.05])
    geoms = f'type="{NAMES[kind[0]]}" size="0.08 0.11 0.05"', 'type="box" size="2 2 0.1"'
    tip = "0 0 0 1 0 0 0 1 0 0 0 1"  # meshes that no geom has
    m = mujoco.MjModel.from_xml_string(MODEL.format(tip, tip, *geoms))
    data, deep = [], rng.uniform(1e-6, 1e-2, 40)
    for depth in deep:
        d = mujoco.MjData(m)
        d.mocap_quat[0] = rng.standard_normal(4)
        mujoco.mj_forward(m, d)
        down = -d.geom_xmat[0].reshape(3, 3)[2]  # of the shape's own axes
        if kind[0] == ELLIPSOID:
            lowest = size * (size * down) / np.linalg.norm(size * down)
        else:
            rim = down[:2] / np.linalg.norm(down[:2]) * size[0]
            lowest = np.array([*rim, np.sign(down[2]) * size[1]])
        d.mocap_pos[0] = *rng.uniform(-1, 1, 2), 0.1 - depth + lowest @ down
        mujoco.mj_forward(m, d)
        data.append((d, d.mocap_pos[0] + d.geom_xmat[0].reshape(3, 3) @ lowest))
    dist, point, normal = touches(kind, m, [d for d, _ in data], np.float64)
    first = dist.argmin(1)
    for k, ((_, low), depth) in enumerate(zip(data, deep, strict=True)):
        np.testing.assert_allclose(dist[k, first[k]], -depth, atol=1e-14)
        np.testing.assert_allclose(normal[k, first[k]], [0, 0, -1], atol=1e-14)
        if (dist[k] < 0).sum() == 1:  # else the two of an edge
            middle = [*low[:2], 0.1 - 0.5 * depth]
            np.testing.assert_allclose(point[k, first[k]], middle, atol=1e-13)


@pytest.mark.parametrize("kind", [(PLANE, MESH), (MESH, MESH), (ELLIPSOID, MESH), (CYLINDER, MESH)])
def test_corners_amid_faces_touch_too(kind: tuple[int, int]):
    """A box on whose faces are corners 1e-5 m high: MuJoCo takes those faces for flat ones."""
    words = lambda numbers: " ".join(map(str, np.ravel(numbers)))
    cube = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    tips = np.concatenate([np.eye(3), -np.eye(3)]) * (1 + 1e-4) + [0.02, 0.1, -0.03]
    stone = 0.1 * np.concatenate([cube, np.where(np.abs(tips) > 0.9, np.sign(tips) * 1.0001, tips)])
    below = {
        PLANE: 'type="plane" size="1 1 1"', MESH: 'type="mesh" mesh="prism"',
        ELLIPSOID: 'type="ellipsoid" size="0.9 0.9 0.12"',
        CYLINDER: 'type="cylinder" size="0.2 0.12"',
    }[kind[0]]  # fmt: skip
    m = mujoco.MjModel.from_xml_string(
        MODEL.format(words(stone), words(PRISM), below, 'type="mesh" mesh="stone"')
    )
    assert (m.mesh_polymapnum[: m.mesh_vertnum[0]] == 0).sum() > 4
    rng, data = np.random.default_rng(sum(kind)), []
    for _ in range(60):
        d = mujoco.MjData(m)
        turned = rng.integers(0, 4, 2) * np.pi / 2 + rng.uniform(-3e-5, 3e-5, 2)
        mujoco.mju_euler2Quat(d.qpos[3:7], [*turned, rng.uniform(-3, 3)], "xyz")
        d.qpos[:3] = *rng.uniform(-0.05, 0.05, 2), 0.0999 if kind[0] == PLANE else 0.2199
        mujoco.mj_forward(m, d)
        data.append(d)
        assert d.ncon
    # How far C searches decides whether an edge or its lower end lies on a cap: to the end here.
    m.opt.ccd_iterations, m.opt.ccd_tolerance = 2000, 1e-14 if kind[0] == CYLINDER else 1e-9
    for d in data:
        mujoco.mj_forward(m, d)
    if kind[0] == CYLINDER:  # as high to rounding: C has one end of the edge or both
        data = [d for d in data if d.ncon != 2 or np.ptp(d.contact.dist) > 1e-10]
    bounds = np.array(CLOSE if kind[0] == ELLIPSOID else EXACT)
    assert compare(kind, m, data, bounds) >= len(data) > 55
    alone = [d for d in data if d.ncon == 1]
    assert len(alone) > 10


@pytest.mark.parametrize("other", [CYLINDER, pytest.param(BOX, marks=pytest.mark.slow)])
def test_a_cylinder_s_side_is_crossed_exactly(other: int):
    """By the side of another one, or by an edge: where both lines are nearest, by hand."""
    rng = np.random.default_rng(0)
    second = 'type="cylinder" size=".04 .1"' if other == CYLINDER else 'type="box" size=".1 .1 .1"'
    m = mujoco.MjModel.from_xml_string(f"""<mujoco><worldbody>
      <body mocap="true"><geom type="cylinder" size=".05 .1"/></body>
      <body><freejoint/><geom {second}/></body></worldbody></mujoco>""")
    data, depths, middles, normals = [], [], [], []
    for _ in range(40):
        turn, depth = rng.standard_normal(4), rng.uniform(1e-4, 8e-3)
        turn /= np.linalg.norm(turn)
        angle, (s, t) = rng.uniform(0.3, 2.8), rng.uniform(-0.08, 0.08, 2)
        along, normal = np.array([np.sin(angle), 0, np.cos(angle)]), np.array([0, 1.0, 0])
        quat = np.array([np.cos(angle / 2), 0, np.sin(angle / 2), 0])  # its z is along the line
        lean = np.array([1, 0, 0, 0])
        beyond = (0.04 - depth) * normal  # from the first side to the middle of the second
        if other == BOX:  # stands on an edge of its own z, leaning
            half = np.pi / 8 + rng.uniform(-0.2, 0.2)
            lean = np.array([np.cos(half), 0, 0, np.sin(half)])
        frame = np.zeros(4)
        mujoco.mju_mulQuat(frame, quat, lean)
        if other == BOX:
            axes = np.zeros(9)
            mujoco.mju_quat2Mat(axes, frame)
            across = axes.reshape(3, 3)[:, :2]
            beyond = -depth * normal + across @ (0.1 * np.sign(across.T @ normal))
        d = mujoco.MjData(m)
        d.mocap_quat[0] = turn
        rotate = lambda v, turn=turn: (out := np.zeros(3), mujoco.mju_rotVecQuat(out, v, turn))[0]
        d.mocap_pos[0] = rotate(np.array([0, 0, -s]))
        d.qpos[:3] = rotate(0.05 * normal + beyond - t * along)
        mujoco.mju_mulQuat(d.qpos[3:], turn, frame)
        mujoco.mj_forward(m, d)
        data.append(d)
        depths.append(depth)
        middles.append(rotate((0.05 - depth / 2) * normal))
        normals.append(rotate(normal))
    dist, point, found = touches((CYLINDER, other), m, data, np.float64)
    first = dist.argmin(1)
    take = lambda x: x[np.arange(len(data)), first]
    np.testing.assert_allclose(take(dist), -np.array(depths), atol=1e-14)
    np.testing.assert_allclose(take(point), middles, atol=1e-13)
    np.testing.assert_allclose(take(found), normals, atol=1e-12)


def test_a_cylinder_s_rim_on_a_side():
    """The side reaches least along a direction across its axis: searched for in NumPy."""
    rng, data, expected = np.random.default_rng(1), [], []
    m = mujoco.MjModel.from_xml_string("""<mujoco><worldbody>
      <body mocap="true"><geom type="cylinder" size=".05 .2"/></body>
      <body><freejoint/><geom type="cylinder" size=".04 .06"/></body></worldbody></mujoco>""")
    while len(data) < 40:
        d = mujoco.MjData(m)
        tilt, spin = rng.uniform(0.5, 1.1), rng.uniform(-0.4, 0.4)
        axis = np.array([np.cos(tilt), np.sin(tilt) * np.sin(spin), np.sin(tilt) * np.cos(spin)])
        d.qpos[3:] = [1 + axis[2], -axis[1], axis[0], 0]  # turns z to the axis
        d.qpos[:3] = rng.uniform(0.08, 0.1), *rng.uniform(-0.03, 0.03, 2)
        mujoco.mj_forward(m, d)
        angle, width = 0.0, np.pi / 2
        reach = lambda a, d=d, axis=axis: _reach(a, d.qpos[:3], axis)
        for _ in range(60):  # ever nearer to the least of 41
            some = angle + np.linspace(-width, width, 41)
            angle, width = some[np.argmin([reach(a) for a in some])], 0.5 * width
        normal = np.array([np.cos(angle), np.sin(angle), 0])
        flat = axis - normal * (axis @ normal)
        if reach(angle) < 1e-3 or np.linalg.norm(flat) < 0.3 or d.ncon != 1:
            continue
        if abs(d.contact.frame[0][2]) > 1e-3:  # the caps, or the rims, are nearer
            continue
        data.append(d)
        expected.append([-reach(angle), *normal])
    dist, _, found = touches((CYLINDER, CYLINDER), m, data, np.float64)
    expected = np.array(expected)
    np.testing.assert_allclose(dist.min(1), expected[:, 0], atol=1e-12)
    which = found[np.arange(len(data)), dist.argmin(1)]
    np.testing.assert_allclose(which, expected[:, 1:], atol=1e-6)


def _reach(angle: float, pos: np.ndarray, axis: np.ndarray) -> float:
    """How far an upright cylinder of radius 0.05 and one of 0.04 and half length 0.06 reach into
    each other, along a level direction out of the first."""
    normal = np.array([np.cos(angle), np.sin(angle), 0])
    along = axis @ normal
    own = 0.04 * np.sqrt(max(1 - along * along, 0)) + 0.06 * abs(along)
    return float(0.05 + own - pos @ normal)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_lies_between_corners_of_an_edge(dtype):
    """Rounding of them gives them a volume, which the origin does not lie in."""
    rng, eps = np.random.default_rng(0), np.finfo(dtype).eps
    first, last = rng.uniform(-1, 1, (2, 2000, 3))
    t = np.clip((first * (first - last)).sum(1) / ((last - first) ** 2).sum(1), 0, 1)
    far = np.linalg.norm(first + t[:, None] * (last - first), axis=1)
    corners = np.stack([first, last, first, first], 1)
    corners = (corners * (1 + eps * rng.integers(-1, 2, corners.shape))).astype(dtype)
    point = (over_worlds(simplex_weights, dtype)(corners)[:, :, None] * corners).sum(1)
    np.testing.assert_allclose(np.linalg.norm(point, axis=1), far, atol=100 * eps)


def _into_each_other(m: mujoco.MjModel, d: mujoco.MjData, normal: np.ndarray) -> np.ndarray:
    """How far two cylinders reach into each other along directions (..., 3) from the first."""
    along = np.abs(normal @ d.geom_xmat.reshape(-1, 3, 3)[:, :, 2].T)
    own = m.geom_size[:, 0] * np.sqrt(np.maximum(1 - along**2, 0)) + m.geom_size[:, 1] * along
    return own.sum(-1) - normal @ (d.geom_xpos[1] - d.geom_xpos[0])


ROD_S_END = np.array([[0.2, -0.05, 0.057], [0.38, 0.05, 0.06]])  # m: where one lies on the other
ALL_BUT_FLAT = [  # tilt rad, place m: where the rim's farthest point runs around
    ([-2.17e-05, 8.85e-05, 1.042e-04], [-0.0097, 0.0107, 0.0581]),
    ([1.03e-05, -1.005e-04, -2.15e-05], [-0.0162, 0.014, 0.0593]),
    ([4.37e-05, -4.17e-05, -3.8e-06], [-0.0487, 0.0178, 0.0589]),
    ([4.53e-05, -1.833e-04, 4.174e-04], [-0.0086, -0.0171, 0.0584]),
]


@pytest.mark.parametrize("first", ["rod", "disc"])
def test_a_rod_on_a_disc_touches_it_from_above(first: str):
    """All but flat on it, at its end or across: how deep and where, by hand (in NumPy)."""
    rng, data = np.random.default_rng(0), []
    sizes = {"rod": ".05 .3", "disc": ".1 .01"}
    second = "disc" if first == "rod" else "rod"
    m = mujoco.MjModel.from_xml_string(f"""<mujoco><worldbody>
      <body mocap="true"><geom type="cylinder" size="{sizes[first]}"/></body>
      <body><freejoint/><geom type="cylinder" size="{sizes[second]}"/></body>
    </worldbody></mujoco>""")
    poses = [
        (10 ** rng.uniform(-7, -2) * rng.standard_normal(3), rng.uniform(*ROD_S_END))
        for _ in range(200)
    ]
    for tilt, place in poses + (ALL_BUT_FLAT if first == "rod" else []):
        d, tilted = mujoco.MjData(m), np.array([1, *(np.array(tilt) / 2)])
        lies = np.array([1, 0, 1, 0]) / np.sqrt(2)
        d.mocap_quat[0] = lies if first == "rod" else [1, 0, 0, 0]
        mujoco.mju_mulQuat(d.qpos[3:], tilted, np.array([1.0, 0, 0, 0]) if first == "rod" else lies)
        d.qpos[:3] = place
        mujoco.mj_forward(m, d)
        data.append(d)
    dist, point, normal = touches((CYLINDER, CYLINDER), m, data, np.float64)
    around = np.stack([*np.indices((9, 9)) - 4, np.zeros((9, 9))], -1).reshape(-1, 3)
    seen = 0
    for k, d in enumerate(data):
        up, width = np.array([0, 0, 1.0]), 0.01
        for _ in range(30):  # ever nearer to the direction along which they reach least
            some = up + width * around
            some /= np.linalg.norm(some, axis=1)[:, None]
            up, width = some[_into_each_other(m, d, some).argmin()], 0.6 * width
        depth = _into_each_other(m, d, up)
        if depth < 1e-4:
            continue
        seen += 1
        deepest = dist[k].argmin()
        assert normal[k, deepest, 2] > 0.99
        np.testing.assert_allclose(-dist[k, deepest], depth, rtol=0.05, atol=1e-5)
        within = np.abs(point[k, deepest] - d.geom_xpos[0])
        assert (
            within < [0.31, 0.06, 0.06] if first == "rod" else within < [0.11, 0.11, 0.02]
        ).all()
    assert seen > 50


def check(kind: tuple[int, int], m: mujoco.MjModel, rng: np.random.Generator) -> None:
    m.opt.ccd_iterations, m.opt.ccd_tolerance = 400, 1e-9
    bounds = np.array(CLOSE if kind in SEARCHED else EXACT)
    assert compare(kind, m, poses(m, 240, rng), bounds) > 30


def compare(kind: tuple[int, int], m: mujoco.MjModel, data: list[mujoco.MjData], bounds) -> int:
    """Each of C's contacts is one of ours; how many were seen."""
    dist, point, normal = touches(kind, m, data, np.float64)
    seen = 0
    for k, d in enumerate(data):
        theirs = [np.array([c.dist, *c.pos, *c.frame[:3]]) for c in d.contact[: d.ncon]]
        ours = np.column_stack([dist[k], point[k], normal[k]])[dist[k] < 0]
        if kind == (CYLINDER, CYLINDER) and (len(ours), len(theirs)) == (1, 2):
            # C has taken a wrong face: along our normal they reach less far into each other.
            assert abs(_into_each_other(m, d, ours[0, 4:]) + ours[0, 0]) < 1e-9
            assert min(contact[0] for contact in theirs) < ours[0, 0]
            continue
        assert len(ours) == len(theirs)
        seen += len(ours)
        for contact in theirs:
            if kind not in SEARCHED or (contact[0] > -0.1 and len(theirs) < 3):
                assert (np.abs(ours - contact) / bounds).max(1).min() < 1
    return seen


@pytest.mark.parametrize(
    "kind",
    [k if BOX in k else pytest.param(k, marks=pytest.mark.slow) for k in SEARCHED],
    ids=lambda k: f"{NAMES[k[0]]}-{NAMES[k[1]]}",
)
def test_single_precision_knows_how_deep(kind: tuple[int, int]):
    """No contact of shapes that lie deep in each other is lost, and no depth is far off."""
    rng = np.random.default_rng(7 + sum(kind))
    m = model(kind, rng)
    m.opt.ccd_iterations, m.opt.ccd_tolerance = 400, 1e-9
    data = poses(m, 600, rng, reach=0.12)
    single, double = (next(touches(kind, m, data, t)) for t in (np.float32, np.float64))
    same = (single < 0).sum(1) == (double < 0).sum(1)  # not a point more: faces 5 degrees apart
    theirs = np.array([min((c.dist for c in d.contact[: d.ncon]), default=1.0) for d in data])
    deep = theirs < -1e-3
    assert deep.sum() > 500
    assert (single.min(1)[deep] < 0).all()
    error = np.abs(single.min(1) - double.min(1))[deep & same]
    assert np.quantile(error, 0.95) < 1e-5
    assert error.max() < 3e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_boxes_on_each_other_touch_at_four_corners(dtype):
    """Edges that coincide do not cross, however rounding has them."""
    rng = np.random.default_rng(0)
    m = model((BOX, BOX), rng)
    m.geom_size[:] = 0.045, 0.003, 0.015
    m.geom_rbound[:] = 0.05
    data = []
    for _ in range(200):
        d = mujoco.MjData(m)
        d.mocap_quat[0] = rng.standard_normal(4)
        d.mocap_quat[0] /= np.linalg.norm(d.mocap_quat[0])
        mat = np.zeros(9)
        mujoco.mju_quat2Mat(mat, d.mocap_quat[0])
        d.mocap_pos[0] = rng.uniform(-1, 1, 3)
        d.qpos[:3] = d.mocap_pos[0] + 0.005 * mat.reshape(3, 3)[:, 1]
        d.qpos[3:] = d.mocap_quat[0]
        mujoco.mj_forward(m, d)
        data.append(d)
    assert min(d.ncon for d in data) == 4  # in C up to six, where rounding has them cross
    dist, _, _ = touches((BOX, BOX), m, data, dtype)
    np.testing.assert_array_equal((dist < 0).sum(1), 4)
