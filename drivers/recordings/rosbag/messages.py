"""Bytes of ROS messages, serialised by ROS 1 or as CDR by ROS 2, to events, images, samples and stamps.

Read by hand, because a general deserialiser makes an object of every event.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.archive import raw_image
from drivers.pixels import Depth, as_rgb
from nire.errors import SourceError

Serialization = Literal["ros1", "cdr"]

# An event of dvs_msgs and prophesee_event_msgs: x, y, seconds, nanoseconds, polarity. CDR aligns the seconds to 4, so
# that all events but the first begin 2 bytes after a multiple of 4.
_FIELDS = ("x", "y", "s", "ns", "p")
_PACKED = np.dtype({"names": _FIELDS, "formats": ["<u2", "<u2", "<i4", "<u4", "u1"], "offsets": [0, 2, 4, 8, 12]})
_ALIGNED = np.dtype(
    {"names": _FIELDS, "formats": ["<u2", "<u2", "<i4", "<u4", "u1"], "offsets": [0, 2, 6, 10, 14], "itemsize": 16}
)
# Encoding of an image -> channels and order of colours; those of 16 bits have the values of 10, 12 or more of them.
_PLAIN = {
    "mono": (1, "rgb"),
    "rgb": (3, "rgb"),
    "bgr": (3, "bgr"),
    "rgba": (4, "rgb"),
    "bgra": (4, "bgr"),
}
_OF_OPENCV = {"C1": "mono", "C3": "bgr", "C4": "bgra"}  # 8UC3 and the like say no order; OpenCV's is BGR
_BAYER = {
    "bayer_rggb": cv2.COLOR_BayerRGGB2RGB,
    "bayer_bggr": cv2.COLOR_BayerBGGR2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGBRG2RGB,
    "bayer_grbg": cv2.COLOR_BayerGRBG2RGB,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Events of a message: t_us int64, x and y uint16, p uint8, each [N], and the sensor's size."""

    t_us: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class EventPacket:
    """A packet of event_camera_msgs: encoded events, the host's stamp and the sensor's base time in ns."""

    stamp_ns: int
    width: int
    height: int
    time_base_ns: int
    encoding: str
    events: bytes


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image as a message has it.

    Attributes:
        stamp_ns: of its header.
        pixels: [H, W] or [H, W, C], uint8 or uint16.
        encoding: "mono", "rgb", "bgr", "rgba", "bgra", or one of a mosaic, "bayer_rggb".
    """

    stamp_ns: int
    pixels: NDArray[Any]
    encoding: str

    def turned(self, depth: Depth, *, path: object) -> NDArray[np.uint8]:
        """Turn it into what frames have: uint8 [H, W, 1] or [H, W, 3] RGB.

        Raises:
            SourceError: its values do not fit the depth.
        """
        pixels = depth.to_8(self.pixels, path=path)
        if self.encoding in _BAYER:
            return np.asarray(cv2.cvtColor(pixels, _BAYER[self.encoding]), np.uint8)
        return as_rgb(pixels, "bgr" if self.encoding.startswith("bgr") else "rgb")


class _Cursor:
    """Reads field after field."""

    def __init__(self, data: bytes, serialization: Serialization) -> None:
        self._data = memoryview(data)
        self.is_cdr = serialization == "cdr"
        self.at = 4 if self.is_cdr else 0
        if self.is_cdr and (len(data) < 4 or data[1] & 1 != 1 or data[0]):
            raise ValueError(f"the message begins with {data[:4]!r}: only little-endian CDR is read")

    def take(self, kind: str) -> int | float:
        """A scalar, by its letter in `struct`."""
        size = struct.calcsize(kind)
        self.align(size)
        if self.at + size > len(self._data):
            raise ValueError(f"the message ends after {len(self._data)} bytes, a field begins at {self.at}")
        (value,) = struct.unpack_from("<" + kind, self._data, self.at)
        self.at += size
        number: int | float = value
        return number

    def integer(self, kind: str) -> int:
        """A whole number."""
        return int(self.take(kind))

    def align(self, size: int) -> None:
        """CDR counts from behind its 4 bytes of head."""
        if self.is_cdr:
            self.at += (4 - self.at) % size

    def text(self) -> str:
        """A string."""
        return bytes(self.block()).rstrip(b"\0").decode("utf-8", "replace")

    def block(self) -> memoryview:
        """Bytes with their count before them."""
        count = self.integer("I")
        if count > len(self._data) - self.at:
            raise ValueError(f"{count} bytes are announced, {len(self._data) - self.at} are left")
        self.at += count
        return self._data[self.at - count : self.at]

    def rest(self) -> memoryview:
        """What has not been read."""
        return self._data[self.at :]

    def time_ns(self) -> int:
        """Seconds and nanoseconds."""
        seconds, nanoseconds = self.integer("i" if self.is_cdr else "I"), self.integer("I")
        return seconds * 1_000_000_000 + nanoseconds

    def header_ns(self) -> int:
        """A std_msgs/Header; its stamp."""
        if not self.is_cdr:
            self.integer("I")
        stamp_ns = self.time_ns()
        self.text()
        return stamp_ns


def event_array(data: bytes, serialization: Serialization) -> Columns:
    """Decode dvs_msgs/EventArray or prophesee_event_msgs/EventArray.

    Raises:
        ValueError: the bytes do not fit the message.
    """
    cursor = _cursor(data, serialization)
    cursor.header_ns()
    height, width, count = (cursor.integer("I") for _ in range(3))
    rest = cursor.rest()
    if not cursor.is_cdr:
        events = np.frombuffer(rest, _PACKED, count)
    elif count == 0:
        events = np.empty(0, _ALIGNED)
    else:
        first = np.frombuffer(rest, _PACKED, 1)
        # The last one ends at its polarity: its padding may be missing.
        padded = bytes(rest[14 : 14 + 16 * (count - 1)]).ljust(16 * (count - 1), b"\0")
        if len(rest) < 13 + max(0, 16 * (count - 1)):
            raise ValueError(f"{count} events are announced in {len(rest)} bytes")
        events = np.concatenate([first.astype(_ALIGNED), np.frombuffer(padded, _ALIGNED, count - 1)])
    t_us = events["s"].astype(np.int64) * 1_000_000 + events["ns"].astype(np.int64) // 1000
    x, y = np.ascontiguousarray(events["x"]), np.ascontiguousarray(events["y"])
    return Columns(t_us, x, y, (events["p"] > 0).astype(np.uint8), width, height)


def event_packet(data: bytes, serialization: Serialization) -> EventPacket:
    """Decode event_camera_msgs/EventPacket, but not what it encodes.

    Raises:
        ValueError: the bytes do not fit the message.
        SourceError: they have another order.
    """
    cursor = _cursor(data, serialization)
    stamp_ns = cursor.header_ns()
    height, width = cursor.integer("I"), cursor.integer("I")
    cursor.integer("Q")
    time_base_ns = cursor.integer("Q")
    encoding = cursor.text()
    if cursor.integer("B"):
        raise SourceError("packets of events with their high bytes first are not read, expected low bytes first")
    return EventPacket(stamp_ns, width, height, time_base_ns, encoding, bytes(cursor.block()))


def mono_events(packet: EventPacket) -> Columns:
    """Decode the encoding "mono": a word of 64 bits each, in the sensor's time.

    Raises:
        ValueError: the bytes are no whole words.
    """
    words = np.frombuffer(packet.events, "<u8")
    t_us = (packet.time_base_ns + (words & 0xFFFFFFFF).astype(np.int64)) // 1000
    x, y = (words >> 32 & 0xFFFF).astype(np.uint16), (words >> 48 & 0x7FFF).astype(np.uint16)
    return Columns(t_us, x, y, (words >> 63).astype(np.uint8), packet.width, packet.height)


def image(data: bytes, serialization: Serialization) -> RawImage:
    """Decode sensor_msgs/Image.

    Raises:
        ValueError: the bytes do not fit.
        SourceError: an encoding that is not read; the message names those that are.
    """
    cursor = _cursor(data, serialization)
    stamp_ns = cursor.header_ns()
    height, width = cursor.integer("I"), cursor.integer("I")
    encoding = cursor.text()
    name, bits = _encoding(encoding)
    is_big = cursor.integer("B")
    step = cursor.integer("I")
    rows = np.frombuffer(cursor.block(), np.uint8)
    channels = 1 if name in _BAYER else _PLAIN[name][0]
    row_bytes = width * channels * bits // 8
    if step < row_bytes or rows.size < step * height or not width * height:
        raise ValueError(f"{rows.size} bytes for {width} x {height} pixels of {encoding} in rows of {step} bytes")
    flat = np.ascontiguousarray(rows[: step * height].reshape(height, step)[:, :row_bytes])
    pixels = flat if bits == 8 else flat.view(">u2" if is_big else "<u2").astype(np.uint16)
    return RawImage(stamp_ns, pixels if channels == 1 else pixels.reshape(height, width, channels), name)


def _encoding(encoding: str) -> tuple[str, int]:
    """Name and bits of an image's encoding.

    Raises:
        SourceError: it is not read.
    """
    found = re.fullmatch(r"(mono|rgba?|bgra?|bayer_[rgb]{4})(8|16)|(8|16)U(C[134])", encoding)
    name = (found[1] or _OF_OPENCV[found[4]]) if found else ""
    if found is None or (name not in _PLAIN and name not in _BAYER):
        known = ", ".join((*_PLAIN, *_BAYER, "8UC1, 8UC3, 8UC4"))
        raise SourceError(f"images of encoding {encoding!r} are not read; those of 8 and 16 bits are: {known}")
    return name, int(found[2] or found[3])


def compressed_image(data: bytes, serialization: Serialization) -> RawImage:
    """Decode sensor_msgs/CompressedImage.

    Raises:
        ValueError: the bytes do not fit, or are no image.
        SourceError: images of depth are none of light.
    """
    cursor = _cursor(data, serialization)
    stamp_ns = cursor.header_ns()
    kind = cursor.text()
    if "compressedDepth" in kind:
        raise SourceError(f"images compressed as {kind!r} hold distances, expected light: set frames_topic to another")
    pixels = raw_image(bytes(cursor.block()))
    return RawImage(stamp_ns, pixels, {2: "mono"}.get(pixels.ndim, "bgr" if pixels.shape[-1] == 3 else "bgra"))


def length_us(data: bytes, serialization: Serialization) -> int:
    """Decode std_msgs/Int32 or UInt32, a length in us.

    Raises:
        ValueError: the bytes do not fit.
    """
    return _cursor(data, serialization).integer("i")


def inertial(data: bytes, serialization: Serialization) -> tuple[int, list[float], list[float]]:
    """Decode sensor_msgs/Imu: stamp in ns, acceleration in m/s^2, rotation in rad/s, x y z each.

    Raises:
        ValueError: the bytes do not fit.
    """
    cursor = _cursor(data, serialization)
    stamp_ns = cursor.header_ns()
    values = [float(cursor.take("d")) for _ in range(37)]
    return stamp_ns, values[25:28], values[13:16]


def time_reference(data: bytes, serialization: Serialization) -> tuple[int, int, str]:
    """Decode sensor_msgs/TimeReference: stamp and reference in ns, source.

    Raises:
        ValueError: the bytes do not fit.
    """
    cursor = _cursor(data, serialization)
    return cursor.header_ns(), cursor.time_ns(), cursor.text()


def _cursor(data: bytes, serialization: Serialization) -> _Cursor:
    return _Cursor(data, serialization)
