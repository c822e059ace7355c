"""Images sent on, process to process: LeRobot's own form, and what is said when something is missing."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq

from nire.errors import ConfigError
from nire.types import WallClock
from stream.commands import view
from stream.outputs import follow_output, require_ready
from stream.sockets.subscriber import Subscriber
from tests.stream.fake_stream import HEIGHT, WIDTH, FakeStream
from tests.stream.test_outputs import COLOUR, exposed
from tests.system.live_stream import ROOT, LiveStream, free_ports, write_short
from tests.waiting import PATIENCE_MS, PATIENCE_S

WALL_NS = 1_700_000_000_000_000_000


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


def _sending(stream: FakeStream, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stream.cli", "send", *words, "--address", stream.address]
    return subprocess.Popen([*command, "--control", stream.control.address], cwd=ROOT, text=True)


@pytest.fixture
def lerobot(stream: FakeStream) -> Iterator[int]:
    """A port to which a process publishes in LeRobot's form."""
    (port,) = free_ports(1)
    process = _sending(stream, "lerobot", "--to", f"tcp://127.0.0.1:{port}")
    yield port
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) in (0, -signal.SIGINT)  # the latter before it had begun, where a test was skipped


@pytest.mark.system
def test_lerobot_gets_images_in_its_own_form(lerobot: int) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt_string(zmq.SUBSCRIBE, "")
        socket.setsockopt(zmq.CONFLATE, 1)
        socket.connect(f"tcp://127.0.0.1:{lerobot}")
        assert socket.poll(PATIENCE_MS)
        told = json.loads(socket.recv_string())
    assert set(told) == {"timestamps", "images"}
    assert set(told["timestamps"]) == set(told["images"]) == {"camera"}
    assert abs(told["timestamps"]["camera"] - time.time()) < 3600
    image = cv2.imdecode(np.frombuffer(base64.b64decode(told["images"]["camera"]), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.system
def test_lerobots_own_camera_reads_the_stream(lerobot: int) -> None:
    camera_zmq = pytest.importorskip("lerobot.cameras.zmq.camera_zmq", reason="needs lerobot")
    from lerobot.cameras.zmq.configuration_zmq import ZMQCameraConfig

    config = ZMQCameraConfig(server_address="127.0.0.1", port=lerobot, camera_name="camera", timeout_ms=PATIENCE_MS)
    camera = camera_zmq.ZMQCamera(config)
    camera.connect()
    try:
        image = camera.async_read(timeout_ms=PATIENCE_MS)
    finally:
        camera.disconnect()
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.std() > 5


@pytest.mark.system
def test_lerobot_gets_pixels_and_stamps_of_a_replay(tmp_path: Path) -> None:
    """Process to process: a replay whose wall time was recorded, `send`, and what was published meanwhile."""
    recording = tmp_path / "a.nire"
    write_short(recording, WallClock(0, WALL_NS))
    with LiveStream(recording=recording, loops=1000) as stream:
        stream.until_exposing()
        publish, control = stream.config.publish.bind, stream.config.control.bind
        (port,) = free_ports(1)
        words = ["lerobot", "--to", f"tcp://127.0.0.1:{port}", "--address", publish, "--control", control]
        process = subprocess.Popen([sys.executable, "-m", "stream.cli", "send", *words], cwd=ROOT)
        try:
            with (
                Subscriber(publish, ["frame/upsample"], high_water_mark=100_000) as subscriber,
                zmq.Context() as context,
                context.socket(zmq.SUB) as socket,
            ):
                socket.setsockopt_string(zmq.SUBSCRIBE, "")
                socket.connect(f"tcp://127.0.0.1:{port}")
                assert socket.poll(PATIENCE_MS)
                told = json.loads(socket.recv_string())
                seconds = told["timestamps"]["camera"]
                while (message := subscriber.recv(PATIENCE_MS)) is not None:
                    if message.header["wall_ns"] * 1e-9 == seconds:
                        break
                assert message is not None
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    assert seconds >= WALL_NS * 1e-9
    jpeg = np.frombuffer(base64.b64decode(told["images"]["camera"]), np.uint8)
    image = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
    pixels = np.asarray(message.pixels)[..., 0]
    assert np.abs(image.astype(int) - pixels).mean() < 3  # as much as a JPEG may be off


def test_colours_come_as_lerobot_takes_them() -> None:
    """It decodes by OpenCV, and takes the order of the channels for RGB."""
    with (
        follow_output("lerobot", "tcp://127.0.0.1:*") as output,
        zmq.Context() as context,
        context.socket(zmq.SUB) as socket,
    ):
        socket.setsockopt_string(zmq.SUBSCRIBE, "")
        socket.connect(output.address)  # type: ignore[attr-defined]
        smooth = cv2.GaussianBlur(COLOUR, (0, 0), 5)
        while not socket.poll(50):
            output.write(exposed(smooth), index=0)
        told = json.loads(socket.recv_string())
    image = cv2.imdecode(np.frombuffer(base64.b64decode(told["images"]["camera"]), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(image.astype(int) - smooth).mean() < 4


def test_address_that_is_taken_is_said() -> None:
    with (
        follow_output("lerobot", "tcp://127.0.0.1:*") as output,
        pytest.raises(ConfigError, match="in use"),
    ):
        follow_output("lerobot", output.address)  # type: ignore[attr-defined]


def test_outputs_of_runs_and_of_streams_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="nire-live send lerobot"):
        require_ready("lerobot")
    with pytest.raises(ConfigError, match=r"offline \.\.\. --output gif"):
        follow_output("gif")


def test_name_that_is_none_is_answered_by_those_of_its_kind() -> None:
    with pytest.raises(ConfigError, match=r"there are foxglove, lerobot, rerun, video_device$"):
        follow_output("nothing")
    with pytest.raises(ConfigError, match=r"there are beside, frames, gif, video$"):
        require_ready("nothing")


@pytest.mark.parametrize("viewer", ["rerun", "foxglove"])
def test_view_sends_to_the_viewer_that_is_named(viewer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(view, "send_on", lambda output, to, **rest: asked.append((output, to, rest["address"])))
    view.command("tcp://127.0.0.1:1", rerun=viewer == "rerun", foxglove=viewer == "foxglove")
    assert asked == [(viewer, "", "tcp://127.0.0.1:1")]


@pytest.mark.parametrize("both", [False, True])
def test_view_needs_one_viewer(both: bool) -> None:
    with pytest.raises(ConfigError, match=r"--rerun or --foxglove"):
        view.command(rerun=both, foxglove=both)
