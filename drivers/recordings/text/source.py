"""Text recordings: `events.txt` and `images.txt` as the Zurich data sets have them, in a folder, zipped, or alone."""

from __future__ import annotations

import contextlib
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, get_args

import numpy as np
from numpy.typing import NDArray

from drivers.archive import Members
from drivers.frame_table import COLUMNS, FrameTable, read_frame_table
from drivers.packets.ordering import merged, sorted_within
from drivers.pixels import Depth, check_bits
from drivers.recording_file import RecordingFile
from drivers.recordings.text.lines import BadLine, LineFormat, Opening, columns_of, read_events
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
    find_order,
    find_polarity,
    find_reach,
    find_unit,
    time_us,
    whole_rows,
)
from drivers.settings import checked_size
from drivers.source import Found, SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Geometry, SourcePacket, Transfer

_EVENTS = ("events.txt", "events.csv")
_IMAGES = ("images.txt",)
_HEAD_BYTES = 4096
_JUDGED_BYTES = 1 << 20  # of lines, by which columns and unit are told
_log = logging.getLogger(__name__)


def recognise(head: bytes, path: Path) -> bool:
    """Tell whether a file has lines of four numbers, or a folder or zip archive such a file."""
    if path.is_dir() or head.startswith(b"PK"):
        try:
            return _events_name(Members.of(path)) is not None
        except SourceError:
            return False
    return _has_events(head)


def open_source(
    path: str | Path,
    *,
    columns: str = "",
    image_columns: str = "",
    time_unit: TimeUnit = "auto",
    polarity: Polarity = "auto",
    sort_us: int = -1,
    bits: int = 0,
    width: int = 0,
    height: int = 0,
    transfer: Transfer = "linear",
) -> TextSource:
    """Open a recording; it is checked on entry. Memory holds 4 MB of its lines and one image at a time.

    Args:
        path: a file of events, or a folder or zip archive with `events.txt` and, if there are frames, `images.txt`
            (a time, or start and end of an exposure, and the image's name).
        columns: order of the columns of events, e.g. "xypt"; "" = as a line of names or a comment says, else as fits.
        image_columns: what the numbers in `images.txt` are: "time", "start end", "id time" or "id start end"; "" = as
            a comment says, else as fits.
        time_unit: of all times; "auto" = fractions are seconds and whole numbers microseconds, where that fits.
        polarity: "auto" = 0 and 1, or -1 and 1; "positive" = above 0 is brighter; "inverted" = any other is.
        sort_us: within which to sort events by time, us; -1 = as far as the first ones need it, up to a second.
        bits: that images of 16 bits use, 8 to 16; 0 = by the largest value.
        width, height: of the sensor; 0 = as a first line or comment says, else as the images, else the largest
            coordinates.
        transfer: of the images' pixels.

    Raises:
        ConfigError: a setting has no meaning.
    """
    check_meaning("text", columns, time_unit, polarity, sort_us)
    check_choice("text", "image_columns", image_columns, COLUMNS)
    check_choice("text", "transfer", transfer, get_args(Transfer))
    check_bits("text", bits)
    meaning = _Meaning(columns, image_columns, time_unit, polarity, sort_us, bits)
    return TextSource(Path(path), meaning, size=checked_size("text", width, height) or (0, 0), transfer=transfer)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the user says the numbers mean."""

    columns: str
    image_columns: str
    unit: TimeUnit
    polarity: Polarity
    sort_us: int
    bits: int


class TextSource(RecordingFile):
    """The source."""

    def __init__(self, path: Path, meaning: _Meaning, *, size: tuple[int, int], transfer: Transfer) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._meaning = meaning
        self._size = size
        self._transfer: Transfer = transfer
        self._members: Members | None = None
        self._lines: LineFormat | None = None
        self._table: FrameTable | None = None
        self._table_unit = "us"
        self._reach_us = 0
        self._depth = Depth(meaning.bits)

    def _look(self) -> SourceInfo:
        """Look at the first lines and the first image.

        Raises:
            SourceError: no such file, no lines of events, or what their numbers mean cannot be told.
            RecordingDamaged: `images.txt` or the first image cannot be read.
        """
        is_many = self.path.is_dir() or zipfile.is_zipfile(self.path)
        self._members = Members.of(self.path) if is_many else None
        try:
            with self._open_events() as file:
                head = file.read(_HEAD_BYTES)
                opening = Opening.of(head)
                judged = (head + file.read(_JUDGED_BYTES))[opening.skip :]
        except ValueError as error:
            raise SourceError(f"{self.path} has no events: {error}") from error
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror or error}") from error
        self._table = self._read_images()
        found = [*self._judge(opening, judged), *self._judge_images()]
        first = next(self._frames(), None)
        size, is_guessed = self._choose_size(opening, first)
        if is_guessed:
            found.append(Found("size", f"{size[0]} x {size[1]}", GUESSED_SIZE))
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(*size, channels=1 if first is None else first.pixels.shape[2]),
            has_frames=first is not None,
            found=tuple(found),
        )

    def _judge(self, opening: Opening, judged: bytes) -> tuple[Found, ...]:
        """Tell columns and units from the first lines."""
        whole = judged[: judged.rfind(b"\n") + 1] or judged
        columns = whole_rows(columns_of(whole, opening.before)[0], path=self.path)
        table, meaning = self._table, self._meaning
        frames = np.empty(0) if table is None else table.start
        order = find_order(columns, meaning.columns, path=self.path, said=opening.columns, size=opening.size)
        t, x, y, p = (columns[order.value.index(letter)] for letter in "txyp")
        hint = ", or source.settings.columns to another order"
        polarity = find_polarity(p, meaning.polarity, path=self.path, hint=hint)
        pixels = int(min(x.max() + 1, LARGEST_PX) * min(y.max() + 1, LARGEST_PX)) if x.size else 1
        times = Times(
            t,
            frames if np.size(frames) and _overlap(t, frames) else np.empty(0),
            pixels=pixels,
            last=self._last_time(opening.before + order.value.index("t")),
        )
        unit = find_unit(times, meaning.unit, path=self.path, said=opening.unit)
        self._lines = LineFormat(opening.skip, order.value, unit.value, meaning.polarity, opening.before)
        self._reach_us, sorting = find_reach(time_us(t, unit.value), meaning.sort_us, path=self.path)
        if opening.before:
            order = replace(order, why=f"{order.why}, after a count of lines that is left out")
        if table is None:
            return order, unit, polarity, *sorting
        frame_unit = find_unit(
            Times(np.empty(0), frames), meaning.unit, path=self.path, said=table.said_unit, usual=unit.value
        )
        self._table_unit = frame_unit.value
        check_exposures(time_us(table.start, frame_unit.value), time_us(table.end, frame_unit.value), path=self.path)
        return order, unit, polarity, *sorting, table.found, replace(frame_unit, what="unit of images' times")

    def _play(self) -> Iterator[SourcePacket]:
        """Yield events in pieces, and each image as soon as the events have passed it.

        Raises:
            RecordingDamaged: a line or an image cannot be read; all before was delivered.
        """
        return merged(sorted_within(self._batches(), self._reach_us), self._frames())

    def _open_events(self) -> AbstractContextManager[IO[bytes]]:
        if self._members is None:
            return open(self.path, "rb")
        name = _events_name(self._members)
        if name is None:
            raise SourceError(f"{self.path} has no {' or '.join(_EVENTS)}")
        return self._members.open(name)

    def _batches(self) -> Iterator[EventBatch]:
        assert self._lines is not None  # entered
        try:
            with self._open_events() as file:
                yield from read_events(file, self._lines)
        except BadLine as error:
            raise RecordingDamaged(f"{self.path}: {error}; all before was delivered", error.position) from error
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise RecordingDamaged(f"{self.path}: its events cannot be read further: {error}") from error

    def _last_time(self, column: int) -> float | None:
        """The number in a column of the last line; None where an archive would have to be unpacked for it."""
        path = self.path
        if self._members is not None:
            path = self.path / (_events_name(self._members) or "")
            if not self.path.is_dir():
                return None
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _HEAD_BYTES))
            lines = [line for line in file.read().splitlines()[1:] if line.strip()]
        with contextlib.suppress(ValueError, IndexError):
            return float(re.split(rb"[\s,;]+", lines[-1].strip())[column])
        return None

    def _read_images(self) -> FrameTable | None:
        """The table of images; None where there is none."""
        name = self._members.find(*_IMAGES) if self._members else None
        if name is None:
            return None
        assert self._members is not None  # it has a file
        folder = name.rpartition("/")[0]
        table = read_frame_table(
            self._members.read(name).decode("utf-8", "replace"),
            path=f"{name} of {self.path}",
            columns=self._meaning.image_columns,
            is_named=True,
        )
        return replace(table, names=tuple(f"{folder}/{image}" if folder else image for image in table.names))

    def _judge_images(self) -> tuple[Found, ...]:
        """Tell the depth of pixels from some images."""
        if self._members is None or self._table is None:
            return ()
        self._depth = Depth(self._meaning.bits)
        self._members.learn(self._table.names, self._depth)
        return self._depth.found

    def _frames(self) -> Iterator[Frame]:
        table = self._table
        if table is None:
            return
        assert self._members is not None  # it has a table
        starts_us, ends_us = (time_us(times, self._table_unit).tolist() for times in (table.start, table.end))
        for index, (start_us, end_us, name) in enumerate(zip(starts_us, ends_us, table.names, strict=True)):
            pixels = self._members.image(name, self._depth)
            known = table.are_exposures
            yield Frame(index, pixels, start_us, end_us, transfer=self._transfer, exposure_known=known)

    def _choose_size(self, opening: Opening, first: Frame | None) -> tuple[tuple[int, int], bool]:
        """Width and height, and whether they are only those of the largest coordinates."""
        if all(self._size):
            return self._size, False
        if opening.size is not None:
            return opening.size, False
        if first is not None:
            size = first.pixels.shape[1], first.pixels.shape[0]
            check_extent(*self._extent(size), path=self.path)
            return size, False
        _log.warning("%s does not say the size of the sensor: taken from its largest coordinates", self.path)
        return self._extent()[0], True

    def _extent(self, enough: tuple[int, int] | None = None) -> tuple[tuple[int, int], tuple[int, int], int]:
        """Columns and rows that events use, `enough` itself, and the events until one of its sides was nearly used."""
        width = height = 1
        count = 0
        try:
            for batch in self._batches():
                width, height = max(width, int(np.max(batch.x)) + 1), max(height, int(np.max(batch.y)) + 1)
                count += len(batch)
                if enough and (width >= enough[0] * LEAST_EXTENT or height >= enough[1] * LEAST_EXTENT):
                    break
        except RecordingDamaged:
            _log.warning("%s is damaged; the size is that of what comes before", self.path)
        return (width, height), enough or (width, height), count


def _events_name(members: Members) -> str | None:
    """The file of events: of a known name, whatever is in it, or the only text file that has such lines."""
    found = members.find(*_EVENTS)
    if found is not None:
        return found
    texts = [name for name in members.names if name.endswith((".txt", ".csv"))]
    if len(texts) != 1:
        return None
    with members.open(texts[0]) as file:
        return texts[0] if _has_events(file.read(_HEAD_BYTES)) else None


def _overlap(events: NDArray[np.float64], frames: NDArray[np.float64]) -> bool:
    """Tell whether frames begin within a thousand of their distances of the events: then both have one unit."""
    reach = 1000 * float(np.median(np.abs(np.diff(frames)))) if frames.size > 1 else 0.0
    return bool(abs(float(frames[0]) - float(events[0])) <= reach)


def _has_events(head: bytes) -> bool:
    try:
        Opening.of(head)
    except ValueError:
        return False
    return True
