"""A folder of images with a table of their times, and beside them a file of events of any kind that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from drivers.archive import IMAGE_SUFFIXES, Members
from drivers.packets.ordering import merged
from drivers.recording_file import RecordingFile
from drivers.source import Source, SourceInfo
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Transfer, Trigger

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]

_TIMES = re.compile(r"(?:^|/)(?:images?_)?(?:\w*exposure_)?(?:timestamps?|times)\w*\.(?:txt|csv)$")
_MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_LONGEST_US = 1e18  # a time beyond it is damage
_Row = tuple[float, float, bool]
"""Start and end in us, and whether the exposure is known."""


def recognise(head: bytes, path: Path) -> bool:
    """Tell whether a folder has images, a table of times and a file of events. `images.txt` is the driver `text`'s."""
    if not path.is_dir():
        return False
    members = Members.of(path)
    has_images = any(_is_image(name) for name in members.names)
    return has_images and members.find("images.txt") is None and bool(_tables(members)) and bool(_events(members))


def open_source(
    path: str | Path,
    *,
    events: str = "",
    times: str = "",
    time_unit: TimeUnit = "auto",
    transfer: Transfer = "linear",
) -> ImageFolder:
    """Open a folder; it is checked on entry. Memory holds one image and what the reader of the events holds.

    Args:
        path: the folder. Images are taken in the order of the numbers in their names.
        events: the file of events in it; "" = the first one called `event...` or in a folder `events`.
        times: the table in it: a line for each image, `time` or `start end`; "" = the first one called
            `timestamps.txt`, `times.csv`, `..._exposure_timestamps.txt` or the like, exposures first.
        time_unit: of the table; "auto": with a point seconds, else microseconds.
        transfer: of the images' pixels.

    Raises:
        ConfigError: another word for `time_unit` or `transfer`.
    """
    if time_unit not in ("auto", *_MICROSECONDS):
        raise ConfigError(f"image_folder: time_unit = {time_unit!r}, expected auto, s, ms, us or ns")
    if transfer not in ("linear", "srgb"):
        raise ConfigError(f"image_folder: transfer = {transfer!r}, expected 'linear' or 'srgb'")
    return ImageFolder(Path(path), events, times, time_unit=time_unit, transfer=transfer)


class ImageFolder(RecordingFile):
    """The source. Frames that the file of events may hold itself are left out."""

    def __init__(self, path: Path, events: str, times: str, *, time_unit: TimeUnit, transfer: Transfer) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._wanted = (events, times)
        self._unit: TimeUnit = time_unit
        self._transfer: Transfer = transfer
        self._members: Members | None = None
        self._events: Source | None = None
        self._images: list[str] = []
        self._rows: list[_Row] = []

    def _look(self) -> SourceInfo:
        """Open the events, read the table and the first image.

        Raises:
            SourceError: a part is missing, the table does not fit the images, or images and sensor differ in size.
            RecordingDamaged: the table or the first image cannot be read.
        """
        from drivers.detect import open_recording

        self.close()
        members = self._members = Members.of(self.path)
        events = self._wanted[0] or next(iter(_events(members)), "")
        times = self._wanted[1] or next(iter(_tables(members)), "")
        self._images = [name for name in members.names if _is_image(name)]
        for what, found in (("file of events", events), ("table of times", times), ("images", self._images)):
            if not found:
                raise SourceError(f"{self.path} has no {what}; see docs/recordings.md for what is looked for")
        self._rows = self._read_table(members, times)
        first = members.image(self._images[0])
        source = open_recording(self.path / events)
        source.__enter__()
        self._events = source
        geometry = source.info.geometry
        if (geometry.width, geometry.height) != (first.shape[1], first.shape[0]):
            raise SourceError(
                f"{self.path}: the images are {first.shape[1]} x {first.shape[0]} pixels, the sensor of the events "
                f"{geometry.width} x {geometry.height}: frames and events must share one pixel grid; for two cameras "
                "use the driver hybrid"
            )
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(geometry.width, geometry.height, channels=first.shape[2]),
            duration_us=source.info.duration_us,
        )

    def close(self) -> None:
        """Close the events."""
        if self._events is not None:
            self._events.__exit__(None, None, None)
            self._events = None
        self._info = None

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield the packets of the events, and each image as soon as they have passed it.

        Raises:
            RecordingDamaged: an image or the events cannot be read; all before was delivered.
        """
        _ = self.info
        assert self._events is not None  # entered
        kinds = (EventBatch, Gap, Trigger, ImuBatch)
        return merged((packet for packet in self._events if isinstance(packet, kinds)), self._frames())

    def _frames(self) -> Iterator[Frame]:
        assert self._members is not None  # entered
        for index, (name, (start_us, end_us, known)) in enumerate(zip(self._images, self._rows, strict=True)):
            pixels = self._members.image(name)
            yield Frame(index, pixels, round(start_us), round(end_us), transfer=self._transfer, exposure_known=known)

    def _read_table(self, members: Members, name: str) -> list[_Row]:
        with members.open(name) as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
        rows: list[_Row] = []
        for number, line in enumerate(lines, 1):
            words = [word for word in re.split(r"[\s,;]+", line.strip()) if word]
            if not words or line.lstrip().startswith(("#", "%")) or (not rows and not _is_number(words[0])):
                continue
            times = [word for word in words if _is_number(word)]
            start, end = (self._time_us(times[0]), self._time_us(times[-1])) if len(times) in (1, 2) else (1.0, 0.0)
            if not (start <= end and abs(start) + abs(end) < _LONGEST_US):
                raise RecordingDamaged(
                    f"{self.path}: line {number} of {name} is neither a time nor `start end`: {line[:60]!r}", number
                )
            rows.append((start, end, len(times) == 2))
        if len(rows) != len(self._images):
            raise SourceError(
                f"{self.path} has {len(self._images)} images, its table {name} {len(rows)} lines of times"
            )
        return rows

    def _time_us(self, word: str) -> float:
        unit = self._unit
        if unit == "auto":
            unit = "s" if re.search(r"[.eE]", word) else "us"
        return float(word) * _MICROSECONDS[unit]


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _tables(members: Members) -> list[str]:
    """Tables of times, those of exposures first."""
    found = [name for name in members.names if _TIMES.search(name)]
    return sorted(found, key=lambda name: ("exposure" not in name, name.count("/")))


def _events(members: Members) -> list[str]:
    """Files of events that a driver knows, by their name or that of their folder."""
    from drivers.detect import is_recording

    named = [name for name in members.names if re.search(r"(?:^|/)events?[^/]*(?:/[^/]*)?$", name, re.IGNORECASE)]
    return [name for name in named if not _is_image(name) and is_recording(members.path / name)]
