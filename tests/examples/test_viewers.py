"""The examples for OpenCV and GStreamer, over a stream."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream.sockets import wire
from stream.sockets.subscriber import Subscriber
from tests.stream.fake_stream import HEIGHT, WIDTH, FakeStream
from tests.waiting import PATIENCE_MS, PATIENCE_S

ROOT = Path(__file__).parents[2]
DEBIAN = "/usr/bin/python3"
NEEDS = "import gi, zmq, msgpack; gi.require_version('GstApp', '1.0'); from gi.repository import GstApp"


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


def test_opencv_has_the_newest_image(stream: FakeStream, tmp_path: Path) -> None:
    code = (ROOT / "examples" / "opencv_newest.py").read_text()
    words = [sys.executable, "-c", code, str(tmp_path / "a.png"), stream.address, stream.control.address]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    edges = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE)
    assert edges.shape == (HEIGHT, WIDTH)
    assert set(np.unique(edges)) == {0, 255}


@pytest.mark.skipif(
    not Path(DEBIAN).exists()
    or subprocess.run([DEBIAN, "-c", NEEDS], capture_output=True, check=False).returncode != 0,
    reason="needs GStreamer's Python bindings, zmq and msgpack in Debian's Python",
)
def test_gstreamer_gets_the_pixels_of_the_wire(stream: FakeStream, tmp_path: Path) -> None:
    with Subscriber(stream.address, ["frame/deblur"], high_water_mark=100_000) as subscriber:
        words = [DEBIAN, str(ROOT / "examples" / "gstreamer_appsrc.py"), stream.address, "frame/deblur"]
        done = subprocess.run(
            [*words, f"filesink location={tmp_path / 'raw'}", "3"],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        stride = -(-WIDTH // 4) * 4
        written = np.fromfile(tmp_path / "raw", np.uint8).reshape(3, HEIGHT, stride)[:, :, :WIDTH]
        left = [image.tobytes() for image in written]
        while left:
            message = subscriber.recv(PATIENCE_MS)
            assert message is not None, "an image that was never sent"
            if wire.frame_of(message).pixels.tobytes() == left[0]:
                left.pop(0)
