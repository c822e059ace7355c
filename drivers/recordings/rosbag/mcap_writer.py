"""Writes MCAP recordings with the messages of ROS 2: event packets, images, the ends of exposures, inertial samples."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from drivers.packets.unix_time import UnixStamps
from drivers.recordings.rosbag.topics import DEVICE_CLOCK
from drivers.source import SourceInfo
from drivers.writing import FileWriter
from nire.errors import SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, ImuBatch, SourcePacket, Trigger, WallClock

SUFFIX = ".mcap"

# Seconds of a stamp have 32 bits, one of them for the sign.
_CLOCK_US = 2**31 * 1_000_000
_FRAME_ID = "camera"
_MOST_EVENTS = 1 << 16
_LONGEST_US = 4_000_000  # a packet's events have 32 bits of nanoseconds
_UNKNOWN = -1.0  # first element of a covariance: there is no such measurement
_HEADER = "std_msgs/Header header\n"
_DEPENDENCIES = {
    "std_msgs/Header": "builtin_interfaces/Time stamp\nstring frame_id\n",
    "builtin_interfaces/Time": "int32 sec\nuint32 nanosec\n",
    "geometry_msgs/Quaternion": "float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n",
    "geometry_msgs/Vector3": "float64 x\nfloat64 y\nfloat64 z\n",
}
# Topic -> type and definition, as the packages of ROS 2 have them.
_TOPICS = {
    "/events": (
        "event_camera_msgs/msg/EventPacket",
        _HEADER
        + "uint32 height\nuint32 width\nuint64 seq\nuint64 time_base\n"
        + "string encoding\nbool is_bigendian\nuint8[] events\n",
        ("std_msgs/Header", "builtin_interfaces/Time"),
    ),
    "/image_raw": (
        "sensor_msgs/msg/Image",
        _HEADER + "uint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data\n",
        ("std_msgs/Header", "builtin_interfaces/Time"),
    ),
    "/exposure_end": (
        "sensor_msgs/msg/TimeReference",
        _HEADER + "builtin_interfaces/Time time_ref\nstring source\n",
        ("std_msgs/Header", "builtin_interfaces/Time"),
    ),
    "/device_clock": (
        "sensor_msgs/msg/TimeReference",
        _HEADER + "builtin_interfaces/Time time_ref\nstring source\n",
        ("std_msgs/Header", "builtin_interfaces/Time"),
    ),
    "/imu": (
        "sensor_msgs/msg/Imu",
        _HEADER
        + "geometry_msgs/Quaternion orientation\nfloat64[9] orientation_covariance\n"
        + "geometry_msgs/Vector3 angular_velocity\nfloat64[9] angular_velocity_covariance\n"
        + "geometry_msgs/Vector3 linear_acceleration\nfloat64[9] linear_acceleration_covariance\n",
        tuple(_DEPENDENCIES),
    ),
}


def create_writer(path: Path, geometry: Geometry, source: SourceInfo) -> McapWriter:
    """Begin a recording; see `McapWriter`.

    Raises:
        SourceError: the file cannot be made.
    """
    return McapWriter(path, geometry, source)


class McapWriter(FileWriter):
    """Writes packets as messages of ROS 2, in chunks compressed by ZSTD.

    The stamp is wall time where the packets bring clock records, each of which becomes a sensor_msgs/TimeReference
    (stamp: wall time; time_ref: device time; source: how far the stamp may be off). Without them device time becomes
    the stamp, as if it were Unix time. Events are event_camera_msgs/EventPacket of the encoding
    "mono". The stamp of an image is the start of its exposure; a sensor_msgs/TimeReference of the same stamp and the
    source "exposure", before it, says the end. Gaps, the index of frames, row delays, triggers and the transfer of
    pixels have no place: they are counted in `lost`.
    """

    def __init__(self, path: Path, geometry: Geometry, source: SourceInfo) -> None:
        """Create the file and declare the topics."""
        from mcap.writer import Writer

        super().__init__(path)
        self._next_index = 0
        self._unix = UnixStamps()
        self._geometry = geometry
        self._writer: Any = Writer(self._output.file)
        self._channels: dict[str, int] = {}
        self._sequence: dict[str, int] = {}
        self._begin(source)

    def write(self, packet: SourcePacket) -> None:
        """Append a packet.

        Raises:
            SourceError: the disk is full or went away, or a time is before 1970 or after 2038.
        """
        packet = self._unix.restamped(packet)
        if isinstance(packet, EventBatch):
            self._events(packet)
        elif isinstance(packet, Frame):
            self._frame(packet)
        elif isinstance(packet, ImuBatch):
            for n in range(len(packet.t_us)):
                self._inertial(int(packet.t_us[n]), packet.gyroscope_radps[n], packet.accelerometer_mps2[n])
        elif isinstance(packet, WallClock):
            self._clock(packet)
        elif isinstance(packet, Trigger):
            self._count(True, "triggers")
        elif isinstance(packet, Gap):
            self._count(True, "gaps")
        else:
            raise TypeError(f"a {type(packet).__name__} is no packet")

    def _complete(self) -> None:
        """Write the index."""
        self._guarded(self._writer.finish)

    def _begin(self, source: SourceInfo) -> None:
        self._guarded(self._writer.start, "ros2", "nire-live")
        for topic, (kind, definition, dependencies) in _TOPICS.items():
            if topic in ("/image_raw", "/exposure_end") and not source.has_frames:
                continue
            text = definition + "".join(f"{'=' * 80}\nMSG: {name}\n{_DEPENDENCIES[name]}" for name in dependencies)
            schema = self._writer.register_schema(kind, "ros2msg", text.encode())
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)

    def _events(self, batch: EventBatch) -> None:
        start = 0
        while start < len(batch):
            first_us = int(batch.t_us[start])
            stop = min(start + _MOST_EVENTS, int(np.searchsorted(batch.t_us, first_us + _LONGEST_US)))
            part = slice(start, max(stop, start + 1))
            words = np.maximum(batch.t_us[part] - first_us, 0).astype(np.uint64) * np.uint64(1000)
            words |= batch.x[part].astype(np.uint64) << np.uint64(32)
            words |= (batch.y[part].astype(np.uint64) & np.uint64(0x7FFF)) << np.uint64(48)
            words |= (batch.p[part] > 0).astype(np.uint64) << np.uint64(63)
            body = self._header(first_us)
            body += _padding(body, 4) + struct.pack("<II", self._geometry.height, self._geometry.width)
            body += _padding(body, 8) + struct.pack("<QQ", self._sequence.get("/events", 0), first_us * 1000)
            body += _string("mono") + b"\0"
            body += _padding(body, 4) + struct.pack("<I", words.nbytes) + words.tobytes()
            self._message("/events", first_us, body)
            start = part.stop

    def _frame(self, frame: Frame) -> None:
        self._count(frame.index != self._next_index, "holes in the count of frames")
        self._next_index = frame.index + 1
        self._count(frame.row_delay_us != 0, "row delays")
        self._count(frame.transfer != "linear", "transfers of pixels that are not linear")
        stamp_us = frame.exposure_start_us
        if frame.exposure_known:
            end = self._header(stamp_us)
            end += _padding(end, 4) + self._time(frame.exposure_end_us) + _string("exposure")
            self._message("/exposure_end", stamp_us, end)
        height, width, channels = frame.pixels.shape
        body = self._header(stamp_us)
        body += _padding(body, 4) + struct.pack("<II", height, width) + _string("mono8" if channels == 1 else "rgb8")
        body += b"\0"
        body += _padding(body, 4) + struct.pack("<II", width * channels, frame.pixels.size)
        self._message("/image_raw", stamp_us, body + np.ascontiguousarray(frame.pixels).tobytes())

    def _clock(self, record: WallClock) -> None:
        wall_us = record.wall_ns // 1000
        told = "unknown" if record.uncertainty_us is None else f"{record.uncertainty_us:.0f}"
        body = self._header(wall_us)
        body += _padding(body, 4) + self._time(record.device_us, least_us=-_CLOCK_US) + _string(DEVICE_CLOCK + told)
        self._message("/device_clock", wall_us, body)

    def _inertial(self, t_us: int, rotation: np.ndarray[Any, Any], acceleration: np.ndarray[Any, Any]) -> None:
        body = self._header(t_us)
        body += _padding(body, 8) + struct.pack("<4d9d", 0, 0, 0, 1, _UNKNOWN, *([0.0] * 8))
        body += struct.pack("<3d9d", *map(float, rotation), *([0.0] * 9))
        body += struct.pack("<3d9d", *map(float, acceleration), *([0.0] * 9))
        self._message("/imu", t_us, body)

    def _header(self, t_us: int) -> bytes:
        return self._time(t_us) + _string(_FRAME_ID)

    def _time(self, t_us: int, *, least_us: int = 0) -> bytes:
        if not least_us <= t_us < _CLOCK_US:
            where = "before the beginning" if t_us < 0 else "beyond the end"
            raise SourceError(
                f"{self._output.path}: {t_us} us is {where} of the clock of ROS, which has 31 bits of seconds since "
                "1970; write another kind, .nire or .aedat4"
            )
        seconds, rest_us = divmod(t_us, 1_000_000)
        return struct.pack("<iI", seconds, rest_us * 1000)

    def _message(self, topic: str, t_us: int, body: bytes) -> None:
        number = self._sequence.get(topic, 0)
        self._sequence[topic] = number + 1
        data = b"\0\1\0\0" + body
        self._guarded(self._writer.add_message, self._channels[topic], t_us * 1000, data, t_us * 1000, number)

    def _guarded(self, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except OSError as error:
            raise SourceError(f"cannot write the recording {self._output.part}: {error.strerror}") from error


def _string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<I", len(data)) + data


def _padding(body: bytes, size: int) -> bytes:
    return bytes(-len(body) % size)
