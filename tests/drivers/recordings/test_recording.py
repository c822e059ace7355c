"""Our own recordings: what goes in comes out, and a broken file gives everything before the break."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.cameras.synthetic import SyntheticCamera
from drivers.recordings.recording.source import MAGIC, RecordingWriter, open_source
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, SourcePacket
from tests.drivers.packets.made import GEOMETRY, column_digests, events, frame

PACKETS: list[SourcePacket] = [events([1, 2, 3]), frame(0, 0, 2), Gap(4, 9, "lost"), events([9, 12]), frame(1, 10, 11)]


def record(path: Path, packets: list[SourcePacket] = PACKETS) -> Path:
    with RecordingWriter(path, GEOMETRY, {"who": "a test"}) as writer:
        for packet in packets:
            writer.write(packet)
    return path


def drain(path: Path) -> tuple[list[SourcePacket], RecordingDamaged | None]:
    packets: list[SourcePacket] = []
    with open_source(path) as source:
        try:
            packets.extend(source)
        except RecordingDamaged as error:
            return packets, error
    return packets, None


def test_packets_survive_a_recording(tmp_path: Path, small_camera: Callable[..., SyntheticCamera]) -> None:
    camera = small_camera()
    with RecordingWriter(tmp_path / "a.nire", camera.info.geometry, source=camera.info) as writer:
        for packet in camera:
            writer.write(packet)
    with open_source(tmp_path / "a.nire") as source:
        assert column_digests(source) == column_digests(camera)
        assert source.info.name == camera.info.name
        assert source.info.time_offset_us == 0.0
        assert source.info.duration_us == 200_000


def test_host_stamps_and_watermarks_survive(tmp_path: Path) -> None:
    batch = EventBatch.empty(77, received_ns=123, epoch=2)
    packets, _ = drain(record(tmp_path / "a.nire", [batch]))
    assert isinstance(packets[0], EventBatch)
    assert (packets[0].watermark_us, packets[0].received_ns, packets[0].epoch) == (77, 123, 2)


def test_unfinished_recording_has_another_name(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.nire", GEOMETRY)
    writer.write(PACKETS[0])
    assert os.listdir(tmp_path) == ["a.nire.part"]
    writer.close()
    writer.close()
    assert os.listdir(tmp_path) == ["a.nire"]


def test_recording_of_a_crashed_process_is_read_up_to_its_end(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.nire", GEOMETRY)
    for packet in PACKETS:
        writer.write(packet)
    # The process dies here: nothing is closed.
    packets, damage = drain(tmp_path / "a.nire.part")
    assert column_digests(packets) == column_digests(PACKETS)
    assert damage is not None
    assert damage.position == (tmp_path / "a.nire.part").stat().st_size
    assert "was never finished" in str(damage)
    writer.abandon()


@pytest.mark.parametrize("cut", [1, 10, 60, 500, 900])
def test_cut_recording_gives_what_is_whole_and_the_position(tmp_path: Path, cut: int) -> None:
    path = record(tmp_path / "a.nire")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    packets, damage = drain(path)
    assert column_digests(packets) == column_digests(PACKETS[: len(packets)])
    assert damage is not None
    assert damage.position is not None
    assert damage.position <= len(whole) - cut


def test_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = record(tmp_path / "a.nire")
    data = bytearray(path.read_bytes())
    data[-300] ^= 4
    path.write_bytes(data)
    packets, damage = drain(path)
    assert len(packets) == 4
    assert "checksum" in str(damage)


def test_reader_skips_kinds_of_a_later_version(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.nire", GEOMETRY) as writer:
        writer._chunk(b"NEW_", b"whatever")
        writer.write(PACKETS[0])
    packets, damage = drain(tmp_path / "a.nire")
    assert len(packets) == 1
    assert damage is None


def test_error_inside_the_with_block_leaves_the_part_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RecordingWriter(tmp_path / "a.nire", GEOMETRY):
        raise RuntimeError("something else broke")
    assert os.listdir(tmp_path) == ["a.nire.part"]


def test_what_a_crash_left_is_never_written_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "a.nire"
    for n in range(3):
        writer = RecordingWriter(out, GEOMETRY)
        writer.write(frame(n, 100 * n, 100 * n + 50))
        writer.abandon()
    with RecordingWriter(out, GEOMETRY) as writer:
        writer.write(frame(3, 300, 350))
    names = ["a-left-1.nire.part", "a-left-2.nire.part", "a-left-3.nire.part", "a.nire"]
    assert sorted(os.listdir(tmp_path)) == names
    for n, name in enumerate(names):
        packets, _ = drain(tmp_path / name)
        assert [packet.index for packet in packets if isinstance(packet, Frame)] == [n]
    assert "left by a crash: it is kept as" in caplog.text


def test_folder_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot write the recording .*No such file"):
        RecordingWriter(tmp_path / "none" / "a.nire", GEOMETRY)


def test_damaged_head_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.nire").write_bytes(MAGIC + b"xxxxxxxxxxxx")
    with pytest.raises(RecordingDamaged, match="damaged at byte"), open_source(tmp_path / "a.nire"):
        pass


def test_frames_and_events_are_frozen_in_the_file_not_in_memory(tmp_path: Path) -> None:
    packets, _ = drain(record(tmp_path / "a.nire"))
    frames = [p for p in packets if isinstance(p, Frame)]
    assert all(f.pixels.flags.c_contiguous for f in frames)
