"""What `info` tells of a recording."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from drivers.cameras.synthetic import open_source
from drivers.detect import open_recording
from drivers.recordings.recording.source import RecordingWriter
from nire.backends.passthrough import create
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, Trigger
from stream.commands.info import describe
from stream.config import load_config
from stream.config_sections import SourceConfig
from stream.session.session import Session
from tests.drivers.recordings import image_folders
from tests.golden import example
from tests.stream import packets


def told(recording: Path, picture: Path | None = None) -> str:
    text = io.StringIO()
    describe(recording, picture, Console(file=text, width=200))
    return text.getvalue()


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera of 96 x 72 whose contrast thresholds are known."""
    path = tmp_path_factory.mktemp("info") / "synthetic.nire"
    with (
        open_source(width=96, height=72, seconds=0.6, live=False, noise="ideal", seed=3) as source,
        RecordingWriter(path, source.info.geometry, source=source.info) as writer,
    ):
        for packet in source:
            writer.write(packet)
    return path


def test_streams_rates_and_exposure_are_told(synthetic: Path) -> None:
    text = told(synthetic)
    assert "96 x 72" in text
    assert "15, 25.00 Hz, exposure 20 ms" in text
    assert "estimated" in text


def test_golden_example_is_told_exactly(tmp_path: Path) -> None:
    text = told(example.write_recording(tmp_path / "golden.nire"))
    for words in ("100 x 80", "0.060 s, from 0 us", "10, 0.00 M/s, 100 % brighter", "2, 25.00 Hz, exposure 20 ms"):
        assert words in text
    assert "default: too few events" in text  # ten events teach no threshold, and nobody may think so


def test_picture_shows_brighter_events_red_over_the_frame(tmp_path: Path) -> None:
    told(example.write_recording(tmp_path / "golden.nire"), tmp_path / "picture")
    image = cv2.imread(str(tmp_path / "picture"))
    assert image.shape == (160, 200, 3)
    assert (image[..., 0] == image[..., 2]).mean() > 0.99  # gray but for the events


def test_picture_of_a_moving_scene_has_events_of_both_colours(synthetic: Path, tmp_path: Path) -> None:
    told(synthetic, tmp_path / "picture.png")
    blue, _, red = np.moveaxis(cv2.imread(str(tmp_path / "picture.png")).astype(int), 2, 0)
    assert ((red - blue) > 100).sum() > 50
    assert ((blue - red) > 100).sum() > 50


def test_recording_without_frames_or_events_is_described_and_has_no_picture(tmp_path: Path) -> None:
    for name, content in {"events": [packets.events()], "nothing": [EventBatch.empty(5)]}.items():
        path = tmp_path / f"{name}.nire"
        with RecordingWriter(path, packets.GEOMETRY) as writer:
            for packet in content:
                writer.write(packet)
        shown = io.StringIO()
        is_empty = pytest.raises(SourceError, match="gives neither events nor frames")
        with is_empty if name == "nothing" else contextlib.nullcontext():
            describe(path, tmp_path / "none.png", Console(file=shown, width=200))
        text = shown.getvalue()
        assert "none: edi and neural need frames" in text
        assert "inf" not in text.replace("info", "")
        assert "nan" not in text
        assert "no picture" in text
    assert not (tmp_path / "none.png").exists()


def test_streams_and_what_was_found_out_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{n % 64},{n % 48},{n % 2},{40 * n}\n" for n in range(1000)))
    text = told(path)
    for words in ("xypt (the only order that the values fit)", "us (whole numbers", "64 x 48 (not said: the largest"):
        assert words in text
    folder = image_folders.write(tmp_path / "folder")
    text = told(folder)
    assert "events.aedat4 (events)" in text
    assert "timestamps.txt (times of images)" in text


def test_edges_are_counted_by_channel_and_direction_and_the_rest_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "all.nire"
    colour = np.zeros((12, 16, 3), np.uint8)
    samples = np.arange(0, 10_000, 1000)
    with RecordingWriter(path, Geometry(16, 12, channels=3)) as writer:
        for n in range(5):
            writer.write(Trigger(n * 1000, 6, True))
            writer.write(Trigger(n * 1000 + 400, 6, False))
        writer.write(Trigger(77, 0, False))
        writer.write(ImuBatch(samples, *np.zeros((2, 10, 3), np.float32)))
        writer.write(Gap(1000, 3500, "the bus was full"))
        writer.write(Gap(5000, 6000, "the bus was full"))
        for index in (0, 1, 4):
            start_us = 10_000 * index
            frame = Frame(index, colour, start_us, start_us, row_delay_us=20.0, transfer="srgb", exposure_known=False)
            writer.write(frame)
    text = " ".join(told(path).replace("│", " ").split())
    for words in (
        "11 (channel 0: 0 rising, 1 falling; channel 6: 5 rising, 5 falling, 1000.00 Hz)",
        "10, 1000 Hz",
        "2, 3.5 ms together: the bus was full (2)",
        "3, 100.00 Hz, exposure unknown: taken for instants; source.exposure_us sets it, 2 lost between them",
        "RGB, srgb, row delay 20 us",
    ):
        assert words in text


def test_recording_is_read_by_a_config_where_one_is_given(tmp_path: Path) -> None:
    path = tmp_path / "one.nire"
    with RecordingWriter(path, Geometry(16, 12)) as writer:
        writer.write(Frame(0, np.zeros((12, 16, 1), np.uint8), 5000, 5000, exposure_known=False))
    text = io.StringIO()
    describe(path, None, Console(file=text, width=200), SourceConfig(exposure_us=3000.0, row_delay_us=7.0))
    assert "1, exposure 3 ms (source.exposure_us" in text.getvalue()
    assert "row delay 7 us" in text.getvalue()


def test_dates_are_told_where_device_time_counts_from_1970(tmp_path: Path) -> None:
    path = tmp_path / "dated.nire"
    start_us = 1_643_243_628_000_000
    with RecordingWriter(path, Geometry(16, 12)) as writer:
        for index, is_known in enumerate((True, False)):
            t_us = start_us + 10_000 * index
            end_us = t_us + 2000 * is_known
            writer.write(Frame(index, np.zeros((12, 16, 1), np.uint8), t_us, end_us, exposure_known=is_known))
    text = told(path)
    assert f"from {start_us} us (2022-01-27 00:33:48 UTC)" in text
    assert "exposure 0 .. 2 ms (unknown for 1: taken for instants" in text


def test_where_the_time_offset_comes_from_is_told(synthetic: Path, tmp_path: Path) -> None:
    golden = example.write_recording(tmp_path / "golden.nire")
    assert "0 us (not estimated: too few events)" in told(golden)
    text = io.StringIO()
    describe(golden, None, Console(file=text, width=200), SourceConfig(time_offset_us=120.0))
    assert "120 us (set by source.time_offset_us)" in text.getvalue()
    assert "0 us (the recording says so)" in told(synthetic)
    holed = tmp_path / "holed.nire"
    with open_recording(synthetic) as source, RecordingWriter(holed, source.info.geometry) as writer:
        for packet in source:
            writer.write(packet)
            if isinstance(packet, Frame):
                end_us = packet.exposure_end_us
                writer.write(Gap(end_us, end_us + 6000, "lost"))
    assert "0 us (not estimated: too many events are missing in each pair of frames)" in told(holed)


def test_thresholds_and_offset_are_those_of_a_run(synthetic: Path) -> None:
    config = load_config(None, ["window.policy=pair", "source.time_offset_us=auto"])
    with open_recording(synthetic) as source:
        session = Session(config, source.info, create(source.info.geometry), freshest=False, clock=lambda: 0)
        *_, window = session.windows(source)
    found = window.calibration
    text = told(synthetic)
    assert f"brighter {found.threshold_positive:.3f}, darker {found.threshold_negative:.3f} (estimated)" in text
    assert f"{found.time_offset_us:.0f} us (the recording says so)" in text


def test_lone_frame_is_described(tmp_path: Path) -> None:
    path = tmp_path / "one.nire"
    with RecordingWriter(path, Geometry(16, 12)) as writer:
        writer.write(Frame(0, np.zeros((12, 16, 1), np.uint8), 5, 5))
    assert "1, exposure 0 ms" in told(path)


def test_damaged_recording_is_described_up_to_the_damage(synthetic: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.nire"
    data = synthetic.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    text = io.StringIO()
    with pytest.raises(RecordingDamaged, match="byte"):
        describe(cut, tmp_path / "picture.png", Console(file=text, width=200))
    assert "25.00 Hz" in text.getvalue()
    assert (tmp_path / "picture.png").exists()


def test_what_cannot_be_read_or_written_is_told(synthetic: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        told(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot write"):
        told(synthetic, tmp_path / "none" / "picture.png")
