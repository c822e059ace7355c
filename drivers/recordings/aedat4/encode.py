"""Packets to the flatbuffers of AEDAT4, and nothing else: no files, no compression.

Every buffer is size-prefixed and laid out as iniVation's own writer does it: positions are from the first byte of the
prefix, 64-bit fields lie at multiples of 8, and the rows of a vector of tables share one vtable.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.recordings.aedat4.file import EVENT
from nire.types import EventBatch, Frame, ImuBatch, Trigger

# (channel, rising) -> trigger type of the format: 1, 2 input; 4, 5 generator; 6, 7 read-out; 8, 9 exposure of the APS.
TRIGGERS = {
    (0, True): 1,
    (0, False): 2,
    (1, True): 4,
    (1, False): 5,
    (2, True): 6,
    (2, False): 7,
    (3, True): 8,
    (3, False): 9,
}
TABLE_POSITION_AT = 40
"""Byte of a header at which the position of the data table is written when it is known."""

_GRAVITY_MPS2 = 9.80665
# Size, root table, identifier, padding, vtable (its bytes, the table's, place of the vector), table, vector, count.
_ONE_VECTOR = struct.Struct("<II4sH3HiII")
# The same with compression, place of the data table and a string: the table begins at byte 28.
_HEADER = struct.Struct("<II4s6x5HiiIq4xI")
# Fields 0 .. 12 of a frame in its vtable: t, exposure start and end, type, width, height, pixels, length, source.
_FRAME_PLACES = (16, 0, 0, 24, 32, 6, 8, 10, 0, 0, 12, 40, 7)
_FRAME = struct.Struct("<II4s6x15Hi2xBBhhIqqqq4xI")
_SENSOR = 1
_IMU = np.dtype(
    {
        "names": ["table", "a", "g", "t"],
        "formats": ["<i4", ("<f4", 3), ("<f4", 3), "<i8"],
        "offsets": [0, 4, 16, 28],
        "itemsize": 40,
    }
)
_TRIGGER = np.dtype({"names": ["table", "type", "t"], "formats": ["<i4", "u1", "<i8"], "offsets": [0, 7, 8]})
_PLACE = np.dtype(
    {
        "names": ["table", "stream", "size", "at", "count", "first", "last"],
        "formats": ["<i4", "<i4", "<i4", "<i8", "<i8", "<i8", "<i8"],
        "offsets": [0, 4, 8, 12, 20, 28, 36],
        "itemsize": 48,
    }
)


def encode_header(compression: int, xml: str) -> bytes:
    """The file's header (IOHE); the position of the data table, at `TABLE_POSITION_AT`, says that there is none."""
    text = xml.encode()
    size = _HEADER.size + len(text) + 1
    padding = -size % 8
    head = _HEADER.pack(
        size + padding - 4, 24, b"IOHE", 10, 24, 4, 12, 8, 10, compression, 16, -1, len(text)
    )  # fmt: skip
    return head + text + bytes(1 + padding)


def encode_events(batches: Sequence[EventBatch]) -> tuple[bytes, NDArray[np.void]]:
    """Events of several batches as one packet (EVTS): its first bytes, and the events that follow them."""
    count = sum(len(batch) for batch in batches)
    events = np.zeros(count, EVENT)
    start = 0
    for batch in batches:
        part = events[start : start + len(batch)]
        part["t"], part["x"], part["y"], part["p"] = batch.t_us, batch.x, batch.y, batch.p
        start += len(batch)
    head = _ONE_VECTOR.pack(_ONE_VECTOR.size - 4 + events.nbytes, 16, b"EVTS", 0, 6, 8, 4, 6, 4, count)
    return head, events


def encode_frame(frame: Frame) -> bytes:
    """A frame (FRME): start, end and length of its exposure, all of them 0 where it is unknown; colours as BGR."""
    height, width, channels = frame.pixels.shape
    pixels = np.ascontiguousarray(frame.pixels)
    if channels == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8)
    start_us, end_us = frame.exposure_start_us, frame.exposure_end_us
    exposure = (start_us, end_us, end_us - start_us) if frame.exposure_known else (0, 0, 0)
    padding = -(_FRAME.size + pixels.size) % 8
    head = _FRAME.pack(
        _FRAME.size - 4 + pixels.size + padding,
        44,
        b"FRME",
        30,
        52,
        *_FRAME_PLACES,
        30,
        (channels - 1) << 3,
        _SENSOR,
        width,
        height,
        40,
        start_us,
        *exposure,
        pixels.size,
    )
    return head + pixels.tobytes() + bytes(padding)


def encode_imu(batch: ImuBatch) -> bytes:
    """Inertial samples (IMUS), in g and degrees a second; neither temperature nor magnetic field."""
    rows = np.zeros(len(batch.t_us), _IMU)
    rows["t"] = batch.t_us
    rows["a"] = batch.accelerometer_mps2 / np.float32(_GRAVITY_MPS2)
    rows["g"] = np.rad2deg(batch.gyroscope_radps)
    return _tables(b"IMUS", rows, (28, 0, 4, 8, 12, 16, 20, 24), inline_bytes=36, remainder=4)


def encode_triggers(triggers: Sequence[Trigger]) -> bytes:
    """Edges (TRIG); those of a channel that the format does not know become edges of the input."""
    rows = np.zeros(len(triggers), _TRIGGER)
    rows["t"] = [trigger.t_us for trigger in triggers]
    rows["type"] = [TRIGGERS.get((t.channel, t.rising), TRIGGERS[0, t.rising]) for t in triggers]
    return _tables(b"TRIG", rows, (8, 7), inline_bytes=16, remainder=0)


def encode_places(places: NDArray[np.int64]) -> bytes:
    """The data table (FTAB): int64 [N, 6], stream, bytes, position, elements, first and last time of each packet."""
    rows = np.zeros(len(places), _PLACE)
    for column, name in enumerate(("stream", "size", "at", "count", "first", "last")):
        rows[name] = places[:, column]
    return _tables(b"FTAB", rows, (12, 4, 20, 28, 36), inline_bytes=44, remainder=4)


def _tables(
    identifier: bytes, rows: NDArray[np.void], places: Sequence[int], *, inline_bytes: int, remainder: int
) -> bytes:
    """A vector of tables: `places` are the fields' bytes in a row, rows begin at `remainder` modulo 8."""
    vtable = struct.pack(f"<{2 + len(places)}H", 4 + 2 * len(places), inline_bytes, *places)
    vtable_at = _ONE_VECTOR.size + 4 * len(rows)
    first = vtable_at + len(vtable)
    first += (remainder - first) % 8
    at = first + rows.itemsize * np.arange(len(rows), dtype=np.int64)
    rows["table"] = at - vtable_at
    offsets = (at - _ONE_VECTOR.size - 4 * np.arange(len(rows))).astype("<u4")
    body = offsets.tobytes() + vtable + bytes(first - vtable_at - len(vtable)) + rows.tobytes()
    body += bytes(-(_ONE_VECTOR.size + len(body)) % 8)
    return _ONE_VECTOR.pack(_ONE_VECTOR.size - 4 + len(body), 16, identifier, 0, 6, 8, 4, 6, 4, len(rows)) + body
