"""The library: recordings opened, re-exposed and saved in a few lines, running streams asked."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import nire_live as nl
from drivers.cameras.synthetic import open_source
from drivers.recordings.recording.source import RecordingWriter
from nire.metrics import psnr
from stream.sockets.publisher import Publisher
from tests.golden import example
from tests.stream import packets
from tests.stream.command import ROOT, call
from tests.stream.commands.test_offline import recorded
from tests.stream.fake_stream import HEIGHT, WIDTH, FakeStream
from tests.system.live_stream import LiveStream
from tests.waiting import PATIENCE_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return recorded(tmp_path / "six.nire", packets.usual())


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A third of a second of a small camera that moves, as a recording."""
    path = tmp_path_factory.mktemp("api") / "camera.nire"
    with (
        open_source(width=64, height=48, seconds=0.35, live=False, seed=5) as source,
        RecordingWriter(path, source.info.geometry, source=source.info) as writer,
    ):
        for packet in source:
            writer.write(packet)
    return path


def test_importing_the_library_brings_no_torch() -> None:
    code = "import sys, nire_live; assert 'torch' not in sys.modules; print(*nire_live.__all__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"open", "reexpose", "connect", "save", "__version__"} <= set(done.stdout.split())


def test_every_name_of_the_library_is_there() -> None:
    assert all(hasattr(nl, name) for name in nl.__all__)


# Recordings


@pytest.mark.parametrize("kind", [str, Path])
def test_recording_shows_frames_and_events_as_numpy(path: Path, kind: Any) -> None:
    with nl.open(kind(path)) as recording:
        assert recording.info.geometry == packets.GEOMETRY
        assert [frame.index for frame in recording.frames] == list(range(6))
        for found, written in zip(recording.frames, packets.frames(), strict=True):
            assert (found.pixels == written.pixels).all()
        events, written = recording.events, packets.events()
        assert events.dtype == nl.EVENT
        for name, column in (("t", written.t_us), ("x", written.x), ("y", written.y), ("p", written.p)):
            assert events[name].dtype == column.dtype
            assert np.array_equal(events[name], column)


def test_own_shutter_of_a_frame_gives_the_frame(path: Path) -> None:
    with nl.open(path) as recording:
        windows = list(recording.windows(contrast_threshold=(0.2, 0.2)))
        assert len(windows) >= 5
        for window in windows:
            first_us, last_us = window.covered_us
            for frame in window.frames:
                own = frame.exposure_start_us, frame.exposure_end_us
                if first_us <= own[0] and own[1] <= last_us:
                    assert psnr(window.expose(*own)[..., None], frame.pixels) >= 50


def test_windows_are_exposed_again_after_others_were_and_after_the_end(camera: Path) -> None:
    with nl.open(camera) as recording:
        windows = list(recording.windows())
    middles = [sum(window.covered_us) / 2 for window in windows]
    backwards = [window.expose(t_us) for window, t_us in list(zip(windows, middles, strict=True))[::-1]]
    with nl.open(camera) as recording:
        for window, t_us, image in zip(recording.windows(), middles, backwards[::-1], strict=True):
            assert np.array_equal(window.expose(t_us), image)


def test_recording_and_window_say_what_they_are(path: Path) -> None:
    with nl.open(path) as recording:
        assert repr(recording).startswith(f"Recording({recording.info.name}, ")
        for backend, name in (("edi", "edi"), ("flow", "flow")):
            window = next(recording.windows(backend=backend))
            assert window.backend == name
            assert repr(window).endswith(f"2 frames, by {name})")


def test_many_shutters_at_once_are_those_one_by_one(camera: Path) -> None:
    with nl.open(camera) as recording:
        window = next(recording.windows())
        t_us = sum(window.covered_us) / 2
        own = nl.Shutter.flat(t_us, t_us + 500, 48)
        images = window.expose_many([t_us, (t_us, t_us + 2000), (t_us, t_us + 2000, 10), own])
        assert (images.shape, images.dtype) == ((4, 48, 64), np.uint8)
        assert np.array_equal(images[0], window.expose(t_us))
        assert np.array_equal(images[1], window.expose(t_us, t_us + 2000))
        assert np.array_equal(images[2], window.expose(t_us, t_us + 2000, row_delay_us=10))
        assert not np.array_equal(images[0], images[2])
        assert window.expose_many([]).shape == (0, 48, 64)
        assert len(window.events) > 0


def test_shutter_outside_of_a_window_is_refused(camera: Path) -> None:
    with nl.open(camera) as recording:
        window = next(recording.windows())
        with pytest.raises(nl.ShutterOutsideWindow) as refused:
            window.expose(window.covered_us[1] + 1)
        assert refused.value.covered_us == window.covered_us
        with pytest.raises(ValueError, match="before it opens"):
            window.expose(2000, 1000)


@pytest.mark.parametrize("wanted", [(1,), (1, 2, 3, 4), "1", None, [1, 2], (1, "2")], ids=str)
def test_what_is_no_shutter_is_refused(camera: Path, wanted: Any) -> None:
    with nl.open(camera) as recording:
        window = next(recording.windows())
        with pytest.raises(ValueError, match=r"is no shutter; expected a Shutter, an instant, or \(t_a_us, t_b_us\)"):
            window.expose_many([wanted])


def test_shutter_with_other_rows_than_the_sensor_is_refused(camera: Path) -> None:
    with nl.open(camera) as recording:
        window = next(recording.windows())
        with pytest.raises(ValueError, match="has times for 47, expected 48 rows"):
            window.expose_many([nl.Shutter.instant(sum(window.covered_us) / 2, 47)])


def test_threads_that_ask_at_the_same_time_each_get_their_own_image(camera: Path) -> None:
    with nl.open(camera) as recording:
        windows = list(recording.windows(backend="edi"))
    asked = [(window, t_us) for window in windows for t_us in np.linspace(*window.covered_us, 4)[1:3]]
    expected = [window.expose(t_us) for window, t_us in asked]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            images = list(threads.map(lambda pair: pair[0].expose(pair[1]), asked))
            assert all(map(np.array_equal, images, expected))


def test_colour_comes_out_in_colour(tmp_path: Path) -> None:
    geometry = nl.SourceInfo("colour", packets.GEOMETRY).geometry
    geometry = type(geometry)(16, 12, 3)
    pixels = np.full((12, 16, 3), (200, 90, 30), np.uint8)
    content: list[Any] = []
    for i in range(3):
        start = i * 40_000
        content += [packets.EventBatch.empty(start + 20_000), nl.Frame(i, pixels, start, start + 20_000)]
    with nl.open(recorded(tmp_path / "colour.nire", content, geometry=geometry)) as recording:
        window = next(recording.windows())
        assert np.array_equal(window.expose(30_000), pixels)


def test_camera_is_opened_by_name_and_its_settings_are_the_drivers() -> None:
    settings = {"width": 64, "height": 48, "seed": 3, "seconds": 0.2, "live": False}
    with nl.open("synthetic", **settings) as camera:
        assert len(camera.frames) == 5
        assert len(list(camera.windows(backend="passthrough"))) == 5  # four pairs, and what comes after the last
    with pytest.raises(nl.ConfigError, match="did you mean 'seconds'"):
        nl.open("synthetic", second=1)
    with nl.open("synthetic", width=64, height=48) as camera, pytest.raises(nl.SourceError, match="no end"):
        _ = camera.frames


def test_what_is_neither_file_nor_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nl.ConfigError, match="'synthetic'"):
        nl.open("synthetik")
    for missing in ("missing.aedat4", str(tmp_path / "missing"), tmp_path / "synthetic"):
        with pytest.raises(nl.SourceError, match="there is no file"):
            nl.open(missing)


def test_unknown_settings_are_refused_at_once_with_the_nearest_name(path: Path) -> None:
    with nl.open(path) as recording, pytest.raises(nl.ConfigError, match="'threads'"):
        recording.windows(thread=1)
    with pytest.raises(nl.ConfigError, match="did you mean 'rate_hz'"):
        nl.reexpose(path, "upsample", ratehz=500)
    with pytest.raises(nl.ConfigError, match=r"plan.rate_hz"):
        nl.reexpose(path, "upsample", rate_hz=-1)
    with pytest.raises(nl.ConfigError, match="deblur, unroll, upsample or reshutter"):
        nl.reexpose(path, "debur")
    with pytest.raises(nl.ConfigError, match="no setting 'gap'"):
        nl.reexpose(path, source={"gap": 1})


def test_closed_recording_says_so(path: Path) -> None:
    with nl.open(path) as recording:
        frames = recording.frames
    assert recording.frames is frames
    with pytest.raises(nl.SourceError, match="closed"):
        _ = recording.events
    recording.close()


@pytest.mark.usefixtures("shipped_defaults")
def test_recording_without_frames_is_cut_into_spans(tmp_path: Path) -> None:
    events = recorded(tmp_path / "events.nire", [packets.events()], has_frames=False)
    with nl.open(events) as recording:
        window = next(recording.windows(engine="eager"))
        assert window.frames == []
        assert recording.frames == []
        shape = packets.GEOMETRY.height, packets.GEOMETRY.width
        assert window.expose(sum(window.covered_us) / 2).shape == shape


def test_config_file_is_what_the_recording_is_read_by(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[source]\ndriver = "davis346"\n[plan]\nrate_hz = 100\n[reconstructor]\nbackend = "passthrough"\n')
    frames = list(nl.reexpose(path, config=file))
    assert {frame.backend for frame in frames} == {"passthrough"}
    assert np.diff([frame.shutter.mid_us for frame in frames]).tolist() == [10_000] * (len(frames) - 1)
    assert {frame.backend for frame in nl.reexpose(path, config=file, backend="edi")} == {"edi"}


def test_damaged_recording_gives_what_comes_before_and_then_says_so(camera: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.nire"
    data = bytearray(camera.read_bytes())
    data[len(data) * 2 // 3 : len(data) * 2 // 3 + 64] = bytes(64)
    damaged.write_bytes(data)
    frames = []
    with pytest.raises(nl.RecordingDamaged):
        frames.extend(nl.reexpose(damaged))
    assert frames
    with nl.open(damaged) as recording:
        assert recording.frames
        assert isinstance(recording.damage, nl.RecordingDamaged)


# Plans


@pytest.mark.parametrize(
    ("plan", "settings"),
    [
        ("deblur", {"offset_us": 500.0}),
        ("upsample", {"rate_hz": 250.0, "exposure_us": 1000.0}),
        ("reshutter", {"rate_hz": 200.0, "row_delay_us": 20.0}),
        ("unroll", {"backend": "passthrough"}),
    ],
)
def test_images_are_those_of_the_command_offline(
    capsys: pytest.CaptureFixture[str], camera: Path, tmp_path: Path, plan: str, settings: dict[str, Any]
) -> None:
    sections = {"backend": "reconstructor"}
    words = [f"{sections.get(key, 'plan')}.{key}={value}" for key, value in settings.items()]
    options = [word for setting in (f"plan.name={plan}", *words) for word in ("--set", setting)]
    done = call(capsys, "offline", camera, tmp_path / "out", *options)
    assert done.code == 0, done.err
    files = sorted((tmp_path / "out" / "frames").iterdir())
    frames = list(nl.reexpose(camera, plan, **settings))
    assert {frame.tag for frame in frames} == {plan}
    for frame, file in zip(frames, files, strict=True):
        assert np.array_equal(frame.pixels[..., 0], cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
    assert nl.save(frames, tmp_path / "saved") == len(files)
    for file in files:
        assert (tmp_path / "saved" / file.name).read_bytes() == file.read_bytes()


# Saving


GRAY = np.arange(48 * 64, dtype=np.uint32).astype(np.uint8).reshape(48, 64)


def test_one_image_is_saved_as_png(tmp_path: Path) -> None:
    colour = np.stack([GRAY, 255 - GRAY, GRAY // 2], axis=2)
    for image in (GRAY, GRAY[..., None], colour):
        assert nl.save(image, tmp_path / "deep" / "a.png") == 1
        found = cv2.imread(str(tmp_path / "deep" / "a.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(found, image[..., ::-1] if image is colour else GRAY)


def test_many_images_are_saved_as_a_folder_or_a_video(tmp_path: Path) -> None:
    many = np.stack([GRAY] * 5)
    assert nl.save(many, tmp_path / "folder") == 5
    assert [file.name for file in sorted((tmp_path / "folder").iterdir())] == [f"{i:06d}.png" for i in range(5)]
    assert nl.save((image for image in many), str(tmp_path / "film.mp4"), rate_hz=10) == 5
    video = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert [video.read()[0] for _ in range(6)] == [True] * 5 + [False]
    video.release()


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nl.ConfigError, match="one image and there are more"):
        nl.save([GRAY, GRAY], tmp_path / "a.png")
    with pytest.raises(nl.ConfigError, match=r"NAME\.png"):
        nl.save(GRAY, tmp_path / "a.jpg")
    with pytest.raises(nl.ConfigError, match="no image to save"):
        nl.save([], tmp_path / "none")
    with pytest.raises(nl.ConfigError, match="expected uint8"):
        nl.save(GRAY.astype(float), tmp_path / "a.png")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(nl.ConfigError, match="cannot write"):
        nl.save(GRAY, tmp_path / "file" / "a.png")


# Streams


@pytest.fixture
def fake() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


def test_connection_receives_frames_and_asks_for_others(fake: FakeStream) -> None:
    with nl.connect(fake.address, fake.control.address) as stream:
        newest = stream.newest()
        assert newest.tag == "deblur"
        assert newest.pixels.shape == (HEIGHT, WIDTH, 1)
        assert stream.newest().index > newest.index
        indices = [frame.index for frame, _ in zip(stream, range(4), strict=False)]
        assert indices == sorted(set(indices))
        assert stream.set_plan(rate_hz=100)["rate_hz"] == 100
        assert stream.status()["plan"]["rate_hz"] == 100
        t_us = stream.newest_us - 5000
        image = stream.expose(t_us, t_us + 500, row_delay_us=3)
        assert (image.shape, image.dtype) == ((HEIGHT, WIDTH), np.uint8)
        asked = fake.wait_for("expose")
        assert (asked["t_us"], asked["for_us"], asked["row_delay_us"]) == (t_us, 500, 3)


def test_connection_refuses_what_the_stream_refuses(fake: FakeStream) -> None:
    with nl.connect(fake.address, fake.control.address) as stream:
        with pytest.raises(nl.ShutterOutsideWindow) as refused:
            stream.expose(-1)
        assert refused.value.covered_us == (0.0, 1.0)
        with pytest.raises(nl.ConfigError, match="rate_hz"):
            stream.set_plan(ratehz=3)
        with pytest.raises(nl.ConfigError):
            stream.expose(2000, 1000)


def test_connection_to_nobody_says_so(fake: FakeStream) -> None:
    with pytest.raises(nl.NireError, match=r"no stream answers at tcp://127.0.0.1:9: start one with 'nire-live replay"):
        nl.connect("tcp://127.0.0.1:9", "tcp://127.0.0.1:9", wait_s=0.1)
    with nl.connect(fake.address, "tcp://127.0.0.1:9", timeout_s=0.2) as stream:
        for asks in (stream.status, lambda: stream.expose(0), lambda: stream.newest_us):
            with pytest.raises(nl.NireError, match=r"0\.2 s"):
                asks()
    with pytest.raises(nl.ConfigError, match="no ZMQ address"):
        nl.connect("nonsense")


def test_frames_come_where_only_the_publishing_address_is_known(fake: FakeStream) -> None:
    with nl.connect(fake.address, "tcp://127.0.0.1:9", timeout_s=PATIENCE_S) as stream:
        assert stream.newest().tag == "deblur"


def test_silence_is_told_after_as_long_as_it_says(fake: FakeStream) -> None:
    with nl.connect("tcp://127.0.0.1:9", fake.control.address, timeout_s=2.5) as stream:
        fake.close()
        start_s = time.monotonic()
        with pytest.raises(nl.NireError, match=r"nothing came within 2\.5 s"):
            stream.newest()
        assert 2.4 < time.monotonic() - start_s < 4.5  # it asked a stream that was gone, too


def test_frame_that_travelled_is_the_frame_that_was_sent(fake: FakeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {}
    send = Publisher.send_frame

    def remember(publisher: Publisher, frame: nl.ExposedFrame, *, camera: str = "") -> nl.ExposedFrame:
        done = send(publisher, frame, camera=camera)
        sent[done.index] = done
        return done

    monkeypatch.setattr(Publisher, "send_frame", remember)
    with nl.connect(fake.address, fake.control.address) as stream:
        frame = next(frame for frame in stream if frame.index in sent)
    original = sent[frame.index]
    assert np.array_equal(frame.pixels, original.pixels)
    assert np.array_equal(frame.shutter.t_a_us, original.shutter.t_a_us)
    for name in ("window", "tag", "stamps", "transfer", "late_windows", "backend", "engine"):
        assert getattr(frame, name) == getattr(original, name)


@pytest.mark.system
def test_running_stream_gives_the_instant_that_it_is_asked_for() -> None:
    with LiveStream("reconstructor.backend=edi") as running:
        addresses = running.config.publish.bind, running.config.control.bind
        with nl.connect(*addresses, timeout_s=40, wait_s=PATIENCE_S) as stream:
            t_us = stream.newest_us - 5000
            image = stream.expose(t_us)
            assert (image.shape, image.dtype) == ((48, 64), np.uint8)
            # The same window gives the same image; between two requests a better one may come, or a better threshold.
            assert any(np.array_equal(stream.expose(t_us), stream.expose(t_us)) for _ in range(10))
            first = stream.newest()
            assert first.shutter.height == 48
            assert stream.newest().index > first.index
            assert [frame.tag for frame, _ in zip(stream, range(5), strict=False)] == ["upsample"] * 5
            assert stream.set_plan(rate_hz=100)["rate_hz"] == 100
            with pytest.raises(nl.ShutterOutsideWindow):
                stream.expose(t_us - 1e9)
            running.kill("consumer")  # a new one does not know our subscription yet
            assert stream.expose(stream.newest_us - 5000).shape == (48, 64)


def test_golden_example_through_the_library(tmp_path: Path) -> None:
    with nl.open(example.write_recording(tmp_path / "golden.nire")) as recording:
        window = next(recording.windows())
        own = window.expose(0, 20_000)
        assert np.abs(own.astype(int) - example.frames()[0].pixels[..., 0]).max() <= 1
