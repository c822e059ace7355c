"""Colour cameras' recordings: whatever the file holds, frames are red, green, blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.recording.source import RecordingWriter
from nire.errors import ConfigError
from nire.types import Frame
from tests.drivers.recordings import aedat4_writer
from tests.nire.colour_scene import mosaic_of

COLOUR = np.full((24, 32, 3), (210, 90, 20), np.uint8)


def written(path: Path, image: np.ndarray) -> Path:
    packets = [(1, aedat4_writer.frame_packet(image, n * 20_000, length_us=9_000)) for n in range(2)]
    aedat4_writer.write(path, [(0, aedat4_writer.event_packet(range(0, 60_000, 100))), *packets])
    return path


@pytest.mark.parametrize("channels", [3, 4])
def test_frames_that_were_recorded_blue_first_come_out_red_first(tmp_path: Path, channels: int) -> None:
    stored = np.dstack([COLOUR[..., ::-1], np.full((24, 32), 255, np.uint8)])[..., :channels]
    with open_recording(written(tmp_path / "a.aedat4", np.ascontiguousarray(stored))) as source:
        frames = [packet for packet in source if isinstance(packet, Frame)]
        assert source.info.geometry.channels == 3
    np.testing.assert_array_equal(frames[0].pixels, COLOUR)


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_mosaic_of_a_colour_davis_becomes_its_colours_and_stays_so_in_a_copy(tmp_path: Path, pattern: str) -> None:
    path = written(tmp_path / "a.aedat4", mosaic_of(COLOUR, pattern))
    with open_recording(path, bayer=pattern) as source:
        assert source.info.geometry.channels == 3
        with RecordingWriter(tmp_path / "b.nire", source.info.geometry, source=source.info) as writer:
            for packet in source:
                writer.write(packet)
    with open_recording(tmp_path / "b.nire") as copy:
        frames = [packet for packet in copy if isinstance(packet, Frame)]
        assert copy.info.geometry.channels == 3
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[1].pixels, COLOUR)


def test_mosaic_that_nobody_named_stays_gray_and_a_wrong_name_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.aedat4", mosaic_of(COLOUR, "RGGB"))
    with open_recording(path) as source:
        assert source.info.geometry.channels == 1
    with pytest.raises(ConfigError, match="RGGB"):
        open_recording(path, bayer="rggb")


def test_iniVations_own_writer_stores_what_we_read(tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing", reason="dv-processing is not installed")
    path = tmp_path / "dv.aedat4"
    config = dv.io.MonoCameraWriter.DAVISConfig("colour", (32, 24))
    writer = dv.io.MonoCameraWriter(str(path), config)
    for n in range(3):
        # What DV and dv-processing call a frame in colour is OpenCV's blue, green, red.
        bgr = np.ascontiguousarray(COLOUR[..., ::-1])
        writer.writeFrame(dv.Frame(1_000_000 + 40_000 * n, 10_000, 0, 0, bgr, dv.FrameSource.SENSOR))
    del writer
    with open_recording(path) as source:
        frames = [packet for packet in source if isinstance(packet, Frame)]
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[0].pixels, COLOUR)
