"""A live view: its worlds step with the policy, take commands and pushes, stand in a browser."""
# mujoco's compiled modules come without type stubs, viser and playwright are not always there:
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import dataclasses
import shutil
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim import view
from gpusim.envs import MujocoTask
from gpusim.player import load
from gpusim.report import replay, scene
from gpusim.report.triangles import triangles
from tests.report.conftest import NAMES

SHAPES = """<mujoco><asset><mesh name="m" vertex="0 0 0 .3 0 0 0 .3 0 0 0 .3"/></asset><worldbody>
<geom type="plane" size="0 0 1"/><body><freejoint/><geom type="sphere" size=".2"/>
<geom type="capsule" size=".1 .3"/><geom type="cylinder" size=".1 .2"/>
<geom type="box" size=".1 .2 .3"/><geom type="ellipsoid" size=".1 .2 .3"/>
<geom type="mesh" mesh="m"/></body></worldbody></mujoco>"""


def test_surfaces_hold_the_volume_of_their_geoms():
    """By the divergence theorem, which is negative for a surface that is inside out."""
    mj = mujoco.MjModel.from_xml_string(SHAPES)
    volumes = {
        "sphere": 4 / 3 * np.pi * 0.2**3,
        "capsule": np.pi * 0.1**2 * (0.6 + 4 / 3 * 0.1),
        "cylinder": np.pi * 0.1**2 * 0.4,
        "box": 0.2 * 0.4 * 0.6,
        "ellipsoid": 4 / 3 * np.pi * 0.1 * 0.2 * 0.3,
        "mesh": 0.3**3 / 6,
    }
    plane, *geoms = replay.geoms(mj)
    assert {geom["type"] for geom in geoms} == volumes.keys()
    for geom in geoms:
        points, faces = triangles(mj, geom)
        a, b, c = np.moveaxis(points[faces], 1, 0)
        volume = np.einsum("ij,ij->", a, np.cross(b, c)) / 6
        assert volume == pytest.approx(volumes[geom["type"]], rel=0.03), geom["type"]
    with pytest.raises(ValueError, match="plane"):
        triangles(mj, plane)


def test_a_kick_is_the_impulse_over_the_mass():
    mj = gpusim.make("ant").drawing()
    data = mujoco.MjData(mj)
    mujoco.mj_forward(mj, data)
    change = scene.kick(mj, data.qpos, 1, np.array([3.0, 0.0, 0.0]))
    data.qvel[:] = change
    mujoco.mj_forward(mj, data)
    mujoco.mj_subtreeVel(mj, data)
    momentum = data.subtree_linvel[1] * mj.body_subtreemass[1]
    np.testing.assert_allclose(momentum, [3.0, 0.0, 0.0], atol=1e-9)


@gpusim.envs.register
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Follower(MujocoTask):
    """A cart on a rail that is asked for a speed, and told of it."""

    name = "ViewedCart"
    mjcf = """<mujoco><option timestep=".02"/><worldbody><geom type="plane" size="9 9 1"/>
    <body pos="0 0 .3"><joint name="x" type="slide" axis="1 0 0"/>
    <geom type="box" size=".3 .2 .2"/></body></worldbody>
    <actuator><motor joint="x"/></actuator></mujoco>"""
    commands = {"speed": (-2.0, 2.0)}  # noqa: RUF012

    def first_memory(self, key, now):
        return jnp.zeros(())

    def observation(self, memory, now):
        return jnp.stack([now.state.qvel[0], memory])

    def rewards(self, past, memory, now):
        return {"error": -jnp.abs(now.state.qvel[0] - memory)}

    def command(self, state, asked):
        carry = state.carry._replace(memory=asked["speed"])
        return state.replace(carry=carry)


TINY: dict[str, Any] = {
    "num_envs": 16,
    "unroll_length": 4,
    "num_minibatches": 2,
    "total_steps": 512,
    "episode_length": 200,
    "evaluations": 1,
    "eval_envs": 2,
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return gpusim.train("ViewedCart", out=tmp_path_factory.mktemp("view") / "run", **TINY)


def test_worlds_step_with_the_policy(run):
    """The same as the policy and the world by hand."""
    player = load(run)
    show = view.Show(player, 3)
    before = show.state
    show.step({"speed": 1.5})
    np.testing.assert_array_equal(show.state.obs[:, 1], 1.5)
    asked = jax.vmap(lambda s: player.env.command(s, {"speed": jnp.float32(1.5)}))(before.world)
    _, action = player.policy.act((), before.obs)
    np.testing.assert_allclose(
        show.state.obs, jax.vmap(player.env.step)(asked, action).obs, rtol=1e-5, atol=1e-6
    )
    for _ in range(player.episode_length):
        show.step({"speed": 0.0})
    assert (show.state.steps == 1).all()  # they began anew together


def test_pushes(run):
    show = view.Show(load(run), 2)
    mj = show.world.drawing()
    speed = show.state.world.carry.physics.qvel
    show.push(mj, 1, np.array([[5.0, 0, 0], [0, 7.0, 0]]))
    change = (show.state.world.carry.physics.qvel - speed) * mj.body_mass[1]
    np.testing.assert_allclose(change, [[5.0], [0.0]], atol=1e-5)  # the rail holds against y


def test_a_newer_checkpoint_is_taken(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    show = view.Show(load(copy), 1)
    still = view.Show(load(copy), 1, follow=False)
    assert not show.look()
    (copy / "checkpoints" / "000000009999.npz").write_bytes(b"half")
    assert not show.look()
    gpusim.train(resume=copy, total_steps=1024)
    (copy / "checkpoints" / "000000009999.npz").unlink(missing_ok=True)
    before = jax.tree.leaves(show.player.policy)
    assert show.look()
    assert not still.look()
    assert show.player.path.stem == "000000001024"
    assert any((a != b).any() for a, b in zip(before, jax.tree.leaves(show.player.policy)))  # noqa: B905


def test_mistakes_are_one_line(tmp_path, capsys, run, monkeypatch):
    assert view.main([str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert view.main([str(run.folder), "--port", "99999"]) == 2
    assert "--port is 99999, needs to be from 0 to 65535" in capsys.readouterr().err
    assert view.main([str(run.folder), "--worlds", "0"]) == 2
    assert "--worlds is 0" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert view.main([str(run.folder)]) == 2
    assert "needs viser: pip install viser" in capsys.readouterr().err


@pytest.mark.slow
def test_in_a_browser(run):
    """The page shows the worlds, asks nobody else for anything, and its controls work."""
    pytest.importorskip("viser")
    sync = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    live = view.View(view.Show(load(run), 1), port=0)
    assert live.server.get_host() == "127.0.0.1"
    loop = threading.Thread(target=live.run, args=(120.0,))
    loop.start()
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
    flags += ["--enable-unsafe-swiftshader"]
    with sync.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": 900, "height": 600})
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(live.url)
        page.get_by_text("Push them").wait_for()
        assert page.get_by_text("ViewedCart").is_visible()
        assert page.get_by_text("speed", exact=True).is_visible()
        _wait(lambda: [c.camera.position[0] > 0 for c in live.server.get_clients().values()])
        time.sleep(3)
        seen = page.screenshot()

        page.get_by_label("Pause").click()
        _wait(lambda: live.pause.value)
        time.sleep(0.5)
        steps = int(live.show.state.steps[0])
        time.sleep(0.5)
        assert int(live.show.state.steps[0]) == steps
        speed = float(live.show.state.world.carry.physics.qvel[0, 0])
        page.get_by_text("Push them").click()
        _wait(lambda: float(live.show.state.world.carry.physics.qvel[0, 0]) != speed)

        page.get_by_text("Start anew").click()
        _wait(lambda: int(live.show.state.steps[0]) == 0)
        (client,) = live.server.get_clients().values()
        at = lambda x: _pixel(client.camera, live.handle.position + np.array([x, 0, 0]))
        start, end = at(0.35), at(1.2)
        page.mouse.move(*start)
        time.sleep(0.5)
        page.mouse.down()
        page.mouse.move(*np.mean([start, end], 0), steps=5)
        page.mouse.move(*end, steps=5)
        _wait(lambda: live.held)
        page.get_by_label("Pause").focus()
        page.keyboard.press("Space")
        _wait(lambda: not live.pause.value)
        _wait(lambda: float(live.show.state.world.carry.physics.qvel[0, 0]) > 0.3)
        page.mouse.up()
        _wait(lambda: not live.held)
        assert seen != page.screenshot()
        assert not errors
        assert all(url.startswith((live.url, "data:", "blob:")) for url in asked), asked
        browser.close()
    live.close()
    loop.join()


def _wait(done: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def _pixel(camera: Any, point: np.ndarray) -> np.ndarray:
    """Where a point of the scene is in a window of 900 x 600."""
    forward = camera.look_at - camera.position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    away = point - camera.position
    scale = 300 / np.tan(camera.fov / 2) / (away @ forward)
    return np.array([450 + scale * (away @ right), 300 - scale * (away @ np.cross(right, forward))])
