"""The words of AEDAT 2.0: 32-bit addresses of DVS128 and DAVIS chips become events, frames, edges and IMU samples.

jAER draws with the origin at the lower left and mirrors the columns of events, not those of frames; so does this.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Frame, ImuBatch, SourcePacket, Trigger

_RESET, _SIGNAL, _IMU = 0, 1, 3
_IMU_WORDS = 7  # acceleration x y z, temperature, rotation x y z: one after the other, of one time
_ADC_BITS = 10
_GRAVITY_MPS2 = 9.80665

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chip:
    """What is known of the sensor: size in pixels; a DAVIS has frames, `imu_scale` is (g, degrees a second) a count."""

    width: int
    height: int
    is_davis: bool
    imu_scale: tuple[float, float] | None = None


class WordDecoder:
    """Decodes words in their order; remembers what a frame or a sample lacks at the end of a piece."""

    def __init__(self, chip: Chip, shutter: Literal["global", "rolling"]) -> None:
        """Begin.

        Args:
            chip: the sensor.
            shutter: "global": exposure begins with the last reset before the read-out, "rolling": with the first one.
        """
        self._chip = chip
        self._shutter = shutter
        self._imu = np.empty((0, 2), np.int64)
        self._frames = 0
        self._said = False
        self._begin_frame()

    def feed(self, address: NDArray[np.uint32], t_us: NDArray[np.int64]) -> Iterator[SourcePacket]:
        """Decode a piece: uint32 [N] and int64 [N], sorted in time; events first, then what the piece completed."""
        if not t_us.size:
            return
        if not self._chip.is_davis:
            yield from self._dvs128(address, t_us)
            return
        is_event = address >> 31 == 0
        is_edge = is_event & (address >> 10 & 1 == 1)
        chosen = is_event & ~is_edge
        words = address[chosen]
        x = self._chip.width - 1 - (words >> 12 & 1023).astype(np.int64)
        y = self._chip.height - 1 - (words >> 22 & 511).astype(np.int64)
        yield self._batch(t_us[chosen], x, y, (words >> 11 & 1).astype(np.uint8), int(t_us[-1]))
        yield from (Trigger(int(t), 0, True) for t in t_us[is_edge])
        if is_event.all():
            return
        others, times = address[~is_event], t_us[~is_event]
        kind = others >> 10 & 3
        yield from self._inertial(others[kind == _IMU], times[kind == _IMU])
        samples = kind <= _SIGNAL
        yield from self._samples(others[samples], times[samples])

    def _dvs128(self, address: NDArray[np.uint32], t_us: NDArray[np.int64]) -> Iterator[SourcePacket]:
        is_edge = address >> 15 & 1 == 1
        words = address[~is_edge]
        x = 127 - (words >> 1 & 127).astype(np.int64)
        y = 127 - (words >> 8 & 127).astype(np.int64)
        # The chip's own polarity: 0 is brighter.
        yield self._batch(t_us[~is_edge], x, y, (1 - (words & 1)).astype(np.uint8), int(t_us[-1]))
        yield from (Trigger(int(t), 0, True) for t in t_us[is_edge])

    @staticmethod
    def _batch(
        t_us: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], p: NDArray[np.uint8], watermark_us: int
    ) -> EventBatch:
        """Columns beyond the chip come out as numbers beyond the sensor: cleaning drops and counts them."""
        x, y = np.where(x < 0, 65535, x), np.where(y < 0, 65535, y)
        return EventBatch(t_us, x.astype(np.uint16), y.astype(np.uint16), p, watermark_us)

    def _inertial(self, words: NDArray[np.uint32], t_us: NDArray[np.int64]) -> Iterator[ImuBatch]:
        scale = self._chip.imu_scale
        if scale is None or not words.size:
            return
        rows = np.concatenate([self._imu, np.stack([words.astype(np.int64), t_us], axis=1)])
        first = np.flatnonzero(rows[:, 0] >> 28 & 7 == 0)
        first = first[first + _IMU_WORDS <= len(rows)]
        whole = [rows[first + n] for n in range(_IMU_WORDS)]
        order = np.all([part[:, 0] >> 28 & 7 == n for n, part in enumerate(whole)], axis=0)
        values = np.stack([(part[order, 0] >> 12 & 0xFFFF).astype(np.int16) for part in whole], axis=1)
        self._imu = rows[first[-1] + _IMU_WORDS :] if first.size else rows[-_IMU_WORDS:]
        if len(values):
            accelerometer = values[:, :3].astype(np.float32) * np.float32(scale[0] * _GRAVITY_MPS2)
            gyroscope = np.deg2rad(values[:, 4:].astype(np.float32) * np.float32(scale[1]))
            yield ImuBatch(whole[0][order, 1].copy(), accelerometer, gyroscope)

    def _samples(self, words: NDArray[np.uint32], t_us: NDArray[np.int64]) -> Iterator[Frame]:
        """Take the converter's samples, in runs of one kind."""
        if not words.size:
            return
        kind = words >> 10 & 3
        place = self._places(words)
        edges = [0, *(np.flatnonzero(np.diff(kind)) + 1), len(words)]
        for start, stop in itertools.pairwise(edges):
            run = slice(start, stop)
            level = (words[run] & ((1 << _ADC_BITS) - 1)).astype(np.int32)
            if kind[start] == _RESET:
                self._take_reset(place[run], level, t_us[run])
            else:
                yield from self._take_signal(place[run], level, t_us[run])

    def _places(self, words: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Index of each sample's pixel in the image; those beyond the chip fall on its last pixel."""
        x = np.minimum(words >> 12 & 1023, self._chip.width - 1).astype(np.int64)
        y = np.minimum(words >> 22 & 511, self._chip.height - 1).astype(np.int64)
        return (self._chip.height - 1 - y) * self._chip.width + x

    def _begin_frame(self) -> None:
        size = self._chip.width * self._chip.height
        self._reset = np.full(size, -1, np.int32)
        self._signal = np.full(size, -1, np.int32)
        self._read = 0
        self._first_reset_us = self._last_reset_us = self._first_signal_us = 0

    def _take_reset(self, place: NDArray[np.int64], level: NDArray[np.int32], t_us: NDArray[np.int64]) -> None:
        if (self._reset[place] >= 0).any():  # the next frame, although this one never became whole
            if not self._said:
                _log.warning("samples of a frame are missing: it is left out, its index stays a hole")
                self._said = True
            self._frames += 1
            self._begin_frame()
        if (self._reset < 0).all():
            self._first_reset_us = int(t_us[0])
        if not self._read:
            self._last_reset_us = int(t_us[-1])
        self._reset[place] = level

    def _take_signal(
        self, place: NDArray[np.int64], level: NDArray[np.int32], t_us: NDArray[np.int64]
    ) -> Iterator[Frame]:
        if (self._reset < 0).all():
            return  # the file begins in the middle of a frame
        if not self._read:
            self._first_signal_us = int(t_us[0])
        self._read += len(place)
        self._signal[place] = level
        if (self._signal < 0).any() or (self._reset < 0).any():
            return
        start_us = self._last_reset_us if self._shutter == "global" else self._first_reset_us
        # Light lowers the level; what lies between reset and read-out is proportional to it.
        pixels = np.clip((self._reset - self._signal) >> (_ADC_BITS - 8), 0, 255).astype(np.uint8)
        shape = (self._chip.height, self._chip.width, 1)
        yield Frame(self._frames, pixels.reshape(shape), start_us, max(start_us, self._first_signal_us))
        self._frames += 1
        self._begin_frame()
