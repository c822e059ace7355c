"""HDF5 recordings: DSEC, MVSEC, and the common layouts of events in columns with images beside them."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from drivers.event_columns import BadEvent, events_of
from drivers.hdf5_kind import MAGIC, is_metavision
from drivers.packets.clock import LATEST_US
from drivers.packets.ordering import merged, sorted_within
from drivers.pixels import Colours, Depth, as_rgb, check_bits, colours_in_words
from drivers.recording_file import RecordingFile
from drivers.recordings.hdf5.layout import EventColumns, Images, find_events, find_images, find_size, find_untimed
from drivers.sense import (
    GUESSED_SIZE,
    LARGEST_PX,
    LEAST_EXTENT,
    Polarity,
    Times,
    TimeUnit,
    check_choice,
    check_exposures,
    check_extent,
    check_meaning,
    coordinate,
    find_order,
    find_polarity,
    find_reach,
    find_unit,
    time_us,
    whole_rows,
)
from drivers.settings import checked_size
from drivers.source import Found, SourceInfo, Stream, require_sdk
from nire.errors import RecordingDamaged, SourceError
from nire.install import pip_install
from nire.types import EventBatch, Frame, Geometry, SourcePacket, Transfer

READS_APART = True
"""The library in C that reads these files can crash over damaged bytes."""
_PIECE = 1 << 18  # events that are read at once
_JUDGED, _JUDGED_FRAMES, _JUDGED_IMAGES = 1 << 16, 1 << 10, 8  # by which units, columns and depth are told
# What h5py makes of damaged bytes.
_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, OverflowError, IndexError, MemoryError)
_log = logging.getLogger(__name__)


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file is HDF5, and no recording of Metavision, where h5py can look."""
    return head.startswith(MAGIC) and not is_metavision(head, path)


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
    columns: str = "",
    time_unit: TimeUnit = "auto",
    polarity: Polarity = "auto",
    sort_us: int = -1,
    colours: Colours = "auto",
    bits: int = 0,
    transfer: Transfer = "linear",
) -> Hdf5Source:
    """Open a recording; it is checked on entry. Memory holds one piece of its events and one image at a time.

    Args:
        path: the file.
        width, height: of the sensor; 0 = as the file says, else as its images or its largest coordinates.
        columns: order of the columns of a matrix of events, e.g. "xytp"; "" = as fits.
        time_unit: of all times in the file; "auto" = as the file says, else fractions are seconds and whole numbers
            microseconds, where that fits.
        polarity: "auto" = 0 and 1, or -1 and 1; "positive" = above 0 is brighter; "inverted" = any other is.
        sort_us: within which to sort events by time, us; -1 = as far as the first ones need it, up to a second.
        colours: "auto" = as the file says, else RGB.
        bits: that pixels of 16 bits use, 8 to 16; 0 = by the largest value.
        transfer: of the images' pixels.

    Raises:
        ConfigError: a setting has no meaning.
    """
    check_meaning("hdf5", columns, time_unit, polarity, sort_us)
    check_choice("hdf5", "colours", colours, get_args(Colours))
    check_choice("hdf5", "transfer", transfer, get_args(Transfer))
    check_bits("hdf5", bits)
    meaning = _Meaning(columns, time_unit, polarity, sort_us, colours, bits, transfer)
    return Hdf5Source(Path(path), checked_size("hdf5", width, height) or (0, 0), meaning)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the user says the numbers mean."""

    columns: str
    unit: TimeUnit
    polarity: Polarity
    sort_us: int
    colours: Colours
    bits: int
    transfer: Transfer


class Hdf5Source(RecordingFile):
    """The source; the file is open between entering and leaving."""

    def __init__(self, path: Path, size: tuple[int, int], meaning: _Meaning) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._size = size
        self._meaning = meaning
        self._depth = Depth(meaning.bits)
        self._colours: Literal["rgb", "bgr"] = "rgb"
        self._file: Any = None
        self._events: EventColumns | None = None
        self._images: Images | None = None
        self._order = "txyp"
        self._units = ("us", "us")
        self._reach_us = 0
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
        except (FileNotFoundError, PermissionError) as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        except OSError as error:
            raise RecordingDamaged(f"cannot read {self.path} as HDF5: {error}", 0) from error
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

    def _play(self) -> Iterator[SourcePacket]:
        """Yield events in pieces, and each image as soon as the events have passed it.

        Raises:
            RecordingDamaged: a part of the file cannot be read; all before was delivered.
            SourceError: a filter that is not installed compresses it.
        """
        return merged(sorted_within(self._batches(), self._reach_us), self._frames())

    def _find(self) -> SourceInfo:
        events = find_events(self._file)
        images = find_images(self._file)
        self._images = images if images is not None and images.count else None
        if events is None:
            raise SourceError(
                f"{self.path} has {', '.join(sorted(self._file)) or 'nothing'}: no layout that is known; "
                "expected columns t, x, y, p in events/, and images beside them"
            )
        self._events = events
        found = [*self._judge_events(events), *self._judge_images()]
        self._offset_us = self._read_offset()
        first = next(self._frames(), None)
        size, is_guessed = self._choose_size(events, first)
        if is_guessed:
            found.append(Found("size", f"{size[0]} x {size[1]}", GUESSED_SIZE))
        span_us = None
        if events.count:
            first_of_all = self._read(events.columns[self._order.index("t")], slice(0, 1), 0)
            ends = np.array([first_of_all[0], self._last_of(events)], np.float64)
            ends_us = time_us(ends, self._units[0])
            span_us = int(np.diff(ends_us)[0]) if np.abs(ends_us).max() <= LATEST_US else None
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(*size, channels=1 if first is None else first.pixels.shape[2]),
            has_frames=first is not None,
            duration_us=span_us,
            streams=tuple(self._streams(events)),
            found=tuple(found),
        )

    def _read_offset(self) -> int:
        """What is added to all times of events, us; the file has it in their unit.

        Raises:
            SourceError: it is no time in that unit.
        """
        offset, unit = self._raw_offset(), self._units[0]
        offset_us = int(time_us(offset, unit)[0])
        if abs(offset_us) > LATEST_US:
            raise SourceError(
                f"{self.path}: t_offset is {offset[0]}, which is no time in {unit}, the unit of the events' times. To "
                "fix it, write it in that unit, or set source.settings.time_unit"
            )
        return offset_us

    def _raw_offset(self) -> NDArray[Any]:
        """`t_offset` of DSEC, [1] in the unit of the events' times; 0 where there is none."""
        offset = self._file.get("t_offset")
        return np.zeros(1, np.int64) if offset is None else np.asarray(offset).reshape(-1)[:1]

    def _streams(self, events: EventColumns) -> Iterator[Stream]:
        yield Stream(events.where, "events", True)
        if self._images is not None:
            yield Stream(self._images.where, "images", True)
        elif untimed := find_untimed(self._file):
            _log.warning("%s: the images in %s have no times and are not read", self.path, untimed)
            yield Stream(untimed, "images without times", False)

    def _judge_events(self, events: EventColumns) -> Iterator[Found]:
        """Tell the order of columns and the units of times; remember them."""
        pieces = self._first_of(events)
        columns = whole_rows(np.stack([piece.astype(np.float64) for piece in pieces]), path=self.path)
        order = Found("columns", events.order, "")
        if not events.order:
            order = find_order(columns, self._meaning.columns, path=self.path, usual=events.usual)
            yield order
        self._order = order.value
        t, x, y, p = (columns[self._order.index(letter)] for letter in "txyp")
        polarity = find_polarity(p, self._meaning.polarity, path=self.path)
        is_whole = True if pieces[self._order.index("t")].dtype.kind in "iu" else None
        last = self._last_of(events)
        frames = self._frame_times()
        times = Times(
            t,
            np.empty(0) if self._raw_offset().any() else frames[:, 0],
            last=last,
            count=events.count,
            pixels=int(min(x.max() + 1, LARGEST_PX) * min(y.max() + 1, LARGEST_PX)) if x.size else 1,
            is_whole=is_whole,
        )
        said = events.unit or ("us" if "ms_to_idx" in self._file else "")
        unit = find_unit(times, self._meaning.unit, path=self.path, said=said)
        yield unit
        yield polarity
        self._reach_us, sorting = find_reach(time_us(t, unit.value), self._meaning.sort_us, path=self.path)
        yield from sorting
        frame_unit = unit
        if len(frames):
            frame_times = Times(np.empty(0), frames[:, 0])
            frame_unit = find_unit(frame_times, self._meaning.unit, path=self.path, usual=unit.value)
            yield replace(frame_unit, what="unit of images' times")
        self._units = unit.value, frame_unit.value
        check_exposures(*(time_us(frames[:, n], frame_unit.value) for n in (1, 2)), path=self.path)

    def _first_of(self, events: EventColumns) -> list[NDArray[Any]]:
        """The columns of the first events, fewer where damage follows."""
        for rows in (_JUDGED, _JUDGED >> 3, _JUDGED >> 6):
            with contextlib.suppress(RecordingDamaged):
                return [self._read(column, slice(0, min(rows, events.count)), 0) for column in events.columns]
        return [self._read(column, slice(0, min(1, events.count)), 0) for column in events.columns]

    def _last_of(self, events: EventColumns) -> float | None:
        """The time of the last event; None where it cannot be read."""
        with contextlib.suppress(RecordingDamaged, IndexError):
            rows = slice(max(0, events.count - 1), events.count)
            return float(self._read(events.columns[self._order.index("t")], rows, 0)[0])
        return None

    def _frame_times(self) -> NDArray[np.float64]:
        """Time, start and end of the first images, float64 [M, 3], in the file's unit."""
        rows = []
        for n in range(min(self._images.count, _JUDGED_FRAMES) if self._images else 0):
            assert self._images is not None  # counted
            time, exposure = self._images.times(n)
            rows.append([float(np.asarray(value).reshape(-1)[0]) for value in (time, *(exposure or (time, time)))])
        return np.array(rows, np.float64).reshape(-1, 3)

    def _judge_images(self) -> Iterator[Found]:
        """Tell the depth of pixels and the order of colours; remember them."""
        images = self._images
        if images is None:
            return
        for n in range(0, images.count, max(1, images.count // _JUDGED_IMAGES)):
            pixels = self._pixels_of(images, n)
            if pixels.dtype == np.uint8:
                break
            self._depth.see(pixels)
        self._depth.decide(path=self.path)
        yield from self._depth.found
        if _channels_last(self._pixels_of(images, 0)).ndim == 3:
            said, wanted = colours_in_words(images.words), self._meaning.colours
            self._colours = wanted if wanted != "auto" else said or "rgb"
            why = "set by colours" if wanted != "auto" else "the file says so" if said else "not said, the usual order"
            yield Found("colours", self._colours, why)

    def _choose_size(self, events: EventColumns, first: Frame | None) -> tuple[tuple[int, int], bool]:
        """Width and height, and whether they are only those of the largest coordinates."""
        if all(self._size):
            return self._size, False
        said = find_size(self._file, events)
        if said is not None:
            return said, False
        if first is not None:
            size = first.pixels.shape[1], first.pixels.shape[0]
            check_extent(*self._extent(events, size), path=self.path)
            return size, False
        _log.warning("%s does not say the size of the sensor: taken from its largest coordinates", self.path)
        return self._extent(events)[0], True

    def _extent(
        self, events: EventColumns, enough: tuple[int, int] | None = None
    ) -> tuple[tuple[int, int], tuple[int, int], int]:
        """Columns and rows that events use, `enough` itself, and the events until one of its sides was nearly used."""
        used, count = [1, 1], 0
        for start in range(0, events.count, _PIECE):
            for axis in range(2):
                column = self._read(events.columns[self._order.index("xy"[axis])], slice(start, start + _PIECE), start)
                used[axis] = max(used[axis], int(coordinate(column).max()) + 1)
            count = min(events.count, start + _PIECE)
            if enough and any(side >= LEAST_EXTENT * whole for side, whole in zip(used, enough, strict=True)):
                break
        return (used[0], used[1]), enough or (used[0], used[1]), count

    def _batches(self) -> Iterator[EventBatch]:
        assert self._events is not None  # entered
        for start in range(0, self._events.count, _PIECE):
            pieces = [self._read(column, slice(start, start + _PIECE), start) for column in self._events.columns]
            t, x, y, p = (pieces[self._order.index(letter)] for letter in "txyp")
            rows, polarity = (t, coordinate(x), coordinate(y), p), self._meaning.polarity
            try:
                yield from events_of(rows, unit=self._units[0], polarity=polarity, offset_us=self._offset_us)
            except BadEvent as error:
                at = start + error.index
                raise RecordingDamaged(f"{self.path}: event {at}: {error}; all before was delivered", at) from error

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
            pixels = self._pixels_of(images, n)
            try:
                time, exposure = images.times(n)
                known = exposure is not None and bool(exposure[0] <= exposure[1])
                times = [np.asarray(value).reshape(1) for value in (exposure if known and exposure else (time, time))]
                start_us, end_us = (int(time_us(value, self._units[1])[0]) for value in times)
                pixels = as_rgb(_channels_last(self._depth.to_8(pixels, path=self.path)), self._colours)
            except _UNREADABLE as error:
                raise RecordingDamaged(f"{self.path}: image {n} cannot be read: {error}", n) from error
            yield Frame(n, pixels, start_us, end_us, transfer=self._meaning.transfer, exposure_known=known)

    def _pixels_of(self, images: Images, n: int) -> NDArray[Any]:
        try:
            return np.asarray(images.pixels(n))
        except _UNREADABLE as error:
            raise RecordingDamaged(f"{self.path}: image {n} cannot be read: {error}", n) from error


def _channels_last(image: NDArray[Any]) -> NDArray[Any]:
    """[H, W] or [H, W, C] of an image [H, W], [H, W, C] or [C, H, W]."""
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3, 4):
        return np.moveaxis(image, 0, 2)
    return image
