"""The wire format: one ZMQ part = topic, header length, msgpack header, pixels (docs/wire-format.md)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from nire.errors import WireError
from nire.shutter import Shutter
from nire.types import ExposedFrame, Frame, Stamps
from nire.wall_time import WallTime
from stream.sockets.event_image import EventImage

VERSION = 1
STATUS_TOPIC = "status"
CAPTURED_TOPIC = "captured"
EVENTS_TOPIC = "events"
_LENGTH = struct.Struct("<I")
_MAX_TOPIC_BYTES = 256
_MAX_HEADER_BYTES = 1 << 20
_MAX_PIXEL_BYTES = 1 << 30
_MAX_DEPTH = 8
_MAX_ITEMS = 1 << 12
_NAMED_LETTERS = 64
_NUMBER = (int, float)
_FRAME_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "index": int,
    "shape": list,
    "dtype": str,
    "encoding": str,
    "t_a_us": _NUMBER,
    "t_b_us": _NUMBER,
    "row_delay_us": _NUMBER,
    "tag": str,
    "stamps": dict,
}
# Fields of an exposed frame that its header carries under the same name.
_CARRIED = (
    "index",
    "window",
    "tag",
    "transfer",
    "evidence_us",
    "lost_events",
    "lost_frames",
    "late_windows",
    "out_of_memory",
    "backend",
    "engine",
    "wall_ns",
    "wall_uncertainty_us",
    "unanswered",
    "life",
)
_STAMPS = {field.name for field in fields(Stamps)}


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A decoded message: `pixels` is None for messages without an image, bytes for encoded ones."""

    topic: str
    header: dict[str, Any]
    pixels: NDArray[Any] | bytes | None


def frame_topic(tag: str) -> str:
    """Topic of the exposed frames with `tag`."""
    return f"frame/{tag}"


def camera_topic(camera: str, topic: str) -> str:
    """Topic of one camera among several; of a camera that is alone, "", the topic itself."""
    return f"{camera}/{topic}" if camera else topic


def plain(value: Any) -> Any:
    """Turn numpy's scalars and arrays into what msgpack knows; its `default`.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a message cannot carry a {type(value).__name__}")


def brief(value: Any) -> str:
    """Name a value from outside in a message: numbers and the beginning of texts, of anything else its type.

    Nothing is formatted whole: what is nested or long enough brings down whoever prints it.
    """
    if isinstance(value, str | bytes):
        return repr(value[:_NAMED_LETTERS])
    if value is None or isinstance(value, bool | int | float):
        return repr(value)[:_NAMED_LETTERS]
    return f"a {type(value).__name__}"


def unpacked(data: bytes | memoryview, what: str) -> Any:
    """Decode msgpack from outside.

    Args:
        data: as received; its size is the caller's to limit.
        what: it is, for the message: "the header".

    Raises:
        WireError: it is no msgpack, or nested deeper or longer in its parts than anything of ours.
    """
    try:
        value = msgpack.unpackb(data, raw=False)
    except Exception as error:  # msgpack raises many unrelated types on damaged input
        raise WireError(f"{what} is no msgpack map: {type(error).__name__} {str(error)[:200]}") from error
    if isinstance(value, dict | list) and not _is_small(value, _MAX_DEPTH):
        raise WireError(f"{what} is nested more than {_MAX_DEPTH} deep, or has over {_MAX_ITEMS} items in one place")
    return value


def _is_small(value: dict[Any, Any] | list[Any], depth: int) -> bool:
    if depth == 0 or len(value) > _MAX_ITEMS:
        return False
    for part in value.values() if type(value) is dict else value:
        kind = type(part)
        if (kind is dict or kind is list) and not _is_small(part, depth - 1):
            return False
    return True


def pack(topic: str, header: Mapping[str, Any], payload: bytes | memoryview = b"") -> bytes:
    """Join a message into the one part that travels."""
    head = msgpack.packb(header, use_bin_type=True, default=plain)
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
        "out_of_memory": frame.out_of_memory,
        "backend": frame.backend,
        "engine": frame.engine,
        **wall_keys(frame.wall_ns, frame.wall_uncertainty_us),
        "unanswered": frame.unanswered,
        "life": frame.life,
    }


def wall_keys(wall_ns: int | None, uncertainty_us: float | None) -> dict[str, Any]:
    """What a header, the status and answers say of wall time: nothing where it is not known."""
    told = {"wall_ns": wall_ns, "wall_uncertainty_us": uncertainty_us}
    return {key: value for key, value in told.items() if value is not None}


def pack_frame(frame: ExposedFrame, *, camera: str = "") -> bytes:
    """Pack an exposed frame under its topic, pixels raw in C order; `camera`: its name among several."""
    return pack(
        camera_topic(camera, frame_topic(frame.tag)),
        frame_header(frame),
        np.ascontiguousarray(frame.pixels).data,
    )


def pack_captured(
    frame: Frame, published_ns: int, wall: WallTime | None = None, *, life: int = 0, camera: str = ""
) -> bytes:
    """Pack a captured frame under `captured`: the same header, with the frame's own shutter.

    Args:
        frame: to send.
        published_ns: host monotonic time.
        wall: of its middle.
        life: of the process that publishes it.
        camera: its name among several.
    """
    header = _plain_header(
        CAPTURED_TOPIC,
        frame.pixels,
        index=frame.index,
        transfer=frame.transfer,
        span_us=(float(frame.exposure_start_us), float(frame.exposure_end_us)),
        row_delay_us=float(frame.row_delay_us),
        device_us=frame.mid_us,
        evidence_us=float(frame.last_us),
        received_ns=frame.received_ns,
        published_ns=published_ns,
        life=life,
    )
    topic = camera_topic(camera, CAPTURED_TOPIC)
    return pack(topic, header | _wall(wall), np.ascontiguousarray(frame.pixels).data)


def pack_events(
    image: EventImage, published_ns: int, wall: WallTime | None = None, *, life: int = 0, camera: str = ""
) -> bytes:
    """Pack an event image under `events`: the same header, dtype int8, and `events`, the count of events.

    Args:
        image: to send.
        published_ns: host monotonic time.
        wall: of the middle of its span.
        life: of the process that publishes it.
        camera: its name among several.
    """
    header = _plain_header(
        EVENTS_TOPIC,
        image.pixels,
        index=image.index,
        transfer="linear",
        span_us=(float(image.t_a_us), float(image.t_b_us)),
        row_delay_us=0.0,
        device_us=(image.t_a_us + image.t_b_us) / 2,
        evidence_us=float(image.t_b_us),
        received_ns=image.received_ns,
        published_ns=published_ns,
        life=life,
    )
    return pack(
        camera_topic(camera, EVENTS_TOPIC),
        header | {"events": image.events} | _wall(wall),
        np.ascontiguousarray(image.pixels).data,
    )


def pack_status(status: Mapping[str, Any], *, camera: str = "") -> bytes:
    """Pack a status map under `status`; it has no pixels."""
    return pack(camera_topic(camera, STATUS_TOPIC), {"v": VERSION, **status})


def unpack(message: bytes | memoryview) -> Message:
    """Split and check a message; raw pixels are a read-only view of it.

    Raises:
        WireError: the message is damaged, foreign, or of a newer version; it says where.
    """
    data = memoryview(message)
    topic_end = bytes(data[: _MAX_TOPIC_BYTES + 1]).find(b"\0")
    if topic_end < 0:
        raise WireError(
            f"no topic: no zero byte within the first {_MAX_TOPIC_BYTES} bytes; is this a nire-live stream?"
        )
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
    header = unpacked(data[start : start + length], "the header")
    if not isinstance(header, dict):
        raise WireError(f"the header is a {type(header).__name__}, expected a map")
    if header.get("v") != VERSION:
        raise WireError(f"the message has format version {brief(header.get('v'))}, this reader knows {VERSION}")
    payload = data[start + length :]
    if "shape" not in header:
        return Message(topic, header, None)
    return Message(topic, header, _pixels(header, payload))


def frame_of(message: Message) -> ExposedFrame:
    """Make the exposed frame again that a message carries; its pixels are a read-only view.

    A shutter that differs from pixel to pixel comes back as that of the first row and the mean row delay.

    Raises:
        WireError: the message carries no raw uint8 image, or a shutter that closes before it opens.
    """
    header, pixels = message.header, message.pixels
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise WireError(f"the message on {message.topic!r} carries no raw uint8 image [H, W, C]")
    try:
        shutter = Shutter.rolling(
            header["t_a_us"], header["t_b_us"], row_delay_us=header["row_delay_us"], height=pixels.shape[0]
        )
    except (ValueError, OverflowError) as error:
        raise WireError(f"the message on {message.topic!r}: {error}") from error
    own = {key: header[key] for key in _CARRIED if isinstance(header.get(key), int | float | str)}
    told = {key: header["stamps"][key] for key in _STAMPS & header["stamps"].keys()}
    if not all(isinstance(value, _NUMBER) for value in told.values()):
        raise WireError(f"the message on {message.topic!r}: its stamps are no numbers")
    stamps = Stamps(**{"device_us": shutter.mid_us} | told)
    return ExposedFrame(pixels=pixels, shutter=shutter, stamps=stamps, **{"window": -1} | own)


def _wall(wall: WallTime | None) -> dict[str, Any]:
    return wall_keys(*wall) if wall else {}


def _plain_header(
    topic: str,
    pixels: NDArray[Any],
    *,
    index: int,
    transfer: str,
    span_us: tuple[float, float],
    row_delay_us: float,
    device_us: float,
    evidence_us: float,
    received_ns: int,
    published_ns: int,
    life: int,
) -> dict[str, Any]:
    """Header of an image that comes straight from the camera: built and exposed when it was received."""
    return {
        "v": VERSION,
        "index": index,
        "window": -1,
        "shape": list(pixels.shape),
        "dtype": pixels.dtype.name,
        "encoding": "raw",
        "transfer": transfer,
        "t_a_us": span_us[0],
        "t_b_us": span_us[1],
        "row_delay_us": row_delay_us,
        "tag": topic,
        "stamps": {
            "device_us": device_us,
            "received_ns": received_ns,
            "built_ns": received_ns,
            "exposed_ns": received_ns,
            "published_ns": published_ns,
        },
        "evidence_us": evidence_us,
        "lost_events": 0,
        "lost_frames": 0,
        "late_windows": 0,
        "out_of_memory": 0,
        "backend": "",
        "engine": "",
        "unanswered": 0,
        "life": life,
    }


def _pixels(header: dict[str, Any], payload: memoryview) -> NDArray[Any] | bytes:
    missing = [key for key in _FRAME_KEYS if key not in header]
    if missing:
        raise WireError(f"the header lacks {', '.join(missing)}")
    wrong = [key for key, kind in _FRAME_KEYS.items() if not isinstance(header[key], kind)]
    if wrong:
        raise WireError(f"the header's {wrong[0]} is {brief(header[wrong[0]])}, of the wrong type")
    if not all(math.isfinite(header[key]) for key in ("t_a_us", "t_b_us", "row_delay_us")):
        raise WireError("the header's shutter is not finite")
    shape, dtype_name, encoding = header["shape"], header["dtype"], header["encoding"]
    if encoding == "jpeg":
        return bytes(payload)
    if encoding != "raw":
        raise WireError(f"unknown encoding {brief(encoding)}, expected raw or jpeg")
    if dtype_name not in ("uint8", "int8", "uint16", "float32"):
        raise WireError(f"unknown dtype {brief(dtype_name)}")
    if not (1 <= len(shape) <= 4 and all(isinstance(n, int) and 0 < n < 1 << 20 for n in shape)):
        raise WireError(f"the shape, of {len(shape)} parts, is no list of sizes")
    dtype = np.dtype(dtype_name)
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size > _MAX_PIXEL_BYTES or size != len(payload):
        raise WireError(f"shape {shape} of {dtype_name} needs {size} bytes of pixels, the message holds {len(payload)}")
    return np.frombuffer(payload, dtype).reshape(shape)
