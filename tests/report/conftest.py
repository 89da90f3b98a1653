"""A headless browser for the tests that look at a page, where one is installed."""

import html
import pathlib
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
)


class Browser:
    """Opens local pages only."""

    def __init__(self, program: str, profile: pathlib.Path):
        self.command = [program, *FLAGS, f"--user-data-dir={profile}"]

    def title(self, page: pathlib.Path, fragment: str = "") -> str:
        """The page's title after its scripts have run."""
        dom = self._run("--dump-dom", f"file://{page}{fragment}").decode()
        return html.unescape(dom.partition("<title>")[2].partition("</title>")[0])

    def picture(self, page: pathlib.Path, fragment: str, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8 as the page looks after its scripts have run."""
        out = page.with_suffix(".png")
        size = f"--window-size={width},{height}"
        self._run(f"--screenshot={out}", size, f"file://{page}{fragment}")
        return decode_png(out.read_bytes())

    def _run(self, *arguments: str) -> bytes:
        done = subprocess.run([*self.command, *arguments], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture
def browser(tmp_path) -> Browser:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    return Browser(program, tmp_path / "profile")


def decode_png(data: bytes) -> np.ndarray:
    """(height, width, 3) uint8 of an 8-bit RGB or RGBA PNG (ISO/IEC 15948, section 9)."""
    width, height, _, color = struct.unpack(">IIBB", data[16:26])
    channels, at, packed = {2: 3, 6: 4}[color], 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        packed += data[at + 8 : at + 8 + length] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    out = np.zeros((height + 1, width + 1, channels), np.int32)  # a black border above and left
    for y in range(height):
        kind, line = lines[y, 0], lines[y, 1:].reshape(width, channels)
        for x in range(width):
            left, up, corner = out[y + 1, x], out[y, x + 1], out[y, x]
            out[y + 1, x + 1] = (line[x] + predict(kind, left, up, corner)) & 255
    return out[1:, 1:, :3].astype(np.uint8)


def predict(kind: int, left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray | int:
    """PNG's five filters: what a pixel is expected to be, from its three neighbours."""
    if kind == 4:  # Paeth: the neighbour nearest to left + up - corner
        far = np.abs(left + up - corner - np.stack([left, up, corner]))
        return np.choose(far.argmin(axis=0), [left, up, corner])
    return (0, left, up, (left + up) // 2)[kind]
