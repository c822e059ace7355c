"""Streams without frames as users start them: the backend is chosen, and live, replay and offline agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.cameras.synthetic import open_source
from drivers.recordings.recording.source import RecordingWriter
from stream.sockets.subscriber import Subscriber
from tests.stream.command import ROOT, run
from tests.system.commanded import EVERYTHING, Command

pytestmark = pytest.mark.system

CAMERA = ROOT / "configs" / "synthetic.toml"
# The rings hold the whole recording, however far the consumer falls behind.
SETTINGS = (
    *EVERYTHING[1:],
    "reconstructor.backend=auto",
    "plan.rate_hz=100",
    "ring.seconds=2",
    "reconstructor.device=cpu",
    "reconstructor.engine=eager",  # converting a network has tests of its own
    "reconstructor.threads=1",
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of a small event camera."""
    path = tmp_path_factory.mktemp("events") / "camera.nire"
    with (
        open_source(width=64, height=48, seconds=0.5, live=False, frame_rate_hz=0) as source,
        RecordingWriter(path, source.info.geometry, source=source.info) as writer,
    ):
        for packet in source:
            writer.write(packet)
    return path


@pytest.fixture(scope="module")
def config(recording: Path) -> Path:
    """A config that sets nothing."""
    path = recording.parent / "empty.toml"
    path.write_text("")
    return path


@pytest.fixture(scope="module")
def offline(recording: Path, config: Path) -> dict[float, np.ndarray]:
    """What the offline run makes of it: image by shutter."""
    out = recording.parent / "offline"
    done = run("offline", config, recording, out, *(word for setting in SETTINGS for word in ("--set", setting)))
    assert done.code == 0, done.err
    assert "guess that starts from gray" in done.err
    lines = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    assert {line["backend"] for line in lines} == {"events_only"}
    return {line["t_a_us"]: cv2.imread(str(out / line["file"]), cv2.IMREAD_UNCHANGED) for line in lines}


@pytest.mark.parametrize("speed", ["max", "1"])
def test_replay_gives_the_images_of_offline(
    recording: Path, config: Path, offline: dict[float, np.ndarray], speed: str
) -> None:
    with Command("replay", config, recording, "--speed", speed, settings=SETTINGS) as stream:
        messages = list(stream.received("frame/upsample"))
        done = stream.wait()
    assert done.code == 0, done.err
    assert "guess that starts from gray" in done.err
    window = -1
    for message in messages:
        # On a busy machine windows are joined, or left out: what is remembered differs from then on.
        if message.header["window"] - window <= 1:
            window = message.header["window"]
            assert np.array_equal(message.pixels[..., 0], offline[message.header["t_a_us"]])
        assert (message.header["backend"], message.header["transfer"]) == ("events_only", "srgb")
    assert window >= (0 if speed == "1" else messages[-1].header["window"])
    published = re.search(r"lost: 0 events, 0 frames; out: (\d+) frames", done.err)
    assert published, done.err
    assert len(messages) == int(published[1]) > 0
    if speed == "max":
        assert len(messages) == len(offline) >= 50
    assert stream.left() == []


def test_live_camera_without_frames_streams_and_answers() -> None:
    camera = "source.settings={width = 64, height = 48, frame_rate_hz = 0, exposure_us = 0}"
    with Command("live", CAMERA, settings=(camera, *SETTINGS[1:])) as stream:
        with Subscriber(stream.publish, ["frame/upsample"]) as subscriber:
            message = stream.until(lambda: subscriber.recv(timeout_ms=200))
        assert message.header["backend"] == "events_only"
        status = json.loads(stream.ctl("status").out)
        assert (status["frames"], status["backend"]) == (0, "events_only")
        refused = stream.ctl("set-plan", "name=deblur")
        assert refused.code == 2
        assert "upsample" in refused.out
