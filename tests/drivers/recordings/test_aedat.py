"""AEDAT 2.0 and 3.1: words and records written by hand come out as events, frames, edges and samples."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.aedat.source import open_source
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Geometry, ImuBatch, SourcePacket, Trigger
from tests.drivers.recordings import aedat_files as files


def _read(path: Path) -> list[SourcePacket]:
    with open_recording(path) as source:
        return list(source)


def _events(packets: list[SourcePacket]) -> list[tuple[int, int, int, int]]:
    batches = [packet for packet in packets if isinstance(packet, EventBatch)]
    columns = (np.concatenate([getattr(b, name) for b in batches]) for name in ("t_us", "x", "y", "p"))
    return [tuple(map(int, row)) for row in zip(*columns, strict=True)]


def _frames(packets: list[SourcePacket]) -> list[Frame]:
    return [packet for packet in packets if isinstance(packet, Frame)]


def _image() -> np.ndarray:
    """10 bits, different in each pixel's surroundings, brightest at the top right."""
    rows, columns = np.mgrid[: files.HEIGHT, : files.WIDTH]
    return (2 * columns + files.HEIGHT - rows).astype(np.int64)


# AEDAT 2.0


def test_events_of_a_davis_are_counted_from_the_top_left(tmp_path: Path) -> None:
    words = [files.davis_event(10, 3, 5), files.davis_event(20, 345, 259, brighter=False), files.davis_edge(25)]
    packets = _read(files.write_2(tmp_path / "a.aedat", words))
    assert _events(packets) == [(10, 3, 5, 1), (20, 345, 259, 0)]
    assert [packet for packet in packets if isinstance(packet, Trigger)] == [Trigger(25, 0, True)]


def test_events_of_a_dvs128_have_their_own_polarity(tmp_path: Path) -> None:
    words = [files.dvs128_event(10, 3, 5), files.dvs128_event(20, 127, 0, brighter=False)]
    path = files.write_2(tmp_path / "a.aedat", words, chip="ch.unizh.ini.jaer.chip.retina.DVS128")
    assert _events(_read(path)) == [(10, 3, 5, 1), (20, 127, 0, 0)]
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(128, 128)
        assert not source.info.has_frames


def test_frame_is_reset_minus_signal_exposed_between_the_two(tmp_path: Path) -> None:
    image = _image()
    words = [files.davis_event(900, 1, 1)]
    words += files.davis_frame(image, 1000, 20_000, step_us=1)
    words += [files.davis_event(30_000, 2, 2)]
    words += files.davis_frame(image[::-1], 41_000, 60_000, step_us=1)
    path = files.write_2(tmp_path / "a.aedat", words)
    frames = _frames(_read(path))
    assert [(f.index, f.exposure_start_us, f.exposure_end_us) for f in frames] == [
        (0, 1000 + files.WIDTH - 1, 20_000),
        (1, 41_000 + files.WIDTH - 1, 60_000),
    ]
    np.testing.assert_array_equal(frames[0].pixels[..., 0], image // 4)
    np.testing.assert_array_equal(frames[1].pixels[..., 0], image[::-1] // 4)
    with open_source(path, shutter="rolling") as source:
        rolling = _frames(list(source))
    assert [f.exposure_start_us for f in rolling] == [1000, 41_000]


def test_frame_with_lost_samples_leaves_a_hole_in_the_index(tmp_path: Path) -> None:
    whole = files.davis_frame(_image(), 1000, 20_000)
    lost = files.davis_frame(_image(), 41_000, 60_000)[:-7]
    words = [*whole, *lost, *files.davis_frame(_image(), 81_000, 90_000)]
    frames = _frames(_read(files.write_2(tmp_path / "a.aedat", words)))
    assert [f.index for f in frames] == [0, 2]
    np.testing.assert_array_equal(frames[1].pixels, frames[0].pixels)


def test_inertial_samples_have_the_units_of_their_ranges(tmp_path: Path) -> None:
    words = [files.davis_event(5, 0, 0), *files.davis_inertial(10, (8192, 0, -4096, 99, 655, 0, -655))]
    packets = _read(files.write_2(tmp_path / "a.aedat", words))
    (sample,) = [packet for packet in packets if isinstance(packet, ImuBatch)]
    np.testing.assert_allclose(sample.accelerometer_mps2, [[9.80665, 0, -4.903325]], rtol=1e-5)
    np.testing.assert_allclose(sample.gyroscope_radps, [[np.deg2rad(10), 0, -np.deg2rad(10)]], rtol=1e-5)
    assert sample.t_us.tolist() == [10]


def test_clock_of_32_bits_goes_on_when_it_turns(tmp_path: Path) -> None:
    turn = 1 << 32
    words = [files.davis_event(t, 0, 0) for t in (turn - 20, turn - 10, turn + 5, 2 * turn - 3, 2 * turn + 1)]
    times = [row[0] for row in _events(_read(files.write_2(tmp_path / "a.aedat", words)))]
    assert times[:3] == [turn - 20, turn - 10, turn + 5]


def test_pieces_of_a_long_file_fit_together(tmp_path: Path) -> None:
    words = [files.davis_event(3 * n, n % 346, n % 260) for n in range(150_000)]
    packets = _read(files.write_2(tmp_path / "a.aedat", words))
    assert [row[0] for row in _events(packets)] == [3 * n for n in range(150_000)]
    assert len([packet for packet in packets if isinstance(packet, EventBatch)]) == 3


def test_file_that_ends_inside_an_event_gives_those_before(tmp_path: Path) -> None:
    path = files.write_2(tmp_path / "a.aedat", [files.davis_event(n, 0, 0) for n in range(9)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    packets: list[SourcePacket] = []
    with open_recording(path) as source, pytest.raises(RecordingDamaged, match="ends inside an event") as damage:
        packets.extend(source)
    assert damage.value.position == len(whole) - 8
    assert len(_events(packets)) == 8


def test_unknown_chip_needs_a_size(tmp_path: Path) -> None:
    path = files.write_2(tmp_path / "a.aedat", [files.davis_event(1, 300, 200)], chip="my.Chip")
    with pytest.raises(SourceError, match="sensor 'Chip', whose size is not known"), open_source(path):
        pass
    with open_source(path, width=346, height=260) as source:
        assert _events(list(source)) == [(1, 300, 200, 1)]
    with pytest.raises(ConfigError, match="set both"):
        open_source(path, width=346)
    with pytest.raises(ConfigError, match="expected 'global' or 'rolling'"):
        open_source(path, shutter="open")  # type: ignore[arg-type]


@pytest.mark.real
def test_real_recording_of_a_davis240(shared_data: Path) -> None:
    path = shared_data / "recordings" / "pyaedattools_IMU_translBoxes_davis240c.aedat"
    packets = _read(path)
    with open_recording(path) as source:
        assert source.info.geometry == Geometry(240, 180)
        assert not source.info.has_frames
        assert source.info.duration_us == 2_072_651
    # A reading by hand of the documented bits, to compare with.
    data = path.read_bytes()
    at = data.index(b"#End of Preferences")
    words = np.frombuffer(data[data.index(b"\n", at) + 1 :], ">u4").reshape(-1, 2)
    dvs = words[words[:, 0] < 1 << 31].astype(np.int64)
    expected = np.stack(
        [dvs[:, 1], 239 - (dvs[:, 0] >> 12 & 1023), 179 - (dvs[:, 0] >> 22), dvs[:, 0] >> 11 & 1], axis=1
    )
    assert len(expected) == 162_771
    np.testing.assert_array_equal(np.array(_events(packets)), expected)
    still = np.concatenate([p.accelerometer_mps2 for p in packets if isinstance(p, ImuBatch)])
    assert np.linalg.norm(still, axis=1).mean() == pytest.approx(9.8, abs=0.2)  # gravity


# AEDAT 3.1


def test_records_come_out_with_frames_after_their_events(tmp_path: Path) -> None:
    pixels = np.arange(346 * 260, dtype=np.uint8).reshape(260, 346, 1)
    imu = b"\1\0\0\0" + np.array([150], "<i4").tobytes() + np.array([1, 0, 0, 90, 0, 0, 20], "<f4").tobytes()
    packets = [
        files.packet_3(2, [files.frame_3(pixels, 100, 300)]),
        files.packet_3(3, [imu]),
        files.packet_3(0, [np.array([2 << 1 | 1, 160], "<i4").tobytes(), np.array([0 << 1 | 1, 161], "<i4").tobytes()]),
        files.packet_3(1, [files.event_3(t, 7, 9) for t in (90, 200)]),
        files.packet_3(1, [files.event_3(350, 345, 259, brighter=False), files.event_3(360, 1, 1, valid=False)]),
        files.packet_3(1, [files.event_3(5, 1, 1)], overflow=1),
        files.packet_3(1, [files.event_3(5, 1, 1)], source=2),
    ]
    path = files.write_3(tmp_path / "a.aedat", packets)
    found = _read(path)
    assert _events(found) == [(90, 7, 9, 1), (200, 7, 9, 1), (350, 345, 259, 0), ((1 << 31) + 5, 1, 1, 1)]
    assert [packet for packet in found if isinstance(packet, Trigger)] == [Trigger(160, 0, True)]
    (sample,) = [packet for packet in found if isinstance(packet, ImuBatch)]
    np.testing.assert_allclose(sample.accelerometer_mps2, [[9.80665, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(sample.gyroscope_radps, [[np.pi / 2, 0, 0]], rtol=1e-6)
    (frame,) = _frames(found)
    assert (frame.exposure_start_us, frame.exposure_end_us) == (100, 300)
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert [type(p).__name__ for p in found].index("Frame") == 4  # after the events of 350 us, edge and sample


def test_colour_frames_are_rgb(tmp_path: Path) -> None:
    pixels = np.zeros((260, 346, 3), np.uint8)
    pixels[..., 0] = 200
    path = files.write_3(tmp_path / "a.aedat", [files.packet_3(2, [files.frame_3(pixels, 1, 9)])])
    with open_recording(path) as source:
        assert source.info.geometry.channels == 3
        np.testing.assert_array_equal(_frames(list(source))[0].pixels, pixels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-3], "ends inside a packet of 2 records"),
        (lambda data: data + b"\1\0\1\0", "ends inside a packet's head"),
        (lambda data: data + files.packet_3(1, [b"\0" * 8])[:8] + b"\xff" * 20, "has -1 of -1 records"),
        (lambda data: data + files.packet_3(2, [files.frame_3(np.zeros((2, 2, 1), np.uint8), 9, 1)]), "a frame of 2 x"),
    ],
    ids=["cut", "head", "numbers", "frame"],
)
def test_damage_is_told_after_everything_before_it(tmp_path: Path, spoil: object, message: str) -> None:
    good = files.packet_3(1, [files.event_3(t, 1, 1) for t in (1, 2, 3)])
    second = files.packet_3(1, [files.event_3(t, 1, 1) for t in (4, 5)])
    path = files.write_3(tmp_path / "a.aedat", [good, second])
    assert callable(spoil)
    path.write_bytes(spoil(path.read_bytes()))
    packets: list[SourcePacket] = []
    with open_recording(path) as source, pytest.raises(RecordingDamaged, match=message):
        packets.extend(source)
    assert len(_events(packets)) == (3 if "2 records" in message else 5)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match="is compressed"),
        open_recording(files.write_3(tmp_path / "a.aedat", [], format_="SerializedTS")),
    ):
        pass
    old = tmp_path / "old.aedat"
    old.write_bytes(b"#!AER-DAT1.0\r\n" + bytes(60))
    with pytest.raises(SourceError, match=r"AER-DAT1.0.*expected AEDAT 2.0, 2.1, 3.1"), open_recording(old):
        pass
    endless = tmp_path / "b.aedat"
    endless.write_bytes(b"#!AER-DAT3.1\r\n#Source 1: DAVIS346\r\n" + bytes(99))
    with pytest.raises(RecordingDamaged, match="header has no end"), open_recording(endless):
        pass


def test_cameras_of_one_file_are_never_mixed(tmp_path: Path) -> None:
    packets = [
        files.packet_3(1, [files.event_3(5, 300, 200), files.event_3(900, 300, 201)], source=2),
        files.packet_3(1, [files.event_3(6, 7, 8)], source=1),
        files.packet_3(2, [files.frame_3(np.zeros((128, 128, 1), np.uint8), 5, 9)], source=1),
    ]
    path = files.write_3(tmp_path / "a.aedat", packets, source="DVS128+DAVIS346")
    for settings, size, count in (({}, (346, 260), 2), ({"camera": 1}, (128, 128), 1)):
        with open_recording(path, **settings) as source:
            found = list(source)
            assert (source.info.geometry.width, source.info.geometry.height) == size
            assert {stream.name for stream in source.info.streams if stream.taken} == {f"camera {2 - len(settings)}"}
        assert sum(len(packet) for packet in found if isinstance(packet, EventBatch)) == count
        assert sum(isinstance(packet, Frame) for packet in found) == len(settings)
    with (
        pytest.raises(SourceError, match=r"has the cameras 1 \(DVS128\), 2 \(DAVIS346\)"),
        open_recording(path, camera=3),
    ):
        pass


def test_region_of_interest_of_3_1_lies_where_the_record_says(tmp_path: Path) -> None:
    record = bytearray(files.frame_3(np.full((10, 12, 1), 77, np.uint8), 5, 9))
    record[28:36] = struct.pack("<ii", 3, 4)
    path = files.write_3(tmp_path / "a.aedat", [files.packet_3(2, [bytes(record)])], source="DVS128")
    with open_recording(path) as source:
        (frame,) = [packet for packet in source if isinstance(packet, Frame)]
    assert frame.pixels.shape == (128, 128, 1)
    assert np.argwhere(frame.pixels[..., 0]).min(axis=0).tolist() == [4, 3]
    assert np.count_nonzero(frame.pixels) == 120


def test_mark_of_2_1_is_read_as_2_0(tmp_path: Path) -> None:
    path = files.write_2(tmp_path / "a.aedat", [files.davis_event(n * 10, n, n) for n in range(100)])
    path.write_bytes(path.read_bytes().replace(b"#!AER-DAT2.0", b"#!AER-DAT2.1"))
    with open_recording(path) as source:
        assert sum(len(packet) for packet in source if isinstance(packet, EventBatch)) == 100
