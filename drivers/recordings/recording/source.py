"""Our own recording format (.nire): append-only chunks with length and CRC, so that a crash leaves a readable file.

Layout: `MAGIC`, then chunks of `kind (4 ASCII) | payload bytes uint32 | CRC-32 of kind and payload uint32 | payload`,
all little-endian. The first chunk is HEAD (JSON), the last one of a whole file is END_.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from drivers.packets.chunks import HEAD, decode_packet, encode_packet
from drivers.packets.playback import packet_span_us
from drivers.recording_file import RecordingFile
from drivers.source import SourceInfo
from drivers.writing import FileWriter
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Geometry, SourcePacket, WallClock

SUFFIX = ".nire"
MAGIC = b"NIRE-RECORDING 1\n"
_CHUNK = struct.Struct("<4sII")
_END = struct.Struct("<qqQQ")  # first and last device time, events, frames
_MAX_CHUNK_BYTES = 1 << 30


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file is such a recording, finished or not."""
    return head.startswith(MAGIC)


def open_source(path: str | Path) -> RecordingSource:
    """Open a recording for reading; it is checked on entry.

    Args:
        path: a `.nire` file, or the `.part` that a crash left.
    """
    return RecordingSource(Path(path))


def create_writer(path: Path, geometry: Geometry, source: SourceInfo) -> RecordingWriter:
    """Begin a recording; see `RecordingWriter`.

    Raises:
        SourceError: the file cannot be made.
    """
    return RecordingWriter(path, geometry, source=source)


class RecordingWriter(FileWriter):
    """Writes packets as they come. The file has a temporary name (`.part`) until it is whole.

    Attributes:
        lost: always empty: everything that a source can say has its place.
    """

    def __init__(
        self,
        path: str | Path,
        geometry: Geometry,
        meta: Mapping[str, Any] | None = None,
        *,
        source: SourceInfo | None = None,
    ) -> None:
        """Create the file.

        Args:
            path: final name; an existing file is replaced when the new one is whole.
            geometry: of the sensor.
            meta: anything JSON: settings, who, where.
            source: what was recorded; its name, clock offset and frames are kept.

        Raises:
            SourceError: the file cannot be made.
        """
        super().__init__(path)
        self.path = self._output.path
        self._output.write(MAGIC)
        self._span: tuple[int, int] | None = None
        self._events = 0
        self._frames = 0
        head = {
            "geometry": {name: value for name, value in asdict(geometry).items() if value != ""},  # as before filters
            "name": source.name if source else "",
            "has_frames": source.has_frames if source else True,
            "time_offset_us": source.time_offset_us if source else None,
            "meta": dict(meta or {}),
        }
        self._chunk(HEAD, json.dumps(head).encode())

    def write(self, packet: SourcePacket) -> None:
        """Append a packet; it is out of this process when the call returns.

        Raises:
            SourceError: the disk is full or went away.
        """
        kind, payload = encode_packet(packet)
        self._chunk(kind, payload)
        if isinstance(packet, WallClock):
            return  # it may hold from a time before the recording's first packet
        first_us, last_us = packet_span_us(packet)
        if isinstance(packet, EventBatch):
            self._events += len(packet)
        elif isinstance(packet, Frame):
            self._frames += 1
        span = self._span or (first_us, last_us)
        self._span = (min(span[0], first_us), max(span[1], last_us))

    def _complete(self) -> None:
        """Write the end: the span, and how much there is."""
        self._chunk(b"END_", _END.pack(*(self._span or (0, 0)), self._events, self._frames))

    def _chunk(self, kind: bytes, payload: bytes) -> None:
        self._output.write(_CHUNK.pack(kind, len(payload), zlib.crc32(payload, zlib.crc32(kind))), payload)
        self._output.flush()


class RecordingSource(RecordingFile):
    """Reads a recording from the start at each iteration, one chunk in memory."""

    def __init__(self, path: Path) -> None:
        """Remember the path."""
        super().__init__(path)
        self.meta: dict[str, Any] = {}
        self._first_packet = 0

    def _look(self) -> SourceInfo:
        """Read the head.

        Raises:
            SourceError: no such file, or no such recording.
            RecordingDamaged: the head itself is broken.
        """
        try:
            with open(self.path, "rb") as file:
                return self._read_head(file)
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error

    def _play(self) -> Iterator[SourcePacket]:
        """Yield the packets.

        Raises:
            RecordingDamaged: after the last good packet: a chunk is cut or altered, or the end is missing.
        """
        with open(self.path, "rb") as file:
            file.seek(self._first_packet)
            while True:
                position = file.tell()
                kind, payload = self._next_chunk(file)
                if kind == b"END_":
                    return
                try:
                    packet = decode_packet(kind, payload)
                except ValueError as error:
                    raise RecordingDamaged(f"{self.path}: byte {position}: {error}", position) from error
                if packet is not None:  # None: a kind that a later version added
                    yield packet

    def _read_head(self, file: BinaryIO) -> SourceInfo:
        if file.read(len(MAGIC)) != MAGIC:
            raise SourceError(f"{self.path} is no .nire recording: it does not start with {MAGIC!r}")
        kind, payload = self._next_chunk(file)
        self._first_packet = file.tell()
        try:
            head: Any = json.loads(payload) if kind == HEAD else None
            geometry = Geometry(**head["geometry"])
            self.meta = dict(head["meta"])
            return SourceInfo(
                name=head["name"] or self.path.name,
                geometry=geometry,
                has_frames=bool(head["has_frames"]),
                duration_us=self._duration_us(file),
                time_offset_us=head["time_offset_us"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingDamaged(
                f"{self.path}: the head at byte {len(MAGIC)} is damaged: {error!r}", len(MAGIC)
            ) from error

    def _duration_us(self, file: BinaryIO) -> int | None:
        """Look at the last chunk; None where the file was not finished."""
        size = _CHUNK.size + _END.size
        if file.seek(0, os.SEEK_END) < self._first_packet + size:
            return None
        file.seek(-size, os.SEEK_END)
        tail = file.read(size)
        kind, length, _ = _CHUNK.unpack_from(tail)
        if kind != b"END_" or length != _END.size:
            return None
        first_us, last_us, _, _ = _END.unpack_from(tail, _CHUNK.size)
        return int(last_us - first_us)

    def _next_chunk(self, file: BinaryIO) -> tuple[bytes, bytes]:
        position = file.tell()
        prefix = file.read(_CHUNK.size)
        if not prefix:
            raise RecordingDamaged(
                f"{self.path} was never finished (a crash?): it ends at byte {position}; all before was delivered",
                position,
            )
        damage = ""
        if len(prefix) < _CHUNK.size:
            damage = f"the file ends inside a chunk's prefix ({len(prefix)} of {_CHUNK.size} bytes)"
        else:
            kind, length, checksum = _CHUNK.unpack(prefix)
            left = os.fstat(file.fileno()).st_size - file.tell()
            if length > _MAX_CHUNK_BYTES:
                damage = f"a chunk claims {length} bytes"
            elif length > left or len(payload := file.read(length)) < length:
                damage = f"the file ends inside a chunk ({left} of {length} bytes)"
            elif zlib.crc32(payload, zlib.crc32(kind)) != checksum:
                damage = f"the checksum of a chunk {kind!r} does not fit"
            else:
                return kind, payload
        raise RecordingDamaged(f"{self.path}: damaged at byte {position}: {damage}; all before was delivered", position)
