"""Recordings of ROS: bags of ROS 1, bags of ROS 2 (SQLite, MCAP), with events as arrays or packets, and images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from drivers.packets.ordering import arranged
from drivers.recording_file import RecordingFile
from drivers.recordings.rosbag import messages as ros
from drivers.recordings.rosbag.files import BAG, MCAP, SQLITE, Message, files_of, messages_of
from drivers.source import SourceInfo
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Geometry, ImuBatch, SourcePacket, Transfer, Trigger

ARRAYS = ("dvs_msgs/EventArray", "prophesee_event_msgs/EventArray")
PACKETS = ("event_camera_msgs/EventPacket", "event_array_msgs/EventArray")
IMAGES = ("sensor_msgs/Image", "sensor_msgs/CompressedImage")
EXPOSURE = "sensor_msgs/TimeReference"
"""Where a topic of this type has the source "exposure", it says the end of the exposure of the image of that stamp."""

_LOOK = 2000  # messages in which the first event and image are looked for
_MOST_EXPOSURES = 1000


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file, or the files of a folder, are of ROS."""
    if path.is_dir():
        return any(path.glob("*.mcap")) or any(path.glob("*.db3"))
    return head.startswith((BAG, MCAP)) or (head.startswith(SQLITE) and b"messages" in head and b"topic" in head)


def open_source(
    path: str | Path, *, events_topic: str = "", frames_topic: str = "", transfer: Transfer = "linear"
) -> RosSource:
    """Open a recording; it is checked on entry. Memory holds a chunk of it at a time.

    Args:
        path: a `.bag`, `.mcap` or `.db3` file, or the folder of a bag of ROS 2.
        events_topic, frames_topic: which to read; "" = the first of a type that is known.
        transfer: of the images' pixels.

    Raises:
        ConfigError: another word for `transfer`.
    """
    if transfer not in ("linear", "srgb"):
        raise ConfigError(f"rosbag: transfer = {transfer!r}, expected 'linear' or 'srgb'")
    return RosSource(Path(path), events_topic, frames_topic, transfer)


class RosSource(RecordingFile):
    """The source. Its clock is that of the messages' stamps."""

    def __init__(self, path: Path, events_topic: str, frames_topic: str, transfer: Transfer) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._wanted = {"events": events_topic, "frames": frames_topic}
        self._transfer: Transfer = transfer
        self._topics: dict[str, str] = {}

    def _look(self) -> SourceInfo:
        """Look at the first messages: which topics there are, the first events and the first image.

        Raises:
            SourceError: no such file, or no topic that can be read; the message names those that are there.
        """
        if not files_of(self.path):
            raise SourceError(f"{self.path} has no .mcap or .db3 file")
        seen: dict[str, str] = {}
        self._topics, size, channels = {}, (0, 0), 0
        try:
            for number, message in enumerate(messages_of(self.path)):
                seen[message.topic] = message.kind
                role = _role(message)
                if role and self._topics.get(role, message.topic) == message.topic and self._is_wanted(role, message):
                    first = role not in self._topics
                    self._topics[role] = message.topic
                    if role == "events" and first:
                        size = self._size_of(message)
                    elif role == "frames" and first:
                        pixels = _image(message)[1]
                        size, channels = (pixels.shape[1], pixels.shape[0]), pixels.shape[2]
                if {"events", "frames"} <= set(self._topics) or number > _LOOK:
                    break
        except RecordingDamaged:
            if not self._topics:
                raise
        except ValueError as error:
            raise RecordingDamaged(f"{self.path}: the first message of {message.topic}: {error}") from error
        if not {"events", "frames"} & set(self._topics) or not all(size):
            there = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(seen.items())) or "no messages"
            raise SourceError(
                f"{self.path} has {there}; expected events ({', '.join(ARRAYS + PACKETS)}) or images "
                f"({', '.join(IMAGES)}), by the topics of the settings if they are set"
            )
        return SourceInfo(
            name=self.path.name, geometry=Geometry(*size, channels=channels or 1), has_frames=channels > 0
        )

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield packets; images and the rest as soon as the events have passed them.

        Raises:
            RecordingDamaged: a message cannot be decoded or the file ends within one; all before was delivered.
        """
        _ = self.info
        return arranged(self._packets())

    def _packets(self) -> Iterator[SourcePacket]:
        decoder = _Decoder(self.path.name, self._transfer)
        for message in messages_of(self.path):
            role = _role(message)
            if role in ("events", "frames") and message.topic != self._topics.get(role):
                continue
            try:
                yield from decoder.decode(role, message)
            except (ValueError, RuntimeError) as error:
                raise RecordingDamaged(
                    f"{self.path}: a message of {message.topic} at {message.position}: {error}; all before was "
                    "delivered",
                    message.position,
                ) from error

    def _is_wanted(self, role: str, message: Message) -> bool:
        wanted = self._wanted.get(role, "")
        return not wanted or wanted == message.topic

    @staticmethod
    def _size_of(message: Message) -> tuple[int, int]:
        if message.kind in ARRAYS:
            columns = ros.event_array(message.data, message.serialization)
            return columns.width, columns.height
        packet = ros.event_packet(message.data, message.serialization)
        return packet.width, packet.height


class _Decoder:
    """Turns messages into packets; remembers the sensor's clock, the words between packets, and exposures."""

    def __init__(self, name: str, transfer: Transfer) -> None:
        self._name = name
        self._transfer: Transfer = transfer
        self._offset_us: int | None = None  # the stamps' clock minus the sensor's
        self._words: object | None = None
        self._frames = 0
        self._exposures: dict[int, int] = {}

    def decode(self, role: str, message: Message) -> Iterator[SourcePacket]:
        """Decode a message of a role; "" gives nothing."""
        data, serialization = message.data, message.serialization
        if role == "events" and message.kind in ARRAYS:
            yield from _batch(ros.event_array(data, serialization), 0)
        elif role == "events":
            yield from self._packet(ros.event_packet(data, serialization))
        elif role == "exposure":
            stamp_ns, end_ns, source = ros.time_reference(data, serialization)
            if source == "exposure":
                if len(self._exposures) > _MOST_EXPOSURES:
                    self._exposures.clear()  # their images are of another topic, or lost
                self._exposures[stamp_ns] = end_ns
        elif role == "frames":
            stamp_ns, pixels = _image(message)
            end_ns = self._exposures.pop(stamp_ns, -1)
            known = end_ns >= stamp_ns
            start_us, end_us = stamp_ns // 1000, (end_ns if known else stamp_ns) // 1000
            yield Frame(self._frames, pixels, start_us, end_us, transfer=self._transfer, exposure_known=known)
            self._frames += 1
        elif role == "imu":
            stamp_ns, acceleration, rotation = ros.inertial(data, serialization)
            yield ImuBatch(
                np.array([stamp_ns // 1000], np.int64),
                np.array([acceleration], np.float32),
                np.array([rotation], np.float32),
            )

    def _packet(self, packet: ros.EventPacket) -> Iterator[EventBatch | Trigger]:
        if packet.encoding == "mono":
            columns = ros.mono_events(packet)
            if columns.t_us.size and self._offset_us is None:
                self._offset_us = packet.stamp_ns // 1000 - int(columns.t_us[0])
            yield from _batch(columns, self._offset_us or 0)
        elif packet.encoding == "evt3":
            from drivers.prophesee.evt import EvtDecoder  # brings in a compiler

            if not isinstance(self._words, EvtDecoder):
                self._words = EvtDecoder("EVT3", name=self._name)
            for part in self._words.feed(packet.events):
                if self._offset_us is None:
                    first_us = part.t_us if isinstance(part, Trigger) else int(part.t_us[0]) if len(part) else None
                    if first_us is None:
                        continue
                    self._offset_us = packet.stamp_ns // 1000 - first_us
                yield _shifted(part, self._offset_us)
        else:
            raise ValueError(f"events of encoding {packet.encoding!r} are not read, expected evt3 or mono")


def _role(message: Message) -> str:
    """What a message may be for: events, frames, exposure, imu, or nothing."""
    if message.kind in ARRAYS or message.kind in PACKETS:
        return "events"
    if message.kind in IMAGES:
        return "frames"
    return {EXPOSURE: "exposure", "sensor_msgs/Imu": "imu"}.get(message.kind, "")


def _image(message: Message) -> tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    decode = ros.image if message.kind == "sensor_msgs/Image" else ros.compressed_image
    return decode(message.data, message.serialization)


def _batch(columns: ros.Columns, offset_us: int) -> Iterator[EventBatch]:
    if columns.t_us.size:
        t_us = columns.t_us + offset_us
        yield EventBatch(t_us, columns.x, columns.y, columns.p, int(t_us[-1]))


def _shifted(part: EventBatch | Trigger, offset_us: int) -> EventBatch | Trigger:
    if isinstance(part, Trigger):
        return Trigger(part.t_us + offset_us, part.channel, part.rising)
    return EventBatch(part.t_us + offset_us, part.x, part.y, part.p, part.watermark_us + offset_us)
