"""Where two shapes touch, against C, in many poses: apart, grazing, deep, parallel."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import mujoco
import numpy as np
import pytest

from gpusim.physics.collision.groups import KINDS, PLANE
from gpusim.physics.collision.shapes import Shape
from tests.physics.harness import over_worlds

NAMES = ("plane", "hfield", "sphere", "capsule", "ellipsoid", "cylinder", "box")
MODEL = """<mujoco><worldbody>
  <body mocap="true"><geom type="{}" size="{}"/></body>
  <body><freejoint/><geom type="{}" size="{}"/></body></worldbody></mujoco>"""


def poses(m: mujoco.MjModel, n: int, rng: np.random.Generator) -> list[mujoco.MjData]:
    """Of the second body near the first; some of them turned by little or by nothing."""
    turn = lambda v: v / np.linalg.norm(v)
    out = []
    for k in range(n):
        d = mujoco.MjData(m)
        d.mocap_quat[0] = turn(rng.standard_normal(4)) if k % 3 else [1, 0, 0, 0]
        d.qpos[:3] = rng.uniform(-0.35, 0.35, 3)
        d.qpos[3:] = turn(rng.standard_normal(4) if k % 4 else [1, 0.02, 0.01, -0.01])
        mujoco.mj_forward(m, d)
        out.append(d)
    return out


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{NAMES[k[0]]}-{NAMES[k[1]]}")
def test_contacts_are_c_s(kind: tuple[int, int]):
    rng = np.random.default_rng(sum(kind))
    sizes = rng.uniform(0.05, 0.3, (2, 3))
    sizes[0] *= kind[0] != PLANE
    text = [" ".join(map(str, size)) for size in sizes]
    first = text[0] if kind[0] != PLANE else "1 1 1"
    xml = MODEL.format(NAMES[kind[0]], first, NAMES[kind[1]], text[1])
    m = mujoco.MjModel.from_xml_string(xml)
    data = poses(m, 240, rng)
    shape = lambda pos, mat, k: Shape(pos[k][None], mat[k][None], m.geom_size[[k]])
    touch = over_worlds(
        lambda pos, mat: KINDS[kind].function(shape(pos, mat, 0), shape(pos, mat, 1))[:3]
    )
    pos = np.array([d.geom_xpos for d in data])
    mat = np.array([d.geom_xmat for d in data]).reshape(-1, 2, 3, 3)
    dist, point, normal = (x[:, 0] for x in touch(pos, mat))
    seen = 0
    for k, d in enumerate(data):
        theirs = [np.array([c.dist, *c.pos, *c.frame[:3]]) for c in d.contact[: d.ncon]]
        ours = np.column_stack([dist[k], point[k], normal[k]])[dist[k] < 0]
        assert len(ours) == len(theirs)
        seen += len(ours)
        for contact in theirs:
            assert np.abs(ours - contact).max(1).min() < 1e-10
    assert seen > 30
