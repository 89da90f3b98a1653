"""Films: as many frames as there should be, showing the robot, or one line that says what lacks."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

from pathlib import Path

import mujoco
import numpy as np
import pytest

from gpusim.report import film
from gpusim.report.replay import Track

SLIDE = """<mujoco><worldbody><light pos="0 0 3"/>
<geom type="plane" size="9 9 1" rgba=".2 .2 .9 1"/>
<body pos="0 0 .3"><joint type="slide" axis="1 0 0"/>
<geom type="box" size=".2 .2 .2" rgba="1 0 0 1"/></body></worldbody></mujoco>"""


@pytest.fixture
def slide() -> tuple[mujoco.MjModel, Track]:
    """A red box that slides over a blue floor for a second, 101 frames."""
    return mujoco.MjModel.from_xml_string(SLIDE), Track(np.linspace(0, 5, 101)[:, None])


def write(path: Path, slide: tuple[mujoco.MjModel, Track], **options) -> Path:
    try:
        return film.write(path, slide[0], slide[1], 0.01, size=(160, 120), **options)
    except film.FilmError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_pictures_follow_the_robot(kind: str, slide, tmp_path: Path):
    image = pytest.importorskip("PIL.Image").open(write(tmp_path / f"a.{kind}", slide))
    shown_ms = 0.0  # what does not change may be one frame
    for at in range(image.n_frames):
        image.seek(at)
        image.load()
        shown_ms += image.info["duration"]
        seen = np.asarray(image.convert("RGB")).astype(int)
        red = seen[..., 0] > 2 * seen[..., 2]
        assert red.sum() > 200
        rows, columns = np.nonzero(red)
        assert abs(columns.mean() - 80) < 20
        assert abs(rows.mean() - 60) < 20
    assert shown_ms == 26 * 40  # 25 a second, both ends included


def test_a_model_s_own_camera_films_it(tmp_path: Path):
    """From above, where the box goes from the middle to the right: the camera stays."""
    overview = '<camera name="overview" pos="0 0 15"/><light'
    model = mujoco.MjModel.from_xml_string(SLIDE.replace("<light", overview))
    path = write(tmp_path / "a.webp", (model, Track(np.linspace(0, 5, 101)[:, None])))
    image = pytest.importorskip("PIL.Image").open(path)
    middle = []
    for at in (0, image.n_frames - 1):
        image.seek(at)
        seen = np.asarray(image.convert("RGB")).astype(int)
        rows, columns = np.nonzero(seen[..., 0] > 2 * seen[..., 2])
        middle.append((rows.mean(), columns.mean()))
    scale = 120 / (2 * 15 * np.tan(np.radians(45) / 2))  # pixels for a metre on the floor
    np.testing.assert_allclose(middle, [(60, 80), (60, 80 + 5 * scale)], atol=2)


def test_videos_may_be_cut(slide, tmp_path: Path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = write(tmp_path / "a.mp4", slide, seconds=0.5)
    frames, seconds = ffmpeg.count_frames_and_secs(str(path))
    assert (frames, round(seconds, 2)) == (26, 0.52)  # 50 a second


def test_what_cannot_be_is_one_line(slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(film.FilmError, match=r"a\.avi: films are \.gif, \.webp, \.mp4"):
        film.write(tmp_path / "a.avi", slide[0], slide[1], 0.01)
    with pytest.raises(film.FilmError, match=r"a\.gif: there is no folder .*nothing$"):
        film.write(tmp_path / "nothing" / "a.gif", slide[0], slide[1], 0.01)
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    with pytest.raises(
        film.FilmError, match=r"nothing here can draw \(nothing: .*libosmesa6"
    ) as told:
        film.write(tmp_path / "a.gif", slide[0], slide[1], 0.01)
    assert "\n" not in str(told.value)


def test_a_film_that_cannot_be_written_is_named(slide, tmp_path: Path):
    (tmp_path / "a.gif").mkdir()
    with pytest.raises(film.FilmError) as told:
        film.write(tmp_path / "a.gif", slide[0], slide[1], 0.01, size=(160, 120))
    if "nothing here can draw" in str(told.value) or "pip install" in str(told.value):
        pytest.skip(str(told.value))
    assert str(told.value) == f"{tmp_path / 'a.gif'} cannot be written: Is a directory"


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_colours_that_come_later_are_kept(kind: str, tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    pictures = np.zeros((3, 4, 4, 3))
    pictures[1, 1, 2] = 0.5
    pictures[2, 3, 0] = 1, 0, 0
    found = image.open(film.write_pictures(tmp_path / f"later.{kind}", pictures, 0.1))
    for at, picture in enumerate(pictures):
        found.seek(at)
        seen = np.asarray(found.convert("RGB")).reshape(4, 5, 4, 5, 3).mean((1, 3))
        np.testing.assert_allclose(seen, 255 * picture, atol=2 if kind == "gif" else 90)


def test_greys_beyond_white_are_white(tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    pictures = np.array([1.004, 2.0]).reshape(2, 1, 1, 1) * np.ones((1, 4, 4, 1))
    found = image.open(film.write_pictures(tmp_path / "white.gif", pictures, 0.1))
    assert np.asarray(found.convert("L")).min() == 255
