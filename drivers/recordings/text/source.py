"""Text recordings: `events.txt` and `images.txt` as the Zurich data sets have them, in a folder, zipped, or alone."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Literal

import numpy as np

from drivers.archive import Members
from drivers.packets.ordering import merged
from drivers.recording_file import RecordingFile
from drivers.recordings.text.lines import BadLine, LineFormat, read_events
from drivers.source import SourceInfo
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Geometry, SourcePacket, Transfer

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]

_EVENTS = ("events.txt", "events.csv")
_IMAGES = ("images.txt",)
_HEAD_BYTES = 4096
_LONGEST = 1e19  # of a time, in any unit: more is damage
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
    time_unit: TimeUnit = "auto",
    width: int = 0,
    height: int = 0,
    transfer: Transfer = "linear",
) -> TextSource:
    """Open a recording; it is checked on entry. Memory holds 4 MB of its lines and one image at a time.

    Args:
        path: a file of events, or a folder or zip archive with `events.txt` and, if there are frames, `images.txt`
            (`time name`, or `start end name` where exposures are known).
        columns: order of the columns of events, e.g. "xypt"; "" = as a line of names says, else "txyp".
        time_unit: of all times; "auto": with a point seconds, else microseconds.
        width, height: of the sensor; 0 = as a first line `width height` says, else as the images, else the largest
            coordinates.
        transfer: of the images' pixels.

    Raises:
        ConfigError: a setting has no meaning.
    """
    if columns and sorted(columns) != ["p", "t", "x", "y"]:
        raise ConfigError(f"text: columns = {columns!r}, expected the letters t, x, y, p in their order")
    if time_unit not in ("auto", "s", "ms", "us", "ns"):
        raise ConfigError(f"text: time_unit = {time_unit!r}, expected auto, s, ms, us or ns")
    if transfer not in ("linear", "srgb"):
        raise ConfigError(f"text: transfer = {transfer!r}, expected 'linear' or 'srgb'")
    return TextSource(Path(path), columns, time_unit, size=(width, height), transfer=transfer)


class TextSource(RecordingFile):
    """The source."""

    def __init__(
        self, path: Path, columns: str, time_unit: TimeUnit, *, size: tuple[int, int], transfer: Transfer
    ) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._columns = columns
        self._unit = time_unit
        self._size = size
        self._transfer: Transfer = transfer
        self._members: Members | None = None
        self._lines: LineFormat | None = None
        self._images: list[tuple[float, float, bool, str]] = []

    def _look(self) -> SourceInfo:
        """Look at the first lines and the first image.

        Raises:
            SourceError: no such file, or no lines of events.
            RecordingDamaged: `images.txt` or the first image cannot be read.
        """
        is_many = self.path.is_dir() or zipfile.is_zipfile(self.path)
        self._members = Members.of(self.path) if is_many else None
        try:
            with self._open_events() as file:
                self._lines = LineFormat.of(file.read(_HEAD_BYTES), self._columns, self._unit)
        except ValueError as error:
            raise SourceError(f"{self.path} has no events: {error}") from error
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror or error}") from error
        self._images = self._read_images()
        first = next(self._frames(), None)
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(*self._choose_size(first), channels=1 if first is None else first.pixels.shape[2]),
            has_frames=first is not None,
        )

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield events in pieces, and each image as soon as the events have passed it.

        Raises:
            RecordingDamaged: a line or an image cannot be read; all before was delivered.
        """
        _ = self.info
        return merged(self._batches(), self._frames())

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

    def _read_images(self) -> list[tuple[float, float, bool, str]]:
        """(start, end, exposure known, name) of each line of `images.txt`, times in the file's unit."""
        name = self._members.find(*_IMAGES) if self._members else None
        if name is None:
            return []
        assert self._members is not None  # it has a file
        folder = name.rpartition("/")[0]
        with self._members.open(name) as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
        found = []
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                times = [float(word) for word in words[:-1]]
                start, end = (times[0], times[-1]) if len(times) in (1, 2) else (1.0, 0.0)
            except (ValueError, IndexError):
                start, end = 1.0, 0.0
            if end < start:
                raise RecordingDamaged(
                    f"{self.path}: line {number} of {name} is no `time image`: {line[:60]!r}", number
                )
            found.append((start, end, len(times) == 2, f"{folder}/{words[-1]}" if folder else words[-1]))
        return found

    def _frames(self) -> Iterator[Frame]:
        assert self._lines is not None  # entered
        factor = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[self._lines.unit]
        for index, (start, end, known, name) in enumerate(self._images):
            assert self._members is not None  # it has images
            pixels = self._members.image(name)
            yield Frame(
                index,
                pixels,
                round(start * factor),
                round(end * factor),
                transfer=self._transfer,
                exposure_known=known,
            )

    def _choose_size(self, first: Frame | None) -> tuple[int, int]:
        assert self._lines is not None  # entered
        if all(self._size):
            return self._size
        if self._lines.size is not None:
            return self._lines.size
        if first is not None:
            return first.pixels.shape[1], first.pixels.shape[0]
        _log.warning("%s does not say the size of the sensor: taken from its largest coordinates", self.path)
        width = height = 1
        try:
            for batch in self._batches():
                width, height = max(width, int(np.max(batch.x)) + 1), max(height, int(np.max(batch.y)) + 1)
        except RecordingDamaged:
            _log.warning("%s is damaged; the size is that of what comes before", self.path)
        return width, height


def _events_name(members: Members) -> str | None:
    """The file of events: of a known name, or the only text file that has such lines."""
    found = members.find(*_EVENTS)
    if found is None:
        texts = [name for name in members.names if name.endswith((".txt", ".csv"))]
        found = texts[0] if len(texts) == 1 else None
    if found is None:
        return None
    with members.open(found) as file:
        return found if _has_events(file.read(_HEAD_BYTES)) else None


def _has_events(head: bytes) -> bool:
    try:
        LineFormat.of(head)
    except ValueError:
        return False
    return True
