"""Folders of image and event pairs, `000015.png` and `event000015.mat`, as the data of eSL-Net has them."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from drivers.archive import IMAGE_SUFFIXES, Members
from drivers.event_columns import BadEvent, events_of
from drivers.packets.ordering import due_us
from drivers.pixels import Depth, check_bits
from drivers.recording_file import RecordingFile
from drivers.recordings.mat_pairs.matlab import read_arrays
from drivers.sense import check_choice, coordinate, time_us
from drivers.source import SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, SourcePacket, Transfer

_PREFIX = "section_event_"
_COLUMNS = ("timestamp", "x", "y", "polarity")
_EVENTS = re.compile(r"(?:^|/)event0*(\d+)\.mat$")
_IMAGE = re.compile(r"(?:^|/)0*(\d+)(\.\w+)$")
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class _Pair:
    """A number, its image and its events; "" where one of them is missing."""

    index: int
    image: str
    events: str


def recognise(head: bytes, path: Path) -> bool:
    """Tell whether a folder has images and event files of the same numbers."""
    if not path.is_dir():
        return False
    return any(pair.image and pair.events for pair in _pairs(Members.of(path)))


def open_source(path: str | Path, transfer: Transfer = "linear", bits: int = 0) -> MatPairs:
    """Open a folder; it is checked on entry. Memory holds one pair at a time.

    Args:
        path: the folder; the pairs may lie in folders of it, such as `images/` and `mat/`.
        transfer: of the images' pixels.
        bits: that pixels of 16 bits use, 8 to 16; 0 = by the largest value.

    Raises:
        ConfigError: another word for `transfer`, or another number of bits.
    """
    check_choice("mat_pairs", "transfer", transfer, get_args(Transfer))
    check_bits("mat_pairs", bits)
    return MatPairs(Path(path), transfer, bits)


class MatPairs(RecordingFile):
    """The source. Events exist only inside exposures: a `Gap` lies between two pairs.

    An image without an event file has no exposure in this layout and is left out; its index stays a hole.
    """

    def __init__(self, path: Path, transfer: Transfer, bits: int) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._bits = bits
        self._transfer: Transfer = transfer
        self._members: Members | None = None
        self._pairs: list[_Pair] = []
        self._depth = Depth()

    def _look(self) -> SourceInfo:
        """Find the pairs and read the first image.

        Raises:
            SourceError: no such folder, or no pairs in it.
            RecordingDamaged: the first image cannot be decoded.
        """
        self._members = Members.of(self.path)
        self._pairs = [pair for pair in _pairs(self._members) if pair.events]
        images = [pair.image for pair in self._pairs if pair.image]
        if not images:
            raise SourceError(f"{self.path} has no pairs of NUMBER.png and eventNUMBER.mat")
        self._depth = Depth(self._bits)
        self._members.learn(images, self._depth)
        height, width, channels = self._members.image(images[0], self._depth).shape
        return SourceInfo(self.path.name, Geometry(width, height, channels), found=self._depth.found)

    def _play(self) -> Iterator[SourcePacket]:
        """Yield the events of each exposure and its image, with gaps between.

        Raises:
            RecordingDamaged: a file cannot be read, or holds what is no event; all before was delivered.
        """
        assert self._members is not None  # entered
        latest_us: int | None = None
        for pair in self._pairs:
            values = self._read(pair)
            start_us, end_us = (_time_us(values[name])[0] for name in ("start_timestamp", "end_timestamp"))
            if latest_us is not None and start_us > latest_us:
                yield Gap(latest_us, int(start_us), "this layout has no events between exposures")
            last_us: int | None = None
            try:
                for batch in _batches(values):
                    last_us = batch.watermark_us
                    yield batch
            except BadEvent as error:
                raise RecordingDamaged(
                    f"{self.path}: event {error.index} of {pair.events}: {error}; all before was delivered", pair.index
                ) from error
            known_us = max(int(end_us), int(end_us) if last_us is None else last_us)
            yield EventBatch.empty(known_us)
            latest_us = known_us + (1 if last_us == known_us else 0)
            if pair.image:
                pixels = self._members.image(pair.image, self._depth)
                frame = Frame(pair.index, pixels, int(start_us), int(end_us), transfer=self._transfer)
                assert due_us(frame) <= known_us
                yield frame

    def _read(self, pair: _Pair) -> dict[str, NDArray[np.float64]]:
        assert self._members is not None  # entered
        try:
            values = read_arrays(self._members.read(pair.events))
            wanted = (*(_PREFIX + name for name in _COLUMNS), "start_timestamp", "end_timestamp")
            if missing := [name for name in wanted if name not in values]:
                raise ValueError(f"it has no {', '.join(missing)}")
            lengths = {values[_PREFIX + name].size for name in _COLUMNS}
            times = _time_us(values["start_timestamp"]), _time_us(values["end_timestamp"])
        except (ValueError, KeyError, zlib.error, struct.error) as error:
            raise RecordingDamaged(
                f"{self.path}: {pair.events} cannot be read: {error}; all before was delivered", pair.index
            ) from error
        except RecordingDamaged as error:
            raise RecordingDamaged(str(error), pair.index) from error
        except SourceError as error:
            raise SourceError(f"{self.path}: {pair.events}: {error}") from error
        if len(lengths) != 1 or any(time.size != 1 for time in times) or times[1][0] < times[0][0]:
            raise RecordingDamaged(
                f"{self.path}: the columns or the exposure of {pair.events} do not fit; all before was delivered",
                pair.index,
            )
        return values


def _pairs(members: Members) -> list[_Pair]:
    """Images and event files by number, in order."""
    events = {int(found[1]): name for name in members.names if (found := _EVENTS.search(name))}
    images = {
        int(found[1]): name
        for name in members.names
        if (found := _IMAGE.search(name)) and found[2].lower() in IMAGE_SUFFIXES
    }
    numbers = sorted(events.keys() | images.keys())
    return [_Pair(number, images.get(number, ""), events.get(number, "")) for number in numbers]


def _time_us(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return time_us(seconds, "s")


def _batches(values: dict[str, NDArray[np.float64]]) -> Iterator[EventBatch]:
    """Events in order of time, as the files have them almost; what fits no coordinate lies beyond any sensor."""
    t, x, y, p = (values[_PREFIX + name] for name in _COLUMNS)
    for whole in events_of((t, coordinate(x), coordinate(y), p), unit="s", polarity="auto"):
        ordered = whole.part(np.argsort(whole.t_us, kind="stable"))
        for at in range(0, len(ordered), _PIECE):
            part = ordered.part(slice(at, at + _PIECE))
            yield replace(part, watermark_us=int(part.t_us[-1]))
