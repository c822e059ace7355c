"""Recordings of ROS: bags of ROS 1, bags of ROS 2 (SQLite, MCAP), with events as arrays or packets, and images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from drivers.packets.ordering import arranged
from drivers.pixels import Depth, check_bits
from drivers.recording_file import RecordingFile
from drivers.recordings.rosbag import messages as ros
from drivers.recordings.rosbag.files import BAG, MCAP, SQLITE, Message, files_of, messages_of, topics_of
from drivers.recordings.rosbag.libcaer import CompressedDecoder, libcaer_events
from drivers.recordings.rosbag.messages import Serialization
from drivers.recordings.rosbag.topics import ARRAYS, DEVICE_CLOCK, Choice, candidates, choose, role_of
from drivers.sense import check_choice
from drivers.source import Found, SourceInfo
from nire.errors import RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Geometry, ImuBatch, SourcePacket, Transfer, Trigger, WallClock

_T = TypeVar("_T")
_LOOK, _LOOK_INDEXED = 4000, 250  # messages in which topics are looked for, without an index and with one
_LEARNED = 8  # images by which the depth of all is told
_MOST_EXPOSURES = 1000
_TOGETHER_NS = 5_000_000  # an image and the length of its exposure are recorded within it, in whichever order
_ENCODINGS = ("evt3", "mono", "libcaer", "libcaer_cmp")
_log = logging.getLogger(__name__)


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file, or the files of a folder, are of ROS."""
    if path.is_dir():
        return any(path.glob("*.mcap")) or any(path.glob("*.db3"))
    return head.startswith((BAG, MCAP)) or (head.startswith(SQLITE) and b"messages" in head and b"topic" in head)


def open_source(
    path: str | Path,
    *,
    events_topic: str = "",
    frames_topic: str = "",
    bits: int = 0,
    transfer: Transfer = "linear",
) -> RosSource:
    """Open a recording; it is checked on entry. Memory holds a chunk of it at a time.

    Args:
        path: a `.bag`, `.mcap` or `.db3` file, or the folder of a bag of ROS 2.
        events_topic, frames_topic: which to read; "" = the first two of one camera, by namespace and size; "none".
        bits: that images of 16 bits use, 8 to 16; 0 = by the largest value.
        transfer: of the images' pixels.

    Raises:
        ConfigError: another word for `transfer`, or another number of bits.
    """
    check_choice("rosbag", "transfer", transfer, get_args(Transfer))
    check_bits("rosbag", bits)
    return RosSource(Path(path), (events_topic, frames_topic), bits, transfer)


class RosSource(RecordingFile):
    """The source. Its clock is that of the messages' stamps."""

    def __init__(self, path: Path, wanted: tuple[str, str], bits: int, transfer: Transfer) -> None:
        """Remember the settings."""
        super().__init__(path)
        self._wanted = wanted
        self._bits = bits
        self._transfer: Transfer = transfer
        self._choice = Choice("", "", "", ())
        self._depth = Depth(bits)

    def _look(self) -> SourceInfo:
        """Look at the first messages: which topics there are, the first events and the first images.

        Raises:
            SourceError: no such file, no topic that can be read, or none that belong together; the message names those
                that are there.
        """
        if not files_of(self.path):
            raise SourceError(f"{self.path} has no .mcap or .db3 file")
        first = self._first_messages()
        kinds = topics_of(self.path) | {topic: messages[0].kind for topic, messages in first.items()}
        # Topics of the index that have no message near the beginning cannot be compared: those that have come first.
        kinds = {topic: kinds[topic] for topic in sorted(kinds, key=lambda topic: (topic not in first, topic))}
        there = candidates(kinds, events=self._wanted[0], frames=self._wanted[1], path=self.path)
        sizes: dict[str, tuple[int, int]] = {}
        for role, topics in there.items():
            there[role] = self._readable(topics, first, sizes)
        self._choice = choose(kinds, sizes, there, path=self.path)
        for role, topic in (("events", self._choice.events), ("frames", self._choice.frames)):
            others = [t for t in kinds if role_of(t, kinds[t]) == role and t != topic]
            if others and topic:
                _log.warning("%s: %s are read from %s, not from %s", self.path, role, topic, ", ".join(others))
        images = [self._image(message) for message in first.get(self._choice.frames, [])]
        self._depth = Depth(self._bits)
        for image in images:
            self._depth.see(image.pixels)
        self._depth.decide(path=self.path)
        pixels = images[0].turned(self._depth, path=self.path) if images else None
        size = sizes.get(self._choice.events, (0, 0))
        if not all(size) and pixels is not None:
            size = pixels.shape[1], pixels.shape[0]
        if not all(size):
            raise SourceError(f"{self.path}: its events do not say the size of the sensor, and there is no image")
        lengths = Found("exposures", self._choice.lengths, "lengths in us; the stamp of an image is the middle")
        return SourceInfo(
            name=self.path.name,
            geometry=Geometry(*size, channels=1 if pixels is None else pixels.shape[2]),
            has_frames=pixels is not None,
            streams=self._choice.streams,
            found=(*self._depth.found, *([lengths] if self._choice.lengths else [])),
            unix_time=True,
        )

    def _readable(
        self, topics: list[str], first: dict[str, list[Message]], sizes: dict[str, tuple[int, int]]
    ) -> list[str]:
        """The topics of a role without those that cannot be read, which are named; their sizes are noted.

        Raises:
            SourceError: none of them can be read.
        """
        failures: dict[str, SourceError] = {}
        for topic in topics:
            try:
                if topic in first:
                    sizes[topic] = self._size_of(first[topic][0])
            except SourceError as error:
                failures[topic] = error
        if failures and len(failures) == len(topics):
            raise next(iter(failures.values()))
        for failure in failures.values():
            _log.warning("%s; it is left alone", failure)
        return [topic for topic in topics if topic not in failures]

    def _first_messages(self) -> dict[str, list[Message]]:
        """The first message of each topic, of images some more; those of the index are looked for to the end."""
        first: dict[str, list[Message]] = {}
        index = topics_of(self.path)
        awaited = {topic for topic, kind in index.items() if role_of(topic, kind) in ("events", "frames")}
        try:
            for number, message in enumerate(messages_of(self.path)):
                kept, role = first.setdefault(message.topic, []), role_of(message.topic, message.kind)
                if len(kept) < (_LEARNED if role == "frames" else 1):
                    kept.append(message)
                awaited.discard(message.topic)
                if not awaited and number > (_LOOK_INDEXED if index else _LOOK):
                    break
        except RecordingDamaged:
            if not any(role_of(topic, messages[0].kind) in ("events", "frames") for topic, messages in first.items()):
                raise
        return first

    def _play(self) -> Iterator[SourcePacket]:
        """Yield packets; images and the rest as soon as the events have passed them.

        Raises:
            RecordingDamaged: a message cannot be decoded or the file ends within one; all before was delivered.
        """
        return arranged(self._packets())

    def _packets(self) -> Iterator[SourcePacket]:
        decoder = _Decoder(self, self._transfer, has_lengths=bool(self._choice.lengths))
        for message in messages_of(self.path):
            role = role_of(message.topic, message.kind)
            if not self._choice.takes(role, message.topic):
                continue
            try:
                yield from decoder.decode(role, message)
            except (ValueError, RuntimeError, OverflowError) as error:
                raise RecordingDamaged(
                    f"{self.path}: a message of {message.topic} at {message.position}: {error}; all before was "
                    "delivered",
                    message.position,
                ) from error
        yield from decoder.finish()

    def pixels_of(self, message: Message) -> tuple[int, NDArray[np.uint8]]:
        """Stamp in us and pixels of an image, uint8 [H, W, 1] or [H, W, 3] RGB."""
        image = self._image(message)
        return image.stamp_ns // 1000, image.turned(self._depth, path=f"{self.path}: {message.topic}")

    def _image(self, message: Message) -> ros.RawImage:
        decode = ros.image if message.kind == "sensor_msgs/Image" else ros.compressed_image
        return self._of_first(message, decode)

    def _size_of(self, message: Message) -> tuple[int, int]:
        """Width and height that a message of events or of an image says; (0, 0) for others."""
        role = role_of(message.topic, message.kind)
        if role == "frames":
            height, width = self._image(message).pixels.shape[:2]
            return width, height
        if role != "events":
            return 0, 0
        if message.kind in ARRAYS:
            columns = self._of_first(message, ros.event_array)
            return columns.width, columns.height
        packet = self._of_first(message, ros.event_packet)
        if packet.encoding not in _ENCODINGS:
            raise SourceError(f"{self.path}: {message.topic}: {_unknown(packet.encoding)}")
        return packet.width, packet.height

    def _of_first(self, message: Message, decode: Callable[[bytes, Serialization], _T]) -> _T:
        try:
            return decode(message.data, message.serialization)
        except ValueError as error:
            raise RecordingDamaged(f"{self.path}: a message of {message.topic}: {error}", message.position) from error
        except SourceError as error:
            raise SourceError(f"{self.path}: {message.topic}: {error}") from error


class _Decoder:
    """Turns messages into packets; remembers the sensor's clock, the words between packets, and exposures."""

    def __init__(self, source: RosSource, transfer: Transfer, *, has_lengths: bool) -> None:
        self._source = source
        self._transfer: Transfer = transfer
        self._has_lengths = has_lengths
        self._offset_us: int | None = None  # the stamps' clock minus the sensor's
        self._words: object | None = None
        self._frames = 0
        self._ends_ns: dict[int, int] = {}  # of exposures, by the stamp of their image
        self._waiting: tuple[Frame, int] | None = None  # an image without a length, and when it was recorded
        self._length: tuple[int, int] | None = None  # a length without an image, likewise

    def decode(self, role: str, message: Message) -> Iterator[SourcePacket]:
        """Decode a message of a role; "" gives nothing."""
        data, serialization = message.data, message.serialization
        if role == "events" and message.kind in ARRAYS:
            yield from _batch(ros.event_array(data, serialization), 0)
        elif role == "events":
            yield from self._packet(ros.event_packet(data, serialization))
        elif role == "exposure":
            stamp_ns, end_ns, source = ros.time_reference(data, serialization)
            if source.startswith(DEVICE_CLOCK):
                stamp_us = stamp_ns // 1000
                yield WallClock(stamp_us, 1000 * stamp_us, uncertainty_us=_uncertainty_us(source))
            elif source == "exposure":
                if len(self._ends_ns) > _MOST_EXPOSURES:
                    self._ends_ns.clear()  # their images are of another topic, or lost
                self._ends_ns[stamp_ns // 1000] = end_ns
        elif role == "length":
            yield from self._exposed(ros.length_us(data, serialization), message.received_ns)
        elif role == "frames":
            yield from self._frame(message)
        elif role == "imu":
            stamp_ns, acceleration, rotation = ros.inertial(data, serialization)
            yield ImuBatch(
                np.array([stamp_ns // 1000], np.int64),
                np.array([acceleration], np.float32),
                np.array([rotation], np.float32),
            )

    def finish(self) -> Iterator[Frame]:
        """Give the image that still waits for a length."""
        if self._waiting is not None:
            yield self._waiting[0]
        self._waiting = None

    def _frame(self, message: Message) -> Iterator[Frame]:
        stamp_us, pixels = self._source.pixels_of(message)
        end_us = self._ends_ns.pop(stamp_us, -1) // 1000
        known = end_us >= stamp_us
        frame = Frame(
            self._frames,
            pixels,
            stamp_us,
            end_us if known else stamp_us,
            transfer=self._transfer,
            exposure_known=known,
        )
        self._frames += 1
        yield from self.finish()
        if known or not self._has_lengths:
            yield frame
            return
        self._waiting = frame, message.received_ns
        length, self._length = self._length, None
        if length is not None:
            yield from self._exposed(*length)

    def _exposed(self, length_us: int, received_ns: int) -> Iterator[Frame]:
        """Give the image that waits its length; a length that comes before its image waits for it."""
        if self._waiting is None or abs(received_ns - self._waiting[1]) > _TOGETHER_NS:
            self._length = length_us, received_ns
            return
        if length_us < 0:
            return
        (frame, _), self._waiting = self._waiting, None
        start_us = frame.exposure_start_us - length_us // 2
        yield replace(frame, exposure_start_us=start_us, exposure_end_us=start_us + length_us, exposure_known=True)

    def _packet(self, packet: ros.EventPacket) -> Iterator[EventBatch | Trigger]:
        if packet.encoding == "mono":
            columns = ros.mono_events(packet)
            if columns.t_us.size and self._offset_us is None:
                self._offset_us = packet.stamp_ns // 1000 - int(columns.t_us[0])
            yield from _batch(columns, self._offset_us or 0)
        elif packet.encoding == "libcaer":
            yield from _batch(libcaer_events(packet), 0)
        elif packet.encoding == "libcaer_cmp":
            if not isinstance(self._words, CompressedDecoder):
                self._words = CompressedDecoder()
            yield from _batch(self._words.decode(packet), 0)
        elif packet.encoding == "evt3":
            from drivers.prophesee.evt import EvtDecoder  # brings in a compiler

            if not isinstance(self._words, EvtDecoder):
                self._words = EvtDecoder("EVT3", name=str(self._source.path))
            for part in self._words.feed(packet.events):
                if self._offset_us is None:
                    first_us = part.t_us if isinstance(part, Trigger) else int(part.t_us[0]) if len(part) else None
                    if first_us is None:
                        continue
                    self._offset_us = packet.stamp_ns // 1000 - first_us
                yield _shifted(part, self._offset_us)
        else:
            raise SourceError(f"{self._source.path}: {_unknown(packet.encoding)}")


def _unknown(encoding: str) -> str:
    return f"events of encoding {encoding!r} are not read, expected {', '.join(_ENCODINGS)}"


def _uncertainty_us(source: str) -> float | None:
    """Tell what our own writer says of how far the stamps may be off."""
    try:
        return float(source.removeprefix(DEVICE_CLOCK))
    except ValueError:
        return None


def _batch(columns: ros.Columns, offset_us: int) -> Iterator[EventBatch]:
    if columns.t_us.size:
        t_us = columns.t_us + offset_us
        yield EventBatch(t_us, columns.x, columns.y, columns.p, int(t_us[-1]))


def _shifted(part: EventBatch | Trigger, offset_us: int) -> EventBatch | Trigger:
    if isinstance(part, Trigger):
        return Trigger(part.t_us + offset_us, part.channel, part.rising)
    return EventBatch(part.t_us + offset_us, part.x, part.y, part.p, part.watermark_us + offset_us)
