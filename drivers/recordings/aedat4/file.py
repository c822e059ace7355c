r"""The AEDAT4 file format: header, packet framing, compression and frames. No policy, no merging.

A file is `#!AER-DAT4.0\r\n`, a size-prefixed flatbuffer (compression, position of the data table, an XML tree of
streams), then packets `stream int32 | bytes int32 | payload`, then the data table. The payload is an LZ4 or ZSTD
frame around a size-prefixed flatbuffer. Read here by hand, because packets must be delivered up to the byte at
which a file is damaged, which a reader that wants the data table first cannot do.
"""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ElementTree
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame
import numpy as np
import zstandard

from drivers.recordings.aedat4.flatbuffer import Table, read_number
from nire.errors import RecordingDamaged, SourceError

MAGIC = b"#!AER-DAT4.0\r\n"
EVENT = np.dtype(
    {"names": ["t", "x", "y", "p"], "formats": ["<i8", "<u2", "<u2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
PACKET_PREFIX = struct.Struct("<ii")
_LZ4, _ZSTD = (1, 2), (3, 4)
_MAX_PACKET_BYTES = 1 << 29
_MAX_PAYLOAD_BYTES, _MAX_WINDOW_BYTES, _PIECE_BYTES = 1 << 28, 1 << 27, 1 << 17
_DEPTHS: dict[int, np.dtype[Any]] = {0: np.dtype(np.uint8), 2: np.dtype("<u2")}  # OpenCV's: CV_8U, CV_16U
_LARGEST_PX, _LATEST_US = 1 << 14, 1 << 60
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a file: `kind` is EVTS, FRME, IMUS, TRIG or another four letters; sizes are 0 where unknown."""

    number: int
    kind: str
    width: int
    height: int
    camera: str


@dataclass(frozen=True, slots=True)
class Header:
    """What precedes the packets.

    Attributes:
        compression: 0 none, 1 and 2 LZ4, 3 and 4 ZSTD.
        first_packet, end: bytes in the file between which the packets lie; the end is the file's where no data
            table was written.
        cut: True where the header promises a data table beyond the end of the file.
        streams: by number.
    """

    compression: int
    first_packet: int
    end: int
    cut: bool
    streams: dict[int, Stream]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the packets of a file lie, in its order; 16 bytes of memory a packet.

    Attributes:
        positions: int64 [N], of the packets.
        streams: int32 [N], number of the stream.
        sizes: int32 [N], bytes of the payload.
        damage: what is wrong behind the last of them; None = nothing.
    """

    positions: array[int]
    streams: array[int]
    sizes: array[int]
    damage: RecordingDamaged | None

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (position, stream, size) of each."""
        return zip(self.positions, self.streams, self.sizes, strict=True)


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """A frame as the file has it.

    Attributes:
        t_us, exposure_start_us, exposure_end_us, exposure_us: in microseconds, 0 = not written.
        pixels: [H, W] or [H, W, C], uint8 or uint16, colours as BGR.
        at: column and row of the first pixel on the sensor: frames may be a region of interest.
    """

    t_us: int
    exposure_start_us: int
    exposure_end_us: int
    exposure_us: int
    pixels: np.ndarray[tuple[int, ...], np.dtype[Any]]
    at: tuple[int, int]


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read the header of an open file.

    Raises:
        SourceError: the file is no AEDAT4.
        RecordingDamaged: the header itself is broken.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise SourceError(f"{path} is no AEDAT4 recording: it does not start with {MAGIC!r}")
    size = file.seek(0, os.SEEK_END)
    file.seek(len(MAGIC))
    try:
        prefix = file.read(4)
        table = Table.root(prefix + file.read(min(size, read_number("<I", memoryview(prefix), 0))))
        compression, data_table = int(table.number(0, "<i")), int(table.number(1, "<q"))
        streams = _streams(bytes(table.array(2, np.uint8)).decode())
    except (struct.error, ValueError, IndexError, ElementTree.ParseError) as error:
        raise RecordingDamaged(f"{path}: the header is damaged: {error}", len(MAGIC)) from error
    if compression not in (0, *_LZ4, *_ZSTD):
        raise RecordingDamaged(f"{path}: the header names an unknown compression {compression}", len(MAGIC))
    # No position (-1) is left by writers that crashed, and by some that never write a table: not damage by itself.
    end = data_table if len(MAGIC) < data_table <= size else size
    return Header(compression, file.tell(), end, data_table > size, streams)


def find_packets(file: BinaryIO, header: Header, path: Path) -> Places:
    """Walk over the packets without reading them, up to the first that the file ends in or that makes no sense."""
    places = Places(array("q"), array("i"), array("i"), None)
    position, prefix_bytes = header.first_packet, PACKET_PREFIX.size
    while position < header.end:
        file.seek(position)
        prefix = file.read(prefix_bytes)
        number, size = PACKET_PREFIX.unpack(prefix) if len(prefix) == prefix_bytes else (0, -1)
        left = header.end - position - prefix_bytes
        if not 0 <= size <= left or size > _MAX_PACKET_BYTES:
            what = "ends" if size > left or len(prefix) < prefix_bytes else "is damaged"
            text = f"{path} {what} inside a packet at byte {position} (of {header.end}); all before was delivered"
            return replace(places, damage=RecordingDamaged(text, position))
        places.positions.append(position)
        places.streams.append(number)
        places.sizes.append(size)
        position += prefix_bytes + size
    if header.cut or not _table_is_whole(file, header):
        text = f"{path} was cut off: its data table at byte {position} is not whole; all before was delivered"
        return replace(places, damage=RecordingDamaged(text, position))
    return places


def _table_is_whole(file: BinaryIO, header: Header) -> bool:
    """Look for the end of the compressed data table that follows the packets; its content is not needed."""
    file.seek(header.end)
    if header.compression in _LZ4:
        stream: Any = lz4.frame.LZ4FrameDecompressor()
    elif header.compression in _ZSTD:
        stream = zstandard.ZstdDecompressor().decompressobj()
    else:
        return True
    found = False
    try:
        while not stream.eof and (data := file.read(_CHUNK_BYTES)):
            found = True
            stream.decompress(data)
    except (RuntimeError, zstandard.ZstdError):
        return False
    return bool(stream.eof) or not found  # writers that leave no table leave no damage


class Unpacker:
    """Reads payloads, one at a time, into memory that it keeps: to map fresh memory takes as long as to decompress."""

    def __init__(self, compression: int) -> None:
        """Begin; `compression` is the header's."""
        self._compression = compression
        self._lz4 = lz4.frame.create_decompression_context()
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._room = memoryview(bytearray(_PIECE_BYTES))

    def payload(self, file: BinaryIO, position: int, size: int) -> memoryview:
        """Read and decompress the payload of the packet at a position; it is there until the next one is read.

        Raises:
            ValueError: it cannot be decompressed.
        """
        file.seek(position + PACKET_PREFIX.size)
        data = file.read(size)
        try:
            if self._compression in _LZ4:
                return self._unpacked_lz4(data)
            if self._compression in _ZSTD:
                return self._unpacked_zstd(data)
        except (RuntimeError, zstandard.ZstdError) as error:
            raise ValueError(f"it cannot be decompressed: {error}") from error
        return memoryview(data)

    def _unpacked_lz4(self, data: bytes) -> memoryview:
        lz4.frame.reset_decompression_context(self._lz4)
        packed, filled, whole = memoryview(data), 0, False
        while not whole:
            # In one piece it would come in fresh memory, twice, and of the size that a damaged file claims.
            piece, taken, whole = lz4.frame.decompress_chunk(self._lz4, packed, max_length=_PIECE_BYTES)
            if whole and not filled:
                return memoryview(piece)
            if not (taken or piece or whole):
                raise ValueError("it cannot be decompressed: its end is missing")
            self._make_room(filled + len(piece))
            self._room[filled : filled + len(piece)] = piece
            packed, filled = packed[taken:], filled + len(piece)
        return self._room[:filled]

    def _unpacked_zstd(self, data: bytes) -> memoryview:
        claimed = zstandard.frame_content_size(data)
        if claimed > _MAX_PAYLOAD_BYTES:
            raise ValueError(f"it claims {claimed} bytes, expected at most {_MAX_PAYLOAD_BYTES}")
        filled = 0
        with self._zstd.stream_reader(data) as reader:
            while True:
                self._make_room(filled + _PIECE_BYTES)
                count = reader.readinto(self._room[filled : filled + _PIECE_BYTES])
                if not count:
                    return self._room[:filled]
                filled += count

    def _make_room(self, size: int) -> None:
        """Have room for so many bytes, with what is in it; a few damaged bytes can stand for gigabytes."""
        most = _MAX_PAYLOAD_BYTES + _PIECE_BYTES
        if size > most:
            raise ValueError(f"it is more than {_MAX_PAYLOAD_BYTES} bytes")
        if size > len(self._room):
            room = memoryview(bytearray(min(2 * size, most)))
            room[: len(self._room)] = self._room
            self._room = room


def frame_record(data: bytes | memoryview) -> FrameRecord:
    """Decode a FRME payload; its pixels are copied.

    Raises:
        ValueError: pixels and size do not fit.
        SourceError: a type of pixels that is not read.
    """
    table = Table.root(data)
    kind, width, height = int(table.number(5, "<B")), int(table.number(6, "<h")), int(table.number(7, "<h"))
    pixels = table.array(10, np.uint8)
    channels = (kind >> 3) + 1  # OpenCV's type: depth in the low three bits, channels - 1 above
    times_us = [int(table.number(field, "<q")) for field in (0, 3, 4, 11)]
    if max(map(abs, times_us)) > _LATEST_US:
        raise ValueError(f"a frame has the times {times_us} us")
    dtype: np.dtype[Any] | None = _DEPTHS.get(kind & 7)
    if dtype is None or channels not in (1, 3, 4):
        raise SourceError(f"frames of OpenCV's type {kind} are not read, expected 8 or 16 bits of 1, 3 or 4 channels")
    if pixels.size != width * height * channels * dtype.itemsize or not pixels.size:
        raise ValueError(f"a frame of {width} x {height}, OpenCV type {kind}, has {pixels.size} bytes of pixels")
    shape = (height, width) if channels == 1 else (height, width, channels)
    return FrameRecord(
        t_us=int(table.number(0, "<q")),
        exposure_start_us=int(table.number(3, "<q")),
        exposure_end_us=int(table.number(4, "<q")),
        exposure_us=int(table.number(11, "<q")),
        pixels=np.frombuffer(pixels.tobytes(), dtype).reshape(shape),
        at=(int(table.number(8, "<h")), int(table.number(9, "<h"))),
    )


def _streams(xml: str) -> dict[int, Stream]:
    streams = {}
    info = ElementTree.fromstring(xml.rstrip("\0")).find("node[@name='outInfo']")
    for node in info if info is not None else ():
        number = node.get("name", "")
        if not number.isdigit():
            continue
        values = {item.get("key"): item.text or "" for item in node.iter("attr")}
        if not all(0 <= int(values.get(key, "0")) <= _LARGEST_PX for key in ("sizeX", "sizeY")):
            raise ValueError(f"stream {number} is of {values.get('sizeX')} x {values.get('sizeY')} pixels")
        streams[int(number)] = Stream(
            int(number),
            values.get("typeIdentifier", ""),
            int(values.get("sizeX", "0")),
            int(values.get("sizeY", "0")),
            values.get("source", ""),
        )
    return streams
