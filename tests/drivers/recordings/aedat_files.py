"""Writes small AEDAT 2.0 and 3.1 recordings for tests, word by word."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 346, 260  # of a DAVIS346
Word = tuple[int, int]  # address, time


def davis_event(t_us: int, x: int, y: int, *, brighter: bool = True) -> Word:
    """An event at a column and row counted from the top left."""
    return (HEIGHT - 1 - y) << 22 | (WIDTH - 1 - x) << 12 | brighter << 11, t_us


def davis_edge(t_us: int) -> Word:
    """An edge on the input."""
    return 1 << 10, t_us


def dvs128_event(t_us: int, x: int, y: int, *, brighter: bool = True) -> Word:
    """The same for a DVS128, whose polarity is 0 where it got brighter."""
    return (127 - y) << 8 | (127 - x) << 1 | (not brighter), t_us


def davis_frame(pixels: np.ndarray, reset_us: int, signal_us: int, *, step_us: int = 0) -> list[Word]:
    """Samples of a frame [H, W] of 10 bits: all resets, then all signals; columns `step_us` apart."""
    words: list[Word] = []
    columns, rows = np.repeat(np.arange(WIDTH), HEIGHT), np.tile(np.arange(HEIGHT), WIDTH)
    for kind, level, start_us in ((0, np.full_like(pixels, 1000), reset_us), (1, 1000 - pixels, signal_us)):
        address = 1 << 31 | (HEIGHT - 1 - rows) << 22 | columns << 12 | kind << 10 | level[rows, columns]
        words += zip(address.tolist(), (start_us + columns * step_us).tolist(), strict=True)
    return words


def davis_inertial(t_us: int, values: Sequence[int]) -> list[Word]:
    """Seven words of an IMU sample, 16-bit counts."""
    return [(1 << 31 | n << 28 | (v & 0xFFFF) << 12 | 3 << 10, t_us) for n, v in enumerate(values)]


def write_2(path: Path, words: Iterable[Word], *, chip: str = "eu.seebetter.ini.chips.davis.Davis346B") -> Path:
    """Write AEDAT 2.0; the ranges of the IMU are 4 g and 500 degrees a second."""
    lines = [
        "#!AER-DAT2.0",
        "# This is a raw AE data file - do not edit",
        f"# AEChip: {chip}",
        '#<entry key="ImuGyroScale" value="GyroFullScaleDegPerSec500"/>',
        '#<entry key="ImuAccelScale" value="ImuAccelScaleG4"/>',
    ]
    header = "".join(line + "\r\n" for line in lines).encode()
    path.write_bytes(header + np.array([(a, t & 0xFFFFFFFF) for a, t in words], ">u4").tobytes())
    return path


def packet_3(kind: int, records: Sequence[bytes], *, overflow: int = 0, source: int = 1) -> bytes:
    """A packet of AEDAT 3.1 of records of one size."""
    size = len(records[0])
    head = struct.pack("<hhiiiiii", kind, source, size, 4, overflow, len(records), len(records), len(records))
    return head + b"".join(records)


def event_3(t_us: int, x: int, y: int, *, brighter: bool = True, valid: bool = True) -> bytes:
    """A polarity record."""
    return struct.pack("<Ii", x << 17 | y << 2 | brighter << 1 | valid, t_us)


def frame_3(pixels: np.ndarray, start_us: int, end_us: int) -> bytes:
    """A frame record of uint8 pixels [H, W, C]."""
    height, width, channels = pixels.shape
    head = struct.pack("<9i", channels << 1 | 1, start_us - 5, end_us + 5, start_us, end_us, width, height, 0, 0)
    return head + (pixels.astype("<u2") << 8).tobytes()


def write_3(path: Path, packets: Iterable[bytes], *, source: str = "DAVIS346", format_: str = "RAW") -> Path:
    """Write AEDAT 3.1; several sources are joined by +."""
    lines = [
        "#!AER-DAT3.1",
        f"#Format: {format_}",
        *(f"#Source {n}: {name}" for n, name in enumerate(source.split("+"), 1)),
        "#Start-Time: 2017-01-01 00:00:00",
    ]
    header = "".join(line + "\r\n" for line in [*lines, "#!END-HEADER"]).encode()
    path.write_bytes(header + b"".join(packets))
    return path
