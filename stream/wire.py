"""The wire format: one ZMQ part = topic, header length, msgpack header, pixels (docs/wire-format.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from nire.errors import WireError
from nire.types import ExposedFrame, Frame

VERSION = 1
STATUS_TOPIC = "status"
CAPTURED_TOPIC = "captured"
EVENTS_TOPIC = "events"
_LENGTH = struct.Struct("<I")
_MAX_TOPIC_BYTES = 256
_MAX_HEADER_BYTES = 1 << 20
_MAX_PIXEL_BYTES = 1 << 30
_FRAME_KEYS = ("index", "shape", "dtype", "encoding", "t_a_us", "t_b_us", "row_delay_us", "tag", "stamps")


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A decoded message: `pixels` is None for messages without an image, bytes for encoded ones."""

    topic: str
    header: dict[str, Any]
    pixels: NDArray[Any] | bytes | None


def frame_topic(tag: str) -> str:
    """Topic of the exposed frames with `tag`."""
    return f"frame/{tag}"


def pack(topic: str, header: dict[str, Any], payload: bytes | memoryview = b"") -> bytes:
    """Join a message into the one part that travels."""
    head = msgpack.packb(header, use_bin_type=True)
    return b"".join((topic.encode(), b"\0", _LENGTH.pack(len(head)), head, payload))


def frame_header(frame: ExposedFrame) -> dict[str, Any]:
    """Header of an exposed frame: every key of docs/wire-format.md."""
    shutter = frame.shutter
    stamps = frame.stamps
    return {
        "v": VERSION,
        "index": frame.index,
        "window": frame.window,
        "shape": list(frame.pixels.shape),
        "dtype": frame.pixels.dtype.name,
        "encoding": "raw",
        "transfer": frame.transfer,
        "t_a_us": float(shutter.t_a_us.flat[0]),
        "t_b_us": float(shutter.t_b_us.flat[0]),
        "row_delay_us": shutter.row_delay_us,
        "tag": frame.tag,
        "stamps": {
            "device_us": stamps.device_us,
            "received_ns": stamps.received_ns,
            "built_ns": stamps.built_ns,
            "exposed_ns": stamps.exposed_ns,
            "published_ns": stamps.published_ns,
        },
        "evidence_us": frame.evidence_us,
        "lost_events": frame.lost_events,
        "lost_frames": frame.lost_frames,
        "late_windows": frame.late_windows,
        "backend": frame.backend,
        "engine": frame.engine,
    }


def pack_frame(frame: ExposedFrame) -> bytes:
    """Pack an exposed frame under its topic, pixels raw in C order."""
    return pack(frame_topic(frame.tag), frame_header(frame), np.ascontiguousarray(frame.pixels).data)


def pack_captured(frame: Frame, published_ns: int) -> bytes:
    """Pack a captured frame under `captured`: the same header, with the frame's own shutter."""
    mid_us = frame.mid_us
    header = {
        "v": VERSION,
        "index": frame.index,
        "window": -1,
        "shape": list(frame.pixels.shape),
        "dtype": frame.pixels.dtype.name,
        "encoding": "raw",
        "transfer": frame.transfer,
        "t_a_us": float(frame.exposure_start_us),
        "t_b_us": float(frame.exposure_end_us),
        "row_delay_us": float(frame.row_delay_us),
        "tag": CAPTURED_TOPIC,
        "stamps": {
            "device_us": mid_us,
            "received_ns": frame.received_ns,
            "built_ns": frame.received_ns,
            "exposed_ns": frame.received_ns,
            "published_ns": published_ns,
        },
        "evidence_us": float(frame.last_us),
        "lost_events": 0,
        "lost_frames": 0,
        "late_windows": 0,
        "backend": "",
        "engine": "",
    }
    return pack(CAPTURED_TOPIC, header, np.ascontiguousarray(frame.pixels).data)


def unpack(message: bytes | memoryview) -> Message:
    """Split and check a message; raw pixels are a read-only view of it.

    Raises:
        WireError: the message is damaged, foreign, or of a newer version; it says where.
    """
    data = memoryview(message)
    topic_end = bytes(data[: _MAX_TOPIC_BYTES + 1]).find(b"\0")
    if topic_end < 0:
        raise WireError(f"no topic: no zero byte within the first {_MAX_TOPIC_BYTES} bytes; is this a nire-live stream?")
    try:
        topic = bytes(data[:topic_end]).decode()
    except UnicodeDecodeError as error:
        raise WireError(f"the topic is no UTF-8 text: {error}") from error
    start = topic_end + 1 + _LENGTH.size
    if len(data) < start:
        raise WireError(f"the message ends after {len(data)} bytes, inside the header length")
    (length,) = _LENGTH.unpack(data[topic_end + 1 : start])
    if length > _MAX_HEADER_BYTES or start + length > len(data):
        raise WireError(f"the header claims {length} bytes, {len(data) - start} are left")
    try:
        header = msgpack.unpackb(data[start : start + length], raw=False)
    except Exception as error:  # msgpack raises many unrelated types on damaged input
        raise WireError(f"the header is no msgpack map: {error}") from error
    if not isinstance(header, dict):
        raise WireError(f"the header is a {type(header).__name__}, expected a map")
    if header.get("v") != VERSION:
        raise WireError(f"the message has format version {header.get('v')!r}, this reader knows {VERSION}")
    payload = data[start + length :]
    if "shape" not in header:
        return Message(topic, header, None)
    return Message(topic, header, _pixels(header, payload))


def _pixels(header: dict[str, Any], payload: memoryview) -> NDArray[Any] | bytes:
    missing = [key for key in _FRAME_KEYS if key not in header]
    if missing:
        raise WireError(f"the header lacks {', '.join(missing)}")
    if header["encoding"] != "raw":
        return bytes(payload)
    shape, dtype_name = header["shape"], header["dtype"]
    if dtype_name not in ("uint8", "int8", "uint16", "float32"):
        raise WireError(f"unknown dtype {dtype_name!r}")
    if not (
        isinstance(shape, list) and 1 <= len(shape) <= 4 and all(isinstance(n, int) and 0 < n < 1 << 20 for n in shape)
    ):
        raise WireError(f"shape {shape!r} is no list of sizes")
    dtype = np.dtype(dtype_name)
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size > _MAX_PIXEL_BYTES or size != len(payload):
        raise WireError(f"shape {shape} of {dtype_name} needs {size} bytes of pixels, the message holds {len(payload)}")
    return np.frombuffer(payload, dtype).reshape(shape)
