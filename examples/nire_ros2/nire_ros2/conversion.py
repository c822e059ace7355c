"""From messages of a nire-live stream to the fields of ROS messages. Needs msgpack and numpy alone, and no ROS."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Received:
    """An image of the stream.

    Attributes:
        header: as in docs/wire-format.md.
        pixels: uint8 [H, W, 1] or [H, W, 3], RGB.
        stamp_ns: of the middle of its exposure, ROS time: ns since 1970.
    """

    header: Mapping[str, Any]
    pixels: NDArray[np.uint8]
    stamp_ns: int


def received(message: bytes, now_ns: int) -> Received:
    """Take a message of the publishing socket apart.

    Args:
        message: topic, zero byte, length of the header, header, pixels.
        now_ns: stamps images of a stream that knows no wall time.

    Raises:
        ValueError: it carries no raw image of 8 bits.
    """
    start = message.find(b"\0") + 5
    if start < 6 or len(message) <= start:
        raise ValueError("the message has no topic: is this a nire-live stream?")
    (length,) = struct.unpack_from("<I", message, start - 4)
    header = msgpack.unpackb(message[start : start + length])
    if not isinstance(header, dict) or header.get("v") != 1:
        raise ValueError("the message is of another version of the wire format")
    if header.get("encoding") != "raw" or header.get("dtype") != "uint8" or min(header["shape"]) < 1:
        raise ValueError("the message carries no raw image of 8 bits")
    pixels = np.frombuffer(message, np.uint8, offset=start + length).reshape(header["shape"])
    return Received(header, pixels, int(header.get("wall_ns", now_ns)))


def time_fields(stamp_ns: int) -> dict[str, int]:
    """Fields of builtin_interfaces/Time."""
    seconds, rest_ns = divmod(stamp_ns, 1_000_000_000)
    return {"sec": seconds, "nanosec": rest_ns}


def image_fields(image: Received) -> dict[str, Any]:
    """Fields of sensor_msgs/Image, without its header."""
    height, width, channels = image.pixels.shape
    return {
        "height": height,
        "width": width,
        "encoding": "mono8" if channels == 1 else "rgb8",
        "is_bigendian": 0,
        "step": width * channels,
        "data": np.ascontiguousarray(image.pixels).reshape(-1),
    }


def compressed_fields(image: Received) -> dict[str, Any]:
    """Fields of sensor_msgs/CompressedImage, without its header: PNG, so that nothing is lost."""
    return {"format": "png", "data": np.frombuffer(png(image.pixels), np.uint8)}


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Write a PNG: uint8 [H, W, 1] gray or [H, W, 3] RGB."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # the first byte of a row: not filtered
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def camera_info_fields(calibration: str | Path) -> dict[str, Any]:
    """Read a calibration as `camera_calibration` of ROS writes it: fields of sensor_msgs/CameraInfo.

    Raises:
        ValueError: the file is none.
    """
    import yaml  # every ROS has it; without a calibration file it is not needed

    told = yaml.safe_load(Path(calibration).read_text(encoding="utf-8"))
    try:
        return {
            "height": int(told["image_height"]),
            "width": int(told["image_width"]),
            "distortion_model": str(told["distortion_model"]),
            "d": np.array(told["distortion_coefficients"]["data"], np.float64),
            "k": np.array(told["camera_matrix"]["data"], np.float64).reshape(9),
            "r": np.array(told["rectification_matrix"]["data"], np.float64).reshape(9),
            "p": np.array(told["projection_matrix"]["data"], np.float64).reshape(12),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{calibration} is no calibration of camera_calibration: {error!r}") from error


def expose_request(stamp_ns: int, exposure_us: float) -> bytes:
    """The request for one image around a ROS time, for the control socket."""
    return msgpack.packb({"command": "expose", "wall_ns": stamp_ns, "for_us": exposure_us, "tag": "ros"})


def plan_request(changes: Mapping[str, Any]) -> bytes:
    """The request for another plan, for the control socket."""
    return msgpack.packb({"command": "set_plan", "plan": dict(changes)})
