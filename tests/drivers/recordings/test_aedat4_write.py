"""What is written as AEDAT4 comes out of our reader and of two independent ones as it went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.aedat4.writer import create_writer
from drivers.source import SourceInfo
from drivers.writing import begin_writing
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger
from tests.drivers.packets.made import column_digests, events, frame

SIZE = Geometry(32, 24)


def _imu(t_us: list[int]) -> ImuBatch:
    values = np.arange(6 * len(t_us), dtype=np.float32).reshape(-1, 6) / 3
    return ImuBatch(np.array(t_us, np.int64), values[:, :3].copy(), values[:, 3:].copy())


def _packets() -> list[SourcePacket]:
    """All kinds, odd sizes, times as large as a Unix clock's."""
    t0 = 1_700_000_000_000_000
    return [
        events(range(t0, t0 + 777, 7)),
        _imu([t0 + 100, t0 + 200, t0 + 300]),
        Trigger(t0 + 50, 3, True),
        events(range(t0 + 1000, t0 + 30_000, 11), watermark_us=t0 + 31_000),
        frame(0, t0 + 500, t0 + 20_500),
        Trigger(t0 + 20_500, 3, False),
        Trigger(t0 + 20_600, 0, True),
        events([t0 + 32_000]),
        frame(1, t0 + 31_000, t0 + 31_500),
        EventBatch.empty(t0 + 40_000),
        frame(2, t0 + 39_000, t0 + 39_000, known=False),
    ]


def _write(path: Path, packets: list[SourcePacket], *, geometry: Geometry = SIZE, has_frames: bool = True) -> Path:
    with create_writer(path, geometry, SourceInfo('camera "A" <1> & co', geometry, has_frames=has_frames)) as writer:
        for packet in packets:
            writer.write(packet)
    return path


def _read(path: Path) -> list[SourcePacket]:
    with open_recording(path) as source:
        return list(source)


def _imu_of(packets: list[SourcePacket]) -> tuple[np.ndarray, ...]:
    batches = [packet for packet in packets if isinstance(packet, ImuBatch)]
    names = ("t_us", "accelerometer_mps2", "gyroscope_radps")
    return tuple(np.concatenate([getattr(batch, name) for batch in batches]) for name in names)


def test_packets_come_back_as_they_were(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.aedat4", _packets())
    back = _read(path)
    ours, theirs = column_digests(_packets()), column_digests(back)
    for name in ("t_us", "x", "y", "p", "pixels", "frames"):
        assert ours[name] == theirs[name], name
    edges = [packet for packet in back if isinstance(packet, Trigger)]
    assert edges == sorted([p for p in _packets() if isinstance(p, Trigger)], key=lambda edge: edge.t_us)
    for found, expected in zip(_imu_of(back), _imu_of(_packets()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with open_recording(path) as source:
        assert source.info.name.startswith('camera "A" <1> & co')


def test_colours_keep_their_channels(tmp_path: Path) -> None:
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 200, 30
    geometry = Geometry(32, 24, channels=3)
    path = _write(tmp_path / "a.aedat4", [EventBatch.empty(50), Frame(0, pixels, 10, 40)], geometry=geometry)
    (found,) = [packet for packet in _read(path) if isinstance(packet, Frame)]
    np.testing.assert_array_equal(found.pixels, pixels)


def test_dv_reads_it(tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing")
    reader = dv.io.MonoCameraRecording(str(_write(tmp_path / "a.aedat4", _packets())))
    batches = [packet for packet in _packets() if isinstance(packet, EventBatch)]
    theirs = np.concatenate([batch.numpy() for batch in iter(reader.getNextEventBatch, None)])
    for ours, field in (("t_us", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
        np.testing.assert_array_equal(np.concatenate([getattr(b, ours) for b in batches]), theirs[field])
    frames = [packet for packet in _packets() if isinstance(packet, Frame)]
    for our, their in zip(frames, iter(reader.getNextFrame, None), strict=True):
        assert their.timestamp == our.exposure_start_us
        assert round(their.exposure.total_seconds() * 1e6) == our.exposure_end_us - our.exposure_start_us
        np.testing.assert_array_equal(their.image, our.pixels[..., 0])
    edges = [edge for batch in iter(reader.getNextTriggerBatch, None) for edge in batch]
    assert edges[0].type == dv.TriggerType.APS_EXPOSURE_START
    samples = [sample for batch in iter(reader.getNextImuBatch, None) for sample in batch]
    assert [sample.accelerometerX * 9.80665 for sample in samples] == pytest.approx([0, 2, 4], rel=1e-6)
    assert reader.getCameraName() == 'camera "A" <1> & co'


def test_second_reader_agrees(tmp_path: Path) -> None:
    aedat = pytest.importorskip("aedat")
    theirs = list(aedat.Decoder(_write(tmp_path / "a.aedat4", _packets())))
    found = np.concatenate([packet["events"] for packet in theirs if "events" in packet])
    batches = [packet for packet in _packets() if isinstance(packet, EventBatch)]
    np.testing.assert_array_equal(found["t"].astype(np.int64), np.concatenate([batch.t_us for batch in batches]))
    frames = [packet["frame"] for packet in theirs if "frame" in packet]
    assert [item["exposure_end_t"] - item["exposure_begin_t"] for item in frames] == [20_000, 500, 0]


def test_small_batches_share_packets(tmp_path: Path) -> None:
    small = [events([t_us]) for t_us in range(0, 100_000, 100)]
    path = _write(tmp_path / "a.aedat4", list(small), has_frames=False)
    batches = [packet for packet in _read(path) if isinstance(packet, EventBatch)]
    assert 5 <= len(batches) <= 12
    assert sum(map(len, batches)) == 1000


def test_file_has_its_name_only_when_whole_and_a_crash_leaves_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    packets: list[Any] = [*_packets(), "no packet"]
    with pytest.raises(TypeError):
        _write(path, packets)
    assert not path.exists()
    left = _read(tmp_path / "a.aedat4.part")
    assert len([packet for packet in left if isinstance(packet, Frame)]) == 3
    cut = tmp_path / "cut.aedat4"
    cut.write_bytes(_write(path, _packets()).read_bytes()[:-20])
    with pytest.raises(RecordingDamaged, match="cut off"):
        _read(cut)


def test_what_has_no_place_is_counted(tmp_path: Path) -> None:
    rolling = Frame(3, np.zeros((24, 32, 1), np.uint8), 10, 40, row_delay_us=5.0, transfer="srgb")
    with create_writer(tmp_path / "a.aedat4", SIZE, SourceInfo("a", SIZE)) as writer:
        for packet in (EventBatch.empty(0), Gap(5, 9, "lost"), Gap(15, 19, "lost"), rolling, Trigger(50, 6, True)):
            writer.write(packet)
    assert writer.lost == {
        "gaps": 2,
        "holes in the count of frames": 1,
        "row delays": 1,
        "transfers of pixels that are not linear": 1,
        "channels of triggers": 1,
    }


def test_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder"):
        create_writer(tmp_path, SIZE, SourceInfo("a", SIZE))
    with pytest.raises(SourceError, match="cannot write the recording"):
        create_writer(tmp_path / "none" / "a.aedat4", SIZE, SourceInfo("a", SIZE))


@pytest.mark.real
def test_real_recording_is_the_same_after_a_round_trip(shared_data: Path, tmp_path: Path) -> None:
    original = shared_data / "recordings" / "emlb_demo-01_davis346.aedat4"
    packets = _read(original)
    with open_recording(original) as source:
        path = _write(tmp_path / "a.aedat4", packets, geometry=source.info.geometry)
    before, after = column_digests(packets), column_digests(_read(path))
    assert {name for name in before if before[name] != after[name]} == {"others"}  # units of the IMU are rounded
    np.testing.assert_allclose(_imu_of(_read(path))[1], _imu_of(packets)[1], rtol=1e-6)


def test_suffix_that_names_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'.mp4' names no format that is written; expected one of .aedat4"):
        begin_writing(tmp_path / "a.mp4", SIZE, SourceInfo("a", SIZE))
