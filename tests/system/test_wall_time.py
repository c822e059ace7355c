"""Robot time end to end: a camera whose clock drifts and whose packets come late is asked by the wall's clock."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nire_live as nl
from drivers.detect import open_recording
from nire.types import EventBatch, Frame, WallClock
from stream.sockets.subscriber import Subscriber
from tests.system import drifting_camera
from tests.system.live_stream import ROOT, LiveStream
from tests.waiting import PATIENCE_MS, PATIENCE_S

pytestmark = pytest.mark.system

DRIVER = "tests.system.drifting_camera"


def _settings(truth: Path) -> tuple[str, ...]:
    return (f"source.driver={DRIVER}", f"source.settings={{truth = '{truth}'}}", "plan.name=deblur")


def test_robot_time_is_answered_within_its_uncertainty_under_drift_and_jitter(tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    with LiveStream(*_settings(truth)) as stream:
        stream.until_exposing(100)  # four seconds
        config = stream.config
        with nl.connect(config.publish.bind, config.control.bind, timeout_s=PATIENCE_S) as robot:
            answered = 0
            while answered < 10:
                asked_ns = time.time_ns() - 60_000_000
                try:
                    frame = robot.expose_frame(wall_ns=asked_ns, for_us=2000)
                except nl.ShutterOutsideWindow:
                    continue  # a machine that is busy has not come so far yet, or has gone on
                answered += 1
                assert frame.wall_ns is not None
                assert frame.wall_uncertainty_us is not None
                assert abs(frame.wall_ns - asked_ns) < 2000  # it is what was asked for,
                mid_us = frame.shutter.mid_us
                true_ns = drifting_camera.wall_ns(truth, mid_us)  # and it is true
                assert abs(true_ns - asked_ns) / 1000 <= frame.wall_uncertainty_us + 2
                assert frame.shutter.t_b_us.flat[0] - frame.shutter.t_a_us.flat[0] == pytest.approx(2000)
                since_us = mid_us - drifting_camera.START_US - drifting_camera.EXPOSURE_US / 2
                shown = (int(frame.pixels[0, 0, 0]) - since_us / drifting_camera.PERIOD_US + 128) % 256 - 128
                assert abs(shown) <= 1, "the image is of another time"
        with Subscriber(config.publish.bind, ["captured", "events", "frame/deblur", "status"]) as subscriber:
            waited = {"captured", "events", "frame/deblur", "status"}
            while waited:
                message = subscriber.recv(PATIENCE_MS)
                assert message is not None
                header = message.header
                device_us = header["device_us"] if message.topic == "status" else header["stamps"]["device_us"]
                off_us = abs(header["wall_ns"] - drifting_camera.wall_ns(truth, device_us)) / 1000
                assert off_us <= header["wall_uncertainty_us"] + 2, message.topic
                waited.discard(message.topic)
        asked_ns = time.time_ns() + 3_600_000_000_000
        refused = stream.ask("expose", wall_ns=asked_ns)
        assert refused["error"] == "not_covered"
        said = subprocess.run(
            [sys.executable, "-m", "stream.cli", "ctl", "expose", "--wall", str(asked_ns), "--address",
             config.control.bind],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert said.returncode == 3
        assert json.loads(said.stdout)["error"] == "not_covered"


@pytest.mark.parametrize("suffix", [".nire", ".mcap", ".aedat4"])
def test_recording_keeps_wall_time_and_its_replay_tells_it(suffix: str, tmp_path: Path) -> None:
    truth, path = tmp_path / "truth.json", tmp_path / f"a{suffix}"
    with LiveStream(*_settings(truth), **{"record-to": path}) as stream:
        stream.until_exposing(50)
        stream.end()
    with open_recording(path) as source:
        packets = list(source)
    assert any(isinstance(packet, WallClock) for packet in packets) == (suffix != ".aedat4")  # it has no place there
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert len(frames) > 40
    if suffix != ".nire":
        for frame in frames:
            level = int(frame.pixels[0, 0, 0])
            device_us = drifting_camera.START_US + level * drifting_camera.PERIOD_US + drifting_camera.EXPOSURE_US / 2
            assert abs(1000 * frame.mid_us - drifting_camera.wall_ns(truth, device_us)) < 21e6
        times = [t for packet in packets if isinstance(packet, EventBatch) for t in packet.t_us.tolist()]
        assert times == sorted(times)
    images = list(nl.reexpose(path, "deblur", backend="passthrough"))
    assert all(image.wall_ns is not None for image in images)
    for image in images:
        level = int(image.pixels[0, 0, 0])
        device_us = drifting_camera.START_US + level * drifting_camera.PERIOD_US + drifting_camera.EXPOSURE_US / 2
        off_us = abs((image.wall_ns or 0) - drifting_camera.wall_ns(truth, device_us)) / 1000
        assert off_us <= (21_000 if suffix == ".aedat4" else image.wall_uncertainty_us or 0) + 2
    with (
        LiveStream("source.driver=auto", "plan.name=deblur", "source.settings={}", recording=path, speed=1.0) as replay,
        Subscriber(replay.config.publish.bind, ["frame/deblur"]) as subscriber,
    ):
        message = subscriber.recv(PATIENCE_MS)
        assert message is not None
        told = next(image for image in images if image.pixels[0, 0, 0] == message.pixels[0, 0, 0])  # type: ignore[index]
        assert abs(message.header["wall_ns"] - (told.wall_ns or 0)) <= 2000


def test_recording_without_times_since_1970_has_no_wall_time(tmp_path: Path) -> None:
    from tests.golden.example import write_recording

    write_recording(tmp_path / "a.nire")
    images = list(nl.reexpose(tmp_path / "a.nire", "deblur", backend="passthrough"))
    assert images
    assert [image.wall_ns for image in images] == [None] * len(images)


def test_camera_takes_the_clock_of_another_one_that_it_shares(tmp_path: Path) -> None:
    truth = tmp_path / "left.json"
    with LiveStream(*_settings(truth)) as left:
        left.until_exposing(20)
        shared = f"source.clock_of={left.config.stream_name}"
        # Its own clock began seconds later: what it tells can only be the other one's.
        with LiveStream(*_settings(tmp_path / "right.json"), shared) as right:
            right.until(lambda: "wall_ns" in right.ask("status"))
            for told in (left.ask("status"), right.ask("status")):
                off_us = abs(told["wall_ns"] - drifting_camera.wall_ns(truth, told["device_us"])) / 1000
                # The newest record of the left one is up to a second, and the right one's seconds, away.
                assert off_us <= told["wall_uncertainty_us"] + 2
            own_us = abs(told["wall_ns"] - drifting_camera.wall_ns(tmp_path / "right.json", told["device_us"])) / 1000
            assert own_us > 500_000
