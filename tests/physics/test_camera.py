"""What cameras see, against MuJoCo's rays, its rangefinder of a camera and its renderer's axes."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import lanes, physics
from gpusim.physics import camera
from gpusim.physics.kinematics import kinematics

HIGH, WIDE, FAR = 24, 32, 50.0
SHAPES = {
    "plane": '<geom name="g" type="plane" size="0.6 0.4 1" euler="60 10 0"/>',
    "endless": '<geom name="g" type="plane" size="0 0 1" pos="0 0 -1" euler="5 0 0"/>',
    "sphere": '<geom name="g" type="sphere" size="0.3"/>',
    "capsule": '<geom name="g" type="capsule" size="0.15 0.3" euler="20 50 10"/>',
    "ellipsoid": '<geom name="g" type="ellipsoid" size="0.5 0.2 0.3" euler="20 50 10"/>',
    "cylinder": '<geom name="g" type="cylinder" size="0.25 0.3" euler="30 50 10"/>',
    "box": '<geom name="g" type="box" size="0.3 0.2 0.25" euler="20 50 10"/>',
}
SCENE = """
<mujoco>
  <asset><material name="red" rgba="1 0 0 1"/><material name="glass" rgba="1 1 1 0"/></asset>
  <worldbody>
    <geom type="plane" size="0 0 1" rgba="0.2 0.4 0.6 1"/>
    <geom type="box" pos="1 3 0.5" size="0.5 0.3 0.5" euler="0 0 20" material="red"/>
    <geom type="box" pos="0 -1 1" size="2 0.1 2" group="3"/>
    <geom type="box" pos="0 -0.9 1" size="2 0.1 2" material="glass"/>
    <camera name="still" pos="0.2 -3 1" xyaxes="1 0.1 0 0 0.1 1" fovy="60"/>
    <camera name="aims" pos="2 -3 2" mode="targetbody" target="arm"/>
    <camera name="aims_com" pos="-2 -3 0.3" mode="targetbodycom" target="arm"/>
    <camera name="above" pos="0 0 4" mode="targetbody" target="post"/>
    <camera name="nothing" pos="0 -3 1" mode="targetbody" xyaxes="1 0 0 0 0 1" target="arm"/>
    <body name="post"><geom type="cylinder" size="0.1 0.2"/></body>
    <body name="arm" pos="0 0 1"><freejoint/>
      <geom type="capsule" size="0.1 0.3" pos="0.1 0 0" rgba="0 1 0 1"/>
      <camera name="carried" pos="0 -2 0.3" euler="80 5 0" fovy="70"/>
      <camera name="tracks" pos="0 -2 0.3" euler="80 5 0" mode="track"/>
      <camera name="tracks_com" pos="0.5 -2 0.3" euler="80 15 0" mode="trackcom"/>
      <body name="fore" pos="0 0 0.4"><joint axis="0 1 0"/>
        <geom name="around" type="ellipsoid" size="0.1 0.2 0.3" pos="0 0 0.3"/>
        <geom type="sphere" size="0.15" pos="0 0.1 0.6" rgba="0 0 1 1"/>
        <camera name="hand" pos="0 0 0.3" euler="20 10 0"/>
      </body>
    </body>
  </worldbody>
</mujoco>"""
CAMERAS = ("still", "aims", "aims_com", "above", "carried", "tracks", "tracks_com", "hand")


def poses(m: mujoco.MjModel, count: int = 4) -> np.ndarray:
    """(count, nq): turned and moved by some tenths."""
    rng, found = np.random.default_rng(0), np.tile(m.qpos0, (count, 1))
    return found + rng.uniform(-0.2, 0.2, found.shape)


def at(m: mujoco.MjModel, qpos: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(m)
    data.qpos[:] = qpos
    mujoco.mj_forward(m, data)
    return data


def ours(m: mujoco.MjModel, name: str, qpos: np.ndarray, dtype: Any = np.float64, **kwargs) -> Any:
    """Images of poses (n, nq), by a kernel."""
    model = physics.load(m)
    of = camera.find(model, name, **kwargs)

    def draw(qpos):
        pose = kinematics(model.astype(qpos.dtype), qpos)
        return camera.image(model, pose, of, height=HIGH, width=WIDE, far=FAR)

    with jax.enable_x64(True):
        return jax.tree.map(
            np.asarray, jax.jit(jax.vmap(lanes.kernel(draw)))(jnp.asarray(qpos, dtype))
        )


def c_s(m: mujoco.MjModel, data: mujoco.MjData, name: str) -> tuple[np.ndarray, ...]:
    """Depths, geoms and |cosines| between rays and normals (HIGH, WIDE), by mj_ray, of geoms of
    groups 0 to 2, and FAR, -1 and 0 where nothing is nearer than that."""
    cam = data.camera(name)
    up = np.tan(np.radians(m.camera(name).fovy[0]) / 2)
    depth, cosine = np.full((HIGH, WIDE), FAR), np.zeros((HIGH, WIDE))
    geom = np.full((HIGH, WIDE), -1)
    for i in range(HIGH):
        for j in range(WIDE):
            right, above = (j + 0.5) / WIDE - 0.5, 0.5 - (i + 0.5) / HIGH
            ray = np.array([2 * right * up * WIDE / HIGH, 2 * above * up, -1])
            hit, normal = np.zeros(1, np.int32), np.zeros(3)
            ray = cam.xmat.reshape(3, 3) @ ray
            groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)
            found = mujoco.mj_ray(m, data, cam.xpos, ray, groups, True, -1, hit, normal)
            if 0 <= found < FAR:
                depth[i, j], geom[i, j] = found, hit[0]
                cosine[i, j] = abs(normal @ ray) / np.linalg.norm(ray)
    return depth, geom, cosine


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_where_mujoco_s_rays_meet_it(shape: str):
    m = mujoco.MjModel.from_xml_string(
        f"""<mujoco><worldbody>{SHAPES[shape]}
          <body><freejoint/><geom size="0.01" mass="1" group="4"/>
            <camera name="eye" pos="0.1 -1.5 0.2" xyaxes="1 0 0 0 0.1 1" fovy="70"/></body>
        </worldbody></mujoco>"""
    )
    qpos = poses(m)
    found = ours(m, "eye", qpos)
    for k, q in enumerate(qpos):
        depth, geom, cosine = c_s(m, at(m, q), "eye")
        assert 0.02 < (geom >= 0).mean() < 1
        np.testing.assert_allclose(found.depth[k], depth, rtol=0, atol=1e-9)
        colour = np.where(geom >= 0, 0.5 * (0.3 + 0.7 * cosine), 0)
        np.testing.assert_allclose(found.rgb[k], colour[..., None] * np.ones(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_sees_the_scene_as_c_does(name: str):
    m = mujoco.MjModel.from_xml_string(SCENE)
    qpos = poses(m)
    found = ours(m, name, qpos)
    if name == "hand":  # which a geom is around, whose inner side is not drawn
        m.geom_group[m.geom("around").id] = 3
    colours = m.geom_rgba[:, :3].copy()
    colours[1] = (1, 0, 0)
    seen = set()
    for k, q in enumerate(qpos):
        depth, geom, cosine = c_s(m, at(m, q), name)
        seen |= {*geom.ravel()}
        np.testing.assert_allclose(found.depth[k], depth, rtol=0, atol=1e-9)
        colour = colours[geom] * np.where(geom >= 0, 0.3 + 0.7 * cosine, 0)[..., None]
        np.testing.assert_allclose(found.rgb[k], colour, rtol=0, atol=1e-6)
    assert len(seen) > 3


@pytest.mark.parametrize("name", CAMERAS)
def test_cameras_are_placed_as_by_mj_camlight(name: str):
    m = mujoco.MjModel.from_xml_string(SCENE)
    model, index = physics.load(m), m.camera(name).id
    for q in poses(m):
        data = at(m, q)
        with jax.enable_x64(True):
            pose = kinematics(model, jnp.asarray(q))
            found = camera.placed(model, pose, index)
        pos, mat = found.reference + found.offset, found.axes
        np.testing.assert_allclose(pos, data.cam_xpos[index], rtol=0, atol=1e-9)
        np.testing.assert_allclose(mat, data.cam_xmat[index].reshape(3, 3), rtol=0, atol=1e-9)


@pytest.mark.skipif(not hasattr(mujoco, "mjtRayDataField"), reason="range finders have no cameras")
def test_depth_is_what_c_s_rangefinder_of_a_camera_measures():
    """It does not see the body that carries the camera."""
    sensor = '<sensor><rangefinder camera="carried" data="depth"/></sensor>'
    text = SCENE.replace("</worldbody>", f"</worldbody>{sensor}")
    text = text.replace('name="carried"', f'name="carried" resolution="{WIDE} {HIGH}"')
    m = mujoco.MjModel.from_xml_string(text)
    qpos = poses(m)
    m.geom_rgba[m.geom_bodyid == m.camera("carried").bodyid, 3] = 0
    found = ours(m, "carried", qpos, groups=range(6))
    for k, q in enumerate(qpos):
        theirs = at(m, q).sensordata.reshape(HIGH, WIDE)
        theirs = np.where((theirs < 0) | (theirs > FAR), FAR, theirs)
        np.testing.assert_allclose(found.depth[k], theirs, rtol=0, atol=1e-9)


def test_in_single_precision_depths_are_right_to_six_digits():
    """But for pixels at the edge of something, which may be of what is behind it."""
    m = mujoco.MjModel.from_xml_string(SCENE)
    qpos = poses(m)
    double, single = (ours(m, "carried", qpos, dtype).depth for dtype in (np.float64, np.float32))
    assert single.dtype == np.float32
    wrong = np.abs(single - double) > 3e-5 * double
    assert wrong.mean() < 1e-3


def test_a_robot_far_away_is_seen_as_well():
    m = mujoco.MjModel.from_xml_string(SCENE)
    qpos = poses(m)
    m.geom_group[m.geom_bodyid < 2] = 3  # all but the arm
    near, far = (ours(m, "carried", qpos + x * (np.arange(m.nq) < 2), np.float32).depth
                 for x in (0, 1000))  # fmt: skip
    assert (near < FAR).any()
    assert (np.abs(near - far) > 1e-3).mean() < 1e-3


MESH = """<mujoco><asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset>
  <worldbody><camera name="front"/><camera name="flat" projection="orthographic"/>
  <camera name="chip" sensorsize="0.1 0.1" focal="0.1 0.1" resolution="3 3"/>
  <geom name="statue" type="mesh" mesh="m" group="{}"/><geom size="1" group="9"/>
  </worldbody></mujoco>"""


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (MESH.format(3), "front", "'front' has nothing to draw: .* groups 0, 1, 2 .*groups 3, 5"),
        (MESH.format(3), "frnt", "unknown camera 'frnt'; did you mean 'front'.*chip, flat, front"),
        ("<mujoco/>", "front", "unknown camera 'front'.*none.*write <camera name=\"...\"/>"),
        (MESH.format(0), "front", "geom 'statue', a mesh of group 0, before a camera"),
        (MESH.format(3), "flat", "camera 'flat': orthographic"),
        (MESH.format(3), "chip", "camera 'chip': sensorsize"),
    ],
)
def test_what_cannot_be_seen_is_named(text: str, name: str, message: str):
    model = physics.load(mujoco.MjModel.from_xml_string(text))
    with pytest.raises(ValueError, match=message):
        camera.find(model, name)


def test_groups_are_those_of_mujoco():
    """A mesh of a group that is not drawn matters not; a group beyond the last one is the last."""
    model = physics.load(mujoco.MjModel.from_xml_string(MESH.format(3)))
    assert camera.find(model, "front", (0, 5)).geoms == (1,)
    for groups in ((0, 6), (-1,)):
        with pytest.raises(ValueError, match=f"groups {groups[0]}.*: those of geoms are 0 to 5"):
            camera.find(model, "front", groups)


def test_colours_and_what_is_invisible_are_the_renderers():
    """A geom's own colour covers its material's, also where one of them is transparent."""
    text = """<mujoco>
      <asset><material name="none" rgba="1 1 1 0"/><material name="m" rgba="0 1 0 1"/></asset>
      <worldbody><camera name="eye"/><geom size="1" rgba="1 0 0 1" material="none"/>
      <geom size="1" rgba="1 0 0 0" material="m"/><geom size="1" material="none"/>
      <geom size="1" material="m"/></worldbody></mujoco>"""
    m = mujoco.MjModel.from_xml_string(text)
    scene, data = mujoco.MjvScene(m, 10), mujoco.MjData(m)
    mujoco.mj_forward(m, data)
    every = mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(m, data, mujoco.MjvOption(), None, mujoco.MjvCamera(), every, scene)
    theirs = {g.objid: g.rgba[:3] for g in scene.geoms[: scene.ngeom] if g.rgba[3] > 0}
    found = camera.find(physics.load(m), "eye")
    assert found.geoms == tuple(theirs) == (0, 3)
    np.testing.assert_array_equal(found.colours, [*theirs.values()])
