"""HDF5 recordings: DSEC, MVSEC, and the common layouts of events in columns with images beside them."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.packets.ordering import merged
from drivers.recording_file import RecordingFile
from drivers.recordings.hdf5.layout import EventColumns, Images, find_events, find_images, find_size
from drivers.source import SourceInfo, require_sdk
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.install import pip_install
from nire.types import EventBatch, Frame, Geometry, SourcePacket, Transfer

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]

_MAGIC = b"\x89HDF\r\n\x1a\n"
_PIECE = 1 << 18  # events that are read at once
_LONGEST_US = 2.0**62  # a time beyond it is damage, and must still fit into 64 bits
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# What h5py makes of damaged bytes.
_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, OverflowError, IndexError, MemoryError)
_log = logging.getLogger(__name__)


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file is HDF5, and no recording of Metavision, where h5py can look."""
    if not head.startswith(_MAGIC):
        return False
    with contextlib.suppress(ImportError, *_UNREADABLE), importlib.import_module("h5py").File(path, "r") as file:
        return not ("CD" in file and "indexes" in file["CD"])
    return True


def missing_sdk() -> str:
    """What is not installed: "" or how to get it."""
    try:
        importlib.import_module("h5py")
    except ImportError:
        return f"h5py: {pip_install('hdf5')}"
    return ""


def open_source(
    path: str | Path,
    *,
    width: int = 0,
    height: int = 0,
    time_unit: TimeUnit = "auto",
    transfer: Transfer = "linear",
) -> Hdf5Source:
    """Open a recording; it is checked on entry. Memory holds one piece of its events and one image at a time.

    Args:
        path: the file.
        width, height: of the sensor; 0 = as the file says, else as its images or its largest coordinates.
        time_unit: of all times in the file; "auto": whole numbers are microseconds, fractions seconds.
        transfer: of the images' pixels.

    Raises:
        ConfigError: another word for `time_unit` or `transfer`.
    """
    if time_unit not in ("auto", *_SECONDS):
        raise ConfigError(f"hdf5: time_unit = {time_unit!r}, expected auto, s, ms, us or ns")
    if transfer not in ("linear", "srgb"):
        raise ConfigError(f"hdf5: transfer = {transfer!r}, expected 'linear' or 'srgb'")
    return Hdf5Source(Path(path), (width, height), time_unit, transfer)


class Hdf5Source(RecordingFile):
    """The source; the file is open between entering and leaving."""

    def __init__(self, path: Path, size: tuple[int, int], time_unit: TimeUnit, transfer: Transfer) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._size = size
        self._unit: TimeUnit = time_unit
        self._transfer: Transfer = transfer
        self._file: Any = None
        self._events: EventColumns | None = None
        self._images: Images | None = None
        self._offset_us = 0

    def _look(self) -> SourceInfo:
        """Find events and images.

        Raises:
            SdkMissing: h5py is not installed.
            SourceError: no such file, no HDF5, or no layout that is known.
        """
        h5py = require_sdk("h5py", package="h5py", extra="hdf5")
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")  # registers its filters; DSEC needs Blosc
        self.close()
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise SourceError(f"cannot read {self.path} as HDF5: {error}") from error
        try:
            return self._find()
        except _UNREADABLE as error:
            raise RecordingDamaged(f"{self.path} cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._info = None

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield events in pieces, and each image as soon as the events have passed it.

        Raises:
            RecordingDamaged: a part of the file cannot be read; all before was delivered.
            SourceError: a filter that is not installed compresses it.
        """
        _ = self.info
        return merged(self._batches(), self._frames())

    def _find(self) -> SourceInfo:
        events = find_events(self._file)
        self._images = find_images(self._file)
        if events is None:
            raise SourceError(
                f"{self.path} has {', '.join(sorted(self._file)) or 'nothing'}: no layout that is known; "
                "expected columns t, x, y, p in events/, and images beside them"
            )
        self._events = events
        offset = self._file.get("t_offset")
        self._offset_us = int(np.asarray(offset).reshape(-1)[0]) if offset is not None else 0
        first = next(self._frames(), None)
        size = self._choose_size(events, first)
        span_us = None
        if events.count:
            ends = [self._read(events.columns[0], slice(at, at + 1), at) for at in (0, events.count - 1)]
            span_us = int(self._time_us(ends[1])[0] - self._time_us(ends[0])[0])
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(*size, channels=1 if first is None else first.pixels.shape[2]),
            has_frames=first is not None,
            duration_us=span_us,
        )

    def _choose_size(self, events: EventColumns, first: Frame | None) -> tuple[int, int]:
        if all(self._size):
            return self._size
        said = find_size(self._file, events)
        if said is not None:
            return said
        if first is not None:
            return first.pixels.shape[1], first.pixels.shape[0]
        _log.warning("%s does not say the size of the sensor: taken from its largest coordinates", self.path)
        size = [1, 1]
        for start in range(0, events.count, _PIECE):
            for axis in range(2):
                column = self._read(events.columns[1 + axis], slice(start, start + _PIECE), start)
                size[axis] = max(size[axis], int(column.max()) + 1)
        return size[0], size[1]

    def _batches(self) -> Iterator[EventBatch]:
        assert self._events is not None  # entered
        for start in range(0, self._events.count, _PIECE):
            t, x, y, p = (self._read(column, slice(start, start + _PIECE), start) for column in self._events.columns)
            t_us = self._time_us(t) + self._offset_us
            yield EventBatch(t_us, _coordinate(x), _coordinate(y), (p > 0).astype(np.uint8), int(t_us.max()))

    def _read(self, column: Any, part: slice, start: int) -> NDArray[Any]:
        try:
            values = np.asarray(column(part))
            if values.ndim != 1 or values.dtype.kind not in "biuf":
                raise ValueError(f"a column of {values.dtype} {values.shape}")
            return values
        except _UNREADABLE as error:
            if any(words in str(error) for words in ("not registered", "can't open directory")):
                raise SourceError(
                    f"{self.path} is compressed by a filter that is not installed ({error}). "
                    f"To fix it: {pip_install('hdf5')}"
                ) from error
            raise RecordingDamaged(
                f"{self.path} cannot be read from event {start} on: {error}; all before was delivered", start
            ) from error

    def _frames(self) -> Iterator[Frame]:
        images = self._images
        for n in range(images.count if images else 0):
            assert images is not None  # counted
            try:
                pixels, (time, exposure) = _pixels(np.asarray(images.pixels(n))), images.times(n)
                start_us, end_us = (int(self._time_us(np.asarray(t).reshape(1))[0]) for t in (exposure or (time, time)))
            except _UNREADABLE as error:
                raise RecordingDamaged(f"{self.path}: image {n} cannot be read: {error}", n) from error
            known = exposure is not None and start_us <= end_us
            yield Frame(n, pixels, start_us, max(start_us, end_us), transfer=self._transfer, exposure_known=known)

    def _time_us(self, times: NDArray[Any]) -> NDArray[np.int64]:
        unit = self._unit
        if unit == "auto":
            unit = "s" if times.dtype.kind == "f" else "us"
        if times.dtype.kind != "f" and unit in ("us", "ns"):
            return times.astype(np.int64) // (1 if unit == "us" else 1000)
        t_us = np.nan_to_num(times.astype(np.float64) * (_SECONDS[unit] * 1e6), nan=0.0)
        return np.rint(np.clip(t_us, -_LONGEST_US, _LONGEST_US)).astype(np.int64)


def _coordinate(column: NDArray[Any]) -> NDArray[np.uint16]:
    """What does not fit a coordinate becomes one beyond any sensor: cleaning drops and counts it."""
    whole = np.nan_to_num(np.clip(column, -1, 65535) if column.dtype.kind == "f" else column, nan=-1).astype(np.int64)
    return np.where((whole < 0) | (whole > 65535), 65535, whole).astype(np.uint16)


def _pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 [H, W, C] of an image [H, W], [H, W, C] or [C, H, W]; fractions of 1 and 16 bits are scaled."""
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3, 4):
        image = np.moveaxis(image, 0, 2)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype.kind == "f":
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"it is {image.dtype} {image.shape}, expected [H, W] or [H, W, C] of 8 bits")
    if image.ndim == 2:
        return np.ascontiguousarray(image[..., None])
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR) if image.shape[2] == 4 else np.ascontiguousarray(image))
