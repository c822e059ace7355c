"""Streams as users start them, by the command line: equal to offline, asked and misused while they run, ended."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgpack
import numpy as np
import psutil
import pytest
import zmq

from drivers.cameras.synthetic import open_source
from drivers.detect import open_recording
from drivers.recordings.recording.source import RecordingWriter
from nire.types import EventBatch, Frame
from stream.sockets.subscriber import Subscriber
from tests.stream.command import CONFIG, ROOT, run
from tests.system.commanded import EVERYTHING, Command
from tests.waiting import PATIENCE_MS, PATIENCE_S

pytestmark = pytest.mark.system

CAMERA = ROOT / "configs" / "synthetic.toml"
SMALL = ("source.settings={width = 64, height = 48, noise = 'ideal'}", "reconstructor.device=cpu")
# Ends by itself after 25 frames, and is taken as fast as its slowest reader goes: nothing is lost on the way.
FINITE = "source.settings={width = 64, height = 48, noise = 'ideal', seconds = 1.0, live = false}"


# Live is offline


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of a small camera that shakes: 25 frames."""
    path = tmp_path_factory.mktemp("live") / "camera.nire"
    with (
        open_source(width=64, height=48, seconds=1.0, live=False, seed=5) as source,
        RecordingWriter(path, source.info.geometry, source=source.info) as writer,
    ):
        for packet in source:
            writer.write(packet)
    return path


@dataclass(frozen=True)
class Exposed:
    """Images by shutter, in their order, and how many windows gave them."""

    images: dict[float, np.ndarray]
    windows: int


@pytest.fixture(scope="module")
def offline(recording: Path) -> Exposed:
    """What the offline run makes of it."""
    out = recording.parent / "offline"
    settings = [word for setting in EVERYTHING for word in ("--set", setting)]
    done = run("offline", CONFIG, recording, out, *settings)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    images = {line["t_a_us"]: cv2.imread(str(out / line["file"]), cv2.IMREAD_UNCHANGED) for line in lines}
    return Exposed(images, json.loads((out / "run.json").read_text())["counts"]["windows"])


@pytest.mark.parametrize("speed", ["max", "1"])
def test_replay_through_rings_and_sockets_gives_the_images_of_offline(
    recording: Path, offline: Exposed, speed: str
) -> None:
    # The rings hold the whole recording: however far the consumer falls behind, windows are skipped, and none is lost.
    settings = (*EVERYTHING, "ring.seconds=2")
    with Command("replay", CONFIG, recording, "--speed", speed, settings=settings) as stream:
        messages = list(stream.received("frame/upsample"))
        done = stream.wait()
    assert done.code == 0, done.err
    counted = re.search(
        r"in: \d+ events, 25 frames; lost: 0 events, 0 frames; out: (\d+) frames from (\d+) windows, (\d+) late",
        done.err,
    )
    assert counted, done.err
    published, windows, late = map(int, counted.groups())
    # Whoever waited for the stream to come up got all of it, from the first frame to the last.
    assert len(messages) == published > 0
    assert windows + late == offline.windows
    places = {t_us: index for index, t_us in enumerate(offline.images)}
    indices = [message.header["index"] for message in messages]
    assert indices == [places[message.header["t_a_us"]] for message in messages]
    assert indices == sorted(set(indices))
    for message in messages:
        # A window that was skipped, on a machine too slow for this, taught the calibration nothing.
        if message.header["late_windows"] == 0:
            assert np.array_equal(message.pixels[..., 0], offline.images[message.header["t_a_us"]])
    if speed == "max":
        assert late == 0
        assert indices == list(range(len(offline.images)))
    assert stream.left() == []


def test_loop_of_two_continues_the_clock(recording: Path) -> None:
    with Command("replay", CONFIG, recording, "--speed", "max", "--loop", "2", settings=EVERYTHING) as stream:
        times = [message.header["t_a_us"] for message in stream.received("frame/upsample")]
        done = stream.wait()
    assert done.code == 0, done.err
    assert "50 frames; lost: 0 events, 0 frames" in done.err
    assert times == sorted(set(times))
    assert times[-1] - times[0] > 1_000_000


def test_loop_without_a_number_goes_on_until_it_is_stopped(recording: Path) -> None:
    with Command("replay", CONFIG, recording, "--speed", "max", "--loop") as stream:
        with Subscriber(stream.publish, ["captured"], newest_only=True) as subscriber:

            def in_the_third_round() -> bool:
                message = subscriber.recv(timeout_ms=200)
                return message is not None and message.header["index"] >= 50

            stream.until(in_the_third_round)
        stream.ctrl_c()
        done = stream.wait()
    assert done.code == 0, done.err
    frames = re.search(r"in: \d+ events, (\d+) frames", done.err)
    assert frames, done.err
    assert int(frames[1]) > 50


@pytest.mark.parametrize("command", ["live", "record", "replay"])
def test_what_has_no_end_ends_after_its_seconds(recording: Path, tmp_path: Path, command: str) -> None:
    file = tmp_path / "a.nire"
    arguments = {
        "live": (CAMERA, *(word for setting in SMALL for word in ("--set", setting))),
        "record": (CAMERA, file, *(word for setting in SMALL for word in ("--set", setting))),
        "replay": (CONFIG, recording, "--speed", "max", "--loop"),
    }
    with Command(command, *arguments[command], "--seconds", "1") as stream:
        done = stream.wait()
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert file.exists() == (command == "record")
    assert stream.left() == []


# One stream, asked and misused


@pytest.fixture(scope="module")
def camera() -> Iterator[Command]:
    with Command("live", CAMERA, settings=(*SMALL, "reconstructor.backend=passthrough", "plan.rate_hz=100")) as stream:
        with Subscriber(stream.publish, ["frame/upsample"]) as subscriber:
            stream.until(lambda: subscriber.recv(timeout_ms=200))
        yield stream
        processes = psutil.Process(stream.process.pid).children(recursive=True)
        stream.ctrl_c()
        done = stream.wait()
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert alive == []
    assert stream.left() == []


def is_streaming(stream: Command) -> bool:
    """Whether two more frames come."""
    with Subscriber(stream.publish, ["frame/upsample"]) as subscriber:
        return all(stream.until(lambda: subscriber.recv(timeout_ms=200)) for _ in range(2))


def test_status_is_json_with_rates_losses_and_plan(camera: Command) -> None:
    done = camera.ctl("status")
    assert done.code == 0, done.err
    status = json.loads(done.out)
    assert status["ok"] is True
    assert status["plan"]["rate_hz"] > 0
    assert {"lost_events", "lost_frames", "late_windows", "calibration", "covered_us"} <= set(status)


def test_plan_is_changed_by_the_command_line_and_a_wrong_one_refused(camera: Command) -> None:
    done = camera.ctl("set-plan", "rate_hz=200", "plan.exposure_us=1000")
    assert done.code == 0, done.err
    plan = json.loads(done.out)["plan"]
    assert (plan["rate_hz"], plan["exposure_us"]) == (200, 1000)
    for wrong in ("ratehz=3", "rate_hz=-3", "name=debur"):
        done = camera.ctl("set-plan", wrong)
        assert done.code == 2
        reply = json.loads(done.out)
        assert reply["ok"] is False
        assert reply["hint"] or reply["error"]
    assert camera.ctl("set-plan", "rate_hz=100", "exposure_us=0").code == 0
    assert is_streaming(camera)


def test_exposure_outside_of_what_is_covered_is_answered_so(camera: Command) -> None:
    done = camera.ctl("expose", "--t", "-1e12", "--for", "10")
    assert done.code == 3
    assert json.loads(done.out)["error"] == "not_covered"
    assert "Traceback" not in done.err


def test_pause_and_resume(camera: Command) -> None:
    assert camera.ctl("pause").code == 0
    assert json.loads(camera.ctl("status").out)["state"] == "paused"
    assert camera.ctl("resume").code == 0
    assert is_streaming(camera)


GARBAGE = {
    "no msgpack": b"\xc1\xff\x00",
    "nothing": b"",
    "text": b"status",
    "a list": msgpack.packb([1, 2]),
    "a number": msgpack.packb(7),
    "an unknown command": msgpack.packb({"command": "dance"}),
    "no command": msgpack.packb({"x": 1}),
    "numbers for names": msgpack.packb({1: 2, "command": 3}),
    "a plan that is none": msgpack.packb({"command": "set_plan", "plan": "fast"}),
    "an exposure at NaN": msgpack.packb({"command": "expose", "t_us": float("nan"), "for_us": 0}),
    "an exposure backwards": msgpack.packb({"command": "expose", "t_us": 0, "for_us": -5}),
    "an exposure at a text": msgpack.packb({"command": "expose", "t_us": "now"}),
    "an exposure without end": msgpack.packb({"command": "expose", "t_us": 0, "for_us": 1e300, "row_delay_us": 1e308}),
    "a bomb": b"\xdd\xff\xff\xff\xff",
    "nesting": b"\x91" * 60_000,
    "settings that are none": msgpack.packb({"command": "set_source", "settings": [1]}),
}


def test_garbage_on_the_control_socket_is_answered_and_the_stream_goes_on(camera: Command) -> None:
    with zmq.Context() as context:
        for name, request in GARBAGE.items():
            with context.socket(zmq.REQ) as client:
                client.linger = 0
                client.connect(camera.control)
                client.send(request)
                assert client.poll(PATIENCE_MS), name
                reply = msgpack.unpackb(client.recv())
                assert reply["ok"] is False, name
                assert reply["error"], name
        with context.socket(zmq.DEALER) as rude:  # several parts, and no reply waited for
            rude.linger = 0
            rude.connect(camera.control)
            rude.send_multipart([b"", b"a", b"b"])
            rude.send_multipart([b"x"])
            rude.send_multipart([b"", bytes(1_000_000)])  # more than is taken: the connection ends
    assert is_streaming(camera)
    assert camera.ctl("status").code == 0


def test_second_stream_of_the_same_name_is_refused(camera: Command) -> None:
    with Command("live", CAMERA, settings=(*SMALL, f"source.name={camera.name}")) as second:
        done = second.wait()
    assert done.code == 2
    assert camera.name in done.err
    assert "Traceback" not in done.err
    assert is_streaming(camera)


# Starting and ending


@pytest.mark.parametrize("key", ["publish", "control"])
def test_port_in_use_is_refused_and_named(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Command("live", CAMERA, settings=(*SMALL, f"{key}.bind=tcp://{address}")) as stream:
            done = stream.wait()
    assert done.code == 2, done.err
    assert f"{key}.bind" in done.err
    assert address in done.err
    assert "Traceback" not in done.err
    assert stream.left() == []


def test_stop_by_the_command_line_ends_the_stream() -> None:
    with Command("live", CAMERA, settings=(*SMALL, "reconstructor.backend=passthrough")) as stream:
        assert stream.until(lambda: stream.ctl("status").code == 0)
        assert stream.ctl("stop").code == 0
        done = stream.wait()
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


def test_ctrl_c_while_it_starts_ends_it_too() -> None:
    with Command("live", CAMERA, settings=SMALL) as stream:
        # One is multiprocessing's own, the second the first of ours: still an interpreter that is starting.
        stream.until(lambda: len(psutil.Process(stream.process.pid).children()) > 1)
        stream.ctrl_c()
        done = stream.wait()
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert stream.left() == []


def test_recording_by_the_command_line_opens_with_the_same_config(tmp_path: Path) -> None:
    file, out = tmp_path / "mine.nire", tmp_path / "out"
    with Command("record", CAMERA, file, settings=(*SMALL, FINITE)) as stream:
        done = stream.wait()
    assert done.code == 0, done.err
    done = run("offline", CAMERA, file, out, "--set", "plan.name=deblur")
    assert done.code == 0, done.err
    assert len(list((out / "frames").iterdir())) == 25


@pytest.mark.parametrize("suffix", [".aedat4", ".mcap"])
def test_recording_is_of_the_kind_that_its_suffix_names(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"mine{suffix}"
    with Command("record", CAMERA, file, settings=(*SMALL, FINITE)) as stream:
        done = stream.wait()
    assert done.code == 0, done.err
    with open_recording(file) as source:
        assert type(source).__module__ != "drivers.recordings.recording.source"
        packets = list(source)
    assert sum(len(packet) for packet in packets if isinstance(packet, EventBatch)) > 0
    assert sum(isinstance(packet, Frame) for packet in packets) == 25
    assert {packet.exposure_known for packet in packets if isinstance(packet, Frame)} == {True}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("content", [None, b"", b"hello, no recording"], ids=["missing", "empty", "foreign"])
def test_replay_of_what_is_no_recording_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.aedat4"
    if content is not None:
        path.write_bytes(content)
    with Command("replay", CONFIG, path) as stream:
        done = stream.wait()
    assert done.code == 2
    assert "a.aedat4" in done.err
    assert "Traceback" not in done.err
    assert stream.left() == []
