"""The report in a browser: it draws, its controls work, it asks nobody for anything."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import json
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from gpusim.report import replay, report

pytestmark = pytest.mark.slow

BOXES = """<mujoco><asset><mesh name="m" vertex="0 0 0 .3 0 0 0 .3 0 0 0 .3"/></asset><worldbody>
<geom type="plane" size="0 0 1"/><body pos="0 0 .2"><joint type="slide" axis="1 0 0"/>
<geom type="box" size=".2 .2 .2" rgba=".9 .1 .1 1"/><geom type="mesh" mesh="m" pos="0 0 .2"/>
</body></worldbody></mujoco>"""

# Runs in the page once it stands, and leaves what it found in the page's title.
PROBE = """<script>
const errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
window.addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
const press = (key) =>
  stage.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const found = {};
setTimeout(() => {
  found.start = [state.time, state.playing, state.track];
  press("End"); found.end = state.time;
  press("Home"); found.home = state.time;
  press("ArrowRight"); found.right = state.time;
  press("t"); found.track = state.track;
  press("l"); found.loop = state.loop;
  press(" "); found.playing = state.playing; press(" ");
  seek(0.25); byId("link").click(); found.hash = location.hash;
  found.labels = [...byId("labels").children].map((label) => label.textContent);
  found.inView = solids.flatMap((geom) => [0, 1].map((world) => project(
    multiply(lensOf(), look(camera.eye(followed()), followed())),
    [...geomPose(geom, world, state.time / replay.dt).subarray(12, 15)])));
  found.wide = document.documentElement.scrollWidth <= window.innerWidth;
}, 300);
setTimeout(() => {
  found.shown = byId("time").textContent;
  found.gl = gl.getError();
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  document.title = JSON.stringify({ ...found, errors });
}, 2500);
</script></body>"""
# What is read, as it stands on the screen, while the camera goes round.
MEASURE = """<script>
setTimeout(() => {
  const box = (element) => element.getBoundingClientRect();
  const scale = (svg) => box(svg).width / svg.viewBox.baseVal.width;
  const size = (text) => parseFloat(getComputedStyle(text).fontSize) * scale(text.ownerSVGElement);
  const seen = (query) => [...document.querySelectorAll(query)].filter((e) => box(e).width > 0);
  const corner = box(byId("heading")), scene = box(stage), labels = [];
  for (camera.azimuth = 0; camera.azimuth < 6.3; camera.azimuth += 0.05) {
    draw();
    labels.push(...seen("#labels div").map(box));
  }
  const found = {
    letters: seen("svg text").map(size),
    labels: labels.length,
    cut: labels.filter((l) => l.left < scene.left || l.right > scene.right || l.top < scene.top),
    covering: labels.filter((l) => l.left < corner.right && l.top < corner.bottom),
    charts: document.querySelectorAll("figure").length,
    shown: seen("figure").length,
  };
  parent.postMessage(JSON.stringify(found), "*");
}, 1500);
</script></body>"""
NIGHT = """<script>window.matchMedia = () => ({ matches: true, addEventListener() {} });</script>"""


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The report of a run with two worlds, a second long."""
    (tmp_path / "config.yaml").write_text("env: boxes\n")
    rows = [{"steps": n, "seconds": n / 10, "return": float(n)} for n in (10, 20, 30)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "summary.json").write_text(json.dumps({"seconds": {"learning": 3.0}}))
    mj: Any = mujoco.MjModel.from_xml_string(BOXES)
    qpos = np.linspace(0, 2, 21)[:, None]
    tracks = [
        replay.Track(qpos, "median (2)", {"return": np.arange(21.0)}),
        replay.Track(qpos[:11], "best (1)", {"return": np.arange(11.0)}, (0.1, 0.4, 0.3)),
    ]
    replay.write(tmp_path / "replay.html", mj, tracks, 0.05, title="boxes")
    return report.write(tmp_path).read_text(encoding="utf-8")


def test_controls_work_and_nothing_is_asked_for(page: str, tmp_path: Path, browser):
    path = tmp_path / "probe.html"
    path.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    found = json.loads(browser.title(path, "#t=0.5&world=1"))
    assert found["errors"] == []
    assert found["requests"] == []
    assert found["gl"] == 0
    assert found["start"] == [0.5, False, 1]
    assert (found["end"], found["home"], found["right"]) == (1.0, 0, 0.05)
    assert (found["track"], found["loop"], found["playing"]) == (0, False, True)
    assert found["hash"] == "#t=0.25&world=0"
    assert found["labels"] == ["median (2)", "best (1)"]
    assert found["shown"] == "0.25 / 1.00 s"
    assert found["wide"]
    x, y = np.array(found["inView"][::2]).T  # of the world that the camera follows
    assert (abs(x) < 0.9).all()
    assert (abs(y) < 0.9).all()


@pytest.mark.parametrize("width", [390, 660, 1000, 1300])
def test_all_that_is_written_can_be_read(page: str, tmp_path: Path, browser, width: int):
    path = tmp_path / "measure.html"
    path.write_text(page.replace("</body>", MEASURE), encoding="utf-8")
    frame = tmp_path / "frame.html"  # a window of Chromium's is wider than a phone
    frame.write_text(
        f'<title></title><iframe src="measure.html#t=0.5" width="{width}" height="844"></iframe>'
        "<script>onmessage = (event) => { document.title = event.data; };</script>"
    )
    found = json.loads(browser.title(frame))
    assert min(found["letters"]) > 9.5  # pixels
    assert found["labels"] > 100
    assert found["cut"] == found["covering"] == []
    assert found["shown"] == found["charts"] - 1  # of the large one drawn for wide and narrow pages


@pytest.mark.parametrize(("width", "height"), [(1000, 800), (390, 844)])
def test_the_robot_is_on_the_page_by_day_and_by_night(
    page: str, tmp_path: Path, browser, width: int, height: int
):
    pictures = []
    for name, text in {"day": page, "night": page.replace("<main>", f"{NIGHT}<main>")}.items():
        path = tmp_path / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        pictures.append(browser.picture(path, "#t=0.5", width, height).astype(int))
    for image in pictures:
        red = (image[..., 0] > 1.6 * image[..., 1]) & (image[..., 0] > 90)
        assert red.sum() > 1000
    # The scene is dark at night, though the page around was not told.
    assert np.median(pictures[1]) < np.median(pictures[0])
    assert pictures[1].mean() < pictures[0].mean() - 20
