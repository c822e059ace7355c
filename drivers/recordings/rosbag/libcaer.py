"""The event packets of iniVation's driver for ROS 2: encodings `libcaer` (words of libcaer) and `libcaer_cmp` (packed).

Both count from the packet's base time, which counts from 1970: the high part of the sensor's clock is in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.recordings.rosbag.messages import Columns, EventPacket

_TURN_US = 1 << 31
_WORD = np.dtype([("data", "<u4"), ("t", "<i4")])
_TIME_HIGH, _TIME_LOW, _X, _Y, _BASE_Y, _VECTOR = range(6)
_ROWS = 8  # that one word of a vector stands for


def libcaer_events(packet: EventPacket) -> Columns:
    """Decode the encoding `libcaer`: 8 bytes an event, whose clock of 31 bits may turn over within the packet.

    Raises:
        ValueError: the bytes are no whole words.
    """
    words = np.frombuffer(packet.events, _WORD)
    turns = np.cumsum(np.diff(words["t"].astype(np.int64), prepend=0) < 0)
    t_us = packet.time_base_ns // 1000 + words["t"].astype(np.int64) + turns * _TURN_US
    data = words["data"]
    x, y = (data >> 17 & 0x7FFF).astype(np.uint16), (data >> 2 & 0x7FFF).astype(np.uint16)
    return Columns(t_us, x, y, (data >> 1 & 1).astype(np.uint8), packet.width, packet.height)


class CompressedDecoder:
    """Decodes the encoding `libcaer_cmp`: words of 16 bits set time, column or rows. Addresses outlive a packet."""

    def __init__(self) -> None:
        """Begin before the first packet."""
        self._x = 0
        self._base = 0  # polarity in bit 11, row below, as a word has them

    def decode(self, packet: EventPacket) -> Columns:
        """Decode a packet.

        Raises:
            ValueError: the bytes are no whole words, or a word is of no known type.
        """
        words = np.frombuffer(packet.events, "<u2").astype(np.int64)
        kind, value = words >> 12, words & 0xFFF
        if kind.size and kind.max() > _VECTOR:
            at = int(np.argmax(kind > _VECTOR))
            raise ValueError(
                f"word {at} of a packet of libcaer_cmp has the type {kind[at]}, expected at most {_VECTOR}"
            )
        # Times begin anew with each packet, addresses do not.
        t_us = packet.time_base_ns // 1000 + (
            _latest(kind == _TIME_HIGH, value, 0) << 12 | _latest(kind == _TIME_LOW, value, 0)
        )
        x = _latest(kind == _X, value, self._x) & 0x7FF
        base = _latest(kind == _BASE_Y, value, self._base)
        is_vector, is_row = kind == _VECTOR, kind == _Y
        passed = np.cumsum(is_vector)
        row = (base & 0x7FF) + _ROWS * (passed - is_vector - _latest(kind == _BASE_Y, passed, 0))
        if words.size:
            self._x = int(x[-1])
            self._base = int(base[-1]) & 0x800 | (int(row[-1]) + _ROWS * int(is_vector[-1])) & 0x7FF
        bits = np.where(is_vector, value & 0xFF, is_row)[:, None] >> np.arange(_ROWS) & 1
        word, bit = np.nonzero(bits)
        polarity = np.where(is_row, value >> 11, base >> 11) & 1
        y = np.where(is_row, value & 0x7FF, row)[word] + bit
        return Columns(
            t_us[word],
            x[word].astype(np.uint16),
            y.astype(np.uint16),
            polarity[word].astype(np.uint8),
            packet.width,
            packet.height,
        )


def _latest(marks: NDArray[np.bool_], values: NDArray[np.int64], before: int) -> NDArray[np.int64]:
    """For each word, the value of the newest marked one up to it; `before` where there is none yet."""
    at = np.maximum.accumulate(np.where(marks, np.arange(marks.size), -1)) if marks.size else np.empty(0, np.int64)
    return np.where(at < 0, before, values[at]) if marks.size else values
