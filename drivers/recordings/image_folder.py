"""A folder of images with a table of their times, and beside them a file of events of any kind that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from drivers.archive import IMAGE_SUFFIXES, Members
from drivers.frame_table import COLUMNS, FrameTable, read_frame_table
from drivers.packets.ordering import merged
from drivers.pixels import Depth, check_bits
from drivers.recording_file import RecordingFile
from drivers.sense import (
    Times,
    TimeUnit,
    check_choice,
    check_exposures,
    check_extent,
    find_unit,
    is_size_guessed,
    time_us,
)
from drivers.source import Found, Source, SourceInfo, Stream
from nire.errors import SourceError
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Transfer, Trigger

_PIECE = re.compile(r"/\d+\.np[zy]$")
_TIMES = re.compile(r"(?:^|/)(?:images?_)?(?:\w*exposure_)?(?:timestamps?|times)\w*\.(?:txt|csv)$")


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
    event_settings: Mapping[str, Any] | None = None,
    times: str = "",
    image_columns: str = "",
    time_unit: TimeUnit = "auto",
    bits: int = 0,
    transfer: Transfer = "linear",
) -> ImageFolder:
    """Open a folder; it is checked on entry. Memory holds one image and what the reader of the events holds.

    Args:
        path: the folder. Images are taken by the names in the table, else in the order of the numbers in their names.
        events: the file of events in it, or a folder of numbered ones; "" = the first one called `event...`, or in a
            folder so called.
        event_settings: of the reader of the events.
        times: the table in it: a line for each image, `time` or `start end`; "" = the first one called
            `timestamps.txt`, `times.csv`, `..._exposure_timestamps.txt` or the like, exposures first.
        image_columns: what the numbers of the table are: "time", "start end", "id time" or "id start end"; "" = as a
            comment says, else as fits.
        time_unit: of the table; "auto" = fractions are seconds and whole numbers microseconds, where that fits.
        bits: that images of 16 bits use, 8 to 16; 0 = by the largest value.
        transfer: of the images' pixels.

    Raises:
        ConfigError: a setting has no meaning.
    """
    check_choice("image_folder", "image_columns", image_columns, COLUMNS)
    check_choice("image_folder", "time_unit", time_unit, get_args(TimeUnit))
    check_choice("image_folder", "transfer", transfer, get_args(Transfer))
    check_bits("image_folder", bits)
    wanted = _Wanted(events, event_settings or {}, times, image_columns, time_unit, bits)
    return ImageFolder(Path(path), wanted, transfer=transfer)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the user says about the parts."""

    events: str
    event_settings: Mapping[str, Any]
    times: str
    image_columns: str
    unit: TimeUnit
    bits: int


class ImageFolder(RecordingFile):
    """The source. Frames that the file of events may hold itself are left out."""

    def __init__(self, path: Path, wanted: _Wanted, *, transfer: Transfer) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._wanted = wanted
        self._transfer: Transfer = transfer
        self._members: Members | None = None
        self._events: Source | None = None
        self._images: list[str] = []
        self._table: FrameTable | None = None
        self._unit = "us"
        self._depth = Depth(wanted.bits)

    def _look(self) -> SourceInfo:
        """Open the events, read the table and the first image.

        Raises:
            SourceError: a part is missing, the table does not fit the images, or images and sensor differ in size.
            RecordingDamaged: the table or the first image cannot be read.
        """
        self.close()
        members = self._members = Members.of(self.path)
        events = self._wanted.events or next(iter(_events(members)), "")
        times = self._wanted.times or next(iter(_tables(members)), "")
        self._images = [name for name in members.names if _is_image(name)]
        for what, found in (("file of events", events), ("table of times", times), ("images", self._images)):
            if not found:
                raise SourceError(f"{self.path} has no {what}; see docs/recordings.md for what is looked for")
        table, unit = self._read_table(members, times)
        self._depth = Depth(self._wanted.bits)
        members.learn(self._images, self._depth)
        first = members.image(self._images[0], self._depth)
        self._events = self._open_events(events, (first.shape[1], first.shape[0]))
        inside = self._events.info
        if (inside.geometry.width, inside.geometry.height) != (first.shape[1], first.shape[0]):
            raise SourceError(
                f"{self.path}: the images are {first.shape[1]} x {first.shape[0]} pixels, the sensor of the events "
                f"{inside.geometry.width} x {inside.geometry.height}: frames and events must share one pixel grid; for "
                "two cameras use the driver hybrid"
            )
        return SourceInfo(
            name=self.path.name,
            geometry=replace(inside.geometry, channels=first.shape[2]),
            duration_us=inside.duration_us,
            streams=(Stream(events, "events", True), Stream(times, "times of images", True)),
            found=(*inside.found, table.found, replace(unit, what="unit of images' times"), *self._depth.found),
        )

    def _open_events(self, name: str, size: tuple[int, int]) -> Source:
        """Open the events; where their file does not say the size of the sensor, it is that of the images."""
        from drivers.detect import open_recording

        settings = dict(self._wanted.event_settings)
        source = open_recording(self.path / name, **settings).__enter__()
        geometry = source.info.geometry
        if is_size_guessed(source.info) and geometry.width <= size[0] and geometry.height <= size[1]:
            # The whole of the events was looked at for it.
            check_extent((geometry.width, geometry.height), size, path=self.path)
            source.__exit__(None, None, None)
            source = open_recording(self.path / name, **{**settings, "width": size[0], "height": size[1]}).__enter__()
        return source

    def close(self) -> None:
        """Close the events."""
        if self._events is not None:
            self._events.__exit__(None, None, None)
            self._events = None
        self._info = None

    def _play(self) -> Iterator[SourcePacket]:
        """Yield the packets of the events, and each image as soon as they have passed it.

        Raises:
            RecordingDamaged: an image or the events cannot be read; all before was delivered.
        """
        assert self._events is not None  # entered
        kinds = (EventBatch, Gap, Trigger, ImuBatch)
        return merged((packet for packet in self._events if isinstance(packet, kinds)), self._frames())

    def _frames(self) -> Iterator[Frame]:
        table = self._table
        assert self._members is not None and table is not None  # noqa: PT018 - entered
        starts_us, ends_us = (time_us(times, self._unit).tolist() for times in (table.start, table.end))
        for index, (name, start_us, end_us) in enumerate(zip(self._images, starts_us, ends_us, strict=True)):
            pixels, known = self._members.image(name, self._depth), table.are_exposures
            yield Frame(index, pixels, start_us, end_us, transfer=self._transfer, exposure_known=known)

    def _read_table(self, members: Members, name: str) -> tuple[FrameTable, Found]:
        path = f"{name} of {self.path}"
        text = members.read(name).decode("utf-8", "replace")
        table = self._table = read_frame_table(text, path=path, columns=self._wanted.image_columns)
        named = {image.rpartition("/")[2]: image for image in self._images}
        if any(table.names) and all(image.rpartition("/")[2] in named for image in table.names):
            self._images = [named[image.rpartition("/")[2]] for image in table.names]
        if len(table.start) != len(self._images):
            raise SourceError(
                f"{self.path} has {len(self._images)} images, its table {name} {len(table.start)} lines of times"
            )
        unit = find_unit(Times(np.empty(0), table.start), self._wanted.unit, path=path, said=table.said_unit)
        self._unit = unit.value
        check_exposures(time_us(table.start, self._unit), time_us(table.end, self._unit), path=path)
        return table, unit


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _tables(members: Members) -> list[str]:
    """Tables of times, those of exposures first."""
    found = [name for name in members.names if _TIMES.search(name)]
    return sorted(found, key=lambda name: ("exposure" not in name, name.count("/")))


def _events(members: Members) -> list[str]:
    """Folders of numbered pieces, and files of events that a driver knows, by their name or that of their folder."""
    from drivers.detect import is_recording

    named = [name for name in members.names if re.search(r"(?:^|/)events?[^/]*(?:/[^/]*)?$", name, re.IGNORECASE)]
    named = [name for name in named if not _is_image(name)]
    folders = dict.fromkeys(name.rpartition("/")[0] for name in named if _PIECE.search(name))
    found = [name for name in (*folders, *named) if is_recording(members.path / name)]
    return [name for name in found if name.rpartition("/")[0] not in folders]
