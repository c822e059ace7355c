"""Several cameras under one supervisor: topics, control, restarts, and the images of each as if it were alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from drivers.detect import open_driver
from drivers.recordings.recording.source import RecordingWriter
from nire.errors import ConfigError
from stream.api import connect
from stream.cameras import load_cameras
from stream.processes.board import Board
from stream.rings.place import RingSpace
from stream.sockets.control import ControlClient
from stream.sockets.subscriber import Subscriber
from tests.stream.command import call
from tests.system.live_stream import ROOT, free_ports, until_ended
from tests.waiting import PATIENCE_MS, PATIENCE_S, until

pytestmark = pytest.mark.system

DAVIS346 = 'driver = "synthetic"\nsettings = {width = 346, height = 260, noise = "ideal"}\n'
SMALL = 'driver = "synthetic"\nsettings = {width = 64, height = 48, noise = "ideal"}\n'


class Cameras:
    """`nire-live live` with a file for each camera. Leaving the block ends it."""

    def __init__(self, folder: Path, *overrides: str, **sources: str) -> None:
        """Start; `sources` are texts of [source] by key; a camera's name is its key, and something drawn."""
        drawn = uuid.uuid4().hex[:8]
        self.names = {key: f"{key}-{drawn}" for key in sources}
        paths = [folder / f"{name}.toml" for name in self.names.values()]
        for path, text in zip(paths, sources.values(), strict=True):
            for key, name in self.names.items():
                text = text.replace(f"<{key}>", name)
            path.write_text(f"[source]\n{text}", encoding="utf-8")
        publish, control, preview = free_ports(3)
        self.overrides = [
            "reconstructor.backend=passthrough",
            "reconstructor.device=cpu",
            "reconstructor.spares=0",
            "plan.rate_hz=100",
            "ring.seconds=0.3",
            f"publish.bind=tcp://127.0.0.1:{publish}",
            f"control.bind=tcp://127.0.0.1:{control}",
            f"preview.bind=127.0.0.1:{preview}",
            *overrides,
        ]
        self.configs = load_cameras(paths, self.overrides)
        self.publish, self.control = self.configs[0].publish.bind, self.configs[0].control.bind
        words = [word for override in self.overrides for word in ("--set", override)]
        command = [sys.executable, "-m", "stream.cli", "live", *map(str, paths), *words]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        _, text = self.process.communicate(timeout=PATIENCE_S)
        if kind is not None:
            print(text, file=sys.stderr)

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C. Gives exit code and log."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait for the end. Gives exit code and log."""
        _, text = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, text

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Ask over the control socket; a camera by its key."""
        fields |= {"camera": self.names.get(fields["camera"], fields["camera"])} if "camera" in fields else {}
        with ControlClient(self.control, timeout_ms=PATIENCE_MS) as client:
            return client.ask(command, **fields)

    def row(self, key: str, process: str) -> dict[str, Any]:
        """A row of a camera's board."""
        with Board.open(self.names[key]) as board:
            return board.row(process).values()

    @contextmanager
    def subscribed(self, *topics: str) -> Iterator[Subscriber]:
        """Every message of some topics, written `left/status`."""
        named = [topic.format(**self.names) for topic in topics]
        with Subscriber(self.publish, named, high_water_mark=100_000) as subscriber:
            yield subscriber

    def until_exposing(self, key: str, more: int = 5) -> None:
        """Wait for further images of a camera."""
        with self.subscribed(f"{{{key}}}/frame/") as subscriber:
            for _ in range(more):
                assert subscriber.recv(PATIENCE_MS) is not None


def record(path: Path, seed: int) -> None:
    """One second of the small camera, of a scene of its own."""
    settings = {"width": 64, "height": 48, "noise": "ideal", "seconds": 1.0, "live": False, "seed": seed}
    with open_driver("synthetic", **settings) as source, RecordingWriter(path, source.info.geometry) as writer:
        for packet in source:
            writer.write(packet)


def test_two_cameras_give_frames_under_their_names(tmp_path: Path) -> None:
    with Cameras(tmp_path, left=DAVIS346, right=DAVIS346) as cameras:
        for name in cameras.names.values():
            with cameras.subscribed(f"{name}/frame/upsample", f"{name}/captured", f"{name}/status") as subscriber:
                seen: dict[str, Any] = {}
                while len(seen) < 3:
                    message = subscriber.recv(PATIENCE_MS)
                    assert message is not None
                    seen[message.topic] = message
            assert seen[f"{name}/frame/upsample"].pixels.shape == (260, 346, 1)
            assert seen[f"{name}/captured"].pixels.shape == (260, 346, 1)
            assert seen[f"{name}/status"].header["camera"] == name
        with cameras.subscribed("status") as subscriber:
            message = subscriber.recv(PATIENCE_MS)
        assert message is not None
        assert list(message.header["cameras"]) == list(cameras.names.values())
        code, text = cameras.end()
    assert code == 0, text
    for name in cameras.names.values():
        space = RingSpace.of(name)
        assert not space.leftovers()
        assert f"{name}: in: " in text


def test_control_of_one_camera_does_not_change_the_other(tmp_path: Path) -> None:
    with Cameras(tmp_path, left=SMALL, right=SMALL) as cameras:
        for key in cameras.names:
            cameras.until_exposing(key)
        assert cameras.ask("set_plan", camera="left", plan={"rate_hz": 50})["plan"]["rate_hz"] == 50
        assert cameras.ask("pause", camera="right")["paused"]
        statuses = cameras.ask("status")["cameras"]
        left, right = (statuses[name] for name in cameras.names.values())
        assert (left["plan"]["rate_hz"], right["plan"]["rate_hz"]) == (50, 100)
        assert (left["state"], right["state"]) == ("running", "paused")
        cameras.until_exposing("left")
        assert cameras.ask("resume")["ok"]
        cameras.until_exposing("right")
        newest_us = cameras.ask("status", camera="left")["covered_us"][1]
        assert cameras.ask("expose", camera="left", t_us=newest_us)["topic"] == f"{cameras.names['left']}/frame/expose"
        refused = cameras.ask("set_plan", plan={"rate_hz": 10})
        assert not refused["ok"]
        assert all(name in refused["hint"] for name in cameras.names.values())
        unknown = cameras.ask("status", camera="middle")
        assert not unknown["ok"]
        assert "'middle'" in unknown["hint"]
        assert all(name in unknown["hint"] for name in cameras.names.values())
        assert cameras.ask("stop")["ok"]
        code, text = cameras.wait()
    assert code == 0, text


def test_client_is_of_one_camera_and_says_which_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cameras(tmp_path, left=SMALL, right='driver = "synthetic"\nsettings = {width = 32, height = 24}\n') as cameras:
        address = cameras.publish, cameras.control
        names = list(cameras.names.values())
        for name, shape in zip(names, [(48, 64, 1), (24, 32, 1)], strict=True):
            with connect(*address, camera=name, timeout_s=PATIENCE_S, wait_s=PATIENCE_S) as stream:
                assert stream.newest().pixels.shape == shape
                assert next(iter(stream)).pixels.shape == shape
                assert stream.expose(stream.newest_us).shape == shape[:2]
                assert stream.cameras == names
                assert stream.set_plan(rate_hz=50)["rate_hz"] == 50
        for camera in ("middle", ""):
            with connect(*address, camera=camera, timeout_s=PATIENCE_S) as stream:
                for ask in (
                    stream.newest,
                    lambda stream=stream: next(iter(stream)),
                    lambda stream=stream: stream.newest_us,
                ):
                    with pytest.raises(ConfigError, match=", ".join(names)):
                        ask()
        control = "--address", cameras.control
        done = call(capsys, "ctl", "set-plan", "rate_hz=25", "--camera", names[1], *control)
        assert done.code == 0, done.err
        status = json.loads(call(capsys, "ctl", "status", *control).out)
        assert [status["cameras"][name]["plan"]["rate_hz"] for name in names] == [50, 25]
        done = call(capsys, "ctl", "set-events", "20", *control)
        assert done.code == 2
        assert all(name in done.out for name in names)
        code, text = cameras.end()
    assert code == 0, text


def test_camera_that_is_stopped_leaves_the_other_streaming(tmp_path: Path) -> None:
    with Cameras(tmp_path, left=SMALL, right=SMALL) as cameras:
        for key in cameras.names:
            cameras.until_exposing(key)
        assert cameras.ask("stop", camera="left")["ok"]
        until(lambda: cameras.ask("status", camera="left")["state"] == "ended")
        cameras.until_exposing("right")
        assert cameras.ask("stop", camera="right")["ok"]
        code, text = cameras.wait()
    assert code == 0, text


def test_killed_producer_leaves_the_other_camera_streaming_and_comes_back(tmp_path: Path) -> None:
    with Cameras(tmp_path, left=SMALL, right=SMALL) as cameras:
        for key in cameras.names:
            cameras.until_exposing(key)
        os.kill(cameras.row("left", "producer")["pid"], signal.SIGKILL)
        cameras.until_exposing("right")
        until(lambda: cameras.row("left", "producer")["lives"] == 2)
        gaps = cameras.row("right", "consumer")["gaps"]
        until(lambda: cameras.row("left", "consumer")["gaps"] >= 1)
        cameras.until_exposing("left")
        assert cameras.row("right", "consumer")["gaps"] == gaps == 0
        assert cameras.row("right", "producer")["lives"] == 1
        code, text = cameras.end()
    assert code == 0, text


def test_cameras_of_one_clock_tell_one_time_and_begin_together(tmp_path: Path) -> None:
    with Cameras(tmp_path, left=SMALL, middle=SMALL, right=f'{SMALL}clock_of = "<left>"\n') as cameras:
        for key in cameras.names:
            cameras.until_exposing(key)
        until(lambda: "wall_ns" in cameras.ask("status", camera="right"))
        zeros_ns = {key: _wall_zero_ns(cameras.ask("status", camera=key)) for key in ("left", "right")}
        doubt_ns = 2_000_000 + 1000 * sum(cameras.ask("status", camera=key)["wall_uncertainty_us"] for key in zeros_ns)
        assert abs(zeros_ns["left"] - zeros_ns["right"]) < doubt_ns
        epochs = {key: cameras.row(key, "consumer")["epoch"] for key in cameras.names}
        os.kill(cameras.row("left", "producer")["pid"], signal.SIGKILL)
        for key in ("left", "right"):
            until(lambda key=key: cameras.row(key, "consumer")["epoch"] > epochs[key])
            cameras.until_exposing(key)
        assert cameras.row("right", "producer")["lives"] == 1
        assert cameras.row("middle", "consumer")["epoch"] == epochs["middle"]
        assert cameras.row("middle", "consumer")["gaps"] == 0
        code, text = cameras.end()
    assert code == 0, text


def _wall_zero_ns(status: dict[str, Any]) -> float:
    """Wall time at which a camera's clock showed zero."""
    return float(status["wall_ns"] - 1000 * status["device_us"])


def test_killed_consumer_goes_on_with_all_cameras_and_what_was_asked_of_each(tmp_path: Path) -> None:
    with Cameras(tmp_path, left=SMALL, right=SMALL) as cameras:
        for key in cameras.names:
            cameras.until_exposing(key)
        cameras.ask("set_plan", camera="left", plan={"rate_hz": 50})
        cameras.ask("set_plan", camera="right", plan={"rate_hz": 200})
        exposed = {key: cameras.row(key, "consumer")["exposed"] for key in cameras.names}
        os.kill(cameras.row("left", "consumer")["pid"], signal.SIGKILL)
        until(lambda: cameras.row("left", "consumer")["lives"] == 2)
        for key in cameras.names:
            cameras.until_exposing(key)
            assert cameras.row(key, "consumer")["exposed"] > exposed[key]
        rates = [cameras.ask("status", camera=key)["plan"]["rate_hz"] for key in cameras.names]
        assert rates == [50, 200]
        code, text = cameras.end()
    assert code == 0, text


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ('driver = "recording"\nsettings.path = "no such file.nire"\n', "no such file.nire"),
        ('driver = "synthetic"\nsettings.frame_rate_hz = 0\n', "needs frames"),
    ],
)
def test_camera_that_cannot_begin_does_not_stop_the_others(tmp_path: Path, broken: str, why: str) -> None:
    with Cameras(tmp_path, left=SMALL, right=broken) as cameras:
        cameras.until_exposing("left")
        until(lambda: cameras.ask("status")["cameras"][cameras.names["right"]]["state"] == "failed")
        assert "has failed" in cameras.ask("pause", camera="right")["hint"]
        cameras.until_exposing("left")
        code, text = cameras.end()
    assert code == 2, text
    assert why in text
    assert "goes on without" in text


def test_images_of_each_camera_are_those_of_a_run_of_it_alone(tmp_path: Path) -> None:
    """The same packets, read as fast as they are answered, give the same bytes."""
    sources = {}
    for seed, key in enumerate(("left", "right")):
        record(tmp_path / f"{key}.nire", seed)
        sources[key] = f'driver = "recording"\nsettings.path = "{tmp_path / key}.nire"\n'
    edi = ("reconstructor.backend=edi", "publish.high_water_mark=100000")
    both = _images(tmp_path, edi, **sources)
    alone = {key: _images(tmp_path, edi, **{key: source})[key] for key, source in sources.items()}
    assert len(alone["left"]) > 20
    assert both == alone
    assert alone["left"] != alone["right"]


def _images(folder: Path, overrides: tuple[str, ...], **sources: str) -> dict[str, list[tuple[int, float, bytes]]]:
    """All images of a run to its end: index, time and pixels, by the camera's key."""
    images = defaultdict(list)
    with Cameras(folder, *overrides, **sources) as cameras:
        keys = {name: key for key, name in cameras.names.items()}
        with Subscriber(cameras.publish, [""], high_water_mark=100_000) as subscriber:
            for message in until_ended(subscriber, cameras.process):
                camera, _, topic = message.topic.rpartition("frame/")
                if topic == "upsample":
                    key = keys.get(camera.removesuffix("/"), next(iter(sources)))
                    header = message.header
                    images[key].append((header["index"], header["t_a_us"], message.pixels.tobytes()))
        code, text = cameras.wait()
    assert code == 0, text
    return dict(images)
