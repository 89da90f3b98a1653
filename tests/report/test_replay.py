"""The replay page: the poses in it against C MuJoCo, its safety, and, in a browser, its drawing."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import html
import html.parser
import json

import mujoco
import numpy as np
import pytest

import gpusim
from gpusim.report import replay

SHAPES = """
<mujoco>
  <asset><material name="blue" rgba=".1 .2 .9 1"/></asset>
  <worldbody>
    <geom type="plane" size="0 0 1"/>
    <geom type="box" size=".1 .1 .1" pos="2 0 .1"/>
    <body pos="0 0 .6">
      <freejoint/>
      <geom type="box" size=".2 .3 .1" rgba=".8 .1 .1 1" euler="10 20 30"/>
      <geom type="sphere" size=".1" pos="0 .5 0" material="blue"/>
      <geom type="sphere" size="1" group="3"/>
      <geom type="sphere" size="1" rgba="1 1 1 0"/>
      <body pos=".3 0 0">
        <joint type="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 .4 0 .1" size=".05"/>
        <geom type="cylinder" size=".05 .2" pos=".4 0 0"/>
        <geom type="ellipsoid" size=".05 .1 .2" pos=".4 0 .4" rgba="1 1 0 .5"/>
      </body>
    </body>
  </worldbody>
</mujoco>"""


@pytest.fixture(scope="module")
def shapes() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SHAPES)


def tumble(mj: mujoco.MjModel, frames: int = 12) -> np.ndarray:
    """qpos (frames, nq) of a body thrown with a spin."""
    data = mujoco.MjData(mj)
    data.qvel[:] = np.linspace(-3, 3, mj.nv)
    qpos = []
    for _ in range(frames):
        mujoco.mj_step(mj, data, nstep=5)
        qpos.append(data.qpos.copy())
    return np.array(qpos)


def geom_poses(mj: mujoco.MjModel, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, ngeom, 3) and (T, ngeom, 3, 3) of C MuJoCo, without the hidden geoms."""
    data, drawn = mujoco.MjData(mj), (mj.geom_group < 3) & (mj.geom_rgba[:, 3] > 0)
    xpos, xmat = [], []
    for frame in qpos:
        data.qpos[:] = frame
        mujoco.mj_forward(mj, data)
        xpos.append(data.geom_xpos[drawn].copy())
        xmat.append(data.geom_xmat[drawn].reshape(-1, 3, 3).copy())
    return np.array(xpos), np.array(xmat)


def rotation(quat: np.ndarray) -> np.ndarray:
    """(4,), not necessarily of unit length -> (3, 3)."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(quat, np.float64) / np.linalg.norm(quat))
    return matrix.reshape(3, 3)


def ant() -> mujoco.MjModel:
    return gpusim.make("ant").drawing()


@pytest.mark.parametrize("load", [lambda: mujoco.MjModel.from_xml_string(SHAPES), ant])
def test_embedded_poses_are_mujocos(load):
    mj = load()
    qpos = tumble(mj)
    payload = replay.read(replay.html(mj, qpos, 0.05))
    xpos, xmat = geom_poses(mj, qpos)
    (track,) = payload["tracks"]
    assert len(payload["geoms"]) == xpos.shape[1]
    for t in range(len(qpos)):
        for i, geom in enumerate(payload["geoms"]):
            body = rotation(track["xquat"][t, geom["body"]])
            place = track["xpos"][t, geom["body"]] + body @ geom["pos"]
            np.testing.assert_allclose(place, xpos[t, i], atol=2e-4)
            np.testing.assert_allclose(body @ rotation(geom["quat"]), xmat[t, i], atol=2e-4)


def test_geoms_keep_type_size_and_colour(shapes):
    geoms = replay.read(replay.html(shapes, tumble(shapes), 0.05))["geoms"]
    kinds = ["plane", "box", "box", "sphere", "capsule", "cylinder", "ellipsoid"]
    assert [g["type"] for g in geoms] == kinds  # neither group 3 nor the invisible one
    assert geoms[2]["size"] == [0.2, 0.3, 0.1]
    np.testing.assert_allclose(geoms[2]["rgba"], [0.8, 0.1, 0.1, 1], atol=1e-3)
    np.testing.assert_allclose(geoms[3]["rgba"], [0.1, 0.2, 0.9, 1], atol=1e-3)  # the material's


def test_a_robot_that_has_only_what_it_collides_with_is_drawn_by_that():
    """And nothing hidden of another one, of the ground, or of what stands still."""
    hidden = '<geom type="sphere" size=".1" group="3"/>'
    arm = f'<body pos="1 0 0">{hidden}<body pos="0 0 1"><joint/>%s</body></body>'
    mj = mujoco.MjModel.from_xml_string(
        f"""<mujoco><worldbody><geom type="plane" size="1 1 1" group="3"/>
        {arm % hidden}{arm % (hidden + '<geom type="box" size=".1 .1 .1"/>')}
        </worldbody></mujoco>"""
    )
    assert replay.visible(mj).tolist() == [False, False, True, False, False, True]
    geoms = replay.read(replay.html(mj, np.zeros((2, mj.nq)), 0.05))["geoms"]
    assert [(g["type"], g["body"]) for g in geoms] == [("sphere", 2), ("box", 4)]


def test_robot_of_one_colour_is_lighter_at_the_torso():
    geoms = replay.read(replay.html(ant(), tumble(ant()), 0.05))["geoms"]
    brightness = [sum(g["rgba"][:3]) for g in geoms if g["type"] != "plane"]
    assert brightness[0] == max(brightness) > min(brightness)
    assert all(g["rgba"][3] == 1 for g in geoms)


def test_several_tracks_with_extras(shapes):
    qpos = tumble(shapes)
    tracks = [
        replay.Track(qpos, "best", {"return": np.arange(12.0)}),
        replay.Track(qpos[:5], "worst", {"return": -np.arange(5.0)}),
    ]
    payload = replay.read(replay.html(shapes, tracks, 0.05, title="two"))
    assert [t["label"] for t in payload["tracks"]] == ["best", "worst"]
    assert [t["frames"] for t in payload["tracks"]] == [12, 5]
    np.testing.assert_array_equal(payload["tracks"][1]["extras"]["return"], -np.arange(5.0))


class Scripts(html.parser.HTMLParser):
    """Counts script elements and remembers every attribute that could fetch something."""

    def __init__(self, page: str):
        super().__init__()
        self.count, self.links = 0, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.count += tag == "script"
        self.links += [name for name, _ in attrs if name in ("src", "href", "srcset", "data")]


def test_page_is_self_contained_and_safe(shapes):
    evil = '</script><script>alert(1)</script><!-- "{{SCRIPTS}}" & ünïcode'
    page = replay.html(shapes, tumble(shapes), 0.05, title=evil)
    plain = replay.html(shapes, tumble(shapes), 0.05, title="plain")
    assert Scripts(page).count == Scripts(plain).count
    assert not Scripts(page).links
    assert not any(word in page for word in ("http://", "https://", "@import", "url("))
    assert replay.read(page)["title"] == evil
    assert "{{" not in plain.replace(evil, "")


def test_write_and_show(shapes, tmp_path):
    qpos = tumble(shapes)
    path = replay.write(tmp_path / "replay.html", shapes, qpos, 0.05, title="t")
    assert path.read_text(encoding="utf-8") == replay.html(shapes, qpos, 0.05, title="t")
    cell = replay.show(shapes, qpos, 0.05, title="t")._repr_html_()
    srcdoc = cell.partition('srcdoc="')[2].partition('"')[0]
    assert html.unescape(srcdoc) == cell_page(shapes, qpos)


def cell_page(mj: mujoco.MjModel, qpos: np.ndarray) -> str:
    return replay.html(mj, qpos, 0.05, title="t")


def test_model_may_be_the_physics_models(shapes):
    class Model:  # all that the replay asks of a physics.Model
        mj = shapes

    qpos = tumble(shapes)
    assert replay.html(Model(), qpos, 0.05) == replay.html(shapes, qpos, 0.05)


def test_errors_name_the_thing(shapes):
    qpos = tumble(shapes)
    with pytest.raises(ValueError, match=r"qpos has shape \(12, 7\); expected \(T, 8\)"):
        replay.html(shapes, qpos[:, :-1], 0.05)
    with pytest.raises(ValueError, match="dt = 0"):
        replay.html(shapes, qpos, 0)
    with pytest.raises(ValueError, match=r"extras 'return' has shape \(3,\), expected \(12,\)"):
        replay.html(shapes, qpos, 0.05, extras={"return": np.zeros(3)})
    broken = qpos.copy()
    broken[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"not finite from frame 7 on; pass qpos\[:7\]"):
        replay.html(shapes, broken, 0.05)
    distances = mujoco.MjModel.from_xml_string(
        '<mujoco><extension><plugin plugin="mujoco.sdf.torus"><instance name="t"/></plugin>'
        '</extension><asset><mesh name="t"><plugin instance="t"/></mesh></asset><worldbody>'
        '<geom name="ring" type="sdf" mesh="t"><plugin instance="t"/></geom></worldbody></mujoco>'
    )
    with pytest.raises(ValueError, match=r"geom 'ring' \(type sdf\) cannot be drawn"):
        replay.html(distances, distances.qpos0[None], 0.05)


TETRAHEDRON = """<mujoco><asset><mesh name="unused" vertex="0 0 0 2 0 0 0 2 0 0 0 2"/>
<mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset><worldbody>
<body pos="0 0 1"><freejoint/><geom type="mesh" mesh="m"/></body></worldbody></mujoco>"""


def test_meshes_are_drawn_once_each():
    """Points and faces as MuJoCo has them: centred, in its own numbering."""
    mj = mujoco.MjModel.from_xml_string(TETRAHEDRON)
    payload = replay.read(replay.html(mj, mj.qpos0[None], 0.05))
    (geom,) = payload["geoms"]
    unused, drawn = payload["meshes"]
    assert geom["mesh"] == 1
    assert unused["points"].size == 0
    points, faces = mj.mesh_vert[mj.mesh_vertadr[1] :], mj.mesh_face[mj.mesh_faceadr[1] :]
    np.testing.assert_array_equal(drawn["points"].reshape(-1, 3), points)
    np.testing.assert_array_equal(drawn["faces"].reshape(-1, 3), faces)


def test_height_fields_are_drawn_as_they_are_touched():
    """Where C's rays from above hit them, on either side of each square's diagonal."""
    mj = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><mesh name="unused" vertex="0 0 0 2 0 0 0 2 0 0 0 2"/>'
        '<hfield name="h" nrow="3" ncol="4" size="3 2 0.5 1" elevation="0 1 5 2 4 0 3 9 2 8 1 0"/>'
        '</asset><worldbody><geom name="hill" type="hfield" hfield="h" pos="0 0 1"/>'
        '<body><freejoint/><geom size=".1"/></body></worldbody></mujoco>'
    )
    payload = replay.read(replay.html(mj, mj.qpos0[None], 0.05))
    hill = payload["geoms"][0]
    assert hill["type"] == "mesh"
    surface = payload["meshes"][hill["mesh"]]
    points = surface["points"].reshape(-1, 3).astype(float) + hill["pos"]
    corners = points[surface["faces"].reshape(-1, 3)]
    assert len(corners) == 2 * 2 * 3
    data, down = mujoco.MjData(mj), np.array([0.0, 0.0, -1.0])
    mujoco.mj_forward(mj, data)
    for triangle in corners:
        across = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
        assert across[2] > 0  # seen from above
        middle = triangle.mean(0)
        hit = 9 - mujoco.mj_rayHfield(mj, data, 0, np.array([*middle[:2], 9.0]), down)
        np.testing.assert_allclose(middle[2], hit, atol=1e-6)


# The page reports, from its own JavaScript, where it would draw every geom at this moment.
PROBE = """<script>
setTimeout(() => { document.title = JSON.stringify({
  time: byId("time").textContent, values: byId("values").textContent, error: gl.getError(),
  poses: instances(state.time / replay.dt).map(({ geom, pose }) => [geom.type, ...pose]) });
}, 500);
</script></body>"""


@pytest.mark.slow
def test_browser_draws_mujocos_poses(shapes, tmp_path, browser):
    qpos = tumble(shapes)
    page = replay.html(shapes, qpos, 0.05, extras={"return": np.arange(12.0)})
    path = tmp_path / "probe.html"
    path.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    told = json.loads(browser.title(path, "#t=0.35"))
    assert told["time"] == "0.35 / 0.55 s"
    assert told["values"] == "return7.00"
    assert told["error"] == 0
    xpos, xmat = geom_poses(shapes, qpos[7:8])
    poses = {tuple(np.round(p[13:16], 3)): np.reshape(p[1:], (4, 4)).T for p in told["poses"]}
    assert len(poses) == 6  # all but the floor
    for place, matrix in zip(xpos[0][1:], xmat[0][1:], strict=True):
        drawn = min(poses.values(), key=lambda m: np.linalg.norm(m[:3, 3] - place))
        np.testing.assert_allclose(drawn[:3, 3], place, atol=1e-3)
        np.testing.assert_allclose(drawn[:3, :3], matrix, atol=1e-3)


@pytest.mark.slow
def test_browser_picture_shows_the_robot(shapes, tmp_path, browser):
    """The red box is red on the screen, in the middle, and its shadow darkens the floor."""
    path = replay.write(tmp_path / "replay.html", shapes, shapes.qpos0[None], 0.05)
    image = browser.picture(path, "#t=0", 600, 400)
    red = (image[..., 0] > 1.6 * image[..., 1]) & (image[..., 0] > 90)
    rows, columns = np.nonzero(red[:330])
    assert len(rows) > 1500
    assert abs(rows.mean() - 200) < 60
    assert abs(columns.mean() - 300) < 90
    floor = image[200:330].max(axis=-1)
    assert floor.min() < 0.6 * np.median(floor)
