"""AEDAT4 files: both dialects of exposure, colours, order, and every kind of damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.recordings.aedat4.source import open_source
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, SourcePacket
from tests.drivers.recordings import aedat4_writer as writer

GRAY = (np.arange(24 * 32) % 255).astype(np.uint8).reshape(24, 32)


def read(path: Path, **settings: str) -> tuple[list[SourcePacket], RecordingDamaged | None]:
    packets: list[SourcePacket] = []
    with open_source(path, **settings) as source:  # type: ignore[arg-type]
        try:
            packets.extend(source)
        except RecordingDamaged as error:
            return packets, error
    return packets, None


def frames_of(packets: list[SourcePacket]) -> list[Frame]:
    return [packet for packet in packets if isinstance(packet, Frame)]


def times_of(packets: list[SourcePacket]) -> list[int]:
    return [int(t) for packet in packets if isinstance(packet, EventBatch) for t in packet.t_us]


@pytest.mark.parametrize("compression", [writer.NONE, writer.LZ4, writer.ZSTD])
def test_events_and_frames_are_read_whatever_the_compression(tmp_path: Path, compression: int) -> None:
    packets = [
        (0, writer.event_packet([10, 20, 25])),
        (1, writer.frame_packet(GRAY, 5, exposure=(5, 15))),
        (0, writer.event_packet([30])),
    ]
    writer.write(tmp_path / "a.aedat4", packets, compression=compression)
    found, damage = read(tmp_path / "a.aedat4")
    assert damage is None
    assert times_of(found) == [10, 20, 25, 30]
    first = found[0]
    assert isinstance(first, EventBatch)
    assert first.x.tolist() == [0, 1, 2]
    assert first.y.tolist() == [5, 5, 5]
    assert first.p.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(frames_of(found)[0].pixels[..., 0], GRAY)


@pytest.mark.parametrize("compression", [writer.NONE, writer.LZ4, writer.ZSTD])
def test_packets_of_any_size_keep_what_they_hold_while_others_are_read(tmp_path: Path, compression: int) -> None:
    pictures = [np.random.default_rng(n).integers(0, 255, (400, 500), np.uint8) for n in range(3)]
    times = np.arange(60_000)
    packets = [
        (number, packet)
        for n, picture in enumerate(pictures)
        for number, packet in (
            (0, writer.event_packet((times + n * 60_000).tolist())),
            (1, writer.frame_packet(picture, n * 60_000, length_us=100)),
            (0, writer.event_packet([(n + 1) * 60_000])),
        )
    ]
    writer.write(tmp_path / "a.aedat4", packets, compression=compression, size=(500, 400))
    found, damage = read(tmp_path / "a.aedat4")
    assert damage is None
    assert times_of(found) == [t for n in range(3) for t in range(n * 60_000, (n + 1) * 60_000 + 1)]
    for frame, picture in zip(frames_of(found), pictures, strict=True):
        np.testing.assert_array_equal(frame.pixels[..., 0], picture)
    assert all((batch.x == np.arange(len(batch)) % 32).all() for batch in found if isinstance(batch, EventBatch))


def test_exposure_is_taken_from_either_dialect(tmp_path: Path) -> None:
    packets = [
        (0, writer.event_packet([1, 9000])),
        (1, writer.frame_packet(GRAY, 1500, exposure=(1000, 2000))),  # t is the middle: start and end lead
        (1, writer.frame_packet(GRAY, 3000, length_us=1000)),
        (1, writer.frame_packet(GRAY, 5000)),
    ]
    writer.write(tmp_path / "a.aedat4", packets)
    frames = frames_of(read(tmp_path / "a.aedat4")[0])
    assert [(f.exposure_start_us, f.exposure_end_us, f.exposure_known) for f in frames] == [
        (1000, 2000, True),
        (3000, 4000, True),
        (5000, 5000, False),
    ]


def test_colour_is_turned_from_bgr_to_rgb(tmp_path: Path) -> None:
    bgr = np.zeros((24, 32, 3), np.uint8)
    bgr[..., 0], bgr[..., 2] = 10, 200
    writer.write(tmp_path / "a.aedat4", [(0, writer.event_packet([9])), (1, writer.frame_packet(bgr, 1, length_us=2))])
    with open_source(tmp_path / "a.aedat4") as source:
        assert source.info.geometry.channels == 3
        assert frames_of(list(source))[0].pixels[3, 4].tolist() == [200, 0, 10]


def test_frame_written_early_waits_for_the_events_of_its_exposure(tmp_path: Path) -> None:
    packets = [
        (1, writer.frame_packet(GRAY, 100, length_us=50)),
        (0, writer.event_packet([90, 120])),
        (0, writer.event_packet([151])),
        (0, writer.event_packet([200])),
    ]
    writer.write(tmp_path / "a.aedat4", packets)
    kinds = [type(packet) for packet in read(tmp_path / "a.aedat4")[0]]
    assert kinds == [EventBatch, EventBatch, Frame, EventBatch]


def test_frames_written_after_all_events_are_merged_in_time(tmp_path: Path) -> None:
    packets = [(0, writer.event_packet([t, t + 5])) for t in range(0, 100, 10)]
    packets += [(1, writer.frame_packet(GRAY, t, length_us=10)) for t in (0, 40, 80)]
    writer.write(tmp_path / "a.aedat4", packets)
    kinds = [type(packet).__name__[0] for packet in read(tmp_path / "a.aedat4")[0]]
    assert "".join(kinds) == "EEFEEEEFEEEEF"


def test_file_without_frames_says_so(tmp_path: Path) -> None:
    writer.write(tmp_path / "a.aedat4", [(0, writer.event_packet([1]))], kinds=["EVTS"])
    with open_source(tmp_path / "a.aedat4") as source:
        assert not source.info.has_frames


def test_file_without_events_still_gives_frames_with_heartbeats(tmp_path: Path) -> None:
    writer.write(tmp_path / "a.aedat4", [(0, writer.frame_packet(GRAY, 10, length_us=5))], kinds=["FRME"])
    found, _ = read(tmp_path / "a.aedat4")
    assert [type(packet) for packet in found] == [EventBatch, Frame]


def test_file_with_neither_is_refused(tmp_path: Path) -> None:
    writer.write(tmp_path / "a.aedat4", [], kinds=["IMUS"])
    with pytest.raises(SourceError, match=r"neither events nor frames \(IMUS\)"), open_source(tmp_path / "a.aedat4"):
        pass


def _long(path: Path, **settings: int) -> list[int]:
    packets = []
    for n in range(10):
        packets.append((0, writer.event_packet(range(n * 1000, n * 1000 + 500))))
        packets.append((1, writer.frame_packet(GRAY, n * 1000, length_us=400)))
    return writer.write(path, packets, **settings)


@pytest.mark.parametrize("packet", [3, 8, 15])
def test_cut_file_gives_all_before_and_the_position(tmp_path: Path, packet: int) -> None:
    path = tmp_path / "a.aedat4"
    positions = _long(path)
    path.write_bytes(path.read_bytes()[: positions[packet] + 30])
    found, damage = read(path)
    assert damage is not None
    assert damage.position == positions[packet]
    assert f"byte {positions[packet]}" in str(damage)
    assert len(times_of(found)) == 500 * ((packet + 1) // 2)
    assert len(frames_of(found)) == packet // 2


def test_cut_between_packets_is_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    positions = _long(path)
    path.write_bytes(path.read_bytes()[: positions[6]])
    found, damage = read(path)
    assert damage is not None
    assert damage.position == positions[6]
    assert len(frames_of(found)) == 3


@pytest.mark.parametrize("compression", [writer.LZ4, writer.ZSTD])
def test_cut_inside_the_data_table_gives_all_packets_and_says_so(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a.aedat4"
    _long(path, compression=compression)
    path.write_bytes(path.read_bytes()[:-5])
    found, damage = read(path)
    assert len(frames_of(found)) == 10
    assert damage is not None
    assert "its data table at byte" in str(damage)


def test_file_that_never_had_a_data_table_is_whole(tmp_path: Path) -> None:
    _long(tmp_path / "a.aedat4", finished=False)
    found, damage = read(tmp_path / "a.aedat4")
    assert damage is None
    assert len(frames_of(found)) == 10


@pytest.mark.parametrize("packet", [4, 5])
def test_garbage_in_a_packet_ends_at_its_position(tmp_path: Path, packet: int) -> None:
    path = tmp_path / "a.aedat4"
    positions = _long(path)
    data = bytearray(path.read_bytes())
    data[positions[packet] + 8 : positions[packet] + 40] = b"\xff" * 32
    path.write_bytes(data)
    found, damage = read(path)
    assert damage is not None
    assert damage.position == positions[packet]
    assert len(times_of(found)) == 500 * ((packet + 1) // 2)
    assert len(frames_of(found)) == packet // 2


def test_absurd_packet_size_ends_at_its_position(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    positions = _long(path)
    data = bytearray(path.read_bytes())
    data[positions[4] + 4 : positions[4] + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert read(path)[1].position == positions[4]  # type: ignore[union-attr]


@pytest.mark.parametrize("compression", [writer.LZ4, writer.ZSTD])
def test_packet_whose_compressed_data_stop_ends_at_its_position(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a.aedat4"
    positions = _long(path, compression=compression)
    data = path.read_bytes()
    at = positions[5]
    size = int.from_bytes(data[at + 4 : at + 8], "little") - 9
    path.write_bytes(data[: at + 4] + size.to_bytes(4, "little") + data[at + 8 : at + 8 + size] + data[positions[6] :])
    found, damage = read(path)
    assert damage is not None
    assert damage.position == at
    assert len(frames_of(found)) == 2


@pytest.mark.parametrize("keep", [14, 16, 30, 200])
def test_damaged_header_is_a_clear_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.aedat4"
    _long(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RecordingDamaged, match="header is damaged"), open_source(path):
        pass


def test_foreign_and_missing_files_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "a.aedat4").write_bytes(b"something else")
    with pytest.raises(SourceError, match="is no AEDAT4 recording"), open_source(tmp_path / "a.aedat4"):
        pass
    with pytest.raises(SourceError, match=r"cannot read .*No such file"), open_source(tmp_path / "b.aedat4"):
        pass


def _with_silence(path: Path, *, silence: tuple[int, int], step_us: int = 10, packet: int = 700) -> None:
    """Events every `step_us` from 0 to 60 ms but in the silence; exposures [0, 20), [30, 50) ms."""
    times = [t for t in range(0, 60_000, step_us) if not silence[0] <= t < silence[1]]
    packets = [(0, writer.event_packet(times[n : n + packet])) for n in range(0, len(times), packet)]
    packets += [(1, writer.frame_packet(GRAY, t, length_us=20_000)) for t in (0, 30_000)]
    writer.write(path, packets)


@pytest.mark.parametrize("packet", [16, 500, 700, 1983, 2047, 5000])  # the gap is between two, or anywhere in one
def test_silence_that_fills_the_span_between_exposures_is_a_gap(tmp_path: Path, packet: int) -> None:
    _with_silence(tmp_path / "a.aedat4", silence=(20_000, 30_000), packet=packet)
    found, _ = read(tmp_path / "a.aedat4")
    gaps = [packet for packet in found if isinstance(packet, Gap)]
    assert [(gap.t0_us, gap.t1_us) for gap in gaps] == [(20_000, 30_000)]
    before = [p for p in found[: found.index(gaps[0])] if isinstance(p, EventBatch)]
    assert before[-1].t_us[-1] < 20_000
    assert times_of(found) == times_of(read(tmp_path / "a.aedat4", gaps="none")[0])


@pytest.mark.parametrize("silence", [(22_000, 28_000), (10_000, 30_000), (35_000, 45_000)])
def test_silence_anywhere_else_is_a_still_scene(tmp_path: Path, silence: tuple[int, int]) -> None:
    _with_silence(tmp_path / "a.aedat4", silence=silence)
    assert not any(isinstance(packet, Gap) for packet in read(tmp_path / "a.aedat4")[0])


def test_silence_of_a_quiet_camera_is_a_still_scene(tmp_path: Path) -> None:
    _with_silence(tmp_path / "a.aedat4", silence=(20_000, 30_000), step_us=400)
    assert not any(isinstance(packet, Gap) for packet in read(tmp_path / "a.aedat4")[0])


def test_gaps_setting_has_two_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gaps = 'maybe'"):
        open_source(tmp_path / "a.aedat4", gaps="maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize(("bits", "settings"), [(10, {}), (12, {}), (16, {}), (10, {"bits": 12})])
def test_frames_of_16_bits_are_scaled_by_their_largest_value(
    tmp_path: Path, bits: int, settings: dict[str, int]
) -> None:
    wide = (GRAY.astype(np.uint16) + 1) << (bits - 8)
    packets = [(0, writer.event_packet([1, 9000])), (1, writer.frame_packet(wide, 100, exposure=(100, 200)))]
    writer.write(tmp_path / "a.aedat4", packets)
    found, damage = read(tmp_path / "a.aedat4", **settings)  # type: ignore[arg-type]
    assert damage is None
    expected = (GRAY.astype(int) + 1) >> (settings.get("bits", bits) - bits)
    np.testing.assert_array_equal(frames_of(found)[0].pixels[..., 0], expected)
    with open_source(tmp_path / "a.aedat4", **settings) as source:  # type: ignore[arg-type]
        assert f"{settings.get('bits', bits)} of 16" in [told.value for told in source.info.found]


def test_dark_frames_of_16_bits_are_asked_about_and_other_types_named(tmp_path: Path) -> None:
    events = (0, writer.event_packet([1, 9000]))
    writer.write(tmp_path / "a.aedat4", [events, (1, writer.frame_packet(GRAY.astype(np.uint16), 100))])
    with pytest.raises(SourceError, match=r"set source.settings.bits"), open_source(tmp_path / "a.aedat4"):
        pass
    writer.write(tmp_path / "a.aedat4", [events, (1, writer.frame_packet(GRAY.astype(np.float32), 100))])
    with pytest.raises(SourceError, match=r"OpenCV's type 5 are not read") as told, open_source(tmp_path / "a.aedat4"):
        pass
    assert not isinstance(told.value, RecordingDamaged)


def test_region_of_interest_lies_where_the_file_says(tmp_path: Path) -> None:
    frame = writer.frame_packet(GRAY[:10, :12], 100, exposure=(100, 200), at=(3, 4))
    writer.write(tmp_path / "a.aedat4", [(0, writer.event_packet([1, 9000])), (1, frame)])
    (image,) = frames_of(read(tmp_path / "a.aedat4")[0])
    expected = np.zeros_like(GRAY)
    expected[4:14, 3:15] = GRAY[:10, :12]
    np.testing.assert_array_equal(image.pixels[..., 0], expected)


def test_streams_of_two_cameras_are_never_mixed(tmp_path: Path) -> None:
    packets = [
        (0, writer.frame_packet(GRAY, 100, exposure=(100, 200))),
        (1, writer.event_packet([1, 9000])),
        (2, writer.frame_packet(GRAY + np.uint8(1), 300, exposure=(300, 400))),
        (3, writer.event_packet([5, 6, 9000])),
    ]
    path = tmp_path / "a.aedat4"
    writer.write(path, packets, kinds=("FRME", "EVTS", "FRME", "EVTS"), cameras=("RIGHT", "LEFT", "LEFT", "RIGHT"))
    for settings, count, start_us in (({}, 2, 300), ({"camera": "RIGHT"}, 3, 100)):
        found, _ = read(path, **settings)
        assert len(times_of(found)) == count
        assert [frame.exposure_start_us for frame in frames_of(found)] == [start_us]
    with open_source(path) as source:
        taken = {stream.name: stream.taken for stream in source.info.streams}
    assert taken == {"0 RIGHT": False, "1 LEFT": True, "2 LEFT": True, "3 RIGHT": False}
    with (
        pytest.raises(SourceError, match=r"has LEFT, RIGHT; source.settings.camera = 'MIDDLE'"),
        open_source(path, camera="MIDDLE"),
    ):
        pass
