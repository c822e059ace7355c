"""What hunts with damaged files have found, each once and by itself."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import lz4.frame
import numpy as np
import pytest
import zstandard

from drivers.archive import Members, raw_image
from drivers.detect import open_recording
from drivers.packets.cleaning import cleaned
from drivers.recording_file import RecordingFile
from drivers.recordings import npz
from drivers.recordings.aedat4 import source as aedat4
from drivers.recordings.recording import source as recording
from drivers.sense import time_us
from drivers.source import SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Geometry, SourcePacket
from tests.drivers.packets.made import Given, events
from tests.drivers.recordings import aedat4_writer as writer
from tests.drivers.recordings import text_files

GRAY = np.zeros((24, 32), np.uint8)


def aedat4_of(folder: Path, packets: list[tuple[int, bytes]], **settings: int) -> Path:
    writer.write(folder / "a.aedat4", packets, **settings)  # type: ignore[arg-type]
    return folder / "a.aedat4"


def read(path: Path) -> int:
    """Read all; give the most memory that it took."""
    tracemalloc.start()
    try:
        with aedat4.open_source(path) as source, pytest.raises(RecordingDamaged):
            list(source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("t_us", [-(1 << 63), -(1 << 63) + 500, (1 << 63) - 1])
def test_times_at_the_end_of_64_bits_do_not_begin_endless_epochs(t_us: int) -> None:
    with pytest.raises(RecordingDamaged, match="event 2 is dated"):
        list(cleaned(Given([events([5, 9]), events([t_us, 7, 20]), events([30])])))


def test_polarity_of_a_damaged_event_is_still_0_or_1(tmp_path: Path) -> None:
    packet = writer.event_packet([10, 20])
    path = aedat4_of(tmp_path, [(0, packet[: -16 + 12] + b"\x25" + packet[-16 + 13 :])], compression=writer.NONE)
    with aedat4.open_source(path) as source:
        batch = next(packet for packet in source if isinstance(packet, EventBatch))
    assert batch.p.tolist() == [0, 1]


def test_lz4_that_claims_gigabytes_is_refused_before_they_are_asked_for(tmp_path: Path) -> None:
    packet = writer.event_packet(range(50))
    path = aedat4_of(tmp_path, [(0, packet)])
    data = path.read_bytes()
    honest = lz4.frame.compress(packet)
    claim = bytearray(honest)
    claim[6:14] = struct.pack("<Q", 3 << 30)
    claim[14] = _header_checksum(bytes(claim[4:14]))
    path.write_bytes(data.replace(honest, bytes(claim)))
    assert read(path) < 1 << 20


@pytest.mark.parametrize("compression", [writer.LZ4, writer.ZSTD])
def test_few_bytes_that_stand_for_gigabytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: int
) -> None:
    monkeypatch.setattr("drivers.recordings.aedat4.file._MAX_PAYLOAD_BYTES", 4 << 20)
    if compression == writer.LZ4:  # neither bomb says how much it is
        bomb = lz4.frame.compress(bytes(64 << 20), store_size=False)
    else:
        stream = zstandard.ZstdCompressor().compressobj()
        bomb = stream.compress(bytes(64 << 20)) + stream.flush()
    path = tmp_path / "a.aedat4"
    (at,) = writer.write(path, [(0, writer.event_packet([1]))], compression=compression)
    path.write_bytes(path.read_bytes()[:at] + struct.pack("<ii", 0, len(bomb)) + bomb)
    assert read(path) < 16 << 20


@pytest.mark.parametrize("size", [0, 2, 3])
def test_table_without_room_for_its_own_list_of_fields_is_damage(tmp_path: Path, size: int) -> None:
    packet = bytearray(writer.event_packet([1]))
    packet[12:14] = struct.pack("<H", size)  # else its fields were whatever follows
    path = tmp_path / "a.aedat4"
    (at,) = writer.write(path, [(0, bytes(packet))])
    with aedat4.open_source(path) as source, pytest.raises(RecordingDamaged, match="list of fields") as told:
        list(source)
    assert told.value.position == at


def test_header_that_claims_gigabytes_does_not_get_them(tmp_path: Path) -> None:
    path = aedat4_of(tmp_path, [(0, writer.event_packet([1]))])
    data = bytearray(path.read_bytes())
    data[len(writer.MAGIC) : len(writer.MAGIC) + 4] = struct.pack("<I", 0x7FFFFFFF)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with aedat4.open_source(path) as source:
            list(source)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [(-32, 24), (1 << 20, 24)])
def test_sensor_that_cannot_be_is_a_damaged_header(tmp_path: Path, size: tuple[int, int]) -> None:
    writer.write(tmp_path / "a", [(0, writer.event_packet([1]))], size=size)
    with pytest.raises(RecordingDamaged, match="the header is damaged"), aedat4.open_source(tmp_path / "a"):
        pass


def test_frame_of_two_channels_is_named_and_no_error_of_opencv(tmp_path: Path) -> None:
    frame = writer.frame_packet(np.zeros((24, 32, 2), np.uint8), 5, length_us=3)
    path = aedat4_of(tmp_path, [(0, writer.event_packet([1, 9])), (1, frame)])
    with pytest.raises(SourceError, match="OpenCV's type 8 are not read"), aedat4.open_source(path):
        pass
    # Behind frames that are read it is a damaged packet: all before it is delivered.
    good = writer.frame_packet(GRAY, 1, length_us=3)
    path = aedat4_of(tmp_path, [(0, writer.event_packet([1, 9])), *[(1, good)] * 9, (1, frame)])
    packets = []
    with aedat4.open_source(path) as source, pytest.raises(RecordingDamaged, match="OpenCV's type 8"):
        packets.extend(source)
    assert len(packets) >= 10


def _png(width: int, height: int) -> bytes:
    return cv2.imencode(".png", np.zeros((height, width), np.uint8))[1].tobytes()


def test_images_that_claim_more_than_their_bytes_can_hold_are_refused_at_once() -> None:
    png, jpeg = _png(32, 24), cv2.imencode(".jpg", GRAY)[1].tobytes()
    bmp = cv2.imencode(".bmp", GRAY)[1].tobytes()
    frame = jpeg.index(b"\xff\xc0")
    spoilt = (
        png[:16] + struct.pack(">II", 60_000, 60_000) + png[24:],
        png[:33] + struct.pack(">I", 0x7FFFFFFF) + png[37:],  # the length of its data
        jpeg[: frame + 5] + struct.pack(">HH", 60_000, 60_000) + jpeg[frame + 9 :],
        bmp[:18] + struct.pack("<ii", 60_000, -60_000) + bmp[26:],
    )
    for data in spoilt:
        with pytest.raises(ValueError, match="claim"):
            raw_image(data)
    for data in (png, jpeg, bmp):
        assert raw_image(data).shape[:2] == (24, 32)


def test_names_of_images_with_a_null_are_damage(tmp_path: Path) -> None:
    folder = text_files.write_folder(tmp_path / "a")
    (folder / "images.txt").write_bytes(b"1468940032.23 images/frame_0000\0\0\0.png\n")
    with pytest.raises(RecordingDamaged, match=r"line 1 of images.txt"), open_recording(folder):
        pass


@pytest.mark.parametrize("name", ["events.txt", "images.txt", "images/frame_00000000.png"])
def test_archive_whose_members_cannot_be_inflated_is_damage(tmp_path: Path, name: str) -> None:
    path = text_files.zipped(text_files.write_folder(tmp_path / "a"))
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo(name).header_offset
    data = bytearray(path.read_bytes())
    begin = at + 30 + len(name)
    data[begin : begin + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(RecordingDamaged), open_recording(path) as source:
        list(source)


def test_archive_without_its_list_is_damage(tmp_path: Path) -> None:
    path = text_files.zipped(text_files.write_folder(tmp_path / "a"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RecordingDamaged, match="no list of files"):
        open_recording(path)


def test_times_beyond_all_floats_bring_no_warning() -> None:
    assert time_us(np.array([1e308, -1e308, np.nan, 1.0]), "s")[3] == 1_000_000


@pytest.mark.parametrize("error", [RuntimeError("odd"), ZeroDivisionError(), MemoryError(), RecursionError("deep")])
def test_whatever_a_parser_raises_is_a_damaged_recording(tmp_path: Path, error: Exception) -> None:
    class Broken(RecordingFile):
        def _look(self) -> SourceInfo:
            return SourceInfo("broken", Geometry(32, 24))

        def _play(self) -> Iterator[SourcePacket]:
            yield events([1, 2])
            raise error

    packets: list[SourcePacket] = []
    with Broken(tmp_path / "a") as source, pytest.raises(RecordingDamaged, match="behind its packet 1") as told:
        packets.extend(source)
    assert len(packets) == 1
    assert told.value.position == 1


def test_archive_of_an_unknown_version_or_compression_is_a_damaged_recording(tmp_path: Path) -> None:
    path = npz_of(tmp_path)
    data = path.read_bytes()
    central = data.index(b"PK\x01\x02")
    for at, value in ((central + 6, 250), (central + 10, 77)):
        path.write_bytes(data[:at] + struct.pack("<H", value) + data[at + 2 :])
        npz.recognise(data[:4096], path)
        with pytest.raises(RecordingDamaged, match="archive is damaged"), npz.open_source(path):
            pass


def test_array_that_claims_more_than_the_archive_holds_is_refused(tmp_path: Path) -> None:
    path = npz_of(tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["t_us.npy"] = members["t_us.npy"].replace(b"(4,), }          ", b"(99999999999,), }")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(RecordingDamaged, match=r"t_us\.npy claims int64 \(99999999999,\)"), npz.open_source(path):
        pass


def test_polarity_that_is_neither_0_nor_1_is_a_damaged_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingDamaged, match="polarities are 0, 1, 7"), npz.open_source(npz_of(tmp_path, p=7)):
        pass


def npz_of(folder: Path, p: int = 1) -> Path:
    path = folder / "a.npz"
    columns = {name: np.arange(4) for name in ("t_us", "x", "y")} | {"p": np.array([0, 1, 0, p])}
    np.savez(path, frames=np.zeros((2, 24, 32), np.uint8), frame_t_us_estimated=np.array([0, 2]), **columns)
    return path


def _header_checksum(descriptor: bytes) -> int:
    """Find the checksum of a frame's descriptor by trying: the library refuses all others."""
    for value in range(256):
        frame = b"\x04\x22\x4d\x18" + descriptor + bytes([value])
        try:
            lz4.frame.get_frame_info(frame)
        except RuntimeError:
            continue
        return value
    raise AssertionError("no checksum fits")


def test_small_files_take_little_memory(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"few bytes")
    chunk = tmp_path / "a.nire"
    chunk.write_bytes(recording.MAGIC + struct.pack("<4sII", b"HEAD", 1 << 29, 0))
    tracemalloc.start()
    try:
        assert Members.of(tmp_path).read("a.txt") == b"few bytes"
        with pytest.raises(RecordingDamaged, match="ends inside a chunk"), recording.open_source(chunk):
            pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
