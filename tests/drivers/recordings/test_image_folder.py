"""Images, a table of times and a file of events become one recording; what does not fit is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.image_folder import open_source
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, SourcePacket
from tests.drivers.recordings import image_folders


def _frames(packets: list[SourcePacket]) -> list[tuple[int, int, int, bool, int]]:
    return [
        (p.index, p.exposure_start_us, p.exposure_end_us, p.exposure_known, int(p.pixels[0, 0, 0]))
        for p in packets
        if isinstance(p, Frame)
    ]


def _read(path: Path) -> list[SourcePacket]:
    with open_recording(path) as source:
        return list(source)


def test_images_are_joined_with_events_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    packets = _read(image_folders.write(tmp_path / "a"))
    assert _frames(packets) == [
        (0, 2000, 2000, False, 9),
        (1, 12_000, 12_000, False, 10),
        (2, 22_000, 22_000, False, 11),
    ]
    assert sum(len(packet) for packet in packets if isinstance(packet, EventBatch)) == 15_000


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        ("image_exposure_timestamps_left.txt", "# start, end\n1000, 3000\n11000, 13000\n21000, 23000\n"),
        ("images/times.csv", "start,end\n0.001,0.003\n0.011,0.013\n0.021,0.023\n"),
        ("timestamps.txt", "1e-3 3e-3 img9.png\n11e-3 13e-3 img10.png\n21e-3 23e-3 img11.png\n"),
    ],
    ids=["dsec", "heading", "names"],
)
def test_exposures_are_taken_where_lines_have_two_times(tmp_path: Path, table: str, lines: str) -> None:
    packets = _read(image_folders.write(tmp_path / "a", table=table, lines=lines))
    assert [row[1:4] for row in _frames(packets)] == [
        (1000, 3000, True),
        (11_000, 13_000, True),
        (21_000, 23_000, True),
    ]


def test_exposures_are_preferred_and_files_can_be_named(tmp_path: Path) -> None:
    folder = image_folders.write(tmp_path / "a")
    (folder / "exposure_timestamps.txt").write_text("1000 3000\n11000 13000\n21000 23000\n")
    assert _frames(_read(folder))[0][1:4] == (1000, 3000, True)
    (folder / "events.aedat4").rename(folder / "mine.bin")
    with open_source(folder, events="mine.bin", times="timestamps.txt", time_unit="ns") as source:
        assert _frames(list(source))[0][1:4] == (2, 2, False)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    short = image_folders.write(tmp_path / "short", lines="1\n2\n")
    with pytest.raises(SourceError, match=r"has 3 images, its table timestamps.txt 2 lines"), open_recording(short):
        pass
    odd = image_folders.write(tmp_path / "odd", lines="2000\n1 2 3\n5\n")
    with pytest.raises(RecordingDamaged, match=r"line 2 of timestamps.txt"), open_recording(odd):
        pass
    large = image_folders.write(tmp_path / "large")
    assert cv2.imwrite(str(large / "images/img9.png"), np.zeros((48, 64), np.uint8))
    with pytest.raises(SourceError, match=r"images are 64 x 48 pixels, the sensor of the events 32 x 24.*hybrid"):
        open_recording(large).__enter__()
    alone = image_folders.write(tmp_path / "alone")
    (alone / "events.aedat4").unlink()
    with pytest.raises(SourceError, match="is a folder without a recording"):
        open_recording(alone)
    with pytest.raises(SourceError, match="has no file of events"), open_source(alone):
        pass
    for settings, message in (({"time_unit": "min"}, "time_unit = 'min'"), ({"transfer": "log"}, "transfer = 'log'")):
        with pytest.raises(ConfigError, match=message):
            open_source(alone, **settings)  # type: ignore[arg-type]


def test_damaged_image_is_told_after_the_frames_before_it(tmp_path: Path) -> None:
    folder = image_folders.write(tmp_path / "a")
    (folder / "images/img10.png").write_bytes(b"no image")
    packets: list[SourcePacket] = []
    with open_recording(folder) as source, pytest.raises(RecordingDamaged, match=r"img10.png cannot be read"):
        packets.extend(source)
    assert [row[0] for row in _frames(packets)] == [0]


def test_names_in_the_table_choose_and_order_the_images(tmp_path: Path) -> None:
    folder = image_folders.write(tmp_path / "a", lines="22000 img9.png\n2000 img11.png\n")
    with open_recording(folder) as source:
        frames = [packet for packet in source if isinstance(packet, Frame)]
    assert [(frame.exposure_start_us, int(frame.pixels[0, 0, 0])) for frame in frames] == [(2000, 11), (22_000, 9)]
