"""Frame cameras: recordings in folders and videos, OpenCV's cameras, GenICam over a stand-in; and live pairing."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import cv2
import numpy as np
import pytest

from drivers.cameras.hybrid.frame_cameras import CameraInfo, CapturedFrame, camera_names, open_frame_camera
from drivers.cameras.hybrid.frame_cameras.opencv import OpenCvCamera
from drivers.cameras.hybrid.frame_feed import FrameFeed
from drivers.cameras.hybrid.pairing import Wiring
from drivers.cameras.hybrid.source import HybridSource
from drivers.cameras.hybrid.source import open_source as open_hybrid
from drivers.source import SourceInfo
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, RecordingDamaged, SdkMissing, SourceError
from nire.install import pip_install
from nire.types import EventBatch, Frame, Geometry, SourcePacket, Trigger
from tests.drivers.cameras.hybrid import stub_harvesters
from tests.drivers.cameras.hybrid.stub_harvesters import Bench, noise
from tests.nire.colour_scene import mosaic_of
from tests.waiting import until

RED = np.full((12, 16, 3), (220, 40, 10), np.uint8)


def folder_of(path: Path, table: str, count: int = 3, image: np.ndarray = RED[..., ::-1]) -> Path:
    path.mkdir()
    for n in range(count):
        cv2.imwrite(str(path / f"{n}.png"), image)
    (path / "times.csv").write_text(table)
    return path


def taken(driver: str, **settings: Any) -> list[CapturedFrame]:
    with open_frame_camera(driver, **settings) as camera:
        return [frame for frame in camera if frame is not None]


# Recordings


def test_folder_gives_rgb_with_its_own_times_indices_and_exposures(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", "index, time_us, exposure_us\n4,1000.5,200\n5,2000.5,\n7,4000.5,300\n")
    frames = taken("recorded", path=folder)
    assert [(f.index, f.time_us, f.exposure_us) for f in frames] == [
        (4, 1000.5, 200),
        (5, 2000.5, None),
        (7, 4000.5, 300),
    ]
    np.testing.assert_array_equal(frames[0].pixels, RED)


def test_table_chooses_the_images_and_mosaics_become_colours(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", "file,time_us\n2.png,5\n0.png,9\n", image=mosaic_of(RED, "GBRG"))
    frames = taken("recorded", path=folder, bayer="GBRG", transfer="linear")
    assert [f.time_us for f in frames] == [5, 9]
    np.testing.assert_array_equal(frames[1].pixels, RED)
    assert taken("recorded", path=folder)[0].pixels.shape == (12, 16, 1)


def test_video_gives_its_frames_at_its_rate_or_at_the_times_of_a_table(tmp_path: Path) -> None:
    path = video_of(tmp_path / "film.avi")
    frames = taken("recorded", path=path)
    assert [f.time_us for f in frames] == pytest.approx([0, 50_000, 100_000, 150_000])
    assert np.abs(frames[2].pixels.astype(int) - (220, 40, 10)).max() < 25  # the codec loses some
    (tmp_path / "film.avi.times.csv").write_text("time_us\n7\n8\n9\n")
    assert [f.time_us for f in taken("recorded", path=path)] == [7, 8, 9]


def video_of(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for _ in range(4):
        writer.write(np.full((48, 64, 3), (10, 40, 220), np.uint8))
    writer.release()
    return path


def test_recordings_that_are_not_whole_are_told(tmp_path: Path) -> None:
    for table, kind, words in (
        ("t\n1\n2\n3\n", RecordingDamaged, "no column 'time_us'"),
        ("time_us\n1\nx\n3\n", RecordingDamaged, "line 3"),
        ("index,time_us\n1,1\n1,2\n2,3\n", RecordingDamaged, "line 3: index 1 does not grow"),
        ("time_us\n1\n2\n", SourceError, "holds 3 images, its table times.csv 2 lines"),
        ("time_us\n", SourceError, "holds no frame"),
        ("file,time_us\n9.png,1\n", RecordingDamaged, "9.png cannot be read"),
    ):
        folder = folder_of(tmp_path / str(abs(hash(table))), table)
        with pytest.raises(kind, match=words):
            taken("recorded", path=folder)
    with pytest.raises(SourceError, match="there is no folder or video"):
        taken("recorded", path=tmp_path / "none")
    (tmp_path / "film.avi").write_bytes(b"no film")
    with pytest.raises(SourceError, match="no video"):
        taken("recorded", path=tmp_path / "film.avi")


def test_image_of_another_size_ends_a_recording_where_it_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", "time_us\n1\n2\n3\n")
    cv2.imwrite(str(folder / "1.png"), np.zeros((6, 6, 3), np.uint8))
    with open_frame_camera("recorded", path=folder) as camera:
        frames = iter(camera)
        assert next(frames).time_us == 1
        with pytest.raises(RecordingDamaged, match="frame 1 is 6 x 6"):
            next(frames)


def test_cameras_are_named_by_their_files() -> None:
    assert camera_names() == ["genicam", "opencv", "recorded"]
    with pytest.raises(ConfigError, match="genicam or opencv or recorded"):
        open_frame_camera("webcam")
    with pytest.raises(ConfigError, match="needs path"):
        open_frame_camera("recorded")


# OpenCV: a video stands in for the camera


def test_opencv_camera_counts_stamps_and_gives_rgb_until_it_is_lost(tmp_path: Path) -> None:
    path = video_of(tmp_path / "film.avi")
    frames: list[CapturedFrame | None] = []
    with OpenCvCamera(str(path), (0, 0), 0.0, None, gray=False) as camera:
        assert (camera.info.width, camera.info.height, camera.info.channels, camera.info.live) == (64, 48, 3, True)
        with pytest.raises(DeviceLost, match="no images any more"):
            frames.extend(camera)
    images = [frame for frame in frames if frame is not None]
    assert [frame.index for frame in images] == [0, 1, 2]  # one was taken to look at its size
    assert [frame.time_us for frame in images] == sorted(frame.time_us for frame in images)
    assert np.abs(images[0].pixels.astype(int) - (220, 40, 10)).max() < 25
    with OpenCvCamera(str(path), (0, 0), 0.0, None, gray=True) as camera:
        assert camera.info.channels == 1


def test_opencv_camera_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound, match=r"source\.settings\.frames\.device"):
        taken("opencv", device=str(tmp_path / "none"))


# GenICam: harvesters is stood in for


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    bench = Bench()
    monkeypatch.setitem(sys.modules, "harvesters", ModuleType("harvesters"))
    monkeypatch.setitem(sys.modules, "harvesters.core", stub_harvesters.core(bench))
    (tmp_path / "vendor.cti").write_bytes(b"producer")
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(tmp_path))
    return bench


def test_genicam_camera_gives_its_own_count_and_clock_and_copies_before_it_gives_back(bench: Bench) -> None:
    image = RED[:6, :8]
    bench.images = [(40, 5_000_000, mosaic_of(image, "RGGB").ravel().copy()), None, (42, 9_000_000, noise(bench, 2))]
    with open_frame_camera("genicam", serial="B2", features={"LineSource": "ExposureActive"}) as camera:
        frames = []
        for frame in camera:
            frames.append(frame)
            if len(frames) == 3:
                break
    first, nothing, last = frames
    assert nothing is None
    assert (first.index, first.time_us, last.index, last.time_us) == (40, 5000, 42, 9000)
    np.testing.assert_array_equal(first.pixels, image)
    assert first.received_ns > 0
    assert bench.log == ["create B2", "start", "queue", "queue", "stop", "destroy", "reset"]


@pytest.mark.parametrize(("pixel_format", "turn"), [("RGB8", 1), ("BGR8", -1)])
def test_genicam_colour_formats_come_out_as_rgb(bench: Bench, pixel_format: str, turn: int) -> None:
    bench.images = [(0, 0, np.ascontiguousarray(RED[:6, :8, ::turn]).ravel())]
    with open_frame_camera("genicam", features={"PixelFormat": pixel_format}) as camera:
        frame = next(iter(camera))
    assert frame is not None
    np.testing.assert_array_equal(frame.pixels, RED[:6, :8])


def test_genicam_camera_that_falls_silent_is_lost(bench: Bench) -> None:
    with open_frame_camera("genicam", timeout_s=0.0) as camera, pytest.raises(DeviceLost, match="sent nothing"):
        list(camera)
    assert bench.log[-3:] == ["stop", "destroy", "reset"]


def test_genicam_tells_what_is_missing(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for settings, kind, words in (
        ({"serial": "C3"}, DeviceNotFound, "finds A1, B2, expected serial number 'C3'"),
        ({"features": {"Gane": 3}}, ConfigError, "no GenICam feature 'Gane'"),
        ({"features": {"LineSource": "Timer"}}, ConfigError, "refuses LineSource = 'Timer'.*AccessException"),
        ({"features": {"PixelFormat": "Mono12Packed"}}, ConfigError, "Mono12Packed, expected one of Mono8"),
        ({"producer": str(tmp_path / "none.cti")}, DeviceNotFound, "there is no GenTL producer"),
    ):
        with pytest.raises(kind, match=words):
            taken("genicam", **settings)
        assert bench.log == [] or bench.log[-1] == "reset"
    (tmp_path / "vendor.cti").write_bytes(b"broken")
    with pytest.raises(DeviceNotFound, match="cannot be used: InvalidHandle"):
        taken("genicam")
    monkeypatch.delenv("GENICAM_GENTL64_PATH")
    with pytest.raises(DeviceNotFound, match="GENICAM_GENTL64_PATH"):
        taken("genicam")
    monkeypatch.setitem(sys.modules, "harvesters.core", None)
    with pytest.raises(SdkMissing, match=re.escape(pip_install("genicam"))):
        taken("genicam")


# Live: both keep real time

PERIOD_US, EXPOSURE_US = 20_000, 6_000
GEOMETRY = Geometry(16, 12)


class LiveBench:
    """An event camera and a frame camera that look at one host clock; frames arrive `latency_us` after their end."""

    def __init__(self, *, count: int = 25, latency_us: int = 9_000, error: Exception | None = None) -> None:
        self.begin_ns = time.monotonic_ns() + 50_000_000
        self.count = count
        self.latency_us = latency_us
        self.error = error
        self.device_zero_us = 7_000_000
        self.info = SourceInfo("live bench", GEOMETRY, has_frames=False, live=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def starts_us(self) -> list[int]:
        """By the event camera's clock; the camera ran before anybody looked."""
        return [self.device_zero_us + PERIOD_US * n for n in range(-3, self.count)]

    def __iter__(self) -> Iterator[SourcePacket]:
        edges = [edge for t in self.starts_us() for edge in (Trigger(t, 0, True), Trigger(t + EXPOSURE_US, 0, False))]
        for tick in range(-40, self.count * PERIOD_US // 2000 + 20):
            until_us = self.device_zero_us + 2000 * tick
            yield EventBatch.empty(until_us, received_ns=self.wait(until_us))
            while edges and edges[0].t_us < until_us:
                yield edges.pop(0)

    def wait(self, device_us: int) -> int:
        """Wait for a moment; give the host's time of it, which a busy machine would tell late."""
        due_ns = self.begin_ns + (device_us - self.device_zero_us) * 1000
        time.sleep(max(0.0, (due_ns - time.monotonic_ns()) * 1e-9))
        return due_ns


class LiveFrames:
    """The frame camera of a bench: it stamps nothing, so arrival is all that is known."""

    def __init__(self, bench: LiveBench) -> None:
        self.bench = bench
        self.info = CameraInfo("frames", 16, 12, 1, live=True, transfer="linear")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __iter__(self) -> Iterator[CapturedFrame | None]:
        bench = self.bench
        for n in range(bench.count):
            late_us = bench.latency_us + 700 * (n % 3)
            now_ns = bench.wait(bench.device_zero_us + PERIOD_US * n + EXPOSURE_US + late_us)
            yield CapturedFrame(n, np.full((12, 16, 1), n, np.uint8), now_ns / 1000, received_ns=now_ns)
            if bench.error is not None and n == 12:
                raise bench.error


WIRING = Wiring("high", None, "auto", None, 0, 0.0, 0.0, 0.0, "", 0.0, 0.0, "auto", "drop")


@pytest.mark.parametrize(("latency_us", "told_us"), [(9_000, None), (45_000, 51_000)])
def test_live_frames_get_the_exposures_that_they_were_taken_at(latency_us: int, told_us: int | None) -> None:
    bench = LiveBench(latency_us=latency_us)
    with HybridSource(bench, LiveFrames(bench), replace(WIRING, latency_us=told_us)) as source:
        frames = [packet for packet in source if isinstance(packet, Frame)]
    assert len(frames) > 15
    for frame in frames:
        start_us = bench.device_zero_us + PERIOD_US * frame.index
        assert (frame.exposure_start_us, frame.exposure_end_us) == (start_us, start_us + EXPOSURE_US)
        assert frame.pixels[0, 0, 0] == frame.index
        assert frame.received_ns > 0


def test_frame_camera_that_goes_away_is_the_sources_loss() -> None:
    bench = LiveBench(error=DeviceLost("frames went away"))
    with HybridSource(bench, LiveFrames(bench), WIRING) as source, pytest.raises(DeviceLost, match="went away"):
        list(source)


def test_live_camera_that_nobody_takes_from_leaves_holes_not_memory() -> None:
    bench = LiveBench(count=0)

    class Fast(LiveFrames):
        def __iter__(self) -> Iterator[CapturedFrame | None]:
            for n in range(500):
                yield CapturedFrame(n, np.zeros((12, 16, 1), np.uint8), float(n))

    with FrameFeed(Fast(bench)) as feed:
        until(lambda: feed.ended)
        kept = feed.take(0)
    assert 0 < len(kept) < 100
    assert kept[-1].index == 499


def test_recorded_events_and_a_live_frame_camera_are_refused(tmp_path: Path) -> None:
    bench = LiveBench()
    bench.info = replace(bench.info, live=False)
    with pytest.raises(SourceError, match="show different moments"), HybridSource(bench, LiveFrames(bench), WIRING):
        pass


def test_recording_of_both_cameras_is_played_as_it_is(tmp_path: Path) -> None:
    from tests.golden import example

    path = example.write_recording(tmp_path / "both.nire")
    with open_hybrid(events={"driver": "synthetic"}, frames={"driver": "opencv"}, path=path) as source:
        assert sum(isinstance(packet, Frame) for packet in source) == 2
