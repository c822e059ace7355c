"""Recordings of jAER and cAER: AEDAT 2.0, 2.1 and 3.1, with events, frames, edges and inertial samples."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from drivers.packets.ordering import arranged
from drivers.recording_file import RecordingFile
from drivers.recordings.aedat.aedat2_words import Chip, WordDecoder
from drivers.recordings.aedat.aedat3_packets import FRAME, HEAD, PacketDecoder, PacketHead
from drivers.settings import checked_size
from drivers.source import SourceInfo, Stream
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import Frame, Geometry, SourcePacket

_log = logging.getLogger(__name__)
_MAGIC = b"#!AER-DAT"
_VERSIONS = ("2.0", "2.1", "3.1")
_END_HEADER = b"#!END-HEADER"
_LONGEST_HEADER = 1 << 24
_MOST_BODY_BYTES = 1 << 28
_WORDS = 1 << 16  # a piece of AEDAT 2.0 that is read at once
_WORD = np.dtype([("address", ">u4"), ("t", ">u4")])
_FIRST_FRAME_BYTES = 1 << 25  # a frame of AEDAT 2.0 is looked for in so much of the file
_HALF, _TURN = 1 << 31, 1 << 32  # the clock of AEDAT 2.0 begins again after 2^32 us
# Part of the chip's or source's name -> width, height, has frames. The first that fits.
_CHIPS = {
    "davis240": (240, 180, True),
    "davis346": (346, 260, True),
    "davis640": (640, 480, True),
    "davis208": (208, 192, True),
    "davis128": (128, 128, True),
    "dvs128": (128, 128, False),
    "tmpdiff128": (128, 128, False),
}
# What jAER's names of the ranges mean: counts of the MPU-6150 for 1 g, for 1 degree a second.
_ACCELEROMETER = {"G2": 16384.0, "G4": 8192.0, "G8": 4096.0, "G16": 2048.0}
_GYROSCOPE = {"250": 131.0, "500": 65.5, "1000": 32.8, "2000": 16.4}


@dataclass(frozen=True, slots=True)
class _Header:
    """Version, text, and where the data begin and end."""

    version: str
    text: str
    start: int
    end: int


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file is of jAER or cAER; 1.0 has no mark, and AEDAT4 has a driver."""
    return head.startswith(_MAGIC) and not head.startswith(_MAGIC + b"4")


def open_source(
    path: str | Path,
    width: int = 0,
    height: int = 0,
    shutter: Literal["global", "rolling"] = "global",
    *,
    camera: int = 0,
) -> AedatSource:
    """Open a recording; it is checked on entry. Memory holds one piece of it at a time.

    Args:
        path: the file.
        width, height: of a sensor that the header does not name, pixels; 0 = as the header says.
        shutter: of the frames of AEDAT 2.0, whose file does not tell: "global" takes the last reset of a pixel before
            the read-out for the start of the exposure, "rolling" the first one.

        camera: number of the source to read in AEDAT 3.1, as `info` lists them; 0 = that of the first packet.

    Raises:
        ConfigError: another word for `shutter`, or half a size.
    """
    if shutter not in ("global", "rolling"):
        raise ConfigError(f"aedat: shutter = {shutter!r}, expected 'global' or 'rolling'")
    return AedatSource(Path(path), checked_size("aedat", width, height) or (0, 0), shutter, camera)


class AedatSource(RecordingFile):
    """The source."""

    def __init__(
        self, path: Path, size: tuple[int, int], shutter: Literal["global", "rolling"], camera: int = 0
    ) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._wanted = camera
        self._camera = camera
        self._cameras: dict[int, str] = {}
        self._size = size
        self._shutter: Literal["global", "rolling"] = shutter
        self._header: _Header | None = None
        self._chip: Chip | None = None

    def _look(self) -> SourceInfo:
        """Read the header and look for a first frame.

        Raises:
            SourceError: no such file, another version, or a chip that is not known.
            RecordingDamaged: the header has no end.
        """
        try:
            with open(self.path, "rb") as file:
                self._header = _read_header(file, self.path)
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        self._choose_camera(self._header)
        name, self._chip = self._find_chip(self._header)
        first = self._first_frame()
        channels = 1 if first is None else first.pixels.shape[2]
        return SourceInfo(
            name=f"{name} ({self.path.name})",
            geometry=Geometry(self._chip.width, self._chip.height, channels),
            has_frames=first is not None,
            duration_us=self._duration_us(),
            streams=tuple(
                Stream(f"camera {number}", camera, number == self._camera) for number, camera in self._cameras.items()
            ),
        )

    def _play(self) -> Iterator[SourcePacket]:
        """Yield packets; frames and the rest as soon as the events have passed them.

        Raises:
            RecordingDamaged: the file ends inside a record, or a packet makes no sense; all before was delivered.
        """
        return arranged(self._packets())

    def _packets(self) -> Iterator[SourcePacket]:
        assert self._header is not None  # entered
        with open(self.path, "rb") as file:
            file.seek(self._header.start)
            yield from self._words(file) if self._header.version != "3.1" else self._records(file)

    def _words(self, file: BinaryIO) -> Iterator[SourcePacket]:
        """AEDAT 2.0, piece by piece."""
        assert self._chip is not None  # entered
        decoder, turns, latest = WordDecoder(self._chip, self._shutter), 0, 0
        while data := file.read(_WORDS * _WORD.itemsize):
            words = np.frombuffer(data, _WORD, len(data) // _WORD.itemsize)
            t_us = words["t"].astype(np.int64)
            turned = np.cumsum(np.diff(t_us, prepend=latest) < -_HALF)
            latest = int(t_us[-1]) if t_us.size else latest
            yield from decoder.feed(words["address"].astype(np.uint32), t_us + (turns + turned) * _TURN)
            turns += int(turned[-1]) if t_us.size else 0
            if left := len(data) % _WORD.itemsize:
                position = file.tell() - left
                raise RecordingDamaged(
                    f"{self.path} ends inside an event at byte {position}; all before was delivered", position
                )

    def _records(self, file: BinaryIO) -> Iterator[SourcePacket]:
        """AEDAT 3.1, packet by packet, of one camera."""
        assert self._header is not None  # entered
        decoder = PacketDecoder(self._chip_size())
        for position, head in self._heads(file):
            if head.source != self._camera:
                continue
            file.seek(position + HEAD.size)
            try:
                yield from decoder.decode(head, file.read(head.body_bytes))
            except ValueError as error:
                raise self._damaged(position, str(error)) from error

    def _heads(self, file: BinaryIO) -> Iterator[tuple[int, PacketHead]]:
        """Walk over the packets of AEDAT 3.1: position and head. The caller may read the body in between."""
        assert self._header is not None  # entered
        position = self._header.start
        while position < self._header.end:
            file.seek(position)
            data = file.read(HEAD.size)
            if len(data) < HEAD.size:
                raise self._damaged(position, "it ends inside a packet's head")
            try:
                head = PacketHead.read(data)
            except ValueError as error:
                raise self._damaged(position, str(error)) from error
            if head.body_bytes > _MOST_BODY_BYTES:
                raise self._damaged(position, f"a packet claims {head.body_bytes} bytes")
            if position + HEAD.size + head.body_bytes > self._header.end:
                raise self._damaged(position, f"it ends inside a packet of {head.count} records")
            yield position, head
            position += HEAD.size + head.body_bytes

    def _chip_size(self) -> tuple[int, int]:
        assert self._chip is not None  # entered
        return self._chip.width, self._chip.height

    def _damaged(self, position: int, why: str) -> RecordingDamaged:
        return RecordingDamaged(f"{self.path} is damaged at byte {position}: {why}; all before was delivered", position)

    def _choose_camera(self, header: _Header) -> None:
        """Tell which of the cameras of AEDAT 3.1 is read: the one that is set, else that of the first packet."""
        self._cameras, self._camera = {}, self._wanted
        if header.version != "3.1":
            return
        lines = re.finditer(r"^#\s*Source (\d+):\s*(.+?)\s*$", header.text, re.MULTILINE)
        self._cameras = {int(line[1]): line[2] for line in lines}
        if self._wanted and self._wanted not in self._cameras:
            there = ", ".join(f"{number} ({camera})" for number, camera in self._cameras.items()) or "none"
            raise SourceError(f"{self.path} has the cameras {there}; source.settings.camera = {self._wanted} is none")
        if not self._wanted:
            with open(self.path, "rb") as file, contextlib.suppress(RecordingDamaged):
                self._camera = next((head.source for _, head in self._heads(file)), 0)
        others = [number for number in self._cameras if number != self._camera]
        if others:
            _log.warning("%s: camera %d is read, not %s; see source.settings.camera", self.path, self._camera, others)

    def _find_chip(self, header: _Header) -> tuple[str, Chip]:
        """Name and properties of the sensor."""
        number = self._camera if self._camera in self._cameras else r"\d+"
        pattern = r"^#\s*AEChip:\s*(\S+)" if header.version != "3.1" else rf"^#\s*Source {number}:\s*(.+?)\s*$"
        found = re.search(pattern, header.text, re.MULTILINE)
        name = found[1].rpartition(".")[2] if found else ""
        width, height, is_davis = next((chip for key, chip in _CHIPS.items() if key in name.lower()), (0, 0, True))
        width, height = self._size if any(self._size) else (width, height)
        if not width:
            raise SourceError(
                f"{self.path}: its header names the sensor {name!r}, whose size is not known; "
                "set source.settings.width and height"
            )
        return name or "sensor without a name", Chip(width, height, is_davis, _imu_scale(header.text))

    def _first_frame(self) -> Frame | None:
        """Look for the first frame: within the first 32 MB of AEDAT 2.0, over all packets of 3.1."""
        assert self._header is not None and self._chip is not None  # noqa: PT018 - entered
        with open(self.path, "rb") as file:
            try:
                if self._header.version == "3.1":
                    decoder = PacketDecoder(self._chip_size())
                    for position, head in self._heads(file):
                        if head.source == self._camera and head.kind == FRAME and head.count:
                            file.seek(position + HEAD.size)
                            frames = decoder.decode(head, file.read(head.body_bytes))
                            return next((frame for frame in frames if isinstance(frame, Frame)), None)
                    return None
                file.seek(self._header.start)
                limit = self._header.start + _FIRST_FRAME_BYTES
                near = itertools.takewhile(lambda _: file.tell() < limit, self._words(file))
                return next((packet for packet in near if isinstance(packet, Frame)), None)
            except (RecordingDamaged, ValueError):
                return None  # said again where everything before it has been delivered

    def _duration_us(self) -> int | None:
        """From the first to the last event; None where that takes more than a look at both ends."""
        header = self._header
        assert header is not None  # entered
        if header.version == "3.1" or header.end - header.start < _WORD.itemsize:
            return None
        last = header.start + (header.end - header.start - _WORD.itemsize) // _WORD.itemsize * _WORD.itemsize
        ends = [np.fromfile(self.path, _WORD, 1, offset=at)["t"][0] for at in (header.start, last)]
        span_us = int(ends[1]) - int(ends[0])
        return span_us if span_us >= 0 else span_us + _TURN


def _read_header(file: BinaryIO, path: Path) -> _Header:
    """Read the lines that begin with `#`."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.readline(64)
    version = first[len(_MAGIC) :].strip().decode("ascii", "replace")
    if not recognise(first, path) or version not in _VERSIONS:
        raise SourceError(
            f"{path} begins with {first[:16]!r}, expected AEDAT {', '.join(_VERSIONS)}: convert it with DV"
        )
    lines = [first]
    start = file.tell()
    while (line := file.readline(_LONGEST_HEADER)).startswith(b"#"):
        if version != "3.1" and not line.rstrip(b"\r\n").isascii():
            break  # an event whose first byte is that of '#'
        lines.append(line)
        start = file.tell()
        if line.startswith(_END_HEADER) or start > _LONGEST_HEADER:
            break
    text = b"".join(lines).decode("ascii", "replace").replace("\r", "")
    if version == "3.1":
        if not lines[-1].startswith(_END_HEADER):
            raise RecordingDamaged(f"{path}: its header has no end ({_END_HEADER.decode()})", start)
        kind = re.search(r"^#Format:\s*(\S+)", text, re.MULTILINE)
        if kind and kind[1] != "RAW":
            raise SourceError(f"{path} is compressed ({kind[1]}), only RAW is read: convert it with DV")
    return _Header(version, text, start, size)


def _imu_scale(text: str) -> tuple[float, float] | None:
    """(g, degrees a second) a count, where jAER's preferences in the header say the ranges."""
    accelerometer = re.search(r'key="ImuAccelScale" value="ImuAccelScale(G\d+)"', text)
    gyroscope = re.search(r'key="ImuGyroScale" value="GyroFullScaleDegPerSec(\d+)"', text)
    if not accelerometer or not gyroscope:
        return None
    counts = _ACCELEROMETER.get(accelerometer[1]), _GYROSCOPE.get(gyroscope[1])
    return (1 / counts[0], 1 / counts[1]) if counts[0] and counts[1] else None
