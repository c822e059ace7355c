"""The packets of AEDAT 3.1 (cAER): a header of 28 bytes, then records of one kind and one size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.pixels import in_place
from nire.types import EventBatch, Frame, ImuBatch, SourcePacket, Trigger

HEAD = struct.Struct("<hhiiiiii")
SPECIAL, POLARITY, FRAME, IMU6, IMU9 = range(5)
_EDGES = {2: True, 3: False, 4: True}  # special events of the input: rising, falling, a pulse
_FRAME_BYTES = 36
_GRAVITY_MPS2 = 9.80665
_LEAST_BYTES = {SPECIAL: 8, POLARITY: 8, FRAME: _FRAME_BYTES, IMU6: 36, IMU9: 48}


@dataclass(frozen=True, slots=True)
class PacketHead:
    """What precedes the records: their kind, source, bytes each, overflows of the 31-bit clock, and count."""

    kind: int
    source: int
    size: int
    overflow: int
    count: int

    @classmethod
    def read(cls, data: bytes) -> PacketHead:
        """Decode 28 bytes.

        Raises:
            ValueError: the numbers make no sense.
        """
        kind, source, size, _, overflow, capacity, count, valid = HEAD.unpack(data)
        least = _LEAST_BYTES.get(kind, 1)
        if not (0 <= kind < 1000 and size >= least and 0 <= valid <= count <= capacity and overflow >= 0):
            raise ValueError(f"a packet of kind {kind} has {count} of {capacity} records of {size} bytes")
        return cls(kind, source, size, overflow, count)

    @property
    def body_bytes(self) -> int:
        """Bytes of all records."""
        return self.size * self.count


class PacketDecoder:
    """Decodes the packets of one source in their order; counts the frames."""

    def __init__(self, size: tuple[int, int]) -> None:
        """Begin; `size` is the sensor's width and height, in which a frame may be a region of interest."""
        self._frames = 0
        self._size = size

    def decode(self, head: PacketHead, body: bytes) -> Iterator[SourcePacket]:
        """Decode the records of a packet; kinds that are not known give nothing.

        Raises:
            ValueError: a frame does not fit its record.
        """
        if not head.count:
            return
        records = np.frombuffer(body, np.uint8).reshape(head.count, head.size)
        base_us = head.overflow << 31
        if head.kind == POLARITY:
            yield from _events(records, base_us)
        elif head.kind == FRAME:
            for record in records:
                yield from self._frame(record, base_us)
        elif head.kind == SPECIAL:
            yield from _edges(records, base_us)
        elif head.kind in (IMU6, IMU9):
            yield from _inertial(records, base_us)

    def _frame(self, record: NDArray[np.uint8], base_us: int) -> Iterator[Frame]:
        info, _, _, start, end, width, height, x, y = (int(n) for n in record[:_FRAME_BYTES].view("<i4"))
        channels = info >> 1 & 7
        count = width * height * channels
        self._frames += 1
        if not info & 1:
            return
        if channels not in (1, 3, 4) or width < 1 or height < 1 or min(x, y) < 0 or end < start:
            raise ValueError(f"a frame of {width} x {height} x {channels} at ({x}, {y}), exposed from {start} to {end}")
        if _FRAME_BYTES + 2 * count > len(record):
            raise ValueError(f"a frame of {width} x {height} x {channels} does not fit a record of {len(record)} bytes")
        pixels = record[_FRAME_BYTES : _FRAME_BYTES + 2 * count].view("<u2").reshape(height, width, channels)
        pixels = (pixels[..., :3] >> 8).astype(np.uint8)
        placed = in_place(np.ascontiguousarray(pixels), (x, y), self._size)
        yield Frame(self._frames - 1, placed, base_us + start, base_us + end)


def _column(records: NDArray[np.uint8], at: int, dtype: str) -> NDArray[np.int64]:
    width = np.dtype(dtype).itemsize
    return np.ascontiguousarray(records[:, at : at + width]).view(dtype)[:, 0].astype(np.int64)


def _events(records: NDArray[np.uint8], base_us: int) -> Iterator[EventBatch]:
    word, t_us = _column(records, 0, "<u4"), _column(records, 4, "<i4") + base_us
    good = word & 1 == 1
    word, t_us = word[good], t_us[good]
    if t_us.size:
        x, y = (word >> 17 & 0x7FFF).astype(np.uint16), (word >> 2 & 0x7FFF).astype(np.uint16)
        yield EventBatch(t_us, x, y, (word >> 1 & 1).astype(np.uint8), int(t_us[-1]))


def _edges(records: NDArray[np.uint8], base_us: int) -> Iterator[Trigger]:
    word, t_us = _column(records, 0, "<u4"), _column(records, 4, "<i4") + base_us
    for value, time_us in zip(word, t_us, strict=True):
        rising = _EDGES.get(int(value) >> 1 & 127)
        if value & 1 and rising is not None:
            yield Trigger(int(time_us), 0, rising)


def _inertial(records: NDArray[np.uint8], base_us: int) -> Iterator[ImuBatch]:
    good = _column(records, 0, "<u4") & 1 == 1
    if good.any():
        values = np.ascontiguousarray(records[good, 8:32]).view("<f4").astype(np.float32)
        t_us = _column(records[good], 4, "<i4") + base_us
        yield ImuBatch(t_us, values[:, :3] * np.float32(_GRAVITY_MPS2), np.deg2rad(values[:, 3:]))
