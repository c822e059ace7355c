"""Our own format decodes to the same columns for ever, and the golden example is what the contract says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from drivers.recordings.recording.source import RecordingWriter, open_source
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger
from tests.drivers.packets.made import column_digests
from tests.golden import example

EXAMPLE_BYTES = "7a4b81d8d5b763da"
EVERYTHING = {
    "t_us": "d4e083765cef0a58",
    "x": "ccd41129d245b9ee",
    "y": "1f975be322d93e59",
    "p": "ed474fe79eac0cfb",
    "pixels": "f4b3190b67803c75",
    "frames": "80c6cb26fbc2cafd",
    "gaps": "bb9ff97ea401f572",
    "others": "0369db054843029f",
}


def _everything() -> list[SourcePacket]:
    """One packet of each kind, made without any random generator, whose stream could change between versions."""
    n = np.arange(1000)
    batch = EventBatch(
        (1_700_000_000_000_000 + n * 7).astype(np.int64),
        (n * 13 % 346).astype(np.uint16),
        (n * 29 % 260).astype(np.uint16),
        (n // 3 % 2).astype(np.uint8),
        1_700_000_000_010_000,
        received_ns=5,
        epoch=1,
    )
    pixels = (np.arange(260 * 346 * 3) % 251).astype(np.uint8).reshape(260, 346, 3)
    frame = Frame(9, pixels, 1_700_000_000_000_000, 1_700_000_000_009_000, 4.5, "srgb", 6, 1, False)
    imu = ImuBatch(batch.t_us[:2].copy(), np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32))
    return [batch, frame, Gap(1, 2, "lost ∞", 3, 1), Trigger(4, 3, True), imu]


def test_every_kind_of_packet_decodes_to_the_recorded_columns(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "all.nire", Geometry(346, 260, 3)) as writer:
        for packet in _everything():
            writer.write(packet)
    with open_source(tmp_path / "all.nire") as source:
        assert column_digests(source) == EVERYTHING


def test_golden_example_is_written_byte_for_byte_alike(tmp_path: Path) -> None:
    path = example.write_recording(tmp_path / "golden.nire")
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == EXAMPLE_BYTES


def test_golden_example_has_two_frames_and_ten_events(tmp_path: Path) -> None:
    with open_source(example.write_recording(tmp_path / "golden.nire")) as source:
        packets = list(source)
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [(f.exposure_start_us, f.exposure_end_us) for f in frames] == [(0, 20_000), (40_000, 60_000)]
    assert all(f.pixels.shape == (80, 100, 1) for f in frames)
    assert sum(len(packet) for packet in packets if isinstance(packet, EventBatch)) == 10
