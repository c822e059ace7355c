"""Files of ROS messages, message by message in the order of the file: ROS 1 bags, MCAP, and SQLite bags of ROS 2."""

from __future__ import annotations

import bz2
import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from zstandard import ZstdDecompressor, ZstdError

from drivers.recordings.rosbag.messages import Serialization
from nire.errors import RecordingDamaged, SourceError

BAG, MCAP, SQLITE = b"#ROSBAG V2.0\n", b"\x89MCAP0\r\n", b"SQLite format 3\0"
_MOST_BYTES = 1 << 30
_LZ4_RATIO = 255  # the most that LZ4 can shrink
_MESSAGE, _CHUNK, _CONNECTION = 2, 5, 7
# What damaged bytes make of numbers, names and compressed blocks. A size beyond all memory is damage, too.
_UNREADABLE = (
    *(ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, struct.error),
    *(EOFError, OSError, RuntimeError, MemoryError),
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Attributes:
        topic, kind: its topic, and its type as package/Name.
        serialization, data: how and what it holds.
        received_ns: when it was recorded, by the clock of the recording machine.
        position: where it lies, for errors.
    """

    topic: str
    kind: str
    serialization: Serialization
    data: bytes
    received_ns: int
    position: int


def files_of(path: Path) -> list[Path]:
    """The files of a recording: itself, or those of a folder that ROS 2 made, in order."""
    if not path.is_dir():
        return [path]
    found = [file for suffix in ("*.mcap", "*.db3") for file in path.glob(suffix)]
    return sorted(found, key=lambda file: (len(file.name), file.name))


def messages_of(path: Path) -> Iterator[Message]:
    """Read the messages of a file or folder.

    Raises:
        SourceError: it cannot be read, or is compressed as a whole.
        RecordingDamaged: after all messages before the damage.
    """
    for file in files_of(path):
        head = _head(file)
        if head.startswith(BAG):
            yield from _bag(file)
        elif head.startswith(MCAP):
            yield from _mcap(file)
        else:
            yield from _sqlite(file)


def topics_of(path: Path) -> dict[str, str]:
    """Types of the topics by the file's index, which knows those that begin late; {} where it cannot be read."""
    found: dict[str, str] = {}
    with contextlib.suppress(*_UNREADABLE, sqlite3.Error, SourceError):
        for file in files_of(path):
            head = _head(file)
            if head.startswith(BAG):
                found |= _topics_of_bag(file)
            elif head.startswith(MCAP):
                found |= _topics_of_mcap(file)
            else:
                with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as base:
                    found |= {name: _short(kind) for name, kind in base.execute("SELECT name, type FROM topics")}
    return found


def _topics_of_bag(path: Path) -> dict[str, str]:
    topics: dict[int, tuple[str, str]] = {}
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(len(BAG))
        fields, _, _ = _record(file, size)
        at = int.from_bytes(fields.get("index_pos", b""), "little")
        while 0 < at < size:
            file.seek(at)
            fields, begin, count = _record(file, size)
            if fields["op"][0] == _CONNECTION:
                _connect(fields, file.read(count), topics)
            at = begin + count
    return dict(topics.values())


def _topics_of_mcap(path: Path) -> dict[str, str]:
    from mcap.exceptions import McapError
    from mcap.reader import SeekingReader

    with open(path, "rb") as file:
        try:
            summary = SeekingReader(file, record_size_limit=_MOST_BYTES).get_summary()
        except McapError:
            return {}
        if summary is None:
            return {}
        kinds = {number: _short(schema.name) for number, schema in summary.schemas.items()}
        return {channel.topic: kinds.get(channel.schema_id, "") for channel in summary.channels.values()}


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _bag(path: Path) -> Iterator[Message]:
    """Walk over the records of a bag; its index, which a crash leaves out, is not needed."""
    topics: dict[int, tuple[str, str]] = {}
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        position = len(BAG)
        while position < size:
            file.seek(position)
            try:
                fields, at, count = _record(file, size)
                if fields["op"][0] == _CHUNK:
                    yield from _chunk(_unpacked(fields, file.read(count)), topics, position)
                elif fields["op"][0] == _CONNECTION:
                    _connect(fields, file.read(count), topics)
                elif fields["op"][0] == _MESSAGE:
                    yield from _of_bag(fields, file.read(count), topics, position)
            except _UNREADABLE as error:
                raise RecordingDamaged(
                    f"{path} is damaged at byte {position}: {error}; all before was delivered", position
                ) from error
            position = at + count


def _record(file: BinaryIO, size: int) -> tuple[dict[str, bytes], int, int]:
    """Read the head of a record: its fields, where its data begin, and how many bytes they are."""
    (length,) = struct.unpack("<I", file.read(4))
    if length > min(size - file.tell(), _MOST_BYTES):
        raise ValueError(f"a record's head claims {length} bytes")
    fields = _fields(file.read(length))
    (count,) = struct.unpack("<I", file.read(4))
    if count > min(size - file.tell(), _MOST_BYTES):
        raise ValueError(f"a record claims {count} bytes, {size - file.tell()} are left: the file was cut off")
    return fields, file.tell(), count


def _fields(data: bytes) -> dict[str, bytes]:
    fields, at = {}, 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        name, _, value = data[at + 4 : at + 4 + length].partition(b"=")
        fields[name.decode("ascii", "replace")] = value
        at += 4 + length
    return fields


def _unpacked(fields: dict[str, bytes], data: bytes) -> bytes:
    """Decompress a chunk, to no more than its head says and its compression can reach."""
    compression = fields["compression"]
    if compression == b"none":
        return data
    most = min(int.from_bytes(fields["size"], "little"), _MOST_BYTES)
    if compression == b"bz2":
        return bz2.BZ2Decompressor().decompress(data, max_length=most)
    if compression == b"lz4":
        most = min(most, _LZ4_RATIO * len(data))
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=most))
    raise ValueError(f"the compression {compression!r} is not known")


def _chunk(data: bytes, topics: dict[int, tuple[str, str]], position: int) -> Iterator[Message]:
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        fields = _fields(data[at + 4 : at + 4 + length])
        (count,) = struct.unpack_from("<I", data, at + 4 + length)
        body = data[at + 8 + length : at + 8 + length + count]
        if fields["op"][0] == _CONNECTION:
            _connect(fields, body, topics)
        elif fields["op"][0] == _MESSAGE:
            yield from _of_bag(fields, body, topics, position)
        at += 8 + length + count


def _connect(fields: dict[str, bytes], data: bytes, topics: dict[int, tuple[str, str]]) -> None:
    number = int.from_bytes(fields["conn"], "little")
    topics[number] = fields["topic"].decode(), _fields(data)["type"].decode()


def _of_bag(
    fields: dict[str, bytes], data: bytes, topics: dict[int, tuple[str, str]], position: int
) -> Iterator[Message]:
    topic, kind = topics[int.from_bytes(fields["conn"], "little")]
    seconds, nanoseconds = struct.unpack("<II", fields["time"]) if "time" in fields else (0, 0)
    yield Message(topic, kind, "ros1", data, seconds * 1_000_000_000 + nanoseconds, position)


def _mcap(path: Path) -> Iterator[Message]:
    from mcap.exceptions import McapError
    from mcap.records import Channel, Schema
    from mcap.records import Message as Record

    known: dict[str, Serialization] = {"ros1": "ros1", "cdr": "cdr"}
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, str, Serialization | None]] = {}
    with open(path, "rb") as file:
        try:
            for record in _records(file):
                if isinstance(record, Schema):
                    schemas[record.id] = _short(record.name)
                elif isinstance(record, Channel):
                    kind = schemas.get(record.schema_id, "")
                    channels[record.id] = record.topic, kind, known.get(record.message_encoding)
                elif isinstance(record, Record) and record.channel_id in channels:
                    topic, kind, serialization = channels[record.channel_id]
                    if serialization is not None:
                        yield Message(topic, kind, serialization, record.data, record.log_time, file.tell())
        except (McapError, ZstdError, *_UNREADABLE) as error:
            position = file.tell()
            raise RecordingDamaged(
                f"{path} is damaged before byte {position}: {type(error).__name__} {error}; all before was delivered",
                position,
            ) from error


class _Bounded:
    """Reads a file; sizes beyond its end get no memory, which a plain file gives before it misses the bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))


def _records(file: BinaryIO) -> Iterator[object]:
    """The records of an MCAP file. Chunks are inflated here: mcap would believe their head about the memory."""
    from mcap.records import Chunk
    from mcap.stream_reader import StreamReader, breakup_chunk

    for record in StreamReader(_Bounded(file), emit_chunks=True, record_size_limit=_MOST_BYTES).records:  # type: ignore[arg-type]
        if not isinstance(record, Chunk):
            yield record
            continue
        data = record.data
        if record.compression == "zstd":
            data = ZstdDecompressor().decompressobj().decompress(data)
        elif record.compression == "lz4":
            most = min(record.uncompressed_size, _LZ4_RATIO * len(data))
            data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=most)
        elif record.compression:
            raise ValueError(f"the compression {record.compression!r} is not known")
        yield from breakup_chunk(replace(record, compression="", data=data, uncompressed_size=len(data)))


def _sqlite(path: Path) -> Iterator[Message]:
    count = 0
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            topics = {row[0]: (row[1], _short(row[2])) for row in base.execute("SELECT id, name, type FROM topics")}
            for topic, data, ns in base.execute(
                "SELECT topic_id, data, timestamp FROM messages ORDER BY timestamp, id"
            ):
                if topic in topics:
                    yield Message(*topics[topic], "cdr", data, ns, count)
                count += 1
    except (sqlite3.Error, ValueError, OverflowError, MemoryError) as error:
        raise RecordingDamaged(f"{path}: cannot be read from message {count} on: {error}", count) from error


def _short(kind: str) -> str:
    """The name of a type as ROS 1 writes it: sensor_msgs/msg/Image is sensor_msgs/Image."""
    return kind.replace("/msg/", "/")
